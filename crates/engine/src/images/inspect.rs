//! `GET /images/{name}/json` and `GET /images/{name}/history`.

use super::{Images, Record, convert};
use crate::build;
use api::model::{GraphDriver, HistoryItem, ImageInspect, ImageMetadata, RootFs};
use base::{Digest, Error, ImageId, Platform, Reference, Result, Timestamp};
use image::ConfigBlob;
use serde_json::json;
use std::collections::BTreeMap;
use store::{Image, Tag, TagSpan};

impl Images {
    /// One image, whole.
    ///
    /// # Errors
    /// `NotFound` when there is no such image, or not for `platform`.
    pub fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageInspect> {
        let id = self.resolve_for(name, platform)?;
        let blob = self.config(&id)?;
        let config = blob.config();
        fits(name, &blob, platform)?;
        let (row, tags, history, builds) = self.store.read(|tx| {
            let row = tx
                .image::<Record>(&id)?
                .ok_or_else(|| Error::not_found(format!("No such image: {name}")))?;
            let builds = tx.builds_of::<build::Record>(&id)?;
            Ok((row, tx.tags_of(&id)?, tx.tag_history(&id)?, builds))
        })?;
        let references =
            tags.iter().map(|t| t.reference.parse()).collect::<Result<Vec<Reference>>>()?;
        let names = |digest: bool| {
            references
                .iter()
                .filter(|r| r.digest().is_some() == digest)
                .map(Reference::familiar)
                .collect()
        };
        let container_config = config.rest.get("container_config").cloned();
        Ok(ImageInspect {
            repo_tags: names(false),
            repo_digests: names(true),
            parent: row.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            comment: comment(&blob),
            created: config.created.map(|at| at.to_string()).unwrap_or_default(),
            container: config.extra("container").to_owned(),
            container_config: container_config
                .and_then(|c| serde_json::from_value(c).ok())
                .map(|run| convert::to_api(&run)),
            docker_version: config.docker_version.clone(),
            author: config.author.clone(),
            config: Some(convert::to_api(&config.config)),
            architecture: config.platform().architecture,
            variant: config.variant.clone(),
            os: config.platform().os,
            os_version: config.extra("os.version").to_owned(),
            size: row.doc.size as i64,
            // Of older versions of the API.
            virtual_size: None,
            graph_driver: self.graph_driver(&row.layers),
            root_fs: RootFs {
                r#type: "layers".into(),
                layers: Some(
                    config.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
                )
                .filter(|l| !l.is_empty()),
            },
            metadata: ImageMetadata {
                last_tag_time: row.doc.tagged.unwrap_or(Timestamp::ZERO).to_string(),
            },
            descriptor: None,
            manifests: None,
            gantry: Some(facts(&row, &tags, &history, &builds)),
            id: id.to_string(),
        })
    }

    /// The steps an image came to be by, newest first.
    ///
    /// # Errors
    /// `NotFound` when there is no such image, or not for `platform`; `Internal` when its history names
    /// more layers than it has.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let id = self.resolve_for(name, platform)?;
        let blob = self.config(&id)?;
        fits(name, &blob, platform)?;
        let (sizes, lineage) = self.store.read(|tx| {
            let row = tx
                .image::<Record>(&id)?
                .ok_or_else(|| Error::not_found(format!("No such image: {name}")))?;
            let mut sizes = Vec::new();
            for layer in &row.layers {
                sizes.push(tx.layer::<serde::de::IgnoredAny>(layer)?.map_or(0, |l| l.size));
            }
            let mut lineage: Vec<(ImageId, Vec<Tag>)> = Vec::new();
            let mut next = Some(id.clone());
            while let Some(id) = next {
                // Parents are known images only; a row cannot be its own ancestor, but a damaged one might.
                if lineage.iter().any(|(seen, _)| *seen == id) {
                    break;
                }
                let Some(row) = tx.image::<serde::de::IgnoredAny>(&id)? else { break };
                lineage.push((id.clone(), tx.tags_of(&id)?));
                next = row.parent;
            }
            Ok((sizes, lineage))
        })?;
        let mut layers = sizes.into_iter();
        let mut items = Vec::new();
        for step in &blob.config().history {
            let size = if step.empty_layer {
                0
            } else {
                layers.next().ok_or_else(|| {
                    Error::internal("too many non-empty layers in History section")
                })?
            };
            items.push(HistoryItem {
                id: "<missing>".into(),
                created: step.created.map_or(0, Timestamp::unix),
                created_by: step.created_by.clone(),
                tags: None,
                size: size as i64,
                comment: step.comment.clone(),
            });
        }
        items.reverse();
        for (item, (id, tags)) in items.iter_mut().zip(lineage) {
            item.id = id.to_string();
            let tags = tags.iter().filter_map(|t| t.reference.parse::<Reference>().ok());
            item.tags =
                Some(tags.filter(|r| r.tag().is_some()).map(|r| r.familiar()).collect::<Vec<_>>())
                    .filter(|t| !t.is_empty());
        }
        Ok(items)
    }

    fn graph_driver(&self, layers: &[Digest]) -> GraphDriver {
        let mut data = BTreeMap::new();
        let mut paths = layers.iter().rev().map(|l| self.layers.path(l).display().to_string());
        if let Some(top) = paths.next() {
            data.insert("UpperDir".to_owned(), top);
        }
        let below: Vec<String> = paths.collect();
        if !below.is_empty() {
            data.insert("LowerDir".to_owned(), below.join(":"));
        }
        GraphDriver { name: "overlay2".into(), data: Some(data) }
    }
}

/// Docker takes the message of the last step when the image has none of its own.
fn comment(blob: &ConfigBlob) -> String {
    let config = blob.config();
    match config.history.last() {
        Some(last) if config.comment.is_empty() => last.comment.clone(),
        _ => config.comment.clone(),
    }
}

fn fits(name: &str, blob: &ConfigBlob, platform: Option<&Platform>) -> Result<()> {
    match platform {
        Some(wanted) if !blob.config().platform().satisfies(wanted) => {
            Err(Error::not_found(format!(
                "image with reference {name} was found but does not provide the specified platform ({wanted})"
            )))
        }
        _ => Ok(()),
    }
}

/// The key of our own in inspect: what is known of the image beyond its config.
fn facts(
    row: &Image<Record>,
    tags: &[Tag],
    history: &[TagSpan],
    builds: &[store::Build<build::Record>],
) -> serde_json::Value {
    json!({
        "FirstSeen": row.seen,
        "LastUsed": row.used,
        "Came": row.doc.came,
        "Base": row.doc.base,
        "Manifest": row.doc.manifest,
        "Manifests": row.doc.manifests,
        "Pushed": row.doc.pushed,
        "Tags": tags.iter().map(|t| json!({"Reference": t.reference, "Since": t.since})).collect::<Vec<_>>(),
        "TagHistory": history
            .iter()
            .map(|t| json!({"Reference": t.reference, "Since": t.since, "Until": t.until}))
            .collect::<Vec<_>>(),
        "Builds": builds.iter().map(|b| b.doc.shown(&b.id)).collect::<Vec<_>>(),
    })
}

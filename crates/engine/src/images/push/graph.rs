//! Pushing what an image came as: a manifest, or an index with all below it, byte for byte.

use super::{Push, Sent, Work, blob::Way};
use crate::images::Held;
use base::{Digest, Reference, Result};
use bytes::Bytes;
use image::{
    manifest::{
        self, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Either, Manifest, OCI_INDEX, OCI_MANIFEST,
    },
    registry::Repository,
};
use std::collections::HashMap;

/// Indexes inside indexes, at most.
const DEPTH: usize = 4;

/// A manifest or index with its bytes.
struct Node {
    digest: Digest,
    media_type: String,
    bytes: Bytes,
}

impl Push<'_> {
    /// Pushes the manifest or index `top` and tags it; nothing when a part of it is neither here nor there.
    pub(super) async fn graph(
        &self,
        repository: &Repository,
        held: &Held,
        top: &Digest,
        tag: &str,
    ) -> Result<Option<Sent>> {
        let mut nodes = Vec::new();
        let mut blobs: Vec<Descriptor> = Vec::new();
        if !self.collect(top, 0, &mut nodes, &mut blobs)? {
            return Ok(None);
        }
        // What is surely missing is found out before anything is sent.
        let diff_ids = self.diff_ids(held, &nodes);
        for blob in &blobs {
            if !self.within_reach(repository, blob).await? {
                return Ok(None);
            }
        }
        let ids = |blob: &Descriptor| match diff_ids.get(&blob.digest) {
            Some(diff_id) => diff_id.short().to_owned(),
            None => String::new(),
        };
        let layers: Vec<(String, Descriptor)> =
            blobs.into_iter().map(|blob| (ids(&blob), blob)).collect();
        if !self.all(repository, &layers).await? {
            return Ok(None);
        }
        // Children before their parents: they were collected from the top down.
        let mut sent = None;
        for (at, node) in nodes.iter().enumerate().rev() {
            let name = if at == 0 { tag } else { node.digest.as_str() };
            repository.put_manifest(name, &node.media_type, &node.bytes).await?;
            sent = Some(Sent {
                digest: node.digest.clone(),
                size: node.bytes.len() as u64,
                manifest: None,
            });
        }
        let image = self.images.row(&held.id)?.doc.manifest;
        Ok(sent.map(|sent| Sent { manifest: image, ..sent }))
    }

    /// Collects a manifest or index and all below it; false when one is not here.
    fn collect(
        &self,
        digest: &Digest,
        depth: usize,
        nodes: &mut Vec<Node>,
        blobs: &mut Vec<Descriptor>,
    ) -> Result<bool> {
        let limit = self.images.limits.manifest_bytes;
        let Ok(bytes) = self.images.content().read(digest, limit) else { return Ok(false) };
        let parsed = manifest::parse(&bytes)?;
        if nodes.iter().any(|n| n.digest == *digest) {
            return Ok(true);
        }
        let said = said_type(&bytes);
        let (media_type, children, own) = match parsed {
            Either::Index(index) => {
                let known = [OCI_INDEX, DOCKER_LIST].contains(&said.as_str());
                (if known { said } else { OCI_INDEX.into() }, index.manifests, Vec::new())
            }
            Either::Manifest(Manifest { config, layers, .. }) => {
                let docker = said == DOCKER_MANIFEST
                    || (said.is_empty() && config.media_type.contains("docker"));
                let media_type = if docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
                (media_type.to_owned(), Vec::new(), layers.into_iter().chain([config]).collect())
            }
        };
        nodes.push(Node { digest: digest.clone(), media_type, bytes: bytes.into() });
        for blob in own {
            if !blobs.iter().any(|b| b.digest == blob.digest) {
                blobs.push(blob);
            }
        }
        for child in children {
            if depth >= DEPTH || !self.collect(&child.digest, depth + 1, nodes, blobs)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// DiffIDs by the blobs that unpack to them, for the image's own layers: progress is told by them.
    fn diff_ids(&self, held: &Held, nodes: &[Node]) -> HashMap<Digest, Digest> {
        let mut found = HashMap::new();
        for node in nodes {
            if let Ok(Either::Manifest(manifest)) = manifest::parse(&node.bytes)
                && manifest.config.digest == held.id
            {
                let diff_ids = &held.config.config().rootfs.diff_ids;
                let layers = manifest.layers.iter().map(|l| l.digest.clone());
                found.extend(layers.zip(diff_ids.iter().cloned()));
            }
        }
        found
    }

    async fn within_reach(&self, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        if is_foreign(blob) || self.images.content().has(&blob.digest) {
            return Ok(true);
        }
        let name = repository.name();
        let places = self.images.store.read(|tx| tx.places(&blob.digest, name.domain()))?;
        Ok(!places.is_empty() || repository.has_blob(&blob.digest).await?)
    }

    /// Sees to all blobs side by side; false when one turned out to be nowhere.
    async fn all(&self, repository: &Repository, blobs: &[(String, Descriptor)]) -> Result<bool> {
        let mut work: Vec<Work<'_, bool>> = Vec::new();
        for (id, blob) in blobs {
            if !id.is_empty() {
                self.voice.of(id, "Preparing").await;
            }
            work.push(Box::pin(async move {
                let _turn = self.turns.acquire().await;
                if is_foreign(blob) {
                    self.outcome(id, "Skipped foreign layer").await;
                    return Ok(true);
                }
                let way = self.blob(repository, id, blob).await?;
                self.note_place(repository, &blob.digest, &way)?;
                self.outcome(id, &words(repository, &way)).await;
                Ok(way != Way::Nowhere)
            }));
        }
        let outcomes = futures_util::future::try_join_all(work).await?;
        Ok(outcomes.into_iter().all(|there| there))
    }

    async fn outcome(&self, id: &str, text: &str) {
        if !id.is_empty() && !text.is_empty() {
            self.voice.of(id, text).await;
        }
    }

    /// Remembers where a blob is, for later mounts.
    pub(super) fn note_place(
        &self,
        repository: &Repository,
        digest: &Digest,
        way: &Way,
    ) -> Result<()> {
        if *way == Way::Nowhere {
            return Ok(());
        }
        let name = repository.name();
        self.images.store.write(|tx| tx.put_place(digest, name.domain(), name.path()))
    }
}

/// What is said of a layer at the end.
pub(super) fn words(repository: &Repository, way: &Way) -> String {
    match way {
        Way::There => "Layer already exists".into(),
        Way::Sent => "Pushed".into(),
        Way::Nowhere => String::new(),
        Way::Mounted(path) => {
            let from = format!("{}/{path}", repository.name().domain());
            let familiar = from.parse::<Reference>().map(|r| r.path().to_owned());
            format!("Mounted from {}", familiar.unwrap_or(from))
        }
    }
}

/// Whether registries may not hand the layer out; its manifest says where it is had.
fn is_foreign(blob: &Descriptor) -> bool {
    !blob.urls.is_empty()
        && (blob.media_type.contains(".nondistributable.") || blob.media_type.contains(".foreign."))
}

fn said_type(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Says {
        #[serde(default)]
        media_type: String,
    }
    serde_json::from_slice::<Says>(bytes).map(|s| s.media_type).unwrap_or_default()
}

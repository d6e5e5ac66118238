//! Images into the engine's own store, with names, and from there to registries.

use super::{Product, image};
use crate::{job::Job, progress::Task, solve::source::authorise};
use base::{Error, Platform, Reference, Result};
use engine::images::push::PushRequest;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The names in an exporter's `name`.
///
/// # Errors
/// `Invalid` for a malformed one, or one with a digest.
pub(super) fn names(attrs: &BTreeMap<String, String>) -> Result<Vec<Reference>> {
    let list = attrs.get("name").map_or("", String::as_str);
    let mut names = Vec::new();
    for text in list.split(',').map(str::trim).filter(|n| !n.is_empty() && *n != "*") {
        let reference: Reference = text
            .parse()
            .map_err(|e: Error| Error::invalid(format!("failed to parse {text}")).caused_by(e))?;
        let reference = reference.or_latest();
        if !names.contains(&reference) {
            names.push(reference);
        }
    }
    Ok(names)
}

fn on(attrs: &BTreeMap<String, String>, key: &str) -> bool {
    attrs.get(key).is_some_and(|v| matches!(v.as_str(), "" | "true" | "1"))
}

/// Stores the products.
///
/// # Errors
/// Of the store, and of registries.
pub(super) async fn store(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    epoch: Option<i64>,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to image", None);
    let done = stored(job, products, attrs, epoch, &task).await;
    task.end(&done);
    done
}

async fn stored(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    epoch: Option<i64>,
    task: &Task,
) -> Result<HashMap<String, String>> {
    let names = names(attrs)?;
    let host = Platform::host();
    let main = products
        .iter()
        .position(|p| p.name.parse::<Platform>().is_ok_and(|p| p.satisfies(&host)))
        .unwrap_or(0);
    let mut told = HashMap::new();
    task.item("exporting layers", 0, 0, true);
    for (index, product) in products.iter().enumerate() {
        let (config, state) = image(job, product, epoch).await?;
        let id = config.id().clone();
        task.item(&format!("writing image {id}"), 0, 0, false);
        let own: &[Reference] = if index == main { &names } else { &[] };
        job.host.register(config, state.image.as_ref(), own, Vec::new(), None)?;
        task.item(&format!("writing image {id}"), 0, 0, true);
        if index == main {
            for name in &names {
                task.item(&format!("naming to {name}"), 0, 0, true);
            }
            told.insert("containerimage.digest".into(), id.to_string());
            told.insert("containerimage.config.digest".into(), id.to_string());
        }
    }
    if !names.is_empty() {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".into(), all.join(","));
    }
    job.host.settle().await?;
    if on(attrs, "push") {
        for name in &names {
            let (digest, size) = push(job, name, task).await?;
            told.insert("containerimage.digest".into(), digest.clone());
            let descriptor = json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": size,
            });
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(descriptor.to_string());
            told.insert("containerimage.descriptor".into(), text);
        }
    }
    Ok(told)
}

/// Sends an image to its registry; gives digest and size of its manifest there.
async fn push(job: &Arc<Job>, name: &Reference, task: &Task) -> Result<(String, u64)> {
    authorise(job, name.domain()).await;
    let request = PushRequest {
        reference: name.clone(),
        platform: None,
        credentials: job.host.credentials(name.domain()),
    };
    let what = format!("pushing {name}");
    task.item(&what, 0, 0, false);
    let mut messages = job.site.engine.image_push(request, job.host.by());
    let mut sent = None;
    while let Some(message) = messages.recv().await {
        let Ok(message) = serde_json::from_slice::<Value>(&message?) else { continue };
        if let Some(why) = message["error"].as_str() {
            return Err(Error::invalid(format!("failed to push {name}: {why}")));
        }
        if let (Some(digest), Some(size)) =
            (message["aux"]["Digest"].as_str(), message["aux"]["Size"].as_u64())
        {
            sent = Some((digest.to_owned(), size));
        }
    }
    task.item(&what, 0, 0, true);
    sent.ok_or_else(|| Error::internal(format!("the registry took {name} without a digest")))
}

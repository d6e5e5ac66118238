//! Images into the engine's own store, with names, and from there to registries.

use super::{
    Epoch, Product, by_digest, image,
    release::{self, Plan},
};
use crate::{job::Job, progress::Task, solve::source::authorise};
use base::{Error, Reference, Result};
use engine::images::push::PushRequest;
use image::manifest::{DOCKER_MANIFEST, Descriptor};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The names in an exporter's `name`; without a tag they mean the latest.
///
/// # Errors
/// `Invalid` for a malformed one.
pub(super) fn names(attrs: &BTreeMap<String, String>) -> Result<Vec<Reference>> {
    Ok(written(attrs)?.into_iter().map(|name| name.or_latest()).collect())
}

fn written(attrs: &BTreeMap<String, String>) -> Result<Vec<Reference>> {
    let list = attrs.get("name").map_or("", String::as_str);
    let mut names = Vec::new();
    for text in list.split(',').map(str::trim).filter(|n| !n.is_empty() && *n != "*") {
        let reference: Reference = text
            .parse()
            .map_err(|e: Error| Error::invalid(format!("failed to parse {text}")).caused_by(e))?;
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
    times: Epoch,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to image", None);
    let done = stored(job, products, attrs, times, &task).await;
    task.end(&done);
    done
}

async fn stored(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    times: Epoch,
    task: &Task,
) -> Result<HashMap<String, String>> {
    let push = on(attrs, "push");
    let plan = Plan::read(attrs, &job.attest, products, push)?;
    let mut told = HashMap::new();
    if push && on(attrs, "push-by-digest") {
        return untagged(job, products, &plan, attrs, times, task).await;
    }
    let names = names(attrs)?;
    if !names.is_empty() {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".into(), all.join(","));
    }
    if plan.is_needed(products) {
        released(job, products, &plan, &names, times, task, &mut told).await?;
    } else {
        bare(job, products, &names, times, task, &mut told).await?;
    }
    job.host.settle().await?;
    if push {
        for name in &names {
            let (digest, size) = push_one(job, name, task).await?;
            if !plan.is_needed(products) {
                let sent = Descriptor::new(DOCKER_MANIFEST, digest.parse()?, size);
                tell(&mut told, &sent);
            }
        }
    }
    Ok(told)
}

/// Makes the result and pushes it without a tag; it gets no name here either.
async fn untagged(
    job: &Arc<Job>,
    products: &[Product],
    plan: &Plan,
    attrs: &BTreeMap<String, String>,
    times: Epoch,
    task: &Task,
) -> Result<HashMap<String, String>> {
    let (names, mut told) = (written(attrs)?, HashMap::new());
    if names.is_empty() {
        return Err(Error::invalid("a push by digest needs the name of a repository"));
    }
    let all: Vec<String> = names.iter().map(ToString::to_string).collect();
    told.insert("image.name".into(), all.join(","));
    let top = released(job, products, plan, &[], times, task, &mut told).await?;
    job.host.settle().await?;
    for name in &names {
        by_digest::push(job, &top, name, task).await?;
    }
    Ok(told)
}

/// Tells the client which manifest stands for the result.
pub(super) fn tell(told: &mut HashMap<String, String>, top: &Descriptor) {
    use base64::Engine as _;
    told.insert("containerimage.digest".into(), top.digest.to_string());
    let text = base64::engine::general_purpose::STANDARD.encode(json!(top).to_string());
    told.insert("containerimage.descriptor".into(), text);
}

/// Stores the one image without a manifest: it gets one when it is pushed.
async fn bare(
    job: &Arc<Job>,
    products: &[Product],
    names: &[Reference],
    times: Epoch,
    task: &Task,
    told: &mut HashMap<String, String>,
) -> Result<()> {
    task.item("exporting layers", 0, 0, true);
    for product in products {
        let (config, state) = image(job, product, times).await?;
        let id = config.id().clone();
        let what = format!("writing image {id}");
        task.item(&what, 0, 0, false);
        job.host.register(config, state.image.as_ref(), names, Vec::new(), None)?;
        task.item(&what, 0, 0, true);
        named(names, task);
        told.insert("containerimage.digest".into(), id.to_string());
        told.insert("containerimage.config.digest".into(), id.to_string());
    }
    Ok(())
}

/// Stores images with their manifests.
async fn released(
    job: &Arc<Job>,
    products: &[Product],
    plan: &Plan,
    names: &[Reference],
    times: Epoch,
    task: &Task,
    told: &mut HashMap<String, String>,
) -> Result<Descriptor> {
    let made = release::make(job, products, plan, names, times, task).await?;
    job.host.release(&made.release)?;
    named(names, task);
    tell(told, &made.top);
    if let [one] = made.release.images.as_slice() {
        told.insert("containerimage.config.digest".into(), one.config.id().to_string());
    }
    Ok(made.top)
}

fn named(names: &[Reference], task: &Task) {
    for name in names {
        task.item(&format!("naming to {name}"), 0, 0, true);
    }
}

/// Sends an image to its registry; gives digest and size of its manifest there.
async fn push_one(job: &Arc<Job>, name: &Reference, task: &Task) -> Result<(String, u64)> {
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

//! Images as archives that the client writes to its disk: `-o type=docker`, `-o type=oci`.

use super::{
    Epoch, Product, by_digest, image,
    release::{self, Plan},
    sending::Sending,
    store::names,
};
use crate::{cache, job::Job, progress::Task};
use base::{Error, Reference, Result};
use image::{
    archive::SavedImage,
    manifest::{Descriptor, Index, OCI_INDEX},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Sends the products as one archive.
///
/// # Errors
/// Of the store, and when the client cannot take it.
pub(super) async fn archive(
    job: &Arc<Job>,
    products: &[Product],
    kind: &str,
    attrs: &BTreeMap<String, String>,
    index: usize,
    times: Epoch,
) -> Result<HashMap<String, String>> {
    if kind == "docker" && products.len() > 1 {
        return Err(Error::invalid(
            "docker exporter does not currently support exporting manifest lists",
        ));
    }
    let task = job.progress.task(&format!("exporting to {kind} image format"), None);
    let done = sent(job, products, kind, attrs, index, times, &task).await;
    if done.is_ok() {
        task.item("sending tarball", 0, 0, true);
    }
    task.end(&done);
    done
}

async fn sent(
    job: &Arc<Job>,
    products: &[Product],
    kind: &str,
    attrs: &BTreeMap<String, String>,
    index: usize,
    times: Epoch,
    task: &Task,
) -> Result<HashMap<String, String>> {
    let names = names(attrs)?;
    let mut told = HashMap::new();
    if !names.is_empty() {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".to_owned(), all.join(","));
    }
    let plan = Plan::read(attrs, &job.attest, products, kind == "oci")?;
    let map = attrs.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let folder = !cache::on(&map, "tar")?.unwrap_or(true);
    if folder || (kind == "oci" && plan.is_needed(products)) {
        let made = release::make(job, products, &plan.in_oci(), &names, times, task).await?;
        super::store::tell(&mut told, &made.top);
        if let [one] = made.release.images.as_slice() {
            told.insert("containerimage.config.digest".into(), one.config.id().to_string());
        }
        if folder {
            by_digest::into_client(job, &made.top, task).await?;
            return Ok(told);
        }
        let listing = listing(&made.top, &names);
        let sending = Sending::open(job, index, &told).await?;
        let content = job.site.engine.image_store().content().clone();
        let blobs = made.blobs;
        sending.write(move |out| image::archive::layout(&listing, &blobs, &content, out)).await?;
        return Ok(told);
    }
    let mut images = Vec::new();
    for product in products {
        let (config, state) = image(job, product, times).await?;
        let layers = match &state.image {
            Some(image) => job.host.image_layers(image)?,
            None => Vec::new(),
        };
        told.insert("containerimage.config.digest".to_owned(), config.id().to_string());
        told.insert("containerimage.digest".to_owned(), config.id().to_string());
        let layers = layers.into_iter().map(|l| l.id).collect();
        images.push(SavedImage { config, layers, references: names.clone() });
    }
    let sending = Sending::open(job, index, &told).await?;
    let source = Arc::clone(job.site.engine.image_store());
    sending.write(move |out| image::save(&images, source.as_ref(), out)).await?;
    Ok(told)
}

/// The `index.json` of a layout: the result once for each name.
fn listing(top: &Descriptor, names: &[Reference]) -> Index {
    let named = |name: &Reference| {
        let mut entry = top.clone();
        let tag = name.tag().unwrap_or_default().to_owned();
        entry.annotations.insert("io.containerd.image.name".into(), name.to_string());
        entry.annotations.insert("org.opencontainers.image.ref.name".into(), tag);
        entry
    };
    let manifests = match names {
        [] => vec![top.clone()],
        names => names.iter().map(named).collect(),
    };
    Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests,
        annotations: BTreeMap::new(),
    }
}

//! Caches that are written: what the steps of a build came to, with the layers.

use super::{
    Export, Kept, Place,
    format::{Annotations, CONFIG, Config, Layer, Record, Top, UNCOMPRESSED},
};
use crate::{
    contents::Store,
    export::Product,
    job::Job,
    progress::Task,
    solve::{Out, State, source::authorise},
};
use base::{Digest, Error, Result};
use base64::Engine as _;
use build::host::Layer as Held;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use image::{
    manifest::{DOCKER_LIST, Descriptor, Index, Manifest, OCI_INDEX, OCI_MANIFEST},
    registry::Repository,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Blobs compressed or sent at once.
const AT_ONCE: usize = 4;

/// A forest of layers, and the records that point into it.
#[derive(Default)]
struct Forest {
    layers: Vec<(i64, Held)>,
    known: HashMap<(i64, Digest), usize>,
    records: Vec<(Kept, usize)>,
}

impl Forest {
    fn add(&mut self, kept: Kept, chain: &[Held]) {
        let mut parent = -1;
        for layer in chain {
            let layers = &mut self.layers;
            let at = *self.known.entry((parent, layer.diff_id.clone())).or_insert_with(|| {
                layers.push((parent, layer.clone()));
                layers.len() - 1
            });
            parent = i64::try_from(at).unwrap_or_default();
        }
        if let Ok(top) = usize::try_from(parent) {
            self.records.push((kept, top));
        }
    }
}

/// What is kept of this build's steps, each with its layers; a step without any has nothing to give.
fn chains(job: &Job) -> Result<Vec<(Kept, Vec<Held>)>> {
    let mut all = Vec::new();
    for kept in job.kept() {
        let layers = job.host.image_layers(&kept.image)?;
        if !layers.is_empty() {
            all.push((kept, layers));
        }
    }
    all.sort_by(|a, b| (a.1.len(), &a.0.key).cmp(&(b.1.len(), &b.0.key)));
    all.dedup_by(|a, b| a.0.key == b.0.key);
    Ok(all)
}

fn is_below(chain: &[Held], of: &[Held]) -> bool {
    chain.len() <= of.len() && chain.iter().zip(of).all(|(a, b)| a.diff_id == b.diff_id)
}

/// The layers of the build's results.
fn results(job: &Job, products: &[Product]) -> Result<Vec<Vec<Held>>> {
    let images = products.iter().filter_map(|p| match &p.out {
        Some(Out::State(State { image, .. })) => image.as_ref(),
        _ => None,
    });
    images.map(|image| job.host.image_layers(image)).collect()
}

/// The records of the steps that an image's layers come from, as its config keeps them.
///
/// # Errors
/// Of the store.
pub(crate) fn inline(job: &Job, layers: &[Held], epoch: Option<i64>) -> Result<Option<String>> {
    let mut records = Vec::new();
    for (kept, chain) in chains(job)? {
        if is_below(&chain, layers) {
            let created_at = epoch.map_or(kept.created, |e| base::Timestamp::from_unix(e, 0));
            let results = vec![Top { layer: chain.len() - 1, created_at }];
            records.push(Record {
                digest: kept.key,
                results,
                chains: Vec::new(),
                inputs: Vec::new(),
            });
        }
    }
    if records.is_empty() {
        return Ok(None);
    }
    let json = serde_json::to_vec(&records)
        .map_err(|e| Error::internal("cannot write a cache").caused_by(e))?;
    Ok(Some(base64::engine::general_purpose::STANDARD.encode(json)))
}

/// Writes the caches that the client asked for; gives what it is told.
///
/// # Errors
/// Of storage, and of the places; those of a cache with `ignore-error` are told only.
pub(crate) async fn export(
    job: &Arc<Job>,
    products: &[Product],
) -> Result<HashMap<String, String>> {
    let mut told = HashMap::new();
    for export in &job.cache.exports {
        let name = match &export.place {
            Place::Registry(_) => "exporting cache to registry",
            Place::Client { .. } => "exporting cache to client directory",
        };
        let task = job.progress.task(name, None);
        let done = one(job, export, products, &task).await;
        task.end(&done);
        match done {
            Ok(descriptor) => {
                if let Some(descriptor) = descriptor {
                    told.insert("cache.manifest".to_owned(), json!(descriptor).to_string());
                }
            }
            Err(err) if export.ignore_error => {
                tracing::debug!(build = job.id, err = err.chain(), "a cache was not written");
            }
            Err(err) => return Err(err),
        }
    }
    Ok(told)
}

async fn one(
    job: &Arc<Job>,
    export: &Export,
    products: &[Product],
    task: &Task,
) -> Result<Option<Descriptor>> {
    let results = results(job, products)?;
    let mut forest = Forest::default();
    for (kept, chain) in chains(job)? {
        if export.all || results.iter().any(|of| is_below(&chain, of)) {
            forest.add(kept, &chain);
        }
    }
    if forest.layers.is_empty() {
        task.item("skipping cache export for empty result", 0, 0, true);
        return Ok(None);
    }
    task.item("preparing build cache for export", 0, 0, false);
    let blobs = blobs(job, export, &forest).await?;
    let mut all: Vec<Descriptor> = Vec::new();
    for (_, layer) in &forest.layers {
        let blob = &blobs[&layer.diff_id];
        if !all.iter().any(|b| b.digest == blob.digest) {
            all.push(blob.clone());
        }
    }
    if all.len() > image::limits::LAYERS {
        return Err(Error::exhausted(format!(
            "the cache has {} layers, {} are allowed: mode=min exports fewer",
            all.len(),
            image::limits::LAYERS
        )));
    }
    task.item("preparing build cache for export", 0, 0, true);
    let config = serde_json::to_vec(&config(&forest, &blobs))
        .map_err(|e| Error::internal("cannot write the config of a cache").caused_by(e))?;
    let config = small(job, CONFIG, &config)?;
    let (media_type, bytes) = top(export, &config, &all)?;
    let manifest = small(job, media_type, &bytes)?;
    match &export.place {
        Place::Registry(reference) => {
            authorise(job, reference.domain()).await;
            let repository = job.host.repository(reference, true)?;
            let repository = repository.as_ref();
            let sends: Vec<_> = all
                .iter()
                .chain([&config])
                .map(|blob| sent(job, repository, blob, task).boxed())
                .collect();
            let sends = futures_util::stream::iter(sends).buffer_unordered(AT_ONCE);
            sends.try_collect::<Vec<()>>().await?;
            let name = reference.tag().unwrap_or("latest");
            let put = repository.put_manifest(name, media_type, &bytes.into()).await;
            put.map_err(Error::from)?;
        }
        Place::Client { store, .. } => {
            let store = Store::of(job, "", store.clone()).await?;
            for blob in all.iter().chain([&config, &manifest]) {
                let what = format!("writing layer {}", blob.digest);
                task.item(&what, 0, 0, false);
                store.send(job, blob).await?;
                task.item(&what, 0, 0, true);
            }
        }
    }
    task.item(&format!("writing cache manifest {}", manifest.digest), 0, 0, true);
    Ok(Some(manifest))
}

async fn sent(job: &Job, to: &Repository, blob: &Descriptor, task: &Task) -> Result<()> {
    let what = format!("writing layer {}", blob.digest);
    task.item(&what, 0, 0, false);
    job.host.send_blob(to, blob).await?;
    task.item(&what, 0, 0, true);
    Ok(())
}

/// Each layer as a blob, by DiffID.
async fn blobs(
    job: &Arc<Job>,
    export: &Export,
    forest: &Forest,
) -> Result<HashMap<Digest, Descriptor>> {
    let unique: BTreeMap<Digest, Held> =
        forest.layers.iter().map(|(_, l)| (l.diff_id.clone(), l.clone())).collect();
    let made: Vec<_> =
        unique.into_iter().map(|(id, layer)| made(job, export, id, layer).boxed()).collect();
    let made = futures_util::stream::iter(made).buffer_unordered(AT_ONCE);
    made.try_collect().await
}

async fn made(
    job: &Job,
    export: &Export,
    diff_id: Digest,
    layer: Held,
) -> Result<(Digest, Descriptor)> {
    let mut blob = job.host.compressed(&layer, export.compression).await?;
    blob.media_type = engine::images::push::layer_type(&blob.media_type, export.oci);
    blob.annotations.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
    Ok((diff_id, blob))
}

fn config(forest: &Forest, blobs: &HashMap<Digest, Descriptor>) -> Config {
    let mut created: Vec<Option<base::Timestamp>> = vec![None; forest.layers.len()];
    for (kept, top) in &forest.records {
        created[*top].get_or_insert(kept.created);
    }
    let layer = |(at, (parent, layer)): (usize, &(i64, Held))| {
        let blob = &blobs[&layer.diff_id];
        let annotations = Annotations {
            media_type: blob.media_type.clone(),
            diff_id: Some(layer.diff_id.clone()),
            size: blob.size,
            created_at: created[at].unwrap_or_default(),
        };
        Layer { blob: blob.digest.clone(), parent: *parent, annotations: Some(annotations) }
    };
    let record = |(kept, top): &(Kept, usize)| Record {
        digest: kept.key.clone(),
        results: vec![Top { layer: *top, created_at: kept.created }],
        chains: Vec::new(),
        inputs: Vec::new(),
    };
    Config {
        layers: forest.layers.iter().enumerate().map(layer).collect(),
        records: forest.records.iter().map(record).collect(),
    }
}

fn small(job: &Job, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    Ok(Descriptor::new(media_type, job.host.keep(bytes)?, bytes.len() as u64))
}

/// The manifest or index over it all.
fn top(
    export: &Export,
    config: &Descriptor,
    blobs: &[Descriptor],
) -> Result<(&'static str, Vec<u8>)> {
    let fail = |e| Error::internal("cannot write the manifest of a cache").caused_by(e);
    if export.image_manifest {
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: config.clone(),
            layers: blobs.to_vec(),
            annotations: BTreeMap::new(),
        };
        return Ok((OCI_MANIFEST, serde_json::to_vec(&manifest).map_err(fail)?));
    }
    let media_type = if export.oci { OCI_INDEX } else { DOCKER_LIST };
    let index = Index {
        schema_version: 2,
        media_type: media_type.into(),
        manifests: blobs.iter().chain([config]).cloned().collect(),
        annotations: BTreeMap::new(),
    };
    Ok((media_type, serde_json::to_vec(&index).map_err(fail)?))
}

//! Caches that are looked into: read once, and their layers fetched when a step is found.

use super::{
    Place,
    format::{CONFIG, CONFIG_BYTES, Config, INLINE, Layer, UNCOMPRESSED},
};
use crate::{contents::Store, job::Job, progress, solve::source::authorise};
use base::{Digest, Error, Reference, Result};
use base64::Engine as _;
use build::host::Image;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::join_all};
use image::{
    Limits,
    manifest::{self, Descriptor, Either, Manifest},
    registry::Repository,
};
use std::{collections::HashMap, sync::Arc};

/// Blobs fetched at once for one step.
const AT_ONCE: usize = 4;
/// Images of one index that are looked into.
const IMAGES: usize = 64;

/// A cache that was read.
#[derive(Debug)]
pub(crate) struct Imported {
    source: Source,
    /// Blobs with what they unpack to.
    layers: Vec<(Descriptor, Digest)>,
    /// Layers by the name of the step, lowest first.
    records: HashMap<Digest, Vec<usize>>,
}

impl Imported {
    /// Layers of a client, without records.
    pub(crate) fn of_client(store: Store, layers: Vec<(Descriptor, Digest)>) -> Self {
        Self { source: Source::Client(store), layers, records: HashMap::new() }
    }
}

#[derive(Clone, Debug)]
enum Source {
    Registry(Arc<Repository>),
    Client(Store),
}

impl Source {
    async fn small(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        match self {
            Self::Registry(repository) => {
                let bytes = repository.small_blob(&blob.digest, blob.size, CONFIG_BYTES).await;
                Ok(bytes.map_err(Error::from)?.to_vec())
            }
            Self::Client(store) => store.small(blob, CONFIG_BYTES).await,
        }
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match self {
            Self::Registry(repository) => {
                let got = repository.manifest(descriptor.digest.as_str(), &Limits::default()).await;
                Ok(got.map_err(Error::from)?.bytes.to_vec())
            }
            Self::Client(store) => store.small(descriptor, Limits::default().manifest_bytes).await,
        }
    }
}

/// Reads all caches that the client named; one that cannot be read is told and left out.
pub(crate) async fn load(job: &Arc<Job>) -> Vec<Imported> {
    let all = job.cache.imports.iter().map(|place| one(job, place).boxed());
    join_all(all).await.into_iter().flatten().collect()
}

async fn one(job: &Arc<Job>, place: &Place) -> Vec<Imported> {
    let shown = match place {
        Place::Registry(reference) => reference.to_string(),
        Place::Client { store, .. } => store.clone(),
    };
    let task = job.progress.task(&format!("importing cache manifest from {shown}"), None);
    let read = read(job, place).await;
    task.end(&read);
    read.unwrap_or_else(|err| {
        tracing::debug!(build = job.id, err = err.chain(), "a cache was not read");
        Vec::new()
    })
}

async fn read(job: &Arc<Job>, place: &Place) -> Result<Vec<Imported>> {
    match place {
        Place::Registry(reference) => {
            authorise(job, reference.domain()).await;
            let repository = job.host.repository(reference, false)?;
            let name = named(reference);
            let top = repository.manifest(&name, &Limits::default()).await;
            let top = top.map_err(|e| e.of_pull(reference))?;
            caches(&Source::Registry(repository), &top.bytes).await
        }
        Place::Client { store, manifest } => {
            let Some(digest) = manifest else {
                return Err(Error::invalid("local cache importer requires explicit digest"));
            };
            let store = Store::of(job, "", store.clone()).await?;
            let descriptor = store.descriptor(digest).await?;
            let top = store.small(&descriptor, Limits::default().manifest_bytes).await?;
            caches(&Source::Client(store), &top).await
        }
    }
}

fn named(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// What a manifest or an index holds: a cache, or images with one inside.
async fn caches(source: &Source, top: &[u8]) -> Result<Vec<Imported>> {
    match manifest::parse(top)? {
        Either::Manifest(one) if one.config.media_type == CONFIG => {
            Ok(vec![cache(source, &one.config, &one.layers).await?])
        }
        Either::Manifest(one) => Ok(inline(source, &one).await?.into_iter().collect()),
        Either::Index(index) => {
            if let Some(config) = index.manifests.iter().find(|d| d.media_type == CONFIG) {
                return Ok(vec![cache(source, config, &index.manifests).await?]);
            }
            let mut found = Vec::new();
            let images = index.manifests.iter().filter(|d| !d.is_attestation() && !d.is_index());
            for descriptor in images.take(IMAGES) {
                if let Either::Manifest(one) = manifest::parse(&source.manifest(descriptor).await?)?
                {
                    found.extend(inline(source, &one).await?);
                }
            }
            Ok(found)
        }
    }
}

async fn cache(source: &Source, config: &Descriptor, blobs: &[Descriptor]) -> Result<Imported> {
    let config = Config::parse(&source.small(config).await?)?;
    let blobs: HashMap<&Digest, &Descriptor> = blobs.iter().map(|b| (&b.digest, b)).collect();
    let mut layers = Vec::new();
    for layer in &config.layers {
        let blob = blobs.get(&layer.blob).ok_or_else(|| {
            Error::invalid(format!("a cache names the layer {} and does not have it", layer.blob))
        })?;
        let own = layer.annotations.as_ref().and_then(|a| a.diff_id.clone());
        let diff_id = match (own, blob.annotations.get(UNCOMPRESSED)) {
            (Some(diff_id), _) => diff_id,
            (None, Some(text)) => text.parse()?,
            (None, None) => {
                return Err(Error::invalid(format!(
                    "a cache does not say what its layer {} unpacks to",
                    layer.blob
                )));
            }
        };
        layers.push(((*blob).clone(), diff_id));
    }
    Ok(Imported { source: source.clone(), layers, records: config.chains() })
}

/// The cache inside an image's config, if it has one.
async fn inline(source: &Source, manifest: &Manifest) -> Result<Option<Imported>> {
    let raw = source.small(&manifest.config).await?;
    let image: image::ImageConfig = serde_json::from_slice(&raw)
        .map_err(|e| Error::invalid("cannot read an image's config").caused_by(e))?;
    let text = image.extra(INLINE);
    let diff_ids = &image.rootfs.diff_ids;
    if text.is_empty() || diff_ids.len() != manifest.layers.len() {
        return Ok(None);
    }
    let records = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| Error::invalid("cannot read the cache in an image").caused_by(e))?;
    let layers = manifest.layers.iter().enumerate().map(|(at, blob)| Layer {
        blob: blob.digest.clone(),
        parent: i64::try_from(at).unwrap_or_default() - 1,
        annotations: None,
    });
    let config = Config::inline(&records, layers.collect())?;
    let layers = manifest.layers.iter().cloned().zip(diff_ids.iter().cloned()).collect();
    Ok(Some(Imported { source: source.clone(), layers, records: config.chains() }))
}

/// The state that the step called `key` led to elsewhere, its layers fetched. One that does not come is told
/// as the vertex's and is no hit.
///
/// # Errors
/// Of the store.
pub(crate) async fn find(job: &Arc<Job>, key: &Digest, vertex: &str) -> Result<Option<Image>> {
    for cache in job.imported().await {
        let Some(chain) = cache.records.get(key) else { continue };
        match take(job, cache, chain, vertex).await {
            Ok(image) => return Ok(Some(image)),
            Err(err) => {
                let text =
                    format!("what the cache has of this step does not come: {}\n", err.chain());
                job.progress.log(vertex, 2, text.as_bytes());
            }
        }
    }
    Ok(None)
}

/// The state of these layers, lowest first, fetched as far as they are not here.
///
/// # Errors
/// Of the source and of storage.
pub(crate) async fn take(
    job: &Arc<Job>,
    cache: &Imported,
    chain: &[usize],
    vertex: &str,
) -> Result<Image> {
    let all: Vec<&(Descriptor, Digest)> = chain.iter().map(|at| &cache.layers[*at]).collect();
    let mut layers = Vec::new();
    for (_, diff_id) in &all {
        match job.host.layer_here(diff_id, &layers)? {
            Some(layer) => layers.push(layer),
            None => break,
        }
    }
    let missing = &all[layers.len()..];
    let fetches: Vec<_> =
        missing.iter().map(|(b, _)| fetch(job, cache, b, vertex).boxed()).collect();
    futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    for (blob, diff_id) in missing {
        let layer = match job.host.layer_here(diff_id, &layers)? {
            Some(layer) => layer,
            None => job.host.unpack_blob(blob, diff_id, &layers).await?,
        };
        layers.push(layer);
    }
    job.host.state(None, &layers)
}

/// Fetches a blob, unless somebody else does.
async fn fetch(job: &Arc<Job>, cache: &Imported, blob: &Descriptor, vertex: &str) -> Result<()> {
    let _alone = job.site.alone(&format!("blob {}", blob.digest)).await;
    let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
    let tell = |done: bool| {
        let (name, now) = (blob.digest.as_str(), if done { size } else { 0 });
        job.progress.status(progress::item(vertex, name, now, size, done));
    };
    tell(false);
    match &cache.source {
        Source::Registry(repository) => job.host.fetch_blob(repository, blob).await?,
        Source::Client(store) => store.fetch(job, blob).await?,
    }
    tell(true);
    Ok(())
}

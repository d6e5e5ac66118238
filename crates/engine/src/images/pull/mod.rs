//! `POST /images/create?fromImage=`: images from registries.
//!
//! Flow of one reference: ask what it means (one HEAD when it is here already), get manifest and config, follow
//! the transfers of its layers side by side, put the chain together, register image, tags and facts in one
//! transaction. Indexes and manifests are kept byte for byte; so are the attestations of the chosen image.
//! Invariants: nothing is registered that was not verified against a digest; a name keeps its images of other
//! platforms as long as the registry resolves it to the same index; a client that goes away cancels its pull
//! and nobody else's.
//! Source: Moby distribution/pull_v2.go (messages, texts), OCI image-spec.

mod choose;
mod find;
mod progress;
mod register;

use super::{
    Images, NewLayer, Record, Voice, stream,
    transfers::{Arrived, Transfers, Wanted, copied},
};
use crate::Engine;
use base::{Digest, Error, Kind, Platform, Principal, Reference, Result};
use bytes::Bytes;
use choose::Chosen;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use image::{
    ConfigBlob,
    registry::{Action, Credentials, Registries, Repository},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The name; without tag and digest only when all tags are wanted.
    pub reference: Reference,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// The platform; this host's when not given.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

impl Engine {
    /// `POST /images/create?fromImage=`: the messages of the reply.
    ///
    /// # Errors
    /// None here; an error before the first message is the whole answer.
    pub fn image_pull(
        self: &Arc<Self>,
        request: PullRequest,
        by: &Principal,
    ) -> mpsc::Receiver<Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(stream::MESSAGES);
        let (engine, by) = (Arc::clone(self), by.clone());
        self.tasks.spawn(async move {
            let pull = Pull {
                images: &engine.images,
                transfers: &engine.transfers,
                registries: &engine.registries,
                voice: Voice::new(sender.clone()),
                by: &by,
            };
            let outcome = tokio::select! {
                outcome = pull.run(&request) => outcome,
                // What has come stays for the next pull.
                () = sender.closed() => return,
                () = engine.stop.cancelled() => Err(Error::cancelled("the daemon is stopping")),
            };
            if engine.images.collect_again() {
                engine.collect_soon();
            }
            if let Err(err) = outcome {
                let _ = sender.send(Err(unprompted(err))).await;
            }
        });
        receiver
    }
}

/// compat(docker 28): a registry's 401 is the engine's 500. On 401 the docker command line asks for a login,
/// also where nobody is there to answer.
pub(crate) fn unprompted(err: Error) -> Error {
    if err.kind() == Kind::Unauthorized { Error::internal(err.chain()) } else { err }
}

/// The layers of an image, all here.
struct Gathered {
    /// Lowest first.
    layers: Vec<NewLayer>,
    /// Any is new.
    fresh: bool,
    /// Keep them until rows do.
    holds: (Arc<super::Hold>, Vec<Option<Arc<Arrived>>>),
}

/// One pull under way.
struct Pull<'e> {
    images: &'e Arc<Images>,
    transfers: &'e Arc<Transfers>,
    registries: &'e Arc<Registries>,
    voice: Voice,
    by: &'e Principal,
}

impl Pull<'_> {
    async fn run(&self, request: &PullRequest) -> Result<()> {
        let reference = &request.reference;
        let repository =
            Arc::new(self.registries.repository(reference, &request.credentials, Action::Pull)?);
        if !request.all_tags {
            let reference = reference.clone().or_latest();
            let newer = self.one(&repository, &reference, request.platform.as_ref()).await?;
            return self.status(&reference, newer).await;
        }
        let tags = repository.tags().await.map_err(|e| e.of_pull(reference))?;
        let mut newer = false;
        for tag in tags {
            let tagged = reference.with_tag(&tag)?;
            newer |= self.one(&repository, &tagged, request.platform.as_ref()).await?;
        }
        self.status(&reference.repository(), newer).await
    }

    async fn status(&self, reference: &Reference, newer: bool) -> Result<()> {
        let what = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        self.voice.plain(&format!("Status: {what} {}", reference.familiar())).await;
        Ok(())
    }

    /// Pulls one tag or digest; whether that brought anything new.
    async fn one(
        &self,
        repository: &Arc<Repository>,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<bool> {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        if self.is_current(repository, reference, name, platform).await? {
            return Ok(false);
        }
        let limits = &self.images.limits;
        let top = repository.manifest(name, limits).await.map_err(|e| e.of_pull(reference))?;
        self.voice.pulling(name, &reference.familiar_name()).await;
        let chosen = choose::choose(repository, reference, top, platform, limits).await?;
        let config = self.config(repository, &chosen).await?;
        self.voice.mismatch(reference, &config, platform).await;
        let Gathered { layers, fresh, holds } = self.layers(repository, &chosen, &config).await?;
        let further = chosen.attestations(repository, limits).await;
        let target = chosen.target().clone();
        let reference = reference.clone();
        let pulled =
            register::Pulled { reference, config, layers, chosen, further, fresh, _holds: holds };
        let (images, by) = (Arc::clone(self.images), self.by.clone());
        let newer = super::blocking(move || images.register_pulled(&pulled, &by)).await?;
        self.voice.plain(&format!("Digest: {target}")).await;
        Ok(newer)
    }

    /// Whether the registry means by the name what is here already: one HEAD, which registries that count
    /// pulls do not count.
    async fn is_current(
        &self,
        repository: &Repository,
        reference: &Reference,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<bool> {
        let Some(here) = self.images.target_here(reference, platform)? else { return Ok(false) };
        let there = repository.head(name).await.map_err(|e| e.of_pull(reference))?;
        if there.is_none_or(|there| there.digest != here) {
            return Ok(false);
        }
        self.voice.pulling(name, &reference.familiar_name()).await;
        self.voice.plain(&format!("Digest: {here}")).await;
        Ok(true)
    }

    async fn config(&self, repository: &Repository, chosen: &Chosen) -> Result<ConfigBlob> {
        let descriptor = &chosen.manifest.config;
        choose::check_config(descriptor)?;
        let limit = self.images.limits.config_bytes;
        let raw = match self.images.content().read(&descriptor.digest, limit) {
            Ok(raw) => raw,
            Err(_) => {
                let got = repository.small_blob(&descriptor.digest, descriptor.size, limit).await;
                got.map_err(Error::from)?.to_vec()
            }
        };
        let config = ConfigBlob::parse(raw)?;
        let os = config.config().platform().os;
        if os != "linux" {
            return Err(Error::invalid(format!(
                "image operating system {os:?} cannot be used on this platform: operating system is not supported"
            )));
        }
        let (layers, diff_ids) =
            (chosen.manifest.layers.len(), config.config().rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::invalid(format!(
                "invalid image: its manifest has {layers} layers, its config {diff_ids}"
            )));
        }
        Ok(config)
    }

    /// Gets the layers.
    async fn layers(
        &self,
        repository: &Arc<Repository>,
        chosen: &Chosen,
        config: &ConfigBlob,
    ) -> Result<Gathered> {
        let hold = Arc::new(self.images.hold());
        let diff_ids = &config.config().rootfs.diff_ids;
        let descriptors = &chosen.manifest.layers;
        for descriptor in descriptors {
            choose::check_layer(descriptor)?;
        }
        // From below as far as all is here, then those that fit everywhere.
        let mut here: Vec<Option<NewLayer>> = Vec::new();
        let mut below: Option<Vec<Digest>> = Some(Vec::new());
        let mut parents_of = Vec::new();
        for diff_id in diff_ids {
            let found = self.images.find_layer(&hold, diff_id, below.as_deref())?;
            parents_of.push(below.clone().unwrap_or_default());
            below = match (&found, below) {
                (Some(layer), Some(mut chain)) => {
                    chain.push(layer.layer.clone());
                    Some(chain)
                }
                _ => None,
            };
            here.push(found);
        }
        let mut coming = FuturesUnordered::new();
        for (at, descriptor) in descriptors.iter().enumerate() {
            let id = descriptor.digest.short();
            if here[at].is_some() {
                self.voice.of(id, "Already exists").await;
                continue;
            }
            self.voice.of(id, "Pulling fs layer").await;
            let wanted = Wanted {
                descriptor: descriptor.clone(),
                parents: parents_of[at].clone(),
                repository: Arc::clone(repository),
            };
            coming.push(async move { (at, progress::follow(self, &wanted).await) });
        }
        let mut arrived: Vec<Option<Arc<Arrived>>> = vec![None; descriptors.len()];
        let fresh = !coming.is_empty();
        while let Some((at, outcome)) = coming.next().await {
            arrived[at] = Some(outcome?);
            self.voice.of(descriptors[at].digest.short(), "Pull complete").await;
        }
        let mut layers: Vec<NewLayer> = Vec::new();
        for (at, diff_id) in diff_ids.iter().enumerate() {
            let chain: Vec<Digest> = layers.iter().map(|l| l.layer.clone()).collect();
            let layer = match (&here[at], &arrived[at]) {
                (Some(layer), _) => layer.clone(),
                (None, Some(arrived)) => {
                    self.settle(&hold, arrived, &chain, &descriptors[at].digest).await?
                }
                (None, None) => return Err(Error::internal("a layer of the pull was lost")),
            };
            if layer.diff_id != *diff_id {
                return Err(Error::invalid(format!(
                    "invalid rootfs in image configuration: layer {} unpacks to {}, the config says {diff_id}",
                    descriptors[at].digest, layer.diff_id
                )));
            }
            layers.push(layer);
        }
        Ok(Gathered { layers, fresh, holds: (hold, arrived) })
    }

    /// A layer in its place: one that needs what is below it is unpacked again on top of that.
    async fn settle(
        &self,
        hold: &Arc<super::Hold>,
        arrived: &Arrived,
        chain: &[Digest],
        blob: &Digest,
    ) -> Result<NewLayer> {
        let again = match &arrived.layer {
            Ok(layer) => layer.bound && arrived.parents != chain,
            Err(_) => arrived.parents != chain,
        };
        if !again {
            let layer = arrived.layer.as_ref().map_err(|e| copied(e))?;
            hold.keep(&layer.layer);
            return Ok(layer.clone());
        }
        let (images, hold) = (Arc::clone(self.images), Arc::clone(hold));
        let (chain, blob) = (chain.to_vec(), blob.clone());
        super::blocking(move || {
            let (file, _) = images.content().blob(&blob)?;
            let tried = image::layer::unpack(file, &chain, hold.as_ref(), &images.limits)?;
            Ok(tried.applied?.into())
        })
        .await
    }
}

/// A name that nobody has here is no error for those who look.
pub(crate) fn missing_is_none<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(err) if err.kind() == Kind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

impl Images {
    /// The manifest or index that `reference` stands for here, when the image for `platform` is here too.
    fn target_here(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Option<Digest>> {
        let stored = image::lookup::stored_form(reference);
        let Some(tag) = self.store.read(|tx| tx.tag(&stored.to_string()))? else { return Ok(None) };
        let Some(target) = tag.target else { return Ok(None) };
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let found = missing_is_none(self.resolve_for(&stored.to_string(), Some(&wanted)))?;
        let Some(id) = found else { return Ok(None) };
        if !self.config(&id).is_ok_and(|c| c.config().platform().satisfies(&wanted)) {
            return Ok(None);
        }
        let row = missing_is_none(self.row(&id))?;
        let whole = |row: &store::Image<Record>| row.layers.iter().all(|l| self.layers.exists(l));
        Ok(row.filter(whole).map(|_| target))
    }
}

//! `POST /images/{name}/push`: images to registries.
//!
//! Flow of one tag: what it came as goes out as it came, byte for byte: the index when every part of it is
//! here or there, else the manifest of the image; an image that has neither gets a manifest of its own, its
//! layers compressed on all cores while they are sent. A blob that the registry has is not sent; one that it
//! has in another repository is mounted.
//! Invariants: a manifest goes out after all that it names; a compressed layer was made from a tar whose
//! digest is the layer's DiffID.
//! Source: Moby distribution/push_v2.go (messages, texts), OCI distribution-spec.

mod blob;
mod compress;
mod graph;
mod layers;

pub(crate) use blob::{PIECES, feed};
pub(crate) use compress::keep;
pub use layers::layer_type;

use super::{Images, Record, Voice, pull::missing_is_none, stream};
use crate::Engine;
use base::{
    Digest, Error, ImageId, Platform, Principal, Reference, Result, Timestamp, event::Event,
};
use bytes::Bytes;
use image::{
    compress::Form,
    manifest::Descriptor,
    registry::{Action, Credentials, Registries, Repository},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::sync::{Semaphore, mpsc};

/// Pushes that an image remembers.
const REMEMBERED: usize = 20;

/// What to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The name; without a tag all tags of the repository.
    pub reference: Reference,
    /// Only the image for this platform.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

/// A push, as governance will ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Where to, with tag.
    pub to: String,
    /// What the tag means there since.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Principal,
}

impl Engine {
    /// `POST /images/{name}/push`: the messages of the reply.
    ///
    /// # Errors
    /// None here; an error before the first message is the whole answer.
    pub fn image_push(
        self: &Arc<Self>,
        request: PushRequest,
        by: &Principal,
    ) -> mpsc::Receiver<Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(stream::MESSAGES);
        let (engine, by) = (Arc::clone(self), by.clone());
        self.tasks.spawn(async move {
            let push = Push {
                images: &engine.images,
                registries: &engine.registries,
                turns: Semaphore::new(engine.reloadable().max_uploads.max(1)),
                form: engine.config.push_form,
                voice: Voice::new(sender.clone()),
                by: &by,
            };
            let outcome = tokio::select! {
                outcome = push.run(&request) => outcome,
                () = sender.closed() => return,
                () = engine.stop.cancelled() => Err(Error::cancelled("the daemon is stopping")),
            };
            if let Err(err) = outcome {
                let _ = sender.send(Err(super::pull::unprompted(err))).await;
            }
        });
        receiver
    }
}

impl Engine {
    /// Sees to it that a registry has a blob that is here.
    ///
    /// # Errors
    /// Of the registry; `NotFound` when the blob is neither here nor there.
    pub(crate) async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        by: &Principal,
    ) -> Result<()> {
        // Nobody listens: whoever asks shows what goes on.
        let (sender, _) = mpsc::channel(1);
        let push = Push {
            images: &self.images,
            registries: &self.registries,
            turns: Semaphore::new(1),
            form: self.config.push_form,
            voice: Voice::new(sender),
            by,
        };
        match push.blob(repository, "", blob).await? {
            blob::Way::Nowhere => Err(Error::not_found(format!("no such blob: {}", blob.digest))),
            way => push.note_place(repository, &blob.digest, &way),
        }
    }
}

/// One of several things done side by side.
type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One push under way.
struct Push<'e> {
    images: &'e Arc<Images>,
    registries: &'e Arc<Registries>,
    turns: Semaphore,
    form: Form,
    voice: Voice,
    by: &'e Principal,
}

/// What became of a tag at the registry.
struct Sent {
    digest: Digest,
    size: u64,
    /// The manifest that stands for the image there, when it is not the digest.
    manifest: Option<Digest>,
}

impl Push<'_> {
    async fn run(&self, request: &PushRequest) -> Result<()> {
        let reference = &request.reference;
        let repository =
            self.registries.repository(reference, &request.credentials, Action::Push)?;
        let name = reference.name();
        self.voice.say(json!({"status": format!("The push refers to repository [{name}]")})).await;
        let tags = self.tags(reference)?;
        for (tag, id) in tags {
            let id = match &request.platform {
                Some(platform) => self.for_platform(&tag, platform)?,
                None => id,
            };
            self.one(&repository, &tag, &id, request.platform.as_ref()).await?;
        }
        Ok(())
    }

    /// The tags that are meant, each with its image.
    fn tags(&self, reference: &Reference) -> Result<Vec<(Reference, ImageId)>> {
        let all = self.images.store.read(|tx| tx.tags())?;
        let mut same = Vec::new();
        for tag in all {
            let known: Reference = tag.reference.parse()?;
            if known.repository() == reference.repository() && known.tag().is_some() {
                same.push((known, tag.image));
            }
        }
        if same.is_empty() {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            )));
        }
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        if reference.tag().is_none() {
            return Ok(same);
        }
        let wanted = same.into_iter().find(|(known, _)| known == reference);
        wanted.map(|tag| vec![tag]).ok_or_else(|| {
            Error::not_found(format!("tag does not exist: {}", reference.familiar()))
        })
    }

    fn for_platform(&self, tag: &Reference, platform: &Platform) -> Result<ImageId> {
        let id = self.images.resolve_for(&tag.to_string(), Some(platform))?;
        let found = self.images.config(&id)?.config().platform();
        if found.satisfies(platform) {
            return Ok(id);
        }
        Err(Error::not_found(format!(
            "image with reference {} was found but does not provide the specified platform ({platform})",
            tag.familiar()
        )))
    }

    async fn one(
        &self,
        repository: &Repository,
        tag: &Reference,
        id: &ImageId,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let held = self.images.take(id.as_str(), None)?;
        let row = self.images.row(id)?;
        let target = self.images.store.read(|tx| tx.tag(&tag.to_string()))?.and_then(|t| t.target);
        let index = target.filter(|t| row.doc.manifest.as_ref() != Some(t) && platform.is_none());
        let text = tag.tag().unwrap_or_default();
        let mut sent = None;
        if let Some(index) = &index {
            sent = self.graph(repository, &held, index, text).await?;
        }
        if sent.is_none()
            && let Some(manifest) = &row.doc.manifest
        {
            sent = self.graph(repository, &held, manifest, text).await?;
            if let (Some(sent), Some(index)) = (&sent, &index) {
                self.instead_of(index, sent).await;
            }
        }
        let sent = match sent {
            Some(sent) => sent,
            None => self.anew(repository, &held, text).await?,
        };
        self.voice
            .say(json!({"status": format!("{text}: digest: {} size: {}", sent.digest, sent.size)}))
            .await;
        let aux = json!({"Tag": text, "Digest": sent.digest, "Size": sent.size});
        self.voice.say(json!({"progressDetail": {}, "aux": aux})).await;
        let (images, tag, id, by) =
            (Arc::clone(self.images), tag.clone(), id.clone(), self.by.clone());
        super::blocking(move || images.note_push(&tag, &id, &sent, &by)).await
    }

    /// Tells that the image for one platform went out and not the index it came in.
    async fn instead_of(&self, index: &Digest, sent: &Sent) {
        let size = self.images.content().blob(index).map_or(0, |(_, size)| size);
        let aux = json!({
            "manifestPushedInsteadOfIndex": true,
            "originalIndex": {
                "mediaType": image::manifest::OCI_INDEX, "digest": index, "size": size,
            },
            "selectedManifest": {
                "mediaType": image::manifest::OCI_MANIFEST, "digest": sent.digest, "size": sent.size,
            },
        });
        self.voice.say(json!({"progressDetail": {}, "aux": aux})).await;
    }
}

impl Images {
    /// Writes a push down: the digest that the image has there, and the facts.
    fn note_push(&self, tag: &Reference, id: &ImageId, sent: &Sent, by: &Principal) -> Result<()> {
        let now = Timestamp::now();
        self.store.write(|tx| {
            // Removed meanwhile: it is there all the same.
            let Some(mut row) = tx.image::<Record>(id)? else { return Ok(()) };
            let manifest = sent.manifest.as_ref().unwrap_or(&sent.digest);
            if self.content.has(manifest) {
                row.doc.manifest.get_or_insert_with(|| manifest.clone());
                if !row.doc.manifests.contains(manifest) {
                    row.doc.manifests.push(manifest.clone());
                }
            }
            row.doc.pushed.push(Pushed {
                to: tag.to_string(),
                digest: sent.digest.clone(),
                at: now,
                by: by.clone(),
            });
            let surplus = row.doc.pushed.len().saturating_sub(REMEMBERED);
            row.doc.pushed.drain(..surplus);
            tx.put_image(&row)?;
            tx.touch_image(id, now)?;
            let digested = tag.with_digest(sent.digest.clone()).to_string();
            if missing_is_none(Ok(tx.tag(&digested)?))?.flatten().is_none() {
                tx.set_tag(&digested, id, now)?;
                tx.set_target(&digested, Some(&sent.digest))?;
            }
            let event = Event::new("image", "push", tag.familiar())
                .with_all(row.doc.labels.clone())
                .with("name", tag.familiar_name())
                .by(by);
            tx.emit(event);
            Ok(())
        })
    }
}

//! Images: what `docker images`, `load`, `save`, `tag`, `rmi` ask for, over content store and layers.
//!
//! Flow of whatever makes an image (load, import, build, commit): its layers go through a [`Hold`], which
//! keeps them while nothing points to them yet; [`Images::register`] stores config and manifests, then row,
//! tags and event in one transaction; the hold is dropped. A pull ([`pull`]) gets its layers from
//! [`transfers`], which several pulls may share. Removal deletes rows only; [`Images::collect`]
//! then drops layers and blobs that no row, hold or container needs.
//!
//! Invariants: an image's row exists only when all its layers and its config are written, and one that was not flushed is
//! noted as such (`settle`); a layer's row goes before its folder; reads take no lock.
//! Not here: archive formats and configs and the registry protocol (crate `image`), unpacking (crate
//! `storage`).

mod collect;
mod commit;
pub(crate) mod convert;
mod disk;
mod facts;
mod import;
mod inspect;
mod layers;
mod list;
mod load;
mod prune;
pub mod pull;
pub mod push;
mod registries;
mod remove;
mod requests;
mod save;
mod settle;
mod stream;
mod tag;
pub(crate) mod transfers;

#[cfg(test)]
mod tests;

pub use collect::{Collected, Findings};
pub use commit::CommitOptions;
pub(crate) use convert::to_api;
pub use facts::{Base, Came, Evidence, How};
pub use import::ImportOptions;
pub use layers::{Held, Hold, LayerStore, NewLayer};
pub use list::ListOptions;
pub use load::LoadOptions;
pub use remove::RemoveOptions;
pub(crate) use requests::blocking;
pub use stream::{Bytestream, Messages, reader};
pub(crate) use stream::{Pieces, Voice};

use base::{
    Digest, Error, ImageId, Platform, Principal, Reference, Result, Timestamp, event::Event,
};
pub use image::registry::{Credentials, Known as KnownCredentials};
use image::{ConfigBlob, Content, Limits, lookup::Query};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicBool},
};
use store::{Image, Store, Tx};

/// The images of one engine.
pub struct Images {
    store: Arc<Store>,
    content: Content,
    layers: Arc<dyn LayerStore>,
    limits: Limits,
    /// How often each layer is held by something that is being made.
    holds: Mutex<HashMap<Digest, usize>>,
    /// Read while layers or blobs are on disk and no hold or row names them yet; written by the collector.
    gate: RwLock<()>,
    /// The collector found the gate taken and has to come again.
    again: AtomicBool,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("content", &self.content).finish_non_exhaustive()
    }
}

/// An image's record in the store: what listing needs without reading the config, and facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Bytes of all layers.
    pub size: u64,
    /// When the config says it was made.
    pub created: Option<Timestamp>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// The manifest it came by, when it had one.
    pub manifest: Option<Digest>,
    /// Manifests and indexes kept with it.
    pub manifests: Vec<Digest>,
    /// Blobs of its attestations.
    pub blobs: Vec<Digest>,
    /// Where it was pushed, last last.
    pub pushed: Vec<push::Pushed>,
    /// When a tag was last set on it.
    pub tagged: Option<Timestamp>,
    /// How it came here first.
    pub came: Option<Came>,
    /// What it stands on.
    pub base: Option<Base>,
}

impl Record {
    /// Whether it is a state on the way of a build, which lists and prunes of images do not show.
    pub fn is_step(&self) -> bool {
        self.came.as_ref().is_some_and(|came| came.how == How::Step)
    }
}

/// A layer's record in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerRecord {
    /// Bytes of its tar.
    pub tar_size: u64,
}

/// A container as the rules of removal see it.
#[derive(Clone, Debug)]
pub struct User {
    /// Its id.
    pub container: String,
    /// Its image.
    pub image: ImageId,
    /// Whether it runs.
    pub running: bool,
    /// Layers below its writable one.
    pub layers: Vec<Digest>,
}

/// An image to be registered; its layers are held.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// Its config.
    pub config: ConfigBlob,
    /// Its layers, lowest first.
    pub layers: Vec<NewLayer>,
    /// The image it was made from, when known.
    pub parent: Option<ImageId>,
    /// Names to point to it.
    pub references: Vec<Reference>,
    /// The manifest it came by.
    pub manifest: Option<Digest>,
    /// Manifests and indexes to keep, byte for byte.
    pub manifests: Vec<(Digest, Vec<u8>)>,
    /// How it comes.
    pub how: How,
    /// Id of the build or container it comes from, name of the registry, when there is one.
    pub from: String,
    /// The image's event: `load`, `import`, `create`; nothing for a state within a build.
    pub event: Option<&'static str>,
}

/// A tag that a registration moved away from another image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The tag.
    pub reference: Reference,
    /// The image it pointed to.
    pub from: ImageId,
}

impl Images {
    /// Opens the images over `layers` and the blobs below `content`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(store: Arc<Store>, content: Content, layers: Arc<dyn LayerStore>) -> Result<Self> {
        Ok(Self {
            store,
            content,
            layers,
            limits: Limits::default(),
            holds: Mutex::default(),
            gate: RwLock::default(),
            again: AtomicBool::new(false),
        })
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that is being made holds this layer.
    pub(crate) fn is_held(&self, layer: &Digest) -> bool {
        self.holds().contains_key(layer)
    }

    /// The content store.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The id that `name` means: a full id, a reference, or the beginning of an id.
    ///
    /// # Errors
    /// `NotFound` with docker's "No such image: X".
    pub fn resolve(&self, name: &str) -> Result<ImageId> {
        self.store.read(|tx| resolve(tx, name))
    }

    /// The id that `name` means for `platform`, when it stands for images of several: without one that fits,
    /// what it means at first.
    ///
    /// # Errors
    /// As [`Images::resolve`].
    pub fn resolve_for(&self, name: &str, platform: Option<&Platform>) -> Result<ImageId> {
        let (first, others) = self.store.read(|tx| {
            let first = resolve(tx, name)?;
            let reference = Query::parse(name)?.reference;
            let others = match (platform, reference) {
                (Some(_), Some(reference)) => tx.variants(&reference.to_string())?,
                _ => Vec::new(),
            };
            Ok((first, others))
        })?;
        let Some(platform) = platform else { return Ok(first) };
        let mut all = std::iter::once(&first).chain(&others);
        let fits = |id: &&ImageId| {
            self.config(id).is_ok_and(|c| c.config().platform().satisfies(platform))
        };
        Ok(all.find(fits).unwrap_or(&first).clone())
    }

    /// The config of an image, checked against its id.
    ///
    /// # Errors
    /// `Internal` when it is damaged.
    pub fn config(&self, id: &ImageId) -> Result<ConfigBlob> {
        ConfigBlob::parse(self.content.read(id, self.limits.config_bytes)?)
    }

    /// The row of an image.
    ///
    /// # Errors
    /// `NotFound` when it has none.
    pub fn row(&self, id: &ImageId) -> Result<Image<Record>> {
        self.store
            .read(|tx| tx.image::<Record>(id))?
            .ok_or_else(|| Error::not_found(format!("No such image: {id}")))
    }

    /// An image with its layers held, so that it cannot vanish while something is made of it.
    ///
    /// # Errors
    /// `NotFound` for no such image, or one for another platform than asked for.
    pub fn take(self: &Arc<Self>, name: &str, platform: Option<&Platform>) -> Result<Held> {
        loop {
            let id = self.resolve_for(name, platform)?;
            let row = self.row(&id)?;
            let mut hold = self.hold();
            // Held first and looked at again after: whoever removed it in between has won.
            row.layers.iter().for_each(|layer| hold.add(layer));
            if self.store.read(|tx| tx.image::<Record>(&id))?.is_none() {
                continue;
            }
            let config = self.config(&id)?;
            let found = config.config().platform();
            if let Some(wanted) = platform.filter(|p| !found.satisfies(p)) {
                return Err(Error::not_found(format!(
                    "image with reference {name} was found but does not provide the specified platform ({wanted})"
                )));
            }
            return Ok(Held { id, config, layers: row.layers, hold });
        }
    }

    /// Stores a new image: blobs first, then row, tags and event in one transaction. An image that is
    /// here already keeps its facts and gets the new names. A power cut may take it away again.
    ///
    /// # Errors
    /// Of disk and database; `Internal` when the config has another number of layers.
    pub fn register(&self, image: &NewImage, by: &Principal) -> Result<Vec<Moved>> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.put_blobs(image)?;
        self.store.write(|tx| {
            let id = image.config.id();
            // What a row points to already was flushed, or is noted.
            let here = tx.image::<Record>(id)?.is_some_and(|row| {
                image.manifests.iter().all(|(digest, _)| row.doc.manifests.contains(digest))
            });
            if !here {
                tx.unsettle(store::Kind::Image, id, settle::boot())?;
            }
            self.put_rows(tx, image, by)
        })
    }

    /// Stores new images, all or none, so that they survive a power cut once this returns: their blobs,
    /// their layers when `fresh` says that any of those is new, and their rows.
    ///
    /// # Errors
    /// As [`Images::register`].
    pub fn register_for_good(
        &self,
        images: &[NewImage],
        fresh: bool,
        by: &Principal,
    ) -> Result<Vec<Vec<Moved>>> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        images.iter().try_for_each(|image| self.put_blobs(image))?;
        let rows = |tx: &Tx<'_>| images.iter().map(|image| self.put_rows(tx, image, by)).collect();
        if fresh || self.waits_for_disk(images)? {
            return self.for_good(rows);
        }
        let manifests = images.iter().flat_map(|i| &i.manifests).map(|(digest, _)| digest);
        let configs = images.iter().map(|i| i.config.id());
        self.content.sync_blobs(manifests.chain(configs))?;
        let moved = self.store.write(rows)?;
        self.store.flush()?;
        Ok(moved)
    }

    fn put_blobs(&self, image: &NewImage) -> Result<()> {
        self.content.put(image.config.raw())?;
        for (_, manifest) in &image.manifests {
            self.content.put(manifest)?;
        }
        Ok(())
    }

    fn put_rows(&self, tx: &Tx<'_>, image: &NewImage, by: &Principal) -> Result<Vec<Moved>> {
        let config = image.config.config();
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(Error::internal(format!(
                "image {} names {} layers and has {}",
                image.config.id(),
                config.rootfs.diff_ids.len(),
                image.layers.len()
            )));
        }
        let now = Timestamp::now();
        let id = image.config.id();
        let layers: Vec<Digest> = image.layers.iter().map(|l| l.layer.clone()).collect();
        let before = tx.image::<Record>(id)?;
        let mut record = match &before {
            Some(row) => row.doc.clone(),
            None => Record {
                size: image.layers.iter().map(|l| l.size).sum(),
                created: config.created,
                labels: config.config.labels.clone(),
                came: Some(Came {
                    how: image.how,
                    at: now,
                    by: by.clone(),
                    from: image.from.clone(),
                }),
                base: facts::base(tx, image.parent.as_ref(), &layers)?,
                ..Record::default()
            },
        };
        record.manifest = image.manifest.clone().or(record.manifest);
        for (digest, _) in &image.manifests {
            if !record.manifests.contains(digest) {
                record.manifests.push(digest.clone());
            }
        }
        if !image.references.is_empty() {
            record.tagged = Some(now);
        }
        tx.put_image(&Image {
            id: id.clone(),
            seen: now,
            used: now,
            parent: image.parent.clone().filter(|parent| parent != id),
            layers,
            doc: record,
        })?;
        if let Some(event) = image.event {
            tx.emit(self.event(event, id, id.as_str(), &config.config.labels).by(by));
        }
        let mut moved = Vec::new();
        for reference in &image.references {
            let before = tx.set_tag(&reference.to_string(), id, now)?;
            if let Some(from) = before.clone().filter(|from| from != id) {
                moved.push(Moved { reference: reference.clone(), from });
            }
            if before.as_ref() != Some(id) {
                let name = reference.familiar();
                tx.emit(self.event("tag", id, &name, &config.config.labels).by(by));
            }
        }
        Ok(moved)
    }

    /// The layers of a held image, as a new image on top of it names them.
    ///
    /// # Errors
    /// `Internal` when a layer has lost its row.
    pub fn layers_of(&self, held: &Held) -> Result<Vec<NewLayer>> {
        self.store.read(|tx| {
            let layers = held.layers.iter().map(|id| {
                let row = tx.layer::<LayerRecord>(id)?;
                let row =
                    row.ok_or_else(|| Error::internal(format!("layer {id} has lost its row")))?;
                Ok(NewLayer {
                    bound: row.id != row.diff_id,
                    layer: row.id,
                    diff_id: row.diff_id,
                    size: row.size,
                    tar_size: row.doc.tar_size,
                })
            });
            layers.collect()
        })
    }

    /// The compressed forms of a layer that are known; their bytes may be gone.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<store::Blob>> {
        self.store.read(|tx| tx.blobs_of(diff_id))
    }

    /// Notes that a blob was found to unpack to a layer.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) fn note_blob(
        &self,
        blob: &image::manifest::Descriptor,
        diff_id: &Digest,
    ) -> Result<()> {
        self.store.write(|tx| {
            tx.put_blob(&store::Blob {
                digest: blob.digest.clone(),
                diff_id: diff_id.clone(),
                media_type: blob.media_type.clone(),
                size: blob.size,
            })
        })
    }

    /// Notes that an image was used; at most one write a minute for each.
    ///
    /// # Errors
    /// Of the database.
    pub fn used(&self, id: &ImageId) -> Result<()> {
        self.store.write(|tx| tx.touch_image(id, Timestamp::now()))
    }

    fn event(
        &self,
        action: &str,
        id: &ImageId,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Event {
        Event::new("image", action, id.as_str()).with_all(labels.clone()).with("name", name)
    }
}

/// See [`Images::resolve`].
fn resolve(tx: &Tx<'_>, name: &str) -> Result<ImageId> {
    let query = Query::parse(name)?;
    if let Some(id) = &query.id {
        return match tx.image::<serde::de::IgnoredAny>(id)? {
            Some(_) => Ok(id.clone()),
            None => Err(query.missing()),
        };
    }
    if let Some(reference) = &query.reference
        && let Some(tag) = tx.tag(&reference.to_string())?
    {
        return Ok(tag.image);
    }
    if let Some(prefix) = &query.prefix
        && let [only] = tx.images_by_prefix(prefix)?.as_slice()
    {
        return Ok(only.clone());
    }
    Err(query.missing())
}

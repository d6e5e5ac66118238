//! The seam to layer storage, and holds: what keeps layers while no row points to them.

use super::{Images, LayerRecord};
use base::{Digest, ImageId, Result};
use image::{Applied, ConfigBlob, LayerSink};
use std::{
    fmt,
    io::{Read, Write},
    sync::{Arc, Mutex, PoisonError},
};
use store::Layer;

/// A layer that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLayer {
    /// Its id.
    pub layer: Digest,
    /// Digest of its tar.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of its tar.
    pub tar_size: u64,
    /// Whether it holds on its chain only.
    pub bound: bool,
}

/// Layers on disk, as images need them.
pub trait LayerStore: Send + Sync {
    /// Unpacks a tar on top of `parents`.
    ///
    /// # Errors
    /// See [`LayerSink::apply`].
    fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<NewLayer>;

    /// The id that a layer bound to its chain has on top of `parents`.
    fn bound_id(&self, parents: &[Digest], diff_id: &Digest) -> Digest;

    /// Whether the layer is on disk.
    fn exists(&self, layer: &Digest) -> bool;

    /// All layers on disk.
    ///
    /// # Errors
    /// Of the disk.
    fn list(&self) -> Result<Vec<Digest>>;

    /// Writes the layer's tar, byte for byte as it came.
    ///
    /// # Errors
    /// Of the disk and of `out`.
    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()>;

    /// Folder with the layer's files.
    fn path(&self, layer: &Digest) -> std::path::PathBuf;

    /// Reads the layer again and compares it with its digest.
    ///
    /// # Errors
    /// `Internal` when it is not what it was; of the disk.
    fn verify(&self, layer: &Digest) -> Result<()>;

    /// Drops the layer; its bytes may go later.
    ///
    /// # Errors
    /// Of the disk.
    fn remove(&self, layer: &Digest) -> Result<()>;

    /// Makes all layers so far survive a power cut.
    ///
    /// # Errors
    /// Of the disk.
    fn sync(&self) -> Result<()>;
}

/// Keeps layers and blobs from being collected until it is dropped.
pub struct Hold {
    images: Arc<Images>,
    layers: Mutex<Vec<Digest>>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("layers", &self.layers).finish_non_exhaustive()
    }
}

/// An image whose layers are held.
#[derive(Debug)]
pub struct Held {
    /// Its id.
    pub id: ImageId,
    /// Its config.
    pub config: ConfigBlob,
    /// Its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Keeps them.
    pub hold: Hold,
}

impl Images {
    /// An empty hold.
    pub fn hold(self: &Arc<Self>) -> Hold {
        Hold { images: Arc::clone(self), layers: Mutex::default() }
    }
}

impl Hold {
    /// Holds `layer` too.
    pub fn add(&mut self, layer: &Digest) {
        self.keep(layer);
    }

    /// As [`Hold::add`], shared.
    pub(crate) fn keep(&self, layer: &Digest) {
        *self.images.holds().entry(layer.clone()).or_default() += 1;
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(layer.clone());
    }

    /// Unpacks a tar into a layer that is held from then on.
    ///
    /// # Errors
    /// See [`LayerSink::apply`].
    pub fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<NewLayer> {
        self.make(|layers| layers.apply(parents, tar))
    }

    /// Takes a layer that `make` puts on disk, and holds it from then on; nothing is collected between.
    ///
    /// # Errors
    /// Those of `make`, and of the database.
    pub fn make(&self, make: impl FnOnce(&dyn LayerStore) -> Result<NewLayer>) -> Result<NewLayer> {
        Ok(self.make_fresh(make)?.0)
    }

    /// As [`Hold::make`], and whether the layer is new here.
    fn make_fresh(
        &self,
        make: impl FnOnce(&dyn LayerStore) -> Result<NewLayer>,
    ) -> Result<(NewLayer, bool)> {
        let images = &self.images;
        let _open = images.gate.read().unwrap_or_else(PoisonError::into_inner);
        let new = make(images.layers.as_ref())?;
        self.keep(&new.layer);
        let fresh = images.store.write(|tx| {
            let known = tx.layer::<serde::de::IgnoredAny>(&new.layer)?;
            tx.put_layer(&Layer {
                id: new.layer.clone(),
                diff_id: new.diff_id.clone(),
                size: new.size,
                doc: LayerRecord { tar_size: new.tar_size },
            })?;
            if known.is_none() {
                tx.unsettle(store::Kind::Layer, &new.layer, super::settle::boot())?;
            }
            Ok(known.is_none())
        })?;
        Ok((new, fresh))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let layers = self.layers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut holds = self.images.holds();
        for layer in layers.drain(..) {
            if let Some(count) = holds.get_mut(&layer) {
                *count -= 1;
                if *count == 0 {
                    holds.remove(&layer);
                }
            }
        }
    }
}

impl LayerSink for Hold {
    fn find(&self, diff_id: &Digest) -> Result<Option<Applied>> {
        let images = &self.images;
        let _open = images.gate.read().unwrap_or_else(PoisonError::into_inner);
        let row = images.store.read(|tx| tx.layer::<LayerRecord>(diff_id))?;
        let Some(row) = row.filter(|row| row.diff_id == *diff_id && images.layers.exists(diff_id))
        else {
            return Ok(None);
        };
        self.keep(diff_id);
        Ok(Some(Applied {
            layer: row.id,
            diff_id: row.diff_id,
            size: row.size,
            tar_size: row.doc.tar_size,
            bound: false,
            fresh: false,
        }))
    }

    fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<Applied> {
        let (new, fresh) = self.make_fresh(|layers| layers.apply(parents, tar))?;
        Ok(Applied {
            layer: new.layer,
            diff_id: new.diff_id,
            size: new.size,
            tar_size: new.tar_size,
            bound: new.bound,
            fresh,
        })
    }
}

impl From<Applied> for NewLayer {
    fn from(applied: Applied) -> Self {
        let Applied { layer, diff_id, size, tar_size, bound, fresh: _ } = applied;
        Self { layer, diff_id, size, tar_size, bound }
    }
}

//! Layers: read-only folders made of tars, and the way back to the same tar.

use crate::{Trash, error::io};
use base::{Digest, Error, Result};
use std::{
    io::{Read, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::root::Dir;

/// A layer that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Layer id: the DiffID, or an id of its own for a layer bound to its chain.
    pub layer: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content, a file with several names once.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// The content took something from the layers below, so it holds only on top of those.
    pub bound: bool,
}

/// What one tar may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries in the tar.
    pub entries: u64,
    /// Bytes of the uncompressed tar.
    pub tar_bytes: u64,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
}

/// All layers of a data root. Cheap to clone; used from many threads.
#[derive(Clone, Debug)]
pub struct Layers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    dir: Dir,
    trash: Trash,
    limits: Limits,
}

impl Layers {
    /// Opens `layers/` below `data_root`.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn open(data_root: &Path, trash: &Trash, limits: Limits) -> Result<Self> {
        let path = data_root.join("layers");
        let dir = private_dir(&path)?;
        Ok(Self { inner: Arc::new(Inner { path, dir, trash: trash.clone(), limits }) })
    }

    /// Unpacks an uncompressed `tar` on top of `parents` (layer ids, lowest first), reading it to its
    /// end.
    ///
    /// # Errors
    /// `Invalid` for a tar that is malformed, reaches outside its root, or needs parents that are not
    /// given; `Exhausted` when space or a limit runs out. Nothing is kept then.
    pub fn apply(&self, _parents: &[Digest], _tar: &mut dyn Read) -> Result<Applied> {
        Err(Error::not_implemented("apply"))
    }

    /// Writes the layer's tar, byte for byte as it came.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when the layer's files are not as they were.
    pub fn write_tar(&self, _layer: &Digest, _out: &mut dyn Write) -> Result<()> {
        Err(Error::not_implemented("write_tar"))
    }

    /// Whether the layer is on disk.
    pub fn exists(&self, layer: &Digest) -> bool {
        self.inner.dir.stat(layer.hex()).is_ok()
    }

    /// Folder with the layer's files, in the form overlayfs wants.
    pub fn path(&self, layer: &Digest) -> PathBuf {
        self.inner.path.join(layer.hex()).join("fs")
    }

    /// All layers on disk.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let entries = self.inner.dir.entries().map_err(|e| io("cannot list layers", e))?;
        let digest = |name: &std::ffi::OsStr| format!("sha256:{}", name.to_str()?).parse().ok();
        Ok(entries.iter().filter_map(|(name, _)| digest(name)).collect())
    }

    /// Drops the layer; its bytes go in the background. A missing one is fine.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, layer: &Digest) -> Result<()> {
        self.inner.trash.put(&self.inner.dir, layer.hex())
    }

    /// Makes all layers so far survive a power cut.
    ///
    /// # Errors
    /// Of the disk.
    pub fn sync(&self) -> Result<()> {
        self.inner.dir.sync_filesystem().map_err(|e| io("cannot sync the layers", e))
    }
}

/// Opens a folder that its owner alone enters, making it and its parents if need be.
pub(crate) fn private_dir(path: &Path) -> Result<Dir> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(path)
        .map_err(|e| Error::io(format!("cannot create {}", path.display()), e))?;
    Dir::open(path).map_err(|e| io(format!("cannot open {}", path.display()), e))
}

//! Containers' writable trees: an upper folder over a stack of layers.

use crate::{Applied, Layers, Trash};
use base::{Digest, Error, Result};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use sys::root::Root;

/// A writable tree on disk; nothing is mounted.
#[derive(Clone, Debug)]
pub struct Active {
    /// The container's or step's id.
    pub id: String,
    /// Layer ids, lowest first.
    pub layers: Vec<Digest>,
    /// Folders for overlayfs, topmost first: the layers, and under them a skeleton of the mount points
    /// that every container has (`/dev`, `/proc`, `/etc/hosts`, ...), which so never count as changes.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's scratch folder.
    pub work: PathBuf,
}

/// How a path differs from the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was there and is different (0 on the wire).
    Modified,
    /// It is new (1).
    Added,
    /// It is gone (2).
    Deleted,
}

/// One line of `docker diff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// What the upper folder takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of file content, a file with several names once.
    pub bytes: u64,
    /// Files, folders and the rest.
    pub inodes: u64,
}

/// What becomes of the upper folder at [`Snapshots::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It becomes the layer; the container must be stopped and is of no use afterwards.
    Take,
    /// It is copied; the container goes on.
    Copy,
}

/// All writable trees of a data root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshots {
    root: PathBuf,
    layers: Layers,
    trash: Trash,
}

impl Snapshots {
    /// Opens `containers/` and `builds/` below `data_root`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(data_root: &Path, layers: &Layers, trash: &Trash) -> Result<Self> {
        Ok(Self { root: data_root.to_owned(), layers: layers.clone(), trash: trash.clone() })
    }

    /// Makes `containers/<id>/rw` over `layers` (lowest first).
    ///
    /// # Errors
    /// `NotFound` when a layer is missing, `Conflict` when the tree exists; of the disk.
    pub fn prepare(&self, _id: &str, _layers: &[Digest]) -> Result<Active> {
        Err(Error::not_implemented("prepare"))
    }

    /// Makes `builds/<id>/rw` over `layers`, for a build's file operations and `RUN`s.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_build(&self, _id: &str, _layers: &[Digest]) -> Result<Active> {
        Err(Error::not_implemented("prepare"))
    }

    /// The tree of a container made before.
    ///
    /// # Errors
    /// `NotFound` when it or a layer is missing.
    pub fn get(&self, _id: &str, _layers: &[Digest]) -> Result<Active> {
        Err(Error::not_implemented("get"))
    }

    /// Deletes the tree, in the background. A missing one is fine.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, _active: &Active) -> Result<()> {
        let _ = (&self.root, &self.layers, &self.trash);
        Err(Error::not_implemented("remove"))
    }

    /// The merged tree, writable, as an overlay that is attached nowhere and gone when the last
    /// descriptor is. Not while a container runs on it: go through its own root then.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn mount(&self, _active: &Active) -> Result<Root> {
        Err(Error::not_implemented("mount"))
    }

    /// The merged tree of `layers` (lowest first), read-only.
    ///
    /// # Errors
    /// `NotFound` when a layer is missing; of the kernel.
    pub fn view(&self, _layers: &[Digest]) -> Result<Root> {
        Err(Error::not_implemented("view"))
    }

    /// What differs from the layers, in docker's order and sense.
    ///
    /// # Errors
    /// Of the disk.
    pub fn changes(&self, _active: &Active) -> Result<Vec<Change>> {
        Err(Error::not_implemented("changes"))
    }

    /// Writes the upper folder as a layer's tar.
    ///
    /// # Errors
    /// Of the disk and of `out`.
    pub fn diff(&self, _active: &Active, _out: &mut dyn Write) -> Result<()> {
        Err(Error::not_implemented("diff"))
    }

    /// Makes a layer of the upper folder.
    ///
    /// # Errors
    /// Of the disk.
    pub fn commit(&self, _active: &Active, _how: Commit) -> Result<Applied> {
        Err(Error::not_implemented("commit"))
    }

    /// What the upper folder takes on disk.
    ///
    /// # Errors
    /// Of the disk.
    pub fn usage(&self, _active: &Active) -> Result<Usage> {
        Err(Error::not_implemented("usage"))
    }
}

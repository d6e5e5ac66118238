//! Containers' writable trees: an upper folder over a stack of layers.

mod changes;

#[cfg(test)]
mod tests;

use crate::{
    Applied, Layers, Trash, Usage, copy,
    error::io,
    layers::private_dir,
    pack::{self, Stream, Tree},
    projects::Projects,
};
use base::{Digest, Error, Result};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use sys::{
    overlay::Upper,
    root::{Dir, Root},
};

const CONTAINERS: &str = "containers";
const BUILDS: &str = "builds";

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
    projects: Projects,
}

impl Snapshots {
    /// Opens `containers/` and `builds/` below `data_root`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(data_root: &Path, layers: &Layers, trash: &Trash) -> Result<Self> {
        private_dir(&data_root.join(CONTAINERS))?;
        private_dir(&data_root.join(BUILDS))?.spread();
        Ok(Self {
            root: data_root.to_owned(),
            layers: layers.clone(),
            trash: trash.clone(),
            projects: Projects::of(&data_root.join(CONTAINERS)),
        })
    }

    /// Whether trees can be bounded: by a project quota of the file system that is enforced.
    pub fn can_bound(&self) -> bool {
        self.projects.are_there()
    }

    /// Makes `containers/<id>/rw` over `layers` (lowest first), which may take at most `bound` bytes.
    ///
    /// # Errors
    /// `NotFound` when a layer is missing, `Conflict` when the tree exists, `Invalid` for a bound where there can
    /// be none; of the disk.
    pub fn prepare(&self, id: &str, layers: &[Digest], bound: Option<u64>) -> Result<Active> {
        self.make(CONTAINERS, id, layers, bound)
    }

    /// Makes the tree of a container again whose folders a power cut has taken: its row may reach the disk before them.
    /// Whether there was something to do.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn mend(&self, id: &str, layers: &[Digest], bound: Option<u64>) -> Result<bool> {
        let rw = self.root.join(CONTAINERS).join(id).join("rw");
        if rw.join("upper").is_dir() && rw.join("work").is_dir() {
            return Ok(false);
        }
        self.remove(&self.describe(CONTAINERS, id, layers)?)?;
        self.prepare(id, layers, bound)?;
        Ok(true)
    }

    /// Makes `builds/<id>/rw` over `layers`, for a build's file operations and `RUN`s.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_build(&self, id: &str, layers: &[Digest]) -> Result<Active> {
        self.make(BUILDS, id, layers, None)
    }

    /// The tree of a container made before.
    ///
    /// # Errors
    /// `NotFound` when it or a layer is missing.
    pub fn get(&self, id: &str, layers: &[Digest]) -> Result<Active> {
        let active = self.describe(CONTAINERS, id, layers)?;
        match Dir::open(&active.upper) {
            Ok(_) => Ok(active),
            Err(e) if e.is_missing() => {
                Err(Error::not_found(format!("the container {id} has no writable layer")))
            }
            Err(e) => Err(io(format!("cannot open the writable layer of {id}"), e)),
        }
    }

    /// Takes the bound of a container's tree away, which is going to be deleted. A missing one is fine.
    pub fn unbound(&self, id: &str) {
        if let Ok(rw) = Dir::open(&self.root.join(CONTAINERS).join(id).join("rw")) {
            self.projects.forget(&rw);
        }
    }

    /// Deletes the tree, in the background. A missing one is fine.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, active: &Active) -> Result<()> {
        let rw = active.upper.parent().unwrap_or(&active.upper);
        let own = rw.parent().unwrap_or(rw);
        match Dir::open(own) {
            Ok(dir) => self.trash.put(&dir, "rw")?,
            Err(e) if e.is_missing() => return Ok(()),
            Err(e) => {
                return Err(io(format!("cannot delete the writable layer of {}", active.id), e));
            }
        }
        // A build has nothing else in its folder.
        if own.parent().is_some_and(|all| all.ends_with(BUILDS)) {
            let _ = std::fs::remove_dir(own);
        }
        Ok(())
    }

    /// Drops all trees of builds: none outlives its engine.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove_builds(&self) -> Result<()> {
        let dir = private_dir(&self.root.join(BUILDS))?;
        let names = dir.entries().map_err(|e| io("cannot list the builds' trees", e))?;
        names.iter().try_for_each(|(name, _)| self.trash.put(&dir, name))
    }

    /// The merged tree, writable, as an overlay that is attached nowhere and gone when the last
    /// descriptor is. Not while a container runs on it: go through its own root then.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn mount(&self, active: &Active) -> Result<Root> {
        let tried = |e| io(format!("cannot mount the tree of {}", active.id), e);
        // A build's tree is worth nothing after a crash, and its unmount would sync the whole disk.
        let volatile = active.upper.starts_with(self.root.join(BUILDS));
        sys::overlay::forget_volatile(&active.work).map_err(tried)?;
        let upper = Upper { upper: &active.upper, work: &active.work, volatile };
        sys::overlay::mount(&active.lower, Some(upper), None).map(Root::from).map_err(tried)
    }

    /// The merged tree of `layers` (lowest first), read-only.
    ///
    /// # Errors
    /// `NotFound` when a layer is missing; of the kernel.
    pub fn view(&self, layers: &[Digest]) -> Result<Root> {
        self.layers.view(layers)
    }

    /// The folders of `layers` (lowest first) for an overlay that is read-only, topmost first.
    ///
    /// # Errors
    /// `NotFound` when a layer is missing.
    pub fn view_folders(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut lower = self.layers.stack(layers)?;
        // One folder alone is no overlay.
        lower.push(self.layers.skeleton());
        Ok(lower)
    }

    /// What differs from the layers, in docker's order and sense.
    ///
    /// # Errors
    /// Of the disk.
    pub fn changes(&self, active: &Active) -> Result<Vec<Change>> {
        changes::list(active)
    }

    /// Writes the upper folder as a layer's tar.
    ///
    /// # Errors
    /// Of the disk and of `out`.
    pub fn diff(&self, active: &Active, out: &mut dyn Write) -> Result<()> {
        let mut sink = Stream(out);
        pack::pack(&self.upper(active)?, b"", Tree::Upper, None, &mut sink)?;
        pack::end(&mut sink)
    }

    /// Makes a layer of the upper folder.
    ///
    /// # Errors
    /// Of the disk.
    pub fn commit(&self, active: &Active, how: Commit) -> Result<Applied> {
        let tried = |e| io(format!("cannot commit the tree of {}", active.id), e);
        let fill = |work: &Dir| match how {
            Commit::Take => {
                let rw = active.upper.parent().unwrap_or(&active.upper);
                Dir::open(rw).and_then(|rw| rw.rename("upper", work, "fs")).map_err(tried)
            }
            Commit::Copy => {
                work.mkdir("fs", 0o755).map_err(tried)?;
                let (upper, fs) = (self.upper(active)?, work.open_dir("fs").map_err(tried)?);
                copy::tree(&upper, &fs, true).map_err(tried)
            }
        };
        self.layers.adopt(fill, |fs, sink| pack::pack(fs, b"", Tree::Own, None, sink))
    }

    /// What the upper folder takes on disk.
    ///
    /// # Errors
    /// Of the disk.
    pub fn usage(&self, active: &Active) -> Result<Usage> {
        crate::usage::measure(&self.upper(active)?)
            .map_err(|e| io(format!("cannot measure the tree of {}", active.id), e))
    }

    fn upper(&self, active: &Active) -> Result<Dir> {
        Dir::open(&active.upper)
            .map_err(|e| io(format!("cannot open the tree of {}", active.id), e))
    }

    fn describe(&self, room: &str, id: &str, layers: &[Digest]) -> Result<Active> {
        // Ids are ours, yet they become a path here.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(Error::invalid(format!("invalid id {id:?}")));
        }
        let mut lower = self.layers.stack(layers)?;
        lower.push(self.layers.skeleton());
        let rw = self.root.join(room).join(id).join("rw");
        Ok(Active {
            id: id.to_owned(),
            layers: layers.to_vec(),
            lower,
            upper: rw.join("upper"),
            work: rw.join("work"),
        })
    }

    fn make(&self, room: &str, id: &str, layers: &[Digest], bound: Option<u64>) -> Result<Active> {
        let active = self.describe(room, id, layers)?;
        let tried = |e| io(format!("cannot make the writable layer of {id}"), e);
        let all = Dir::open(&self.root.join(room)).map_err(tried)?;
        match all.mkdir(id, 0o710) {
            Err(e) if !e.is_taken() => return Err(tried(e)),
            _ => {}
        }
        let own = all.open_dir(id).map_err(tried)?;
        match own.mkdir("rw", 0o700) {
            Err(e) if e.is_taken() => {
                return Err(Error::conflict(format!("the writable layer of {id} exists already")));
            }
            done => done.map_err(tried)?,
        }
        let fill = || -> Result<()> {
            let rw = own.open_dir("rw").map_err(tried)?;
            if let Some(bytes) = bound {
                self.projects.bound(&rw, "the writable layer", bytes)?;
            }
            self.fill(&rw, layers).map_err(tried)
        };
        fill().inspect_err(|_| {
            if let Err(left) = self.trash.put(&own, "rw") {
                tracing::warn!(err = %left.chain(), "cannot drop an unfinished writable layer");
            }
        })?;
        Ok(active)
    }

    fn fill(&self, rw: &Dir, layers: &[Digest]) -> sys::root::Result<()> {
        rw.mkdir("work", 0o700)?;
        rw.mkdir("upper", 0o755)?;
        let upper = rw.open_dir("upper")?;
        // In the merged tree the upper folder's own owner and mode are the root's.
        match self.layers.root_folder(layers) {
            Ok(Some(root)) => {
                let model = Dir::open(&root)?;
                copy::dress(&model, &upper, b"")?.settle(&upper)
            }
            _ => upper.set_self((0, 0), 0o755, None),
        }
    }
}

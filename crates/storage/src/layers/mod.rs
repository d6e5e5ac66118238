//! Layers: read-only folders made of tars, and the way back to the same tar.
//!
//! On disk: `layers/<hex of the id>/` with `fs/` (the files, in overlayfs's form), `meta` (how the tar was
//! written, [`record`]) and, where a tar held a name twice, `spare/`. A layer is made in `layers/tmp/`
//! and renamed; it is never changed afterwards.
//! Invariants: a layer under its name is whole; ids are DiffIDs, but for layers that took something from
//! those below. Nothing is synced until [`Layers::sync`]: an unpack writes some 10,000 files, and only
//! the image's row, written after the sync, makes them count.

mod adopt;
mod bind;
pub(crate) mod record;
mod stream;
mod unpack;
mod verify;

#[cfg(test)]
mod tests;

pub(crate) use unpack::{OPAQUE, OPAQUE_XATTR, WHITEOUT};

use crate::{Trash, error::io, folders::Folders, pack::Sink};
use base::{Digest, Error, Result};
use record::Trailer;
use rustix::{fs::OFlags, io::Errno};
use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{Read, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use sys::root::{Dir, Root};

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

impl Default for Limits {
    /// 10 million entries, 1 TiB, and 64 MiB left free.
    fn default() -> Self {
        Self { entries: 10_000_000, tar_bytes: 1 << 40, reserve: 64 << 20 }
    }
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
    tmp: Dir,
    trash: Trash,
    limits: Limits,
    /// SELinux label of their files, where containers are labelled.
    label: OnceLock<String>,
    /// Trailers are small and never change.
    known: Mutex<HashMap<Digest, Arc<Trailer>>>,
}

/// Under every container's layers: what is mounted over in each of them.
const SKELETON: &str = "skeleton";

impl Layers {
    /// Opens `layers/` below `data_root`; what a killed engine left half made goes to the trash.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn open(data_root: &Path, trash: &Trash, limits: Limits) -> Result<Self> {
        let path = data_root.join("layers");
        let dir = private_dir(&path)?;
        let tmp = private_dir(&path.join("tmp"))?;
        tmp.spread();
        let fail = |e| io(format!("cannot open {}", path.display()), e);
        for (name, _) in tmp.entries().map_err(fail)? {
            trash.put(&tmp, &name)?;
        }
        let (label, known) = Default::default();
        let inner = Inner { path, dir, tmp, trash: trash.clone(), limits, label, known };
        let layers = Self { inner: Arc::new(inner) };
        layers.make_skeleton()?;
        Ok(layers)
    }

    /// Gives all layers' files `label`, those that are there and those to come. An overlay shows another one, but the kernel
    /// asks for that of the layer's own file when a program changes the protection of memory that it is mapped in.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn relabel(&self, label: &str) -> Result<()> {
        let top = &self.inner.path;
        let fail = |e| io(format!("cannot label {}", top.display()), e);
        let own = Dir::open(top.parent().unwrap_or(top)).and_then(|root| root.label("layers"));
        // The folder is labelled last: all that is in it has the label then, or was made in it since.
        if own.map_err(fail)?.as_deref() != Some(label) {
            crate::relabel::relabel(top, label)?;
        }
        let _ = self.inner.label.set(label.to_owned());
        Ok(())
    }

    /// Unpacks an uncompressed `tar` on top of `parents` (layer ids, lowest first), reading it to its
    /// end.
    ///
    /// # Errors
    /// `Invalid` for a tar that is malformed, reaches outside its root, or needs parents that are not
    /// given; `Exhausted` when space or a limit runs out. Nothing is kept then.
    pub fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<Applied> {
        let limits = &self.inner.limits;
        let work = self.work()?;
        let stream = stream::Hashing::new(tar, limits.tar_bytes);
        let fs = work.fs()?;
        let recorder = record::Recorder::new(work.meta()?)?;
        let unpack = unpack::Unpack::new(stream, &work.dir, fs, recorder, limits)?;
        let (found, stream) = unpack.run()?;
        let (diff_id, tar_size) =
            stream.finish().map_err(|e| Error::io("cannot read the tar", e))?;
        let mut folders = Folders::new(work.fs_again()?);
        let bound = found.borrowed.any();
        let below = match parents {
            [] => None,
            parents if bound => Some(self.view(parents)?),
            _ => None,
        };
        let (owed, copied) = found.borrowed.settle(below.as_ref(), &mut folders)?;
        // What the tar itself says of a folder comes last.
        unpack::settle(&mut folders, &owed, &HashMap::new())?;
        unpack::settle(&mut folders, &found.owed, &found.dead)?;
        let trailer = Trailer {
            diff_id,
            size: found.size + copied,
            tar_size,
            bound,
            root_listed: found.root_listed,
            opaque_root: found.opaque_root,
            payloads: found.recorder.payloads(),
            moved: found.moved,
        };
        found.recorder.finish(&trailer)?;
        let id = if bound { bound_id(parents, &trailer.diff_id) } else { trailer.diff_id.clone() };
        self.publish(work, id, trailer)
    }

    /// Writes the layer's tar, byte for byte as it came.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when the layer's files are not as they were.
    pub fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        let own = self.folder(layer)?;
        let fail = |e| io(format!("cannot read the layer {layer}"), e);
        let meta = own.open_file("meta", OFlags::RDONLY).map_err(fail)?;
        let fs = own.open_dir("fs").map_err(fail)?;
        let spare = own.open_dir("spare").ok();
        record::Replay::new(meta, fs, spare, out)?.run()
    }

    /// Checks that the layer is what it was: reads all of it.
    ///
    /// # Errors
    /// `NotFound`; `Internal` with what has changed.
    pub fn verify(&self, layer: &Digest) -> Result<()> {
        verify::verify(self, layer)
    }

    /// What is known of a layer on disk.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when its record is damaged.
    pub fn inspect(&self, layer: &Digest) -> Result<Applied> {
        let trailer = self.trailer(layer)?;
        Ok(applied(layer.clone(), &trailer))
    }

    /// The id that a layer bound to its chain has on top of `parents`.
    pub fn bound_id(&self, parents: &[Digest], diff_id: &Digest) -> Digest {
        bound_id(parents, diff_id)
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
        let digest = |name: &OsStr| format!("sha256:{}", name.to_str()?).parse().ok();
        Ok(entries.iter().filter_map(|(name, _)| digest(name)).collect())
    }

    /// Drops the layer; its bytes go in the background. A missing one is fine.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, layer: &Digest) -> Result<()> {
        self.known().remove(layer);
        self.inner.trash.put(&self.inner.dir, layer.hex())
    }

    /// Makes all layers so far survive a power cut: one syncfs(2) instead of an fsync(2) per file.
    ///
    /// # Errors
    /// Of the disk.
    pub fn sync(&self) -> Result<()> {
        self.inner.dir.sync_filesystem().map_err(|e| io("cannot sync the layers", e))
    }

    /// The merged tree of `layers` (lowest first), read-only, mounted nowhere.
    ///
    /// # Errors
    /// `NotFound` when a layer is missing; of the kernel.
    pub fn view(&self, layers: &[Digest]) -> Result<Root> {
        let lower = self.stack(layers)?;
        let fail = |e| io("cannot look into the layers", e);
        match &lower[..] {
            [] => Root::open(&self.empty()).map_err(fail),
            [one] => Root::open(one).map_err(fail),
            many => sys::overlay::mount(many, None, None).map(Root::from).map_err(fail),
        }
    }

    /// The layers' folders, topmost first, down to one that hides all below it. overlayfs takes no folder
    /// twice, and a layer hides itself: where it comes again below, that is left out.
    pub(crate) fn stack(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut lower: Vec<PathBuf> = Vec::with_capacity(layers.len() + 1);
        for layer in layers.iter().rev() {
            let path = self.path(layer);
            if !lower.contains(&path) {
                lower.push(path);
            }
            if self.trailer(layer)?.opaque_root {
                break;
            }
        }
        Ok(lower)
    }

    /// The topmost layer whose tar says what the root folder is like.
    pub(crate) fn root_folder(&self, layers: &[Digest]) -> Result<Option<PathBuf>> {
        for layer in layers.iter().rev() {
            if self.trailer(layer)?.root_listed {
                return Ok(Some(self.path(layer)));
            }
        }
        Ok(None)
    }

    /// Makes a layer of a folder in overlayfs's form: `fill` moves or copies it to `fs` in the folder it
    /// is given, `pack` writes it as a tar.
    pub(crate) fn adopt(
        &self,
        fill: impl FnOnce(&Dir) -> Result<()>,
        pack: impl FnOnce(&Dir, &mut dyn Sink) -> Result<()>,
    ) -> Result<Applied> {
        let work = self.work()?;
        fill(&work.dir)?;
        let fs = work.fs_again()?;
        if let Some(label) = self.inner.label.get() {
            // It may have been a container's, with a label that is no other one's.
            fs.try_clone()
                .and_then(|fs| crate::relabel::all_in(fs, label))
                .map_err(|e| io("cannot label a new layer", e))?;
        }
        let mut sink = adopt::Hash::new(record::Recorder::new(work.meta()?)?);
        pack(&fs, &mut sink)?;
        crate::pack::end(&mut sink)?;
        let (recorder, trailer) = sink.finish();
        recorder.finish(&trailer)?;
        let id = trailer.diff_id.clone();
        self.publish(work, id, trailer)
    }

    pub(crate) fn trailer(&self, layer: &Digest) -> Result<Arc<Trailer>> {
        if let Some(known) = self.known().get(layer) {
            return Ok(Arc::clone(known));
        }
        let own = self.folder(layer)?;
        let meta = own
            .open_file("meta", OFlags::RDONLY)
            .map_err(|e| io(format!("cannot read the layer {layer}"), e))?;
        let trailer = Arc::new(record::trailer(&meta)?);
        self.known().insert(layer.clone(), Arc::clone(&trailer));
        Ok(trailer)
    }

    pub(crate) fn skeleton(&self) -> PathBuf {
        self.inner.path.join(SKELETON).join("fs")
    }

    fn empty(&self) -> PathBuf {
        self.inner.path.join(SKELETON).join("empty")
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Trailer>>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, layer: &Digest) -> Result<Dir> {
        self.inner.dir.open_dir(layer.hex()).map_err(|e| {
            if e.is_missing() {
                return Error::not_found(format!("layer {layer} does not exist"));
            }
            io(format!("cannot open the layer {layer}"), e)
        })
    }

    fn work(&self) -> Result<Work> {
        let name = base::id::random_hex();
        let tmp = &self.inner.tmp;
        let opened = || {
            tmp.open_dir(&name).inspect_err(|_| {
                let _ = tmp.rmdir(&name);
            })
        };
        let made = tmp.mkdir(&name, 0o700).and_then(|()| opened());
        let dir = made.map_err(|e| io("cannot make a layer", e))?;
        Ok(Work { layers: self.clone(), name, dir, kept: false })
    }

    /// Gives a finished layer its name. One that is there already wins.
    fn publish(&self, mut work: Work, id: Digest, trailer: Trailer) -> Result<Applied> {
        match self.inner.tmp.rename(&work.name, &self.inner.dir, id.hex()) {
            Ok(()) => work.kept = true,
            Err(e) if matches!(e.errno(), Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(e) => return Err(io(format!("cannot keep the layer {id}"), e)),
        }
        let applied = applied(id.clone(), &trailer);
        self.known().insert(id, Arc::new(trailer));
        Ok(applied)
    }

    /// What containers' mount points lie on. It is the lowest layer of all, so an image's own files win,
    /// and nothing of it ever counts as a change.
    fn make_skeleton(&self) -> Result<()> {
        if self.exists_named(SKELETON) {
            return Ok(());
        }
        let work = self.work()?;
        let make = || -> sys::root::Result<()> {
            work.dir.mkdir("empty", 0o755)?;
            work.dir.mkdir("fs", 0o755)?;
            let fs = Root::from(work.dir.open_dir("fs")?);
            for dir in ["dev/pts", "dev/shm", "proc", "sys", "etc"] {
                fs.mkdir_all(dir, 0o755, None)?;
            }
            for file in
                ["etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console", ".dockerenv"]
            {
                let (dir, name) = fs.parent(file)?;
                sys::root::chmod_open(dir.create_new(name, 0o755)?, 0o755)?;
            }
            fs.symlink("/proc/mounts", "etc/mtab")?;
            for dir in ["fs", "empty"] {
                work.dir.chmod(dir, 0o755)?;
            }
            Ok(())
        };
        make().map_err(|e| io("cannot make the skeleton of containers", e))?;
        match self.inner.tmp.rename(&work.name, &self.inner.dir, SKELETON) {
            Err(e) if !matches!(e.errno(), Errno::EXIST | Errno::NOTEMPTY) => {
                Err(io("cannot make the skeleton of containers", e))
            }
            _ => Ok(()),
        }
    }

    fn exists_named(&self, name: &str) -> bool {
        self.inner.dir.stat(name).is_ok()
    }
}

fn applied(layer: Digest, trailer: &Trailer) -> Applied {
    Applied {
        layer,
        diff_id: trailer.diff_id.clone(),
        size: trailer.size,
        tar_size: trailer.tar_size,
        bound: trailer.bound,
    }
}

/// Never the DiffID, so that a bound layer is not taken for one that fits everywhere.
fn bound_id(parents: &[Digest], diff_id: &Digest) -> Digest {
    let mut text = "bound".to_owned();
    for id in parents.iter().chain([diff_id]) {
        text.push(' ');
        text.push_str(id.as_str());
    }
    Digest::sha256(text.as_bytes())
}

/// A layer being made; goes to the trash unless it was published.
struct Work {
    layers: Layers,
    name: String,
    dir: Dir,
    kept: bool,
}

impl Work {
    fn fs(&self) -> Result<Dir> {
        let fail = |e| io("cannot make a layer", e);
        self.dir.mkdir("fs", 0o755).map_err(fail)?;
        let fs = self.fs_again()?;
        sys::root::chmod_open(&fs, 0o755).map_err(fail)?;
        Ok(fs)
    }

    fn fs_again(&self) -> Result<Dir> {
        self.dir.open_dir("fs").map_err(|e| io("cannot make a layer", e))
    }

    fn meta(&self) -> Result<std::fs::File> {
        self.dir.create_new("meta", 0o600).map_err(|e| io("cannot make a layer", e))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.kept
            && let Err(err) = self.layers.inner.trash.put(&self.layers.inner.tmp, &self.name)
        {
            tracing::warn!(err = %err.chain(), "cannot drop an unfinished layer");
        }
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

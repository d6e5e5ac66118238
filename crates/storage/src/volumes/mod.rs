//! Volumes' folders: `volumes/<name>/_data`, as the local driver keeps them, and what is mounted on them.
//!
//! Invariant: a folder that something is mounted on is never deleted or moved.
//! Not here: rows, labels, who uses which volume (engine).

use crate::{Trash, Usage, copy, error::io, layers::private_dir, projects::Projects};
use base::{Error, Result};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use sys::root::{Dir, Root};

mod device;

pub use device::Device;

/// Where an image's content is copied before it is moved in.
const COPY: &str = ".gantry-copy";

/// All volumes of a data root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volumes {
    path: PathBuf,
    trash: Trash,
    projects: Projects,
}

impl Volumes {
    /// Opens `volumes/` below `data_root`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(data_root: &Path, trash: &Trash) -> Result<Self> {
        let path = data_root.join("volumes");
        private_dir(&path)?;
        let projects = Projects::of(&path);
        Ok(Self { path, trash: trash.clone(), projects })
    }

    fn dir(&self) -> Result<Dir> {
        Dir::open(&self.path).map_err(|e| io("cannot open the volumes' folder", e))
    }

    /// The volume's data: `volumes/<name>/_data`.
    ///
    /// # Errors
    /// `Invalid` for a name that is not one.
    pub fn mountpoint(&self, name: &str) -> Result<PathBuf> {
        base::names::check("volume", name)?;
        Ok(self.path.join(name).join("_data"))
    }

    /// Whether volumes can be bounded: by a project quota of the file system that is enforced.
    pub fn can_bound(&self) -> bool {
        self.projects.are_there()
    }

    /// Makes the volume's folder, which may take at most `bound` bytes; one that is there stays as it is.
    ///
    /// # Errors
    /// `Invalid` for a bad name, and for a bound where there can be none; of the disk.
    pub fn create(&self, name: &str, bound: Option<u64>) -> Result<PathBuf> {
        let data = self.mountpoint(name)?;
        let tried = |e| io(format!("cannot create the volume {name}"), e);
        let all = self.dir()?;
        let new = match all.mkdir(name, 0o710) {
            Ok(()) => true,
            Err(e) if e.is_taken() => false,
            Err(e) => return Err(tried(e)),
        };
        let fill = || {
            let own = all.open_dir(name).map_err(tried)?;
            if let Some(bytes) = bound.filter(|_| new) {
                self.projects.bound(&own, &format!("the volume {name}"), bytes)?;
            }
            match own.mkdir("_data", 0o755) {
                Ok(()) => own.chmod("_data", 0o755).map_err(tried),
                Err(e) if e.is_taken() => Ok(()),
                Err(e) => Err(tried(e)),
            }
        };
        fill().inspect_err(|_| {
            if new && let Err(left) = self.trash.put(&all, name) {
                tracing::warn!(vol = name, err = %left.chain(), "cannot drop an unfinished volume");
            }
        })?;
        Ok(data)
    }

    /// Deletes the volume's folder, in the background. A missing one is fine.
    ///
    /// # Errors
    /// `Invalid` for a bad name; of the disk.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.unmount(name)?;
        let all = self.dir()?;
        if let Ok(own) = all.open_dir(name) {
            self.projects.forget(&own);
        }
        self.trash.put(&all, name)
    }

    /// Whether a file system is mounted on the volume's folder.
    ///
    /// # Errors
    /// `Invalid` for a bad name; of the disk. A missing folder is none that is mounted on.
    pub fn is_mounted(&self, name: &str) -> Result<bool> {
        let path = self.mountpoint(name)?;
        match sys::mount::is_root(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.map_err(|e| Error::io(format!("cannot look at {}", path.display()), e)),
        }
    }

    /// Mounts `device` on the volume's folder; one that is mounted already stays.
    ///
    /// # Errors
    /// `Invalid` with the kernel's reason.
    pub fn mount(&self, name: &str, device: &Device) -> Result<()> {
        if self.is_mounted(name)? {
            return Ok(());
        }
        device.mount(&self.mountpoint(name)?)
    }

    /// Takes off whatever is mounted on the volume's folder.
    ///
    /// # Errors
    /// `Invalid` for a bad name; of the kernel.
    pub fn unmount(&self, name: &str) -> Result<()> {
        let path = self.mountpoint(name)?;
        // A daemon that died between two steps may have left more than one.
        while self.is_mounted(name)? {
            sys::mount::detach(&path)
                .map_err(|e| Error::io(format!("cannot unmount {}", path.display()), e))?;
        }
        Ok(())
    }

    /// Gives a volume's folder another name.
    ///
    /// # Errors
    /// `Invalid` for a bad name; `NotFound`; `Conflict` when the new name is taken; of the disk.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        base::names::check("volume", new)?;
        self.unmount(name)?;
        let all = self.dir()?;
        if all.open_dir(new).is_ok() {
            return Err(Error::conflict(format!("rename {name}: the volume {new} exists")));
        }
        all.rename(std::ffi::OsStr::new(name), &all, std::ffi::OsStr::new(new))
            .map_err(|e| io(format!("cannot rename the volume {name} to {new}"), e))
    }

    /// Copies all of volume `from` into the empty volume `into`: names, owners, modes, times, attributes,
    /// hard links.
    ///
    /// # Errors
    /// `NotFound`; of the disk. What was copied until then stays: the caller drops the volume.
    pub fn copy(&self, from: &str, into: &str) -> Result<()> {
        let (source, target) = (self.data(from)?, self.data(into)?);
        let tried = |e| io(format!("cannot copy the volume {from} to {into}"), e);
        copy::tree(&source, &target, false).map_err(tried)?;
        copy::dress(&source, &target, b"").and_then(|owed| owed.settle(&target)).map_err(tried)
    }

    /// Names of the folders there are.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<String>> {
        let entries = self.dir()?.entries().map_err(|e| io("cannot list volumes", e))?;
        Ok(entries.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect())
    }

    /// What the volume takes on disk.
    ///
    /// # Errors
    /// `NotFound`; of the disk.
    pub fn usage(&self, name: &str) -> Result<Usage> {
        let data = self.data(name)?;
        crate::usage::measure(&data).map_err(|e| io(format!("cannot measure the volume {name}"), e))
    }

    /// Fills an empty volume with what the image has at `path`, with owner and mode of the folder, as at
    /// the first use of a named volume. A volume with content, or an image without the folder, is left.
    ///
    /// # Errors
    /// `NotFound`; of the disk.
    pub fn copy_up(&self, name: &str, image: &Root, path: &Path) -> Result<()> {
        let data = self.data(name)?;
        // Beside the data first, so that a crash leaves the volume empty and not half full; moved in by
        // name, because a container may have the folder mounted already.
        let own = Dir::open(&self.path.join(name))
            .map_err(|e| io(format!("cannot open the volume {name}"), e))?;
        fill(&data, &own, image, path).map_err(|e| {
            if let Err(left) = self.trash.put(&own, COPY) {
                tracing::warn!(err = %left.chain(), "cannot drop an unfinished copy");
            }
            io(format!("cannot fill the volume {name} from the image"), e)
        })
    }

    /// The volume's content as a root that no path leaves.
    ///
    /// # Errors
    /// `NotFound`; of the disk.
    pub fn root(&self, name: &str) -> Result<Root> {
        let path = self.mountpoint(name)?;
        Root::open(&path).map_err(|e| {
            if e.is_missing() {
                return Error::not_found(format!("get {name}: no such volume"));
            }
            io(format!("cannot open the volume {name}"), e)
        })
    }

    fn data(&self, name: &str) -> Result<Dir> {
        self.root(name)?.dir().map_err(|e| io(format!("cannot open the volume {name}"), e))
    }
}

/// The same for a folder of somebody else: what is copied waits in the folder itself until it is whole.
///
/// # Errors
/// Of the disk.
pub fn fill_empty(folder: &Path, image: &Root, path: &Path) -> Result<()> {
    let tried = |e| io(format!("cannot fill {} from the image", folder.display()), e);
    let data = Dir::open(folder).map_err(tried)?;
    fill(&data, &data, image, path).map_err(|e| {
        if let Err(left) = data.remove_all(COPY) {
            tracing::warn!(err = %left, "cannot drop an unfinished copy");
        }
        tried(e)
    })
}

/// Fills `data`, when nothing is in it, by way of a folder in `beside`.
fn fill(data: &Dir, beside: &Dir, image: &Root, path: &Path) -> sys::root::Result<()> {
    // A copy that broke off is nobody's content.
    if data.entries()?.iter().any(|(name, _)| name != COPY) {
        return Ok(());
    }
    let source = match image.open_dir(path) {
        Ok(source) => source,
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(e),
    };
    beside.remove_all(COPY)?;
    beside.mkdir(COPY, 0o700)?;
    let copy = beside.open_dir(COPY)?;
    copy::tree(&source, &copy, false)?;
    let owed = copy::dress(&source, data, b"")?;
    for (name, _) in copy.entries()? {
        copy.rename(&name, data, &name)?;
    }
    beside.rmdir(COPY)?;
    owed.settle(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::EntryKind;
    use crate::testing::{Host, Smith, entry};
    use base::Kind;
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    #[test]
    fn names_stay_in_the_folder() {
        let host = Host::new();
        let volumes = Volumes::open(&host.root(), &host.trash).unwrap();
        for bad in
            ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "-x", ".x", "a b", "é", "x", "a\n"]
        {
            let err = volumes.create(bad, None).unwrap_err();
            assert_eq!(err.kind(), Kind::Invalid, "{bad:?}");
            assert_eq!(volumes.remove(bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
        assert!(volumes.list().unwrap().is_empty());
        let data = volumes.create("good", None).unwrap();
        fs::write(data.join("f"), b"12345").unwrap();
        volumes.create("good", None).unwrap();
        assert_eq!(volumes.usage("good").unwrap(), Usage { bytes: 5, inodes: 1 });
        volumes.remove("good").unwrap();
        volumes.remove("good").unwrap();
        assert!(!data.exists());
        assert_eq!(volumes.usage("good").unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn the_first_use_copies_the_image_once() {
        let host = Host::new();
        let volumes = Volumes::open(&host.root(), &host.trash).unwrap();
        let mut dir = entry(EntryKind::Dir, "data", b"");
        (dir.mode, dir.uid, dir.gid) = (0o1770, 5, 6);
        let tar = Smith::default()
            .add(&dir, b"")
            .file("data/f", b"content")
            .link("data/g", b"data/f")
            .symlink("data/s", b"/etc/passwd")
            .symlink("to", b"/data")
            .end();
        let image = host.snapshots.view(&[host.layer(&[], &tar)]).unwrap();
        let data = volumes.create("one", None).unwrap();
        volumes.copy_up("one", &image, Path::new("/to")).unwrap();
        let folder = fs::metadata(&data).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.uid(), folder.gid()), (0o1770, 5, 6));
        assert_eq!(folder.mtime(), 1_600_000_000);
        assert_eq!(fs::metadata(data.join("g")).unwrap().nlink(), 2);
        assert!(fs::symlink_metadata(data.join("s")).unwrap().is_symlink());
        fs::remove_file(data.join("f")).unwrap();
        volumes.copy_up("one", &image, Path::new("/data")).unwrap();
        assert!(!data.join("f").exists());
        let plain = volumes.create("two", None).unwrap();
        volumes.copy_up("two", &image, Path::new("/nothing")).unwrap();
        assert_eq!(fs::metadata(plain).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_dir(host.root().join("volumes/one")).unwrap().count(), 1);
    }
}

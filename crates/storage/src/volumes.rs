//! Volumes' folders: `volumes/<name>/_data`, as the local driver keeps them.
//!
//! Not here: rows, labels, who uses which volume (engine).

use crate::{Trash, Usage, error::io, layers::private_dir};
use base::{Error, Result};
use std::path::{Path, PathBuf};
use sys::root::{Dir, Root};

/// All volumes of a data root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volumes {
    path: PathBuf,
    trash: Trash,
}

impl Volumes {
    /// Opens `volumes/` below `data_root`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(data_root: &Path, trash: &Trash) -> Result<Self> {
        let path = data_root.join("volumes");
        private_dir(&path)?;
        Ok(Self { path, trash: trash.clone() })
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

    /// Makes the volume's folder; one that is there stays.
    ///
    /// # Errors
    /// `Invalid` for a bad name; of the disk.
    pub fn create(&self, name: &str) -> Result<PathBuf> {
        let data = self.mountpoint(name)?;
        let tried = |e| io(format!("cannot create the volume {name}"), e);
        let all = self.dir()?;
        for step in [all.mkdir(name, 0o710)] {
            match step {
                Err(e) if !e.is_taken() => return Err(tried(e)),
                _ => {}
            }
        }
        let own = all.open_dir(name).map_err(tried)?;
        match own.mkdir("_data", 0o755) {
            Ok(()) => own.chmod("_data", 0o755).map_err(tried)?,
            Err(e) if e.is_taken() => {}
            Err(e) => return Err(tried(e)),
        }
        Ok(data)
    }

    /// Deletes the volume's folder, in the background. A missing one is fine.
    ///
    /// # Errors
    /// `Invalid` for a bad name; of the disk.
    pub fn remove(&self, name: &str) -> Result<()> {
        base::names::check("volume", name)?;
        self.trash.put(&self.dir()?, name)
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
    pub fn usage(&self, _name: &str) -> Result<Usage> {
        Err(Error::not_implemented("usage"))
    }

    /// Fills an empty volume with what the image has at `path`, with owner and mode of the folder, as at
    /// the first use of a named volume. A volume with content, or an image without the path, is left.
    ///
    /// # Errors
    /// Of the disk.
    pub fn copy_up(&self, _name: &str, _image: &Root, _path: &Path) -> Result<()> {
        Err(Error::not_implemented("copy_up"))
    }
}

//! Deleting in two steps: a rename to `trash/` that takes no time and cannot half happen, then the
//! deletion itself, in the background and at the next start. What cannot be renamed (a full disk may have no room for the
//! name) is deleted where it is: it is known to nobody any more when it comes here.

use crate::error::io;
use base::{Result, id::random_hex};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use sys::root::Dir;

/// The folder of what is to be deleted, and the one thread that does it.
#[derive(Clone, Debug)]
pub struct Trash {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    dir: Dir,
    running: Mutex<bool>,
    idle: Condvar,
    more: AtomicBool,
}

impl Trash {
    /// Opens `trash/` below `data_root`, making it if need be, and begins to empty it.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn open(data_root: &Path) -> Result<Self> {
        let path = data_root.join("trash");
        let dir = crate::layers::private_dir(&path)?;
        let trash = Self {
            inner: Arc::new(Inner {
                path,
                dir,
                running: Mutex::new(false),
                idle: Condvar::new(),
                more: AtomicBool::new(false),
            }),
        };
        trash.empty_in_background();
        Ok(trash)
    }

    /// Moves `name` out of `parent` and deletes it in the background. A missing one is fine.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk; then it, or a part of it, is still there.
    pub fn put(&self, parent: &Dir, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        let tried = || format!("cannot delete {}", name.display());
        match parent.rename(name, &self.inner.dir, random_hex()) {
            Ok(()) => {}
            Err(e) if e.is_missing() => return Ok(()),
            Err(e) => return parent.remove_all(name).map_err(|_| io(tried(), e)),
        }
        self.empty_in_background();
        Ok(())
    }

    /// Waits until the trash is empty or what is in it cannot be deleted.
    pub fn settle(&self) {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        while *running {
            running = self.inner.idle.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn empty_in_background(&self) {
        self.inner.more.store(true, Ordering::Release);
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *running {
            return;
        }
        let inner = Arc::clone(&self.inner);
        // One thread that ends when there is nothing left; if none can be had, the next start deletes.
        let spawned = std::thread::Builder::new().name("trash".into()).spawn(move || inner.run());
        *running = spawned.is_ok();
    }
}

impl Inner {
    fn run(&self) {
        loop {
            while self.more.swap(false, Ordering::AcqRel) {
                for (name, _) in self.dir.entries().unwrap_or_default() {
                    if let Err(err) = self.dir.remove_all(&name) {
                        tracing::warn!(err = %base::error::chain(&err), "cannot empty the trash");
                    }
                }
            }
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.more.load(Ordering::Acquire) {
                *running = false;
                self.idle.notify_all();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_renamed_is_deleted_where_it_is() {
        // Another file system than the trash's.
        let here = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(here.path().join("a/b")).unwrap();
        std::fs::write(here.path().join("a/b/f"), "x").unwrap();
        let trash = Trash::open(root.path()).unwrap();
        let parent = Dir::open(here.path()).unwrap();
        trash.put(&parent, "a").unwrap();
        assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
        trash.put(&parent, "a").unwrap();
    }
}

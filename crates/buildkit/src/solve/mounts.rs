//! Cache mounts: folders that commands keep from build to build (`RUN --mount=type=cache`).
//!
//! A folder is found by the mount's id. `shared` ones are used by several commands at once, `locked` ones by
//! one after another, and of a `private` one each command gets a copy of its own.

use super::blocking;
use crate::{proto::pb, site::private};
use base::{Digest, Error, Result, Timestamp};
use build::copy::Action;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use sys::root::Root;

/// All cache mounts of the engine.
#[derive(Debug)]
pub(crate) struct CacheMounts {
    home: PathBuf,
    /// Folders in use by one command, and how many use a shared one.
    used: Mutex<HashMap<PathBuf, usize>>,
    taken: Mutex<HashSet<PathBuf>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Bytes of those that nobody has used since they were counted.
    sizes: Mutex<HashMap<PathBuf, u64>>,
    /// What is removed goes here first, so that it goes at once.
    grave: PathBuf,
}

/// What is written down of a cache mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// The id by which commands find it.
    pub(crate) id: String,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// When it was last used.
    pub(crate) used: Timestamp,
}

/// A cache mount in use.
#[derive(Debug)]
pub(crate) struct Lease {
    mounts: Arc<CacheMounts>,
    folder: PathBuf,
    path: PathBuf,
    private: bool,
    _turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Lease {
    /// The folder on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = lock(&self.mounts.used);
        if let Some(count) = used.get_mut(&self.folder) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.folder);
            }
        }
        if self.private {
            lock(&self.mounts.taken).remove(&self.folder);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CacheMounts {
    /// Those below `home`; `grave` is a folder beside it that is emptied at each start.
    pub(crate) fn new(home: PathBuf, grave: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            home,
            grave,
            sizes: Mutex::default(),
            used: Mutex::default(),
            taken: Mutex::default(),
            turns: Mutex::default(),
        })
    }

    /// The folder of `id`; a new one begins as a copy of `start`.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        id: &str,
        sharing: pb::CacheSharingOpt,
        start: Option<(Arc<Root>, String)>,
    ) -> Result<Lease> {
        let name = Digest::sha256(id.as_bytes()).hex()[..32].to_owned();
        let turn = match sharing {
            pb::CacheSharingOpt::Locked => {
                let turn = Arc::clone(lock(&self.turns).entry(name.clone()).or_default());
                Some(turn.lock_owned().await)
            }
            _ => None,
        };
        let own = sharing == pb::CacheSharingOpt::Private;
        let folder = {
            let mut taken = lock(&self.taken);
            let mut number = 0;
            loop {
                let folder = self.home.join(format!("{name}-{number}"));
                if !taken.contains(&folder) {
                    if own {
                        taken.insert(folder.clone());
                    }
                    break folder;
                }
                number += 1;
            }
        };
        *lock(&self.used).entry(folder.clone()).or_default() += 1;
        lock(&self.sizes).remove(&folder);
        let lease = Lease {
            mounts: Arc::clone(self),
            path: folder.join("fs"),
            folder: folder.clone(),
            private: own,
            _turn: turn,
        };
        let id = id.to_owned();
        blocking(move || prepare(&folder, &id, start)).await?;
        Ok(lease)
    }

    /// All cache mounts: name, what is known of each, bytes, and whether a command uses it.
    pub(crate) fn list(&self) -> Vec<(String, About, u64, bool)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.home).into_iter().flatten().flatten() {
            let folder = entry.path();
            let Some(about) = about(&folder) else { continue };
            let used = lock(&self.used).contains_key(&folder);
            let name = entry.file_name().to_string_lossy().into_owned();
            let counted = lock(&self.sizes).get(&folder).copied();
            let bytes = counted.unwrap_or_else(|| {
                let bytes = size(&folder.join("fs"));
                // One that came into use meanwhile is counted again.
                let used = lock(&self.used);
                if !used.contains_key(&folder) {
                    lock(&self.sizes).insert(folder.clone(), bytes);
                }
                bytes
            });
            all.push((name, about, bytes, used));
        }
        all
    }

    /// Removes the cache mount called `name`, unless a command uses it.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn remove(&self, name: &str) -> Result<bool> {
        let folder = self.home.join(name);
        let grave = self.grave.join(format!("{name}-{}", base::ContainerId::random().short()));
        let fail = |e| Error::io(format!("cannot remove the cache mount {name}"), e);
        {
            let used = lock(&self.used);
            if used.contains_key(&folder) {
                return Ok(false);
            }
            std::fs::rename(&folder, &grave).map_err(fail)?;
            lock(&self.sizes).remove(&folder);
        }
        std::fs::remove_dir_all(&grave).map(|()| true).map_err(fail)
    }
}

fn about(folder: &Path) -> Option<About> {
    serde_json::from_slice(&std::fs::read(folder.join("about.json")).ok()?).ok()
}

fn prepare(folder: &Path, id: &str, start: Option<(Arc<Root>, String)>) -> Result<()> {
    let now = Timestamp::now();
    let known = about(folder);
    let note =
        About { id: id.to_owned(), created: known.as_ref().map_or(now, |a| a.created), used: now };
    if known.is_none() {
        private(folder)?;
        let fs = folder.join("fs");
        match std::fs::create_dir(&fs) {
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {}
            done => done.map_err(|e| Error::io("cannot make a cache mount", e))?,
        }
        if let Some((root, path)) = start {
            fill(&fs, &root, &path)?;
        } else {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&fs, std::fs::Permissions::from_mode(0o755))
                .map_err(|e| Error::io("cannot make a cache mount", e))?;
        }
    }
    let json =
        serde_json::to_vec(&note).map_err(|e| Error::internal("cannot write JSON").caused_by(e))?;
    std::fs::write(folder.join("about.json"), json)
        .map_err(|e| Error::io("cannot write down a cache mount", e))
}

/// Lets a new cache mount begin as what is at `path`, owner and mode of the folder itself included.
fn fill(fs: &Path, root: &Arc<Root>, path: &str) -> Result<()> {
    let fail = |e: sys::root::Error| Error::io("cannot fill a cache mount", e.into());
    let to = Root::open(fs).map_err(fail)?;
    let action = Action {
        src: path.to_owned(),
        dest: "/".into(),
        contents: true,
        follow: true,
        ..Action::default()
    };
    action.select(root)?.run(&action, &to, &|_, _| Ok(()))?;
    let stat = root.stat(path).map_err(fail)?;
    let own = to.dir().map_err(fail)?;
    own.set_self((stat.uid, stat.gid), stat.mode, None).map_err(fail)
}

/// Bytes of the files below a folder, roughly: what cannot be read counts for nothing.
fn size(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

//! What all builds of the engine share: kept contexts, cache mounts, turns, and steps under way.

use crate::{filesync::Trees, solve::mounts::CacheMounts};
use base::{Error, Result};
use engine::Engine;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use sys::root::Dir;
use tokio::sync::Semaphore;

/// Shared by all builds.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: Arc<Engine>,
    /// Kept folders of clients.
    pub(crate) trees: Arc<Trees>,
    /// `RUN --mount=type=cache`.
    pub(crate) mounts: Arc<CacheMounts>,
    /// Commands that may run at once.
    pub(crate) turns: Semaphore,
    /// Steps under way, by key: two builds that want the same do it once.
    under_way: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Archives that came by HTTP, until builds take them.
    pub(crate) uploads: crate::endpoint::Uploads,
    /// Where secrets and agents' sockets are while a step sees them: memory.
    pub(crate) volatile: PathBuf,
}

impl Site {
    /// Empties what an earlier process left.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn open(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        let home = engine.data_root().join("buildkit");
        let volatile = engine.exec_root().join("buildkit");
        for stale in [home.join("contexts"), volatile.clone()] {
            match std::fs::remove_dir_all(&stale) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("cannot empty {}", stale.display()), err));
                }
                _ => {}
            }
        }
        for folder in [home.join("contexts"), home.join("mounts")] {
            private(&folder)?;
        }
        if let Ok(contexts) = Dir::open(&home.join("contexts")) {
            contexts.spread();
        }
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Ok(Arc::new(Self {
            engine: Arc::clone(engine),
            trees: Trees::new(home.join("contexts")),
            mounts: CacheMounts::new(home.join("mounts"), home.join("contexts")),
            turns: Semaphore::new((cores * 2).max(4)),
            under_way: Mutex::default(),
            uploads: crate::endpoint::Uploads::default(),
            volatile,
        }))
    }

    /// Bytes that are free on the engine's disk, and that it has.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn disk(&self) -> Result<(u64, u64)> {
        let root = self.engine.data_root();
        let stat = rustix::fs::statvfs(root).map_err(|e| {
            Error::io(format!("cannot ask for the space of {}", root.display()), e.into())
        })?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
    }

    /// Waits until nobody else does the step with `key`, and keeps others waiting meanwhile.
    pub(crate) async fn alone(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turn| turn.strong_count() > 0);
            match all.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    all.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// Makes a folder that only the engine sees.
pub(crate) fn private(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(format!("cannot make {}", path.display()), e))
}

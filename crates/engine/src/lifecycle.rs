//! The engine's own life: open the stores, recover what runs, stop in order.

use crate::{Config, events::Events};
use base::{Error, Result};
use std::{path::Path, sync::Arc};
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One engine over one data root.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) events: Events,
    /// Background work; an ordered stop waits for it.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the daemon stops.
    pub(crate) stop: CancellationToken,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("data_root", &self.config.data_root).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the data root and takes up whatever was running.
    ///
    /// # Errors
    /// `Conflict` when another engine holds the data root; of the disk and the database otherwise.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        for dir in [&config.data_root, &config.exec_root] {
            private_dir(dir)?;
        }
        let store = Arc::new(Store::open(&config.data_root.join("gantry.db"))?);
        let events = Events::new(&store);
        Ok(Arc::new(Self {
            config,
            store,
            events,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The event hub.
    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// Makes `dir` and its parents, entered by its owner alone.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(dir)
        .map_err(|e| Error::io(format!("cannot create {}", dir.display()), e))
}

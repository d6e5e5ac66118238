//! Watching over networks while the engine lives: rules that someone flushed come back at once, links that
//! outlived their containers go.

use crate::Engine;
use base::{Error, Result};
use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

/// Pause after watching failed, which is a matter of memory or descriptors.
const RETRY: Duration = Duration::from_secs(10);

impl Engine {
    /// Watches until the engine stops.
    pub(crate) fn watch_networks(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Err(err) = engine.watch_once().await {
                tracing::error!(err = err.chain(), "networks are not watched over for now");
                tokio::select! {
                    () = engine.stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        });
    }

    async fn watch_once(self: &Arc<Self>) -> Result<()> {
        let (stop, stopped) =
            UnixStream::pair().map_err(|e| Error::io("cannot make a pair of sockets", e))?;
        let engine = Arc::clone(self);
        let mut watcher =
            tokio::task::spawn_blocking(move || engine.networks.watch(stopped.as_fd()));
        let ended = tokio::select! {
            ended = &mut watcher => ended,
            () = self.stop.cancelled() => {
                // The watcher sees the other end close.
                drop(stop);
                watcher.await
            }
        };
        ended.map_err(|e| Error::internal("the watcher of networks broke").caused_by(e))?
    }
}

//! Watching over networks while the engine lives: rules that someone flushed come back at once, links that
//! outlived their containers go.

use crate::Engine;
use base::{Error, Result, event::Event};
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
        let mut watcher = tokio::task::spawn_blocking(move || {
            engine.networks.watch(stopped.as_fd(), |repair| engine.tell_of_repair(repair))
        });
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

    /// Says that rules were taken and put back: `network restore`.
    fn tell_of_repair(&self, repair: &network::Repair) {
        let event = Event::new("network", "restore", "")
            .with("table", repair.table_made.to_string())
            .with("portsAdded", repair.ports_added.to_string())
            .with("portsRemoved", repair.ports_removed.to_string());
        let told = self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        });
        if let Err(err) = told {
            tracing::error!(err = err.chain(), "a repair of networks was not told");
        }
    }
}

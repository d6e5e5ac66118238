//! Plugins for networks and addresses, as the crate `network` asks them: from threads that may block, by the engine's
//! runtime, with notes in the journal.

use crate::Engine;
use base::{ContainerId, Error, Result, Timestamp};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use store::{Journal, Store};
use tokio::runtime::Handle;

/// The name of the notes in the journal.
const NOTES: &str = "plugin-endpoint";
/// How long to wait before plugins are told again what they have to be told: from, to.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The end of a container waits that long for plugins, which go on being told; so does who looks at a network.
const PARTING: Duration = Duration::from_secs(5);

/// How networks ask plugins.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) plugins: plugin::Plugins,
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Handle,
}

impl Asked {
    /// Waits for an answer on a thread that may wait; one that serves others makes room for another first.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.runtime.block_on(work))
    }
}

impl network::Plugins for Asked {
    fn check(&self, plugin: &str, kind: &str) -> Result<()> {
        self.wait(self.plugins.implementing(plugin, kind)).map(drop)
    }

    fn ask(&self, plugin: &str, method: &str, argument: &Value) -> Result<Value> {
        let plugin = self.plugins.get(plugin);
        self.wait(plugin.call(method, argument))
    }

    fn note(&self, id: &str, note: &Value) -> Result<()> {
        let entry = Journal {
            id: format!("{NOTES}/{id}"),
            operation: NOTES.into(),
            subject: id.into(),
            since: Timestamp::now(),
            doc: note,
        };
        self.store.write(|tx| tx.journal(&entry))
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.store.write(|tx| tx.journal_done(&format!("{NOTES}/{id}")))
    }

    fn notes(&self) -> Result<Vec<Value>> {
        let entries = self.store.read(|tx| tx.journal_entries::<Value>(NOTES))?;
        Ok(entries.into_iter().map(|entry| entry.doc).collect())
    }
}

impl Engine {
    /// After a start: plugins hear of what ended while nobody was there, and of what is still theirs.
    pub(crate) fn recover_plugged_networks(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            let own = Arc::clone(&engine);
            let replayed = super::blocking(move || {
                own.networks.replay();
                Ok(())
            });
            if let Err(err) = replayed.await {
                tracing::error!(err = err.chain(), "plugins for addresses were not told again");
            }
            engine.settle_networks().await;
        });
    }

    /// Tells plugins what they have to be told, until they have been.
    async fn settle_networks(self: &Arc<Self>) {
        let mut pause = AGAIN.0;
        loop {
            let engine = Arc::clone(self);
            match super::blocking(move || engine.networks.settle(&engine.store)).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(err) => {
                    tracing::error!(err = err.chain(), "ends of endpoints cannot be told");
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// What plugins tell of these endpoints, as far as they do in a moment.
    pub(super) async fn endpoint_information(
        self: &Arc<Self>,
        endpoints: Vec<(ContainerId, network::Endpoint)>,
    ) -> Vec<(ContainerId, Map<String, Value>)> {
        let engine = Arc::clone(self);
        let asked = super::blocking(move || {
            let ask = |(id, endpoint): (ContainerId, network::Endpoint)| {
                engine.networks.information(&endpoint).map(|told| (id, told))
            };
            // One that does not answer is not asked again for each endpoint.
            endpoints.into_iter().map(ask).collect::<Result<Vec<_>>>()
        });
        match tokio::time::timeout(PARTING, asked).await {
            Ok(Ok(told)) => told,
            Ok(Err(err)) => {
                tracing::warn!(err = err.chain(), "a plugin tells nothing of its endpoints");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Tells plugins later what they could not be told now.
    pub(crate) fn settle_networks_later(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move { engine.settle_networks().await });
    }

    /// Takes a container off its networks. Waits a moment for plugins, which go on being told.
    ///
    /// # Errors
    /// As [`network::Networks::detach`].
    pub(crate) async fn leave_networks(self: &Arc<Self>, container: &ContainerId) -> Result<()> {
        if !self.networks.is_slow_to_leave(container) {
            return self.networks.detach(container);
        }
        let (engine, container) = (Arc::clone(self), container.clone());
        let task = self.tasks.spawn(async move {
            let own = Arc::clone(&engine);
            let left = super::blocking(move || own.networks.detach(&container)).await;
            if left.is_err() {
                engine.settle_networks_later();
            }
            left
        });
        match tokio::time::timeout(PARTING, task).await {
            Ok(done) => {
                done.map_err(|e| Error::internal("leaving networks broke off").caused_by(e))?
            }
            Err(_) => Ok(()),
        }
    }
}

//! `POST /containers/{id}/pause` and `/unpause`: the freezer.

use super::{Container, Status};
use crate::Engine;
use base::{Error, Kind, Principal, Result};
use std::sync::Arc;

impl Engine {
    /// Freezes all processes of container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running or paused already.
    pub async fn container_pause(&self, name: &str, by: &Principal) -> Result<()> {
        let container = self.containers.find(name)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        match record.state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(Error::conflict(format!("container {} is already paused", record.id)));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => return Err(Error::conflict(format!("container {} is not running", record.id))),
        }
        let not_running = || Error::conflict(format!("container {} is not running", record.id));
        match self.freeze(&container).await {
            Ok(()) => {}
            // It ended by itself and its control group is gone.
            Err(err) if err.kind() == Kind::NotFound => {
                self.end_recorded(&container, record.state.ends).await;
                return Err(not_running());
            }
            Err(err) => {
                let text = format!("cannot pause container {}", record.id);
                return Err(Error::internal(text).caused_by(err.chain()));
            }
        }
        let health = {
            let mut health = container.health();
            super::health::rest(&mut health);
            health.clone()
        };
        let changed = container.change(
            &self.store,
            |r| {
                if r.state.status == Status::Running {
                    r.state.status = Status::Paused;
                    r.state.health = health;
                }
            },
            |tx, r| {
                if r.state.status == Status::Paused {
                    tx.emit(r.event("pause").by(by));
                }
                Ok(())
            },
        )?;
        if changed.state.status == Status::Paused { Ok(()) } else { Err(not_running()) }
    }

    /// Thaws container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running; `Internal` when it is not paused (as docker).
    pub async fn container_unpause(&self, name: &str, by: &Principal) -> Result<()> {
        let container = self.containers.find(name)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        if record.state.status != Status::Paused {
            return Err(Error::internal(format!("Container {} is not paused", record.id)));
        }
        self.thaw(&container).await?;
        self.store.write(|tx| {
            tx.emit(record.event("unpause").by(by));
            Ok(())
        })
    }

    /// The shim of a container that another runtime carries out, which freezes it in its own way.
    fn shim_of_other(container: &Container) -> Option<Arc<runtime::shim::Shim>> {
        let own = crate::runtimes::is_own(&container.record().host.runtime);
        container.shim().filter(|_| !own)
    }

    async fn freeze(&self, container: &Container) -> Result<()> {
        match Self::shim_of_other(container) {
            Some(shim) => shim.pause().await,
            None => {
                let frozen = self.cgroup(container)?.freeze();
                frozen.map_err(|e| {
                    let kind = if e.is_missing() { Kind::NotFound } else { Kind::Internal };
                    Error::new(kind, base::error::chain(&e))
                })
            }
        }
    }

    /// Thaws without an event: also before a kill.
    pub(crate) async fn thaw(&self, container: &Arc<Container>) -> Result<()> {
        let thawed = match Self::shim_of_other(container) {
            Some(shim) => match shim.resume().await {
                Err(err) if self.cgroup(container)?.is_freezing().unwrap_or(false) => Err(err),
                // A runtime that kills a frozen container has thawed it already.
                _ => Ok(()),
            },
            None => match self.cgroup(container)?.thaw() {
                // Nothing is frozen any more: it has ended.
                Err(err) if err.is_missing() => Ok(()),
                thawed => thawed.map_err(|e| Error::internal(base::error::chain(&e))),
            },
        };
        thawed.map_err(|e| {
            let what = format!("cannot unpause container {}", container.id());
            Error::internal(what).caused_by(e.chain())
        })?;
        container.change(
            &self.store,
            |r| {
                if r.state.status == Status::Paused {
                    r.state.status = Status::Running;
                }
            },
            |_, _| Ok(()),
        )?;
        Ok(())
    }
}

//! `POST /containers/{id}/pause` and `/unpause`: the freezer.

use super::{Container, Status};
use crate::Engine;
use base::{Error, Principal, Result};
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
        self.cgroup(&container)?.freeze().map_err(|e| {
            Error::internal(format!("cannot pause container {}", record.id)).caused_by(e)
        })?;
        let health = {
            let mut health = container.health();
            super::health::rest(&mut health);
            health.clone()
        };
        container.change(
            &self.store,
            |r| {
                if r.state.status == Status::Running {
                    r.state.status = Status::Paused;
                    r.state.health = health;
                }
            },
            |tx, r| {
                tx.emit(r.event("pause").by(by));
                Ok(())
            },
        )?;
        Ok(())
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

    /// Thaws without an event: also before a kill.
    pub(crate) async fn thaw(&self, container: &Arc<Container>) -> Result<()> {
        self.cgroup(container)?.thaw().map_err(|e| {
            Error::internal(format!("cannot unpause container {}", container.id())).caused_by(e)
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

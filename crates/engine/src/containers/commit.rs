//! `POST /commit` and `GET /containers/{id}/changes`: what a container wrote, as an image or as a list.

use super::{Record, Status, merge::merge};
use crate::{
    Engine,
    images::{CommitOptions, NewLayer, blocking, to_api},
};
use api::model::ContainerConfig;
use base::{Error, ImageId, Principal, Result};
use std::sync::Arc;
use storage::{Change, Commit};

impl Engine {
    /// Makes an image of container `name` as it is now; `pause` stops its processes meanwhile. `config`
    /// replaces parts of its configuration.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is dead or being removed; `Invalid` for bad changes or names.
    pub async fn container_commit(
        self: &Arc<Self>,
        name: &str,
        config: Option<ContainerConfig>,
        mut options: CommitOptions,
        pause: bool,
        by: &Principal,
    ) -> Result<ImageId> {
        let container = self.containers.find(name)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        if matches!(record.state.status, Status::Dead | Status::Removing) {
            return Err(Error::conflict(format!(
                "You cannot commit container {name} which is {}",
                record.state.status.word()
            )));
        }
        let frozen = pause && record.state.status == Status::Running;
        if frozen {
            let freeze = self.cgroup(&container)?.freeze();
            freeze.map_err(|e| {
                Error::internal(format!("cannot pause container {name}")).caused_by(e)
            })?;
        }
        options.container = record.id.to_string();
        let (engine, row, who) = (Arc::clone(self), Arc::clone(&record), by.clone());
        let made = blocking(move || engine.commit_record(&row, config, &options, &who)).await;
        if frozen {
            let thaw = self.cgroup(&container)?.thaw();
            thaw.map_err(|e| {
                Error::internal(format!("cannot unpause container {name}")).caused_by(e)
            })?;
        }
        let id = made?;
        let event = record
            .event("commit")
            .with("comment", "")
            .with("imageID", id.as_str())
            .with("imageRef", "")
            .by(by);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(id)
    }

    fn commit_record(
        &self,
        record: &Record,
        config: Option<ContainerConfig>,
        options: &CommitOptions,
        by: &Principal,
    ) -> Result<ImageId> {
        let base = self.images.take(record.image.as_str(), None)?;
        let config = match config {
            Some(asked) => merge(asked, &record.config)?,
            None => record.config.clone(),
        };
        let mut config = config;
        // What the engine made up for this container is no part of an image.
        config.hostname = String::new();
        config.image = String::new();
        let own = to_api(&base.config.config().config);
        if config.cmd == own.cmd && config.entrypoint == own.entrypoint {
            config.args_escaped = own.args_escaped;
        }
        let active = self.snapshots.get(record.id.as_str(), &record.layers)?;
        let hold = self.images.hold();
        let layer =
            hold.make(|_| Ok(NewLayer::from(self.snapshots.commit(&active, Commit::Copy)?)))?;
        let below = self.images.layers_of(&base)?;
        self.images.commit(Some(&base), below, Some(layer), &config, options, by)
    }

    /// What container `name` changed in its root.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn container_changes(self: &Arc<Self>, name: &str) -> Result<Vec<Change>> {
        let record = self.containers.find(name)?.record();
        let engine = Arc::clone(self);
        blocking(move || {
            engine.snapshots.changes(&engine.snapshots.get(record.id.as_str(), &record.layers)?)
        })
        .await
    }
}

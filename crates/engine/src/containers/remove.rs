//! `DELETE /containers/{id}` and what `--rm` does: what is to be removed is marked; the files are moved to the trash, to
//! be deleted in the background; then row and name go, in one commit with the event.
//!
//! A container whose files cannot be moved is dead: it keeps its name, is never started again, and its removal is
//! tried again from time to time and at the next start, which finishes also what the daemon's death broke off.

use super::{Container, Places, Record, Status, start::TIDYING};
use crate::Engine;
use base::{Error, Principal, Result};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use sys::{cgroup::Cgroup, root::Dir};
use tokio::sync::MutexGuard;

/// Options of a removal.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

impl Engine {
    /// Removes container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it runs and `force` is off, or is being removed already.
    pub async fn container_remove(
        &self,
        name: &str,
        options: RemoveOptions,
        by: &Principal,
    ) -> Result<()> {
        let container = self.containers.find(name)?;
        self.remove_container(&container, options, by).await
    }

    pub(crate) async fn remove_container(
        &self,
        container: &Arc<Container>,
        options: RemoveOptions,
        by: &Principal,
    ) -> Result<()> {
        let in_progress = |name: &str| {
            Error::conflict(format!("removal of container {name} is already in progress"))
        };
        let record = container.record();
        if record.state.status == Status::Removing || container.watch().borrow().removed {
            return Err(in_progress(&record.name));
        }
        let ended = self.end_for_removal(container, options.force, by).await;
        let _ops = match ended {
            Ok(ops) => ops,
            Err(err) => {
                container.removing.store(false, Ordering::SeqCst);
                return Err(err);
            }
        };
        let outcome = self.forget(container, options.volumes, by).await;
        if let Err(err) = &outcome {
            container.removing.store(false, Ordering::SeqCst);
            container.mark_removal_failed(&err.chain());
        }
        outcome
    }

    /// Waits until nobody else changes the container, and sees to it that it does not run then; kills it when
    /// `force` says so.
    async fn end_for_removal<'c>(
        &self,
        container: &'c Arc<Container>,
        force: bool,
        by: &Principal,
    ) -> Result<MutexGuard<'c, ()>> {
        if force {
            // Starts are refused from here on, and its owner leaves the removal to this one.
            container.removing.store(true, Ordering::SeqCst);
        }
        loop {
            let record = container.record();
            if record.state.status.alive() || record.state.status == Status::Restarting {
                if !force {
                    return Err(refuse_running(&record));
                }
                // The lock comes later: stopping may need it.
                self.stop_container(container, Some(0), Some("KILL"), by).await.map_err(|err| {
                    Error::wrap(format!("could not kill container {}", record.id), err)
                })?;
            }
            let ops = container.ops.lock().await;
            if container.watch().borrow().removed {
                return Err(Error::not_found(format!("No such container: {}", record.id)));
            }
            // A start that was under way when this began may have made it run.
            let record = container.record();
            if !record.state.status.alive() {
                return Ok(ops);
            }
            if !force {
                return Err(refuse_running(&record));
            }
        }
    }

    /// Removes a stopped container; callers hold its operation lock.
    ///
    /// # Errors
    /// Of the disk and the store: it is dead then.
    pub(crate) async fn forget(
        &self,
        container: &Arc<Container>,
        volumes: bool,
        by: &Principal,
    ) -> Result<()> {
        let removed = self.erase(container, volumes, by);
        if let Err(err) = &removed {
            let text = err.chain();
            let dead = container.change(
                &self.store,
                |r| {
                    r.state.status = Status::Dead;
                    r.state.error.clone_from(&text);
                },
                |_, _| Ok(()),
            );
            if let Err(err) = dead {
                tracing::error!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "a dead container is not noted as such"
                );
            }
        }
        removed?;
        if volumes {
            for mount in container.record().mounts.iter().filter(|m| m.anonymous) {
                if let Err(err) = self.volume_remove_anonymous(&mount.name, by).await {
                    tracing::debug!(vol = mount.name, err = err.chain(), "anonymous volume kept");
                }
            }
        }
        Ok(())
    }

    fn erase(&self, container: &Arc<Container>, volumes: bool, by: &Principal) -> Result<()> {
        let record = container.change(
            &self.store,
            |r| {
                r.state.status = Status::Removing;
                r.state.volumes_go |= volumes;
            },
            |_, _| Ok(()),
        )?;
        let places = Places::of(&self.config, &record.id);
        self.discard(&places).map_err(|err| {
            Error::wrap(format!("container {}: cannot remove its files", record.id), err)
        })?;
        container.erase(&self.store, |tx, r| {
            if !r.hidden {
                tx.emit(r.event("destroy").by(by));
            }
            if volumes {
                let anonymous = r.mounts.iter().filter(|m| m.anonymous);
                Self::volumes_going(tx, anonymous.map(|m| m.name.as_str()), &r.id)?;
            }
            Ok(())
        })?;
        self.containers.remove(&record.id, &record.name);
        self.sweep_after(container);
        container.mark_removed();
        Ok(())
    }

    /// Tries once more to remove what is dead.
    pub(crate) async fn remove_the_dead(&self) {
        for container in self.containers.all() {
            if container.status() != Status::Dead {
                continue;
            }
            let _ops = container.ops.lock().await;
            let record = container.record();
            if record.state.status != Status::Dead || container.watch().borrow().removed {
                continue;
            }
            let volumes = record.state.volumes_go;
            if let Err(err) = self.forget(&container, volumes, &Principal::daemon()).await {
                tracing::warn!(
                    ctr = record.id.short(),
                    err = err.chain(),
                    "a dead container stays: it is tried again"
                );
            }
        }
    }

    /// Takes a removed container's control group away once its shim has gone: one that was killed while it tidied up has
    /// left it.
    fn sweep_after(&self, container: &Container) {
        let record = container.record();
        let (last, hierarchy) = (container.last_shim(), self.hierarchy.clone());
        let path = self.cgroup_path(&record.id, &record.host.cgroup_parent);
        self.tasks.spawn(async move {
            if let Some(last) = last {
                last.gone(TIDYING).await;
            }
            let swept = move || {
                let swept = Cgroup::open(&hierarchy, &path).and_then(|group| group.remove());
                swept.map_err(|e| Error::internal("cannot remove a control group").caused_by(e))
            };
            if let Err(err) = crate::images::blocking(swept).await {
                tracing::warn!(ctr = record.id.short(), err = err.chain(), "a control group stays");
            }
        });
    }

    /// Moves a folder to the trash; a missing one is fine.
    pub(crate) fn trash_path(&self, path: &Path) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            return Err(Error::internal(format!("cannot delete {}", path.display())));
        };
        let parent = Dir::open(parent).map_err(|e| {
            Error::internal(format!("cannot open {}", parent.display())).caused_by(e)
        })?;
        self.trash.put(&parent, name)
    }

    /// Moves a container's folders to the trash.
    pub(crate) fn discard(&self, places: &Places) -> Result<()> {
        if let Some(id) = places.data.file_name().and_then(|n| n.to_str()) {
            self.snapshots.unbound(id);
        }
        self.trash_path(&places.data)?;
        match std::fs::remove_dir_all(&places.exec) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot remove {}", places.exec.display()), e))
            }
            _ => Ok(()),
        }
    }
}

fn refuse_running(record: &Record) -> Error {
    let advice = match record.state.status {
        Status::Paused => "unpause and then stop the container before removal or force remove",
        _ => "stop the container before removal or force remove",
    };
    Error::conflict(format!(
        "cannot remove container \"/{}\": container is {}: {advice}",
        record.name,
        record.state.status.word()
    ))
}

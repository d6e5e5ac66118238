//! After a start of the daemon: what was running is found again, what ended meanwhile is recorded, what
//! belongs to nobody goes.

use super::{Container, Places, Record, Status, settle};
use crate::Engine;
use base::{ContainerId, Principal, Result, Timestamp};
use runtime::shim::{Exit, Phase, Shim};
use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

impl Engine {
    /// Takes up all containers of the store.
    ///
    /// # Errors
    /// Of the store. A container that cannot be recovered is logged and left as exited.
    pub(crate) async fn recover_containers(self: &Arc<Self>) -> Result<()> {
        let rows = self.store.read(|tx| tx.containers::<Record>())?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let container = Container::new(row.doc);
            if let Err(err) = self.containers.claim(&row.name, &row.id) {
                tracing::error!(
                    ctr = row.id.short(),
                    err = err.chain(),
                    "two containers have one name"
                );
            }
            self.containers.insert(Arc::clone(&container));
            found.push(container);
        }
        self.mend_trees(&found);
        let mut ended = Vec::new();
        let mut waiting = Vec::new();
        for container in &found {
            let record = container.record();
            match record.state.status {
                Status::Running | Status::Paused => match self.find_shim(&record).await {
                    Ok(shim) => {
                        container.set_shim(Some(Arc::clone(&shim)));
                        waiting.push((container, shim));
                    }
                    Err(exit) => ended.push((container, exit)),
                },
                Status::Restarting => self.restart_later(container, Duration::ZERO),
                // The daemon may have died between letting it run and writing that down.
                _ if Places::of(&self.config, &record.id).exec.exists() => {
                    if let Some(shim) = self.adopt(container).await? {
                        waiting.push((container, shim));
                    }
                }
                _ => {}
            }
        }
        let living: Vec<(ContainerId, network::Endpoint)> = waiting
            .iter()
            .flat_map(|(c, _)| {
                let attached = c.record().attached.clone();
                attached.into_iter().map(|endpoint| (c.id().clone(), endpoint))
            })
            .collect();
        let repair = self.networks.reconcile(living.iter().map(|(id, e)| (id, e)));
        if repair != network::Repair::default() {
            tracing::info!(?repair, "networks were put right");
        }
        for (container, shim) in waiting {
            self.watch(container, shim);
        }
        self.lead_the_lost();
        for container in &found {
            if let Err(err) = self.serve_names(container).await {
                tracing::error!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "a container has no names"
                );
            }
        }
        for (container, exit) in ended {
            if let Err(err) = self.ended(container, exit).await {
                tracing::error!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "an end while away was not recorded"
                );
            }
        }
        self.remove_half_made(&found).await;
        self.start_by_policy(&found);
        self.sweep_folders();
        self.sweep_volumes()
    }

    /// A container that was made shortly before a power cut is there with an empty tree, so that it starts.
    fn mend_trees(&self, found: &[Arc<Container>]) {
        for container in found {
            let record = container.record();
            if record.root.is_some() {
                continue;
            }
            let mended = settle::writable_bound(&record.host, &self.config, &self.kernel)
                .and_then(|bound| self.snapshots.mend(record.id.as_str(), &record.layers, bound));
            match mended {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(ctr = record.id.short(), "its tree was gone and is empty now");
                }
                Err(err) => tracing::error!(
                    ctr = record.id.short(),
                    err = err.chain(),
                    "a container has no writable layer"
                ),
            }
        }
    }

    /// Takes over a container that runs although its record does not say so.
    async fn adopt(&self, container: &Arc<Container>) -> Result<Option<Arc<Shim>>> {
        let places = Places::of(&self.config, container.id());
        let Ok((shim, state)) = Shim::connect(&places.exec).await else { return Ok(None) };
        if state.phase != Phase::Running {
            return Ok(None);
        }
        let shim = Arc::new(shim);
        container.set_shim(Some(Arc::clone(&shim)));
        container.change(
            &self.store,
            |r| {
                r.state.status = Status::Running;
                r.state.pid = i32::try_from(state.pid).unwrap_or(0);
                r.state.started = state.started.unwrap_or_else(Timestamp::now);
                r.state.error = String::new();
            },
            |tx, r| {
                tx.emit(r.event("start"));
                Ok(())
            },
        )?;
        Ok(Some(shim))
    }

    /// The shim of a container that ran when the daemon went, or how it ended.
    async fn find_shim(&self, record: &Record) -> Result<Arc<Shim>, Exit> {
        let places = Places::of(&self.config, &record.id);
        match Shim::connect(&places.exec).await {
            Ok((shim, state)) => match state.phase {
                Phase::Running => Ok(Arc::new(shim)),
                Phase::Exited(exit) => Err(exit),
                // It was never released: its shim undoes it, since its daemon is gone.
                Phase::Created => Err(lost()),
            },
            Err(_) => Err(Shim::exit_record(&places.exec).unwrap_or_else(lost)),
        }
    }

    /// Containers whose removal was under way, `--rm` containers that ended while nobody looked, and steps
    /// of builds that died with the daemon.
    async fn remove_half_made(self: &Arc<Self>, found: &[Arc<Container>]) {
        for container in found {
            let record = container.record();
            let stopped =
                matches!(record.state.status, Status::Exited | Status::Dead | Status::Removing);
            let gone = container.watch().borrow().removed;
            let rest = record.hidden && record.root.is_none() && !record.state.status.alive();
            if !gone
                && ((stopped && record.host.auto_remove)
                    || matches!(record.state.status, Status::Dead | Status::Removing)
                    || rest)
            {
                let _ops = container.ops.lock().await;
                let volumes = record.host.auto_remove || rest || record.state.volumes_go;
                if let Err(err) = self.forget(container, volumes, &Principal::daemon()).await {
                    tracing::error!(
                        ctr = container.id().short(),
                        err = err.chain(),
                        "a container that was to be removed stays"
                    );
                }
            }
        }
    }

    /// `always` starts with the daemon, even what was stopped by hand; `unless-stopped` does not start that.
    fn start_by_policy(self: &Arc<Self>, found: &[Arc<Container>]) {
        for container in found {
            let record = container.record();
            let wanted = match record.host.restart_policy.name.as_str() {
                "always" => true,
                "unless-stopped" => !record.state.stopped_by_hand,
                _ => false,
            };
            if !wanted
                || record.state.status != Status::Exited
                || container.watch().borrow().removed
            {
                continue;
            }
            match container.change(
                &self.store,
                |r| r.state.status = Status::Restarting,
                |_, _| Ok(()),
            ) {
                Ok(_) => self.restart_later(container, Duration::ZERO),
                Err(err) => tracing::error!(
                    ctr = record.id.short(),
                    err = err.chain(),
                    "the container was not started"
                ),
            }
        }
    }

    /// Folders and cgroups of containers that no row knows.
    fn sweep_folders(&self) {
        let known: HashSet<ContainerId> =
            self.containers.all().iter().map(|c| c.id().clone()).collect();
        for root in [&self.config.data_root, &self.config.exec_root] {
            for id in ids_below(&root.join("containers")) {
                if known.contains(&id) {
                    continue;
                }
                if let Err(err) = self.sweep_cgroup(&id, "") {
                    tracing::warn!(ctr = id.short(), err = err.chain(), "a cgroup is left");
                }
                if let Err(err) = self.discard(&Places::of(&self.config, &id)) {
                    tracing::warn!(
                        ctr = id.short(),
                        err = err.chain(),
                        "folders of an unknown container stay"
                    );
                }
            }
        }
    }
}

fn lost() -> Exit {
    Exit { code: 137, signal: Some(9), at: Timestamp::now(), oom: false, lost: true }
}

fn ids_below(dir: &Path) -> Vec<ContainerId> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

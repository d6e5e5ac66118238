//! The one task that waits for a running container's end, and what follows it: record, event, network,
//! `--rm`, restart policy.

use super::{Container, Status, networking::network_event};
use crate::Engine;
use base::{Principal, Result, Timestamp};
use runtime::shim::{Exit, Shim, Target};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Back-off of the restart policy: from, to, and after how long a life it starts anew.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
const LIVED: Duration = Duration::from_secs(10);
/// Between two tries to record an end.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Waits for the end of `container` in the background.
    pub(crate) fn watch(self: &Arc<Self>, container: &Arc<Container>, shim: Arc<Shim>) {
        self.watch_health(container, &shim);
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        self.tasks.spawn(async move {
            let exit = tokio::select! {
                exit = shim.wait(&Target::Init) => exit,
                // An ordered stop of the daemon leaves the container to its shim.
                () = engine.stop.cancelled() => return,
            };
            let exit = exit.unwrap_or_else(|err| {
                tracing::error!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "the end of the container is not known"
                );
                Exit { code: 137, signal: Some(9), at: Timestamp::now(), oom: false, lost: true }
            });
            engine.record_end(&container, exit).await;
        });
    }

    /// Records an end, again and again while that fails as on a full disk.
    async fn record_end(self: &Arc<Self>, container: &Arc<Container>, exit: Exit) {
        while let Err(err) = self.ended(container, exit).await {
            tracing::error!(
                ctr = container.id().short(),
                err = err.chain(),
                "the end was not recorded whole"
            );
            // What failed came after the record.
            if !container.record().state.status.alive() {
                break;
            }
            container.note_unrecorded(Some(err.chain()));
            tokio::select! {
                () = tokio::time::sleep(RECORD_AGAIN) => {}
                () = self.stop.cancelled() => return,
            }
        }
        container.note_unrecorded(None);
    }

    /// Records an end and does what follows from it.
    pub(crate) async fn ended(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exit: Exit,
    ) -> Result<()> {
        let by = Principal::daemon();
        if exit.lost {
            // With its shim dead nobody reaped or cleaned up: what is left of it goes now.
            let parent = container.record().host.cgroup_parent.clone();
            if let Err(err) = self.sweep_cgroup(container.id(), &parent) {
                tracing::warn!(ctr = container.id().short(), err = err.chain(), "a cgroup is left");
            }
        }
        container.set_shim(None);
        let before = container.record();
        if !before.attached.is_empty()
            && let Err(err) = self.leave_networks(container.id()).await
        {
            tracing::warn!(
                ctr = container.id().short(),
                err = err.chain(),
                "the network was not wholly detached"
            );
        }
        self.volumes_release(&before);
        self.plugged_release_all(&before).await;
        let lived = exit.at.since(before.state.started);
        let delay = self.restart_delay(container, &before, exit.code, lived);
        let health = {
            let mut health = container.health();
            super::health::rest(&mut health);
            health.clone()
        };
        let record = container.change(
            &self.store,
            |r| {
                r.state.health = health;
                r.state.status = if delay.is_some() { Status::Restarting } else { Status::Exited };
                r.state.pid = 0;
                r.state.exit_code = exit.code;
                r.state.oom_killed = exit.oom;
                r.state.finished = exit.at;
                r.state.ends += 1;
                r.attached.clear();
            },
            |tx, r| {
                if r.hidden {
                    // A plugin that is switched off does not start again.
                    return match delay {
                        Some(_) => crate::plugins::tell_death(tx, &r.id, exit.code),
                        None => Ok(()),
                    };
                }
                if exit.oom {
                    tx.emit(r.event("oom"));
                }
                for endpoint in &before.attached {
                    tx.emit(network_event("disconnect", r, endpoint));
                }
                tx.emit(
                    r.event("die")
                        .with("execDuration", lived.as_secs().to_string())
                        .with("exitCode", exit.code.to_string()),
                );
                Ok(())
            },
        )?;
        self.clear_run(container, record.state.ends).await;
        if let Some(delay) = delay {
            self.restart_later(container, delay);
            return Ok(());
        }
        let kept = container.restarting.load(Ordering::SeqCst)
            || container.removing.load(Ordering::SeqCst);
        if record.host.auto_remove && !kept {
            let _ops = container.ops.lock().await;
            if container.watch().borrow().removed || container.record().state.status.alive() {
                return Ok(());
            }
            if let Err(err) = self.forget(container, true, &by).await {
                container.mark_removal_failed(&err.chain());
                return Err(err);
            }
        }
        Ok(())
    }

    /// Removes the folder of the run that was the `ends`th to end, unless the next one has it already.
    async fn clear_run(&self, container: &Container, ends: u64) {
        let _ops = container.ops.lock().await;
        let state = container.record().state.clone();
        if state.ends != ends || state.status.alive() {
            return;
        }
        // A network that it was connected to while it ended.
        if !self.networks.endpoints_of(container.id()).is_empty()
            && let Err(err) = self.networks.detach(container.id())
        {
            tracing::warn!(
                ctr = container.id().short(),
                err = err.chain(),
                "the network was not wholly detached"
            );
        }
        let places = super::Places::of(&self.config, container.id());
        if let Err(err) = std::fs::remove_dir_all(&places.exec)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(
                ctr = container.id().short(),
                err = err.to_string(),
                "the run folder stays until the next start"
            );
        }
    }

    /// How long the restart policy waits; `None` when it keeps still.
    fn restart_delay(
        &self,
        container: &Container,
        record: &super::Record,
        code: i32,
        lived: Duration,
    ) -> Option<Duration> {
        let policy = &record.host.restart_policy;
        let wanted = match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                code != 0
                    && (policy.maximum_retry_count == 0
                        || i64::from(record.state.restarts) < policy.maximum_retry_count)
            }
            _ => false,
        };
        let by_hand = record.state.stopped_by_hand
            || container.restarting.load(Ordering::SeqCst)
            || container.removing.load(Ordering::SeqCst);
        if !wanted || by_hand || self.stop.is_cancelled() {
            return None;
        }
        let mut backoff =
            container.backoff.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *backoff =
            if lived >= LIVED { BACKOFF.0 } else { (*backoff * 2).clamp(BACKOFF.0, BACKOFF.1) };
        Some(*backoff)
    }

    pub(crate) fn restart_later(self: &Arc<Self>, container: &Arc<Container>, delay: Duration) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        self.tasks.spawn(async move {
            let mut phase = container.watch();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = engine.stop.cancelled() => return,
                // A stop or removal in the meantime ends the waiting.
                _ = phase.wait_for(|p| !p.alive || p.removed) => return,
            }
            if container.status() != Status::Restarting {
                return;
            }
            let counted = container.change(&engine.store, |r| r.state.restarts += 1, |_, _| Ok(()));
            if counted.is_ok()
                && let Err(err) = engine.start_container(&container, &Principal::daemon()).await
            {
                tracing::warn!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "the restart policy could not start the container"
                );
            }
        });
    }
}

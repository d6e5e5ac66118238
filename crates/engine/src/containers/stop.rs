//! `POST /containers/{id}/stop` and `/restart`: the stop signal, a grace period, then KILL.

use super::{Condition, Container, Wait, kill::stop_signal};
use crate::Engine;
use base::{Error, Principal, Result, signal};
use std::{sync::Arc, time::Duration};

const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// After KILL a process is gone at once, unless the kernel holds it; Docker gives up after 10 s too.
const AFTER_KILL: Duration = Duration::from_secs(10);

impl Engine {
    /// Stops container `name`. `timeout` in seconds: negative waits for ever, none takes the
    /// container's own or ten.
    ///
    /// # Errors
    /// `NotFound`; `NotModified` when it is not running; `Invalid` for an unknown signal.
    pub async fn container_stop(
        &self,
        name: &str,
        timeout: Option<i64>,
        signal: Option<&str>,
        by: &Principal,
    ) -> Result<()> {
        let container = self.containers.find(name)?;
        let record = container.record();
        if !record.state.status.alive() && record.state.status != super::Status::Restarting {
            return Err(Error::not_modified(format!("container {name} is already stopped")));
        }
        self.stop_container(&container, timeout, signal, by).await?;
        let record = container.record();
        self.store.write(|tx| {
            tx.emit(record.event("stop").by(by));
            Ok(())
        })
    }

    /// Stops and starts container `name`.
    ///
    /// # Errors
    /// As of stop and start; a stopped container is only started.
    pub async fn container_restart(
        self: &Arc<Self>,
        name: &str,
        timeout: Option<i64>,
        signal: Option<&str>,
        by: &Principal,
    ) -> Result<()> {
        let container = self.containers.find(name)?;
        if container.record().state.status.alive() {
            // A restart does not remove an --rm container between its two halves.
            container.restarting.store(true, std::sync::atomic::Ordering::SeqCst);
            let stopped = self.stop_container(&container, timeout, signal, by).await;
            container.restarting.store(false, std::sync::atomic::Ordering::SeqCst);
            stopped?;
        }
        self.start_container(&container, by).await?;
        let record = container.record();
        self.store.write(|tx| {
            tx.emit(record.event("restart").by(by));
            Ok(())
        })
    }

    pub(crate) async fn stop_container(
        &self,
        container: &Arc<Container>,
        timeout: Option<i64>,
        signal: Option<&str>,
        by: &Principal,
    ) -> Result<()> {
        let record = container.record();
        let first = match signal.filter(|s| !s.is_empty()) {
            Some(text) => signal::parse(text)?,
            None => stop_signal(record.config.stop_signal.as_deref()),
        };
        let standard = self.reloadable().default_stop_timeout;
        let grace = match timeout.or(record.config.stop_timeout).or(standard) {
            Some(seconds) if seconds < 0 => None,
            Some(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
            None => Some(DEFAULT_GRACE),
        };
        container.change(
            &self.store,
            |r| {
                r.state.stopped_by_hand = true;
                r.facts.ended = Some(super::facts::Deed::now(by));
            },
            |_, _| Ok(()),
        )?;
        if record.state.status == super::Status::Restarting
            && self.give_up_restart(container).await?
        {
            return Ok(());
        }
        if record.state.status == super::Status::Paused {
            self.thaw(container).await?;
        }
        match self.send_signal(container, first, by).await {
            // Ended already; the caller may rely on it being recorded.
            Err(err) if err.kind() == base::Kind::Conflict => {
                self.stopped_within(container, AFTER_KILL).await;
                return Ok(());
            }
            Err(err) => return Err(err),
            Ok(()) => {}
        }
        let Some(grace) = grace else {
            Wait::on(container, Condition::NotRunning).ended().await;
            return Ok(());
        };
        if self.stopped_within(container, grace).await {
            return Ok(());
        }
        match self.send_signal(container, signal::KILL, by).await {
            // Ended already; the caller may rely on it being recorded.
            Err(err) if err.kind() == base::Kind::Conflict => {
                self.stopped_within(container, AFTER_KILL).await;
                return Ok(());
            }
            Err(err) => return Err(err),
            Ok(()) => {}
        }
        if self.stopped_within(container, AFTER_KILL).await {
            return Ok(());
        }
        Err(Error::internal(format!(
            "cannot stop container: {}: tried to kill it, but the process did not end within {} s",
            record.name,
            AFTER_KILL.as_secs()
        )))
    }

    /// Ends the waiting of the restart policy; false when the container was started in the meantime.
    async fn give_up_restart(&self, container: &Arc<Container>) -> Result<bool> {
        let _ops = container.ops.lock().await;
        if container.status() != super::Status::Restarting {
            return Ok(false);
        }
        container.change(&self.store, |r| r.state.status = super::Status::Exited, |_, _| Ok(()))?;
        Ok(true)
    }

    /// Whether the container stopped within `limit`.
    pub(crate) async fn stopped_within(&self, container: &Arc<Container>, limit: Duration) -> bool {
        tokio::time::timeout(limit, Wait::on(container, Condition::NotRunning).ended())
            .await
            .is_ok()
    }
}

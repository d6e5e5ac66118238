//! `POST /containers/{id}/stop` and `/restart`: the stop signal, a grace period, then KILL.

use super::{Container, Phase, Record, Status, kill::stop_signal};
use crate::Engine;
use base::{Error, Kind, Principal, Result, signal};
use std::{sync::Arc, time::Duration};

const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// After KILL a process is gone at once, unless the kernel holds it; Docker gives up after 10 s too.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Runs that a stop may meet, each of which the restart policy started under its hands.
const TRIES: usize = 20;

/// Whether the run after `ends` others is over within `limit`; without one it is waited for.
async fn run_over(container: &Arc<Container>, ends: u64, limit: Option<Duration>) -> bool {
    let mut phase = container.watch();
    let over = phase.wait_for(|p| p.ends > ends || !p.alive || p.removed);
    match limit {
        Some(limit) => tokio::time::timeout(limit, over).await.is_ok(),
        None => over.await.is_ok(),
    }
}

/// What to say of a container that has ended and is not known to have.
fn unrecorded(container: &Container, record: &Record) -> Option<Error> {
    let why = container.unrecorded()?;
    let text = format!("container {} has ended, but that cannot be recorded yet", record.name);
    Some(Error::exhausted(text).caused_by(why))
}

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
        if !record.state.status.alive() && record.state.status != Status::Restarting {
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
        match self.start_container(&container, by).await {
            // Another was faster between the two halves: it runs anew, as was asked for.
            Err(err) if err.kind() == Kind::NotModified => {}
            started => started?,
        }
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
        for _ in 0..TRIES {
            let record = container.record();
            container.change(
                &self.store,
                |r| {
                    r.state.stopped_by_hand = true;
                    r.facts.ended = Some(super::facts::Deed::now(by));
                },
                |_, _| Ok(()),
            )?;
            match record.state.status {
                // Started in the meantime: that start has forgotten the note, which is made again.
                Status::Restarting if !self.give_up_restart(container).await? => continue,
                Status::Running => {}
                Status::Paused => self.thaw(container).await?,
                _ => return Ok(()),
            }
            self.end_run(container, &record, (first, grace), by).await?;
            // It may have ended by itself just before, and be on its way back.
            if container.status() != Status::Restarting {
                return Ok(());
            }
        }
        Err(Error::internal(format!(
            "cannot stop container: {}: it is started again and again",
            record.name
        )))
    }

    /// Ends the run that `record` is of: the signal, the grace period, KILL.
    async fn end_run(
        &self,
        container: &Arc<Container>,
        record: &Record,
        (first, grace): (i32, Option<Duration>),
        by: &Principal,
    ) -> Result<()> {
        let ends = record.state.ends;
        for (number, limit) in [(first, grace), (signal::KILL, Some(AFTER_KILL))] {
            match self.send_signal(container, number, by).await {
                // Ended already; the caller may rely on it being recorded.
                Err(err) if err.kind() == base::Kind::Conflict => {
                    if run_over(container, ends, Some(AFTER_KILL)).await {
                        return Ok(());
                    }
                    return unrecorded(container, record).map_or(Ok(()), Err);
                }
                done => done?,
            }
            let over = match limit {
                Some(limit) if number == signal::KILL => {
                    self.killed_within(container, ends, limit).await
                }
                limit => run_over(container, ends, limit).await,
            };
            if over {
                return Ok(());
            }
        }
        Err(unrecorded(container, record).unwrap_or_else(|| {
            Error::internal(format!(
                "cannot stop container: {}: tried to kill it, but the process did not end within {} s",
                record.name,
                AFTER_KILL.as_secs()
            ))
        }))
    }

    /// Ends the waiting of the restart policy; false when the container was started in the meantime.
    async fn give_up_restart(&self, container: &Arc<Container>) -> Result<bool> {
        let _ops = container.ops.lock().await;
        if container.status() != Status::Restarting {
            return Ok(false);
        }
        container.change(&self.store, |r| r.state.status = Status::Exited, |_, _| Ok(()))?;
        Ok(true)
    }

    /// Waits until the end of the run after `ends` others is recorded, which has ended already: nobody is told that a
    /// container does not run while others are told that it does.
    pub(crate) async fn end_recorded(&self, container: &Arc<Container>, ends: u64) {
        run_over(container, ends, Some(AFTER_KILL)).await;
    }

    /// Whether the run after `ends` others ends within `limit` of a KILL. A process that is frozen meanwhile
    /// dies only when it is thawed.
    pub(crate) async fn killed_within(
        &self,
        container: &Arc<Container>,
        ends: u64,
        limit: Duration,
    ) -> bool {
        let over = |p: &Phase| p.ends > ends || !p.alive || p.removed;
        let mut phase = container.watch();
        let killed = async {
            loop {
                match phase.wait_for(|p| over(p) || p.paused).await {
                    Ok(p) if !over(&p) => {}
                    _ => return,
                }
                if let Err(err) = self.thaw(container).await {
                    tracing::warn!(
                        ctr = container.id().short(),
                        err = err.chain(),
                        "what was killed stays frozen"
                    );
                    let _ = phase.wait_for(over).await;
                    return;
                }
            }
        };
        tokio::time::timeout(limit, killed).await.is_ok()
    }
}

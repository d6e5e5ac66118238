//! `POST /containers/{id}/kill`: a signal for the init process.

use super::{Container, Status, facts::Deed};
use crate::Engine;
use base::{Error, Kind, Principal, Result, signal};
use std::sync::Arc;

impl Engine {
    /// Sends `signal` (a name, a number, or nothing for KILL) to container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an unknown signal; `Conflict` when it is not running.
    pub async fn container_kill(&self, name: &str, signal: &str, by: &Principal) -> Result<()> {
        let number = if signal.is_empty() { signal::KILL } else { signal::parse(signal)? };
        let container = self.containers.find(name)?;
        let (ends, alive) = {
            let state = &container.record().state;
            (state.ends, state.status.alive())
        };
        if let Err(err) = self.send_signal(&container, number, by).await {
            if alive && err.kind() == Kind::Conflict {
                self.end_recorded(&container, ends).await;
            }
            return Err(err);
        }
        if number == signal::KILL {
            // Docker answers a KILL only when the process is gone.
            self.killed_within(&container, ends, std::time::Duration::from_secs(10)).await;
        }
        Ok(())
    }

    pub(crate) async fn send_signal(
        &self,
        container: &Arc<Container>,
        number: i32,
        by: &Principal,
    ) -> Result<()> {
        let record = container.record();
        let not_running = || {
            Error::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                record.name, record.id
            ))
        };
        if !record.state.status.alive() {
            return Err(not_running());
        }
        let shim = container.shim().ok_or_else(not_running)?;
        let stop_signal = stop_signal(record.config.stop_signal.as_deref());
        if number == signal::KILL || number == stop_signal {
            container.change(
                &self.store,
                |r| {
                    r.state.stopped_by_hand = true;
                    r.facts.ended = Some(Deed::now(by));
                },
                |_, _| Ok(()),
            )?;
        }
        match shim.signal(&runtime::shim::Target::Init, number).await {
            Ok(()) => {}
            // It ended in the meantime; its owner is about to say so.
            Err(err) if matches!(err.kind(), Kind::NotFound | Kind::Unavailable) => {
                return Err(not_running());
            }
            Err(err) => {
                return Err(Error::wrap(format!("cannot kill container: {}", record.name), err));
            }
        }
        if number == signal::KILL && record.state.status == Status::Paused {
            // A frozen process dies only when thawed.
            self.thaw(container).await?;
        }
        let event = record.event("kill").with("signal", number.to_string()).by(by);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })
    }
}

/// The number of a configured stop signal; TERM when there is none or it is unknown.
pub(crate) fn stop_signal(text: Option<&str>) -> i32 {
    text.filter(|t| !t.is_empty()).and_then(|t| signal::parse(t).ok()).unwrap_or(signal::TERM)
}

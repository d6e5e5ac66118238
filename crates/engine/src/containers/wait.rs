//! `POST /containers/{id}/wait`: until a container ends or is gone.

use super::Container;
use crate::Engine;
use base::{Error, Result};
use std::{str::FromStr, sync::Arc};

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Not running now, or from when it stops.
    #[default]
    NotRunning,
    /// The next end, even if it is not running now.
    NextExit,
    /// Its removal.
    Removed,
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// What a waiter is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code of the last run.
    pub exit_code: i32,
    /// Why it could not be started or removed.
    pub error: Option<String>,
}

/// A wait that has begun: whatever ends after this point is not missed.
#[derive(Debug)]
pub struct Wait {
    condition: Condition,
    phase: tokio::sync::watch::Receiver<Phase>,
    ends: u64,
}

/// What waiters look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) alive: bool,
    pub(crate) ends: u64,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) paused: bool,
    pub(crate) removed: bool,
    pub(crate) removal_error: Option<String>,
}

impl Engine {
    /// Begins to wait on container `name`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container_wait(&self, name: &str, condition: Condition) -> Result<Wait> {
        Ok(Wait::on(&self.containers.find(name)?, condition))
    }
}

impl Wait {
    pub(crate) fn on(container: &Arc<Container>, condition: Condition) -> Self {
        let phase = container.watch();
        let ends = phase.borrow().ends;
        Self { condition, phase, ends }
    }

    /// Waits to the end.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(mut self) -> Ended {
        let (condition, ends) = (self.condition, self.ends);
        let done = |phase: &Phase| {
            phase.removed
                || match condition {
                    Condition::NotRunning => !phase.alive,
                    Condition::NextExit => phase.ends > ends,
                    Condition::Removed => phase.removal_error.is_some(),
                }
        };
        // The sender goes only when the container is forgotten, which counts as removed.
        let phase = match self.phase.wait_for(done).await {
            Ok(phase) => phase.clone(),
            Err(_) => return Ended::default(),
        };
        let error = match condition {
            Condition::Removed => phase.removal_error,
            _ => Some(phase.error).filter(|e| !e.is_empty()),
        };
        Ended { exit_code: phase.exit_code, error }
    }
}

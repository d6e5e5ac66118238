//! The states of a container and what clients read from them.

use super::health::{Health, HealthStatus};
use base::{Timestamp, units};
use serde::{Deserialize, Serialize};

/// Docker's status words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its process lives.
    Running,
    /// Frozen.
    Paused,
    /// Ended; the restart policy will start it again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Removal failed half-way.
    Dead,
}

impl Status {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether a process of the container lives.
    pub fn alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The state of a container as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The word.
    pub status: Status,
    /// Host pid of the init process while it lives, else 0.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Whether the kernel's OOM killer ended a process of the last run.
    pub oom_killed: bool,
    /// Last start.
    pub started: Timestamp,
    /// Last end.
    pub finished: Timestamp,
    /// Runs so far: rises with every end, so that waiters can tell one end from the next.
    pub ends: u64,
    /// Starts by the restart policy.
    pub restarts: u32,
    /// Stopped or killed on request: the restart policy keeps still.
    pub stopped_by_hand: bool,
    /// Its removal, which failed, was to take its anonymous volumes too.
    #[serde(default)]
    pub volumes_go: bool,
    /// Health at the last change of its status; absent without a check.
    #[serde(default)]
    pub(crate) health: Option<Health>,
}

impl State {
    /// "Up 3 minutes (Paused)", "Exited (0) 2 hours ago", as `docker ps` prints it.
    pub fn describe(&self, now: Timestamp) -> String {
        let ago = |at: Timestamp| units::human_duration(now.since(at));
        match self.status {
            Status::Running => match self.health.as_ref().map(|h| h.status) {
                None => format!("Up {}", ago(self.started)),
                Some(HealthStatus::Starting) => {
                    format!("Up {} (health: starting)", ago(self.started))
                }
                Some(health) => format!("Up {} ({})", ago(self.started), health.word()),
            },
            Status::Paused => format!("Up {} (Paused)", ago(self.started)),
            Status::Restarting => {
                format!("Restarting ({}) {} ago", self.exit_code, ago(self.finished))
            }
            Status::Removing => "Removal In Progress".into(),
            Status::Dead => "Dead".into(),
            Status::Created => "Created".into(),
            Status::Exited => format!("Exited ({}) {} ago", self.exit_code, ago(self.finished)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reads_as_docker_prints_it() {
        let now = Timestamp::from_unix(10_000, 0);
        let mut state = State {
            status: Status::Running,
            started: Timestamp::from_unix(9_820, 0),
            ..State::default()
        };
        assert_eq!(state.describe(now), "Up 3 minutes");
        state.status = Status::Paused;
        assert_eq!(state.describe(now), "Up 3 minutes (Paused)");
        state = State {
            status: Status::Exited,
            exit_code: 137,
            finished: Timestamp::from_unix(2_800, 0),
            ..state
        };
        assert_eq!(state.describe(now), "Exited (137) 2 hours ago");
    }
}

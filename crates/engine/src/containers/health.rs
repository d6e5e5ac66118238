//! Health checks: a command that is run in the container again and again, and what its results mean.
//!
//! Flow: one task per running container with a check ([`Engine::watch_health`]); it begins with the start, rests while
//! the container is paused, ends with the run. A probe is an exec without record or events; its output is cut, its
//! time is bounded, and at the end of it its whole session is killed. [`Health::judge`] decides purely; a change of
//! status is committed with its event, single results are kept in memory.
//! Acting on it: the label [`ACTION`] with the value `restart` restarts a container that becomes unhealthy.
//! Units: the configuration's durations are nanoseconds, as on the wire.
//! Source: Docker's `daemon/health.go` (rules and texts). Better than there: a probe that hangs ends with its
//! children, and results make no events.

use super::{Container, Record, Status};
use crate::Engine;
use api::model::{self, HealthConfig};
use base::{Error, ExecId, Principal, Result, Timestamp};
use runtime::shim::{self, Shim, Target};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

/// The label that says what becomes of an unhealthy container.
pub(crate) const ACTION: &str = "gantry.unhealthy";

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results that are kept.
const KEPT: usize = 5;
/// Bytes of output that are kept of each.
const OUTPUT: usize = 4096;
/// Shortest duration that may be asked for, in nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// How long the end of a killed probe is waited for.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Docker's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    /// No probe has succeeded yet.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// The word in the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    /// Failures in a row.
    pub(crate) streak: i64,
    /// The last results, oldest first.
    pub(crate) log: Vec<Outcome>,
}

/// The result of one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// 0 is healthy; -1 when it could not be run or took too long.
    pub(crate) code: i32,
    pub(crate) output: String,
}

impl Health {
    /// Takes a result in; says whether the status is another now. `lived` is the container's age at the
    /// probe's start.
    fn judge(&mut self, outcome: Outcome, check: &Check, lived: Duration) -> bool {
        let before = self.status;
        if outcome.code == 0 {
            self.streak = 0;
            self.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || lived >= check.start_period {
            self.streak += 1;
            if self.streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(outcome);
        let extra = self.log.len().saturating_sub(KEPT);
        self.log.drain(..extra);
        self.status != before
    }

    /// The API's form.
    pub(crate) fn shown(&self) -> model::Health {
        let one = |outcome: &Outcome| model::HealthcheckResult {
            start: outcome.start.to_string(),
            end: outcome.end.to_string(),
            exit_code: outcome.code.into(),
            output: outcome.output.clone(),
        };
        model::Health {
            status: self.status.word().into(),
            failing_streak: self.streak,
            log: Some(self.log.iter().map(one).collect()),
        }
    }
}

/// A check, its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Check {
    /// The check of a container; `None` without one.
    pub(crate) fn of(config: &model::ContainerConfig) -> Option<Self> {
        let health = config.healthcheck.as_ref()?;
        let test = health.test.as_deref()?;
        let command = match test.split_first()? {
            (kind, rest) if kind == "CMD" => rest.to_vec(),
            (kind, rest) if kind == "CMD-SHELL" => {
                let shell = config.shell.clone().filter(|s| !s.is_empty());
                let shell = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                shell.into_iter().chain(rest.iter().cloned()).collect()
            }
            _ => return None,
        };
        let or = |nanos: i64, default| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => default,
        };
        (!command.is_empty()).then(|| Self {
            command,
            interval: or(health.interval, INTERVAL),
            timeout: or(health.timeout, TIMEOUT),
            start_period: or(health.start_period, Duration::ZERO),
            start_interval: or(health.start_interval, START_INTERVAL),
            retries: if health.retries > 0 { health.retries } else { RETRIES },
        })
    }

    fn pause(&self, status: HealthStatus, lived: Duration) -> Duration {
        match status {
            HealthStatus::Starting if lived < self.start_period => self.start_interval,
            _ => self.interval,
        }
    }
}

/// Checks what was asked for.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn check(health: &HealthConfig) -> Result<()> {
    for (name, nanos) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if nanos != 0 && nanos < SHORTEST {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match health.test.as_deref().and_then(<[String]>::split_first) {
        None => Ok(()),
        Some((kind, [])) if kind == "NONE" => Ok(()),
        Some((kind, rest)) if matches!(kind.as_str(), "CMD" | "CMD-SHELL") && !rest.is_empty() => {
            Ok(())
        }
        Some((kind, _)) if matches!(kind.as_str(), "CMD" | "CMD-SHELL" | "NONE") => {
            Err(Error::invalid(format!("the Healthcheck {kind:?} wants another number of words")))
        }
        Some((kind, _)) => Err(Error::invalid(format!(
            "unknown type of Healthcheck {kind:?}: use NONE, CMD or CMD-SHELL"
        ))),
    }
}

/// What the label says, or why it says nothing.
pub(crate) fn warning(config: &model::ContainerConfig) -> Option<String> {
    let action = config.labels.as_ref()?.get(ACTION)?;
    match action.as_str() {
        "restart" if Check::of(config).is_none() => {
            Some(format!("The label {ACTION} has no effect: the container has no health check."))
        }
        "restart" | "" => None,
        other => Some(format!(
            "The label {ACTION}={other} has no effect: the only action that there is is restart."
        )),
    }
}

impl Container {
    /// What is known of its health now.
    pub(crate) fn health(&self) -> MutexGuard<'_, Option<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The health of a container that is about to run; the last results stay.
pub(crate) fn begin(record: &Record) -> Option<Health> {
    Check::of(&record.config)?;
    let log = record.state.health.as_ref().map(|h| h.log.clone()).unwrap_or_default();
    Some(Health { log, ..Health::default() })
}

/// Without a probe nobody knows: docker calls that unhealthy.
pub(crate) fn rest(health: &mut Option<Health>) {
    if let Some(health) = health {
        health.status = HealthStatus::Unhealthy;
    }
}

impl Engine {
    /// Probes `container` in the background, as long as its run lasts.
    pub(crate) fn watch_health(self: &Arc<Self>, container: &Arc<Container>, shim: &Arc<Shim>) {
        let Some(check) = Check::of(&container.record().config) else { return };
        let watch = Watch {
            engine: Arc::clone(self),
            container: Arc::clone(container),
            shim: Arc::clone(shim),
            check,
        };
        self.tasks.spawn(watch.run());
    }
}

/// The task of one run.
struct Watch {
    engine: Arc<Engine>,
    container: Arc<Container>,
    shim: Arc<Shim>,
    check: Check,
}

impl Watch {
    async fn run(self) {
        let mut phase = self.container.watch();
        let run = phase.borrow().ends;
        loop {
            let status =
                self.container.health().as_ref().map_or(HealthStatus::Starting, |h| h.status);
            let pause = self.check.pause(status, self.lived());
            let outcome = tokio::select! {
                outcome = async {
                    tokio::time::sleep(pause).await;
                    self.probe().await
                } => Some(outcome),
                () = self.engine.stop.cancelled() => return,
                _ = phase.wait_for(|p| p.ends != run || p.removed || p.paused) => None,
            };
            // It rests until the end of a pause, or of the run.
            let goes_on = tokio::select! {
                phase = phase.wait_for(|p| !p.paused) => {
                    phase.is_ok_and(|p| p.ends == run && !p.removed)
                }
                () = self.engine.stop.cancelled() => false,
            };
            if !goes_on {
                return;
            }
            let Some(outcome) = outcome else { continue };
            match self.note(outcome) {
                Ok(true) => return self.act().await,
                Ok(false) => {}
                Err(err) => tracing::warn!(
                    ctr = self.container.id().short(),
                    err = err.chain(),
                    "a change of health was not recorded"
                ),
            }
        }
    }

    fn lived(&self) -> Duration {
        Timestamp::now().since(self.container.record().state.started)
    }

    /// Takes a result in; true when the container is to be restarted for it.
    fn note(&self, outcome: Outcome) -> Result<bool> {
        let started = self.container.record().state.started;
        let lived = outcome.start.since(started);
        let (health, changed) = {
            let mut slot = self.container.health();
            let health = slot.get_or_insert_default();
            let changed = health.judge(outcome, &self.check, lived);
            (health.clone(), changed)
        };
        if !changed {
            return Ok(false);
        }
        let status = health.status;
        let record = self.container.change(
            &self.engine.store,
            |r| r.state.health = Some(health),
            |tx, r| {
                tx.emit(r.event(format!("health_status: {}", status.word())));
                Ok(())
            },
        )?;
        let label = record.config.labels.as_ref().and_then(|l| l.get(ACTION));
        Ok(status == HealthStatus::Unhealthy && label.is_some_and(|l| l == "restart"))
    }

    /// Restarts what became unhealthy.
    async fn act(self) {
        if self.container.record().state.status != Status::Running {
            return;
        }
        let id = self.container.id();
        tracing::info!(ctr = id.short(), "restarting an unhealthy container, as its label asks");
        let by = Principal::daemon();
        if let Err(err) = self.engine.container_restart(id.as_str(), None, None, &by).await {
            tracing::warn!(
                ctr = id.short(),
                err = err.chain(),
                "an unhealthy container could not be restarted"
            );
        }
    }

    /// Runs the command once.
    async fn probe(&self) -> Outcome {
        let start = Timestamp::now();
        let mut output = Cut::default();
        let code = match self.command(&mut output).await {
            Ok(code) => code,
            Err(text) => {
                let told = output.text();
                output = Cut::default();
                output.take(format!("{text}{told}").as_bytes());
                -1
            }
        };
        self.engine.counters.probed(code == 0);
        Outcome { start, end: Timestamp::now(), code, output: output.text() }
    }

    async fn command(&self, output: &mut Cut) -> Result<i32, String> {
        let record = self.container.record();
        let config = model::ExecConfig {
            cmd: Some(self.check.command.clone()),
            attach_stdout: true,
            attach_stderr: true,
            ..model::ExecConfig::default()
        };
        let id = ExecId::random().to_string();
        let plan = super::spec::exec_plan(&record, &id, &config, None, &self.engine)
            .map_err(|e| e.chain())?;
        let streams = shim::AttachOptions { stdin: false, stdout: true, stderr: true };
        let started = self.shim.exec(plan, Some(streams)).await;
        let started = started.map_err(|e| super::exec::exec_failed(&record, &e).chain())?;
        let target = Target::Exec(id);
        let mut guard = Session { pid: i32::try_from(started.pid).ok() };
        let finished = async {
            if let Some(mut attach) = started.attach {
                while let Ok(Some(frame)) = attach.next().await {
                    output.take(&frame.bytes);
                }
            }
            self.shim.wait(&target).await
        };
        match tokio::time::timeout(self.check.timeout, finished).await {
            Ok(Ok(exit)) => {
                guard.pid = None;
                Ok(exit.code)
            }
            Ok(Err(err)) => Err(err.chain()),
            Err(_) => {
                drop(guard);
                let _ = self.shim.signal(&target, base::signal::KILL).await;
                // The next probe does not begin beside this one.
                let _ = tokio::time::timeout(AFTER_KILL, self.shim.wait(&target)).await;
                let text =
                    format!("Health check exceeded timeout ({})", go_duration(self.check.timeout));
                Err(if output.is_empty() { text } else { text + ": " })
            }
        }
    }
}

/// The session of a probe that has not ended: killed with all that it started.
struct Session {
    pid: Option<i32>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Each exec leads a session, and so a group, of its own; its leader was not reaped yet.
        if let Some(pid) = self.pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The beginning of an output.
#[derive(Default)]
struct Cut {
    bytes: Vec<u8>,
    more: bool,
}

impl Cut {
    fn take(&mut self, bytes: &[u8]) {
        let room = OUTPUT - self.bytes.len();
        self.more |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.more { text + "..." } else { text }
    }
}

/// Go's short form: `1m30s`, `1.5s`, `200ms`.
fn go_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 {
        return format!("{}ms", f64::from(nanos) / 1e6);
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = format!("{}s", (seconds % 60) as f64 + f64::from(nanos) / 1e9);
    match (hours, minutes) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> model::ContainerConfig {
        let test = test.iter().map(|w| (*w).to_owned()).collect();
        let health = HealthConfig {
            test: Some(test),
            start_period: 10_000_000_000,
            ..HealthConfig::default()
        };
        model::ContainerConfig { healthcheck: Some(health), ..model::ContainerConfig::default() }
    }

    fn outcome(code: i32) -> Outcome {
        Outcome { code, ..Outcome::default() }
    }

    #[test]
    fn commands_and_defaults_are_dockers() {
        let check = Check::of(&config(&["CMD-SHELL", "x y"])).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "x y"]);
        assert_eq!((check.interval, check.retries), (INTERVAL, 3));
        assert_eq!(Check::of(&config(&["CMD", "x", "y"])).unwrap().command, ["x", "y"]);
        assert_eq!(check.pause(HealthStatus::Starting, Duration::from_secs(9)), START_INTERVAL);
        assert_eq!(check.pause(HealthStatus::Starting, Duration::from_secs(10)), INTERVAL);
        for none in [&["NONE"][..], &[], &["CMD"], &["BOGUS", "x"]] {
            assert_eq!(Check::of(&config(none)), None, "{none:?}");
        }
    }

    #[test]
    fn failures_count_after_the_start_period_or_a_success() {
        let check = Check::of(&config(&["CMD", "x"])).unwrap();
        let mut health = Health::default();
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..4 {
            assert!(!health.judge(outcome(1), &check, early));
        }
        assert_eq!(health.streak, 0);
        assert!(health.judge(outcome(0), &check, early));
        assert!(!health.judge(outcome(1), &check, early));
        assert!(!health.judge(outcome(-1), &check, late));
        assert!(health.judge(outcome(3), &check, late), "the third in a row");
        assert_eq!(
            (health.status, health.streak, health.log.len()),
            (HealthStatus::Unhealthy, 3, 5)
        );
        assert!(health.judge(outcome(0), &check, late));
        assert_eq!(health.streak, 0);
    }

    #[test]
    fn output_is_cut_and_durations_read_as_go_prints_them() {
        let mut cut = Cut::default();
        cut.take(&[b'x'; OUTPUT]);
        assert_eq!(cut.text().len(), OUTPUT);
        cut.take(b"y");
        assert!(cut.text().ends_with("x...") && cut.text().len() == OUTPUT + 3);
        for (millis, want) in [(200, "200ms"), (1000, "1s"), (1500, "1.5s"), (90_000, "1m30s")] {
            assert_eq!(go_duration(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn bad_checks_are_refused() {
        let base =
            HealthConfig { test: Some(vec!["CMD".into(), "x".into()]), ..Default::default() };
        assert!(check(&base).is_ok());
        assert!(check(&HealthConfig { interval: 5, ..base.clone() }).is_err());
        assert!(check(&HealthConfig { timeout: -1, ..base.clone() }).is_err());
        assert!(check(&HealthConfig { retries: -1, ..base.clone() }).is_err());
        let unknown = HealthConfig { test: Some(vec!["SHELL".into()]), ..base };
        assert!(check(&unknown).is_err());
    }
}

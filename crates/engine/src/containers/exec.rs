//! Processes started in a running container: create, start, inspect, resize.
//!
//! Execs live in memory: they end with their container, and Docker forgets them too when its daemon
//! goes. An ended exec can be inspected for some minutes.

use super::{AttachStream, Container, Status, attach::detach_keys, merge::overlay_env};
use crate::Engine;
use api::model;
use base::{Error, ExecId, Principal, Result, Timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use runtime::{
    shim::{self, Target},
    spec::ConsoleSize,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How long an ended exec can be inspected.
const KEPT: Duration = Duration::from_secs(300);
/// Execs of one container that are kept at most; the oldest ended ones go first.
const MOST: usize = 10_000;
/// The codes of a shell for a command that cannot be run, and for one that is not there.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// The execs of one container.
#[derive(Debug, Default)]
pub(crate) struct Execs(Mutex<HashMap<ExecId, Arc<Exec>>>);

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: ExecId,
    config: model::ExecConfig,
    phase: watch::Sender<ExecPhase>,
}

#[derive(Clone, Debug, Default)]
struct ExecPhase {
    claimed: bool,
    running: bool,
    pid: i32,
    exit_code: Option<i32>,
    ended: Option<Timestamp>,
}

/// Waits for the end of an exec.
#[derive(Debug)]
pub struct ExecHandle(Arc<Exec>);

impl ExecHandle {
    pub(crate) async fn ended(&self) {
        let _ = self.0.phase.subscribe().wait_for(|p| p.exit_code.is_some()).await;
    }
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of running execs, null when there is none.
    pub(crate) fn ids(&self) -> Option<Vec<String>> {
        let ids: Vec<String> = self
            .lock()
            .values()
            .filter(|e| e.phase.borrow().running)
            .map(|e| e.id.to_string())
            .collect();
        (!ids.is_empty()).then_some(ids)
    }

    fn insert(&self, exec: Arc<Exec>) {
        let now = Timestamp::now();
        let mut all = self.lock();
        all.retain(|_, e| e.phase.borrow().ended.is_none_or(|at| now.since(at) < KEPT));
        if all.len() >= MOST {
            let oldest =
                all.values().filter_map(|e| Some((e.phase.borrow().ended?, e.id.clone()))).min();
            if let Some((_, id)) = oldest {
                all.remove(&id);
            }
        }
        all.insert(exec.id.clone(), exec);
    }
}

impl Engine {
    fn find_exec(&self, id: &str) -> Result<(Arc<Container>, Arc<Exec>)> {
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        let id: ExecId = id.parse().map_err(|_| missing())?;
        let found = self.execs.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let container = found.and_then(|ctr| self.containers.get(&ctr)).ok_or_else(missing)?;
        let exec = container.execs.lock().get(&id).cloned().ok_or_else(missing)?;
        Ok((container, exec))
    }

    /// Prepares an exec in container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` without command; `Conflict` when the container does not run.
    pub async fn exec_create(
        &self,
        name: &str,
        config: model::ExecConfig,
        by: &Principal,
    ) -> Result<ExecId> {
        let container = self.containers.find(name)?;
        let record = container.record();
        refuse_unless_running(&record)?;
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        if config.privileged && !record.host.privileged {
            let safeguards = &self.config.safeguards;
            safeguards.permit(crate::level::Wish::Privileged, "--privileged of an exec")?;
        }
        detach_keys(Some(&config.detach_keys))?;
        for variable in config.env.iter().flatten() {
            if variable.is_empty() || variable.starts_with('=') {
                return Err(Error::invalid(format!("invalid environment variable: {variable}")));
            }
        }
        let exec = Arc::new(Exec {
            id: ExecId::random(),
            config,
            phase: watch::Sender::new(ExecPhase::default()),
        });
        let id = exec.id.clone();
        let event = record
            .event(format!(
                "exec_create: {}",
                exec.config.cmd.clone().unwrap_or_default().join(" ")
            ))
            .with("execID", id.as_str())
            .by(by);
        container.execs.insert(exec);
        self.execs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), container.id().clone());
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(id)
    }

    /// Starts exec `id` and attaches to it. Whether output is framed goes by what the start says (`raw`), whatever the
    /// command was created with.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it ran already or the container does not run.
    pub async fn exec_start(
        self: &Arc<Self>,
        id: &str,
        console: Option<[u32; 2]>,
        raw: bool,
        by: &Principal,
    ) -> Result<AttachStream> {
        let (container, exec) = self.find_exec(id)?;
        let c = &exec.config;
        let streams = shim::AttachOptions {
            stdin: c.attach_stdin,
            stdout: c.attach_stdout,
            stderr: c.attach_stderr,
        };
        let (attached, failure) =
            match self.run_exec(&container, &exec, Some(streams), console, by).await {
                Ok(attached) => (attached, None),
                // A command that cannot be run is told in the stream, as docker does; its code can be read after.
                Err(err) if exec.phase.borrow().exit_code.is_some() => (None, Some(err.chain())),
                Err(err) => return Err(err),
            };
        let keys = detach_keys(Some(&c.detach_keys))?;
        let event = container.record().event("exec_detach").with("execID", exec.id.as_str()).by(by);
        let mut stream = AttachStream::of(
            attached,
            c.attach_stdin,
            c.tty,
            keys,
            (Arc::clone(&self.store), event),
        );
        stream.exec = Some(ExecHandle(Arc::clone(&exec)));
        if let Some(text) = failure {
            stream.tell(&format!("{text}\r\n"));
        }
        stream.reframe(raw);
        Ok(stream)
    }

    /// Starts exec `id` and leaves it alone.
    ///
    /// # Errors
    /// As [`Engine::exec_start`], and `Invalid` when the command cannot be run.
    pub async fn exec_start_detached(self: &Arc<Self>, id: &str, by: &Principal) -> Result<()> {
        let (container, exec) = self.find_exec(id)?;
        self.run_exec(&container, &exec, None, None, by).await.map(drop)
    }

    /// Claims the exec and carries it out. What fails from then on ends it with a code, as a command that cannot be run
    /// does: docker's client shows what is told in the stream, and nothing of an answer that refuses one.
    async fn run_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        streams: Option<shim::AttachOptions>,
        console: Option<[u32; 2]>,
        by: &Principal,
    ) -> Result<Option<shim::Attach>> {
        let mut refused = None;
        exec.phase.send_if_modified(|phase| {
            if phase.exit_code.is_some() {
                refused = Some(format!("Error: Exec command {} has already run", exec.id));
            } else if phase.claimed {
                refused = Some(format!("Error: Exec command {} is already running", exec.id));
            }
            phase.claimed = true;
            false
        });
        if let Some(text) = refused {
            return Err(Error::conflict(text));
        }
        refuse_unless_running(&container.record())?;
        let done = self.carry_out(container, exec, streams, console, by).await;
        done.map_err(|(code, err)| {
            exec.phase.send_modify(|phase| {
                phase.running = false;
                phase.exit_code = Some(code);
                phase.ended = Some(Timestamp::now());
            });
            err
        })
    }

    /// On error with the code that the exec ends with.
    async fn carry_out(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        streams: Option<shim::AttachOptions>,
        console: Option<[u32; 2]>,
        by: &Principal,
    ) -> Result<Option<shim::Attach>, (i32, Error)> {
        let refused = |err| (CANNOT_RUN, err);
        let record = container.record();
        let shim = container.shim().ok_or_else(|| {
            refused(Error::conflict(format!("container {} is not running", record.id)))
        })?;
        let console = exec.config.console_size.or(console);
        let plan = super::spec::exec_plan(&record, exec.id.as_str(), &exec.config, console, self)
            .map_err(refused)?;
        let event = record
            .event(format!("exec_start: {}", exec.config.cmd.clone().unwrap_or_default().join(" ")))
            .with("execID", exec.id.as_str())
            .by(by);
        self.store
            .write(|tx| {
                tx.emit(event);
                Ok(())
            })
            .map_err(refused)?;
        let started = shim.exec(plan, streams).await.map_err(|err| {
            let code = if err.class == shim::Class::NotFound { NOT_FOUND } else { CANNOT_RUN };
            (code, exec_failed(&record, &err))
        })?;
        exec.phase.send_modify(|phase| {
            phase.running = true;
            phase.pid = started.pid as i32;
        });
        self.tasks.spawn(watch_exec(
            Arc::clone(self),
            Arc::clone(container),
            Arc::clone(exec),
            shim,
        ));
        Ok(started.attach)
    }

    /// What is known of exec `id`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn exec_inspect(&self, id: &str) -> Result<model::ExecInspect> {
        let (container, exec) = self.find_exec(id)?;
        let phase = exec.phase.borrow().clone();
        let c = &exec.config;
        let mut words = c.cmd.clone().unwrap_or_default().into_iter();
        Ok(model::ExecInspect {
            id: exec.id.to_string(),
            running: phase.running,
            exit_code: phase.exit_code.map(i64::from),
            process_config: model::ExecProcess {
                tty: c.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect(),
                privileged: c.privileged,
                user: c.user.clone(),
            },
            open_stdin: c.attach_stdin,
            open_stderr: c.attach_stderr,
            open_stdout: c.attach_stdout,
            can_remove: false,
            container_id: container.id().to_string(),
            detach_keys: match c.detach_keys.as_str() {
                "" => String::new(),
                keys => STANDARD.encode(detach_keys(Some(keys)).unwrap_or_default()),
            },
            pid: i64::from(phase.pid),
        })
    }

    /// Sets the size of exec `id`'s terminal.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it does not run.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let (container, exec) = self.find_exec(id)?;
        // A resize may overtake the start that it belongs to.
        let mut phase = exec.phase.subscribe();
        let started = tokio::time::timeout(
            Duration::from_secs(1),
            phase.wait_for(|p| p.running || p.exit_code.is_some()),
        );
        let running = matches!(started.await, Ok(Ok(p)) if p.running);
        let shim = container.shim().filter(|_| running);
        let Some(shim) = shim else {
            return Err(Error::conflict(format!(
                "exec {id} is not running: its terminal cannot be resized"
            )));
        };
        shim.resize(&Target::Exec(exec.id.to_string()), ConsoleSize { height, width })
            .await
            .map_err(|e| Error::wrap(format!("cannot resize exec {id}"), e))
    }
}

/// Records the end of an exec before its streams end.
async fn watch_exec(
    engine: Arc<Engine>,
    container: Arc<Container>,
    exec: Arc<Exec>,
    shim: Arc<shim::Shim>,
) {
    let code = shim.wait(&Target::Exec(exec.id.to_string())).await.map_or(137, |exit| exit.code);
    let event = container
        .record()
        .event("exec_die")
        .with("execID", exec.id.as_str())
        .with("exitCode", code.to_string());
    exec.phase.send_modify(|phase| {
        phase.running = false;
        phase.exit_code = Some(code);
        phase.ended = Some(Timestamp::now());
        phase.pid = 0;
    });
    if let Err(err) = engine.store.write(|tx| {
        tx.emit(event);
        Ok(())
    }) {
        tracing::warn!(
            ctr = container.id().short(),
            err = err.chain(),
            "the end of an exec was not recorded"
        );
    }
}

/// Docker's sentence around the reason why a further process did not start.
pub(super) fn exec_failed(record: &super::Record, err: &shim::StartError) -> Error {
    // Another runtime's words are whole sentences.
    let own = match crate::runtimes::is_own(&record.host.runtime) {
        true => "exec failed: unable to start container process: ",
        false => "",
    };
    Error::invalid(format!("OCI runtime exec failed: {own}{err}: unknown"))
}

fn refuse_unless_running(record: &super::Record) -> Result<()> {
    match record.state.status {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            record.id
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            record.id
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", record.id))),
    }
}

/// The environment of an exec: the container's, then its own.
pub(crate) fn environment(record: &super::Record, config: &model::ExecConfig) -> Vec<String> {
    let mut env = super::merge::process_env(&record.config, &record.config.hostname);
    if config.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    overlay_env(&mut env, config.env.as_deref().unwrap_or_default());
    env
}

//! Commands that are spoken with while they run: front ends of builds, and containers that front ends ask for.

use super::{
    host::{BuildHost, BuildTree},
    run::{Frames, RunContainer},
    step::{self, Step},
};
use crate::{
    Engine,
    containers::{AttachOptions, AttachStream, Condition, Input},
};
use api::model;
use base::{Error, Result};
use build::host::Container as _;
use bytes::Bytes;
use std::sync::Arc;

/// Processes that a front end may have at once.
const PROCESSES: i64 = 4096;

/// A command in a container of its own; both go when this is dropped.
#[derive(Debug)]
pub struct Talk {
    engine: Arc<Engine>,
    container: RunContainer,

    _trees: Vec<Option<BuildTree>>,
}

/// A command that runs beside another in its container.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Its words.
    pub args: Vec<String>,
    /// `NAME=value`, each.
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// `user[:group]`.
    pub user: String,
    /// On a terminal.
    pub tty: bool,
}

/// The streams of a command.
#[derive(Debug)]
pub struct Attached {
    stream: AttachStream,
    frames: Frames,
}

impl Attached {
    fn of(stream: AttachStream) -> Self {
        Self { stream, frames: Frames::default() }
    }

    /// Its input, once.
    pub fn input(&mut self) -> Option<Input> {
        self.stream.input.take()
    }

    /// What it says next, and whether to its standard error; `None` at the end.
    pub async fn next(&mut self) -> Option<(bool, Bytes)> {
        loop {
            if self.stream.tty {
                return self.stream.next().await.map(|bytes| (false, bytes));
            }
            if let Some(said) = self.frames.next_bytes() {
                return Some(said);
            }
            let bytes = self.stream.next().await?;
            self.frames.push(&bytes);
        }
    }
}

impl BuildHost {
    /// Starts a command that is spoken with.
    ///
    /// # Errors
    /// As creating and starting a container give them.
    pub async fn talk(&self, step: &Step, tty: bool) -> Result<(Talk, Attached)> {
        let mut create = step::create(step, self.host_defaults());
        create.config.open_stdin = true;
        create.config.stdin_once = true;
        create.config.attach_stdin = true;
        create.config.tty = tty;
        create.host.pids_limit = Some(PROCESSES);
        let mut trees = Vec::new();
        for mount in &step.mounts {
            trees.push(self.mounted(mount, &mut create).await?);
        }
        let container = RunContainer::make(self.engine(), self.job(), self.hold(), create).await?;
        let streams = AttachOptions {
            stdin: true,
            stdout: true,
            stderr: true,
            stream: true,
            ..AttachOptions::default()
        };
        let (engine, by) = (Arc::clone(self.engine()), self.by());
        let stream = engine.container_attach(container.id(), streams, by).await?;
        container.start().await?;
        Ok((Talk { engine, container, _trees: trees }, Attached::of(stream)))
    }
}

impl Talk {
    /// Its exit code, once it has ended.
    ///
    /// # Errors
    /// When it could not be told.
    pub async fn ended(&self) -> Result<i64> {
        let waits = self.engine.container_wait(self.container.id(), Condition::NotRunning)?;
        let ended = waits.ended().await;
        match ended.error {
            Some(why) => Err(Error::internal(why)),
            None => Ok(ended.exit_code.into()),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As [`Engine::container_kill`].
    pub async fn signal(&self, signal: &str) -> Result<()> {
        self.engine.container_kill(self.container.id(), signal, self.container.by()).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// As [`Engine::container_resize`].
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.engine.container_resize(self.container.id(), rows, columns).await
    }

    /// Runs another command beside it; gives its id and streams.
    ///
    /// # Errors
    /// `Conflict` when it does not run any more; as [`Engine::exec_start`].
    pub async fn beside(&self, what: Beside) -> Result<(String, Attached)> {
        let (by, raw) = (self.container.by(), what.tty);
        let config = model::ExecConfig {
            cmd: Some(what.args),
            env: Some(what.env),
            working_dir: what.cwd,
            user: what.user,
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: what.tty,
            ..model::ExecConfig::default()
        };
        let id = self.engine.exec_create(self.container.id(), config, by).await?.to_string();
        let stream = self.engine.exec_start(&id, None, raw, by).await?;
        Ok((id, Attached::of(stream)))
    }

    /// The exit code of a command beside it, whose streams have ended.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn beside_ended(&self, id: &str) -> Result<i64> {
        Ok(self.engine.exec_inspect(id)?.exit_code.unwrap_or_default())
    }

    /// Sets the size of the terminal of a command beside it.
    ///
    /// # Errors
    /// As [`Engine::exec_resize`].
    pub async fn beside_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.engine.exec_resize(id, rows, columns).await
    }

    /// Ends it and takes it away.
    ///
    /// # Errors
    /// As removing a container gives them.
    pub async fn remove(self) -> Result<()> {
        self.container.remove().await
    }
}

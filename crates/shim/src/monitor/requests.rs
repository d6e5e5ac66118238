//! What clients ask.

use super::{
    Monitor,
    process::{Phase, Process},
};
use crate::container::Command;
use runtime::{
    shim::{
        self, AttachOptions, State, Target,
        protocol::{Envelope, Refusal, Reply, Request, VERSION},
    },
    spec::ConsoleSize,
};
use sys::{process as kernel, pty};

type Answer = Result<(), (Refusal, String)>;

impl Monitor {
    /// Deals with one request.
    pub(super) fn request(&mut self, token: u64, envelope: Envelope) {
        if envelope.v != VERSION && !matches!(envelope.request, Request::State) {
            return self
                .refuse(token, &format!("this shim speaks version {VERSION}, not {}", envelope.v));
        }
        let answer = match envelope.request {
            Request::Launch(request) => return self.launch(token, request),
            Request::Release => return self.release(token),
            Request::Exec { plan, attach } => return self.exec(token, &plan, attach),
            Request::Wait { target } => return self.wait(token, target),
            Request::Attach { target, options } => return self.attach(token, &target, options),
            Request::State => return self.state(token),
            Request::ServeNames => return self.serve_names(token),
            Request::Signal { target: Target::Init, signal } if self.delegated() => {
                return self.kill_by_runtime(token, signal);
            }
            Request::Pause | Request::Resume if !self.delegated() => {
                return self.refuse(token, "the container is run by the shim itself");
            }
            Request::Pause => return self.ask_runtime(token, Command::Pause),
            Request::Resume => return self.ask_runtime(token, Command::Resume),
            Request::Signal { target, signal } => self.signal(&target, signal),
            Request::Resize { target, size } => self.resize(&target, size),
            Request::CloseStdin { target } => self.close_stdin(&target),
            Request::ReopenLog => self.reopen_log(),
        };
        match answer {
            Ok(()) => self.reply(token, &Reply::Done),
            Err((kind, message)) => self.reply(token, &Reply::Error { kind, message }),
        }
    }

    /// Sends a reply; a client that cannot take it is dropped.
    pub(super) fn reply(&mut self, token: u64, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.reply(reply) {
            Ok(()) => self.settle(token),
            Err(_) => self.drop_connection(token),
        }
    }

    /// Answers that a request makes no sense.
    pub(super) fn refuse(&mut self, token: u64, why: &str) {
        self.reply(token, &Reply::Error { kind: Refusal::Invalid, message: why.to_owned() });
    }

    pub(super) fn living(&mut self, target: &Target) -> Result<&mut Process, (Refusal, String)> {
        match self.processes.get_mut(target) {
            Some(process) if !matches!(process.phase, Phase::Exited(_)) => Ok(process),
            _ => Err((Refusal::NotFound, "process already finished".to_owned())),
        }
    }

    fn signal(&mut self, target: &Target, signal: i32) -> Answer {
        let process = self.living(target)?;
        let Some(pidfd) = &process.pidfd else {
            return Err((Refusal::Conflict, "process is not started yet".to_owned()));
        };
        kernel::kill(pidfd, signal).map_err(|e| {
            let kind = match e.raw_os_error() {
                Some(3) => Refusal::NotFound,
                Some(22) => Refusal::Invalid,
                _ => Refusal::Internal,
            };
            (kind, format!("cannot send signal {signal}: {e}"))
        })
    }

    fn resize(&mut self, target: &Target, size: ConsoleSize) -> Answer {
        let process = self.living(target)?;
        if !process.has_terminal {
            return Err((Refusal::Conflict, "process has no terminal".to_owned()));
        }
        process.size = Some(size);
        match &process.terminal {
            Some(terminal) => pty::resize(terminal, size.height, size.width)
                .map_err(|e| (Refusal::Internal, format!("cannot resize terminal: {e}"))),
            None => Ok(()),
        }
    }

    fn close_stdin(&mut self, target: &Target) -> Answer {
        let process = self.living(target)?;
        if let Some(input) = &mut process.input {
            input.closing = true;
        }
        self.feed(target);
        Ok(())
    }

    fn reopen_log(&mut self) -> Answer {
        match &mut self.log {
            Some(log) => log.reopen().map_err(|e| (Refusal::Internal, e.chain())),
            None => Ok(()),
        }
    }

    fn wait(&mut self, token: u64, target: Target) {
        match self.processes.get_mut(&target) {
            Some(Process { phase: Phase::Exited(exit), .. }) => {
                let exit = Reply::Exit(*exit);
                self.reply(token, &exit);
            }
            Some(process) => process.waiting.push(token),
            None => {
                let message = "no such process".to_owned();
                self.reply(token, &Reply::Error { kind: Refusal::NotFound, message });
            }
        }
    }

    fn attach(&mut self, token: u64, target: &Target, options: AttachOptions) {
        match self.living(target) {
            Ok(process) => {
                let terminal = process.has_terminal;
                self.reply(token, &Reply::Attached { terminal });
                self.become_stream(token, target, options);
            }
            Err((kind, message)) => self.reply(token, &Reply::Error { kind, message }),
        }
    }

    fn state(&mut self, token: u64) {
        let Some(first) = self.processes.get(&Target::Init) else {
            return self.refuse(token, "nothing was launched");
        };
        let execs =
            self.processes.iter().filter_map(|(target, process)| match (target, process.phase) {
                (Target::Exec(id), Phase::Running) => Some((id.clone(), process.pid)),
                _ => None,
            });
        let state = State {
            version: VERSION,
            shim: std::process::id(),
            pid: first.pid,
            phase: match first.phase {
                Phase::Making => shim::Phase::Created,
                Phase::Running => shim::Phase::Running,
                Phase::Exited(exit) => shim::Phase::Exited(exit),
            },
            started: first.started,
            execs: execs.collect(),
        };
        self.reply(token, &Reply::State(state));
    }
}

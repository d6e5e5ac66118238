//! A process between its clone and its program.

use super::{
    Mode, Monitor, Source, ending,
    process::{Phase, Process},
};
use crate::container::{Ends, Input, Joining, Message, Step, Streams, Sync, Tried, pipes};
use base::Timestamp;
use runtime::{
    ExecPlan,
    shim::{AttachOptions, StartError, Target, protocol::Reply},
};
use sys::process as kernel;

impl Monitor {
    /// Starts a further process; the answer comes when its program runs.
    pub(super) fn exec(&mut self, token: u64, plan: &ExecPlan, attach: Option<AttachOptions>) {
        if let Err(err) = self.make_exec(token, plan, attach) {
            self.processes.remove(&Target::Exec(plan.id.clone()));
            self.reply(token, &Reply::Failed(err));
        }
    }

    fn make_exec(&mut self, token: u64, plan: &ExecPlan, attach: Option<AttachOptions>) -> Step {
        let target = Target::Exec(plan.id.clone());
        if self.processes.contains_key(&target) {
            return Err(StartError::setup(format!("exec {} was started already", plan.id)));
        }
        let Some(Process { phase: Phase::Running, pidfd: Some(first), .. }) =
            self.processes.get(&Target::Init)
        else {
            return Err(StartError::setup("container is not running"));
        };
        if self.delegated() {
            return self.exec_by_runtime(token, plan, attach);
        }
        let terminal = plan.process.terminal;
        let (streams, ends) = if terminal {
            (Streams::default(), Ends::Terminal)
        } else {
            let input = if plan.stdin { Input::Pipe } else { Input::Null };
            pipes(input).tried(|| "make standard streams".into())?
        };
        let sync = Sync::pair().tried(|| "make a socket".into())?;
        let maps = self.container.as_ref().and_then(|c| c.maps.as_ref());
        let joining = Joining { plan, first, maps, ends, alone: None };
        let (helper, sync) = joining.start(sync).tried(|| "unable to clone a process".into())?;
        let mut process = Process::new(streams, terminal);
        process.helper = helper.pid;
        process.starter = Some(token);
        process.attach = attach;
        process.input_once = !terminal;
        let joined = self.join_groups(helper.pid).and_then(|()| match plan.process.oom_score_adj {
            Some(adj) => super::launch::set_oom_score_adj(helper.pid, adj),
            None => Ok(()),
        });
        if joined.is_ok() {
            let _ = sync.send(&Message::Joined, None);
        } else {
            let _ = kernel::kill(&helper.pidfd, 9);
        }
        joined?;
        self.watch(target, process, sync)
    }

    /// A process in the making has something to say, or closed its end.
    pub(super) fn sync_ready(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        let Some((_, sync)) = &process.sync else { return };
        match sync.receive() {
            // What is born into the container may speak with a tracer's voice: it is believed what it says of
            // itself, no more.
            Ok(Some((Message::Terminal, Some(near)))) if !process.is_born() => {
                if let Err(err) = process.take_terminal(near) {
                    process.failure = Some(StartError::setup(format!("set up terminal: {err}")));
                }
            }
            Ok(Some((Message::Pid(pid), _)))
                if !process.is_born()
                    && (self.strays.contains_key(&pid) || kernel::is_child(pid)) =>
            {
                process.pid = pid;
                process.ended_early = self.strays.remove(&pid);
                if process.ended_early.is_none() {
                    // It is a child that was not reaped yet: the pid is still its own.
                    process.pidfd = kernel::open(pid).ok();
                }
            }
            Ok(Some((Message::Spaces, _))) => self.spaces_are_made(),
            Ok(Some((Message::Started, _))) => process.said_started = true,
            Ok(Some((Message::Failed(err), _))) => process.failure = Some(err),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.made(target),
        }
    }

    /// The socket is closed: by execve, or by the end of the process.
    fn made(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        if let Some((token, sync)) = process.sync.take() {
            let _ = self.poll.remove(&sync);
            self.sources.remove(&token);
        }
        let failure = process.failure.take().or_else(|| {
            let died = || StartError::setup("process was killed during its set-up");
            (!process.said_started).then(died)
        });
        match (failure, target) {
            (None, _) => self.runs(target),
            (Some(err), Target::Init) => {
                self.unmake();
                self.failed_to_start(err);
            }
            (Some(err), Target::Exec(_)) => {
                let starter = process.starter;
                self.processes.remove(target);
                if let Some(token) = starter {
                    self.reply(token, &Reply::Failed(err));
                }
            }
        }
    }

    pub(super) fn runs(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        process.phase = Phase::Running;
        process.started = Some(Timestamp::now());
        let (starter, attach) = (process.starter.take(), process.attach.take());
        let started = Reply::Started { pid: process.pid };
        if let Some(token) = starter {
            self.reply(token, &started);
            if let Some(options) = attach {
                self.become_stream(token, target, options);
            }
        }
        if *target == Target::Init {
            self.start_hooks();
            // The launcher was answered; from here on it is a client like others.
            self.launcher = None;
        }
        self.listen(target);
        // Clients whose input had to wait for the start are listened to again.
        self.input_ready(target);
        let ended = self.processes.get_mut(target).and_then(|p| p.ended_early.take());
        if let Some(ended) = ended {
            self.ended(target, ended);
        }
    }

    /// From here on the connection carries a process's bytes.
    pub(super) fn become_stream(&mut self, token: u64, target: &Target, options: AttachOptions) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        connection.mode = Mode::Stream { target: target.clone(), options, reading: true };
        if let Some(process) = self.processes.get_mut(target) {
            process.attached.push(token);
        }
        self.settle(token);
    }

    /// The container has ended: what was in the making will not be made.
    pub(super) fn give_up_making(&mut self) {
        let making: Vec<Target> = self
            .processes
            .iter()
            .filter(|(_, p)| p.phase == Phase::Making)
            .map(|(target, _)| target.clone())
            .collect();
        for target in making {
            let Some(process) = self.processes.remove(&target) else { continue };
            if let Some((token, sync)) = process.sync {
                let _ = self.poll.remove(&sync);
                self.sources.remove(&token);
            }
            if let Some(token) = process.starter {
                self.reply(token, &Reply::Failed(StartError::setup("container is not running")));
            }
        }
    }

    /// Keeps the records of ended execs bounded.
    pub(super) fn forget_oldest(&mut self, ended: &Target) {
        if *ended == Target::Init {
            return;
        }
        self.past.push(ended.clone());
        if self.past.len() > ending::PAST_EXECS {
            let oldest = self.past.remove(0);
            self.processes.remove(&oldest);
        }
    }

    pub(super) fn source_is_gone(&mut self, token: Option<u64>) {
        if let Some(token) = token {
            self.sources.remove(&token);
        }
    }

    pub(super) fn new_source(&mut self, source: Source) -> u64 {
        self.token(source)
    }
}

//! Another runtime in place of the own one: its program is called for every step, and the loop goes on
//! while it runs.
//!
//! Flow: `create` at the launch, `start` at the release, `exec` for further processes, `kill`, `pause` and
//! `resume` when asked, `delete` at the end, before anyone hears of it. A call is a child of the shim; its
//! end, which comes with the signal for children, carries on what waits for it ([`Next`]).
//! Invariants: the container's processes become children of the shim when the program that made them ends,
//! so that they are reaped here like its own; a `delete` that hangs is killed after [`LIMIT`], and what is
//! left is ended by its control group.
//! Source: containerd's shim for runc (order of calls, meaning of their results).
//! Not here: what a call is made of (`container/delegate.rs`).

use super::{
    Monitor, ending,
    launch::cgroup_text,
    process::{Phase, Process},
};
use crate::container::{
    BUNDLE, Call, Command, Ends, Ground, Input, Step, Streams, Tried, call_file, last_error, pipes,
};
use runtime::{
    ExecPlan, Plan,
    shim::{
        AttachOptions, Exit, OciRuntime, Spawned, StartError, Stdin, Target,
        protocol::{Refusal, Reply},
    },
};
use std::{
    collections::HashMap,
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use sys::{
    cgroup::{Cgroup, Hierarchy},
    process::{self as kernel, Ended},
};

/// How long a runtime may take to delete a container whose processes have ended.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest message that comes with a terminal: its name.
const NAME: usize = 4096;
const KILL: i32 = 9;
const ESRCH: i32 = 3;

/// The other runtime of a container.
#[derive(Debug)]
pub(super) struct Delegate {
    runtime: OciRuntime,
    id: String,
    place: PathBuf,
    /// Calls under way by pid.
    calls: HashMap<u32, Pending>,
    last: u64,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    pidfd: OwnedFd,
    next: Next,
    until: Option<Instant>,
}

/// What the end of a call carries on.
#[derive(Debug)]
enum Next {
    /// The container was made.
    Created { group: Option<PathBuf>, console: Option<UnixListener> },
    /// Its program was started.
    Started,
    /// A further process was started.
    Joined { target: Target, console: Option<UnixListener> },
    /// The first process was signalled: the answer for this client.
    Signalled { token: u64, signal: i32 },
    /// The answer for this client.
    Answered(u64),
    /// The container is forgotten.
    Deleted(After),
}

/// What follows when a container is forgotten.
#[derive(Debug)]
pub(super) enum After {
    /// It was never made: the launcher hears why.
    Refused(StartError),
    /// Its program did not start: the launcher hears why.
    Unstarted(StartError),
    /// Nobody wants it any more.
    Abandoned,
    /// It ended.
    Ended(Exit),
}

impl Delegate {
    /// Nothing is called yet.
    pub(super) fn new(runtime: OciRuntime, id: &str, place: &Path) -> Self {
        let (id, place) = (id.to_owned(), place.to_owned());
        Self { runtime, id, place, calls: HashMap::new(), last: 0 }
    }

    fn call(&mut self, command: Command<'_>, next: Next) -> Step<u32> {
        let number = self.last;
        self.last += 1;
        let until = matches!(next, Next::Deleted(_)).then(|| Instant::now() + LIMIT);
        let (runtime, id, place) = (&self.runtime, self.id.as_str(), self.place.as_path());
        let child = Call { runtime, id, place, number, command }
            .start()
            .tried(|| format!("unable to call the runtime {}", runtime.program))?;
        let pending = Pending { number, pidfd: child.pidfd, next, until };
        self.calls.insert(child.pid, pending);
        Ok(child.pid)
    }

    fn file(&self, kind: &str, number: u64) -> PathBuf {
        self.place.join(BUNDLE).join(call_file(kind, number))
    }

    /// Why a call failed, in the runtime's own words if it left some.
    fn reason(&self, number: u64, ended: Ended) -> StartError {
        last_error(&self.file("log", number)).unwrap_or_else(|| {
            let program = &self.runtime.program;
            StartError::setup(match ended {
                Ended::Exited(code) => format!("{program} ended with code {code} and said nothing"),
                Ended::Signaled(signal) => format!("{program} was ended by signal {signal}"),
            })
        })
    }
}

impl Monitor {
    /// Whether another runtime does the work.
    pub(super) fn delegated(&self) -> bool {
        self.container.as_ref().is_some_and(|c| c.delegate.is_some())
    }

    fn delegate(&mut self) -> Option<&mut Delegate> {
        self.container.as_mut()?.delegate.as_mut()
    }

    fn call(&mut self, command: Command<'_>, next: Next) -> Step<u32> {
        let nothing = || StartError::setup("nothing was launched");
        self.delegate().ok_or_else(nothing)?.call(command, next)
    }

    /// Has the container made.
    pub(super) fn create_by_runtime(&mut self, plan: &Plan, stdin: Stdin) -> Step {
        let Some(container) = &self.container else { return Ok(()) };
        let bundle = container.file(BUNDLE);
        fs::create_dir_all(&bundle).tried(|| "make the bundle".into())?;
        let ground = Ground::new(plan)?;
        let terminal = plan.process.terminal;
        let input = if stdin == Stdin::Null { Input::Null } else { Input::Pipe };
        let (streams, ends) = streams(terminal, input)?;
        let console = self.console(terminal)?;
        let group = plan.cgroup.as_ref().map(|c| c.path.clone());
        let mut process = Process::new(streams, terminal);
        process.logged = self.log.is_some();
        process.input_once = stdin == Stdin::Once && !terminal;
        let command = Command::Create { plan, ground, ends };
        process.helper = self.call(command, Next::Created { group, console })?;
        self.processes.insert(Target::Init, process);
        Ok(())
    }

    /// A socket for the next call's terminal.
    fn console(&mut self, wanted: bool) -> Step<Option<UnixListener>> {
        let (true, Some(container)) = (wanted, &self.container) else { return Ok(None) };
        let number = container.delegate.as_ref().map_or(0, |d| d.last);
        let path = container.file(BUNDLE).join(call_file("console", number));
        let what = || "make a socket for the terminal".to_owned();
        let listener = UnixListener::bind(path).tried(what)?;
        listener.set_nonblocking(true).tried(what)?;
        Ok(Some(listener))
    }

    /// Has the program of the first process started.
    pub(super) fn start_by_runtime(&mut self) {
        if let Err(err) = self.call(Command::Start, Next::Started) {
            self.delete_by_runtime(After::Unstarted(err));
        }
    }

    /// Has a further process started.
    pub(super) fn exec_by_runtime(
        &mut self,
        token: u64,
        plan: &ExecPlan,
        attach: Option<AttachOptions>,
    ) -> Step {
        let first = self.processes.get(&Target::Init).map_or(0, |p| p.pid);
        let terminal = plan.process.terminal;
        let input = if plan.stdin { Input::Pipe } else { Input::Null };
        let (streams, ends) = streams(terminal, input)?;
        let console = self.console(terminal)?;
        let target = Target::Exec(plan.id.clone());
        let mut process = Process::new(streams, terminal);
        process.starter = Some(token);
        process.attach = attach;
        process.input_once = !terminal;
        let next = Next::Joined { target: target.clone(), console };
        process.helper = self.call(Command::Exec { plan, first, ends }, next)?;
        self.processes.insert(target, process);
        Ok(())
    }

    /// Has the first process signalled.
    pub(super) fn kill_by_runtime(&mut self, token: u64, signal: i32) {
        match self.living(&Target::Init) {
            Ok(process) if process.pid == 0 => {
                let message = "process is not started yet".to_owned();
                self.reply(token, &Reply::Error { kind: Refusal::Conflict, message });
            }
            Ok(_) => {
                let called = self.call(Command::Kill(signal), Next::Signalled { token, signal });
                self.answer(token, called.map(drop));
            }
            Err((kind, message)) => self.reply(token, &Reply::Error { kind, message }),
        }
    }

    /// Has something done that a client waits for.
    pub(super) fn ask_runtime(&mut self, token: u64, command: Command<'_>) {
        let called = self.call(command, Next::Answered(token));
        self.answer(token, called.map(drop));
    }

    fn answer(&mut self, token: u64, called: Step) {
        if let Err(err) = called {
            let (kind, message) = (Refusal::Internal, err.text);
            self.reply(token, &Reply::Error { kind, message });
        }
    }

    /// Has the container ended and forgotten.
    pub(super) fn delete_by_runtime(&mut self, after: After) {
        match self.call(Command::Delete, Next::Deleted(After::Abandoned)) {
            Ok(pid) => {
                let pending = self.delegate().and_then(|d| d.calls.get_mut(&pid));
                if let Some(pending) = pending {
                    pending.next = Next::Deleted(after);
                }
            }
            // What is left goes by its control group.
            Err(_) => self.deleted(after),
        }
    }

    /// The launcher is gone before the release.
    pub(super) fn abandon(&mut self) {
        let making = self.delegate().is_some_and(|d| {
            d.calls.values().any(|c| matches!(c.next, Next::Created { .. } | Next::Deleted(_)))
        });
        if !making {
            self.delete_by_runtime(After::Abandoned);
        }
    }

    /// When the next call has taken too long; those that have are killed.
    pub(super) fn call_limit(&mut self, now: Instant) -> Option<Instant> {
        let delegate = self.delegate()?;
        for call in delegate.calls.values_mut() {
            if call.until.is_some_and(|until| until <= now) {
                let _ = kernel::kill(&call.pidfd, 9);
                call.until = None;
            }
        }
        delegate.calls.values().filter_map(|c| c.until).min()
    }

    /// A child has ended: whether it was a call.
    pub(super) fn call_ended(&mut self, pid: u32, ended: Ended) -> bool {
        let Some(delegate) = self.delegate() else { return false };
        let Some(Pending { number, next, .. }) = delegate.calls.remove(&pid) else { return false };
        let result = match ended {
            Ended::Exited(0) => Ok(()),
            _ => Err(delegate.reason(number, ended)),
        };
        let pid = delegate.file("pid", number);
        match next {
            Next::Created { group, console } => self.created(result, &pid, group, console),
            Next::Started => match result {
                Ok(()) => self.runs(&Target::Init),
                Err(err) => self.delete_by_runtime(After::Unstarted(err)),
            },
            Next::Joined { target, console } => self.joined(result, &pid, &target, console),
            Next::Signalled { token, signal } => self.signalled(result, token, signal),
            Next::Answered(token) => match result {
                Ok(()) => self.reply(token, &Reply::Done),
                Err(err) => self.answer(token, Err(err)),
            },
            Next::Deleted(after) => self.deleted(after),
        }
        if let Some(delegate) = self.delegate() {
            for kind in ["log", "pid", "console", "process"] {
                let _ = fs::remove_file(delegate.file(kind, number));
            }
        }
        true
    }

    fn created(
        &mut self,
        result: Step,
        pid: &Path,
        group: Option<PathBuf>,
        console: Option<UnixListener>,
    ) {
        let made = result
            .and_then(|()| self.know(pid, &Target::Init, console))
            .and_then(|()| group.as_deref().map(open_group).transpose());
        match made {
            Ok(group) => {
                if let Some(container) = &mut self.container {
                    container.cgroup = group;
                }
                let Some(launcher) = self.launcher else {
                    return self.delete_by_runtime(After::Abandoned);
                };
                let pid = self.processes.get(&Target::Init).map_or(0, |p| p.pid);
                self.reply(launcher, &Reply::Spawned(Spawned { pid, shim: std::process::id() }));
            }
            Err(err) => self.delete_by_runtime(After::Refused(err)),
        }
    }

    fn joined(&mut self, result: Step, pid: &Path, target: &Target, console: Option<UnixListener>) {
        // With the container's end it was given up.
        if !self.processes.get(target).is_some_and(|p| p.phase == Phase::Making) {
            return;
        }
        match result.and_then(|()| self.know(pid, target, console)) {
            Ok(()) => self.runs(target),
            Err(err) => {
                let starter = self.processes.remove(target).and_then(|p| p.starter);
                if let Some(token) = starter {
                    self.reply(token, &Reply::Failed(err));
                }
            }
        }
    }

    /// Takes over the process that a call has made.
    fn know(&mut self, pid: &Path, target: &Target, console: Option<UnixListener>) -> Step {
        let text = fs::read_to_string(pid).tried(|| "read the runtime's pid file".into())?;
        let pid: u32 = text.trim().parse().map_err(|_| {
            let text: String = text.chars().take(32).collect();
            StartError::setup(format!("the runtime wrote no pid, but {text:?}"))
        })?;
        let ended_early = self.strays.remove(&pid);
        let Some(process) = self.processes.get_mut(target) else { return Ok(()) };
        process.pid = pid;
        process.ended_early = ended_early;
        if ended_early.is_none() {
            process.pidfd = Some(kernel::open(pid).tried(|| "open the new process".into())?);
        }
        if let Some(console) = console {
            let near = receive(&console).tried(|| "receive the runtime's terminal".into())?;
            process.take_terminal(near).tried(|| "set up terminal".into())?;
        }
        Ok(())
    }

    fn signalled(&mut self, result: Step, token: u64, signal: i32) {
        let refused = match (result, self.living(&Target::Init)) {
            (Ok(()), _) => None,
            (Err(_), Err(ended)) => Some(ended),
            (Err(err), Ok(process)) => {
                // What must end ends, whatever the runtime says; else this asks whether it is there.
                let sent = if signal == KILL { KILL } else { 0 };
                match process.pidfd.as_ref().map(|fd| kernel::kill(fd, sent)) {
                    Some(Ok(())) if signal == KILL => None,
                    Some(Err(e)) if e.raw_os_error() == Some(ESRCH) => {
                        Some((Refusal::NotFound, "process already finished".to_owned()))
                    }
                    _ => Some((Refusal::Internal, err.text)),
                }
            }
        };
        match refused {
            None => self.reply(token, &Reply::Done),
            Some((kind, message)) => self.reply(token, &Reply::Error { kind, message }),
        }
    }

    /// The container is forgotten, or what could be done for that was done.
    fn deleted(&mut self, after: After) {
        let group = self.container.as_ref().and_then(|c| c.cgroup.as_ref());
        if let Some(group) = group {
            let _ = group.kill_all();
        }
        match after {
            After::Ended(exit) => self.told(&Target::Init, exit),
            After::Unstarted(err) => {
                self.unmake();
                self.failed_to_start(err);
            }
            After::Refused(err) => {
                self.undo();
                if let Some(token) = self.launcher {
                    self.reply(token, &Reply::Failed(err));
                }
                self.deadline = Some(ending::linger());
            }
            After::Abandoned => {
                self.undo();
                self.deadline = Some(ending::linger());
            }
        }
    }
}

fn streams(terminal: bool, input: Input) -> Step<(Streams, Ends)> {
    match terminal {
        true => Ok((Streams::default(), Ends::Terminal)),
        false => pipes(input).tried(|| "make standard streams".into()),
    }
}

fn open_group(path: &Path) -> Step<Cgroup> {
    let hierarchy = Hierarchy::detect().map_err(|e| StartError::setup(cgroup_text(&e)))?;
    Cgroup::open(&hierarchy, &path.to_string_lossy())
        .map_err(|e| StartError::setup(cgroup_text(&e)))
}

/// The terminal that a call has sent. It was sent before the call ended.
fn receive(console: &UnixListener) -> std::io::Result<OwnedFd> {
    let (socket, _) = console.accept()?;
    socket.set_nonblocking(true)?;
    let (_, terminal) = sys::fdpass::receive(&socket, NAME)?;
    terminal.ok_or_else(|| std::io::Error::other("no descriptor came along"))
}

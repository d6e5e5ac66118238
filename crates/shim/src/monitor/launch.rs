//! Making the container: control group, log, socket, clone; and undoing it when it does not come to run.

use super::{
    Monitor, Source,
    delegate::Delegate,
    ending,
    hooks::Hooked,
    log::Log,
    process::{Phase, Process},
};
use crate::container::{Ends, First, Input, Message, Prepared, Step, Streams, Sync, Tried, pipes};
use runtime::{
    Plan,
    shim::{
        Spawned, StartError, Stdin, Target,
        protocol::{LaunchRequest, Reply, SOCKET},
    },
};
use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixListener,
    },
    path::PathBuf,
};
use sys::{
    cgroup::{Cgroup, Hierarchy, Resources, Version},
    epoll::Interest,
    process as kernel,
};

/// What the shim holds for its container.
#[derive(Debug)]
pub(super) struct Container {
    /// Its folder.
    pub(super) dir: File,
    /// Its control group.
    pub(super) cgroup: Option<Cgroup>,
    /// The users of its user namespace, if it has one.
    pub(super) maps: Option<runtime::spec::Maps>,
    /// Its processes end with its first one by themselves.
    pub(super) own_pids: bool,
    /// It did not come to run, and its launcher has not heard of it yet.
    pub(super) failure: Option<StartError>,
    /// `Release` was asked for.
    pub(super) released: bool,
    /// The runtime that does the work, when it is another one.
    pub(super) delegate: Option<Delegate>,
    /// Programs of the host that run at its turning points.
    pub(super) hooked: Option<Hooked>,
}

impl Container {
    /// A file in its folder, whatever the length of the folder's own path.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }
}

impl Monitor {
    /// Makes the container and answers.
    pub(super) fn launch(&mut self, token: u64, request: LaunchRequest) {
        if self.launcher != Some(token) || self.container.is_some() {
            return self.refuse(token, "launch is for the first connection, once");
        }
        match self.make(&request) {
            // Another runtime is at work; its end brings the answer.
            Ok(None) => {}
            Ok(Some(spawned)) => {
                // The caller wires the network while the rest is done here and in the child.
                self.reply(token, &Reply::Spawned(spawned));
                if let Err(err) = self.let_in(&request.plan, spawned.pid) {
                    self.unmake();
                    self.failed_to_start(err);
                }
            }
            Err(err) => {
                self.undo();
                self.reply(token, &Reply::Failed(err));
                self.deadline = Some(ending::linger());
            }
        }
    }

    fn make(&mut self, request: &LaunchRequest) -> Step<Option<Spawned>> {
        let LaunchRequest { dir: path, plan, log, stdin, runtime } = request;
        let dir = File::open(path).tried(|| format!("open {}", path.display()))?;
        self.container = Some(Container {
            dir,
            cgroup: None,
            maps: plan.namespaces.user.as_ref().map(|user| user.maps.clone()),
            own_pids: plan.namespaces.pid == runtime::spec::Namespace::New,
            failure: None,
            released: false,
            delegate: runtime.clone().map(|r| Delegate::new(r, &plan.id, path)),
            hooked: None,
        });
        self.listen_at()?;
        self.log = log.clone().map(Log::open).transpose()?;
        self.watch_relay();
        if runtime.is_some() {
            return self.create_by_runtime(plan, *stdin).map(|()| None);
        }
        let cgroup = make_cgroup(plan)?;
        let folder = match &cgroup {
            Some(cgroup) => cgroup.folder_fd().map_err(|e| StartError::setup(cgroup_text(&e)))?,
            None => None,
        };
        if let Some(container) = &mut self.container {
            container.cgroup = cgroup;
        }
        let hooked = Hooked::new(plan, path)?;
        let place = hooked.as_ref().map_or_else(|| path.clone(), Hooked::rootfs);
        let prepared = Prepared::new(plan, &place)?;
        let terminal = plan.process.terminal;
        let (streams, ends) = if terminal {
            (Streams::default(), Ends::Terminal)
        } else {
            let input = if *stdin == Stdin::Null { Input::Null } else { Input::Pipe };
            pipes(input).tried(|| "make standard streams".into())?
        };
        let sync = Sync::pair().tried(|| "make a socket".into())?;
        let first = First { plan, prepared, place: &place, ends, alone: None };
        let (child, sync) = first
            .start(sync, folder.as_ref().map(|f| f.as_fd()))
            .tried(|| "unable to clone the container's first process".into())?;
        let mut process = Process::new(streams, terminal);
        process.pid = child.pid;
        process.pidfd = Some(child.pidfd);
        process.logged = self.log.is_some();
        process.input_once = *stdin == Stdin::Once && !terminal;
        if let (Some(mut hooked), Some(container)) = (hooked, &mut self.container) {
            hooked.pid = child.pid;
            container.hooked = Some(hooked);
        }
        self.watch(Target::Init, process, sync)?;
        Ok(Some(Spawned { pid: child.pid, shim: std::process::id() }))
    }

    /// Puts a process in the making into the tables.
    pub(super) fn watch(&mut self, target: Target, mut process: Process, sync: Sync) -> Step {
        let token = self.token(Source::Sync(target.clone()));
        self.poll.add(&sync, token, Interest::IN).tried(|| "wait for the process".into())?;
        process.sync = Some((token, sync));
        self.processes.insert(target, process);
        Ok(())
    }

    fn listen_at(&mut self) -> Step {
        let Some(container) = &self.container else { return Ok(()) };
        let path = container.file(SOCKET);
        let what = || format!("listen at {SOCKET}");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).tried(what)?;
        listener.set_nonblocking(true).tried(what)?;
        let token = self.token(Source::Listener);
        self.poll.add(&listener, token, Interest::IN).tried(what)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// The process may go on: it is in its groups and has its score.
    fn let_in(&mut self, plan: &Plan, pid: u32) -> Step {
        if let Some(adj) = plan.process.oom_score_adj {
            set_oom_score_adj(pid, adj)?;
        }
        self.join_groups(pid)?;
        let Some((_, sync)) = self.processes.get(&Target::Init).and_then(|p| p.sync.as_ref())
        else {
            return Ok(());
        };
        // A child that died says so by closing its end.
        let _ = sync.send(&Message::Joined, None);
        Ok(())
    }

    /// Puts a process into the container's groups, where the clone did not do that.
    pub(super) fn join_groups(&self, pid: u32) -> Step {
        let group = self.container.as_ref().and_then(|c| c.cgroup.as_ref());
        let Some(group) = group else { return Ok(()) };
        let pid = i32::try_from(pid).map_err(|_| StartError::setup("pid out of range"))?;
        group.add(pid).map_err(|e| StartError::setup(cgroup_text(&e)))
    }

    /// Lets the first process run its program; the answer comes when it does.
    pub(super) fn release(&mut self, token: u64) {
        let Some(container) = &mut self.container else {
            return self.refuse(token, "nothing was launched");
        };
        if self.launcher != Some(token) || container.released {
            return self.refuse(token, "release is for the first connection, once");
        }
        container.released = true;
        if let Some(err) = container.failure.take() {
            return self.say_failed(token, err);
        }
        let Some(process) = self.processes.get_mut(&Target::Init) else { return };
        process.starter = Some(token);
        if container.hooked.is_some() {
            self.run_hooks();
        } else if let Some((_, sync)) = &process.sync {
            let _ = sync.send(&Message::Run, None);
        } else if container.delegate.is_some() {
            self.start_by_runtime();
        }
    }

    /// The container did not come to run: all is undone, and the launcher hears of it when it asks.
    pub(super) fn failed_to_start(&mut self, err: StartError) {
        let Some(container) = &mut self.container else { return };
        let released = container.released;
        match (released, self.launcher) {
            (true, Some(token)) => self.say_failed(token, err),
            (false, Some(_)) => container.failure = Some(err),
            (_, None) => self.deadline = Some(ending::linger()),
        }
    }

    fn say_failed(&mut self, token: u64, err: StartError) {
        self.reply(token, &Reply::Failed(err));
        self.deadline = Some(ending::linger());
    }

    /// The launching connection is closed. Before the release that means: nobody wants it any more.
    pub(super) fn launcher_gone(&mut self) {
        let released = self.container.as_ref().is_some_and(|c| c.released);
        if released {
            return;
        }
        if self.delegated() {
            return self.abandon();
        }
        self.undo();
        self.deadline = Some(ending::linger());
    }

    /// Kills and removes whatever was made, and hangs up. Clients that wait hear of it by the end of
    /// their connection.
    pub(super) fn undo(&mut self) {
        self.unmake();
        self.processes.clear();
        self.close_socket();
    }

    /// Kills and removes what was made of the container, but stays there for clients: whoever attaches
    /// before the release must not hear anything but what the release will tell.
    pub(super) fn unmake(&mut self) {
        if let Some(process) = self.processes.get_mut(&Target::Init)
            && let Some(pidfd) = process.pidfd.take()
            && !matches!(process.phase, Phase::Exited(_))
        {
            let _ = kernel::kill(&pidfd, KILL);
            if process.ended_early.is_none() {
                let _ = kernel::wait(process.pid);
            }
            process.pid = 0;
            // What it has still to say, if anything, must not replace the reason.
            if let Some((token, sync)) = process.sync.take() {
                let _ = self.poll.remove(&sync);
                self.sources.remove(&token);
            }
        }
        self.log = None;
        self.after_hooks();
        if let Some(cgroup) = self.container.as_mut().and_then(|c| c.cgroup.take()) {
            let _ = cgroup.remove();
        }
    }

    /// Nobody finds this shim any more.
    pub(super) fn close_socket(&mut self) {
        if let (Some(_), Some(container)) = (self.listener.take(), &self.container) {
            let _ = fs::remove_file(container.file(SOCKET));
        }
    }
}

const KILL: i32 = 9;

fn make_cgroup(plan: &Plan) -> Step<Option<Cgroup>> {
    let Some(wanted) = &plan.cgroup else { return Ok(None) };
    let hierarchy = Hierarchy::detect().map_err(|e| StartError::setup(cgroup_text(&e)))?;
    if (hierarchy.version() == Version::V2) != plan.cgroup_v2 {
        return Err(StartError::setup("the plan was made for another version of control groups"));
    }
    let resources: Resources = match &wanted.resources {
        serde_json::Value::Null => Resources::default(),
        value => serde_json::from_value(value.clone())
            .map_err(|e| StartError::setup(format!("bad resources in the plan: {e}")))?,
    };
    let path = wanted.path.to_string_lossy();
    Cgroup::create(&hierarchy, &path, &resources)
        .map(Some)
        .map_err(|e| StartError::setup(cgroup_text(&e)))
}

pub(super) fn cgroup_text(err: &sys::cgroup::Error) -> String {
    format!("unable to apply cgroup configuration: {}", base::error::chain(err))
}

pub(crate) fn set_oom_score_adj(pid: u32, adj: i32) -> Step {
    let path = format!("/proc/{pid}/oom_score_adj");
    let what = || format!("write oom_score_adj {adj}");
    let now = fs::read_to_string(&path).tried(what)?;
    if now.trim().parse() == Ok(adj) {
        return Ok(());
    }
    fs::write(&path, adj.to_string()).tried(what)
}

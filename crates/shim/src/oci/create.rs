//! `create` and `run`: from a bundle to a process that waits at its gate.
//!
//! Order: claim the id, read and plan, make the group, clone, join the group, let the copy prepare itself, with hooks
//! between its mounts and its root, hand its terminal on, put all on record, write the pid file. Whatever fails
//! undoes all of it.

use super::{
    Cx,
    arguments::Given,
    lifecycle,
    state::{self, Container},
    terminal,
};
use crate::{
    container::{Alone, Ends, First, Message, Prepared, Step, Sync, Tried, preserved},
    harden, hooks,
};
use runtime::{
    Features, Plan, oci,
    shim::{StartError, protocol::MAX_FRAME},
};
use rustix::{fs::OFlags, io::fcntl_dupfd_cloexec};
use std::{
    fs::{self, File},
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};
use sys::{
    cgroup::{Cgroup, Hierarchy, Resources, Version},
    process::{self as kernel, Child},
};

/// `gantry-shim create`.
pub(super) fn create(cx: &Cx, given: &Given) -> Step<i32> {
    harden::protect_call()?;
    make(cx, given, Wanted::Detached).map(|_| 0)
}

/// `gantry-shim run`.
pub(super) fn run(cx: &Cx, given: &Given) -> Step<i32> {
    harden::protect_call()?;
    let detach = given.has("detach");
    let wanted = if detach { Wanted::Detached } else { Wanted::Attached };
    let made = make(cx, given, wanted)?;
    let id = made.container.record.id.clone();
    if let Err(err) = lifecycle::open_gate(&made.container) {
        let _ = lifecycle::remove(made.container);
        return Err(err);
    }
    if detach {
        return Ok(0);
    }
    drop(made.container);
    let code = terminal::stay(&made.child, made.near)?;
    if !given.has("keep") {
        lifecycle::remove(Container::find(cx, &id)?)?;
    }
    Ok(code)
}

/// Whether the caller stays with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It does not.
    Detached,
    /// It does, with its own terminal if the process has one.
    Attached,
}

/// A container at its gate.
struct Made {
    container: Container,
    child: Child,
    /// The near end of its terminal, when nobody else got it.
    near: Option<OwnedFd>,
}

fn make(cx: &Cx, given: &Given, wanted: Wanted) -> Step<Made> {
    let id = given.id()?;
    if !rustix::process::geteuid().is_root() {
        return Err(StartError::setup(
            "containers are made by root only, or by root of a user namespace (hint: call it by sudo)",
        ));
    }
    // Before anything is opened.
    let preserve = preserved(given.number("preserve-fds")?.unwrap_or_default())?;
    let bundle = bundle(given)?;
    let config = oci::read(&bundle.join("config.json"), MAX_FRAME as u64)
        .map_err(|e| StartError::setup(e.chain()))?;
    let spec = oci::spec(id, &config, &bundle).map_err(|e| StartError::setup(e.chain()))?;
    check_labels(&spec.process.selinux_label, &spec.mount_label)?;
    let hierarchy = Hierarchy::detect().map_err(|e| StartError::setup(base::error::chain(&e)))?;
    let features = Features { cgroup_v2: hierarchy.version() == Version::V2 };
    let plan = runtime::plan(&spec, &features).map_err(|e| StartError::setup(e.chain()))?;
    let socket = console_socket(given, plan.process.terminal, wanted)?;
    let mut container = Container::claim(cx, id)?;
    container.record.bundle = bundle;
    container.record.config = config;
    if let Some(cgroup) = &plan.cgroup {
        container.record.cgroup.clone_from(&cgroup.path);
    }
    let mut making = Making { container, preserve, group: None, child: None };
    match making.go(&plan, &hierarchy, given, socket) {
        Ok(near) => {
            let Making { container, child: Some(child), .. } = making else {
                return Err(StartError::setup("the container has no process"));
            };
            Ok(Made { container, child, near })
        }
        Err(err) => {
            making.undo();
            Err(err)
        }
    }
}

/// Refuses labels where the kernel has none; runc lets one of mounts pass until the kernel does not know the option.
pub(super) fn check_labels(process: &str, mounts: &str) -> Step {
    for (field, label) in [("process.selinuxLabel", process), ("linux.mountLabel", mounts)] {
        if !label.is_empty() && !sys::selinux::enabled() {
            return Err(StartError::setup(format!(
                "selinux label is specified in config, but selinux is disabled or not supported: {field} {label}"
            )));
        }
    }
    Ok(())
}

/// What exists so far.
struct Making {
    container: Container,
    /// Descriptors from 3 on that the program keeps.
    preserve: i32,
    group: Option<Cgroup>,
    child: Option<Child>,
}

impl Making {
    fn go(
        &mut self,
        plan: &Plan,
        hierarchy: &Hierarchy,
        given: &Given,
        socket: Option<UnixStream>,
    ) -> Step<Option<OwnedFd>> {
        let gate = gate(&self.container.gate())?;
        let group_failed = |e: &sys::cgroup::Error| {
            let text = base::error::chain(e);
            StartError::setup(format!("unable to apply cgroup configuration: {text}"))
        };
        let mut folder = None;
        if let Some(cgroup) = &plan.cgroup {
            let mut resources: Resources = match &cgroup.resources {
                serde_json::Value::Null => Resources::default(),
                value => serde_json::from_value(value.clone())
                    .map_err(|e| StartError::setup(format!("linux.resources: {e}")))?,
            };
            // Which devices a group may use only the first user namespace says.
            if !sys::idmap::in_first() {
                resources.devices.clear();
            }
            let path = cgroup.path.to_string_lossy();
            let group = Cgroup::open(hierarchy, &path).map_err(|e| group_failed(&e))?;
            let there = group.pids().unwrap_or_default().len();
            if there > 0 {
                return Err(StartError::setup(format!(
                    "container's cgroup is not empty: {there} process(es) found"
                )));
            }
            let group =
                Cgroup::create(hierarchy, &path, &resources).map_err(|e| group_failed(&e))?;
            folder = group.folder_fd().map_err(|e| group_failed(&e))?;
            self.group = Some(group);
        }
        let record = &self.container.record;
        let root = record.config.root.as_ref().map(|r| r.path.as_path());
        let place = record.bundle.join(root.unwrap_or(Path::new("")));
        let alone = Alone {
            gate,
            preserve: self.preserve,
            keyring: !given.has("no-new-keyring"),
            pivot: !given.has("no-pivot"),
        };
        let prepared = Prepared::new(plan, &place)?;
        let ends = if plan.process.terminal { Ends::Terminal } else { inherited()? };
        let sync = Sync::pair().tried(|| "make a socket".into())?;
        let first = First { plan, prepared, place: &place, ends, alone: Some(alone) };
        let (child, sync) = first
            .start(sync, folder.as_ref().map(|f| f.as_fd()))
            .tried(|| "unable to clone the container's first process".into())?;
        let pid = child.pid;
        self.child = Some(child);
        self.container.record.pid = pid;
        self.container.record.started = state::start_time(pid).map_or(0, |(_, at)| at);
        if let Some(adj) = plan.process.oom_score_adj {
            crate::monitor::set_oom_score_adj(pid, adj)?;
        }
        if let Some(group) = &self.group {
            let number = i32::try_from(pid).map_err(|_| StartError::setup("pid out of range"))?;
            group.add(number).map_err(|e| group_failed(&e))?;
        }
        let near = self.follow(&sync, &plan.hooks)?;
        self.container.save()?;
        let near = hand_on(near, socket)?;
        write_pid(given, pid)?;
        Ok(near)
    }

    /// Follows the copy until it waits at its gate; the near end of its terminal.
    fn follow(&self, sync: &Sync, hooks: &oci::Hooks) -> Step<Option<OwnedFd>> {
        let record = &self.container.record;
        let send = |message: Message| match sync.send(&message, None) {
            // It has failed already, and said why.
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.tried(|| "tell the process".into()),
        };
        send(Message::Joined)?;
        if hooks.is_empty() {
            send(Message::Run)?;
        }
        let mut near = None;
        loop {
            match sync.receive().tried(|| "hear of the process".into())? {
                Some((Message::Terminal, Some(fd))) => near = Some(fd),
                Some((Message::Spaces, _)) => {
                    let state = record.for_hooks("creating");
                    hooks::run(&hooks.prestart, "prestart", &state)?;
                    hooks::run(&hooks.create_runtime, "createRuntime", &state)?;
                    send(Message::Hooked(record.for_hooks("created")))?;
                    send(Message::Run)?;
                }
                Some((Message::Waiting, _)) => return Ok(near),
                Some((Message::Failed(err), _)) => {
                    let text = format!("unable to start container process: {}", err.text);
                    return Err(StartError { text, ..err });
                }
                Some(_) => {}
                None => {
                    return Err(StartError::setup("process was killed during its set-up"));
                }
            }
        }
    }

    fn undo(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = kernel::kill(&child.pidfd, 9);
            let _ = kernel::wait(child.pid);
        }
        if let Some(group) = self.group.take() {
            let _ = group.kill_all();
            let _ = group.remove();
        }
        let hooks = self.container.record.config.hooks.take().unwrap_or_default();
        if self.container.record.pid != 0 {
            let state = self.container.record.for_hooks("stopped");
            let _ = hooks::run_all(&hooks.poststop, "poststop", &state);
        }
        let _ = self.container.forget();
    }
}

fn bundle(given: &Given) -> Step<PathBuf> {
    let bundle = Path::new(given.value("bundle").unwrap_or("."));
    bundle.canonicalize().tried(|| format!("open bundle {}", bundle.display()))
}

/// The socket that the terminal goes to.
pub(super) fn console_socket(
    given: &Given,
    terminal: bool,
    wanted: Wanted,
) -> Step<Option<UnixStream>> {
    let refused = |text: &str| Err(StartError::setup(text));
    match (given.value("console-socket"), terminal, wanted) {
        (Some(path), true, Wanted::Detached) => connect(Path::new(path)).map(Some),
        (Some(_), ..) => {
            refused("cannot use console socket if runc will not detach or allocate tty")
        }
        (None, true, Wanted::Detached) => {
            refused("cannot allocate tty if runc will detach without setting console socket")
        }
        (None, ..) => Ok(None),
    }
}

/// Connects by the folder's descriptor: the path may be longer than a socket's address.
fn connect(path: &Path) -> Step<UnixStream> {
    use std::os::fd::AsRawFd as _;
    let what = || format!("connect to console socket {}", path.display());
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Err(StartError::setup(what())) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, 0.into()).tried(what)?;
    let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
    UnixStream::connect(Path::new(&short).join(name)).tried(what)
}

/// Sends the near end of the terminal to where the caller wants it.
pub(super) fn hand_on(near: Option<OwnedFd>, socket: Option<UnixStream>) -> Step<Option<OwnedFd>> {
    match (near, socket) {
        (Some(near), Some(socket)) => {
            sys::fdpass::send(&socket, b"/dev/ptmx", Some(near.as_fd()))
                .tried(|| "send the terminal".into())?;
            Ok(None)
        }
        (near, _) => Ok(near),
    }
}

/// This process's own streams for the container's.
pub(super) fn inherited() -> Step<Ends> {
    let copy = |fd: BorrowedFd<'_>| -> Step<OwnedFd> {
        match fcntl_dupfd_cloexec(fd, 3) {
            // The caller has closed it.
            Err(rustix::io::Errno::BADF) => {
                let null = File::options().read(true).write(true).open("/dev/null");
                null.map(Into::into).tried(|| "open /dev/null".into())
            }
            copied => copied.tried(|| "copy a standard stream".into()),
        }
    };
    let (stdin, stdout) = (copy(rustix::stdio::stdin())?, copy(rustix::stdio::stdout())?);
    Ok(Ends::Pipes { stdin: Some(stdin), stdout, stderr: copy(rustix::stdio::stderr())? })
}

/// Writes the pid where the caller looks for it; it appears whole.
pub(super) fn write_pid(given: &Given, pid: u32) -> Step {
    let Some(path) = given.value("pid-file").map(Path::new) else { return Ok(()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .tried(|| format!("write {}", path.display()))
}

/// Makes the gate; the end that the first process waits at. Nobody has opened the other one yet, so that it
/// does not read as ended.
fn gate(path: &Path) -> Step<OwnedFd> {
    let what = || format!("make {}", path.display());
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o622.into(), 0)
        .tried(what)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, 0.into()).tried(what)
}

/// Reads all of a file that may be standard input.
pub(super) fn read_limited(path: &str, most: u64) -> Step<Vec<u8>> {
    let what = || format!("read {path}");
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().take(most + 1).read_to_end(&mut bytes),
        path => File::open(path).tried(what)?.take(most + 1).read_to_end(&mut bytes),
    };
    read.tried(what)?;
    if bytes.len() as u64 > most {
        return Err(StartError::setup(format!("{path} is longer than {most} bytes")));
    }
    Ok(bytes)
}

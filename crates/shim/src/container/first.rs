//! The container's first process.

use super::{
    Alone, Prepared, Step, Tried, cwd, dev,
    identity::{self, Confinement},
    masks, mounts, program, root,
    stdio::{Ends, Stdio},
    sync::{Message, Sync},
    terminal, users,
};
use crate::hooks;
use runtime::{
    plan::Plan,
    shim::StartError,
    spec::{Maps, Namespace},
    user::Identity,
};
use rustix::fs::OFlags;
use std::{
    convert::Infallible,
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};
use sys::{
    mount::{self, Depth, attr},
    process::{self as kernel, Child, Forked, ns},
    root::Root,
};

/// What the first process is made of.
#[derive(Debug)]
pub(crate) struct First<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// What was opened for it.
    pub(crate) prepared: Prepared,
    /// A folder of the host to put the root on for a moment.
    pub(crate) place: &'a Path,
    /// Its streams.
    pub(crate) ends: Ends,
    /// No monitor stands by it.
    pub(crate) alone: Option<Alone>,
}

impl First<'_> {
    /// Makes the process, on cgroup v2 in `cgroup`. Returns in the shim only.
    pub(crate) fn start(
        mut self,
        sync: (Sync, Sync),
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Child, Sync)> {
        let (ours, theirs) = sync;
        if self.alone.is_some() {
            self.prepared.join_late();
        }
        // The shim is elsewhere for a moment, or points its children there.
        let mut back = Vec::new();
        for (bit, space) in &self.prepared.birth {
            back.push((*bit, File::open(Path::new("/proc/self/ns").join(ns::file(*bit)))?));
            kernel::join(space, *bit)?;
        }
        let forked = kernel::clone(Prepared::clone_flags(self.plan), cgroup);
        if !matches!(forked, Ok(Forked::Child)) {
            for (bit, own) in &back {
                kernel::join(own, *bit)?;
            }
        }
        match forked? {
            Forked::Child => {
                drop((ours, back));
                let Err(err) = self.become_it(&theirs);
                let _ = theirs.send(&Message::Failed(err), None);
                kernel::exit(1)
            }
            Forked::Parent(child) => Ok((child, ours)),
        }
    }

    fn become_it(self, sync: &Sync) -> Step<Infallible> {
        let Self { plan, mut prepared, place, ends, alone } = self;
        if alone.is_none() {
            kernel::set_parent_death_signal(KILL).tried(|| "set parent death signal".into())?;
        }
        for (bit, space) in &prepared.joins {
            kernel::join(space, *bit).tried(|| "error joining namespace".into())?;
        }
        if let Some(space) = &prepared.space {
            users::act_as_root(&space.maps)?;
        }
        if plan.namespaces.net == Namespace::New {
            kernel::loopback_up().tried(|| "error setting lo up".into())?;
        }
        rustix::process::umask(0.into());
        let (root, state) = lay_root(plan, &mut prepared, place, alone.as_ref(), sync)?;
        names(plan)?;
        cwd::make(&root, &plan.process.cwd)?;
        let pair = match plan.process.terminal {
            true => Some(terminal::open(&root, plan.process.console_size)?),
            false => None,
        };
        if let Some(pair) = &pair {
            if plan.own_dev {
                terminal::console(&root, &pair.far)?;
            }
            sync.send(&Message::Terminal, Some(pair.near.as_fd()))
                .tried(|| "send terminal".into())?;
        }
        let parameters = match plan.sysctl.is_empty() {
            true => None,
            false => Some(parameters(&root)?),
        };
        let stdio = ends.complete(&root, pair)?;
        if !plan.masked.is_empty() || !plan.readonly_paths.is_empty() {
            masks::apply(&root, plan, &masks::null(&root)?)?;
        }
        if plan.readonly {
            mount::set_attr(&prepared.root, attr::RDONLY, 0, 0, Depth::One)
                .tried(|| "error making / read-only".into())?;
        }
        drop(prepared.root);
        let who = identity::resolve(&root, &plan.process)?;
        if alone.as_ref().is_none_or(|a| a.keyring) {
            new_keyring(&plan.id)?;
        }
        if !joins_before_mounts(plan) {
            sync.expect(|m| matches!(m, Message::Joined))?;
        }
        sync.expect(|m| matches!(m, Message::Run))?;
        if let Some(dir) = parameters {
            set_parameters(&dir, plan)?;
        }
        let told = (sync, alone.as_ref(), state.as_deref());
        run(plan, root, &stdio, &who, prepared.space, prepared.own_program, told)
    }
}

/// The root with all its mounts, entered, and the state that further hooks get.
///
/// With hooks and for OCI's callers the mounts are made before the root is entered: hooks find them and still the host's
/// programs, and a user namespace may mount proc only beside one that can be seen. Otherwise the host is left behind
/// first.
fn lay_root(
    plan: &Plan,
    prepared: &mut Prepared,
    place: &Path,
    alone: Option<&Alone>,
    sync: &Sync,
) -> Step<(Root, Option<String>)> {
    let tree = &prepared.root;
    let attached = root::attach(tree, place, plan.propagation)?;
    let enter = |how| {
        // The next program is confined from here on: no hook on the host's side.
        identity::set_profile(&plan.process)?;
        root::enter(tree, plan.propagation, how)
    };
    let late = alone.is_some() || !plan.hooks.is_empty();
    let root = if late { attached } else { enter(root::Entry::Pivot)? };
    if joins_before_mounts(plan) {
        sync.expect(|m| matches!(m, Message::Joined))?;
    }
    if plan.namespaces.cgroup == Namespace::New {
        kernel::unshare(ns::CGROUP).tried(|| "error unsharing cgroup namespace".into())?;
    }
    let maps = prepared.space.as_ref().map(|space| &space.maps);
    let binds = std::mem::take(&mut prepared.binds);
    mounts::attach_all(&root, plan, binds, &prepared.groups, maps)?;
    dev::fill(&root, plan, &prepared.devices)?;
    if !late {
        return Ok((root, None));
    }
    let state = if plan.hooks.is_empty() { None } else { Some(hooked(plan, sync)?) };
    let pivot = alone.is_none_or(|alone| alone.pivot);
    let how = if pivot { root::Entry::Pivot } else { root::Entry::Move };
    Ok((enter(how)?, state))
}

/// Namespaces and mounts are made, and the root is not entered yet: hooks. Gives the state that those of the start get.
/// A user namespace is not entered for them: the mounts are the host's until the end, and hooks mount.
fn hooked(plan: &Plan, sync: &Sync) -> Step<String> {
    sync.send(&Message::Spaces, None).tried(|| "tell of the namespaces".into())?;
    let state = match sync.receive() {
        Ok(Some((Message::Hooked(state), _))) => state,
        Ok(Some((Message::Failed(err), _))) => return Err(err),
        _ => return Err(StartError::setup("whoever made the container went away")),
    };
    // What is prepared here gets its modes in full; programs of others have the usual mask.
    rustix::process::umask(0o022.into());
    hooks::run(&plan.hooks.create_container, "createContainer", &state)?;
    rustix::process::umask(0.into());
    Ok(state)
}

/// Whether it has to be in its control groups before its mounts are made: they show those, and hooks are told later.
fn joins_before_mounts(plan: &Plan) -> bool {
    plan.namespaces.cgroup == Namespace::New || !plan.hooks.is_empty()
}

/// SIGKILL.
pub(super) const KILL: i32 = 9;

fn names(plan: &Plan) -> Step {
    if !plan.hostname.is_empty() {
        kernel::set_hostname(&plan.hostname).tried(|| "sethostname".into())?;
    }
    if !plan.domainname.is_empty() {
        kernel::set_domainname(&plan.domainname).tried(|| "setdomainname".into())?;
    }
    Ok(())
}

/// Opens `/proc/sys` while it can be written, and only if it is the kernel's.
fn parameters(root: &Root) -> Step<File> {
    let what = || "open /proc/sys".to_owned();
    let dir = root.open_with("/proc/sys", OFlags::PATH | OFlags::DIRECTORY, 0).tried(what)?;
    match mount::fs_magic(&dir).tried(what)? {
        mount::PROC_MAGIC => Ok(dir),
        _ => Err(StartError::setup("/proc/sys in the container is not of proc")),
    }
}

fn set_parameters(dir: &File, plan: &Plan) -> Step {
    for (path, value) in &plan.sysctl {
        let what = || format!("error setting sysctl {}", path.display());
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_SYMLINKS
            | rustix::fs::ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(dir, path, flags, 0.into(), resolve).tried(what)?;
        File::from(file).write_all(value.as_bytes()).tried(what)?;
    }
    Ok(())
}

pub(super) fn new_keyring(id: &str) -> Step {
    let short: String = id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let Ok(name) = CString::new(format!("_ses.{short}")) else { return Ok(()) };
    match kernel::new_session_keyring(&name) {
        Err(e) if !matches!(e.raw_os_error(), Some(ENOSYS | EDQUOT)) => {
            Err(e).tried(|| "unable to join session keyring".into())
        }
        _ => Ok(()),
    }
}

const ENOSYS: i32 = 38;
/// The user's quota of keys: too many containers, but no reason not to start.
const EDQUOT: i32 = 122;

fn run(
    plan: &Plan,
    root: Root,
    stdio: &Stdio,
    who: &Identity,
    space: Option<users::Space>,
    own_program: Option<File>,
    (sync, alone, state): (&Sync, Option<&Alone>, Option<&str>),
) -> Step<Infallible> {
    let process = &plan.process;
    stdio.give(outside(who.uid, space.as_ref().map(|s| &s.maps)))?;
    stdio.new_session()?;
    stdio.install()?;
    let root = match space {
        Some(space) => {
            identity::set_limits(process)?;
            drop(root);
            space.enter(who)?
        }
        None => root,
    };
    let entered = cwd::enter(&root, &process.cwd)?;
    let confinement = Confinement::enter(process, plan.seccomp.as_deref(), who)?;
    if !entered {
        cwd::enter_as_user(&root, &process.cwd)?;
    }
    let found = program::lookup(&process.args[0], &process.env)?;
    let env = program::environment(&process.env, &who.home);
    let mut args = program::c_strings(&process.args);
    if own_program.is_some() {
        args.splice(0..0, [c"/sbin/docker-init".to_owned(), c"--".to_owned()]);
    }
    rustix::process::umask(process.umask.into());
    kernel::reset_signals();
    match alone {
        // Changing user forgot it.
        None => kernel::set_parent_death_signal(KILL).tried(|| "set parent death signal".into())?,
        Some(alone) => alone.wait(sync)?,
    }
    if let Some(state) = state {
        hooks::run(&plan.hooks.start_container, "startContainer", state)?;
    }
    let _ = kernel::close_on_exec_from(3);
    kernel::keep_over_exec(3, 3 + alone.map_or(0, |a| a.preserve));
    ready(sync, &confinement)?;
    let Some(own) = own_program else { program::run(&found, &args, &env) };
    let err = kernel::exec_fd(own.as_fd(), &args, &env);
    program::failed(Path::new("/sbin/docker-init"), &err)
}

/// The host's number of a user of the container; one that is not mapped stays as it is and will be refused later.
pub(super) fn outside(uid: u32, maps: Option<&Maps>) -> u32 {
    maps.and_then(|maps| maps.user_outside(uid)).unwrap_or(uid)
}

/// From here on the container speaks for itself; only the filter may still be refused. It is said before
/// the filter is loaded, which may not let anything be said.
pub(super) fn ready(sync: &Sync, confinement: &Confinement) -> Step {
    let _ = sync.send(&Message::Started, None);
    confinement.seal()
}

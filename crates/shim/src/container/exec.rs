//! A further process in a running container.
//!
//! A helper outside the container's pid namespace, where nothing inside can see it, joins the other
//! namespaces, becomes the user, closes all that leads outside and loads the filter; the process that is born
//! into the container's pid namespace has little left to do and no more rights than it will keep. Who may
//! trace it there (`CAP_SYS_PTRACE`) gains nothing. Only with a profile that forbids what is left to do is the
//! filter loaded at the very end, with `CAP_SYS_ADMIN` for that moment.

use super::{
    Step, Tried, cwd,
    first::{KILL, new_keyring, outside, ready},
    identity::{self, Confinement},
    program,
    stdio::Ends,
    sync::{Message, Sync},
    terminal, users,
};
use runtime::{ExecPlan, spec::Maps};
use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};
use sys::{
    process::{self as kernel, Child, Forked, ns},
    root::Root,
};

/// What a further process is made of.
#[derive(Debug)]
pub(crate) struct Joining<'a> {
    /// The plan.
    pub(crate) plan: &'a ExecPlan,
    /// The container's first process.
    pub(crate) first: &'a OwnedFd,
    /// The users of its user namespace, if it has one.
    pub(crate) maps: Option<&'a Maps>,
    /// Its streams.
    pub(crate) ends: Ends,
    /// No monitor stands by it: how many descriptors from 3 on it keeps.
    pub(crate) alone: Option<i32>,
}

impl Joining<'_> {
    /// Makes the helper. Returns in the shim only.
    pub(crate) fn start(self, sync: (Sync, Sync)) -> io::Result<(Child, Sync)> {
        let (ours, theirs) = sync;
        match kernel::clone(0, None)? {
            Forked::Child => {
                drop(ours);
                let Err(err) = self.become_it(&theirs);
                let _ = theirs.send(&Message::Failed(err), None);
                kernel::exit(1)
            }
            Forked::Parent(child) => Ok((child, ours)),
        }
    }

    fn become_it(self, sync: &Sync) -> Step<Infallible> {
        let Self { plan, first, maps, ends, alone } = self;
        let process = &plan.process;
        kernel::set_parent_death_signal(KILL).tried(|| "set parent death signal".into())?;
        sync.expect(|m| matches!(m, Message::Joined))?;
        identity::set_profile(process)?;
        let all = ns::MOUNT | ns::UTS | ns::IPC | ns::NET | ns::CGROUP | ns::PID;
        kernel::join(first, all).tried(|| "error joining namespaces of the container".into())?;
        if let Some(maps) = maps {
            users::act_as_root(maps)?;
        }
        rustix::process::umask(0.into());
        let root = Root::open(Path::new("/")).tried(|| "open the container's root".into())?;
        let pair = match process.terminal {
            true => Some(terminal::open(&root, process.console_size)?),
            false => None,
        };
        if let Some(pair) = &pair {
            sync.send(&Message::Terminal, Some(pair.near.as_fd()))
                .tried(|| "send terminal".into())?;
        }
        let stdio = ends.complete(&root, pair)?;
        let who = identity::resolve(&root, process)?;
        new_keyring(&plan.id)?;
        stdio.give(outside(who.uid, maps))?;
        stdio.install()?;
        if let Some(maps) = maps {
            identity::set_limits(process)?;
            users::take_groups(&who, maps)?;
            kernel::join(first, ns::USER).tried(|| "error joining user namespace".into())?;
        }
        let entered = cwd::enter(&root, &process.cwd)?;
        let confinement = Confinement::enter(process, plan.seccomp.as_deref(), &who)?;
        if !entered {
            cwd::enter_as_user(&root, &process.cwd)?;
        }
        let found = program::lookup(&process.args[0], &process.env)?;
        let env = program::environment(&process.env, &who.home);
        let args = program::c_strings(&process.args);
        rustix::process::umask(process.umask.into());
        // What is born into the container can be traced there by who may: it has nothing that leads outside,
        // and no right that the program will not have.
        let kept: Vec<_> = [Some(sync.as_fd()), stdio.terminal()].into_iter().flatten().collect();
        let preserved = alone.unwrap_or(0);
        kernel::close_all_but(&kept, preserved.unsigned_abs())
            .tried(|| "close descriptors".into())?;
        if plan.sealed_at_birth {
            confinement.seal()?;
        }
        if let Some(pid) = kernel::clone_sibling().tried(|| "fork".into())? {
            let _ = sync.send(&Message::Pid(pid), None);
            kernel::exit(0);
        }
        stdio.new_session()?;
        if alone.is_none() {
            kernel::set_parent_death_signal(KILL).tried(|| "set parent death signal".into())?;
        }
        kernel::reset_signals();
        if plan.sealed_at_birth {
            let _ = sync.send(&Message::Started, None);
        } else {
            ready(sync, &confinement)?;
        }
        let _ = kernel::close_on_exec_from(3);
        kernel::keep_over_exec(3, 3 + preserved);
        program::run(&found, &args, &env)
    }
}

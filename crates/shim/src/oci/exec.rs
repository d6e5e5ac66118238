//! `exec`: a further process, described by a file or by options over the container's own.

use super::{
    Cx,
    arguments::Given,
    create::{self, Wanted},
    state::{Container, Record, Status},
    terminal,
};
use crate::{
    container::{Ends, Joining, Message, Step, Sync, Tried, preserved},
    harden,
};
use runtime::{ExecPlan, oci, shim::StartError, spec::Maps};
use std::os::fd::OwnedFd;
use sys::process as kernel;

/// Longest description of a process.
const LONGEST: u64 = 32 << 20;

/// `gantry-shim exec`.
pub(super) fn exec(cx: &Cx, given: &Given) -> Step<i32> {
    harden::protect_call()?;
    let preserve = preserved(given.number("preserve-fds")?.unwrap_or_default())?;
    let id = given.id()?.to_owned();
    let container = Container::find(cx, &id)?;
    match container.status() {
        Status::Stopped => return Err(StartError::setup("cannot exec in a stopped container")),
        Status::Paused if !given.has("ignore-paused") => {
            return Err(StartError::setup(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        _ => {}
    }
    if given.value("cgroup").is_some() {
        return Err(StartError::setup(
            "--cgroup is not available: a process joins its container's group",
        ));
    }
    let process = process(&container.record, given)?;
    let plan = plan(&container.record, &process, &id)?;
    let wanted = if given.has("detach") { Wanted::Detached } else { Wanted::Attached };
    let socket = create::console_socket(given, plan.process.terminal, wanted)?;
    let ends = if plan.process.terminal { Ends::Terminal } else { create::inherited()? };
    let first = container.process()?;
    let sync = Sync::pair().tried(|| "make a socket".into())?;
    let maps = Maps::of_process(container.record.pid)
        .tried(|| format!("read the user namespace of container {id}"))?;
    let (maps, alone) = (maps.as_ref(), Some(preserve));
    let joining = Joining { plan: &plan, first: &first, maps, ends, alone };
    let (helper, sync) = joining.start(sync).tried(|| "unable to clone a process".into())?;
    let group = container.group()?;
    let named = !container.record.cgroup.as_os_str().is_empty();
    // Its group is not to be locked while the process runs.
    drop(container);
    let number = i32::try_from(helper.pid).map_err(|_| StartError::setup("pid out of range"))?;
    let joined = match named {
        true => group.add(number).map_err(|e| {
            let text = base::error::chain(&e);
            StartError::setup(format!("unable to apply cgroup configuration: {text}"))
        }),
        false => Ok(()),
    };
    let scored = joined.and_then(|()| match plan.process.oom_score_adj {
        Some(adj) => crate::monitor::set_oom_score_adj(helper.pid, adj),
        None => Ok(()),
    });
    let followed = scored.and_then(|()| follow(&sync));
    let _ = followed.is_err().then(|| kernel::kill(&helper.pidfd, 9));
    let _ = kernel::wait(helper.pid);
    let (pid, near) = followed?;
    let child =
        kernel::Child { pid, pidfd: kernel::open(pid).tried(|| "open the new process".into())? };
    let near = create::hand_on(near, socket)?;
    create::write_pid(given, pid)?;
    match wanted {
        Wanted::Detached => Ok(0),
        Wanted::Attached => terminal::stay(&child, near),
    }
}

/// Follows the helper until the process runs its program.
fn follow(sync: &Sync) -> Step<(u32, Option<OwnedFd>)> {
    sync.send(&Message::Joined, None).tried(|| "tell the process".into())?;
    let (mut pid, mut near, mut started) = (None, None, false);
    loop {
        match sync.receive().tried(|| "hear of the process".into())? {
            Some((Message::Terminal, Some(fd))) => near = Some(fd),
            Some((Message::Pid(number), _)) => pid = Some(number),
            Some((Message::Started, _)) => started = true,
            Some((Message::Failed(err), _)) => {
                let text = format!("exec failed: unable to start container process: {}", err.text);
                return Err(StartError { text, ..err });
            }
            Some(_) => {}
            // Closed by execve.
            None => {
                let died = || StartError::setup("process was killed during its set-up");
                return pid.filter(|_| started).map(|pid| (pid, near)).ok_or_else(died);
            }
        }
    }
}

/// The process as a file or the options describe it.
fn process(record: &Record, given: &Given) -> Step<oci::Process> {
    let mut process = match given.value("process") {
        Some(path) => {
            let bytes = create::read_limited(path, LONGEST)?;
            oci::parse_process(&bytes).map_err(|e| StartError::setup(e.chain()))?
        }
        None => {
            let args = given.rest.get(1..).unwrap_or_default().to_vec();
            if args.is_empty() {
                return Err(StartError::setup("process args cannot be empty"));
            }
            let own = record.config.process.clone().unwrap_or_default();
            oci::Process { args, terminal: false, console_size: None, ..own }
        }
    };
    process.terminal |= given.has("tty");
    process.no_new_privileges |= given.has("no-new-privs");
    if let Some(label) = given.value("process-label") {
        label.clone_into(&mut process.selinux_label);
    }
    if let Some(profile) = given.value("apparmor") {
        profile.clone_into(&mut process.apparmor_profile);
    }
    if let Some(cwd) = given.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(given.values("env"));
    if let Some(user) = given.value("user") {
        let bad = || StartError::setup(format!("invalid user {user:?}: want UID or UID:GID"));
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        process.user.uid = uid.parse().map_err(|_| bad())?;
        if !gid.is_empty() {
            process.user.gid = gid.parse().map_err(|_| bad())?;
        }
    }
    for group in given.values("additional-gids") {
        let bad = || StartError::setup(format!("invalid group {group:?}"));
        process.user.additional_gids.push(group.parse().map_err(|_| bad())?);
    }
    let more = given.values("cap");
    if !more.is_empty() {
        let caps = process.capabilities.get_or_insert_default();
        for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
            set.extend(more.iter().cloned());
        }
    }
    Ok(process)
}

fn plan(record: &Record, process: &oci::Process, id: &str) -> Step<ExecPlan> {
    let wrong = |e: base::Error| StartError::setup(e.chain());
    create::check_labels(&process.selinux_label, "")?;
    let seccomp = oci::seccomp(&record.config, process).map_err(wrong)?;
    let process = oci::spec_process(process).map_err(wrong)?;
    runtime::plan_exec(id, &process, seccomp.as_deref(), true).map_err(wrong)
}

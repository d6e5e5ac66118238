//! `start`, `kill`, `delete`, `pause`, `resume`.

use super::{
    Cx,
    arguments::Given,
    state::{self, Container, Status},
};
use crate::{
    container::{Step, Tried},
    hooks,
};
use runtime::shim::StartError;
use rustix::{fs::OFlags, io::Errno};
use std::fs;
use sys::process as kernel;

/// `gantry-shim start`.
pub(super) fn start(cx: &Cx, given: &Given) -> Step<i32> {
    let container = Container::find(cx, given.id()?)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(StartError::setup("cannot start a container that has stopped"));
        }
        Status::Running | Status::Paused => {
            return Err(StartError::setup("cannot start an already running container"));
        }
    }
    open_gate(&container).map(|()| 0)
}

/// Lets the first process go on.
pub(super) fn open_gate(container: &Container) -> Step {
    let gate = container.gate();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(&gate, flags, 0.into()) {
        // Nobody waits behind it.
        Err(Errno::NXIO) => {
            return Err(StartError::setup("cannot start a container that has stopped"));
        }
        opened => opened.tried(|| format!("open {}", gate.display()))?,
    };
    rustix::io::write(&opened, b"0").tried(|| format!("write to {}", gate.display()))?;
    fs::remove_file(&gate).tried(|| format!("remove {}", gate.display()))?;
    let hooks = container.record.config.hooks.clone().unwrap_or_default();
    let state = container.record.for_hooks("running");
    // It runs by now: what fails is told, and nothing is undone.
    hooks::run(&hooks.poststart, "poststart", &state)
}

/// `gantry-shim kill`.
pub(super) fn kill(cx: &Cx, given: &Given) -> Step<i32> {
    let (record, status) = Container::look(cx, given.id()?)?;
    let text = given.rest.get(1).map_or("SIGTERM", String::as_str);
    let signal = match text {
        "0" => 0,
        text => base::signal::parse(text)
            .map_err(|_| StartError::setup(format!("unknown signal {text:?}")))?,
    };
    if given.has("all") {
        let group = state::group(&record)?;
        let failed = |e: sys::cgroup::Error| StartError::setup(base::error::chain(&e));
        if signal == base::signal::KILL {
            // A group that is gone has nobody in it.
            return group
                .kill_all()
                .or_else(|e| if e.is_missing() { Ok(()) } else { Err(e) })
                .map(|()| 0)
                .map_err(failed);
        }
        for pid in group.pids().unwrap_or_default() {
            if let Ok(pid) = u32::try_from(pid) {
                // One that is gone meanwhile needs no signal.
                let _ = kernel::kill_pid(pid, signal);
            }
        }
        return Ok(0);
    }
    if status == Status::Stopped {
        return Err(StartError::setup("container not running"));
    }
    let process = state::process(&record)?;
    kernel::kill(&process, signal).tried(|| format!("send signal {signal}"))?;
    if signal == base::signal::KILL && status == Status::Paused {
        // A frozen process dies only when it is thawed.
        let _ = state::group(&record)?.thaw();
    }
    Ok(0)
}

/// `gantry-shim delete`.
pub(super) fn delete(cx: &Cx, given: &Given) -> Step<i32> {
    let (id, force) = (given.id()?, given.has("force"));
    if state::forget_half_made(cx, id)? {
        return Ok(0);
    }
    let container = match Container::find(cx, id) {
        Err(err) if force && err == state::missing() => return Ok(0),
        found => found?,
    };
    match container.status() {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            return Err(StartError::setup(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.name()
            )));
        }
    }
    remove(container).map(|()| 0)
}

/// Ends whatever is left of a container and forgets it.
pub(super) fn remove(container: Container) -> Step {
    if let Ok(process) = container.process() {
        let _ = kernel::kill(&process, base::signal::KILL);
    }
    if !container.record.cgroup.as_os_str().is_empty() {
        let failed = |e: sys::cgroup::Error| {
            StartError::setup(format!("cannot remove the cgroup: {}", base::error::chain(&e)))
        };
        let group = container.group()?;
        // What cannot be read shows up again at the removal.
        let _ = group.kill_all();
        group.remove().map_err(failed)?;
    }
    let hooks = container.record.config.hooks.clone().unwrap_or_default();
    let state = container.record.for_hooks("stopped");
    let failed = hooks::run_all(&hooks.poststop, "poststop", &state);
    container.forget()?;
    for err in failed {
        super::report::warn(&err.text);
    }
    Ok(())
}

/// `gantry-shim pause`.
pub(super) fn pause(cx: &Cx, given: &Given) -> Step<i32> {
    let container = Container::find(cx, given.id()?)?;
    match container.status() {
        Status::Running | Status::Created => {}
        _ => return Err(StartError::setup("container not running or created")),
    }
    let frozen = container.group()?.freeze();
    frozen.map(|()| 0).map_err(|e| StartError::setup(base::error::chain(&e)))
}

/// `gantry-shim resume`.
pub(super) fn resume(cx: &Cx, given: &Given) -> Step<i32> {
    let container = Container::find(cx, given.id()?)?;
    if container.status() != Status::Paused {
        return Err(StartError::setup("container not paused"));
    }
    let thawed = container.group()?.thaw();
    thawed.map(|()| 0).map_err(|e| StartError::setup(base::error::chain(&e)))
}

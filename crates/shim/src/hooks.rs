//! Hooks: programs of the host that run at the turning points of a container's life, asked for by a bundle's author or
//! by the description of a device.
//!
//! They get the state on standard input; what they print is told only when they fail.
//! Source: opencontainers/runtime-spec `config.md`, POSIX-platform Hooks.

use crate::container::{Step, Tried};
use runtime::{
    oci::{self, Hook},
    shim::StartError,
};
use rustix::fs::MemfdFlags;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    time::{Duration, Instant},
};
use sys::{
    epoll::{Interest, Poll},
    process::{self as kernel, Ended, Forked},
};

/// `state` as the specification has it; also what hooks get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    pub(crate) oci_version: &'static str,
    pub(crate) id: &'a str,
    pub(crate) pid: u32,
    pub(crate) status: &'static str,
    pub(crate) bundle: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<&'a Path>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

impl<'a> State<'a> {
    /// What all have; one that has stopped has no process.
    pub(crate) fn new(id: &'a str, pid: u32, status: &'static str, bundle: &'a Path) -> Self {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        Self {
            oci_version: oci::SPEC,
            id,
            pid: if status == "stopped" { 0 } else { pid },
            status,
            bundle,
            rootfs: None,
            created: "",
            annotations: &NONE,
        }
    }

    /// As hooks read it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is told of a failed hook's output.
const OUTPUT: u64 = 4096;

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run(hooks: &[Hook], kind: &str, state: &str) -> Step {
    for (number, hook) in hooks.iter().enumerate() {
        let failed =
            |why: String| StartError::setup(format!("error running {kind} hook #{number}: {why}"));
        one(hook, state).map_err(|e| failed(e.text))?;
    }
    Ok(())
}

/// Runs all of them, whatever becomes of each; for the end of a container, which goes on all the same.
pub(crate) fn run_all(hooks: &[Hook], kind: &str, state: &str) -> Vec<StartError> {
    hooks.iter().filter_map(|hook| run(std::slice::from_ref(hook), kind, state).err()).collect()
}

fn one(hook: &Hook, state: &str) -> Step {
    let memory = |name: &str| -> Step<File> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC);
        fd.map(File::from).tried(|| "make memory for a hook".into())
    };
    let mut input = memory("state")?;
    input
        .write_all(state.as_bytes())
        .and_then(|()| input.seek(SeekFrom::Start(0)))
        .tried(|| "write the state".into())?;
    let mut output = memory("output")?;
    let c_string = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| StartError::setup("a hook contains a null byte"))
    };
    let path = c_string(hook.path.as_os_str().as_bytes())?;
    let mut args =
        hook.args.iter().map(|a| c_string(a.as_bytes())).collect::<Step<Vec<CString>>>()?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = hook.env.iter().map(|e| c_string(e.as_bytes())).collect::<Step<Vec<CString>>>()?;
    let child = match kernel::clone(0, None).tried(|| "fork".into())? {
        Forked::Parent(child) => child,
        Forked::Child => {
            let _ = kernel::set_stdio(input.as_fd(), 0);
            let _ = kernel::set_stdio(output.as_fd(), 1);
            let _ = kernel::set_stdio(output.as_fd(), 2);
            kernel::reset_signals();
            let _ = kernel::close_on_exec_from(3);
            let err = kernel::exec(&path, &args, &env);
            let _ = writeln!(std::io::stderr(), "exec {}: {err}", hook.path.display());
            kernel::exit(127)
        }
    };
    let limit = hook.timeout.map(|s| Duration::from_secs(s.max(1)));
    if !ends_within(&child.pidfd, limit)? {
        let _ = kernel::kill(&child.pidfd, 9);
        let _ = kernel::wait(child.pid);
        let seconds = hook.timeout.unwrap_or_default();
        return Err(StartError::setup(format!("it ran past the timeout of {seconds} s")));
    }
    let ended = kernel::wait_for(child.pid).tried(|| "wait for the hook".into())?;
    if ended == Ended::Exited(0) {
        return Ok(());
    }
    let mut text = Vec::new();
    let _ =
        output.seek(SeekFrom::Start(0)).and_then(|_| output.take(OUTPUT).read_to_end(&mut text));
    let how = match ended {
        Ended::Exited(code) => format!("exit status {code}"),
        Ended::Signaled(signal) => format!("signal {signal}"),
    };
    let said = String::from_utf8_lossy(&text);
    Err(StartError::setup(format!("{how}, output: {}", said.trim_end())))
}

/// Whether the process ends within `limit`.
fn ends_within(pidfd: impl std::os::fd::AsFd, limit: Option<Duration>) -> Step<bool> {
    let Some(limit) = limit else { return Ok(true) };
    let what = || "wait for the hook".to_owned();
    let poll = Poll::new().tried(what)?;
    poll.add(pidfd, 0, Interest::IN).tried(what)?;
    let deadline = Instant::now() + limit;
    let mut ready = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        poll.wait(&mut ready, Some(left)).tried(what)?;
        if !ready.is_empty() {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<u64>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: vec!["A=b".into()], timeout }
    }

    // A process with threads is not copied, and tests have some: what can be said without one.
    #[test]
    fn a_hook_with_a_null_byte_is_refused() {
        let mut bad = hook("true", None);
        bad.args.push("a\0b".into());
        assert!(run(&[bad], "prestart", "{}").unwrap_err().text.contains("null byte"));
    }
}

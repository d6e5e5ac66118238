//! The tiny init of `--init`: starts the program as its only child, hands it the signals that come, and
//! reaps what is orphaned, until the child ends; its code is the container's.
//!
//! Source: tini (behaviour).

use crate::container::{lookup, run_program};
use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt as _,
};
use sys::{
    epoll::{Interest, Poll, SignalFd},
    process::{self as kernel, Ended},
};

/// SIGCHLD.
const CHLD: i32 = 17;
/// Not handed on: they concern the init itself, or cannot be held back.
const OWN: [i32; 8] = [CHLD, 4, 5, 7, 8, 9, 11, 19];

/// Runs as `docker-init -- PROGRAM ARGS...`.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ! {
    let args: Vec<OsString> = args.skip_while(|a| a == "--").collect();
    match supervise(&args) {
        Ok(code) => kernel::exit(code),
        Err(_) => kernel::exit(1),
    }
}

fn supervise(args: &[OsString]) -> std::io::Result<i32> {
    let _ = kernel::set_name(c"docker-init");
    let handed: Vec<i32> = (1..=64).filter(|s| !OWN.contains(s)).collect();
    let signals = SignalFd::new(&handed.iter().copied().chain([CHLD]).collect::<Vec<_>>())?;
    let Some(child) = kernel::fork()? else { start(args) };
    let poll = Poll::new()?;
    poll.add(&signals, 0, Interest::IN)?;
    let mut ready = Vec::new();
    loop {
        while let Some((pid, ended)) = kernel::reap()? {
            if pid == child {
                return Ok(match ended {
                    Ended::Exited(code) => code,
                    Ended::Signaled(signal) => 128 + signal,
                });
            }
        }
        poll.wait(&mut ready, None)?;
        ready.clear();
        while let Some(signal) = signals.next()? {
            if signal != CHLD {
                // The child may have ended just now; that is seen above.
                let _ = kernel::kill_pid(child, signal);
            }
        }
    }
}

fn start(args: &[OsString]) -> ! {
    // A group of its own that the terminal, if any, listens to, as under a shell.
    let _ = rustix::process::setpgid(None, None);
    let _ = kernel::take_foreground();
    kernel::reset_signals();
    let texts: Vec<CString> =
        args.iter().filter_map(|a| CString::new(a.clone().into_vec()).ok()).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            CString::new(pair.into_vec()).ok()
        })
        .collect();
    let path: Vec<String> =
        std::env::var("PATH").map(|p| format!("PATH={p}")).into_iter().collect();
    let name = args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    match lookup(&name, &path) {
        Ok(program) => run_program(&program, &texts, &env),
        Err(_) => kernel::exit(127),
    }
}

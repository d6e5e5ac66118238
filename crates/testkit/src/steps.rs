//! Every step that a process and its children take at the kernel's edge, counted while they take it, and a kill at one.
//!
//! strace holds each call of [`CALLS`] for a moment before the kernel sees it and names it; whoever reads that kills the
//! caller at the n-th. So an operation can be broken at each of its steps in turn, over all threads, without a hook in
//! the program. Needs strace; not here: calls that fail (`strace --inject=...:error=`, [`Failing`]).

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What changes something that outlives the process, or starts or reaches another one.
const CALLS: &str = "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,\
symlinkat,fsync,fdatasync,syncfs,pwrite64,ftruncate,clone,clone3,vfork,execve,sendto,sendmsg,connect,mount,move_mount,\
open_tree,fsmount,setns,unshare,pivot_root,setsid,exit_group";

/// How long a call is held, in microseconds.
const HELD: u32 = 3000;

/// Whether strace is there.
pub fn available() -> bool {
    Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Whose steps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of the process that is watched, all its threads.
    Own,
    /// Of the processes that it starts.
    Children,
}

/// How often something was done, and at which step somebody was killed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Steps of the process.
    pub own: usize,
    /// Steps of its children.
    pub children: usize,
    /// The line of the step that was the last.
    pub killed: Option<String>,
}

/// A process under watch.
#[derive(Debug)]
pub struct Steps {
    strace: Child,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

impl Steps {
    /// Watches process `pid` and what it starts; at the n-th step of `kill` its caller is killed.
    ///
    /// # Errors
    /// strace does not start.
    pub fn watch(pid: i32, kill: Option<(Whose, usize)>) -> Result<Self> {
        let trace = format!("trace={CALLS}");
        let inject = format!("inject={CALLS}:delay_enter={HELD}");
        let (strace, lines) = attach(pid, &["-e", &trace, "-e", &inject])?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            for line in lines {
                count(pid, &line, kill, &mut shared.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        Ok(Self { strace, seen, reader: Some(reader) })
    }

    /// Ends the watch; what was seen.
    pub fn end(mut self) -> Seen {
        let killed = self.seen.lock().unwrap_or_else(PoisonError::into_inner).killed.is_some();
        detach(&mut self.strace, !killed);
        if let Some(reader) = self.reader.take() {
            _ = reader.join();
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One line of strace: `[pid 12] rename("a", ...`.
fn count(pid: i32, line: &str, kill: Option<(Whose, usize)>, seen: &mut Seen) {
    let Some((task, call)) = line.strip_prefix("[pid ").and_then(|l| l.split_once("] ")) else {
        return;
    };
    if !call.starts_with(|c: char| c.is_ascii_lowercase()) || seen.killed.is_some() {
        return;
    }
    let task = task.trim();
    let own = Path::new(&format!("/proc/{pid}/task/{task}")).exists();
    let (whose, number) = if own {
        seen.own += 1;
        (Whose::Own, seen.own)
    } else {
        seen.children += 1;
        (Whose::Children, seen.children)
    };
    if kill != Some((whose, number)) {
        return;
    }
    let victim = if own { Some(pid) } else { task.parse().ok() };
    if let Some(victim) = victim.and_then(Pid::from_raw)
        && kill_process(victim, Signal::KILL).is_ok()
    {
        seen.killed = Some(call.chars().take(100).collect());
    }
}

/// A process whose calls fail.
#[derive(Debug)]
pub struct Failing {
    strace: Child,
    reader: JoinHandle<usize>,
}

impl Failing {
    /// In process `pid` and what it starts, the `nth` call of each of `calls` in every thread fails with `error`.
    ///
    /// # Errors
    /// strace does not start.
    pub fn inject(pid: i32, calls: &str, error: &str, nth: usize) -> Result<Self> {
        let trace = format!("trace={calls}");
        let inject = format!("inject={calls}:error={error}:when={nth}");
        let (strace, lines) = attach(pid, &["-e", &trace, "-e", &inject])?;
        let reader =
            std::thread::spawn(move || lines.filter(|line| line.contains("(INJECTED)")).count());
        Ok(Self { strace, reader })
    }

    /// Lets calls succeed again; how many failed.
    pub fn end(mut self) -> usize {
        detach(&mut self.strace, true);
        self.reader.join().unwrap_or_default()
    }
}

/// Starts strace on all threads of `pid` and waits until it holds them.
fn attach(pid: i32, options: &[&str]) -> Result<(Child, impl Iterator<Item = String> + use<>)> {
    let mut strace = Command::new("strace")
        .args(["-f", "-s", "60", "-p", &pid.to_string()])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start strace")?;
    let errors = strace.stderr.take().context("strace has standard error")?;
    let mut lines = BufReader::new(errors).split(b'\n').map_while(Result::ok);
    let mut lines = std::iter::from_fn(move || {
        lines.next().map(|line| String::from_utf8_lossy(&line).into_owned())
    });
    let first = lines.next().unwrap_or_default();
    anyhow::ensure!(first.contains("attached"), "strace does not attach: {first}");
    Ok((strace, lines))
}

/// Ends strace. It lets go in an orderly way, but waits for ever for a process that is being killed meanwhile: then it is
/// killed too, and the kernel lets go.
fn detach(strace: &mut Child, orderly: bool) {
    let pid = i32::try_from(strace.id()).ok().and_then(Pid::from_raw);
    if orderly && let Some(pid) = pid {
        _ = kill_process(pid, Signal::TERM);
    }
    let patience = Instant::now() + Duration::from_secs(2);
    while orderly && Instant::now() < patience && matches!(strace.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(2));
    }
    _ = strace.kill();
    _ = strace.wait();
}

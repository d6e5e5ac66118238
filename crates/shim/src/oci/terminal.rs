//! Staying with a process: its end is the call's end, signals go to it, and its terminal, if it has one, is
//! joined to the caller's.
//!
//! Not here: terminals that somebody else gets (`--console-socket`).

use crate::container::{Step, Tried};
use rustix::{
    io::Errno,
    termios::{self, OptionalActions, Termios},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::IsTerminal as _,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};
use sys::{
    epoll::{Interest, Poll, SignalFd},
    process::{self as kernel, Child, Ended},
    pty,
};

const CHLD: i32 = 17;
const WINCH: i32 = 28;
/// Not handed on: they concern this process itself, or cannot be held back.
const OWN: [i32; 8] = [4, 5, 7, 8, 9, 11, 19, 13];
/// Bytes moved at once.
const CHUNK: usize = 32 << 10;

/// The caller's terminal in raw mode, for as long as this lives.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let stdin = rustix::stdio::stdin();
        let before = termios::tcgetattr(stdin).ok();
        if let Some(mut mode) = before.clone() {
            mode.make_raw();
            // Without it every key is shown twice, which is no reason not to go on.
            let _ = termios::tcsetattr(stdin, OptionalActions::Now, &mode);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(mode) = &self.0 {
            let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, mode);
        }
    }
}

/// Waits for the end of `child`; gives its code.
pub(super) fn stay(child: &Child, near: Option<OwnedFd>) -> Step<i32> {
    let what = || "wait for the process".to_owned();
    let handed: Vec<i32> = (1..=64).filter(|s| !OWN.contains(s)).collect();
    let signals = SignalFd::new(&handed).tried(what)?;
    let poll = Poll::new().tried(what)?;
    poll.add(&signals, SIGNALS, Interest::IN).tried(what)?;
    let mut relay = match near {
        Some(near) => Some(Relay::new(near, &poll)?),
        None => None,
    };
    let mut ready = Vec::new();
    loop {
        while let Some((pid, ended)) = kernel::reap().tried(what)? {
            if pid == child.pid {
                if let Some(relay) = &mut relay {
                    relay.rest();
                }
                return Ok(match ended {
                    Ended::Exited(code) => code,
                    Ended::Signaled(signal) => 128 + signal,
                });
            }
        }
        ready.clear();
        poll.wait(&mut ready, None).tried(what)?;
        for event in &ready {
            match (event.token, &mut relay) {
                (SIGNALS, relay) => {
                    while let Some(signal) = signals.next().tried(what)? {
                        match (signal, &relay) {
                            (CHLD, _) => {}
                            (WINCH, Some(relay)) => relay.resize(),
                            // It may have ended just now; that is seen above.
                            (signal, _) => drop(kernel::kill(&child.pidfd, signal)),
                        }
                    }
                }
                (INPUT, Some(relay)) => relay.input(&poll),
                (NEAR, Some(relay)) => relay.output(&poll),
                _ => {}
            }
        }
    }
}

const SIGNALS: u64 = 0;
const INPUT: u64 = 1;
const NEAR: u64 = 2;

/// Joins the two terminals.
struct Relay {
    near: OwnedFd,
    /// What the process has not taken yet.
    waiting: VecDeque<u8>,
    /// Whether the caller's input is listened to.
    listening: bool,
    _raw: Raw,
}

impl Relay {
    fn new(near: OwnedFd, poll: &Poll) -> Step<Self> {
        let what = || "join the terminals".to_owned();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&near, flags).tried(what)?;
        poll.add(&near, NEAR, Interest::IN | Interest::ET).tried(what)?;
        // A plain file cannot be waited for: it has no input to wait for either.
        let listening = poll.add(rustix::stdio::stdin(), INPUT, Interest::IN).is_ok();
        let raw = Raw(None);
        let mut relay = Self { near, waiting: VecDeque::new(), listening, _raw: raw };
        if std::io::stdin().is_terminal() {
            relay.resize();
            relay._raw = Raw::enter();
        }
        if !listening {
            let mut bytes = Vec::new();
            let stdin =
                File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).tried(what)?);
            std::io::Read::read_to_end(&mut std::io::Read::take(stdin, 1 << 20), &mut bytes)
                .tried(what)?;
            relay.waiting.extend(bytes);
            relay.feed(poll);
        }
        Ok(relay)
    }

    fn resize(&self) {
        if let Ok(size) = termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = pty::resize(&self.near, size.ws_row, size.ws_col);
        }
    }

    fn input(&mut self, poll: &Poll) {
        let mut bytes = [0; CHUNK];
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(0) => self.deaf(poll),
            Ok(len) => {
                self.waiting.extend(&bytes[..len]);
                self.feed(poll);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.deaf(poll),
        }
    }

    fn deaf(&mut self, poll: &Poll) {
        if self.listening {
            let _ = poll.remove(rustix::stdio::stdin());
            self.listening = false;
        }
    }

    /// Gives the process what waits, and listens on only when nothing does.
    fn feed(&mut self, poll: &Poll) {
        while !self.waiting.is_empty() {
            let (front, _) = self.waiting.as_slices();
            match rustix::io::write(&self.near, front) {
                Ok(len) => drop(self.waiting.drain(..len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.waiting.clear(),
            }
        }
        let full = !self.waiting.is_empty();
        let mut near = Interest::IN | Interest::ET;
        near.set(Interest::OUT, full);
        let _ = poll.modify(&self.near, NEAR, near);
        if self.listening {
            let input = if full { Interest::empty() } else { Interest::IN };
            let _ = poll.modify(rustix::stdio::stdin(), INPUT, input);
        }
    }

    fn output(&mut self, poll: &Poll) {
        while self.pump() {}
        if !self.waiting.is_empty() {
            self.feed(poll);
        }
    }

    /// Moves one chunk; whether there may be more.
    fn pump(&self) -> bool {
        let mut bytes = [0; CHUNK];
        match rustix::io::read(&self.near, &mut bytes) {
            Ok(0) => false,
            Ok(len) => write_all(rustix::stdio::stdout(), &bytes[..len]),
            Err(Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// What the process still said.
    fn rest(&mut self) {
        while self.pump() {}
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(fd.as_fd(), bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

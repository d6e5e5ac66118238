//! What the shim knows of one process: the container's first or an exec's.

use crate::container::{Streams, Sync};
use base::Timestamp;
use runtime::{
    shim::{AttachOptions, Exit, StartError, Stream},
    spec::ConsoleSize,
};
use std::{collections::VecDeque, os::fd::OwnedFd};
use sys::process::Ended;

/// Input waiting for a process above which its clients are not read.
pub(super) const INPUT_LIMIT: usize = 64 << 10;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Sets itself up.
    Making,
    /// Runs its program.
    Running,
    /// Has ended.
    Exited(Exit),
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    /// Its pid on the host; 0 until an exec's helper has said it.
    pub(super) pid: u32,
    /// Pid of the helper that makes an exec; 0 for the first process.
    pub(super) helper: u32,
    /// Held from the time the pid is known.
    pub(super) pidfd: Option<OwnedFd>,
    /// How far it is.
    pub(super) phase: Phase,
    /// When its program was started.
    pub(super) started: Option<Timestamp>,
    /// It was reaped while it set itself up.
    pub(super) ended_early: Option<Ended>,
    /// The socket to it while it sets itself up, with its number in the poll set.
    pub(super) sync: Option<(u64, Sync)>,
    /// It said that it is as good as started.
    pub(super) said_started: bool,
    /// It said that it does not start.
    pub(super) failure: Option<StartError>,
    /// The connection that asked for it.
    pub(super) starter: Option<u64>,
    /// That connection becomes its stream.
    pub(super) attach: Option<AttachOptions>,
    /// Whether it has a terminal.
    pub(super) has_terminal: bool,
    /// The near end of the terminal, for its size.
    pub(super) terminal: Option<OwnedFd>,
    /// A size that was asked for before there was a terminal.
    pub(super) size: Option<ConsoleSize>,
    /// What it writes.
    pub(super) outputs: Vec<Output>,
    /// What it reads.
    pub(super) input: Option<InputQueue>,
    /// Its input ends with that of the first client.
    pub(super) input_once: bool,
    /// Its output goes to the log.
    pub(super) logged: bool,
    /// Connections that are its streams.
    pub(super) attached: Vec<u64>,
    /// Connections that wait for its end.
    pub(super) waiting: Vec<u64>,
}

impl Process {
    /// Whether an exec's helper has done its part.
    pub(super) fn is_born(&self) -> bool {
        self.helper != 0 && self.pid != 0
    }
}

/// One of its outputs.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    /// Number in the poll set, once it is in it.
    pub(super) token: Option<u64>,
}

/// Its input.
#[derive(Debug)]
pub(super) struct InputQueue {
    pub(super) fd: OwnedFd,
    /// Number in the poll set while something waits.
    pub(super) token: Option<u64>,
    pub(super) queue: VecDeque<u8>,
    /// Close it once the queue is empty.
    pub(super) closing: bool,
}

impl Process {
    /// A process that sets itself up.
    pub(super) fn new(streams: Streams, has_terminal: bool) -> Self {
        let mut process = Self {
            pid: 0,
            helper: 0,
            pidfd: None,
            phase: Phase::Making,
            started: None,
            ended_early: None,
            sync: None,
            said_started: false,
            failure: None,
            starter: None,
            attach: None,
            has_terminal,
            terminal: None,
            size: None,
            outputs: Vec::new(),
            input: None,
            input_once: false,
            logged: false,
            attached: Vec::new(),
            waiting: Vec::new(),
        };
        process.take(streams);
        process
    }

    fn take(&mut self, streams: Streams) {
        for (stream, fd) in [(Stream::Stdout, streams.stdout), (Stream::Stderr, streams.stderr)] {
            self.outputs.extend(fd.map(|fd| Output { stream, fd, token: None }));
        }
        self.input = streams.stdin.map(InputQueue::new);
    }

    /// The near end of its terminal has come.
    pub(super) fn take_terminal(&mut self, near: OwnedFd) -> std::io::Result<()> {
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        rustix::fs::fcntl_setfl(&near, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK)?;
        if let Some(size) = self.size {
            sys::pty::resize(&near, size.height, size.width)?;
        }
        let (output, input) = (copy(&near)?, copy(&near)?);
        self.outputs.push(Output { stream: Stream::Stdout, fd: output, token: None });
        self.input = Some(InputQueue::new(input));
        self.terminal = Some(near);
        Ok(())
    }
}

impl InputQueue {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, token: None, queue: VecDeque::new(), closing: false }
    }
}

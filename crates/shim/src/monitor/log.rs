//! The container's log: a file, and for drivers that send output elsewhere a relay.
//!
//! A relay is a process of its own, started here and spoken to over a socket (`logging::handover`), because
//! name servers, TLS and receivers that hang have no place in this loop. It outlives the daemon like the
//! shim itself, and ends by itself when its socket does.
//! Invariants: nothing waits here but the start of a container for its relay's word; what waits for a relay
//! is bounded: the container is held up, or with `mode=non-blocking` output is dropped; the file has all of it.

use crate::container::{Step, Tried as _};
use base::Timestamp;
use logging::{
    Config, Sink, Stream,
    handover::{Head, MAX_CHUNK},
};
use runtime::shim::StartError;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long a relay may take to reach its receiver when a container starts.
const READY: Duration = Duration::from_secs(30);
/// A relay that died is not started again sooner.
const AGAIN: Duration = Duration::from_secs(1);
/// With `mode=non-blocking` this much may wait here at least; the rest of the buffer is the relay's.
const PENDING: usize = 256 << 10;

/// The log of one container.
#[derive(Debug)]
pub(super) struct Log {
    sink: Box<dyn Sink>,
    relay: Option<Relay>,
}

#[derive(Debug)]
struct Relay {
    program: PathBuf,
    id: String,
    /// The configuration with its length before it.
    config: Vec<u8>,
    drops: bool,
    socket: Option<UnixStream>,
    pending: VecDeque<u8>,
    /// Output was dropped since the last chunk.
    gap: bool,
    died: Option<Instant>,
    closing: bool,
}

impl Log {
    /// Opens the file, starts the relay and waits for its word.
    pub(super) fn open(config: serde_json::Value) -> Step<Self> {
        let failed = |why: &dyn std::fmt::Display| {
            StartError::setup(format!("failed to initialize logging driver: {why}"))
        };
        let config: Config = serde_json::from_value(config).map_err(|e| failed(&e))?;
        let sink = config.sink().map_err(|e| failed(&e.chain()))?;
        if !config.is_remote() {
            return Ok(Self { sink, relay: None });
        }
        let mut text = serde_json::to_vec(&config).map_err(|e| failed(&e))?;
        let length = u32::try_from(text.len()).map_err(|e| failed(&e))?;
        text.splice(0..0, length.to_le_bytes());
        let mut relay = Relay {
            drops: config.options.buffer_bytes().is_some(),
            id: config.origin.id,
            program: config.relay,
            config: text,
            socket: None,
            pending: VecDeque::new(),
            gap: false,
            died: None,
            closing: false,
        };
        relay.start().tried(|| format!("start the log relay {}", relay.program.display()))?;
        relay.ready().map_err(|why| failed(&why))?;
        Ok(Self { sink, relay: Some(relay) })
    }

    /// Takes a chunk of output.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8], at: Timestamp) {
        // A full disk must not stop the container; later lines are whole again.
        let _ = self.sink.write(stream, bytes, at);
        if let Some(relay) = &mut self.relay {
            bytes.chunks(MAX_CHUNK).for_each(|chunk| relay.write(stream, chunk, at));
        }
    }

    /// A stream has ended.
    pub(super) fn end(&mut self, stream: Stream) {
        let _ = self.sink.end(stream);
    }

    /// Opens the file anew.
    pub(super) fn reopen(&mut self) -> base::Result<()> {
        self.sink.reopen()
    }

    /// Nothing more comes: the relay is hung up on when it has everything.
    pub(super) fn close(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.closing = true;
            relay.flush();
        }
    }

    /// The socket to the relay, to wait for.
    pub(super) fn socket(&self) -> Option<&UnixStream> {
        self.relay.as_ref().and_then(|r| r.socket.as_ref())
    }

    /// Bytes that wait for the relay.
    pub(super) fn waiting(&self) -> usize {
        self.relay.as_ref().filter(|r| r.socket.is_some()).map_or(0, |r| r.pending.len())
    }

    /// Whether the container is to be held up until the relay has taken what waits.
    pub(super) fn behind(&self) -> bool {
        self.waiting() > 0 && self.relay.as_ref().is_some_and(|r| !r.drops)
    }

    /// Sends what waits, as far as the relay takes it.
    pub(super) fn flush(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.flush();
        }
    }

    /// The relay is gone.
    pub(super) fn relay_died(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.die();
        }
    }

    /// Starts a relay in the place of one that is gone, not too often; true when there is a new socket.
    pub(super) fn revive(&mut self) -> bool {
        let Some(relay) = &mut self.relay else { return false };
        let due = relay.died.is_some_and(|at| at.elapsed() >= AGAIN) && !relay.closing;
        if !due {
            return false;
        }
        let started = relay.start().is_ok();
        if !started {
            relay.died = Some(Instant::now());
        }
        started
    }
}

impl Relay {
    fn start(&mut self) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        // The program's file may have the name of another role.
        Command::new(&self.program)
            .arg0("gantry")
            .args(["log-relay", &self.id])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        ours.set_nonblocking(true)?;
        self.socket = Some(ours);
        self.died = None;
        self.pending.extend(&self.config);
        self.flush();
        Ok(())
    }

    /// Waits until the relay has reached its receiver.
    fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY;
        let mut answer = Vec::new();
        loop {
            self.flush();
            let Some(socket) = &mut self.socket else { break };
            let mut part = [0; 4096];
            match socket.read(&mut part) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err("the log relay gives no word".into());
                    }
                    let mut wanted = PollFlags::IN;
                    wanted.set(PollFlags::OUT, !self.pending.is_empty());
                    let left = Timespec::try_from(left).map_err(|e| e.to_string())?;
                    let polled =
                        rustix::event::poll(&mut [PollFd::new(socket, wanted)], Some(&left));
                    if let Err(err) = polled.map(drop)
                        && err != rustix::io::Errno::INTR
                    {
                        return Err(err.to_string());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            if answer.first() == Some(&0) {
                return Ok(());
            }
        }
        match answer.split_first() {
            Some((1, why)) => Err(String::from_utf8_lossy(why).into_owned()),
            _ => Err("the log relay ended without a word".into()),
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8], at: Timestamp) {
        if self.socket.is_none() {
            // The file has it.
            self.gap = true;
            return;
        }
        if self.drops && !self.pending.is_empty() && self.pending.len() + bytes.len() > PENDING {
            self.gap = true;
            return;
        }
        if std::mem::take(&mut self.gap) {
            self.push(&Head { stream: None, length: 0, at }.encode(), &[]);
        }
        let head = Head { stream: Some(stream), length: bytes.len(), at }.encode();
        self.push(&head, bytes);
    }

    /// Sends at once what the socket takes, and keeps the rest.
    fn push(&mut self, head: &[u8], bytes: &[u8]) {
        let mut sent = 0;
        if self.pending.is_empty()
            && let Some(socket) = &mut self.socket
        {
            match socket.write_vectored(&[io::IoSlice::new(head), io::IoSlice::new(bytes)]) {
                Ok(written) => sent = written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.die(),
            }
        }
        for part in [head, bytes] {
            let skip = sent.min(part.len());
            sent -= skip;
            self.pending.extend(&part[skip..]);
        }
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            let Some(socket) = &mut self.socket else { return };
            let (front, _) = self.pending.as_slices();
            match socket.write(front) {
                Ok(0) => return self.die(),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Why it hung up is still to be read.
                Err(_) if self.died.is_none() && !self.closing => return self.pending.clear(),
                Err(_) => return self.die(),
            }
        }
        self.pending = VecDeque::new();
        if self.closing {
            self.socket = None;
        }
    }

    fn die(&mut self) {
        self.socket = None;
        self.pending = VecDeque::new();
        self.gap = true;
        self.died = Some(Instant::now());
    }
}

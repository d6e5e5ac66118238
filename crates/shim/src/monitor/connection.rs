//! A client's connection: frames of requests and replies, or, once attached, a stream.
//!
//! Invariants: never blocks; input is bounded by the longest frame, output by what the monitor lets in
//! ([`LIMIT`] for streams: past it the container is held up).

use runtime::shim::{
    AttachOptions, Target,
    protocol::{Envelope, MAX_FRAME, Reply},
};
use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
};
use sys::epoll::Interest;

/// Output waiting for a client above which its container is held up.
pub(super) const LIMIT: usize = 1 << 20;
/// Longest frame before the client may be believed to send a plan.
const CHUNK: usize = 64 << 10;

/// What a connection is used for.
#[derive(Debug)]
pub(super) enum Mode {
    /// Requests and replies.
    Control,
    /// Output of a process, and input to it.
    Stream {
        /// Whose.
        target: Target,
        /// Which parts.
        options: AttachOptions,
        /// Whether the client may still send input.
        reading: bool,
    },
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    /// What it is used for.
    pub(super) mode: Mode,
    /// To be closed once all output is sent.
    pub(super) closing: bool,
    /// What is waited for.
    pub(super) interest: Interest,
}

/// What reading gave.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A request.
    Request(Box<Envelope>),
    /// Nothing whole yet.
    Nothing,
    /// The client is gone, or speaks nonsense.
    End,
}

impl Connection {
    /// A new client on a non-blocking socket.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            mode: Mode::Control,
            closing: false,
            interest: Interest::IN,
        })
    }

    /// The socket, to wait for.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Bytes of output that wait.
    pub(super) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Reads what is there and gives the next whole request.
    pub(super) fn request(&mut self) -> Incoming {
        if let Some(whole) = self.whole() {
            return whole;
        }
        let mut chunk = [0; CHUNK];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Incoming::End,
                Ok(len) => self.incoming.extend_from_slice(&chunk[..len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Incoming::Nothing,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Incoming::End,
            }
            if let Some(whole) = self.whole() {
                return whole;
            }
        }
    }

    fn whole(&mut self) -> Option<Incoming> {
        let (head, _) = self.incoming.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Some(Incoming::End);
        }
        let body = self.incoming.get(4..4 + length)?;
        let parsed = serde_json::from_slice(body);
        self.incoming.drain(..4 + length);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Some(parsed.map_or(Incoming::End, |envelope| Incoming::Request(Box::new(envelope))))
    }

    /// Reads input of an attached client; `None` at its end.
    pub(super) fn input(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.incoming.is_empty() {
            let len = self.incoming.len().min(buffer.len());
            buffer[..len].copy_from_slice(&self.incoming[..len]);
            self.incoming.drain(..len);
            return Ok(Some(len));
        }
        match self.socket.read(buffer) {
            Ok(0) => Ok(None),
            Ok(len) => Ok(Some(len)),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(Some(0))
            }
            Err(e) => Err(e),
        }
    }

    /// Sends a reply.
    pub(super) fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        let body = serde_json::to_vec(reply)?;
        let length =
            u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidData)?.to_le_bytes();
        self.send(&[&length, &body])
    }

    /// Sends bytes, at once as far as the socket takes them.
    pub(super) fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut sent = 0;
        if self.outgoing.is_empty() {
            let slices: Vec<io::IoSlice<'_>> = parts.iter().map(|p| io::IoSlice::new(p)).collect();
            sent = match self.socket.write_vectored(&slices) {
                Ok(sent) => sent,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
        }
        for part in parts {
            let skip = sent.min(part.len());
            sent -= skip;
            self.outgoing.extend(&part[skip..]);
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match self.socket.write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // A burst is over: give its memory back.
        self.outgoing = VecDeque::new();
        Ok(())
    }
}

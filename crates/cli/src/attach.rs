//! Between terminal and container: input, output, signals and window size over one hijacked connection.
//!
//! One poll(2) loop. INVARIANT: input is read only when what was read before has gone out, and output is
//! always taken, so a container that reads nothing cannot stop its own output.

use crate::{
    client::{Client, Query},
    connect::Socket,
    error::{Fail, Result},
    term::{self, Detach},
};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};
use sys::epoll::SignalFd;

/// Whom the connection is to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Container(String),
    Exec(String),
}

/// What becomes of signals that reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signals {
    /// They go to the container.
    Forward,
    /// They do to us what they usually do.
    Keep,
}

/// One attached session.
pub(crate) struct Session<'a> {
    pub client: &'a Client,
    pub target: Target,
    pub tty: bool,
    /// Whether our input goes there.
    pub stdin: bool,
    pub detach_keys: &'a str,
    pub signals: &'a Watch,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side closed.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Signals held back from the start of a command on, to be handled in the loop.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: SignalFd,
}

const WINCH: i32 = 28;
/// HUP, INT, QUIT, USR1, USR2, ALRM, TERM.
const FORWARDED: [i32; 7] = [1, 2, 3, 10, 12, 14, 15];

impl Watch {
    /// Begins to hold signals back.
    pub(crate) fn begin(signals: Signals) -> Result<Self> {
        let mut list = vec![WINCH];
        if signals == Signals::Forward {
            list.extend(FORWARDED);
        }
        Ok(Self { fd: SignalFd::new(&list)? })
    }
}

impl Session<'_> {
    /// Tells the engine the window's size; failures (not started yet, just ended) do no harm.
    pub(crate) fn resize(&self) {
        let (rows, columns) = term::size();
        if !self.tty || rows == 0 && columns == 0 {
            return;
        }
        let path = match &self.target {
            Target::Container(id) => format!("/containers/{id}/resize"),
            Target::Exec(id) => format!("/exec/{id}/resize"),
        };
        let query = Query::new().int("h", Some(rows.into())).int("w", Some(columns.into()));
        let _ = self.client.post(&path, &query);
    }

    /// Handles the signals that have come.
    fn handle_signals(&self) -> Result<()> {
        while let Some(signal) = self.signals.fd.next()? {
            match &self.target {
                _ if signal == WINCH => self.resize(),
                Target::Container(id) => {
                    let query = Query::new().int("signal", Some(signal.into()));
                    // It may have ended: then there is nobody to tell.
                    let _ = self.client.post(&format!("/containers/{id}/kill"), &query);
                }
                Target::Exec(_) => {}
            }
        }
        Ok(())
    }

    /// Moves bytes until the other side closes or the user detaches.
    pub(crate) fn run(&self, socket: Socket, early: Vec<u8>) -> Result<Ended> {
        let raw = if self.tty && self.stdin { term::Raw::enter()? } else { None };
        socket.set_nonblocking(true)?;
        let mut pump = Pump {
            socket,
            demux: Demux::new(self.tty),
            pending: Vec::new(),
            input: if self.stdin { Input::Open } else { Input::Never },
            detach: if self.tty { Some(Detach::parse(self.detach_keys)?) } else { None },
        };
        pump.demux.feed(&early)?;
        let ended = loop {
            if let Some(ended) = self.step(&mut pump)? {
                break ended;
            }
        };
        drop(raw);
        Ok(ended)
    }

    fn step(&self, pump: &mut Pump) -> Result<Option<Ended>> {
        let stdin = io::stdin();
        let mut wanted = PollFlags::IN;
        if !pump.pending.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(pump.socket.as_fd(), wanted),
            PollFd::new(&self.signals.fd, PollFlags::IN),
        ];
        if pump.input == Input::Open && pump.pending.is_empty() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        if !ready[1].is_empty() {
            self.handle_signals()?;
        }
        if ready[0].contains(PollFlags::OUT) {
            pump.send()?;
        }
        if ready[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && pump.receive()? == 0
        {
            return Ok(Some(Ended::Closed));
        }
        if ready.get(2).is_some_and(|r| !r.is_empty()) {
            return pump.read_input();
        }
        Ok(None)
    }

    /// Waits until `socket` has something to read, handling signals meanwhile.
    pub(crate) fn wait_for(&self, socket: &impl AsFd) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.signals.fd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
            let (answer, signal) = (fds[0].revents(), fds[1].revents());
            if !signal.is_empty() {
                self.handle_signals()?;
            }
            if !answer.is_empty() {
                return Ok(());
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// At its end; the socket is closed once what is pending has gone.
    Ending,
    Never,
}

struct Pump {
    socket: Socket,
    demux: Demux,
    pending: Vec<u8>,
    input: Input,
    detach: Option<Detach>,
}

impl Pump {
    fn read_input(&mut self) -> Result<Option<Ended>> {
        let mut buffer = [0; 32 * 1024];
        let n = match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(None),
            // A terminal that went away is an input at its end.
            Err(_) => 0,
        };
        if n == 0 {
            self.input = Input::Ending;
            self.send()?;
            return Ok(None);
        }
        match &mut self.detach {
            Some(detach) => {
                let (typed, complete) = detach.pass(&buffer[..n]);
                self.pending.extend_from_slice(&typed);
                if complete {
                    return Ok(Some(Ended::Detached));
                }
            }
            None => self.pending.extend_from_slice(&buffer[..n]),
        }
        self.send()?;
        Ok(None)
    }

    fn send(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            match self.socket.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The container takes no more input; its output may still come.
                Err(_) => {
                    self.pending.clear();
                    self.input = Input::Never;
                }
            }
        }
        if self.input == Input::Ending {
            self.input = Input::Never;
            // Already closed from the other side is as good.
            let _ = self.socket.finish();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<usize> {
        let mut buffer = [0; 64 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(n) => {
                self.demux.feed(&buffer[..n])?;
                Ok(n)
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(1)
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Err(e) => Err(e.into()),
        }
    }
}

/// One of our outputs, without the buffer by lines that the standard library puts before it.
struct Direct<T: AsFd>(T);

impl<T: AsFd> Write for Direct<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parts a framed stream into our two outputs; a terminal's stream has no frames.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    tty: bool,
    head: Vec<u8>,
    /// The frame being read: stream and bytes left.
    frame: Option<(u8, usize)>,
    error: Vec<u8>,
}

impl Demux {
    /// For a terminal's stream or a framed one.
    pub(crate) fn new(tty: bool) -> Self {
        Self { tty, ..Self::default() }
    }

    /// Takes bytes of the stream.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.feed_to(bytes, &mut Direct(io::stdout()), &mut Direct(io::stderr()))
    }

    fn feed_to(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<()> {
        const HEAD: usize = 8;
        if self.tty {
            return Ok(out.write_all(bytes)?);
        }
        // Neighbouring frames of one stream go out together: lines come a frame each.
        let mut together = Together { to: 1, held: Vec::with_capacity(bytes.len()) };
        while !bytes.is_empty() {
            let Some((stream, left)) = self.frame else {
                let take = (HEAD - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if let [stream, 0, 0, 0, a, b, c, d] = *self.head {
                    let length = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                    self.frame = (length > 0).then_some((stream, length));
                } else if self.head.len() == HEAD {
                    let text = format!("Unrecognized input header: {}", self.head[0]);
                    return Err(Fail::new(text));
                }
                continue;
            };
            let take = left.min(bytes.len());
            let part = &bytes[..take];
            match stream {
                0..=2 => together.add(stream, part, out, err)?,
                3 => self.error.extend_from_slice(part),
                other => return Err(Fail::new(format!("Unrecognized input header: {other}"))),
            }
            bytes = &bytes[take..];
            self.frame = (left > take).then_some((stream, left - take));
            if stream == 3 && self.frame.is_none() {
                together.write(out, err)?;
                let text = String::from_utf8_lossy(&self.error).into_owned();
                return Err(Fail::new(format!("error from daemon in stream: {text}")));
            }
        }
        Ok(together.write(out, err)?)
    }
}

struct Together {
    to: u8,
    held: Vec<u8>,
}

impl Together {
    fn add(
        &mut self,
        stream: u8,
        part: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        if (stream == 2) != (self.to == 2) {
            self.write(out, err)?;
            self.to = stream;
        }
        self.held.extend_from_slice(part);
        Ok(())
    }

    fn write(&mut self, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if self.to == 2 { err.write_all(&held) } else { out.write_all(&held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    #[test]
    fn frames_are_parted_however_they_are_cut() {
        let mut bytes = frame(1, "out");
        bytes.extend(frame(2, "err"));
        bytes.extend(frame(1, ""));
        bytes.extend(frame(1, "more"));
        for size in 1..bytes.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for part in bytes.chunks(size) {
                demux.feed_to(part, &mut out, &mut err).unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"outmore"[..], &b"err"[..]));
        }
        let mut demux = Demux::default();
        let failed = demux.feed_to(&frame(3, "gone"), &mut Vec::new(), &mut Vec::new());
        assert_eq!(failed.unwrap_err().message, "error from daemon in stream: gone");
        assert!(Demux::default().feed_to(b"GET / HTTP", &mut Vec::new(), &mut Vec::new()).is_err());
    }
}

//! Bytes: from a process to its log and its clients, from clients to a process.
//!
//! Invariants: a client with [`connection::LIMIT`] bytes waiting holds its process up (its outputs are
//! not read) and none else; input is taken from clients only while less than [`INPUT_LIMIT`] waits.

use super::{
    Mode, Monitor, Source, connection,
    log::Log,
    process::{INPUT_LIMIT, Phase},
};
use base::Timestamp;
use runtime::shim::{Stream, Target};
use rustix::io::Errno;
use std::time::{Duration, Instant};
use sys::epoll::Interest;

/// Bytes read at once.
pub(super) const CHUNK: usize = 64 << 10;
/// Reads of one output in a row, so that a flooding container does not keep clients waiting.
const ROUNDS: usize = 8;

/// Output that comes in small pieces, each soon after the last: the loop pauses for a moment that none of the pieces is late
/// by, and finds many together.
#[derive(Debug, Default)]
pub(super) struct Flood {
    last: Option<Instant>,
    streak: u32,
}

impl Flood {
    /// So soon after the last piece another counts.
    const SOON: Duration = Duration::from_micros(500);
    /// So many of them are a flood.
    const MANY: u32 = 32;
    /// A full pipe, which holds its writer up, takes longer to come.
    const PAUSE: Duration = Duration::from_micros(200);

    /// An output had `moved` bytes and has no more now.
    fn drained(&mut self, moved: usize) {
        let soon = self.last.is_some_and(|last| last.elapsed() < Self::SOON);
        self.streak = if soon { self.streak.saturating_add(1) } else { 0 };
        if self.streak > Self::MANY && moved < CHUNK / 2 {
            std::thread::sleep(Self::PAUSE);
        }
        self.last = Some(Instant::now());
    }
}

impl Monitor {
    /// Brings what is waited for of a process's outputs into line: nothing before it runs, and nothing
    /// while a client is behind.
    pub(super) fn listen(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        if process.phase != Phase::Running {
            return;
        }
        let behind = |token: &u64| {
            self.connections.get(token).is_some_and(|c| c.waiting() >= connection::LIMIT)
        };
        let mut interest = Interest::empty();
        // The near end of a terminal that nobody has open is "hung up" all the time, and yet may be
        // opened again: told once per change, it does not keep the loop busy.
        interest.set(Interest::ET, process.has_terminal);
        let held = process.logged && self.log.as_ref().is_some_and(Log::behind);
        interest.set(Interest::IN, !held && !process.attached.iter().any(behind));
        for output in &mut process.outputs {
            match output.token {
                Some(token) => {
                    let _ = self.poll.modify(&output.fd, token, interest);
                }
                None => {
                    self.last_token += 1;
                    let token = self.last_token;
                    self.sources.insert(token, Source::Output(target.clone(), output.stream));
                    output.token = Some(token);
                    let _ = self.poll.add(&output.fd, token, interest);
                }
            }
        }
    }

    /// An output has something.
    pub(super) fn output_ready(&mut self, target: &Target, stream: Stream) {
        let mut moved = 0;
        for _ in 0..ROUNDS {
            let pumped = self.pump(target, stream);
            match pumped {
                Pumped::Some(len) | Pumped::Last(len) => moved += len,
                Pumped::Nothing => return self.flood.drained(moved),
                Pumped::End => return self.output_ended(target, stream),
            }
            let Some(process) = self.processes.get(target) else { return };
            let behind = |token: &u64| {
                self.connections.get(token).is_some_and(|c| c.waiting() >= connection::LIMIT)
            };
            let held = process.logged && self.log.as_ref().is_some_and(Log::behind);
            if held || process.attached.iter().any(behind) {
                break;
            }
            if matches!(pumped, Pumped::Last(_)) {
                return self.flood.drained(moved);
            }
        }
        // Told once per change only: ask to be told of what is left.
        self.listen(target);
    }

    /// Moves one chunk.
    fn pump(&mut self, target: &Target, stream: Stream) -> Pumped {
        let Some(process) = self.processes.get(target) else { return Pumped::Nothing };
        let Some(output) = process.outputs.iter().find(|o| o.stream == stream) else {
            return Pumped::Nothing;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = rustix::io::read(&output.fd, &mut buffer[..]);
        let pumped = match read {
            Ok(0) => Pumped::End,
            Ok(len) => {
                // A pipe that gives less has no more; of a terminal one is told once only.
                let more = process.has_terminal || len == buffer.len();
                self.hand_on(target, stream, &buffer[..len]);
                if more { Pumped::Some(len) } else { Pumped::Last(len) }
            }
            Err(Errno::INTR) => Pumped::Some(0),
            Err(Errno::AGAIN) => Pumped::Nothing,
            // Nobody has the terminal open; someone may again.
            Err(Errno::IO) if process.has_terminal => Pumped::Nothing,
            Err(_) => Pumped::End,
        };
        self.buffer = buffer;
        pumped
    }

    fn hand_on(&mut self, target: &Target, stream: Stream, bytes: &[u8]) {
        let Some(process) = self.processes.get(target) else { return };
        let (mut relayed, mut revived) = (false, false);
        if process.logged
            && let Some(log) = &mut self.log
        {
            log.write(to_log(stream), bytes, Timestamp::now());
            if log.waiting() > 0 {
                relayed = true;
            }
            revived = log.revive();
        }
        let raw = process.has_terminal;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let [a, b, c, d] = length;
        let head = [stream as u8, 0, 0, 0, a, b, c, d];
        let mut broken = Vec::new();
        let mut waiting = Vec::new();
        for token in &process.attached {
            let Some(connection) = self.connections.get_mut(token) else { continue };
            let Mode::Stream { options, .. } = &connection.mode else { continue };
            let wanted = if stream == Stream::Stdout { options.stdout } else { options.stderr };
            // A terminal has one output, whatever was asked for.
            if !(wanted || raw && options.stderr) {
                continue;
            }
            let sent =
                if raw { connection.send(&[bytes]) } else { connection.send(&[&head, bytes]) };
            match sent {
                Err(_) => broken.push(*token),
                Ok(()) if connection.waiting() > 0 => waiting.push(*token),
                Ok(()) => {}
            }
        }
        broken.into_iter().for_each(|token| self.drop_connection(token));
        waiting.into_iter().for_each(|token| self.settle(token));
        if revived {
            self.watch_relay();
        } else if relayed {
            self.settle_relay();
        }
    }

    /// Puts a relay's new socket into the poll set.
    pub(super) fn watch_relay(&mut self) {
        self.source_is_gone(self.relay);
        self.relay = None;
        if self.log.as_ref().is_some_and(|l| l.socket().is_some()) {
            let token = self.new_source(Source::Relay);
            if let Some(socket) = self.log.as_ref().and_then(Log::socket) {
                let _ = self.poll.add(socket, token, Interest::empty());
                self.relay = Some(token);
            }
            self.settle_relay();
        }
    }

    /// Brings what is waited for of the relay into line with what waits for it.
    fn settle_relay(&mut self) {
        let (Some(log), Some(token)) = (&self.log, self.relay) else { return };
        match log.socket() {
            Some(socket) => {
                let mut interest = Interest::empty();
                interest.set(Interest::OUT, log.waiting() > 0);
                let _ = self.poll.modify(socket, token, interest);
            }
            None => {
                self.source_is_gone(Some(token));
                self.relay = None;
            }
        }
    }

    /// The relay takes more, or is gone.
    pub(super) fn relay_ready(&mut self, flags: Interest) {
        let Some(log) = &mut self.log else { return };
        if flags.intersects(Interest::HUP | Interest::ERR) {
            log.relay_died();
        } else {
            log.flush();
        }
        let behind = log.behind();
        self.settle_relay();
        if !behind {
            self.listen(&Target::Init);
        }
    }

    /// The container's output has ended.
    pub(super) fn close_log(&mut self) {
        let Some(log) = &mut self.log else { return };
        log.close();
        if log.waiting() == 0 {
            self.log = None;
            self.source_is_gone(self.relay);
            self.relay = None;
            return;
        }
        self.settle_relay();
        // The container may be started again before the relay has taken the rest.
        if let Some(cgroup) = self.container.as_mut().and_then(|c| c.cgroup.take()) {
            let _ = cgroup.remove();
        }
    }

    fn output_ended(&mut self, target: &Target, stream: Stream) {
        let Some(process) = self.processes.get_mut(target) else { return };
        if let Some(at) = process.outputs.iter().position(|o| o.stream == stream) {
            let output = process.outputs.remove(at);
            let _ = self.poll.remove(&output.fd);
            self.source_is_gone(output.token);
            self.end_log(target, stream);
        }
    }

    fn end_log(&mut self, target: &Target, stream: Stream) {
        let logged = self.processes.get(target).is_some_and(|p| p.logged);
        if logged && let Some(log) = &mut self.log {
            log.end(to_log(stream));
        }
    }

    /// The process has ended: what its outputs still hold is moved, whoever is behind.
    pub(super) fn drain(&mut self, target: &Target) {
        let streams: Vec<Stream> = match self.processes.get(target) {
            Some(process) => process.outputs.iter().map(|o| o.stream).collect(),
            None => return,
        };
        for stream in streams {
            // A process elsewhere that holds the other end may write for ever: a pipe holds 16 chunks.
            for _ in 0..64 {
                match self.pump(target, stream) {
                    Pumped::Some(_) | Pumped::Last(_) => {}
                    Pumped::Nothing | Pumped::End => break,
                }
            }
            self.output_ended(target, stream);
        }
    }

    /// Whether input of this client can be taken now.
    pub(super) fn takes_input(&self, token: u64) -> bool {
        match self.connections.get(&token).map(|c| &c.mode) {
            Some(Mode::Stream { target, reading, .. }) => {
                let full = self
                    .processes
                    .get(target)
                    .and_then(|p| p.input.as_ref())
                    .is_some_and(|input| input.queue.len() >= INPUT_LIMIT);
                *reading && !full
            }
            Some(Mode::Control) => true,
            None => false,
        }
    }

    /// A client sends input.
    pub(super) fn read_input(&mut self, token: u64) {
        if !self.takes_input(token) {
            return self.settle(token);
        }
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = connection.input(&mut buffer);
        let (target, wanted) = match &mut connection.mode {
            Mode::Stream { target, options, reading } => {
                *reading = matches!(read, Ok(Some(_)));
                (target.clone(), options.stdin)
            }
            Mode::Control => return self.buffer = buffer,
        };
        match read {
            Ok(Some(len)) if wanted => {
                if let Some(input) = self.processes.get_mut(&target).and_then(|p| p.input.as_mut())
                {
                    // After the end of the input what still comes has nowhere to go.
                    if !input.closing {
                        input.queue.extend(&buffer[..len]);
                    }
                }
            }
            Ok(Some(_)) => {}
            Ok(None) if wanted => self.client_input_ended(&target),
            Ok(None) => {}
            Err(_) => {
                self.buffer = buffer;
                return self.drop_connection(token);
            }
        }
        self.buffer = buffer;
        self.input_ready(&target);
        self.settle(token);
    }

    /// A client's input has ended.
    pub(super) fn client_input_ended(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        if process.input_once
            && let Some(input) = &mut process.input
        {
            input.closing = true;
        }
        self.feed(target);
    }

    /// The process's input takes more.
    pub(super) fn input_ready(&mut self, target: &Target) {
        self.feed(target);
        let attached = self.processes.get(target).map(|p| p.attached.clone()).unwrap_or_default();
        attached.into_iter().for_each(|token| self.settle(token));
    }

    /// Writes what waits, as far as the process takes it.
    pub(super) fn feed(&mut self, target: &Target) {
        let Some(process) = self.processes.get_mut(target) else { return };
        let terminal = process.has_terminal;
        // A terminal echoes what is written to it before anyone reads: that is no harm, but a pipe of a
        // process that will never run is not to be filled either.
        let Some(input) = &mut process.input else { return };
        let mut broken = false;
        while !input.queue.is_empty() {
            let (front, _) = input.queue.as_slices();
            match rustix::io::write(&input.fd, front) {
                Ok(len) => drop(input.queue.drain(..len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    broken = !terminal;
                    input.queue.clear();
                }
            }
        }
        let done = input.queue.is_empty();
        if done && (input.closing || broken) && !terminal {
            let token = input.token;
            if token.is_some() {
                let _ = self.poll.remove(&input.fd);
            }
            process.input = None;
            return self.source_is_gone(token);
        }
        match (done, input.token) {
            (false, None) => {
                let token = self.new_source(Source::Input(target.clone()));
                if let Some(input) = self.processes.get_mut(target).and_then(|p| p.input.as_mut()) {
                    input.token = Some(token);
                    let _ = self.poll.add(&input.fd, token, Interest::OUT);
                }
            }
            (true, Some(token)) => {
                input.token = None;
                let _ = self.poll.remove(&input.fd);
                self.source_is_gone(Some(token));
            }
            _ => {}
        }
    }
}

/// What moving a chunk of so many bytes came to.
enum Pumped {
    /// There may be more.
    Some(usize),
    /// There is no more now.
    Last(usize),
    /// Nothing now.
    Nothing,
    /// Nothing ever.
    End,
}

fn to_log(stream: Stream) -> logging::Stream {
    match stream {
        Stream::Stdout => logging::Stream::Stdout,
        Stream::Stderr => logging::Stream::Stderr,
    }
}

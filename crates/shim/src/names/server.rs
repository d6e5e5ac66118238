//! The loop: queries in, answers out, forwarded ones on their way.
//!
//! Invariants: nothing waits but [`Poll::wait`]; each wake-up deals with boundedly many queries; what a client
//! does not read is dropped.

use super::{
    files::Files,
    sockets::{Sockets, Spaces},
    upstream::{Client, Line, Outcome, Pending},
};
use resolver::{Code, Transport, Verdict, answer, refusal, truncated};
use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};
use sys::epoll::{Interest, Poll};

/// Queries on their way at once.
const PENDING: usize = 256;
/// Connections at once, and how long one may say nothing.
const CONNECTIONS: usize = 64;
const IDLE: Duration = Duration::from_secs(10);
/// Datagrams taken before others have their turn.
const BATCH: usize = 64;
/// Longest query that is looked at.
const QUERY: usize = 4096;
/// Bytes that may wait for a client that does not read.
const BACKLOG: usize = 256 << 10;

const UDP: u64 = 0;
const TCP: u64 = 1;

#[derive(Debug)]
pub(super) struct Server {
    poll: Poll,
    udp: UdpSocket,
    tcp: TcpListener,
    spaces: Spaces,
    files: Files,
    last: u64,
    pending: HashMap<u64, Pending>,
    lines: HashMap<u64, (Line, u64)>,
    connections: HashMap<u64, Connection>,
    turn: usize,
    /// State of the generator of ids.
    random: u64,
}

/// A client's connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    out: Vec<u8>,
    /// The forwarded query whose answer it waits for; later ones wait behind it.
    waiting: Option<u64>,
    since: Instant,
}

impl Server {
    pub(super) fn new(sockets: Sockets, spaces: Spaces) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&sockets.udp, UDP, Interest::IN)?;
        poll.add(&sockets.tcp, TCP, Interest::IN)?;
        let seed = base::id::random_hex();
        let seed = seed.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let mut files = Files::default();
        files.refresh();
        Ok(Self {
            poll,
            udp: sockets.udp,
            tcp: sockets.tcp,
            spaces,
            files,
            last: TCP,
            pending: HashMap::new(),
            lines: HashMap::new(),
            connections: HashMap::new(),
            turn: 0,
            random: seed.unwrap_or(u64::from(std::process::id())) | 1,
        })
    }

    /// Serves until the process is ended.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            let idle = self.connections.values().map(|c| c.since + IDLE);
            let due = self.pending.values().map(Pending::due).chain(idle).min();
            ready.clear();
            self.poll.wait(&mut ready, due.map(|due| due.saturating_duration_since(now)))?;
            if !ready.is_empty() {
                self.files.refresh();
            }
            for event in &ready {
                match event.token {
                    UDP => self.datagrams(),
                    TCP => self.accept(),
                    token if self.connections.contains_key(&token) => self.client(token),
                    token => self.line(token),
                }
            }
            self.timers();
        }
    }

    fn token(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// xorshift64: an outsider cannot see its state, and the socket's port is random too.
    fn id(&mut self) -> u16 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u16
    }

    fn datagrams(&mut self) {
        let mut buffer = [0; QUERY];
        for _ in 0..BATCH {
            let Ok((length, from)) = self.udp.recv_from(&mut buffer) else { return };
            let bytes = &buffer[..length];
            self.turn = self.turn.wrapping_add(1);
            match answer(bytes, &self.files.zone, Transport::Udp, self.turn) {
                // One that cannot be sent is lost, as datagrams are.
                Verdict::Answer(reply) => drop(self.udp.send_to(&reply, from)),
                Verdict::Ignore => {}
                Verdict::Forward => drop(self.forward(Client::Udp(from), bytes)),
            }
        }
    }

    /// Sends a query on; its number, if it is on its way.
    fn forward(&mut self, client: Client, bytes: &[u8]) -> Option<u64> {
        if self.pending.len() >= PENDING {
            let reply = refusal(bytes, Code::Refused, client.transport());
            self.send(client, &reply);
            return None;
        }
        let (number, id) = (self.token(), self.id());
        let pending = Pending::new(client, bytes, id, &self.files.zone.settings.servers);
        self.pending.insert(number, pending);
        self.ask(number, Instant::now());
        self.pending.contains_key(&number).then_some(number)
    }

    /// Asks servers as long as it is time to.
    fn ask(&mut self, number: u64, now: Instant) {
        loop {
            let Some(pending) = self.pending.get_mut(&number) else { return };
            let outcome = match pending.ask_next(now, &self.spaces) {
                None => return,
                Some(Ok(line)) => match self.watch(number, line) {
                    Ok(()) => Outcome::Waiting,
                    Err(_) => self.failed(number, now),
                },
                Some(Err(_)) => pending.server_failed(now),
            };
            self.conclude(number, outcome);
        }
    }

    fn failed(&mut self, number: u64, now: Instant) -> Outcome {
        self.pending.get_mut(&number).map_or(Outcome::Waiting, |p| p.server_failed(now))
    }

    fn watch(&mut self, number: u64, line: Line) -> io::Result<()> {
        let token = self.token();
        match &line {
            Line::Udp(socket) => self.poll.add(socket, token, Interest::IN)?,
            // Readiness to write tells that the connection is made; only changes are told.
            Line::Tcp(stream, _) => {
                self.poll.add(stream, token, Interest::IN | Interest::OUT | Interest::ET)?;
            }
        }
        self.lines.insert(token, (line, number));
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.sockets.push(token);
        }
        Ok(())
    }

    fn line(&mut self, token: u64) {
        let now = Instant::now();
        let Some((line, number)) = self.lines.get_mut(&token) else { return };
        let number = *number;
        let read = line.read();
        let Some(pending) = self.pending.get_mut(&number) else { return };
        let outcome = match read {
            Ok(None) => return,
            Ok(Some(reply)) => pending.reply(reply, now),
            Err(_) => {
                self.lines.remove(&token);
                pending.server_failed(now)
            }
        };
        self.conclude(number, outcome);
        self.ask(number, now);
    }

    fn conclude(&mut self, number: u64, outcome: Outcome) {
        let reply = match outcome {
            Outcome::Waiting => return,
            Outcome::Answer(reply) => Some(reply),
            Outcome::Nothing => None,
        };
        let Some(pending) = self.pending.remove(&number) else { return };
        for token in &pending.sockets {
            // Closing takes them out of the poll set.
            self.lines.remove(token);
        }
        let transport = pending.client.transport();
        let reply = match reply {
            Some(reply) if transport == Transport::Udp => truncated(pending.query(), &reply)
                .map_or(reply.clone(), |mut cut| {
                    cut[..2].copy_from_slice(&reply[..2]);
                    cut
                }),
            Some(reply) => reply,
            None => {
                let mut reply = refusal(pending.query(), Code::Failed, transport);
                reply[..2].copy_from_slice(&pending.id());
                reply
            }
        };
        self.send(pending.client, &reply);
        if let Client::Tcp(token) = pending.client {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.waiting = None;
            }
            self.queries(token);
        }
    }

    fn send(&mut self, client: Client, reply: &[u8]) {
        match client {
            Client::Udp(to) => drop(self.udp.send_to(reply, to)),
            Client::Tcp(token) => {
                let Some(connection) = self.connections.get_mut(&token) else { return };
                let Ok(length) = u16::try_from(reply.len()) else { return };
                connection.out.extend(length.to_be_bytes());
                connection.out.extend(reply);
            }
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, p)| p.due() <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let over = self.pending.get(&number).is_some_and(|p| p.is_over(now));
            match over {
                true => self.conclude(number, Outcome::Nothing),
                false => self.ask(number, now),
            }
        }
        self.connections.retain(|_, c| c.since + IDLE > now);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.tcp.accept() {
            if self.connections.len() >= CONNECTIONS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let token = self.token();
            let interest = Interest::IN | Interest::OUT | Interest::ET;
            if self.poll.add(&stream, token, interest).is_ok() {
                let connection = Connection {
                    stream,
                    input: Vec::new(),
                    out: Vec::new(),
                    waiting: None,
                    since: Instant::now(),
                };
                self.connections.insert(token, connection);
                self.client(token);
            }
        }
    }

    /// A client's connection can be read from or written to.
    fn client(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if !connection.take_in() {
            self.connections.remove(&token);
            return;
        }
        self.queries(token);
    }

    /// Deals with the queries that came over a connection, one after another.
    fn queries(&mut self, token: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            let Some(query) = connection.next_query() else { break };
            self.turn = self.turn.wrapping_add(1);
            match answer(&query, &self.files.zone, Transport::Tcp, self.turn) {
                Verdict::Answer(reply) => self.send(Client::Tcp(token), &reply),
                Verdict::Ignore => {}
                Verdict::Forward => {
                    let number = self.forward(Client::Tcp(token), &query);
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.waiting = number;
                    }
                }
            }
        }
        if self.connections.get_mut(&token).is_some_and(|c| !c.flush()) {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    /// Reads what came; `false` when it is over.
    fn take_in(&mut self) -> bool {
        let mut buffer = [0; QUERY];
        loop {
            // What waits behind a query is not read without end.
            if self.input.len() > BACKLOG {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return !self.out.is_empty() || self.waiting.is_some(),
                Ok(read) => {
                    self.since = Instant::now();
                    self.input.extend(&buffer[..read]);
                }
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn next_query(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_some() || self.input.len() < 2 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([self.input[0], self.input[1]]));
        if self.input.len() < 2 + length {
            return None;
        }
        let query = self.input[2..2 + length].to_vec();
        self.input.drain(..2 + length);
        Some(query)
    }

    /// Writes what waits; `false` when it is over.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(0) => return false,
                Ok(written) => drop(self.out.drain(..written)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return self.out.len() <= BACKLOG;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

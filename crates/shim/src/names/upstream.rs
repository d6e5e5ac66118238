//! Queries that were forwarded: which servers were asked, when the next one is, what came back.
//!
//! The first server is asked at once, the next one when it has not answered after a moment or says that it
//! failed; each of them twice, since datagrams get lost. The first answer counts.

use super::sockets::Spaces;
use resolver::{Server, Transport, reply_matches};
use rustix::io::Errno;
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// How long one server has before the next one is asked too.
const STAGGER: Duration = Duration::from_millis(300);
/// How long before a server is asked again.
const AGAIN: Duration = Duration::from_millis(1500);
/// How long all of it may take: programs give up after five seconds.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Servers that are asked, as programs do (`MAXNS`).
const SERVERS: usize = 3;
/// Longest answer.
const ANSWER: usize = 65_535;
/// Server failure, refused.
const USELESS: [u8; 2] = [2, 5];

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    /// By a datagram from there.
    Udp(SocketAddr),
    /// Over the connection of this number.
    Tcp(u64),
}

impl Client {
    pub(super) fn transport(self) -> Transport {
        match self {
            Self::Udp(_) => Transport::Udp,
            Self::Tcp(_) => Transport::Tcp,
        }
    }
}

/// A query on its way.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who asked.
    pub(super) client: Client,
    /// The query with an id of ours.
    query: Vec<u8>,
    /// The asker's id.
    id: [u8; 2],
    servers: Vec<Server>,
    asked: usize,
    failed: usize,
    /// When the next server is asked.
    next: Option<Instant>,
    deadline: Instant,
    /// Numbers of the sockets on which answers are waited for.
    pub(super) sockets: Vec<u64>,
    /// What a server said that could not help.
    useless: Option<Vec<u8>>,
}

/// What became of a query.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Waiting,
    /// This is the answer, with the asker's id.
    Answer(Vec<u8>),
    /// Nobody answered.
    Nothing,
}

/// A socket to a server.
#[derive(Debug)]
pub(super) enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream, Progress),
}

/// How far an exchange over a connection is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Pending {
    pub(super) fn new(client: Client, bytes: &[u8], id: u16, servers: &[Server]) -> Self {
        let mut query = bytes.to_vec();
        let own = [query[0], query[1]];
        query[..2].copy_from_slice(&id.to_be_bytes());
        Self {
            client,
            query,
            id: own,
            servers: servers.iter().take(SERVERS).copied().collect(),
            asked: 0,
            failed: 0,
            next: Some(Instant::now()),
            deadline: Instant::now() + PATIENCE,
            sockets: Vec::new(),
            useless: None,
        }
    }

    /// When something is to be done about it, if no answer comes.
    pub(super) fn due(&self) -> Instant {
        self.next.map_or(self.deadline, |next| next.min(self.deadline))
    }

    /// The asker's id.
    pub(super) fn id(&self) -> [u8; 2] {
        self.id
    }

    /// The bytes as they were asked, but for the id.
    pub(super) fn query(&self) -> &[u8] {
        &self.query
    }

    /// Asks the next server, if it is time; `None` when there is nothing to do.
    pub(super) fn ask_next(&mut self, now: Instant, spaces: &Spaces) -> Option<io::Result<Line>> {
        if self.next.is_none_or(|next| next > now) || self.servers.is_empty() {
            return None;
        }
        let server = self.servers[self.asked % self.servers.len()];
        self.asked += 1;
        self.next = match self.asked {
            n if n < self.servers.len() => Some(now + STAGGER),
            n if n < 2 * self.servers.len() => Some(now + AGAIN),
            _ => None,
        };
        Some(match self.client.transport() {
            Transport::Udp => spaces.udp(server.address, server.from_host).and_then(|socket| {
                socket.send(&self.query)?;
                Ok(Line::Udp(socket))
            }),
            Transport::Tcp => spaces.tcp(server.address, server.from_host).map(|stream| {
                let length = u16::try_from(self.query.len()).unwrap_or(u16::MAX).to_be_bytes();
                let out = [&length[..], &self.query].concat();
                Line::Tcp(stream, Progress { out, input: Vec::new() })
            }),
        })
    }

    /// One server could not be asked or is of no help: the next one is asked at once.
    pub(super) fn server_failed(&mut self, now: Instant) -> Outcome {
        self.failed += 1;
        if self.failed >= self.servers.len() {
            return match self.useless.take() {
                Some(answer) => Outcome::Answer(answer),
                None => Outcome::Nothing,
            };
        }
        if self.asked < self.servers.len() {
            self.next = Some(now);
        }
        Outcome::Waiting
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Takes what a server said.
    pub(super) fn reply(&mut self, mut reply: Vec<u8>, now: Instant) -> Outcome {
        if !reply_matches(&self.query, &reply) {
            return Outcome::Waiting;
        }
        let useless = USELESS.contains(&(reply[3] & 15));
        reply[..2].copy_from_slice(&self.id);
        if !useless {
            return Outcome::Answer(reply);
        }
        self.useless = Some(reply);
        self.server_failed(now)
    }
}

impl Line {
    /// What came: a whole answer, nothing yet, or an error.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; ANSWER];
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        buffer.truncate(length);
                        Ok(Some(buffer))
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(e) => Err(e),
                }
            }
            Self::Tcp(stream, progress) => progress.go_on(stream),
        }
    }
}

impl Progress {
    fn go_on(&mut self, stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(0) => return Err(Errno::PIPE.into()),
                Ok(written) => drop(self.out.drain(..written)),
                Err(e) if waits(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.input.extend(&buffer[..read]),
                Err(e) if waits(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
            if self.input.len() < 2 {
                continue;
            }
            let length = usize::from(u16::from_be_bytes([self.input[0], self.input[1]]));
            if self.input.len() >= 2 + length {
                return Ok(Some(self.input[2..2 + length].to_vec()));
            }
        }
    }
}

fn waits(error: &io::Error) -> bool {
    // A connection that is still being made says that it is not there.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

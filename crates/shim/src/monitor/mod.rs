//! The one loop: waits for signals, clients, outputs, inputs and processes in the making, and deals with
//! whatever is ready.
//!
//! Flow: `launch.rs` makes the container, `requests.rs` answers clients, `streams.rs` moves bytes,
//! `making.rs` follows a process until its program runs, `ending.rs` reaps, records and winds up;
//! `hooks.rs` has programs of the host run beside it; `delegate.rs` has all of it done by another runtime's program.
//! Invariants: nothing here waits but [`Poll::wait`], and a moment in a flood of output; a client that fails is dropped, nothing else
//! changes; the loop ends when the container has ended, its exit is recorded and all clients have what
//! is theirs (or [`ending::LINGER`] is over).

mod connection;
mod delegate;
mod ending;
mod hooks;
mod launch;
mod log;
mod making;
mod names;
mod process;
mod requests;
mod streams;

pub(crate) use launch::set_oom_score_adj;

use connection::{Connection, Incoming, Mode};
use process::Process;
use runtime::shim::{Stream, Target};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    time::Instant,
};
use sys::{
    epoll::{Interest, Poll, SignalFd},
    process::Ended,
};

/// Signals that come to the loop; all but the first are ignored: the shim ends with its container.
const SIGNALS: [i32; 7] = [17, 1, 2, 3, 15, 10, 12];

/// What a number in the poll set stands for.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Listener,
    Connection,
    Sync(Target),
    Output(Target, Stream),
    Input(Target),
    Names,
    Relay,
}

/// All state of the shim.
#[derive(Debug)]
struct Monitor {
    poll: Poll,
    signals: SignalFd,
    sources: HashMap<u64, Source>,
    last_token: u64,
    connections: HashMap<u64, Connection>,
    processes: BTreeMap<Target, Process>,
    /// Exec ids that have ended, oldest first.
    past: Vec<Target>,
    /// Ended processes whose pid was not known yet.
    strays: HashMap<u32, Ended>,
    listener: Option<UnixListener>,
    log: Option<log::Log>,
    /// Number of the relay's socket in the poll set.
    relay: Option<u64>,
    container: Option<launch::Container>,
    /// The connection that launches.
    launcher: Option<u64>,
    /// Winding up, until then at most.
    deadline: Option<Instant>,
    /// The process that answers questions for names.
    names: Option<names::Names>,
    buffer: Vec<u8>,
    flood: streams::Flood,
}

/// Runs the shim until its container is gone.
pub(crate) fn run() -> io::Result<()> {
    let mut monitor = Monitor::new()?;
    let result = monitor.serve();
    monitor.wind_up();
    result
}

impl Monitor {
    fn new() -> io::Result<Self> {
        let mut monitor = Self {
            poll: Poll::new()?,
            signals: SignalFd::new(&SIGNALS)?,
            sources: HashMap::new(),
            last_token: 0,
            connections: HashMap::new(),
            processes: BTreeMap::new(),
            past: Vec::new(),
            strays: HashMap::new(),
            listener: None,
            log: None,
            relay: None,
            container: None,
            launcher: None,
            deadline: None,
            names: None,
            buffer: vec![0; streams::CHUNK],
            flood: streams::Flood::default(),
        };
        let token = monitor.token(Source::Signals);
        monitor.poll.add(&monitor.signals, token, Interest::IN)?;
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        // Nothing of this process or its copies reads from descriptor 0 from here on.
        let null = std::fs::File::open("/dev/null")?;
        sys::process::set_stdio(null.as_fd(), 0)?;
        monitor.launcher = Some(monitor.adopt(UnixStream::from(socket))?);
        Ok(monitor)
    }

    fn token(&mut self, source: Source) -> u64 {
        self.last_token += 1;
        self.sources.insert(self.last_token, source);
        self.last_token
    }

    fn adopt(&mut self, socket: UnixStream) -> io::Result<u64> {
        let connection = Connection::new(socket)?;
        let token = self.token(Source::Connection);
        self.poll.add(connection.socket(), token, connection.interest)?;
        self.connections.insert(token, connection);
        Ok(token)
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            if let Some(deadline) = self.deadline {
                let idle = self.connections.values().all(|c| c.waiting() == 0)
                    && self.log.as_ref().is_none_or(|l| l.waiting() == 0);
                if idle || now >= deadline {
                    return Ok(());
                }
            }
            let until = [self.deadline, self.call_limit(now)].into_iter().flatten().min();
            ready.clear();
            self.poll.wait(&mut ready, until.map(|d| d.saturating_duration_since(now)))?;
            for event in &ready {
                // An earlier event of this round may have closed it.
                let Some(source) = self.sources.get(&event.token).cloned() else { continue };
                match source {
                    Source::Signals => self.reap()?,
                    Source::Listener => self.accept(),
                    Source::Connection => self.connection_ready(event.token, event.flags),
                    Source::Sync(target) => self.sync_ready(&target),
                    Source::Output(target, stream) => self.output_ready(&target, stream),
                    Source::Input(target) => self.input_ready(&target),
                    Source::Names => self.names_ready(),
                    Source::Relay => self.relay_ready(event.flags),
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok((socket, _)) = listener.accept() else { return };
        // The folder is closed to others already; this is the second lock.
        let own = rustix::process::geteuid().as_raw();
        if sys::fdpass::peer_uid(&socket).is_ok_and(|uid| uid == 0 || uid == own) {
            // Out of descriptors: the client sees its connection closed.
            let _ = self.adopt(socket);
        }
    }

    fn connection_ready(&mut self, token: u64, flags: Interest) {
        if flags.contains(Interest::OUT) && !self.flush(token) {
            return;
        }
        if flags.contains(Interest::IN) {
            match self.connections.get(&token).map(|c| matches!(c.mode, Mode::Control)) {
                Some(true) => self.read_requests(token),
                Some(false) => self.read_input(token),
                None => return,
            }
        }
        if flags.intersects(Interest::HUP | Interest::ERR) {
            self.drop_connection(token);
        }
    }

    fn read_requests(&mut self, token: u64) {
        // After `Attach` what follows is input.
        while let Some(connection) = self.connections.get_mut(&token) {
            if !matches!(connection.mode, Mode::Control) {
                return self.read_input(token);
            }
            match connection.request() {
                Incoming::Request(envelope) => self.request(token, *envelope),
                Incoming::Nothing => return,
                Incoming::End => return self.drop_connection(token),
            }
        }
    }

    /// Sends what waits for a client; `false` when that dropped it.
    fn flush(&mut self, token: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        let broken = connection.flush().is_err();
        if broken || connection.closing && connection.waiting() == 0 {
            self.drop_connection(token);
            return false;
        }
        self.settle(token);
        true
    }

    /// Brings what is waited for into line with what a client's state asks for.
    fn settle(&mut self, token: u64) {
        let wants_input = self.takes_input(token);
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let mut interest = Interest::empty();
        interest.set(Interest::OUT, connection.waiting() > 0);
        interest.set(Interest::IN, wants_input && !connection.closing);
        if interest != connection.interest {
            connection.interest = interest;
            // Only fails for what is not in the set.
            let _ = self.poll.modify(connection.socket(), token, interest);
        }
        let stream = match &connection.mode {
            Mode::Stream { target, .. } => target.clone(),
            Mode::Control => return,
        };
        self.listen(&stream);
    }

    fn drop_connection(&mut self, token: u64) {
        self.sources.remove(&token);
        let Some(connection) = self.connections.remove(&token) else { return };
        let _ = self.poll.remove(connection.socket());
        for process in self.processes.values_mut() {
            process.waiting.retain(|t| *t != token);
            process.attached.retain(|t| *t != token);
            if process.starter == Some(token) {
                process.starter = None;
            }
        }
        if let Mode::Stream { target, options, reading } = connection.mode {
            if options.stdin && reading {
                self.client_input_ended(&target);
            }
            self.listen(&target);
        }
        if self.launcher == Some(token) {
            self.launcher = None;
            self.launcher_gone();
        }
    }
}

//! `gantry log-relay`: one small process per container whose output goes elsewhere.
//!
//! Flow: the shim starts it with a socket as standard input, says what is wanted and hands over chunks of
//! output (`logging::handover`); one thread cuts them into records and puts those into a [`queue`], another
//! sends them. A receiver that is stuck holds up this process and none else.
//! Invariants: what waits is bounded; when it is full the container waits too, or with `mode=non-blocking`
//! records are dropped and counted; after the end of the output it ends within [`PATIENCE`] of the last
//! progress. What was sent, dropped and last went wrong stands in `relay.json` beside the container's log.
//! Not here: options and their checks (crate `logging`), the copy that `docker logs` reads (the shim).

mod fluentd;
mod gelf;
mod intake;
mod journald;
mod msgpack;
mod net;
mod plugin;
mod queue;
mod syslog;

use base::Timestamp;
use logging::{Config, Stream};
use queue::Queue;
use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// How long the rest may take after the end of the output, without progress.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stream: Stream,
    pub(crate) at: Timestamp,
    /// Without line end.
    pub(crate) line: Vec<u8>,
    /// For lines longer than a part.
    pub(crate) partial: Option<Partial>,
}

/// Which part of which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// The same for all parts of a line.
    pub(crate) id: String,
    /// From 1.
    pub(crate) ordinal: u32,
    /// Whether the line ends here.
    pub(crate) last: bool,
}

/// A way to a receiver.
pub(crate) trait Transport: Send {
    /// Sends one record; may wait as long as the driver's options say.
    ///
    /// # Errors
    /// The reason why this record is lost.
    fn send(&mut self, record: &Record) -> Result<(), String>;
}

/// Runs until the output ends; standard input is the socket of the shim.
pub fn main() -> ExitCode {
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    match run(UnixStream::from(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves one container.
///
/// # Errors
/// The shim's end of the socket is gone before anything was said, or the receiver cannot be reached.
pub fn run(mut socket: UnixStream) -> io::Result<()> {
    let config = configuration(&mut socket)?;
    let transport = match open(&config) {
        Ok(transport) => transport,
        Err(why) => {
            socket.write_all(&[1])?;
            socket.write_all(why.as_bytes())?;
            return Err(io::Error::other(why));
        }
    };
    // A shim that started this relay in the place of a dead one does not wait for the word.
    socket.write_all(&[0])?;
    let queue = Arc::new(Queue::new(limit(&config), config.path.with_file_name("relay.json")));
    let sending = Arc::clone(&queue);
    let sender = std::thread::Builder::new()
        .name("send".into())
        .stack_size(256 << 10)
        .spawn(move || send(transport, &sending))?;
    intake::take(socket, &queue);
    if queue.finish(PATIENCE) {
        let _ = sender.join();
    }
    if config.plugin.is_some() {
        plugin::close(&config);
    }
    Ok(())
}

fn send(mut transport: Box<dyn Transport>, queue: &Queue) {
    while let Some(record) = queue.next() {
        let sent = transport.send(&record);
        queue.done(sent);
    }
}

fn configuration(socket: &mut UnixStream) -> io::Result<Config> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > logging::handover::MAX_CONFIG {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    socket.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn open(config: &Config) -> Result<Box<dyn Transport>, String> {
    if config.plugin.is_some() {
        return plugin::open(config);
    }
    match config.driver.as_str() {
        "syslog" => syslog::open(config),
        "gelf" => gelf::open(config),
        "fluentd" => fluentd::open(config),
        "journald" => journald::open(config, journald::SOCKET.as_ref()),
        other => Err(format!("log driver {other} sends nothing elsewhere")),
    }
}

/// How much may wait, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Bytes of lines.
    pub(crate) bytes: u64,
    /// Whether records are dropped beyond; else whoever brings them waits.
    pub(crate) drops: bool,
}

/// Bytes that wait when the container is to be held up.
const BLOCKING_BYTES: u64 = 64 << 10;

fn limit(config: &Config) -> Limit {
    if let Some(bytes) = config.options.buffer_bytes() {
        return Limit { bytes, drops: true };
    }
    let fluentd = (config.driver == "fluentd")
        .then(|| logging::drivers::fluentd::Settings::parse(&config.options).ok())
        .flatten()
        .filter(|s| s.asynchronous);
    match fluentd {
        Some(settings) => Limit { bytes: settings.buffer_bytes, drops: true },
        None => Limit { bytes: BLOCKING_BYTES, drops: false },
    }
}

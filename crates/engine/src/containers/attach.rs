//! `POST /containers/{id}/attach`: the container's streams, live.
//!
//! An attach may come before the start (the docker CLI does it so): it waits in `early`, and the start
//! connects it before it lets the process run, so that nothing printed is lost.

use super::{Container, LogOptions, LogStream, Status, exec::ExecHandle, reframe::Reframe};
use crate::Engine;
use base::{Error, Principal, Result, event::Event};
use bytes::{Bytes, BytesMut};
use runtime::shim::{self, Target};
use std::sync::{Arc, PoisonError};
use store::Store;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::oneshot,
};

/// Bytes read from a shim at once.
const READ: usize = 32 << 10;

/// Which stream a frame belongs to; the numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or everything of a terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine, which ends the stream.
    System = 3,
}

impl Stream {
    /// The eight bytes before a frame of `length` bytes.
    pub fn header(self, length: usize) -> [u8; 8] {
        super::logs::header(self, length)
    }
}

/// Which streams are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Input goes to the container.
    pub stdin: bool,
    /// Output comes.
    pub stdout: bool,
    /// Errors come.
    pub stderr: bool,
    /// Live streams; without it only what was logged.
    pub stream: bool,
    /// What was logged so far comes first.
    pub logs: bool,
    /// Keys that detach, in docker's notation; terminals only.
    pub detach_keys: Option<String>,
}

/// A live attachment.
#[derive(Debug)]
pub struct AttachStream {
    /// Whether output is a terminal's: not framed on the wire.
    pub tty: bool,
    /// Where input goes.
    pub input: Option<Input>,
    /// Bytes that detach.
    pub detach_keys: Option<Vec<u8>>,
    pub(crate) past: Option<LogStream>,
    pub(crate) output: Output,
    pub(crate) on_detach: Option<(Arc<Store>, Event)>,
    /// An exec's streams end only when its exit code can be read.
    pub(crate) exec: Option<ExecHandle>,
    buffer: BytesMut,
    reframe: Option<Reframe>,
}

#[derive(Debug)]
pub(crate) enum Output {
    Live(OwnedReadHalf),
    /// Not started yet: the output comes with the start.
    Early(oneshot::Receiver<OwnedReadHalf>),
    Ended,
}

/// A standard input.
#[derive(Debug)]
pub struct Input(InputState);

#[derive(Debug)]
enum InputState {
    Live(OwnedWriteHalf),
    Early(oneshot::Receiver<OwnedWriteHalf>),
    Closed,
}

/// An attach that waits for the start.
#[derive(Debug)]
pub(crate) struct Early {
    options: shim::AttachOptions,
    output: oneshot::Sender<OwnedReadHalf>,
    input: Option<oneshot::Sender<OwnedWriteHalf>>,
}

impl AttachStream {
    /// The next bytes of output, in the wire's form; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let bytes = self.own().await?;
            let Some(reframe) = &mut self.reframe else { return Some(bytes) };
            let bytes = reframe.next(bytes);
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
    }

    /// Sends the output framed or `raw` whatever it comes as.
    pub(crate) fn reframe(&mut self, raw: bool) {
        self.reframe = (self.tty != raw).then(|| Reframe::to(raw));
        self.tty = raw;
    }

    /// The next bytes as the process's streams give them.
    async fn own(&mut self) -> Option<Bytes> {
        if !self.buffer.is_empty() {
            return Some(self.buffer.split().freeze());
        }
        loop {
            if let Some(past) = &mut self.past {
                match past.next().await {
                    Some(Ok(data)) => return Some(data),
                    _ => self.past = None,
                }
                continue;
            }
            match &mut self.output {
                Output::Live(output) => {
                    self.buffer.reserve(READ);
                    if let Ok(1..) = output.read_buf(&mut self.buffer).await {
                        return Some(self.buffer.split().freeze());
                    }
                    self.output = Output::Ended;
                    if let Some(exec) = &self.exec {
                        exec.ended().await;
                    }
                }
                Output::Early(start) => match start.await {
                    Ok(output) => self.output = Output::Live(output),
                    Err(_) => self.output = Output::Ended,
                },
                Output::Ended => return None,
            }
        }
    }

    /// Puts a text of the engine before the output.
    pub(crate) fn tell(&mut self, text: &str) {
        if !self.tty {
            self.buffer.extend_from_slice(&Stream::Stdout.header(text.len()));
        }
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// Notes that the client typed the detach keys.
    pub async fn detached(&mut self) {
        self.output = Output::Ended;
        if let Some((store, event)) = self.on_detach.take()
            && let Err(err) = store.write(|tx| {
                tx.emit(event);
                Ok(())
            })
        {
            tracing::warn!(err = err.chain(), "the detach was not recorded");
        }
    }

    pub(crate) fn of(
        attach: Option<shim::Attach>,
        stdin: bool,
        tty: bool,
        keys: Vec<u8>,
        on_detach: (Arc<Store>, Event),
    ) -> Self {
        let (output, input) = match attach.map(shim::Attach::into_split) {
            Some((reader, writer)) => (Output::Live(reader), Some(writer)),
            None => (Output::Ended, None),
        };
        Self {
            tty,
            input: input.filter(|_| stdin).map(|w| Input(InputState::Live(w))),
            detach_keys: tty.then_some(keys),
            past: None,
            output,
            on_detach: Some(on_detach),
            exec: None,
            buffer: BytesMut::new(),
            reframe: None,
        }
    }
}

impl Input {
    /// Sends bytes; waits while the process does not read.
    ///
    /// # Errors
    /// When the process has closed its input or ended.
    pub async fn send(&mut self, data: &[u8]) -> Result<()> {
        self.started().await;
        match &mut self.0 {
            InputState::Live(writer) => writer
                .write_all(data)
                .await
                .map_err(|e| Error::io("cannot write to the container's input", e)),
            _ => Err(Error::conflict("the container's input is closed")),
        }
    }

    /// The client will send no more.
    pub async fn close(mut self) {
        self.started().await;
        if let InputState::Live(writer) = &mut self.0 {
            let _ = writer.shutdown().await;
        }
    }

    async fn started(&mut self) {
        if let InputState::Early(start) = &mut self.0 {
            self.0 = start.await.map_or(InputState::Closed, InputState::Live);
        }
    }
}

impl Engine {
    /// Attaches to container `name`, started or not.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for bad detach keys; `Conflict` when it is paused or restarting.
    pub async fn container_attach(
        self: &Arc<Self>,
        name: &str,
        options: AttachOptions,
        by: &Principal,
    ) -> Result<AttachStream> {
        let container = self.containers.find(name)?;
        let record = container.record();
        let tty = record.config.tty;
        let keys = detach_keys(options.detach_keys.as_deref())?;
        match record.state.status {
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    record.id
                )));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => {}
        }
        let past = if options.logs {
            let wanted = LogOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogOptions::default()
            };
            Some(self.container_logs(name, wanted).await?)
        } else {
            None
        };
        let on_detach = (Arc::clone(&self.store), record.event("detach").by(by));
        let mut stream = AttachStream::of(None, false, tty, keys, on_detach);
        stream.past = past;
        if options.stream {
            let streams = shim::AttachOptions {
                stdin: options.stdin && record.config.open_stdin,
                stdout: options.stdout,
                stderr: options.stderr,
            };
            self.connect(&container, streams, &mut stream).await?;
        }
        self.store.write(|tx| {
            tx.emit(record.event("attach").by(by));
            Ok(())
        })?;
        Ok(stream)
    }

    async fn connect(
        &self,
        container: &Arc<Container>,
        streams: shim::AttachOptions,
        stream: &mut AttachStream,
    ) -> Result<()> {
        let shim = {
            // Under this lock no start can pass between the look at the shim and the place in the queue.
            let mut early = container.early.lock().unwrap_or_else(PoisonError::into_inner);
            match container.shim() {
                Some(shim) => shim,
                None => {
                    let (output, attached) = oneshot::channel();
                    let (input, fed) = oneshot::channel();
                    early.retain(|waiting| !waiting.output.is_closed());
                    early.push(Early {
                        options: streams,
                        output,
                        input: streams.stdin.then_some(input),
                    });
                    stream.output = Output::Early(attached);
                    stream.input = streams.stdin.then_some(Input(InputState::Early(fed)));
                    return Ok(());
                }
            }
        };
        let attached = shim.attach(&Target::Init, streams).await.map_err(|e| {
            Error::wrap(format!("cannot attach to container {}", container.id()), e)
        })?;
        let (reader, writer) = attached.into_split();
        stream.output = Output::Live(reader);
        stream.input = streams.stdin.then_some(Input(InputState::Live(writer)));
        Ok(())
    }

    /// Connects the attaches that came before the start; called between spawn and release, after the shim
    /// was made known.
    pub(crate) async fn connect_early(&self, container: &Arc<Container>, shim: &shim::Shim) {
        let waiting =
            std::mem::take(&mut *container.early.lock().unwrap_or_else(PoisonError::into_inner));
        for early in waiting {
            if early.output.is_closed() {
                continue;
            }
            match shim.attach(&Target::Init, early.options).await {
                Ok(attached) => {
                    let (reader, writer) = attached.into_split();
                    let _ = early.output.send(reader);
                    if let Some(input) = early.input {
                        let _ = input.send(writer);
                    }
                }
                Err(err) => tracing::warn!(
                    ctr = container.id().short(),
                    err = err.chain(),
                    "an early attach could not be connected"
                ),
            }
        }
    }
}

/// Parses detach keys, `ctrl-p,ctrl-q` when none are given.
///
/// # Errors
/// `Invalid`, docker's "Invalid detach keys (x)".
pub(crate) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(vec![16, 17]) };
    let key = |word: &str| match word.as_bytes() {
        [one] => Some(*one),
        _ => match word.to_ascii_lowercase().strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
            Some([b'@']) => Some(0),
            Some([b'[']) => Some(27),
            Some([b'\\']) => Some(28),
            Some([b']']) => Some(29),
            Some([b'^']) => Some(30),
            Some([b'_']) => Some(31),
            _ if word.eq_ignore_ascii_case("DEL") => Some(127),
            _ => None,
        },
    };
    text.split(',')
        .map(|word| {
            key(word).ok_or_else(|| {
                Error::invalid(format!(
                    "Invalid detach keys ({text}) provided: unknown character: '{word}'"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_dockers() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,x")).unwrap(), [1, b'x']);
        assert_eq!(detach_keys(Some("ctrl-[")).unwrap(), [27]);
        assert!(detach_keys(Some("ctrl-")).is_err());
        assert!(detach_keys(Some("ab")).is_err());
    }
}

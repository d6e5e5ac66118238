//! An attached client's end of a stream.

use super::protocol::Stream;
use base::{Error, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Longest payload of one frame; the shim sends far less.
const MAX_PAYLOAD: usize = 1 << 20;

/// A stream to a process: input one way, output (in docker's wire form) the other.
///
/// The output ends when the process's streams have ended and its exit is recorded. A client that does
/// not read holds the process up once 1 MiB is waiting, as with Docker; dropping both halves detaches.
#[derive(Debug)]
pub struct Attach {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    terminal: bool,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it was written.
    pub stream: Stream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Attach {
    pub(super) fn new(stream: UnixStream, terminal: bool) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer, terminal }
    }

    /// Whether the output is a terminal's: raw bytes without frames.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The two raw halves: output exactly as Docker's attach sends it, and input. Dropping or shutting
    /// down the writing half ends the input.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.reader, self.writer)
    }

    /// Sends input.
    ///
    /// # Errors
    /// `Unavailable` when the shim is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).await.map_err(|e| gone("write to", e))
    }

    /// Ends the input.
    ///
    /// # Errors
    /// `Unavailable` when the shim is gone.
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.writer.shutdown().await.map_err(|e| gone("end input of", e))
    }

    /// The next piece of output; `None` at the end.
    ///
    /// # Cancel safety
    /// Not: a piece may be lost half-read.
    ///
    /// # Errors
    /// `Unavailable` when the stream breaks off.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        if self.terminal {
            let mut bytes = vec![0; 32 << 10];
            let len = self.reader.read(&mut bytes).await.map_err(|e| gone("read from", e))?;
            bytes.truncate(len);
            return Ok((len > 0).then_some(Frame { stream: Stream::Stdout, bytes }));
        }
        let mut head = [0u8; 8];
        match self.reader.read_exact(&mut head).await {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(gone("read from", e)),
        }
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let stream = match head[0] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            other => return Err(Error::internal(format!("output frame of stream {other}"))),
        };
        if len > MAX_PAYLOAD {
            return Err(Error::internal(format!("output frame of {len} bytes")));
        }
        let mut bytes = vec![0; len];
        self.reader.read_exact(&mut bytes).await.map_err(|e| gone("read from", e))?;
        Ok(Some(Frame { stream, bytes }))
    }
}

fn gone(what: &str, err: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {what} attached stream")).caused_by(err)
}

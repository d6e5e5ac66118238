//! Bodies that stream: from the async side of a request into the threads that do the work, and back.

use base::{Error, Result};
use bytes::Bytes;
use futures_util::Stream;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    pin::Pin,
};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// A request's body.
pub type Bytestream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
/// The JSON messages of a reply, one per line on the wire.
pub type Messages = mpsc::Receiver<Value>;

/// Messages that may wait for a slow client.
pub(crate) const MESSAGES: usize = 64;
/// Pieces of a saved archive that may wait for a slow client.
const PIECES: usize = 8;
/// Bytes of such a piece.
const PIECE: usize = 256 << 10;

/// Messages of a transfer to one client, in the words that clients look for.
#[derive(Clone)]
pub(crate) struct Voice(mpsc::Sender<Result<Bytes>>);

impl Voice {
    pub(crate) fn new(sender: mpsc::Sender<Result<Bytes>>) -> Self {
        Self(sender)
    }

    pub(crate) async fn say(&self, message: Value) {
        // A client that went away misses the message; its transfer is about to end.
        let _ = self.0.send(Ok(Bytes::from(format!("{message}\r\n")))).await;
    }

    /// The first line of a tag.
    pub(crate) async fn pulling(&self, tag: &str, name: &str) {
        self.say(json!({ "status": format!("Pulling from {name}"), "id": tag })).await;
    }

    /// A line of a layer, with an empty progress, which keeps its place on the screen.
    pub(crate) async fn of(&self, id: &str, status: &str) {
        self.say(json!({ "status": status, "progressDetail": {}, "id": id })).await;
    }
}

/// Reads a body from a thread that may block. To be called inside the runtime.
pub fn reader(body: Bytestream) -> impl Read + Send {
    SyncIoBridge::new(StreamReader::new(body))
}

/// Hands what is written to it over in pieces; writing fails once the client has gone.
pub(crate) struct Pieces {
    sender: mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pieces {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Self { sender, piece: Vec::with_capacity(PIECE) }, receiver)
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::other(Error::cancelled("the client has gone"));
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }

    /// Ends the stream: with its last piece, or with an error that cuts it short.
    pub(crate) fn finish(mut self, outcome: Result<()>) {
        let last = match outcome {
            Ok(()) => self.send().is_ok(),
            Err(err) => self.sender.blocking_send(Err(err)).is_ok(),
        };
        if !last {
            tracing::debug!("the client went away before the end of the stream");
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&buf[..n]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

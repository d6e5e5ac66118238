//! A connection that was handed over: raw bytes both ways, framed on the way in unless there is a terminal.

use base::{Error, Result};
use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

/// Bytes read at once.
const PIECE: usize = 32 << 10;
/// A frame larger than this is no frame of Docker's.
const FRAME_MAX: usize = 256 << 20;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard input, echoed.
    Stdin,
    /// Standard output; all of a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
    /// The daemon's own failure; its text ends the stream.
    System,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it goes.
    pub stream: StreamKind,
    /// The bytes.
    pub data: Bytes,
}

/// Both halves of the connection.
#[derive(Debug)]
pub struct Hijacked {
    /// What the container writes.
    pub output: Frames<ReadHalf<TokioIo<Upgraded>>>,
    /// What it reads.
    pub input: Input,
    /// Whether the server said that the output is framed; servers below 1.42 do not say.
    pub framed: bool,
}

impl Hijacked {
    pub(super) fn new(upgraded: Upgraded, framed: bool) -> Self {
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        Self { output: Frames::new(reader, framed), input: Input(writer), framed }
    }
}

/// The way to the container's standard input.
#[derive(Debug)]
pub struct Input(WriteHalf<TokioIo<Upgraded>>);

impl Input {
    /// Sends bytes.
    ///
    /// # Errors
    /// `Unavailable` when the connection is gone.
    pub async fn send(&mut self, data: &[u8]) -> Result<()> {
        let sent = async {
            self.0.write_all(data).await?;
            self.0.flush().await
        };
        sent.await.map_err(|err| Error::unavailable("cannot send input").caused_by(err))
    }

    /// Ends the input; output goes on.
    pub async fn close(&mut self) {
        // The other side may be gone already.
        let _ = self.0.shutdown().await;
    }
}

/// Output, cut into frames.
#[derive(Debug)]
pub struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    framed: bool,
}

impl<R: tokio::io::AsyncRead + Unpin> Frames<R> {
    /// Reads from `reader`; unframed output is all [`StreamKind::Stdout`].
    pub fn new(reader: R, framed: bool) -> Self {
        Self { reader, buffer: BytesMut::with_capacity(PIECE), framed }
    }

    /// Says whether output is framed, where the server did not.
    pub fn set_framed(&mut self, framed: bool) {
        self.framed = framed;
    }

    /// The next piece, `None` at the end. A frame that the connection cuts short comes as far as it came.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks, `Internal` for what is no frame.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            let broken =
                |err| Error::unavailable("the connection to the daemon broke").caused_by(err);
            self.buffer.reserve(PIECE);
            if self
                .reader
                .read_buf(&mut self.buffer)
                .await
                .map_err(|err: std::io::Error| broken(err))?
                > 0
            {
                continue;
            }
            let rest = self.buffer.split().freeze();
            return match (self.framed, rest.get(8..)) {
                (false, _) if !rest.is_empty() => {
                    Ok(Some(Frame { stream: StreamKind::Stdout, data: rest }))
                }
                (true, Some(part)) if !part.is_empty() => {
                    Ok(Some(Frame { stream: kind(rest[0])?, data: rest.slice(8..) }))
                }
                _ => Ok(None),
            };
        }
    }

    fn cut(&mut self) -> Result<Option<Frame>> {
        if !self.framed {
            let data = self.buffer.split().freeze();
            return Ok((!data.is_empty()).then_some(Frame { stream: StreamKind::Stdout, data }));
        }
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let stream = kind(head[0])?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > FRAME_MAX {
            return Err(Error::internal(format!("a frame of {length} bytes is no frame")));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(8 + length).freeze();
        Ok(Some(Frame { stream, data: whole.split_off(8) }))
    }
}

fn kind(byte: u8) -> Result<StreamKind> {
    Ok(match byte {
        0 => StreamKind::Stdin,
        1 => StreamKind::Stdout,
        2 => StreamKind::Stderr,
        3 => StreamKind::System,
        other => return Err(Error::internal(format!("unrecognized stream: {other}"))),
    })
}

//! Bodies of answers: nothing, bytes, a file, a stream.

use super::Room;
use crate::storage::Content;
use base::{Error, Result};
use bytes::Bytes;
use futures_util::{Stream as _, stream::BoxStream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    fmt,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// Bytes read from a file at once. One such piece is read while another is sent.
const PIECE: u64 = 256 << 10;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    /// A range of a file.
    File(Pieces),
    /// As it comes.
    Stream(BoxStream<'static, Result<Bytes>>, u64),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    /// Bytes that give their room in memory back when the last of them was sent.
    pub(crate) fn holding(bytes: Vec<u8>, room: Room) -> Self {
        Self::Whole(Some(Bytes::from_owner(Held { bytes, _room: room })))
    }

    /// Of `length` bytes.
    pub(crate) fn content(content: Content, length: u64) -> Self {
        match content {
            Content::File(file, range) => Self::File(Pieces::new(file, range)),
            Content::Stream(stream) => Self::Stream(stream, length),
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| bytes.into()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

/// Bytes, and the room that they take.
struct Held {
    bytes: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A range of a file, one piece read ahead.
pub(crate) struct Pieces {
    file: Arc<File>,
    /// Not asked for yet.
    rest: Range<u64>,
    reading: Option<JoinHandle<Result<Bytes>>>,
    /// Not yielded yet.
    left: u64,
}

impl Pieces {
    fn new(file: Arc<File>, range: Range<u64>) -> Self {
        let left = range.end - range.start;
        let mut pieces = Self { file, rest: range, reading: None, left };
        pieces.read_ahead();
        pieces
    }

    fn read_ahead(&mut self) {
        let at = self.rest.start;
        let length = PIECE.min(self.rest.end - at);
        if length == 0 {
            return;
        }
        self.rest.start += length;
        let file = Arc::clone(&self.file);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, at).map_err(|e| Error::io("cannot read a blob", e))?;
            Ok(bytes.into())
        }));
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::File(pieces) => {
                let Some(reading) = &mut pieces.reading else { return Poll::Ready(None) };
                let read = ready!(Pin::new(reading).poll(cx));
                pieces.reading = None;
                let ended = |e| Error::internal("reading a blob ended early").caused_by(e);
                match read.map_err(ended).flatten() {
                    Ok(bytes) => {
                        pieces.left -= bytes.len() as u64;
                        pieces.read_ahead();
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Err(err) => {
                        tracing::error!(err = err.chain(), "an answer broke off");
                        Poll::Ready(Some(Err(err)))
                    }
                }
            }
            Self::Stream(stream, left) => {
                let Some(next) = ready!(Pin::new(stream).poll_next(cx)) else {
                    return Poll::Ready(None);
                };
                match next {
                    Ok(bytes) => {
                        *left = left.saturating_sub(bytes.len() as u64);
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Err(err) => {
                        tracing::error!(err = err.chain(), "an answer broke off");
                        Poll::Ready(Some(Err(err)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::File(pieces) => pieces.left == 0,
            Self::Stream(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |b| b.len() as u64),
            Self::File(pieces) => pieces.left,
            Self::Stream(_, left) => *left,
        })
    }
}

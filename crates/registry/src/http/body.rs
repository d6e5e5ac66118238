//! Bodies of answers: nothing, bytes, a file, a stream.

use super::{
    Room,
    outbox::{self, Outbox},
};
use crate::storage::Content;
use base::{Error, Result};
use bytes::Bytes;
use futures_util::{Stream as _, stream::BoxStream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use rustix::io::{ReadWriteFlags, preadv2};
use std::{
    fmt,
    fs::File,
    io::IoSliceMut,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// Bytes read from a file at once. One such piece is read while another is sent.
const PIECE: u64 = 256 << 10;
/// A file is looked at once in this many bytes to tell whether it is in memory.
const PROBED: u64 = 128 << 10;

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

    /// Of `length` bytes; a file's go through `outbox`, where there is one.
    pub(crate) fn content(content: Content, length: u64, outbox: Option<Outbox>) -> Self {
        match content {
            Content::File(file, range) => Self::File(Pieces::new(file, range, outbox)),
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

/// Room for pieces, used again and again: fresh memory for each would cost as much as reading into it.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Spare room that is kept, in pieces.
const SPARES: usize = 32;

/// Bytes of a file in room that is given back.
struct Piece {
    room: Vec<u8>,
    length: usize,
}

impl Piece {
    fn new(length: usize) -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { room: spare.unwrap_or_else(|| vec![0; PIECE as usize]), length }
    }

    fn fill(&mut self) -> &mut [u8] {
        &mut self.room[..self.length]
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARES {
            spare.push(std::mem::take(&mut self.room));
        }
    }
}

/// A range of a file. What is in memory is left to the kernel to send, or read at once; else one piece is read while
/// another is sent, by a thread that may wait for the disk.
pub(crate) struct Pieces {
    file: Arc<File>,
    outbox: Option<Outbox>,
    /// Not asked for yet.
    rest: Range<u64>,
    reading: Option<JoinHandle<Result<Bytes>>>,
    /// Not yielded yet.
    left: u64,
}

impl Pieces {
    fn new(file: Arc<File>, range: Range<u64>, outbox: Option<Outbox>) -> Self {
        let left = range.end - range.start;
        Self { file, outbox, rest: range, reading: None, left }
    }

    /// The next piece that the kernel can send, when all of it seems to be in memory.
    fn ready(&self) -> Option<(&Outbox, Range<u64>)> {
        let outbox = self.outbox.as_ref()?;
        let length = outbox::PIECE.min(self.rest.end - self.rest.start);
        let piece = self.rest.start..self.rest.start + length;
        (length > 0 && in_memory(&self.file, piece.clone())).then_some((outbox, piece))
    }

    /// The next piece, when it can be had without waiting for the disk.
    fn read_at_once(&mut self) -> Option<Bytes> {
        let (at, length) = self.next()?;
        let mut piece = Piece::new(length);
        let read =
            preadv2(&self.file, &mut [IoSliceMut::new(piece.fill())], at, ReadWriteFlags::NOWAIT);
        if read != Ok(length) {
            return None;
        }
        self.rest.start += length as u64;
        Some(Bytes::from_owner(piece))
    }

    fn read_ahead(&mut self) {
        let Some((at, length)) = self.next() else { return };
        self.rest.start += length as u64;
        let file = Arc::clone(&self.file);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut piece = Piece::new(length);
            file.read_exact_at(piece.fill(), at).map_err(|e| Error::io("cannot read a blob", e))?;
            Ok(Bytes::from_owner(piece))
        }));
    }

    /// Where the next piece begins, and its length.
    fn next(&self) -> Option<(u64, usize)> {
        let length = PIECE.min(self.rest.end - self.rest.start);
        (length > 0).then_some((self.rest.start, length as usize))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.reading.is_none() {
            if let Some((outbox, piece)) = self.ready() {
                let posted = outbox.post(Arc::clone(&self.file), piece.clone());
                self.rest.start = piece.end;
                self.left -= posted.len() as u64;
                return Poll::Ready(Some(Ok(posted)));
            }
            if let Some(piece) = self.read_at_once() {
                self.left -= piece.len() as u64;
                return Poll::Ready(Some(Ok(piece)));
            }
            self.read_ahead();
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let ended = |e| Error::internal("reading a blob ended early").caused_by(e);
        let read = read.map_err(ended).flatten();
        if let Ok(bytes) = &read {
            self.left -= bytes.len() as u64;
            let next = self.rest.start..self.rest.end.min(self.rest.start + PIECE);
            if !next.is_empty() && !in_memory(&self.file, next) {
                self.read_ahead();
            }
        }
        Poll::Ready(Some(read))
    }
}

/// Whether a range of a file that is not empty can be had without waiting for the disk, as far as a look at some of
/// its bytes tells.
fn in_memory(file: &File, range: Range<u64>) -> bool {
    let mut probes = range.clone().step_by(PROBED as usize).chain([range.end - 1]);
    probes.all(|at| {
        let mut byte = [0];
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) == Ok(1)
    })
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let next = match &mut *self {
            Self::Whole(bytes) => bytes.take().map(Ok),
            Self::File(pieces) => ready!(pieces.poll_read(cx)),
            Self::Stream(stream, left) => {
                let next = ready!(Pin::new(stream).poll_next(cx));
                if let Some(Ok(bytes)) = &next {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                next
            }
        };
        if let Some(Err(err)) = &next {
            tracing::error!(err = err.chain(), "an answer broke off");
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn a_file_is_read_where_its_bytes_must_be_seen() {
        let bytes: Vec<u8> = (0..PIECE as u32).flat_map(u32::to_le_bytes).collect();
        let range = 3..bytes.len() as u64 - 3;
        let content = Content::File(file(&bytes), range.clone());
        let body = Body::content(content, range.end - range.start, None);
        let got = body.collect().await.unwrap().to_bytes();
        assert!(got == bytes[range.start as usize..range.end as usize]);
    }

    #[tokio::test]
    async fn what_is_in_memory_is_left_to_the_kernel() {
        let length = outbox::PIECE * 2 + 10;
        let content = Content::File(file(&vec![7; length as usize]), 0..length);
        let mut body = Body::content(content, length, Some(Outbox::default()));
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            assert!(bytes.iter().all(|b| *b == 0), "the file itself was read");
            pieces.push(bytes.len() as u64);
        }
        assert_eq!(pieces, [outbox::PIECE, outbox::PIECE, 10]);
        assert!(body.is_end_stream());
    }
}

//! Bodies both ways: what is sent, and the pace that what comes must keep.

use crate::{Error, Failure, error};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

pub(crate) type Boxed = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) fn empty() -> Boxed {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What a request carries.
#[derive(Debug)]
pub enum Upload {
    /// Nothing.
    Empty,
    /// Bytes that are all here: can be sent again after a redirect or a broken connection.
    Bytes(Bytes),
    /// Pieces that come one by one, of so many bytes altogether when that is known.
    Stream(mpsc::Receiver<io::Result<Bytes>>, Option<u64>),
}

impl Upload {
    /// The body, and a copy for a second time if there can be one.
    pub(crate) fn into_body(self) -> (Boxed, Option<Bytes>) {
        match self {
            Self::Empty => (empty(), Some(Bytes::new())),
            Self::Bytes(bytes) => (full(bytes.clone()), Some(bytes)),
            Self::Stream(pieces, length) => (Streamed { pieces, length }.boxed_unsync(), None),
        }
    }
}

pub(crate) fn full(bytes: Bytes) -> Boxed {
    if bytes.is_empty() {
        return empty();
    }
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

struct Streamed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    length: Option<u64>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|p| p.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// How fast a body must come: silence longer than `idle`, or fewer than `floor_bytes` in any `window`, is a
/// broken connection; a server that drips could hold a reader for ever otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest silence.
    pub idle: Duration,
    /// Over how long the floor counts.
    pub window: Duration,
    /// Bytes that come at least in one window.
    pub floor_bytes: u64,
}

impl Default for Pace {
    /// 20 s of silence; 1 KiB a second over 15 s, less than the slowest modem of this century.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(20),
            window: Duration::from_secs(15),
            floor_bytes: 15 << 10,
        }
    }
}

/// A body that is read under a pace.
#[derive(Debug)]
pub(crate) struct Paced {
    inner: Incoming,
    pace: Pace,
    since: Instant,
    in_window: u64,
    length: Option<u64>,
    read: u64,
    what: String,
}

impl Paced {
    pub(crate) fn new(inner: Incoming, pace: Pace, what: String) -> Self {
        let length = http_body::Body::size_hint(&inner).exact();
        Self { inner, pace, since: Instant::now(), in_window: 0, length, read: 0, what }
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece; nothing at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let slow = || Error::new(Failure::Slow, self.what.clone());
            let left = self.pace.window.saturating_sub(self.since.elapsed());
            let wait = self.pace.idle.min(left.max(Duration::from_millis(1)));
            let frame = match tokio::time::timeout(wait, self.inner.frame()).await {
                Ok(frame) => frame,
                Err(_) if self.since.elapsed() < self.pace.window => {
                    return Err(slow().because("the server has been silent for too long"));
                }
                Err(_) => {
                    self.window_over()?;
                    continue;
                }
            };
            let frame = match frame {
                None => return Ok(None),
                Some(Ok(frame)) => frame,
                Some(Err(err)) => {
                    let failed = Error::new(error::classify(&err), self.what.clone());
                    return Err(failed.because(error::reason(&err)));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            self.in_window += data.len() as u64;
            self.read += data.len() as u64;
            if self.since.elapsed() >= self.pace.window {
                self.window_over()?;
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn window_over(&mut self) -> Result<(), Error> {
        // The end of a small body may be all that a window sees.
        let near_end = self.length.is_some_and(|l| l.saturating_sub(self.read) == 0);
        if self.in_window < self.pace.floor_bytes && !near_end {
            let text = format!(
                "the server sends too slowly: {} bytes in {} s",
                self.in_window,
                self.pace.window.as_secs()
            );
            return Err(Error::new(Failure::Slow, self.what.clone()).because(text));
        }
        self.in_window = 0;
        self.since = Instant::now();
        Ok(())
    }
}

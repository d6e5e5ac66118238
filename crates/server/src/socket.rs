//! One client's socket below HTTP: time limits for slow heads, and knowing when the client is gone.
//!
//! A client may take [`HEAD`] for a request's head from its first byte on, and be idle for [`IDLE`] between
//! requests; while a request is answered there is no limit. hyper's own timer would count idleness too and
//! close connections that clients keep for later.
//!
//! A client that closes its sending half still wants the answer, so the end of input says nothing. A full
//! close shows as a hang-up on the socket; [`Peer::gone`] waits for that with a descriptor of its own,
//! because readiness that hyper waits for must not be cleared under it.

use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::{Instant, Sleep},
};

/// A request's head must be whole within this time of its first byte.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
pub(crate) const IDLE: Duration = Duration::from_secs(600);
/// A first head up to this many bytes is waited for before HTTP's buffers are made.
const PEEKED: usize = 4096;
/// Requests shorter than this are not watched for their client's going.
const WATCHED: Duration = Duration::from_millis(100);

/// Either kind of connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// The near side of a connection under TLS.
    /// With the client's certificates, PEM.
    Secured(UnixStream, Arc<[String]>),
}

macro_rules! either {
    ($stream:expr, $inner:ident => $do:expr) => {
        match $stream {
            Stream::Unix($inner) | Stream::Secured($inner, _) => $do,
            Stream::Tcp($inner) => $do,
        }
    };
}

impl Stream {
    /// Waits until a request's head has come, without taking it; false when there will be none. A head
    /// longer than [`PEEKED`] counts as come: the rest is for HTTP to wait for.
    pub(crate) async fn speaks(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let mut begun = None;
        loop {
            // Readiness is a guess at first; only a look into the socket says.
            let ready = async { either!(self, s => s.ready(Interest::READABLE).await) };
            let limit = if begun.is_some() { HEAD } else { IDLE };
            let since = begun.unwrap_or_else(Instant::now);
            let closed = match tokio::time::timeout_at(since + limit, ready).await {
                Ok(Ok(ready)) => ready.is_read_closed(),
                Ok(Err(_)) | Err(_) => return false,
            };
            let look = || {
                let mut bytes = [0; PEEKED];
                let (count, _) = recv(self, &mut bytes[..], RecvFlags::PEEK)?;
                let come = &bytes[..count];
                let whole = come.windows(4).any(|end| end == b"\r\n\r\n")
                    || come.windows(2).any(|end| end == b"\n\n");
                // What is no method's name is no HTTP, and told so at once.
                let odd = come.first().is_none_or(|first| !first.is_ascii_uppercase());
                if whole || odd || count == PEEKED {
                    return Ok(count > 0);
                }
                begun.get_or_insert_with(Instant::now);
                // A part of a head: news is what comes next.
                Err(io::ErrorKind::WouldBlock.into())
            };
            match either!(self, s => s.try_io(Interest::READABLE, look)) {
                Ok(come) => return come,
                // Nothing follows half a head, and a closed socket is always ready: HTTP says what is wrong.
                Err(err) if err.kind() == io::ErrorKind::WouldBlock && closed => return true,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether these are the first bytes that came; they are not taken.
    pub(crate) fn begins_with(&self, wanted: &[u8]) -> bool {
        use rustix::net::{RecvFlags, recv};
        let mut bytes = [0; 64];
        let wanted = &wanted[..wanted.len().min(bytes.len())];
        let count = recv(self, &mut bytes[..wanted.len()], RecvFlags::PEEK).map_or(0, |(n, _)| n);
        // The preface has a blank line in its middle, where a short read may end.
        count > 16 && wanted.starts_with(&bytes[..count])
    }

    /// The same socket under a descriptor of its own, watched apart.
    fn again(&self) -> io::Result<Self> {
        let own = self.as_fd().try_clone_to_owned()?;
        Ok(match self {
            Self::Unix(_) | Self::Secured(..) => Self::Unix(UnixStream::from_std(own.into())?),
            Self::Tcp(_) => Self::Tcp(TcpStream::from_std(own.into())?),
        })
    }

    /// Whether the client came over the network.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Secured(..))
    }

    /// The client's certificates, PEM, its own first.
    pub(crate) fn certificates(&self) -> Arc<[String]> {
        match self {
            Self::Secured(_, certificates) => Arc::clone(certificates),
            Self::Unix(_) | Self::Tcp(_) => Arc::default(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, s => s.as_fd())
    }
}

const AT_REST: u8 = 0;
const IN_HEAD: u8 = 1;
const BUSY: u8 = 2;
const TAKEN: u8 = 3;

/// What a connection is doing, shared by the socket below HTTP and the requests above it.
#[derive(Debug, Default)]
struct Phase {
    now: AtomicU8,
    began: Notify,
    left: Notify,
}

/// The client's end, as requests know it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    stream: Weak<Stream>,
    phase: Arc<Phase>,
}

impl Peer {
    /// A request is being answered until the value is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.phase.now.store(BUSY, Ordering::Relaxed);
        self.phase.began.notify_one();
        Busy(Arc::clone(&self.phase))
    }

    /// The connection has left HTTP: no limits from here on.
    pub(crate) fn taken_over(&self) {
        self.phase.now.store(TAKEN, Ordering::Relaxed);
    }

    /// The socket out of HTTP's hands, which is told by [`Peer::left`]. Nothing is lost that came after the
    /// request: while one is answered HTTP does not read on.
    pub(crate) fn leave(&self) -> Option<Socket> {
        let stream = self.stream.upgrade()?;
        self.taken_over();
        self.phase.left.notify_one();
        Some(Socket { stream, phase: Arc::clone(&self.phase), timer: None })
    }

    /// Ends when the socket has left HTTP.
    pub(crate) async fn left(&self) {
        self.phase.left.notified().await;
    }

    /// Waits, briefly, until the client has read all that was sent. docker-py reads the head of a takeover
    /// through a buffer that it then throws away, with whatever came behind the head.
    pub(crate) async fn caught_up(&self) {
        const TURNS: u32 = 100;
        const TURN: std::time::Duration = std::time::Duration::from_micros(200);
        for turn in 0..TURNS {
            let Some(stream) = self.stream.upgrade() else { return };
            let unread = either!(&*stream, s => sys::fdpass::unread(s));
            drop(stream);
            if matches!(unread, Ok(0) | Err(_)) {
                return;
            }
            if turn < 3 {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(TURN).await;
            }
        }
    }

    /// Ends when the client has closed the connection wholly.
    pub(crate) async fn gone(&self) {
        let watched = self.stream.upgrade().and_then(|stream| stream.again().ok());
        // Out of descriptors: the client's going shows when something is written.
        let Some(watched) = watched else { return std::future::pending().await };
        while let Ok(ready) = either!(&watched, s => s.ready(Interest::WRITABLE).await) {
            if ready.is_write_closed() {
                return;
            }
            // Clears what is known, so that the next turn waits for news.
            let stale = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = either!(&watched, s => s.try_io(Interest::WRITABLE, stale));
        }
        std::future::pending::<()>().await;
    }

    /// Ends when the client has gone during a request that takes long.
    pub(crate) async fn gave_up(&self) {
        loop {
            self.phase.began.notified().await;
            tokio::time::sleep(WATCHED).await;
            if self.phase.now.load(Ordering::Relaxed) == BUSY {
                return self.gone().await;
            }
        }
    }
}

/// While it lives, a request is being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Phase>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = &self.0.now;
        // A connection that was taken over stays so.
        let _ = now.compare_exchange(BUSY, AT_REST, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A socket with the limits of this module.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Arc<Stream>,
    phase: Arc<Phase>,
    timer: Option<(u8, Pin<Box<Sleep>>)>,
}

impl Socket {
    pub(crate) fn new(stream: Stream) -> (Self, Peer) {
        let stream = Arc::new(stream);
        let phase = Arc::new(Phase::default());
        let peer = Peer { stream: Arc::downgrade(&stream), phase: Arc::clone(&phase) };
        (Self { stream, phase, timer: None }, peer)
    }

    /// Fails when the present phase has lasted too long; wakes the task when it will have.
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.phase.now.load(Ordering::Relaxed);
        let limit = match phase {
            IN_HEAD => HEAD,
            AT_REST => IDLE,
            _ => {
                self.timer = None;
                return Ok(());
            }
        };
        if self.timer.as_ref().is_none_or(|(of, _)| *of != phase) {
            self.timer = Some((phase, Box::pin(tokio::time::sleep(limit))));
        }
        let ended =
            self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if ended { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        loop {
            ready!(either!(&*self.stream, s => s.poll_read_ready(cx)))?;
            let read = either!(&*self.stream, s => s.try_read(buffer.initialize_unfilled()));
            match read {
                Ok(count) => {
                    buffer.advance(count);
                    let begun = count > 0
                        && self
                            .phase
                            .now
                            .compare_exchange(
                                AT_REST,
                                IN_HEAD,
                                Ordering::Relaxed,
                                Ordering::Relaxed,
                            )
                            .is_ok();
                    if begun {
                        self.check_time(cx)?;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(&*self.stream, s => s.poll_write_ready(cx)))?;
            match either!(&*self.stream, s => s.try_write_vectored(data)) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write) {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(err) => Poll::Ready(Err(err.into())),
        }
    }
}

/// A response body that keeps its connection busy until it was sent.
#[derive(Debug)]
pub(crate) struct Sent<B> {
    body: B,
    _busy: Busy,
}

impl<B> Sent<B> {
    pub(crate) fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

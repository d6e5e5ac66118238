//! Listening, TLS, and how long a client may take.
//!
//! Limits: a TLS handshake and the first head [`HEAD`]; later heads, and the time between requests,
//! [`IDLE`]; a client that does not read what it asked for, [`STUCK`]; bodies are timed where they are read.
//! A client that has said nothing yet, or half a head, costs a socket and a small task.

use super::{
    Peer, Site, answer,
    outbox::{Outbox, Socket},
};
use crate::tls::Certificates;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Sleep,
};
use tokio_util::task::TaskTracker;

/// The first head, or the TLS handshake, must be whole within this time.
const HEAD: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time; so is one whose next head takes that long.
const IDLE: Duration = Duration::from_secs(60);
/// A client that takes none of the bytes we have for it for this time has gone.
const STUCK: Duration = Duration::from_secs(60);
/// What is under way at an ordered stop may take this long.
const DRAIN: Duration = Duration::from_secs(20);
/// Pause when no connection can be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a half-said head is looked at again.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes of a request's head, and of what is read of a body at once.
const BUFFER: usize = 256 << 10;
/// Headers of a request, at most.
const HEADERS: usize = 100;
/// A first head up to this many bytes is waited for before HTTP's buffers are made.
const PEEKED: usize = 8192;
/// Requests of one HTTP/2 connection at the same time.
const STREAMS: u32 = 128;
/// Bytes under way in one HTTP/2 stream, and in one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A listening socket, perhaps with TLS.
#[derive(Debug)]
pub struct Door {
    /// The socket, bound already.
    pub listener: TcpListener,
    /// With these certificates.
    pub tls: Option<Arc<Certificates>>,
}

/// Serves `site` on `doors` until it is told to stop, then lets what is under way end.
pub async fn serve(site: Arc<Site>, doors: Vec<Door>, connections: usize) {
    let tracker = TaskTracker::new();
    let places = Arc::new(Semaphore::new(connections));
    for door in doors {
        let (site, tracker, places) = (Arc::clone(&site), tracker.clone(), Arc::clone(&places));
        tracker.clone().spawn(accept(site, door, tracker, places));
    }
    site.stop.cancelled().await;
    tracker.close();
    let ended = async {
        tracker.wait().await;
        site.changes.close();
        site.changes.wait().await;
    };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

async fn accept(site: Arc<Site>, door: Door, tracker: TaskTracker, places: Arc<Semaphore>) {
    loop {
        let place = tokio::select! {
            () = site.stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            () = site.stop.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (site, tls) = (Arc::clone(&site), door.tls.clone());
                tracker.spawn(async move {
                    connection(site, stream, peer, tls).await;
                    drop(place);
                });
            }
            Err(err) => {
                tracing::warn!(err = err.to_string(), "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    site: Arc<Site>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Certificates>>,
) {
    // Answers are written whole; waiting to fill a segment only adds delay.
    let _ = stream.set_nodelay(true);
    // Half a world may vanish without a word; the kernel asks now and then.
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let speaks = tokio::select! {
        speaks = speaks(&stream) => speaks,
        () = site.stop.cancelled() => false,
    };
    if !speaks {
        return;
    }
    let Some(tls) = tls else {
        let outbox = Outbox::default();
        let stream = Watched::new(Socket::new(stream, outbox.clone()), STUCK);
        let peer = Peer { address: peer, outbox: Some(outbox) };
        return Box::pin(speak(site, stream, peer)).await;
    };
    let shake = Box::pin(tls.acceptor().accept(stream));
    match tokio::time::timeout(HEAD, shake).await {
        Ok(Ok(stream)) => {
            let peer = Peer { address: peer, outbox: None };
            Box::pin(speak(site, Watched::new(stream, STUCK), peer)).await;
        }
        Ok(Err(err)) => tracing::debug!(address = %peer.ip(), err = err.to_string(), "no TLS"),
        Err(_) => {}
    }
}

/// Waits until a first head has come, or a piece of something else, without taking it.
async fn speaks(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut seen = 0;
    // The bytes are looked at here and not kept, so that the waiting task stays small.
    let mut look = || {
        stream.try_io(Interest::READABLE, || {
            let mut bytes = [0; PEEKED];
            let (count, _) = recv(stream, &mut bytes[..], RecvFlags::PEEK)?;
            let come = &bytes[..count];
            let head = come.windows(4).any(|end| end == b"\r\n\r\n");
            // TLS, or HTTP/2's preface, or nonsense: for others to judge.
            let other = come.first().is_some_and(|first| !first.is_ascii_uppercase());
            if count == 0 || head || other || count == PEEKED {
                return Ok(Some(count > 0));
            }
            let news = count > seen;
            seen = count;
            // Readiness that is left alone says that the same bytes are there.
            if news { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(None) }
        })
    };
    let whole = async {
        loop {
            if stream.readable().await.is_err() {
                return false;
            }
            match look() {
                Ok(Some(speaks)) => return speaks,
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(HEAD, whole).await.unwrap_or(false)
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    site: Arc<Site>,
    stream: S,
    peer: Peer,
) {
    let (stop, address) = (site.stop.clone(), peer.address.ip());
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, peer) = (Arc::clone(&site), peer.clone());
        async move { Ok::<_, Infallible>(answer(site, request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(BUFFER as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, served).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(err) = outcome {
        tracing::debug!(%address, err = err.to_string(), "connection ended");
    }
}

/// A stream that fails when its client takes nothing for too long.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    limit: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stuck: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stuck = None;
            return done;
        }
        let timer = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, data);
        self.watch(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.watch(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn a_client_that_never_reads_is_given_up() {
        let (ours, _theirs) = duplex(16);
        let mut ours = Watched::new(ours, Duration::from_millis(5));
        let err = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }
}

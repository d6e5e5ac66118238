//! Listening and serving connections.
//!
//! Invariants: a connection that is idle costs little, so that thousands are no burden; at an ordered stop
//! changes under way are finished, streams are cut after a moment.

use crate::{
    authz::Plugins,
    h2c::PREFACE,
    hijack::Takeover,
    metrics,
    router::{self, Way},
    socket::{Sent, Socket, Stream},
    tls::Tls,
    versions::{self, OLDEST, Version},
};
use base::Principal;
use buildkit::BuildKit;
use engine::Engine;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of a request's head; docker-py sends a registry configuration of some tens of KB here.
const HEAD_MAX: usize = 256 << 10;
/// Headers of a request, at most.
const HEADERS_MAX: usize = 200;
/// What still streams at an ordered stop is cut after this time.
const CUT: Duration = Duration::from_millis(500);
/// Pause when no connection can be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that is bound already.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
    /// A TCP socket with TLS.
    Tls(TcpListener, Arc<Tls>),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: Arc<Engine>,
    /// What BuildKit's clients speak with.
    pub(crate) builder: Option<Arc<BuildKit>>,
    /// Changes, which outlive the connection that asked for them.
    pub(crate) changes: TaskTracker,
    stop: CancellationToken,
    pub(crate) actions: Arc<metrics::Actions>,
    pub(crate) plugins: Plugins,
    oldest: OnceLock<Version>,
}

impl Site {
    /// The oldest API version that is served.
    pub(crate) fn oldest(&self) -> Version {
        self.oldest.get().copied().unwrap_or(OLDEST)
    }
}

/// Serves the API on any number of listeners.
#[derive(Debug)]
pub struct Server {
    site: Arc<Site>,
    connections: TaskTracker,
}

impl Server {
    /// A server over `engine` that ends with `stop`.
    pub fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        let actions = Arc::default();
        // A disk that cannot be written fails builds, and what is said of it is in the log.
        let builder = BuildKit::new(&engine)
            .inspect_err(|err| tracing::error!(err = err.chain(), "BuildKit's front is off"))
            .ok();
        let site = Arc::new(Site {
            engine,
            builder,
            changes: TaskTracker::new(),
            stop,
            actions,
            plugins: Plugins::default(),
            oldest: OnceLock::new(),
        });
        Self { site, connections: TaskTracker::new() }
    }

    /// Refuses API versions older than this one. Counts once, before anything is served.
    ///
    /// # Errors
    /// `Invalid` for what is no version, and for one that is never served.
    pub fn serve_from(&self, oldest: &str) -> base::Result<()> {
        let oldest = versions::parse_oldest(oldest)?;
        self.site.engine.set_oldest_api(&oldest.to_string());
        let _ = self.site.oldest.set(oldest);
        Ok(())
    }

    /// Asks these plugins before every request and every answer, from now on; they are looked for in
    /// `folders`, and one that does not answer within `limit` denies.
    ///
    /// # Errors
    /// `Invalid` when one cannot be reached or is not for authorization; nothing changes then.
    pub async fn authorize_by(
        &self,
        names: &[String],
        folders: &[PathBuf],
        limit: std::time::Duration,
    ) -> base::Result<()> {
        self.site.plugins.set(names, folders, limit).await
    }

    /// Accepts on `listener` until told to stop.
    pub async fn serve(&self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                () = self.site.stop.cancelled() => return,
                accepted = accept(&listener) => accepted,
            };
            match accepted {
                Ok(Accepted::Plain(stream, by)) => {
                    self.connections.spawn(connection(Arc::clone(&self.site), stream, by));
                }
                Ok(Accepted::Tls(stream, tls)) => {
                    self.connections.spawn(secured(Arc::clone(&self.site), stream, tls));
                }
                Err(err) => {
                    // Out of descriptors: others must close first.
                    tracing::warn!(err = err.to_string(), "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Answers readers of metrics on `listener` until told to stop.
    pub async fn serve_metrics(&self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.site.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (engine, actions) =
                        (Arc::clone(&self.site.engine), Arc::clone(&self.site.actions));
                    let stop = self.site.stop.clone();
                    self.connections.spawn(async move {
                        tokio::select! {
                            () = metrics::connection(stream, engine, actions) => {}
                            () = stop.cancelled() => {}
                        }
                    });
                }
                Err(err) => {
                    tracing::warn!(err = err.to_string(), "cannot accept a reader of metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until all connections and changes have ended, at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.connections.close();
        self.site.changes.close();
        let ended = async {
            self.connections.wait().await;
            self.site.changes.wait().await;
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

enum Accepted {
    Plain(Stream, Principal),
    /// The handshake is still to come: nobody else waits for it.
    Tls(TcpStream, Arc<Tls>),
}

async fn accept(listener: &Listener) -> std::io::Result<Accepted> {
    let (tcp, tls) = match listener {
        Listener::Unix(unix) => {
            let stream = unix.accept().await?.0;
            let by = principal(&stream);
            return Ok(Accepted::Plain(Stream::Unix(stream), by));
        }
        Listener::Tcp(tcp) => (tcp, None),
        Listener::Tls(tcp, tls) => (tcp, Some(tls)),
    };
    let stream = tcp.accept().await?.0;
    stream.set_nodelay(true)?;
    // Half a world may vanish without a word; the kernel asks now and then.
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    Ok(match tls {
        Some(tls) => Accepted::Tls(stream, Arc::clone(tls)),
        None => Accepted::Plain(Stream::Tcp(stream), Principal::default()),
    })
}

async fn secured(site: Arc<Site>, stream: TcpStream, tls: Arc<Tls>) {
    let peer = stream.peer_addr().map(|a| a.to_string()).unwrap_or_default();
    match tls.accept(stream).await {
        Ok((inner, by, copying)) => {
            tokio::join!(connection(site, inner, by), copying);
        }
        Err(err) => {
            tracing::debug!(peer, err = err.to_string(), "a TLS handshake failed");
        }
    }
}

/// Who is at the other end, as the kernel says.
fn principal(stream: &UnixStream) -> Principal {
    let Ok(credentials) = stream.peer_cred() else { return Principal::default() };
    let pid = credentials.pid();
    let command = pid
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|comm| comm.trim_end().to_owned())
        .unwrap_or_default();
    Principal { uid: Some(credentials.uid()), pid, command, ..Principal::default() }
}

async fn connection(site: Arc<Site>, stream: Stream, by: Principal) {
    // A client that says nothing, or half a head, costs a socket and this small task; HTTP's buffers come
    // with its first whole head.
    let spoke = tokio::select! {
        spoke = stream.speaks() => spoke,
        () = site.stop.cancelled() => false,
    };
    if spoke {
        // Where plugins are asked about requests, builds come by `POST /grpc`, which they are shown.
        if let (Some(builder), true) = (&site.builder, site.plugins.is_empty())
            && stream.begins_with(PREFACE)
        {
            let (served, stop) = (crate::h2c::direct(Arc::clone(builder), by, stream), &site.stop);
            let served = Box::pin(served);
            tokio::select! {
                () = served => {}
                () = stop.cancelled() => {}
            }
            return;
        }
        boxed(site, stream, by).await;
    }
}

/// Made apart, so that the waiting task has no room for what comes later.
fn boxed(
    site: Arc<Site>,
    stream: Stream,
    by: Principal,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(speak(site, stream, by))
}

async fn speak(site: Arc<Site>, stream: Stream, by: Principal) {
    let stop = site.stop.clone();
    let way = Way { tcp: stream.is_tcp(), certificates: stream.certificates() };
    let (socket, peer) = Socket::new(stream);
    let at = peer.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, by, peer) = (Arc::clone(&site), by.clone(), at.clone());
        let way = way.clone();
        async move {
            let busy = peer.busy();
            let mut reply = router::answer(&site, by, request, peer.clone(), way).await;
            if let Some(takeover) = reply.extensions_mut().remove::<Takeover>()
                && let Some(socket) = peer.leave()
            {
                tokio::spawn(takeover.run(reply, socket, peer));
                // HTTP is given up with this future.
                return std::future::pending().await;
            }
            Ok::<_, Infallible>(reply.map(|body| Sent::new(body, busy)))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(true)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = peer.gave_up() => return,
        () = peer.left() => return,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(CUT, served).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(err) = outcome {
        tracing::debug!(err = base::error::chain(&err), "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_is_a_small_task() {
        fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(connection) <= 1024, "{} bytes", size(connection));
    }
}

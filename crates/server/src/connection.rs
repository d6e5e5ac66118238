//! Listening and serving connections.

use crate::router;
use base::Principal;
use engine::Engine;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A client has this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head; docker-py sends a registry configuration of some tens of KB here.
const HEAD_MAX: usize = 256 << 10;

/// A socket that is bound already.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Serves the API on any number of listeners.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server over `engine` that ends with `stop`.
    pub fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        Self { engine, connections: TaskTracker::new(), stop }
    }

    /// Accepts on `listener` until told to stop.
    pub async fn serve(&self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&listener) => accepted,
            };
            match accepted {
                Ok(Accepted::Unix(stream)) => {
                    let by = peer(&stream);
                    self.connections.spawn(connection(
                        Arc::clone(&self.engine),
                        stream,
                        by,
                        false,
                        self.stop.clone(),
                    ));
                }
                Ok(Accepted::Tcp(stream)) => {
                    let by = Principal::default();
                    self.connections.spawn(connection(
                        Arc::clone(&self.engine),
                        stream,
                        by,
                        true,
                        self.stop.clone(),
                    ));
                }
                Err(err) => {
                    // Out of descriptors: others must close first.
                    tracing::warn!(err = err.to_string(), "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Waits until all connections have ended, at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.connections.close();
        let _ = tokio::time::timeout(limit, self.connections.wait()).await;
    }
}

enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream),
}

async fn accept(listener: &Listener) -> std::io::Result<Accepted> {
    match listener {
        Listener::Unix(unix) => Ok(Accepted::Unix(unix.accept().await?.0)),
        Listener::Tcp(tcp) => {
            let stream = tcp.accept().await?.0;
            stream.set_nodelay(true)?;
            Ok(Accepted::Tcp(stream))
        }
    }
}

/// Who is at the other end, as the kernel says.
fn peer(stream: &UnixStream) -> Principal {
    let Ok(credentials) = stream.peer_cred() else { return Principal::default() };
    let pid = credentials.pid();
    let command = pid
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|comm| comm.trim_end().to_owned())
        .unwrap_or_default();
    Principal { uid: Some(credentials.uid()), pid, command, ..Principal::default() }
}

async fn connection<S>(
    engine: Arc<Engine>,
    stream: S,
    by: Principal,
    tcp: bool,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (engine, by) = (Arc::clone(&engine), by.clone());
        async move { Ok::<_, Infallible>(router::answer(engine, by, request, tcp).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(err) = outcome {
        tracing::debug!(err = base::error::chain(&err), "connection ended");
    }
}

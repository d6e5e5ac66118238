//! HTTP/2 on a connection of the engine's API: a channel that calls, and a server that is called.

use crate::connect::Socket;
use bollard_buildkit_proto::{google, health, moby::buildkit::v1::control_client::ControlClient};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tonic::body::Body;

pub(super) use bollard_buildkit_proto::{
    fsutil::types as fsutil,
    moby::{
        buildkit::{secrets::v1 as secrets, v1 as control},
        filesync::{packet, v1 as filesync},
        sshforward::v1 as ssh,
        upload::v1 as upload,
    },
    pb,
};

/// Bytes of one message.
pub(super) const MESSAGE: usize = 16 << 20;
/// Bytes that may be on their way, per stream; a connection takes twice as many.
const WINDOW: u32 = 2 << 20;
/// How often the engine is asked whether it is there.
const PULSE: Duration = Duration::from_secs(30);

/// Both ways of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection for use by tasks; `early` was read of it already.
pub(super) fn duplex(socket: Socket, early: Vec<u8>) -> io::Result<Box<dyn Duplex>> {
    socket.set_nonblocking(true)?;
    let whole: Box<dyn Duplex> = match socket {
        Socket::Unix(stream) => Box::new(tokio::net::UnixStream::from_std(stream)?),
        Socket::Tcp(stream) => Box::new(tokio::net::TcpStream::from_std(stream)?),
    };
    if early.is_empty() {
        return Ok(whole);
    }
    let (reader, writer) = tokio::io::split(whole);
    Ok(Box::new(tokio::io::join(io::Cursor::new(early).chain(reader), writer)))
}

/// The engine, called by gRPC.
#[derive(Clone)]
pub(super) struct Channel(http2::SendRequest<Body>);

impl Channel {
    /// Begins to speak on `io`; what is called must be awaited while the runtime runs.
    pub(super) async fn open(io: Box<dyn Duplex>) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .keep_alive_interval(PULSE)
            .handshake::<_, Body>(TokioIo::new(io))
            .await?;
        // Whoever calls hears how the connection ended.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    pub(super) fn control(&self) -> ControlClient<Self> {
        ControlClient::with_origin(self.clone(), http::Uri::from_static("http://localhost"))
            .max_decoding_message_size(MESSAGE)
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + std::marker::Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Serves gRPC on `io` until it ends; `answer` answers a request.
pub(super) async fn serve<F, A>(io: Box<dyn Duplex>, answer: F)
where
    F: Fn(http::Request<Incoming>) -> A + Clone + std::marker::Send + 'static,
    A: Future<Output = http::Response<Body>> + std::marker::Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .max_concurrent_streams(1000)
        .serve_connection(TokioIo::new(io), service);
    // A session ends with its build, or the build tells why it did.
    drop(served.await);
}

/// Says that the client is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Healthy;

fn serving() -> health::HealthCheckResponse {
    use health::health_check_response::ServingStatus;
    health::HealthCheckResponse { status: ServingStatus::Serving as i32 }
}

#[tonic::async_trait]
impl health::health_server::Health for Healthy {
    type WatchStream = Pin<
        Box<
            dyn futures_util::Stream<Item = Result<health::HealthCheckResponse, tonic::Status>>
                + std::marker::Send,
        >,
    >;

    async fn check(
        &self,
        _: tonic::Request<health::HealthCheckRequest>,
    ) -> Result<tonic::Response<health::HealthCheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(serving()))
    }

    async fn watch(
        &self,
        _: tonic::Request<health::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        use futures_util::StreamExt as _;
        let once = futures_util::stream::iter([Ok(serving())]);
        Ok(tonic::Response::new(Box::pin(once.chain(futures_util::stream::pending()))))
    }

    async fn list(
        &self,
        _: tonic::Request<health::HealthListRequest>,
    ) -> Result<tonic::Response<health::HealthListResponse>, tonic::Status> {
        let statuses = [(String::new(), serving())].into_iter().collect();
        Ok(tonic::Response::new(health::HealthListResponse { statuses }))
    }
}

/// A time of the wire in nanoseconds since 1970.
pub(super) fn nanos(time: &google::protobuf::Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

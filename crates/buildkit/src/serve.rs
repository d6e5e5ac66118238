//! gRPC on a connection: which service a request is for.

use crate::{
    BuildKit, contents, control, gateway,
    proto::{
        control::control_server::ControlServer, gateway::llb_bridge_server::LlbBridgeServer, health,
    },
    session::{Hello, MESSAGE},
};
use base::{Principal, Result};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tonic::body::Body;
use tower_service::Service as _;

/// Bytes that a client may send ahead.
const WINDOW: u32 = 2 << 20;
/// Calls of a front end at once.
const STREAMS: u32 = 256;
/// A client that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

impl BuildKit {
    /// Serves gRPC on a connection until it ends.
    pub async fn serve<I>(self: &Arc<Self>, io: I, by: Principal)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let control = ControlServer::new(control::Service { kit: Arc::clone(self), by })
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let bridge = LlbBridgeServer::new(gateway::Service::for_client(self))
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let health = health::health_server::HealthServer::new(Healthy);
        let history = Arc::clone(&self.history);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (mut control, mut bridge, mut health) =
                (control.clone(), bridge.clone(), health.clone());
            let history = Arc::clone(&history);
            async move {
                let path = request.uri().path();
                let answered = if path.starts_with("/containerd.services.content.v1.Content/") {
                    Ok(contents::serve::call(&history, request).await)
                } else if path.starts_with("/moby.buildkit.v1.Control/") {
                    control.call(request).await
                } else if path.starts_with("/moby.buildkit.v1.frontend.LLBBridge/") {
                    bridge.call(request).await
                } else if path.starts_with("/grpc.health.v1.Health/") {
                    health.call(request).await
                } else {
                    let why = format!("unknown service of {path}");
                    Ok(tonic::Status::unimplemented(why).into_http::<Body>())
                };
                Ok::<_, Infallible>(match answered {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                })
            }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .max_concurrent_streams(1000)
            .serve_connection(io, service);
        if let Err(err) = served.await {
            tracing::debug!(err = base::error::chain(&err), "a gRPC connection ended");
        }
    }

    /// Speaks with a session's client until it goes.
    ///
    /// # Errors
    /// `Conflict` for an id that is taken; when the client does not speak HTTP/2.
    pub async fn session<I>(&self, hello: Hello, io: I) -> Result<()>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        self.sessions.serve(hello, io).await
    }
}

/// Serves the gateway alone on a connection until it ends: to a front end in a container.
pub(crate) async fn bridge<I>(io: I, service: gateway::Service)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let bridge = LlbBridgeServer::new(service)
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let health = health::health_server::HealthServer::new(Healthy);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (mut bridge, mut health) = (bridge.clone(), health.clone());
        async move {
            let path = request.uri().path();
            let answered = if path.starts_with("/moby.buildkit.v1.frontend.LLBBridge/") {
                bridge.call(request).await
            } else if path.starts_with("/grpc.health.v1.Health/") {
                health.call(request).await
            } else {
                let why = format!("a front end may not call {path}");
                Ok(tonic::Status::unimplemented(why).into_http::<Body>())
            };
            Ok::<_, Infallible>(match answered {
                Ok(answer) => answer,
                Err(never) => match never {},
            })
        }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .max_concurrent_streams(STREAMS)
        .serve_connection(io, service);
    if let Err(err) = served.await {
        tracing::debug!(err = base::error::chain(&err), "the connection of a front end ended");
    }
}

/// Says that the engine is there.
#[derive(Clone, Copy, Debug)]
struct Healthy;

#[tonic::async_trait]
impl health::health_server::Health for Healthy {
    type WatchStream = std::pin::Pin<
        Box<
            dyn futures_util::Stream<
                    Item = std::result::Result<health::HealthCheckResponse, tonic::Status>,
                > + Send,
        >,
    >;

    async fn check(
        &self,
        _: tonic::Request<health::HealthCheckRequest>,
    ) -> std::result::Result<tonic::Response<health::HealthCheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(serving()))
    }

    async fn watch(
        &self,
        _: tonic::Request<health::HealthCheckRequest>,
    ) -> std::result::Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        let once = futures_util::stream::iter([Ok(serving())]);
        let stay = futures_util::stream::pending();
        Ok(tonic::Response::new(Box::pin(futures_util::StreamExt::chain(once, stay))))
    }

    async fn list(
        &self,
        _: tonic::Request<health::HealthListRequest>,
    ) -> std::result::Result<tonic::Response<health::HealthListResponse>, tonic::Status> {
        let statuses = [(String::new(), serving())].into_iter().collect();
        Ok(tonic::Response::new(health::HealthListResponse { statuses }))
    }
}

fn serving() -> health::HealthCheckResponse {
    use health::health_check_response::ServingStatus;
    health::HealthCheckResponse { status: ServingStatus::Serving as i32 }
}

//! HTTP/2 on a connection of the API: `POST /grpc` and `POST /session` switch to it with `Upgrade: h2c`, and
//! gRPC clients may begin with it.

use crate::{
    call::{Asked, Call},
    reply::{self, Reply},
    socket::Peer,
};
use base::{Error, Principal, Result};
use buildkit::{BuildKit, Hello};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// What HTTP/2 begins with when nothing was agreed before.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `POST /grpc`: the engine is the server.
pub(crate) async fn grpc(mut call: Call) -> Result<Reply> {
    let upgrade = wanted(&mut call)?;
    let (kit, by, peer) = (builder(&call)?, call.by.clone(), call.peer.clone());
    tokio::spawn(async move {
        if let Some(io) = taken(upgrade, &peer).await {
            kit.serve(io, by).await;
        }
    });
    Ok(switching())
}

pub(crate) fn hello(asked: &Asked) -> Result<Hello> {
    Hello::read(&asked.headers)
}

/// `POST /session`: the engine is the client.
pub(crate) async fn session(mut call: Call) -> Result<Reply> {
    let hello = hello(&call)?;
    let upgrade = wanted(&mut call)?;
    let (kit, peer) = (builder(&call)?, call.peer.clone());
    tokio::spawn(async move {
        if let Some(io) = taken(upgrade, &peer).await
            && let Err(err) = kit.session(hello, io).await
        {
            tracing::debug!(err = err.chain(), "a session was refused");
        }
    });
    Ok(switching())
}

fn builder(call: &Call) -> Result<Arc<BuildKit>> {
    call.builder
        .clone()
        .ok_or_else(|| Error::new(base::Kind::Unavailable, "the builder is not running"))
}

fn wanted(call: &mut Call) -> Result<OnUpgrade> {
    let h2c = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"h2c");
    if !call.headers.get(header::UPGRADE).is_some_and(h2c) {
        return Err(Error::invalid("the request must be upgraded to h2c"));
    }
    call.upgrade.take().ok_or_else(|| Error::invalid("this connection cannot be upgraded"))
}

async fn taken(upgrade: OnUpgrade, peer: &Peer) -> Option<Upgraded> {
    match upgrade.await {
        Ok(io) => {
            peer.taken_over();
            Some(io)
        }
        Err(err) => {
            tracing::debug!(err = err.to_string(), "the client went away before the upgrade");
            None
        }
    }
}

fn switching() -> Reply {
    let mut reply = Response::new(reply::full(bytes::Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    reply
}

/// Serves gRPC on a connection that begins with it.
pub(crate) async fn direct(
    kit: Arc<BuildKit>,
    by: Principal,
    socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) {
    kit.serve(TokioIo::new(socket), by).await;
}

//! Responses: JSON as Go writes it, errors in docker's envelope, streams that are flushed piece by piece.

use base::{Error, Kind, error};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use std::io;

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// Every response.
pub(crate) type Reply = Response<Body>;

/// Exactly this text: Go clients compare the whole header.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A response without body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(full(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// JSON with a line end.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut bytes = match serde_json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(err) => return failure(&Error::internal("cannot encode the answer").caused_by(err)),
    };
    bytes.push(b'\n');
    let mut reply = Response::new(full(bytes));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, JSON);
    reply
}

/// JSON with 200.
pub(crate) fn ok(value: &impl Serialize) -> Reply {
    json(StatusCode::OK, value)
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(full(text));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

/// The only place where kinds of error meet status codes.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Exhausted => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Cancelled | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    message: &'a str,
}

/// Docker's error envelope; 304 has no body.
pub(crate) fn failure(err: &Error) -> Reply {
    let status = status(err.kind());
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    let message = error::chain(err);
    if status.is_server_error() {
        tracing::error!(err = message, "request failed");
    }
    json(status, &Envelope { message: &message })
}

/// A chunked stream of `content_type`; each item is flushed as it comes. An error ends the stream.
pub(crate) fn stream<S>(content_type: &'static str, stream: S) -> Reply
where
    S: Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
{
    let frames = stream.map(|item| item.map(Frame::data));
    let mut reply = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A stream from a channel; the sender's end is the stream's end.
pub(crate) fn channel(
    content_type: &'static str,
    receiver: tokio::sync::mpsc::Receiver<Bytes>,
) -> Reply {
    let items = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (Ok(item), receiver))
    });
    stream(content_type, items)
}

/// A stream of JSON documents whose first one decides the status: an error before it is a plain error
/// answer, an error behind it is docker's `errorDetail` line.
pub(crate) async fn progress(
    content_type: &'static str,
    mut receiver: tokio::sync::mpsc::Receiver<base::Result<Bytes>>,
) -> Reply {
    let first = match receiver.recv().await {
        Some(Err(err)) => return failure(&err),
        Some(Ok(first)) => first,
        None => Bytes::new(),
    };
    let rest = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        let bytes = item.unwrap_or_else(|err| error_line(&err, None));
        Some((Ok(bytes), receiver))
    });
    stream(content_type, futures_util::stream::once(async move { Ok(first) }).chain(rest))
}

/// The error line of a progress stream.
pub(crate) fn error_line(err: &Error, code: Option<i64>) -> Bytes {
    let message = error::chain(err);
    let mut detail = serde_json::Map::new();
    if let Some(code) = code {
        detail.insert("code".into(), code.into());
    }
    detail.insert("message".into(), message.clone().into());
    let line = serde_json::json!({ "errorDetail": detail, "error": message });
    Bytes::from(format!("{line}\r\n"))
}

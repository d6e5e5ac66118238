//! Taking the connection over: attach and exec.
//!
//! With an `Upgrade` header the answer is `101 UPGRADED` and the socket is ours. Without it (old clients)
//! the answer is 200 without a length, and the socket is ours as well: [`Takeover`] goes with the reply to the
//! connection, which leaves HTTP (`connection.rs`). A request that brings a body of its own (curl) has that
//! as its input, and its output in a chunked answer.
//! Closing the sending half means end of input only; the output goes on.

use crate::{
    call::Call,
    reply::{self, Reply},
    socket::{Peer, Socket},
    versions::Version,
};
use bytes::Bytes;
use engine::containers::{AttachStream, Input, Stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes read from a client at once.
const READ: usize = 32 << 10;
/// Since this version the content type tells framed from raw streams.
const TYPED: Version = Version(1, 42);

const RAW: &str = "application/vnd.docker.raw-stream";
const FRAMED: &str = "application/vnd.docker.multiplexed-stream";

/// Answers with the streams of `attached`. `after` runs once the output has ended and before the
/// connection closes.
pub(crate) fn take_over(call: &mut Call, attached: AttachStream) -> Reply {
    let framed = !attached.tty && call.version >= TYPED;
    let content_type = HeaderValue::from_static(if framed { FRAMED } else { RAW });
    let wants_upgrade = call.headers.contains_key(header::UPGRADE);
    match (call.upgrade.take(), wants_upgrade) {
        (Some(upgrade), true) => {
            let peer = call.peer.clone();
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(socket) => {
                        peer.taken_over();
                        let (reader, writer) = tokio::io::split(TokioIo::new(socket));
                        run(attached, reader, writer, &peer).await;
                    }
                    Err(err) => tracing::debug!(
                        err = err.to_string(),
                        "the client went away before the takeover"
                    ),
                }
            });
            let mut reply = Response::new(reply::full(Bytes::new()));
            *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            reply.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(b"UPGRADED"));
            let headers = reply.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
            headers.insert(header::CONTENT_TYPE, content_type);
            reply
        }
        _ => match call.body.take() {
            Some(body) if !body.is_end_stream() => streamed(body, attached, content_type),
            _ => {
                let mut reply = Response::new(reply::full(Bytes::new()));
                reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
                reply.extensions_mut().insert(Takeover(Arc::new(Mutex::new(Some(attached)))));
                reply
            }
        },
    }
}

/// Part of a reply whose connection leaves HTTP without an upgrade.
#[derive(Clone)]
pub(crate) struct Takeover(Arc<Mutex<Option<AttachStream>>>);

impl Takeover {
    /// Sends the head of `reply` on `socket`, then runs the streams there.
    pub(crate) async fn run(self, reply: Reply, socket: Socket, peer: Peer) {
        let attached = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(attached) = attached else { return };
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in reply.headers() {
            // As hyper writes the others.
            let mut start = true;
            for byte in name.as_str().bytes() {
                head.push(if start { byte.to_ascii_uppercase() } else { byte });
                start = byte == b'-';
            }
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let (reader, mut writer) = tokio::io::split(socket);
        if writer.write_all(&head).await.is_ok() {
            run(attached, reader, writer, &peer).await;
        }
    }
}

/// Output as the response body, input from the request body.
fn streamed(mut body: Incoming, mut attached: AttachStream, content_type: HeaderValue) -> Reply {
    if let Some(mut input) = attached.input.take() {
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data()
                    && input.send(&data).await.is_err()
                {
                    return;
                }
            }
            input.close().await;
        });
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = attached.next() => next,
                () = sender.closed() => return,
            };
            let Some(bytes) = next else { return };
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    let mut reply = reply::channel(RAW, receiver);
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// Runs both directions until the output ends or the client is gone for good.
async fn run(
    mut attached: AttachStream,
    mut reader: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    peer: &Peer,
) {
    let input = attached.input.take();
    let detached = tokio_util::sync::CancellationToken::new();
    let signal = detached.clone();
    let keys = attached.detach_keys.clone();
    let pump = tokio::spawn(async move { feed(&mut reader, input, keys, &signal).await });
    peer.caught_up().await;
    let gone = peer.gone();
    let mut gone = std::pin::pin!(gone);
    loop {
        let bytes = tokio::select! {
            bytes = attached.next() => bytes,
            () = detached.cancelled() => {
                attached.detached().await;
                None
            }
            () = &mut gone => None,
        };
        let Some(bytes) = bytes else { break };
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if written.await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
    pump.abort();
}

/// Input from the client until its end, or until the detach keys were typed.
async fn feed(
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    input: Option<Input>,
    keys: Option<Vec<u8>>,
    detached: &tokio_util::sync::CancellationToken,
) {
    let Some(mut input) = input else {
        return;
    };
    let mut buffer = vec![0; READ];
    let mut matched = 0;
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let mut data = Vec::with_capacity(count);
        match &keys {
            None => data.extend_from_slice(&buffer[..count]),
            Some(keys) => {
                for byte in &buffer[..count] {
                    if *byte == keys[matched] {
                        matched += 1;
                        if matched == keys.len() {
                            detached.cancel();
                            return;
                        }
                    } else {
                        data.extend_from_slice(&keys[..matched]);
                        matched = usize::from(*byte == keys[0]);
                        if matched == 0 {
                            data.push(*byte);
                        }
                    }
                }
            }
        }
        if !data.is_empty() && input.send(&data).await.is_err() {
            return;
        }
    }
    input.close().await;
}

/// An error text as the last frame of a stream.
pub(crate) fn error_frame(text: &str, tty: bool) -> Bytes {
    if tty {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let mut framed = Stream::System.header(text.len()).to_vec();
    framed.extend_from_slice(text.as_bytes());
    framed.into()
}

//! Attach over a WebSocket: what browsers speak.
//!
//! Flow: the handshake is answered here, the frames are tungstenite's. Output goes in binary messages (text below
//! API 1.28), raw as the process wrote it, both streams together; messages of the client are input, and its close is
//! the end of the attachment.
//! Source: RFC 6455; Docker's `api/server/router/container` (behaviour).
//! Not here: the streams themselves (`engine::containers`).

use crate::{
    call::{Asked, Call},
    reply::{self, Reply},
    versions::Version,
};
use base::{Error, Result};
use bytes::{Buf as _, Bytes, BytesMut};
use engine::containers::AttachStream;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

/// Since this version output is binary.
const BINARY: Version = Version(1, 28);
/// Longest message of a client, in bytes.
const LONGEST: usize = 16 << 20;

/// What a client asks for that wants a WebSocket.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: String,
    protocol: Option<HeaderValue>,
}

impl Handshake {
    /// Reads it from a request.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub(crate) fn of(call: &Asked) -> Result<Self> {
        let text = |name: HeaderName| {
            call.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
        };
        let has = |name: HeaderName, word: &str| {
            text(name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
            return Err(Error::invalid(
                "bad handshake: this endpoint speaks WebSocket alone (Upgrade: websocket)",
            ));
        }
        if text(header::SEC_WEBSOCKET_VERSION) != "13" {
            return Err(Error::invalid("bad handshake: version 13 of WebSocket is wanted"));
        }
        let key = text(header::SEC_WEBSOCKET_KEY);
        if key.is_empty() {
            return Err(Error::invalid("bad handshake: Sec-WebSocket-Key is missing"));
        }
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            protocol: call.headers.get(header::SEC_WEBSOCKET_PROTOCOL).cloned(),
        })
    }

    /// Answers with the streams of `attached`.
    ///
    /// # Errors
    /// `Invalid` when the connection cannot be taken over.
    pub(crate) fn take_over(self, call: &mut Call, attached: AttachStream) -> Result<Reply> {
        let upgrade = call
            .upgrade
            .take()
            .ok_or_else(|| Error::invalid("bad handshake: the connection cannot be upgraded"))?;
        let (peer, binary) = (call.peer.clone(), call.version >= BINARY);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(socket) => {
                    peer.taken_over();
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(LONGEST))
                        .max_frame_size(Some(LONGEST));
                    let socket = WebSocketStream::from_raw_socket(
                        TokioIo::new(socket),
                        Role::Server,
                        Some(config),
                    );
                    run(attached, socket.await, binary).await;
                }
                Err(err) => {
                    tracing::debug!(
                        err = err.to_string(),
                        "the client went away before the takeover"
                    );
                }
            }
        });
        let mut reply = Response::new(reply::full(Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = HeaderValue::from_str(&self.accept)
            .map_err(|e| Error::internal("cannot answer the handshake").caused_by(e))?;
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        Ok(reply)
    }
}

/// Runs both directions until the output ends or the client goes.
async fn run<S>(mut attached: AttachStream, socket: WebSocketStream<S>, binary: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sender, mut receiver) = socket.split();
    let mut input = attached.input.take();
    let mut frames = Unframed { raw: attached.tty, held: BytesMut::new() };
    loop {
        tokio::select! {
            bytes = attached.next() => {
                let Some(bytes) = bytes else { break };
                let plain = frames.strip(&bytes);
                if plain.is_empty() {
                    continue;
                }
                let message = match binary {
                    true => Message::Binary(plain),
                    false => Message::text(String::from_utf8_lossy(&plain).into_owned()),
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            message = receiver.next() => {
                let data = match message {
                    Some(Ok(Message::Binary(data))) => data,
                    Some(Ok(Message::Text(text))) => Bytes::copy_from_slice(text.as_bytes()),
                    // Pings are answered below us.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                };
                if let Some(writer) = &mut input
                    && writer.send(&data).await.is_err()
                {
                    input = None;
                }
            }
        }
    }
    if let Some(input) = input {
        input.close().await;
    }
    let _ = sender.close().await;
}

/// Takes the heads off docker's frames.
struct Unframed {
    /// A terminal's output has none.
    raw: bool,
    held: BytesMut,
}

impl Unframed {
    fn strip(&mut self, bytes: &[u8]) -> Bytes {
        if self.raw {
            return Bytes::copy_from_slice(bytes);
        }
        self.held.extend_from_slice(bytes);
        let mut plain = BytesMut::new();
        while let Some(head) = self.held.first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if self.held.len() < 8 + length {
                break;
            }
            self.held.advance(8);
            plain.extend_from_slice(&self.held.split_to(length));
        }
        plain.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lose_their_heads_wherever_they_are_cut() {
        let whole =
            [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"ab", &[2, 0, 0, 0, 0, 0, 0, 1], b"c"].concat();
        for cut in 0..=whole.len() {
            let mut frames = Unframed { raw: false, held: BytesMut::new() };
            let mut plain = frames.strip(&whole[..cut]).to_vec();
            plain.extend_from_slice(&frames.strip(&whole[cut..]));
            assert_eq!(plain, b"abc", "cut at {cut}");
        }
        let mut raw = Unframed { raw: true, held: BytesMut::new() };
        assert_eq!(&raw.strip(b"x")[..], b"x");
    }
}

//! An answer on its way in.

use super::{hijack::Hijacked, kind_of};
use crate::model::{ErrorReply, JsonMessage};
use base::{Error, Result};
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// A JSON answer is at most this long; `ps` of 10,000 containers has 20 MB.
const JSON_MAX: usize = 256 << 20;
/// One line of a stream is at most this long.
const LINE_MAX: usize = 64 << 20;

/// The answer to a request. Dropping it closes the connection.
#[derive(Debug)]
pub struct Response {
    response: http::Response<Incoming>,
    driver: Driver,
}

/// The task that drives the connection; ends with its owner.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn broken(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("the connection to the daemon broke").caused_by(err)
}

impl Response {
    pub(super) fn new(response: http::Response<Incoming>, driver: JoinHandle<()>) -> Self {
        Self { response, driver: Driver(driver) }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks.
    pub async fn bytes(self) -> Result<Bytes> {
        let collected = Limited::new(self.response.into_body(), JSON_MAX).collect().await;
        Ok(collected.map_err(broken)?.to_bytes())
    }

    /// Reads the whole body as JSON, `null` and folded keys as in `crate::decode`.
    ///
    /// # Errors
    /// `Internal` when it is not what was expected.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let bytes = self.bytes().await?;
        crate::decode(&bytes).map_err(|err| {
            Error::internal("cannot read the daemon's answer").caused_by(err.chain())
        })
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the body as JSON documents, one a line.
    pub fn lines<T: DeserializeOwned>(self) -> Lines<T> {
        Lines {
            response: self,
            buffer: BytesMut::new(),
            scanned: 0,
            kind: std::marker::PhantomData,
        }
    }

    /// Takes the connection over.
    ///
    /// # Errors
    /// `Internal` when the server did not hand it over.
    pub async fn hijack(mut self) -> Result<Hijacked> {
        if self.status() != StatusCode::SWITCHING_PROTOCOLS {
            let text = format!("unable to upgrade to tcp, received {}", self.status().as_u16());
            return Err(Error::internal(text));
        }
        let content_type = self.headers().get(header::CONTENT_TYPE);
        let framed = content_type.is_some_and(|v| v == "application/vnd.docker.multiplexed-stream");
        let upgraded = hyper::upgrade::on(&mut self.response).await.map_err(broken)?;
        // The connection's own task is done once it was handed over.
        drop(self.driver);
        Ok(Hijacked::new(upgraded, framed))
    }

    pub(super) async fn into_error(self) -> Error {
        let status = self.status();
        let bytes = self.bytes().await.unwrap_or_default();
        let message = crate::decode::<ErrorReply>(&bytes).map(|r| r.message).unwrap_or_default();
        let message = match message.is_empty() {
            true => String::from_utf8_lossy(&bytes).trim().to_owned(),
            false => message,
        };
        let message = match message.is_empty() {
            true => format!("the daemon answered {status}"),
            false => message,
        };
        Error::new(kind_of(status), message)
    }
}

/// JSON documents of a streaming answer.
#[derive(Debug)]
pub struct Lines<T> {
    response: Response,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line end.
    scanned: usize,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next document, `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks, `Internal` for a line that is no such document.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            let rest = &self.buffer[self.scanned..];
            if let Some(at) = rest.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1);
                self.scanned = 0;
                // `application/json-seq` puts a record separator before each document.
                let line = line.trim_ascii().strip_prefix(b"\x1e").unwrap_or(line.trim_ascii());
                if line.is_empty() {
                    continue;
                }
                return read(line).map(Some);
            }
            self.scanned = self.buffer.len();
            if self.scanned > LINE_MAX {
                return Err(Error::internal("a line of the daemon's answer is too long"));
            }
            match self.response.chunk().await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => {
                    let last = self.buffer.split();
                    self.scanned = 0;
                    let last = last.trim_ascii();
                    return if last.is_empty() { Ok(None) } else { read(last).map(Some) };
                }
            }
        }
    }
}

impl Lines<JsonMessage> {
    /// The next progress message; one that carries an error is that error.
    ///
    /// # Errors
    /// As [`Lines::next`], and the one that the stream reports.
    pub async fn progress(&mut self) -> Result<Option<JsonMessage>> {
        match self.next().await? {
            Some(JsonMessage { error_detail: Some(detail), .. }) => {
                Err(Error::internal(detail.message))
            }
            Some(JsonMessage { error, .. }) if !error.is_empty() => Err(Error::internal(error)),
            other => Ok(other),
        }
    }
}

fn read<T: DeserializeOwned>(mut line: &[u8]) -> Result<T> {
    let bytes = line.copy_to_bytes(line.len());
    crate::decode(&bytes)
        .map_err(|err| Error::internal("cannot read the daemon's answer").caused_by(err.chain()))
}

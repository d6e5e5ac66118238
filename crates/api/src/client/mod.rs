//! A typed client of the Engine API over unix sockets and TCP: plain calls, streams, taken-over
//! connections (attach, exec).
//!
//! Flow: [`Client::new`] parses the host; [`Client::negotiate`] asks the server for its version once;
//! a [`Request`] is built and sent; the [`Response`] is read as JSON, as lines, as bytes, or hijacked.
//! Invariants: every request has a connection of its own, closed with its response; an answer that is an
//! error becomes a [`base::Error`] with the server's message as its text.
//! Not here: the environment (`DOCKER_HOST`); the command line reads it.

mod hijack;
mod request;
mod response;

pub use hijack::{Frame, Frames, Hijacked, Input, StreamKind};
pub use request::{Body, Request};
pub use response::{Lines, Response};

use base::{Error, Kind, Result};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::{path::PathBuf, sync::Mutex, time::Duration};
use tokio::net::{TcpStream, UnixStream};

/// The newest version this client speaks.
pub const NEWEST: (u32, u32) = (1, 51);
/// A server that does not answer within this time is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// Docker's port without TLS.
const PLAIN_PORT: u16 = 2375;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    Tcp(String),
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    host: String,
    place: Place,
    version: Mutex<Option<(u32, u32)>>,
    agent: HeaderValue,
}

impl Client {
    /// A client of `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// `Invalid` for another form of host.
    pub fn new(host: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("unable to parse docker host `{host}`"));
        let (scheme, rest) = host.split_once("://").ok_or_else(bad)?;
        let place = match scheme {
            "unix" if !rest.is_empty() => Place::Unix(rest.into()),
            "tcp" | "http" if !rest.is_empty() => {
                let rest = rest.split('/').next().unwrap_or_default();
                let has_port = rest.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
                Place::Tcp(if has_port { rest.to_owned() } else { format!("{rest}:{PLAIN_PORT}") })
            }
            _ => return Err(bad()),
        };
        let agent = HeaderValue::from_static(concat!(
            "Gantry-Client/",
            env!("CARGO_PKG_VERSION"),
            " (linux)"
        ));
        Ok(Self { host: host.to_owned(), place, version: Mutex::new(None), agent })
    }

    /// The host as given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Uses this API version without asking the server.
    ///
    /// # Errors
    /// `Invalid` when it is not `major.minor`.
    pub fn pin(&self, version: &str) -> Result<()> {
        let parsed = parse_version(version)
            .ok_or_else(|| Error::invalid(format!("invalid API version {version:?}")))?;
        self.set_version(parsed);
        Ok(())
    }

    /// Asks the server for its version and speaks the older of both; the version then spoken.
    ///
    /// # Errors
    /// `Unavailable` when there is no server.
    pub async fn negotiate(&self) -> Result<(u32, u32)> {
        if let Some(known) = self.version() {
            return Ok(known);
        }
        let ping = self.send_raw(Request::head("/_ping"), None).await?;
        let server = ping
            .headers()
            .get("api-version")
            .and_then(|v| v.to_str().ok())
            .and_then(parse_version)
            // A server that does not say is older than the header.
            .unwrap_or((1, 24));
        let spoken = server.min(NEWEST);
        self.set_version(spoken);
        Ok(spoken)
    }

    /// Sends a request; negotiates first if that was not done. Answers below 400 come back, 304 too.
    ///
    /// # Errors
    /// `Unavailable` when there is no server; the server's error otherwise.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let version = self.negotiate().await?;
        let response = self.send_raw(request, Some(version)).await?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        Err(response.into_error().await)
    }

    fn version(&self) -> Option<(u32, u32)> {
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_version(&self, version: (u32, u32)) {
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(version);
    }

    async fn send_raw(&self, request: Request, version: Option<(u32, u32)>) -> Result<Response> {
        let mut request = request.into_http(version)?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, self.agent.clone());
        // Servers do not look at it, HTTP wants it.
        headers.insert(header::HOST, HeaderValue::from_static("api.gantry.localhost"));
        match &self.place {
            Place::Unix(path) => {
                let stream = self.dial(UnixStream::connect(path)).await?;
                self.exchange(TokioIo::new(stream), request).await
            }
            Place::Tcp(address) => {
                let stream = self.dial(TcpStream::connect(address)).await?;
                // Attach sends single keys; they must not wait for more.
                let _ = stream.set_nodelay(true);
                self.exchange(TokioIo::new(stream), request).await
            }
        }
    }

    async fn dial<S>(&self, dialled: impl Future<Output = std::io::Result<S>>) -> Result<S> {
        use std::io::{Error as Io, ErrorKind};
        let timed = tokio::time::timeout(CONNECT, dialled).await;
        timed.unwrap_or_else(|_| Err(Io::from(ErrorKind::TimedOut))).map_err(|err| {
            match err.kind() {
                ErrorKind::PermissionDenied => Error::forbidden(format!(
                    "permission denied while trying to connect to the daemon socket at {}",
                    self.host
                ))
                .caused_by(err),
                _ => Error::unavailable(format!(
                    "Cannot connect to the daemon at {}. Is the daemon running?",
                    self.host
                )),
            }
        })
    }

    async fn exchange<S>(
        &self,
        stream: TokioIo<S>,
        request: http::Request<Body>,
    ) -> Result<Response>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |err: hyper::Error| {
            Error::unavailable(format!("error during connect to {}", self.host)).caused_by(err)
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
        let driver = tokio::spawn(async move {
            // Its error reaches the caller through the request or the body.
            let _ = connection.with_upgrades().await;
        });
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok(Response::new(response, driver))
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The kind of error that a status code stands for.
fn kind_of(status: StatusCode) -> Kind {
    match status.as_u16() {
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        400..=499 => Kind::Invalid,
        501 => Kind::NotImplemented,
        503 => Kind::Unavailable,
        507 => Kind::Exhausted,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests;

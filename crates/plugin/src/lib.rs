//! Docker's plugins: programs that listen on a socket and are found by name.
//!
//! Flow: [`find`] looks for a name in the folders of plugins, [`Plugin::activate`] asks what it implements,
//! [`Plugin::call`] sends a document to one of its methods and gives the answer. [`Plugins`] is all that a machine
//! has; [`volume`] is what plugins for volumes understand.
//! Invariants: a plugin is looked for at each connection, so it may be started anew elsewhere; nothing waits
//! without a bound; an answer is at most [`LONGEST`] bytes.
//! Source: Docker's page "Docker Plugin API".
//! Not here: what is done with the answers (authorization: crate `server`; volumes: `engine`).

mod all;
mod find;
mod managed;
pub mod volume;

pub use all::Plugins;
pub use find::{Address, find};
pub use managed::{Managed, withdraw};

use base::{Error, Result};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// The content type of both directions.
const TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// Longest answer.
const LONGEST: usize = 16 << 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Where plugins are looked for when nothing else is said, in this order.
pub const FOLDERS: [&str; 3] =
    ["/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// One plugin, by name.
#[derive(Clone, Debug)]
pub struct Plugin {
    name: String,
    folders: Arc<[PathBuf]>,
    limit: Duration,
    patience: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Activated {
    #[serde(default)]
    implements: Option<Vec<String>>,
}

/// What a plugin answers instead of what was asked for.
#[derive(Deserialize)]
struct Complaint {
    #[serde(rename = "Err", default)]
    err: String,
}

impl Plugin {
    /// A plugin that is looked for in `folders`; a call lasts `limit` at most.
    pub fn new(name: &str, folders: Arc<[PathBuf]>, limit: Duration) -> Self {
        Self { name: name.to_owned(), folders, limit, patience: Duration::ZERO }
    }

    /// The same with another bound for a call.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The same, but one that is not there, or does not listen, is waited for that long: it may be starting.
    #[must_use]
    pub fn awaited(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the host sees a path that the plugin names: a managed one has a root of its own.
    ///
    /// # Errors
    /// `Internal` for a path that leads out of that.
    pub fn outside(&self, path: PathBuf) -> Result<PathBuf> {
        match Managed::find(&self.name, &self.folders) {
            Some(managed) => managed.outside(&path),
            None => Ok(path),
        }
    }

    /// Asks what it implements.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn activate(&self) -> Result<Vec<String>> {
        // A managed one is not asked: its configuration has told it.
        if let Some(managed) = Managed::find(&self.name, &self.folders) {
            return Ok(managed.implements);
        }
        let answer: Activated = self.call("Plugin.Activate", &serde_json::json!({})).await?;
        Ok(answer.implements.unwrap_or_default())
    }

    /// Calls a method.
    ///
    /// # Errors
    /// `NotFound` when there is no such plugin; `Unavailable` when it cannot be reached, is too slow, or
    /// says what is no answer; `NotImplemented` when it does not know the method; `Internal` with its own words when it
    /// complains.
    pub async fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        argument: &(impl Serialize + Sync),
    ) -> Result<A> {
        let body = serde_json::to_vec(argument)
            .map_err(|e| Error::internal(format!("{method}: cannot encode")).caused_by(e))?;
        let stream = self.reach().await?;
        let answered = tokio::time::timeout(self.limit, send(stream, method, body)).await;
        let answer = answered.map_err(|_| {
            let seconds = self.limit.as_secs();
            Error::unavailable(format!("{method}: no answer within {seconds} seconds"))
        })??;
        // Some say nothing when they have nothing to say.
        let answer = if answer.trim_ascii().is_empty() { b"{}".as_slice() } else { &answer };
        serde_json::from_slice(answer).map_err(|e| {
            Error::unavailable(format!("{method}: cannot read the answer")).caused_by(e)
        })
    }

    /// Connects, again and again while there is patience left.
    async fn reach(&self) -> Result<Box<dyn Stream>> {
        let late = tokio::time::Instant::now() + self.patience;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.connect().await {
                Err(_) if tokio::time::Instant::now() + pause < late => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                done => return done,
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>> {
        let found = find(&self.name, &self.folders)?;
        let shown = found.to_string();
        let failed = |err: &dyn std::fmt::Display| {
            Error::unavailable(format!("cannot reach plugin {} at {shown}", self.name))
                .caused_by(err.to_string())
        };
        let connecting = async {
            Ok(match &found {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|e| failed(&e))?;
                    Box::new(stream) as Box<dyn Stream>
                }
                Address::Tcp { host, trust: None } => {
                    Box::new(TcpStream::connect(host).await.map_err(|e| failed(&e))?)
                }
                Address::Tcp { host, trust: Some(trust) } => {
                    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                    let name = ServerName::try_from(name.to_owned()).map_err(|e| failed(&e))?;
                    let config = trust.config().map_err(|e| failed(&e))?;
                    let stream = TcpStream::connect(host).await.map_err(|e| failed(&e))?;
                    let connector = tokio_rustls::TlsConnector::from(config);
                    Box::new(connector.connect(name, stream).await.map_err(|e| failed(&e))?)
                }
            })
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected,
            Err(late) => Err(failed(&late)),
        }
    }
}

async fn send(stream: Box<dyn Stream>, method: &str, body: Vec<u8>) -> Result<Bytes> {
    let failed = |what: &str, err: &dyn std::fmt::Display| {
        Error::unavailable(format!("{method}: {what}")).caused_by(err.to_string())
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed("cannot talk", &e))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/{method}"))
        .header(header::HOST, "plugin")
        .header(header::ACCEPT, TYPE)
        .header(header::CONTENT_TYPE, TYPE)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| failed("cannot ask", &e))?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(|e| failed("cannot ask", &e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok::<_, Error>((status, body.map_err(|e| failed("cannot read the answer", &e))?.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(asked);
    let (status, body) = tokio::select! {
        done = &mut asked => done?,
        // The connection may end with the answer in hand.
        _ = &mut connection => asked.await?,
    };
    if status.is_success() {
        return Ok(body);
    }
    let complaint = serde_json::from_slice::<Complaint>(&body).map(|c| c.err);
    let said = complaint
        .ok()
        .filter(|e| !e.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().chars().take(1024).collect());
    // A method that the plugin does not know.
    if status == http::StatusCode::NOT_FOUND {
        return Err(Error::not_implemented(format!("{method}: {said}")));
    }
    Err(Error::internal(format!("{method}: {said}")))
}

/// Any connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

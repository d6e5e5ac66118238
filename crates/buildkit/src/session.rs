//! Sessions: connections that a client opens and on which the engine is the HTTP/2 client, to fetch files,
//! credentials and secrets while a build runs.
//!
//! Invariants: a session is known from its handshake to the end of its connection, and whatever waits for it
//! hears of that end at once; only methods that the client named are called.

use crate::proto::{filesync, health, secrets, ssh};
use base::{Error, Result};
use hyper::{
    body::Incoming,
    client::conn::http2,
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// How long a build waits for its session to come.
const COMES: Duration = Duration::from_secs(5);
/// How often a client is asked whether it is there.
const PULSE: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes that a client may send ahead, per stream and connection.
const WINDOW: u32 = 4 << 20;
/// Bytes of one message of a session.
pub(crate) const MESSAGE: usize = 16 << 20;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: String,
    /// What the client calls the folder that it builds: contexts are kept by it.
    pub(crate) shared_key: String,
    methods: HashSet<String>,
    channel: Channel,
    /// The connection has ended.
    pub(crate) gone: CancellationToken,
}

/// What the headers of a session say.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// `X-Docker-Expose-Session-Uuid`
    pub id: String,
    /// `X-Docker-Expose-Session-Sharedkey`
    pub shared_key: String,
    /// `X-Docker-Expose-Session-Grpc-Method`, each.
    pub methods: Vec<String>,
}

impl Hello {
    /// Reads the headers of `POST /session`.
    ///
    /// # Errors
    /// `Invalid` without an id.
    pub fn read(headers: &http::HeaderMap) -> Result<Self> {
        let one = |name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let methods = headers.get_all("x-docker-expose-session-grpc-method").iter();
        let hello = Self {
            id: one("x-docker-expose-session-uuid"),
            shared_key: one("x-docker-expose-session-sharedkey"),
            methods: methods.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect(),
        };
        match hello.id.is_empty() || hello.id.len() > 256 {
            true => Err(Error::invalid("the session has no id (X-Docker-Expose-Session-Uuid)")),
            false => Ok(hello),
        }
    }
}

/// The engine's side of a session's connection.
#[derive(Clone)]
pub(crate) struct Channel(http2::SendRequest<Body>);

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel")
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Session {
    fn origin() -> http::Uri {
        http::Uri::from_static("http://localhost")
    }

    /// Whether the client serves `method` (`/package.Service/Method`).
    pub(crate) fn serves(&self, method: &str) -> bool {
        self.methods.contains(method)
    }

    /// Wants `method`.
    ///
    /// # Errors
    /// `Invalid` when the client does not serve it.
    pub(crate) fn needs(&self, method: &str) -> Result<()> {
        match self.serves(method) {
            true => Ok(()),
            false => {
                Err(Error::invalid(format!("the client does not serve {method} in its session")))
            }
        }
    }

    /// Files from the client.
    pub(crate) fn files(&self) -> crate::proto::packet::file_sync_client::FileSyncClient<Channel> {
        crate::proto::packet::file_sync_client::FileSyncClient::with_origin(
            self.channel.clone(),
            Self::origin(),
        )
        .max_decoding_message_size(MESSAGE)
    }

    /// Files to the client.
    pub(crate) fn sink(&self) -> filesync::file_send_client::FileSendClient<Channel> {
        filesync::file_send_client::FileSendClient::with_origin(
            self.channel.clone(),
            Self::origin(),
        )
        .max_decoding_message_size(MESSAGE)
    }

    /// A tree to the client.
    pub(crate) fn tree_sink(
        &self,
    ) -> crate::proto::packet::file_send_client::FileSendClient<Channel> {
        crate::proto::packet::file_send_client::FileSendClient::with_origin(
            self.channel.clone(),
            Self::origin(),
        )
        .max_decoding_message_size(MESSAGE)
    }

    /// Credentials for registries.
    pub(crate) fn auth(&self) -> filesync::auth_client::AuthClient<Channel> {
        filesync::auth_client::AuthClient::with_origin(self.channel.clone(), Self::origin())
    }

    /// Secrets.
    pub(crate) fn secrets(&self) -> secrets::secrets_client::SecretsClient<Channel> {
        secrets::secrets_client::SecretsClient::with_origin(self.channel.clone(), Self::origin())
    }

    /// Agents.
    pub(crate) fn ssh(&self) -> ssh::ssh_client::SshClient<Channel> {
        ssh::ssh_client::SshClient::with_origin(self.channel.clone(), Self::origin())
    }

    /// Archives from the client.
    pub(crate) fn uploads(&self) -> crate::proto::upload::upload_client::UploadClient<Channel> {
        crate::proto::upload::upload_client::UploadClient::with_origin(
            self.channel.clone(),
            Self::origin(),
        )
        .max_decoding_message_size(MESSAGE)
    }

    /// Its connection, for services that have no client of their own.
    pub(crate) fn channel(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::with_origin(self.channel.clone(), Self::origin())
            .max_decoding_message_size(MESSAGE)
    }

    /// Asks now and then whether the client is there, until it is not.
    async fn watch(&self) {
        if !self.serves("/grpc.health.v1.Health/Check") {
            return std::future::pending().await;
        }
        let mut client =
            health::health_client::HealthClient::with_origin(self.channel.clone(), Self::origin());
        loop {
            tokio::time::sleep(PULSE).await;
            let asked = client.check(health::HealthCheckRequest::default());
            match tokio::time::timeout(ANSWER, asked).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: Mutex<HashMap<String, Arc<Session>>>,
    came: Notify,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks with the client on `io` until it goes.
    ///
    /// # Errors
    /// `Conflict` for an id that is taken; when the handshake fails.
    pub(crate) async fn serve<I>(&self, hello: Hello, io: I) -> Result<()>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .max_frame_size(1 << 20)
            .handshake::<I, Body>(io)
            .await
            .map_err(|e| Error::invalid("cannot speak HTTP/2 with the session").caused_by(e))?;
        let gone = CancellationToken::new();
        let _end = gone.clone().drop_guard();
        let session = Arc::new(Session {
            id: hello.id.clone(),
            shared_key: hello.shared_key,
            methods: hello.methods.into_iter().collect(),
            channel: Channel(sender),
            gone,
        });
        {
            let mut all = self.lock();
            if all.contains_key(&hello.id) {
                return Err(Error::conflict(format!("session {} is there already", hello.id)));
            }
            all.insert(hello.id.clone(), Arc::clone(&session));
        }
        let _listed = Listed { all: self, id: &hello.id };
        self.came.notify_waiters();
        tokio::select! {
            ended = connection => {
                if let Err(err) = ended {
                    tracing::debug!(err = base::error::chain(&err), "a session ended");
                }
            }
            () = session.watch() => tracing::debug!("the client of a session does not answer"),
        }
        Ok(())
    }

    /// The session called `id`, which may be about to come.
    ///
    /// # Errors
    /// `NotFound` when it does not.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Session>> {
        let find = async {
            loop {
                let came = self.came.notified();
                let mut came = std::pin::pin!(came);
                came.as_mut().enable();
                if let Some(session) = self.lock().get(id) {
                    return Arc::clone(session);
                }
                came.await;
            }
        };
        tokio::time::timeout(COMES, find).await.map_err(|_| {
            Error::not_found(format!("no active session for {id}: context deadline exceeded"))
        })
    }
}

/// Takes a session off the list when it ends, however it does.
struct Listed<'s> {
    all: &'s Sessions,
    id: &'s str,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(self.id);
    }
}

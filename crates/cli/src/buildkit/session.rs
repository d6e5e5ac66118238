//! What the engine may ask of us while a build runs: files, secrets, agents, credentials, archives, blobs.
//!
//! Invariant: nothing is given that the command line did not name.

use super::{
    blobs::{self, Stores},
    receive::{Target, Targets},
    send::Folders,
    wire::{self, Duplex, MESSAGE, filesync, packet, secrets, ssh, upload},
};
use crate::{config::Config, credentials};
use bollard_buildkit_proto::health::health_server::HealthServer;
use hyper::body::Incoming;
use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tonic::{Request, Response, Status, Streaming, body::Body};
use tower_service::Service as _;

/// Bytes of a secret.
const SECRET: u64 = 500 << 10;
/// Bytes of one message.
const PIECE: usize = 32 << 10;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    File(PathBuf),
    Variable(String),
}

/// Everything that the engine may ask for.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Folders by name.
    pub(super) folders: HashMap<String, PathBuf>,
    /// Secrets by id.
    pub(super) secrets: HashMap<String, Secret>,
    /// Sockets of agents by id.
    pub(super) agents: HashMap<String, PathBuf>,
    /// Where results go, by exporter.
    pub(super) targets: HashMap<usize, Target>,
    /// Folders of blobs by the name of the store.
    pub(super) stores: HashMap<String, PathBuf>,
    /// What standard input began with, when the context comes from there.
    pub(super) upload: Option<Vec<u8>>,
}

/// The offer, as it is served.
#[derive(Clone)]
pub(super) struct Session {
    folders: Folders,
    targets: Targets,
    stores: Stores,
    rest: Arc<Rest>,
}

struct Rest {
    secrets: HashMap<String, Secret>,
    agents: HashMap<String, PathBuf>,
    upload: Mutex<Option<Vec<u8>>>,
    config: Config,
}

impl Session {
    pub(super) fn new(offer: Offer, config: Config) -> Self {
        Self {
            folders: Folders(Arc::new(offer.folders)),
            targets: Targets(Arc::new(offer.targets)),
            stores: Stores(Arc::new(offer.stores)),
            rest: Arc::new(Rest {
                secrets: offer.secrets,
                agents: offer.agents,
                upload: Mutex::new(offer.upload),
                config,
            }),
        }
    }

    /// What is served, as the engine is told.
    pub(super) fn methods(&self) -> Vec<&'static str> {
        let mut all = vec![
            "/grpc.health.v1.Health/Check",
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ];
        if !self.targets.0.is_empty() {
            all.push("/moby.filesync.v1.FileSend/DiffCopy");
        }
        if !self.rest.agents.is_empty() {
            all.extend([
                "/moby.sshforward.v1.SSH/CheckAgent",
                "/moby.sshforward.v1.SSH/ForwardAgent",
            ]);
        }
        if !self.stores.0.is_empty() {
            all.extend(blobs::METHODS);
        }
        if self.rest.upload.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            all.push("/moby.upload.v1.Upload/Pull");
        }
        all
    }

    /// Serves until the connection ends.
    pub(super) async fn serve(self, io: Box<dyn Duplex>) {
        wire::serve(io, move |request| self.clone().answer(request)).await;
    }

    async fn answer(self, request: http::Request<Incoming>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let Some((service, _)) = path.trim_start_matches('/').split_once('/') else {
            return Status::unimplemented(format!("unknown method {path}")).into_http();
        };
        let answered = match service {
            "grpc.health.v1.Health" => HealthServer::new(wire::Healthy).call(request).await,
            "moby.filesync.v1.Auth" => {
                filesync::auth_server::AuthServer::from_arc(self.rest).call(request).await
            }
            "moby.filesync.v1.FileSync" => {
                packet::file_sync_server::FileSyncServer::new(self.folders)
                    .max_decoding_message_size(MESSAGE)
                    .call(request)
                    .await
            }
            "moby.filesync.v1.FileSend" => match self.targets.of(request.headers()) {
                Some(Target::Folder(_)) => {
                    packet::file_send_server::FileSendServer::new(self.targets)
                        .max_decoding_message_size(MESSAGE)
                        .call(request)
                        .await
                }
                _ => {
                    filesync::file_send_server::FileSendServer::new(self.targets)
                        .max_decoding_message_size(MESSAGE)
                        .call(request)
                        .await
                }
            },
            "moby.buildkit.secrets.v1.Secrets" => {
                secrets::secrets_server::SecretsServer::from_arc(self.rest).call(request).await
            }
            "moby.sshforward.v1.SSH" => {
                ssh::ssh_server::SshServer::from_arc(self.rest).call(request).await
            }
            "moby.upload.v1.Upload" => {
                upload::upload_server::UploadServer::from_arc(self.rest).call(request).await
            }
            "containerd.services.content.v1.Content" => {
                return blobs::call(self.stores, request).await;
            }
            _ => return Status::unimplemented(format!("unknown service {service}")).into_http(),
        };
        match answered {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

#[tonic::async_trait]
impl secrets::secrets_server::Secrets for Rest {
    async fn get_secret(
        &self,
        request: Request<secrets::GetSecretRequest>,
    ) -> Result<Response<secrets::GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let missing = || Status::not_found(format!("secret {id}: not found"));
        let data = match self.secrets.get(&id).ok_or_else(missing)? {
            Secret::Variable(name) => match std::env::var_os(name) {
                Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
                None => return Err(missing()),
            },
            Secret::File(path) => {
                let fail = |e: std::io::Error| {
                    Status::unknown(format!(
                        "cannot read the secret {id}: {}",
                        crate::error::text(&e)
                    ))
                };
                let mut data = Vec::new();
                let file = File::open(path).map_err(fail)?;
                file.take(SECRET + 1).read_to_end(&mut data).map_err(fail)?;
                data
            }
        };
        match data.len() as u64 > SECRET {
            true => {
                Err(Status::invalid_argument(format!("secret {id} is larger than {SECRET} bytes")))
            }
            false => Ok(Response::new(secrets::GetSecretResponse { data })),
        }
    }
}

#[tonic::async_trait]
impl filesync::auth_server::Auth for Rest {
    async fn credentials(
        &self,
        request: Request<filesync::CredentialsRequest>,
    ) -> Result<Response<filesync::CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let config = self.config.clone();
        let found = tokio::task::spawn_blocking(move || {
            let key = match host.as_str() {
                "registry-1.docker.io" => credentials::HUB,
                host => host,
            };
            credentials::stored(&config, key)
        })
        .await
        .map_err(|e| Status::internal(e.to_string()))?
        .map_err(|fail| Status::unknown(fail.message))?
        .unwrap_or_default();
        let answer = match found.identity_token.is_empty() {
            true => {
                filesync::CredentialsResponse { username: found.username, secret: found.password }
            }
            false => filesync::CredentialsResponse {
                username: String::new(),
                secret: found.identity_token,
            },
        };
        Ok(Response::new(answer))
    }

    async fn fetch_token(
        &self,
        _: Request<filesync::FetchTokenRequest>,
    ) -> Result<Response<filesync::FetchTokenResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }

    async fn get_token_authority(
        &self,
        _: Request<filesync::GetTokenAuthorityRequest>,
    ) -> Result<Response<filesync::GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<filesync::VerifyTokenAuthorityRequest>,
    ) -> Result<Response<filesync::VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }
}

type Talk = Pin<
    Box<dyn futures_util::Stream<Item = Result<ssh::BytesMessage, Status>> + std::marker::Send>,
>;

impl Rest {
    fn agent(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { "default" } else { id };
        let found = self.agents.get(id);
        found.ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

#[tonic::async_trait]
impl ssh::ssh_server::Ssh for Rest {
    type ForwardAgentStream = Talk;

    async fn check_agent(
        &self,
        request: Request<ssh::CheckAgentRequest>,
    ) -> Result<Response<ssh::CheckAgentResponse>, Status> {
        self.agent(&request.into_inner().id)?;
        Ok(Response::new(ssh::CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<ssh::BytesMessage>>,
    ) -> Result<Response<Talk>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|v| v.to_str().ok());
        let path = self.agent(id.unwrap_or_default())?;
        let stream = tokio::net::UnixStream::connect(path).await.map_err(|e| {
            Status::unavailable(format!("cannot reach the agent at {}: {e}", path.display()))
        })?;
        let (mut reader, mut writer) = stream.into_split();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if writer.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut buffer = vec![0; PIECE];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                let message = ssh::BytesMessage { data: buffer[..count].to_vec() };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

type Pieces = Pin<
    Box<dyn futures_util::Stream<Item = Result<upload::BytesMessage, Status>> + std::marker::Send>,
>;

#[tonic::async_trait]
impl upload::upload_server::Upload for Rest {
    type PullStream = Pieces;

    async fn pull(
        &self,
        _: Request<Streaming<upload::BytesMessage>>,
    ) -> Result<Response<Pieces>, Status> {
        let early = self.upload.lock().unwrap_or_else(PoisonError::into_inner).take();
        let early = early.ok_or_else(|| Status::not_found("standard input was read already"))?;
        let (sender, receiver) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || {
            if sender.blocking_send(Ok(upload::BytesMessage { data: early })).is_err() {
                return;
            }
            let mut stdin = std::io::stdin().lock();
            loop {
                let mut data = vec![0; PIECE];
                let piece = match stdin.read(&mut data) {
                    Ok(0) => return,
                    Ok(count) => {
                        data.truncate(count);
                        Ok(upload::BytesMessage { data })
                    }
                    Err(err) => Err(Status::unknown(format!("cannot read standard input: {err}"))),
                };
                let failed = piece.is_err();
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

//! Folders of blobs for the engine: OCI layouts that are contexts, caches on our disk.
//!
//! A store is a folder with `blobs/sha256/HEX`, and for caches an `index.json` that is written at the end.
//! Invariant: a blob is under its name only when it is what the name says.
//! Source: containerd's `containerd.services.content.v1.Content`, as BuildKit's clients serve it.

use super::wire::{Channel, MESSAGE};
use content::{
    Action, INFO, Info, InfoRequest, InfoResponse, Many, READ, ReadRequest, ReadResponse, STORE,
    WRITE, WriteRequest, WriteResponse, many,
};
use hyper::body::Incoming;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, body::Body};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// What is served of a store.
pub(super) const METHODS: [&str; 3] = [INFO, READ, WRITE];

/// Folders by the name of the store.
#[derive(Clone, Debug)]
pub(super) struct Stores(pub(super) Arc<HashMap<String, PathBuf>>);

impl Stores {
    fn folder<T>(&self, request: &Request<T>) -> Result<PathBuf, Status> {
        let name = request.metadata().get(STORE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("unknown content store {name:?}")))
    }
}

fn path(folder: &Path, digest: &str) -> Result<PathBuf, Status> {
    let digest: base::Digest = digest
        .parse()
        .map_err(|e: base::Error| Status::invalid_argument(format!("{digest:?}: {}", e.chain())))?;
    Ok(folder.join("blobs/sha256").join(digest.hex()))
}

fn told(what: &str, err: &io::Error) -> Status {
    match err.kind() {
        io::ErrorKind::NotFound => Status::not_found(format!("{what}: not found")),
        _ => Status::unknown(format!("{what}: {}", crate::error::text(err))),
    }
}

/// Answers one call.
pub(super) async fn call(stores: Stores, request: http::Request<Incoming>) -> http::Response<Body> {
    match request.uri().path().rsplit('/').next().unwrap_or_default() {
        "Info" => {
            let codec = ProstCodec::<InfoResponse, InfoRequest>::default();
            tonic::server::Grpc::new(codec).unary(Informs(stores), request).await
        }
        "Read" => {
            let codec = ProstCodec::<ReadResponse, ReadRequest>::default();
            tonic::server::Grpc::new(codec).server_streaming(Reads(stores), request).await
        }
        "Write" => {
            let codec = ProstCodec::<WriteResponse, WriteRequest>::default();
            tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MESSAGE)
                .streaming(Writes(stores), request)
                .await
        }
        other => Status::unimplemented(format!("content stores do not serve {other}")).into_http(),
    }
}

/// A small JSON file that the engine keeps of a build; nothing when it cannot be read.
pub(super) async fn of_history(channel: &Channel, digest: &str) -> Option<serde_json::Value> {
    let origin = http::Uri::from_static("http://localhost");
    let mut client = tonic::client::Grpc::with_origin(channel.clone(), origin)
        .max_decoding_message_size(MESSAGE);
    client.ready().await.ok()?;
    let request = Request::new(ReadRequest { digest: digest.to_owned(), offset: 0, size: 0 });
    let path = http::uri::PathAndQuery::from_static(READ);
    let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
    let mut pieces = client.server_streaming(request, path, codec).await.ok()?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.ok()? {
        bytes.extend_from_slice(&piece.data);
    }
    serde_json::from_slice(&bytes).ok()
}

#[derive(Clone)]
struct Informs(Stores);
#[derive(Clone)]
struct Reads(Stores);
#[derive(Clone)]
struct Writes(Stores);

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + std::marker::Send>>;
impl Service<Request<InfoRequest>> for Informs {
    type Response = Response<InfoResponse>;
    type Error = Status;
    type Future = Answer<InfoResponse>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let folder = self.0.folder(&request);
        Box::pin(async move {
            let digest = request.into_inner().digest;
            let size = fs::metadata(path(&folder?, &digest)?).map_err(|e| told(&digest, &e))?.len();
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            Ok(Response::new(InfoResponse { info: Some(Info { digest, size }) }))
        })
    }
}

impl Service<Request<ReadRequest>> for Reads {
    type Response = Response<Many<ReadResponse>>;
    type Error = Status;
    type Future = Answer<Many<ReadResponse>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let folder = self.0.folder(&request);
        Box::pin(async move {
            let asked = request.into_inner();
            let fail = |e: io::Error| told(&asked.digest, &e);
            let offset = u64::try_from(asked.offset)
                .map_err(|_| Status::invalid_argument("the offset is negative"))?;
            let mut file = File::open(path(&folder?, &asked.digest)?).map_err(fail)?;
            file.seek(SeekFrom::Start(offset)).map_err(fail)?;
            let most = match u64::try_from(asked.size) {
                Ok(0) | Err(_) => u64::MAX,
                Ok(size) => size,
            };
            let fail = |err: &io::Error| told("cannot read a blob", err);
            Ok(Response::new(content::pieces(file.take(most), asked.offset, fail)))
        })
    }
}

impl Service<Request<Streaming<WriteRequest>>> for Writes {
    type Response = Response<Many<WriteResponse>>;
    type Error = Status;
    type Future = Answer<Many<WriteResponse>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<WriteRequest>>) -> Self::Future {
        let folder = self.0.folder(&request);
        Box::pin(async move {
            let folder = folder?;
            let mut incoming = request.into_inner();
            let (sender, receiver) = mpsc::channel(4);
            tokio::spawn(async move {
                let mut blob = match Blob::new(&folder) {
                    Ok(blob) => blob,
                    Err(err) => {
                        drop(sender.send(Err(told("cannot write a blob", &err))).await);
                        return;
                    }
                };
                loop {
                    let Ok(Some(request)) = incoming.message().await else { return };
                    let answer = tokio::task::block_in_place(|| blob.take(&request));
                    let ended = answer.is_err();
                    if sender.send(answer).await.is_err() || ended {
                        return;
                    }
                }
            });
            Ok(Response::new(many(receiver)))
        })
    }
}

/// A blob that is being written; it goes unless it was ended.
struct Blob {
    folder: PathBuf,
    partial: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    offset: i64,
}

impl Blob {
    fn new(folder: &Path) -> io::Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let partial = blobs.join(format!(".partial-{}-{number}", std::process::id()));
        let file = File::create(&partial)?;
        let hasher = <sha2::Sha256 as sha2::Digest>::new();
        Ok(Self { folder: folder.to_owned(), partial, file, hasher, offset: 0 })
    }

    fn take(&mut self, request: &WriteRequest) -> Result<WriteResponse, Status> {
        let fail = |e: io::Error| told("cannot write a blob", &e);
        let mut answer = WriteResponse {
            action: request.action,
            total: request.total,
            ..WriteResponse::default()
        };
        if request.action > 0 {
            if request.offset != self.offset {
                return Err(Status::out_of_range(format!(
                    "a blob has come up to {}, not {}",
                    self.offset, request.offset
                )));
            }
            self.file.write_all(&request.data).map_err(fail)?;
            sha2::Digest::update(&mut self.hasher, &request.data);
            self.offset += i64::try_from(request.data.len()).unwrap_or_default();
        }
        answer.offset = self.offset;
        if request.action == Action::Commit as i32 {
            let sum = sha2::Digest::finalize(self.hasher.clone());
            let digest = base::Digest::from_sha256(sum.into()).to_string();
            if !request.expected.is_empty() && request.expected != digest {
                return Err(Status::failed_precondition(format!(
                    "unexpected digest {digest}, wanted {}",
                    request.expected
                )));
            }
            fs::rename(&self.partial, path(&self.folder, &digest)?).map_err(fail)?;
            answer.digest = digest;
        }
        Ok(answer)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // One that was ended has its name already.
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_kept_under_its_own_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let write = |data: &[u8], expected: &str| {
            let mut blob = Blob::new(dir.path()).unwrap();
            blob.take(&WriteRequest {
                action: Action::Commit as i32,
                data: data.to_vec(),
                expected: expected.to_owned(),
                ..WriteRequest::default()
            })
        };
        let digest = base::Digest::sha256(b"x").to_string();
        assert_eq!(write(b"x", &digest).unwrap().digest, digest);
        assert!(write(b"y", &digest).is_err());
        assert_eq!(fs::read(path(dir.path(), &digest).unwrap()).unwrap(), b"x");
        assert_eq!(fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 1);
        assert!(path(dir.path(), "../../etc/passwd").is_err());
    }
}

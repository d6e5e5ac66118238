//! Content stores of the client: folders of blobs that it offers in its session, for local caches
//! (`local:FOLDER`) and images in OCI layouts (`oci:NAME`).
//!
//! Invariant: nothing that is read is trusted before its digest was found.
//! Source: containerd's `containerd.services.content.v1.Content`, as BuildKit's sessions serve it.

pub(crate) mod serve;

use crate::{failure::from_status, job::Job, session::Session};
use base::{Digest, Error, Result};
use bytes::Bytes;
use content::{
    Action, INFO, InfoRequest, InfoResponse, READ, ReadRequest, ReadResponse, STORE, WRITE,
    WriteRequest, WriteResponse,
};
use image::manifest::Descriptor;
use std::{collections::HashMap, io::Read as _, sync::Arc};
use tokio::sync::mpsc;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// Bytes of one message to the client.
const PIECE: usize = 1 << 20;

/// A content store of the client.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    session: Arc<Session>,
    id: String,
}

impl Store {
    /// The store called `id` of the client behind `session`; an empty one is the build's own.
    ///
    /// # Errors
    /// When there is no such session, or the client offers no content.
    pub(crate) async fn of(job: &Job, session: &str, id: String) -> Result<Self> {
        let session = job.session(session).await?;
        session.needs(READ)?;
        Ok(Self { session, id })
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        let id = self.id.parse().map_err(|_| {
            Error::invalid(format!("malformed name of a content store: {:?}", self.id))
        })?;
        request.metadata_mut().insert(STORE, id);
        Ok(request)
    }

    /// The size of a blob; nothing when it is not there.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let what = format!("cannot look for blob {digest} at the client");
        let mut client = self.session.channel();
        let request = self.request(InfoRequest { digest: digest.to_string() })?;
        ready(&mut client).await?;
        let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
        let path = http::uri::PathAndQuery::from_static(INFO);
        match client.unary(request, path, codec).await {
            Ok(answer) => {
                let info = answer.into_inner().info.unwrap_or_default();
                Ok(Some(u64::try_from(info.size).unwrap_or_default()))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(from_status(what, &status)),
        }
    }

    /// The descriptor of a blob whose kind is not known.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub(crate) async fn descriptor(&self, digest: &Digest) -> Result<Descriptor> {
        let size = self.size(digest).await?.ok_or_else(|| {
            Error::not_found(format!("the client has no blob {digest} in {}", self.id))
        })?;
        Ok(Descriptor::new("", digest.clone(), size))
    }

    /// Hands on the bytes of a blob as they come.
    async fn read(&self, blob: &Descriptor, to: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let what = format!("cannot read blob {} at the client", blob.digest);
        let mut client = self.session.channel();
        let request = ReadRequest { digest: blob.digest.to_string(), offset: 0, size: 0 };
        let request = self.request(request)?;
        ready(&mut client).await?;
        let path = http::uri::PathAndQuery::from_static(READ);
        let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
        let answer = client.server_streaming(request, path, codec).await;
        let mut pieces = answer.map_err(|s| from_status(&*what, &s))?.into_inner();
        let mut left = blob.size;
        while let Some(piece) = pieces.message().await.map_err(|s| from_status(&*what, &s))? {
            left = left.checked_sub(piece.data.len() as u64).ok_or_else(|| {
                Error::invalid(format!("{what}: it is larger than {} bytes", blob.size))
            })?;
            if to.send(Ok(piece.data.into())).await.is_err() {
                return Ok(());
            }
        }
        match left {
            0 => Ok(()),
            left => Err(Error::invalid(format!("{what}: {left} bytes of it are missing"))),
        }
    }

    /// A small blob whole, checked.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when it is larger than `limit` or not what it should be.
    pub(crate) async fn small(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if blob.size > limit {
            return Err(Error::invalid(format!(
                "blob {} has {} bytes, {limit} are allowed",
                blob.digest, blob.size
            )));
        }
        let (sender, mut pieces) = mpsc::channel(4);
        let gather = async {
            let mut all = Vec::new();
            while let Some(piece) = pieces.recv().await {
                let piece: Bytes = piece?;
                all.extend_from_slice(&piece);
            }
            Ok::<_, Error>(all)
        };
        let read = async {
            let sender = sender;
            self.read(blob, &sender).await
        };
        let (read, all) = tokio::join!(read, gather);
        read?;
        let all = all?;
        match Digest::sha256(&all) == blob.digest {
            true => Ok(all),
            false => Err(Error::invalid(format!("blob {} of the client is another", blob.digest))),
        }
    }

    /// Takes a blob into the engine's content store.
    ///
    /// # Errors
    /// `NotFound`; when it is not what it should be; of the disk.
    pub(crate) async fn fetch(&self, job: &Job, blob: &Descriptor) -> Result<()> {
        let (sender, pieces) = mpsc::channel(8);
        let read = async {
            let sender = sender;
            match self.read(blob, &sender).await {
                Ok(()) => {}
                // Whoever writes hears of it and gives up.
                Err(err) => drop(sender.send(Err(err)).await),
            }
        };
        let (received, ()) = tokio::join!(job.host.receive_blob(blob, pieces), read);
        received
    }

    /// Gives the client a blob of the engine's content store, unless it has it.
    ///
    /// # Errors
    /// When the client cannot take it.
    pub(crate) async fn send(&self, job: &Job, blob: &Descriptor) -> Result<()> {
        if self.size(&blob.digest).await?.is_some() {
            return Ok(());
        }
        let what = format!("cannot write blob {} at the client", blob.digest);
        let (mut file, size) = job.host.blob(&blob.digest)?;
        let (total, expected) = (i64::try_from(size).unwrap_or(i64::MAX), blob.digest.to_string());
        let reference = format!("gantry-{}-{}", blob.digest.short(), base::ContainerId::random());
        let (sender, requests) = mpsc::channel::<WriteRequest>(2);
        let feed = tokio::task::spawn_blocking(move || {
            let mut offset = 0_i64;
            loop {
                let mut data = vec![0; PIECE];
                let mut filled = 0;
                while filled < PIECE {
                    match file.read(&mut data[filled..])? {
                        0 => break,
                        n => filled += n,
                    }
                }
                data.truncate(filled);
                let last = filled < PIECE;
                let action = if last { Action::Commit } else { Action::Write };
                let request = WriteRequest {
                    action: action as i32,
                    reference: reference.clone(),
                    total,
                    expected: expected.clone(),
                    offset,
                    data,
                    labels: HashMap::new(),
                };
                offset += i64::try_from(filled).unwrap_or_default();
                // The client has ended the stream: its answer says why.
                if sender.blocking_send(request).is_err() || last {
                    return Ok::<_, std::io::Error>(());
                }
            }
        });
        let stream = futures_util::stream::unfold(requests, |mut requests| async move {
            Some((requests.recv().await?, requests))
        });
        let mut client = self.session.channel();
        let request = self.request(stream)?;
        ready(&mut client).await?;
        let path = http::uri::PathAndQuery::from_static(WRITE);
        let codec = ProstCodec::<WriteRequest, WriteResponse>::default();
        let mut done = false;
        match client.streaming(request, path, codec).await {
            Ok(answer) => {
                let mut answers = answer.into_inner();
                loop {
                    match answers.message().await {
                        Ok(Some(said)) => done |= said.action == Action::Commit as i32,
                        Ok(None) => break,
                        Err(status) if status.code() == Code::AlreadyExists => done = true,
                        Err(status) => return Err(from_status(what, &status)),
                    }
                    if done {
                        break;
                    }
                }
            }
            Err(status) if status.code() == Code::AlreadyExists => done = true,
            Err(status) => return Err(from_status(what, &status)),
        }
        match feed.await {
            Ok(fed) => fed.map_err(|e| Error::io(&*what, e))?,
            Err(err) => return Err(Error::internal(what).caused_by(err)),
        }
        match done {
            true => Ok(()),
            false => Err(Error::invalid(format!("{what}: it ended before it had all"))),
        }
    }
}

async fn ready(client: &mut tonic::client::Grpc<crate::session::Channel>) -> Result<()> {
    client.ready().await.map_err(|e| Error::cancelled("the client has gone").caused_by(e))
}

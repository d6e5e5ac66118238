//! What clients may read of builds that are over, by digest: stories, attestations, why they failed.
//!
//! Only files of the history are handed out. Not here: writing, listing and deleting, which are refused.

use crate::{failure::status, history::History, solve::blocking};
use base::{Digest, Result};
use content::{Info, InfoRequest, InfoResponse, Many, ReadRequest, ReadResponse};
use std::{
    io::{Read as _, Seek as _, SeekFrom},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;
use tower_service::Service;

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// Answers `Info`.
#[derive(Clone)]
struct Informs(Arc<History>);

/// Answers `Read`.
#[derive(Clone)]
struct Reads(Arc<History>);

/// Answers one call.
pub(crate) async fn call(
    history: &Arc<History>,
    request: http::Request<hyper::body::Incoming>,
) -> http::Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    match method {
        "Info" => {
            let codec = ProstCodec::<InfoResponse, InfoRequest>::default();
            tonic::server::Grpc::new(codec).unary(Informs(Arc::clone(history)), request).await
        }
        "Read" => {
            let codec = ProstCodec::<ReadResponse, ReadRequest>::default();
            let reads = Reads(Arc::clone(history));
            tonic::server::Grpc::new(codec).server_streaming(reads, request).await
        }
        other => {
            let why = format!("{other}: the content of builds that are over can only be read");
            Status::unimplemented(why).into_http()
        }
    }
}

impl Service<Request<InfoRequest>> for Informs {
    type Response = Response<InfoResponse>;
    type Error = Status;
    type Future = Answer<InfoResponse>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let history = Arc::clone(&self.0);
        Box::pin(async move {
            let text = request.into_inner().digest;
            let (digest, size) = blocking(move || {
                let digest: Digest = text.parse()?;
                let (_, size) = history.blob(&digest)?;
                Ok((digest, size))
            })
            .await
            .map_err(|e| told(&e))?;
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let info = Some(Info { digest: digest.to_string(), size });
            Ok(Response::new(InfoResponse { info }))
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
        let history = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = request.into_inner();
            let offset = u64::try_from(asked.offset)
                .map_err(|_| Status::invalid_argument("the offset is negative"))?;
            let (file, size) = blocking(move || {
                let (mut file, size) = history.blob(&asked.digest.parse()?)?;
                file.seek(SeekFrom::Start(offset))
                    .map_err(|e| base::Error::io("cannot read what is kept of a build", e))?;
                Ok((file, size))
            })
            .await
            .map_err(|e| told(&e))?;
            let left = size.saturating_sub(offset);
            let length = match u64::try_from(asked.size) {
                Ok(0) | Err(_) => left,
                Ok(wanted) => wanted.min(left),
            };
            let fail = |err: &std::io::Error| {
                Status::internal(format!("cannot read what is kept of a build: {err}"))
            };
            Ok(Response::new(content::pieces(file.take(length), asked.offset, fail)))
        })
    }
}

/// Clients tell by the code that something is not there.
fn told(error: &base::Error) -> Status {
    match error.kind() {
        base::Kind::NotFound => Status::not_found(error.chain()),
        _ => status(error),
    }
}

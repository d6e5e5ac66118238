//! An S3 server in this process (s3s-fs): objects are files below a folder per bucket.

use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

/// Whom the server lets in.
#[derive(Clone, Copy)]
pub enum Allowed {
    /// Requests that are signed with this key: its id, its secret.
    Key(&'static str, &'static str),
    /// Requests with this bearer token, as Google's clients send them.
    Token(&'static str),
}

/// Runs the server on a thread of its own, for as long as the test's process lives.
pub fn serve(root: &Path, allowed: Allowed) -> SocketAddr {
    let store = s3s_fs::FileSystem::new(root).unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(store);
    if let Allowed::Key(id, secret) = allowed {
        builder.set_auth(s3s::auth::SimpleAuth::from_single(id, secret));
    }
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let answers = service_fn(move |request: Request<Incoming>| {
                        let (service, mut request) =
                            (service.clone(), request.map(s3s::Body::from));
                        async move {
                            if let Allowed::Token(token) = allowed {
                                let sent = request.headers_mut().remove(header::AUTHORIZATION);
                                if sent.is_none_or(|s| s != format!("Bearer {token}")) {
                                    let mut refusal = Response::new(s3s::Body::empty());
                                    *refusal.status_mut() = StatusCode::FORBIDDEN;
                                    return Ok(refusal);
                                }
                            }
                            service.call(request).await
                        }
                    });
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), answers).await;
                });
            }
        });
    });
    address
}

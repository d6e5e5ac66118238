//! Files of containers: `/containers/{id}/archive` and `/export`.

use crate::{
    call::{Asked, Call},
    incoming::incoming,
    reply::{self, Reply},
};
use api::model::PathStat;
use base::{Error, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::containers::{ExtractOptions, Outgoing};
use http::{HeaderName, HeaderValue, Method, StatusCode};

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

fn path(call: &Asked) -> String {
    call.query.get("path").unwrap_or_default().to_owned()
}

/// `GET`: a tar of what is at the path; `HEAD`: what is there.
pub(crate) async fn get(call: Call) -> Result<Reply> {
    let path = path(&call);
    let (stat, mut reply) = if call.method == Method::HEAD {
        let stat = call.engine.container_path(call.name(0), &path).await?;
        (stat, reply::empty(StatusCode::OK))
    } else {
        let (stat, tar) = call.engine.container_archive(call.name(0), &path, &call.by).await?;
        (stat, tar_stream(tar))
    };
    reply.headers_mut().insert(STAT, header(&stat)?);
    Ok(reply)
}

fn header(stat: &PathStat) -> Result<HeaderValue> {
    serde_json::to_vec(stat)
        .ok()
        .and_then(|json| HeaderValue::from_str(&STANDARD.encode(json)).ok())
        .ok_or_else(|| Error::internal("cannot encode what is at the path"))
}

/// `PUT`: unpacks a tar.
pub(crate) async fn put(mut call: Call) -> Result<Reply> {
    let options = ExtractOptions {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        to_user: call.query.flag("copyUIDGID"),
    };
    let (body, path) = (incoming(&mut call), path(&call));
    call.engine.container_extract(call.name(0), &path, options, body, &call.by).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/export`.
pub(crate) async fn export(call: Call) -> Result<Reply> {
    Ok(tar_stream(call.engine.container_export(call.name(0), &call.by).await?))
}

/// A tar that is cut short ends the connection, so that no client takes it for whole.
pub(super) fn tar_stream(tar: Outgoing) -> Reply {
    let items = futures_util::stream::unfold(tar, |mut tar| async move {
        let item = tar.recv().await?;
        let item = item.map_err(|err| {
            tracing::warn!(err = err.chain(), "a tar was cut short");
            std::io::Error::other(err.chain())
        });
        Some((item, tar))
    });
    reply::stream("application/x-tar", items)
}

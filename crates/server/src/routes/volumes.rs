//! Volumes.

use super::archive::tar_stream;
use crate::{
    call::{Asked, Call},
    incoming::incoming,
    reply::{self, Reply},
    router::no_content,
    versions::Version,
};
use api::model;
use base::Result;
use http::StatusCode;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.volumes_list(&call.filters()?).await?))
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let request = call.read(Asked::json::<model::VolumeCreate>).await?;
    let volume = call.engine.volume_create(request, &call.by).await?;
    Ok(reply::json(StatusCode::CREATED, &volume))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.volume_inspect(call.name(0)).await?))
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    call.engine.volume_remove(call.name(0), call.query.flag("force"), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    // Since 1.42 only anonymous volumes go unless `all` is given.
    let everything = call.version < Version(1, 42);
    Ok(reply::ok(&call.engine.volumes_prune(&call.filters()?, everything, &call.by).await?))
}

pub(crate) async fn clone(mut call: Call) -> Result<Reply> {
    let request = call.read(Asked::json::<model::VolumeClone>).await?;
    let volume = call.engine.volume_clone(call.name(0), request, &call.by).await?;
    Ok(reply::json(StatusCode::CREATED, &volume))
}

pub(crate) async fn rename(call: Call) -> Result<Reply> {
    let new = call.query.get("name").unwrap_or_default();
    Ok(reply::ok(&call.engine.volume_rename(call.name(0), new, &call.by).await?))
}

pub(crate) async fn export(call: Call) -> Result<Reply> {
    Ok(tar_stream(call.engine.volume_export(call.name(0)).await?))
}

pub(crate) async fn import(mut call: Call) -> Result<Reply> {
    let body = incoming(&mut call);
    Ok(reply::ok(&call.engine.volume_import(call.name(0), body, &call.by).await?))
}

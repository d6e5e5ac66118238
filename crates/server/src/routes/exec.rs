//! Processes started in a running container.

use super::containers::size;
use crate::{
    call::{Asked, Call},
    hijack,
    reply::{self, Reply},
};
use api::model;
use base::Result;
use http::StatusCode;
use serde_json::json;

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let config = call.read(Asked::json::<model::ExecConfig>).await?;
    let id = call.engine.exec_create(call.name(0), config, &call.by).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}

pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    // The body is read before the takeover: it is a document, not input.
    let start = call.read(Asked::json::<model::ExecStart>).await?;
    let id = call.name(0).to_owned();
    if start.detach {
        call.engine.exec_start_detached(&id, &call.by).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let attached = call.engine.exec_start(&id, start.console_size, start.tty, &call.by).await?;
    Ok(hijack::take_over(&mut call, attached))
}

pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (height, width) = size(&call)?;
    call.engine.exec_resize(call.name(0), height, width).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.exec_inspect(call.name(0))?))
}

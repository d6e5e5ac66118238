//! Managed plugins.
//!
//! Source: Docker Engine API 1.51; Docker's `api/server/router/plugin` (codes).

use super::images::credentials;
use crate::{
    call::{Asked, Call},
    incoming::incoming,
    reply::{self, Reply},
};
use base::{Error, Reference, Result};
use engine::plugins::PluginPull;
use http::{HeaderValue, StatusCode};

pub(crate) async fn list(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.plugins_list(&call.filters()?)?))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.plugin_inspect(call.name(0))?))
}

pub(crate) fn remote(asked: &Asked) -> Result<Reference> {
    match asked.query.text("remote") {
        Some(text) => text.parse(),
        None => Err(Error::invalid("no plugin is named: give it as remote=NAME")),
    }
}

pub(crate) async fn privileges(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.plugin_privileges(&remote(&call)?, &credentials(&call)).await?))
}

/// What was agreed to stands in the body.
fn agreed(asked: &Asked, body: &[u8], name: &str) -> Result<PluginPull> {
    Ok(PluginPull {
        remote: remote(asked)?,
        name: name.to_owned(),
        privileges: asked.json(body)?,
        credentials: credentials(asked),
    })
}

pub(crate) fn installation(asked: &Asked, body: &[u8]) -> Result<PluginPull> {
    agreed(asked, body, asked.query.get("name").unwrap_or(""))
}

pub(crate) fn newer(asked: &Asked, body: &[u8]) -> Result<PluginPull> {
    agreed(asked, body, asked.name(0))
}

pub(crate) async fn pull(mut call: Call) -> Result<Reply> {
    let asked = call.read(installation).await?;
    let (name, messages) = call.engine.plugin_pull(asked, &call.by)?;
    let mut reply = reply::progress("application/json", messages).await;
    if let Ok(name) = HeaderValue::from_str(&name) {
        reply.headers_mut().insert("docker-plugin-name", name);
    }
    Ok(reply)
}

pub(crate) async fn upgrade(mut call: Call) -> Result<Reply> {
    let asked = call.read(newer).await?;
    Ok(reply::progress("application/json", call.engine.plugin_upgrade(asked, &call.by)?).await)
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let name = call.query.get("name").unwrap_or("").to_owned();
    let body = incoming(&mut call);
    call.engine.plugin_create(&name, body, &call.by).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn push(call: Call) -> Result<Reply> {
    let messages = call.engine.plugin_push(call.name(0), credentials(&call), &call.by)?;
    Ok(reply::progress("application/json", messages).await)
}

pub(crate) fn patience(asked: &Asked) -> Result<i64> {
    Ok(asked.query.number("timeout")?.unwrap_or(0))
}

pub(crate) async fn enable(call: Call) -> Result<Reply> {
    let seconds = patience(&call)?;
    call.engine.plugin_enable(call.name(0), seconds, &call.by).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn disable(call: Call) -> Result<Reply> {
    call.engine.plugin_disable(call.name(0), call.query.flag("force"), &call.by).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn set(mut call: Call) -> Result<Reply> {
    let asked = call.read(Asked::json::<Vec<String>>).await?;
    call.engine.plugin_set(call.name(0), &asked).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let removed =
        call.engine.plugin_remove(call.name(0), call.query.flag("force"), &call.by).await?;
    Ok(reply::ok(&removed))
}

//! Networks.

use crate::{
    call::{Asked, Call},
    reply::{self, Reply},
    router::no_content,
    shapes,
    versions::Version,
};
use api::model;
use base::{Error, Result};
use http::StatusCode;
use serde::Serialize;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let mut networks = call.engine.networks_list(&call.filters()?).await?;
    if call.version < Version(1, 28) {
        // Old lists show the containers of each network.
        for network in &mut networks {
            network.containers = call.engine.network_inspect(&network.id, false).await?.containers;
        }
    }
    shaped(networks, call.version)
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let network = call.engine.network_inspect(call.name(0), call.query.flag("verbose")).await?;
    shaped(network, call.version)
}

fn shaped(networks: impl Serialize, version: Version) -> Result<Reply> {
    if version >= Version(1, 48) {
        return Ok(reply::ok(&networks));
    }
    let mut value = serde_json::to_value(networks)
        .map_err(|e| Error::internal("cannot encode the networks").caused_by(e))?;
    shapes::networks(&mut value);
    Ok(reply::ok(&value))
}

pub(crate) fn creation(asked: &Asked, body: &[u8]) -> Result<model::NetworkCreate> {
    let mut request: model::NetworkCreate = asked.json(body)?;
    if asked.version < Version(1, 48) {
        request.enable_ipv4 = None;
    }
    Ok(request)
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let request = call.read(creation).await?;
    let made = call.engine.network_create(&request, &call.by).await?;
    Ok(reply::json(StatusCode::CREATED, &made))
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    call.engine.network_remove(call.name(0), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn connect(mut call: Call) -> Result<Reply> {
    let request = call.read(Asked::json::<model::NetworkConnect>).await?;
    call.engine.network_connect(call.name(0), &request, &call.by).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn disconnect(mut call: Call) -> Result<Reply> {
    let request = call.read(Asked::json::<model::NetworkConnect>).await?;
    call.engine.network_disconnect(call.name(0), &request, &call.by).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.networks_prune(&call.filters()?, &call.by).await?))
}

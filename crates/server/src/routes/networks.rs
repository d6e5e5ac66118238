//! Networks.

use crate::{
    call::Call,
    reply::{self, Reply},
};
use base::Result;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.networks_list(&call.filters()?).await?))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.network_inspect(call.name(0), call.query.flag("verbose")).await?))
}

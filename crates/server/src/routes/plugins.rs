//! Managed plugins, of which there are none: Gantry's plugins are found by name at their sockets (crate `plugin`).
//!
//! Source: Docker's `plugin` (texts). Not here: installing them, for which there is no route.

use crate::{
    call::Call,
    reply::{self, Reply},
};
use base::{Error, Result};

pub(crate) async fn list(call: Call) -> Result<Reply> {
    call.filters()?.only(&["capability", "enabled"])?;
    Ok(reply::ok(&Vec::<()>::new()))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Err(Error::not_found(format!("plugin {:?} not found", call.name(0))))
}

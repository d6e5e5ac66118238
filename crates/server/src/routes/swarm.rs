//! Swarm mode, which Gantry does not have: its routes answer as those of a Docker host that is in no swarm, which is
//! what programs that look at everything (dashboards, inventories) expect of a single host.
//!
//! What was sent is read all the same, so that the client does not stop at a closed connection.
//!
//! Source: Docker's `daemon/cluster` (texts and status 503).

use crate::{call::Call, reply::Reply};
use base::{Error, Result};

/// What only a manager can tell or change.
pub(crate) async fn not_a_manager(mut call: Call) -> Result<Reply> {
    call.bytes().await?;
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

pub(crate) async fn leave(mut call: Call) -> Result<Reply> {
    call.bytes().await?;
    Err(Error::unavailable("This node is not part of a swarm"))
}

/// A swarm cannot be begun or joined.
pub(crate) async fn begin(mut call: Call) -> Result<Reply> {
    call.bytes().await?;
    Err(Error::unavailable(
        "Gantry has no swarm mode: this host can neither begin nor join a swarm",
    ))
}

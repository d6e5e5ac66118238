//! Who asked: recorded with every change, because governance will want to know.

use serde::{Deserialize, Serialize};

/// The caller of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// User id of the socket's peer, where the transport tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Process id of the socket's peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Command name of that process (`/proc/PID/comm`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// `User-Agent` of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Name from a client certificate, later a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl Principal {
    /// The daemon itself (clean-up, restart policy, `--rm`).
    pub fn daemon() -> Self {
        Self { command: "gantry".into(), client: "daemon".into(), ..Self::default() }
    }
}

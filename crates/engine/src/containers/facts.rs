//! What governance will ask of a container: who created, started and ended it.

use base::{Principal, Timestamp};
use serde::{Deserialize, Serialize};

/// One deed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Deed {
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

impl Deed {
    /// A deed of now.
    pub fn now(by: &Principal) -> Self {
        Self { by: by.clone(), at: Timestamp::now() }
    }
}

/// The facts of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Facts {
    /// Created by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Deed>,
    /// Last started by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Deed>,
    /// Last stopped or killed by; absent when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Deed>,
}

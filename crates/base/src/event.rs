//! Events: what happened to which object, when and by whom.

use crate::{Principal, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One event, as kept in the store and shown by `GET /events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`, `daemon`, `builder`.
    pub kind: String,
    /// `create`, `start`, `die`, `exec_start: sh -c x`, ...
    pub action: String,
    /// Id (or name) of the object.
    pub id: String,
    /// Attributes: labels of the container, `image`, `name`, `exitCode`, ...
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
    /// Who asked for what led to it.
    #[serde(default)]
    pub by: Principal,
}

impl Event {
    /// An event of now.
    pub fn new(kind: &str, action: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
            at: Timestamp::now(),
            by: Principal::daemon(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }

    /// Adds attributes.
    #[must_use]
    pub fn with_all<K: Into<String>, V: Into<String>>(
        mut self,
        all: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.attributes.extend(all.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Sets who asked.
    #[must_use]
    pub fn by(mut self, principal: &Principal) -> Self {
        self.by = principal.clone();
        self
    }
}

//! Log drivers that are plugins: any other name, when there is a plugin of that name.
//!
//! Source: Moby `daemon/logger/plugin.go`, `adapter.go` (what a plugin is told). Sending: crate `relay`. Options are the
//! plugin's affair; what `docker logs` reads is the copy, as with every driver that sends elsewhere.

use crate::{Driver, Options};
use base::Result;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// What a plugin for logs says it implements.
pub const KIND: &str = "LogDriver";

/// Where plugins are found, and what this one is told of the container beside its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Folders that plugins are looked for in.
    pub folders: Vec<PathBuf>,
    /// How long a plugin may take for an answer.
    pub seconds: u64,
    /// Path of the container's program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

pub(crate) struct Plugin;

impl Driver for Plugin {
    fn name(&self) -> &'static str {
        "plugin"
    }

    fn check(&self, _: &Options) -> Result<()> {
        Ok(())
    }

    fn is_remote(&self) -> bool {
        true
    }
}

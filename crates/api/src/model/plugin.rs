//! Managed plugins on the wire. The configuration is also the `config.json` of an archive and the config of a registry.
//!
//! Source: Docker Engine API 1.51, `swagger.yaml`; Docker's page "Plugin Config Version 1 of Plugin V2".

use super::is_zero;
use serde::{Deserialize, Serialize};

/// An installed plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugin {
    pub config: PluginConfig,
    pub enabled: bool,
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub plugin_reference: String,
    pub settings: PluginSettings,
}

/// What `docker plugin set` changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginSettings {
    pub args: Vec<String>,
    pub devices: Vec<PluginDevice>,
    pub env: Vec<String>,
    pub mounts: Vec<PluginMount>,
}

/// What a plugin is and wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginConfig {
    pub args: PluginArgs,
    pub description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    pub documentation: String,
    pub entrypoint: Vec<String>,
    pub env: Vec<PluginEnv>,
    pub interface: PluginInterface,
    pub ipc_host: bool,
    pub linux: PluginLinux,
    pub mounts: Vec<PluginMount>,
    pub network: PluginNetwork,
    pub pid_host: bool,
    pub propagated_mount: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub user: PluginUser,
    pub work_dir: String,
    #[serde(rename = "rootfs", skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PluginRootfs>,
}

/// Arguments after the entrypoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginArgs {
    pub description: String,
    pub name: String,
    pub settable: Option<Vec<String>>,
    pub value: Vec<String>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginEnv {
    pub description: String,
    pub name: String,
    pub settable: Option<Vec<String>>,
    pub value: Option<String>,
}

/// What it implements, and where it listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginInterface {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol_scheme: String,
    /// File name below `/run/docker/plugins`.
    pub socket: String,
    /// `docker.volumedriver/1.0` and the like.
    pub types: Vec<String>,
}

/// Rights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginLinux {
    pub allow_all_devices: bool,
    pub capabilities: Option<Vec<String>>,
    pub devices: Option<Vec<PluginDevice>>,
}

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginDevice {
    pub description: String,
    pub name: String,
    pub path: Option<String>,
    pub settable: Option<Vec<String>>,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginMount {
    pub description: String,
    pub destination: String,
    pub name: String,
    pub options: Option<Vec<String>>,
    pub settable: Option<Vec<String>>,
    pub source: Option<String>,
    pub r#type: String,
}

/// `host`, `none` or `bridge`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginNetwork {
    pub r#type: String,
}

/// Who it runs as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginUser {
    #[serde(rename = "UID", skip_serializing_if = "is_zero")]
    pub uid: u32,
    #[serde(rename = "GID", skip_serializing_if = "is_zero")]
    pub gid: u32,
}

/// Its layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginRootfs {
    pub r#type: String,
    pub diff_ids: Vec<String>,
}

/// Something that a plugin may do only when its user agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginPrivilege {
    pub name: String,
    pub description: String,
    pub value: Vec<String>,
}

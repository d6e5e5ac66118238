//! Managed plugins: programs with a root of their own that are installed from a registry or an archive, switched on
//! and off, and then found by name as any other plugin (crate `plugin`).
//!
//! Flow: [`install`] brings the files of a plugin to a folder of `<data-root>/plugins` and writes its row; [`run`] starts it as a
//! container that no list shows, waits for its socket, and publishes it; [`push`] sends what it came as.
//! Invariants: a plugin's row is there only when its files are whole; one at a time is changed; what a plugin may do
//! was agreed to in the very words that it was shown in; an enabled plugin runs again after a restart of the daemon,
//! and its root keeps what it wrote.
//! Source: Docker's pages "Plugin Config Version 1 of Plugin V2" and "Docker Engine managed plugin system"; Moby
//! `plugin` (texts).

mod digesting;
mod install;
mod pull;
mod push;
mod run;
mod settings;

pub use pull::PluginPull;

use crate::Engine;
use api::model::{Plugin, PluginConfig, PluginPrivilege, PluginSettings};
use base::{
    ContainerId, Digest, Error, Principal, Reference, Result, event::Event, filters::Filters,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use store::Tx;

/// What is kept of a plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// It is its container's too.
    id: ContainerId,
    /// With tag, as people write it.
    name: String,
    /// Its folder's name; an upgrade brings another.
    folder: String,
    enabled: bool,
    /// What it was pulled as.
    reference: String,
    /// Digest of its manifest.
    manifest: Digest,
    config: PluginConfig,
    settings: PluginSettings,
}

impl Record {
    fn shown(&self) -> Plugin {
        Plugin {
            config: self.config.clone(),
            enabled: self.enabled,
            id: self.id.to_string(),
            name: self.name.clone(),
            plugin_reference: self.reference.clone(),
            settings: self.settings.clone(),
        }
    }

    /// What it implements, in the words of `Plugin.Activate`.
    fn implements(&self) -> Vec<String> {
        let known = |capability: &str| {
            Some(match capability {
                "volumedriver" => "VolumeDriver",
                "networkdriver" => "NetworkDriver",
                "ipamdriver" => "IpamDriver",
                "logdriver" => "LogDriver",
                "metricscollector" => "MetricsCollector",
                "authz" => "authz",
                _ => return None,
            })
        };
        self.config
            .interface
            .types
            .iter()
            .filter_map(|t| known(&capability(t)?))
            .map(Into::into)
            .collect()
    }

    fn event(&self, action: &str, by: &Principal) -> Event {
        Event::new("plugin", action, self.id.as_str()).with("name", &self.name).by(by)
    }
}

/// Tells of a plugin's process that ended by itself; nothing for a container that is no plugin's.
pub(crate) fn tell_death(tx: &Tx<'_>, id: &ContainerId, exit_code: i32) -> Result<()> {
    if let Some(plugin) = tx.plugins::<Record>()?.into_iter().find(|plugin| plugin.id == *id) {
        let event = plugin.event("die", &Principal::daemon());
        tx.emit(event.with("exitCode", exit_code.to_string()));
    }
    Ok(())
}

/// `volumedriver` of `docker.volumedriver/1.0`.
fn capability(text: &str) -> Option<String> {
    let (name, _version) = text.split_once('/')?;
    Some(name.rsplit_once('.').map_or(name, |(_, last)| last).to_ascii_lowercase())
}

/// Where the files of a plugin are.
struct Places {
    /// `<data-root>/plugins/<folder>`.
    data: PathBuf,
    /// `<exec-root>/plugins/<id>`: the folder of its socket.
    sockets: PathBuf,
}

impl Places {
    fn of(config: &crate::Config, plugin: &Record) -> Self {
        Self {
            data: config.data_root.join("plugins").join(&plugin.folder),
            sockets: config.exec_root.join("plugins").join(plugin.id.as_str()),
        }
    }

    fn root(&self) -> PathBuf {
        self.data.join("rootfs")
    }

    /// What it mounts there the host sees too.
    fn propagated(&self) -> PathBuf {
        self.data.join("propagated-mount")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.data.join("blobs").join(digest.hex())
    }
}

/// The folder that enabled plugins are published in.
pub fn published(exec_root: &Path) -> PathBuf {
    exec_root.join("plugins").join("enabled")
}

/// A name as plugins have it: with a tag, and without what goes without saying.
fn named(text: &str) -> Result<String> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("invalid plugin name {text:?}: it has a digest")));
    }
    Ok(reference.or_latest().familiar())
}

/// What a plugin wants that others do not have.
pub(super) fn privileges(config: &PluginConfig) -> Vec<PluginPrivilege> {
    let mut all = Vec::new();
    let mut wants = |name: &str, description: &str, value: Vec<String>| {
        all.push(PluginPrivilege { name: name.into(), description: description.into(), value });
    };
    let network = config.network.r#type.as_str();
    if !matches!(network, "" | "null" | "none" | "bridge") {
        wants("network", "permissions to access a network", vec![network.into()]);
    }
    if config.ipc_host {
        wants("host ipc namespace", "allow access to host ipc namespace", vec!["true".into()]);
    }
    if config.pid_host {
        wants("host pid namespace", "allow access to host pid namespace", vec!["true".into()]);
    }
    for source in config.mounts.iter().filter_map(|m| m.source.as_ref()) {
        wants("mount", "host path to mount", vec![source.clone()]);
    }
    for path in config.linux.devices.iter().flatten().filter_map(|d| d.path.as_ref()) {
        wants("device", "host device to access", vec![path.clone()]);
    }
    if config.linux.allow_all_devices {
        wants("allow-all-devices", "allow 'rwm' access to all devices", vec!["true".into()]);
    }
    if let Some(capabilities) = config.linux.capabilities.clone().filter(|c| !c.is_empty()) {
        wants("capabilities", "list of additional capabilities required", capabilities);
    }
    all
}

/// Checks that exactly what is wanted was agreed to, in whatever order.
fn agreed(config: &PluginConfig, accepted: &[PluginPrivilege]) -> Result<()> {
    let set = |all: &[PluginPrivilege]| {
        let mut count: BTreeMap<(String, Vec<String>), usize> = BTreeMap::new();
        for one in all {
            let mut value = one.value.clone();
            value.sort();
            *count.entry((one.name.clone(), value)).or_default() += 1;
        }
        count
    };
    if set(&privileges(config)) == set(accepted) {
        return Ok(());
    }
    Err(Error::invalid(
        "incorrect privileges: what was agreed to is not what the plugin wants; look at it again with GET /plugins/privileges",
    ))
}

impl Engine {
    fn plugin_records(&self) -> Result<Vec<Record>> {
        self.store.read(|tx| tx.plugins::<Record>())
    }

    /// By name, with or without tag, or by id or the beginning of one.
    fn plugin_record(&self, text: &str) -> Result<Record> {
        let all = self.plugin_records()?;
        let name = named(text).ok();
        if let Some(found) =
            all.iter().find(|p| Some(&p.name) == name.as_ref() || p.id.as_str() == text)
        {
            return Ok(found.clone());
        }
        let mut begun =
            all.into_iter().filter(|p| !text.is_empty() && p.id.as_str().starts_with(text));
        match (begun.next(), begun.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple plugins found with prefix {text:?}: give more of the id"
            ))),
            _ => Err(Error::not_found(format!("plugin {text:?} not found"))),
        }
    }

    fn put_plugin(&self, record: &Record, event: Option<Event>) -> Result<()> {
        self.store.write(|tx| {
            tx.put_plugin(record.id.as_str(), &record.name, record)?;
            event.into_iter().for_each(|event| tx.emit(event));
            Ok(())
        })
    }

    /// `GET /plugins`.
    ///
    /// # Errors
    /// `Invalid` for a bad filter.
    pub fn plugins_list(&self, filters: &Filters) -> Result<Vec<Plugin>> {
        filters.only(&["capability", "enabled"])?;
        let enabled = filters.bool("enabled")?;
        let wanted = filters.get("capability");
        let mut all = self.plugin_records()?;
        all.retain(|plugin| {
            let types = &plugin.config.interface.types;
            enabled.is_none_or(|e| e == plugin.enabled)
                && wanted.iter().all(|w| {
                    types.iter().any(|t| capability(t).is_some_and(|c| c == w.to_ascii_lowercase()))
                })
        });
        Ok(all.iter().map(Record::shown).collect())
    }

    /// `GET /plugins/{name}/json`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn plugin_inspect(&self, name: &str) -> Result<Plugin> {
        self.plugin_record(name).map(|plugin| plugin.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PluginConfig {
        api::decode(
            br#"{"network":{"type":"host"},"ipchost":true,"pidhost":true,
            "mounts":[{"source":"/a","destination":"/b"},{"destination":"/c"}],
            "linux":{"capabilities":["CAP_B","CAP_A"],"allowAllDevices":true,"devices":[{"path":"/dev/x"}]},
            "interface":{"types":["docker.volumedriver/1.0","docker.authz/1.0","odd"]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn what_a_plugin_wants_has_to_be_agreed_to_exactly() {
        let config = config();
        let wanted = privileges(&config);
        let names: Vec<_> = wanted.iter().map(|p| p.name.as_str()).collect();
        let all = [
            "network",
            "host ipc namespace",
            "host pid namespace",
            "mount",
            "device",
            "allow-all-devices",
            "capabilities",
        ];
        assert_eq!(names, all);
        agreed(&config, &wanted).unwrap();
        let mut other: Vec<_> = wanted.iter().rev().cloned().collect();
        other[0].value.reverse();
        agreed(&config, &other).unwrap();
        for change in [
            (|p| drop(p.pop())) as fn(&mut Vec<PluginPrivilege>),
            |p| p.push(p[0].clone()),
            |p| p[3].value = vec!["/".into()],
            |p| p[6].value = vec!["CAP_A".into(), "CAP_B".into(), "CAP_B".into()],
            Vec::clear,
        ] {
            let mut wrong = wanted.clone();
            change(&mut wrong);
            assert!(agreed(&config, &wrong).is_err(), "{wrong:?}");
        }
        agreed(&PluginConfig::default(), &[]).unwrap();
    }

    #[test]
    fn types_come_to_what_others_implement() {
        let id = ContainerId::random();
        let record = Record {
            id,
            name: String::new(),
            folder: String::new(),
            enabled: false,
            reference: String::new(),
            manifest: Digest::sha256(b""),
            config: config(),
            settings: PluginSettings::default(),
        };
        assert_eq!(record.implements(), ["VolumeDriver", "authz"]);
        assert_eq!(named("a/b").unwrap(), "a/b:latest");
        assert_eq!(named("docker.io/library/a:1").unwrap(), "a:1");
    }
}

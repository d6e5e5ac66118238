//! Switching plugins on and off: a container over the plugin's own root, which no list shows and which is started
//! again whenever it ends.

use super::{Places, Record, published};
use crate::{
    Engine,
    containers::{self, Container, Mounted},
    lifecycle::private_dir,
};
use api::model::{ContainerConfig, DeviceMapping, HostConfig, PluginMount, RestartPolicy};
use base::{ContainerId, Error, Kind, Principal, Result};
use plugin::Managed;
use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use sys::mount::{self, Depth, propagation};

/// Where a plugin makes its socket, in its own root.
const SOCKETS: &str = "/run/docker/plugins";
/// How long a plugin has to listen when nothing else is said.
const LISTENS: Duration = Duration::from_secs(30);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(10);
/// How long a plugin has to end by itself, in seconds.
const GRACE: i64 = 10;

impl Engine {
    /// `POST /plugins/{name}/enable`. `seconds` bounds the wait for its socket; 0 for the usual bound.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is enabled; `Internal` when it does not listen in time: then it is off as before.
    pub async fn plugin_enable(
        self: &Arc<Self>,
        name: &str,
        seconds: i64,
        by: &Principal,
    ) -> Result<()> {
        let wait = match u64::try_from(seconds) {
            Ok(0) => LISTENS,
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                return Err(Error::invalid(format!("negative timeout is invalid: {seconds}")));
            }
        };
        let _turn = self.plugin_turn.lock().await;
        let mut plugin = self.plugin_record(name)?;
        if plugin.enabled {
            return Err(Error::conflict(format!("plugin {} is already enabled", plugin.name)));
        }
        let started = match self.run_plugin(&plugin, by).await {
            Ok(container) => self.plugin_listens(&plugin, &container, wait).await,
            Err(err) => Err(err),
        };
        let published = started.and_then(|()| {
            plugin.enabled = true;
            self.put_plugin(&plugin, Some(plugin.event("enable", by)))?;
            self.publish_plugin(&plugin)
        });
        if let Err(err) = published {
            plugin.enabled = false;
            self.put_plugin(&plugin, None)?;
            self.end_plugin(&plugin, by).await?;
            return Err(err);
        }
        Ok(())
    }

    /// `POST /plugins/{name}/disable`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is disabled, and unless by force when something uses it.
    pub async fn plugin_disable(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        by: &Principal,
    ) -> Result<()> {
        let _turn = self.plugin_turn.lock().await;
        let mut plugin = self.plugin_record(name)?;
        if !plugin.enabled {
            return Err(Error::conflict(format!("plugin {} is already disabled", plugin.name)));
        }
        if !force {
            self.plugin_is_idle(&plugin)?;
        }
        self.end_plugin(&plugin, by).await?;
        plugin.enabled = false;
        self.put_plugin(&plugin, Some(plugin.event("disable", by)))
    }

    /// `POST /plugins/{name}/set`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is enabled; `Invalid` for what cannot be set.
    pub async fn plugin_set(&self, name: &str, asked: &[String]) -> Result<()> {
        let _turn = self.plugin_turn.lock().await;
        let mut plugin = self.plugin_record(name)?;
        if plugin.enabled {
            return Err(Error::conflict(format!(
                "cannot set on an active plugin, disable plugin {} before setting",
                plugin.name
            )));
        }
        plugin.settings = super::settings::set(&plugin, asked)?;
        self.put_plugin(&plugin, None)
    }

    /// Refuses when volumes, networks or running containers need the plugin.
    pub(super) fn plugin_is_idle(&self, plugin: &Record) -> Result<()> {
        let means =
            |driver: &str| !driver.is_empty() && self.plugins.get(driver).name() == plugin.name;
        let volumes = self.store.read(|tx| tx.volumes::<crate::volumes::Record>())?;
        let networks = self.networks.list();
        let user = volumes
            .iter()
            .find(|v| means(&v.doc.driver))
            .map(|v| format!("volume {}", v.name))
            .or_else(|| {
                let of =
                    |n: &&network::Network| means(&n.spec.driver) || means(&n.spec.ipam.driver);
                networks.iter().find(of).map(|n| format!("network {}", n.name))
            })
            .or_else(|| {
                let running = self.containers.all().into_iter().map(|c| c.record());
                let mut logging =
                    running.filter(|r| r.state.status.alive() && means(&r.host.log_config.r#type));
                logging.next().map(|r| format!("container {}", r.name))
            })
            .or_else(|| {
                let judges = &self.reloadable().authorization_plugins;
                judges.iter().any(|judge| means(judge)).then(|| "authorization".to_owned())
            });
        match user {
            Some(user) => {
                Err(Error::conflict(format!("plugin {} is in use by {user}", plugin.name)))
            }
            None => Ok(()),
        }
    }

    /// Starts the container of a plugin.
    async fn run_plugin(
        self: &Arc<Self>,
        plugin: &Record,
        by: &Principal,
    ) -> Result<Arc<Container>> {
        self.prepare_plugin(plugin)?;
        let (config, host) = (config(plugin), host(plugin));
        let mounts = mounts(plugin, &Places::of(&self.config, plugin))?;
        let root = Places::of(&self.config, plugin).root();
        let of = containers::Own { id: plugin.id.clone(), image: plugin.manifest.clone(), root };
        let container = self.container_of_own(of, config, host, mounts, by)?;
        self.start_container(&container, by)
            .await
            .map_err(|err| Error::wrap(format!("cannot start plugin {}", plugin.name), err))?;
        Ok(container)
    }

    /// What has to be on the host before a plugin starts.
    fn prepare_plugin(&self, plugin: &Record) -> Result<()> {
        let places = Places::of(&self.config, plugin);
        private_dir(&places.sockets)?;
        if !plugin.config.propagated_mount.is_empty() {
            private_dir(&places.propagated())?;
            share(&places.propagated())?;
        }
        Ok(())
    }

    /// Before each start: a socket that an earlier life left would be in the way.
    pub(crate) fn clear_plugin_sockets(&self, id: &ContainerId) -> Result<()> {
        let folder = self.config.exec_root.join("plugins").join(id.as_str());
        let failed = |e| Error::io(format!("cannot clear {}", folder.display()), e);
        for entry in fs::read_dir(&folder).map_err(failed)?.flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
            if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until somebody listens at the plugin's socket.
    async fn plugin_listens(
        &self,
        plugin: &Record,
        container: &Container,
        wait: Duration,
    ) -> Result<()> {
        let socket = Places::of(&self.config, plugin).sockets.join(&plugin.config.interface.socket);
        let late = Instant::now() + wait;
        loop {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Ok(());
            }
            let state = container.record().state.clone();
            if state.restarts > 0 || !state.status.alive() {
                return Err(Error::internal(format!(
                    "plugin {} ended with exit code {} before it listened: its output is in {}",
                    plugin.name,
                    state.exit_code,
                    containers::Places::of(&self.config, &plugin.id).log(&plugin.id).display()
                )));
            }
            if Instant::now() >= late {
                return Err(Error::internal(format!(
                    "plugin {} does not listen at {SOCKETS}/{} after {} seconds",
                    plugin.name,
                    plugin.config.interface.socket,
                    wait.as_secs()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn publish_plugin(&self, plugin: &Record) -> Result<()> {
        let places = Places::of(&self.config, plugin);
        let propagated = Some(plugin.config.propagated_mount.as_str()).filter(|p| !p.is_empty());
        let socket = places.sockets.join(&plugin.config.interface.socket);
        let managed = Managed {
            name: plugin.name.clone(),
            addr: format!("unix://{}", socket.display()),
            implements: plugin.implements(),
            root: places.root(),
            propagated: propagated.map(|inside| (inside.into(), places.propagated())),
        };
        managed.publish(&published(&self.config.exec_root))
    }

    /// Ends a plugin and takes away what it has on the host but for its files. One that does not run is fine.
    pub(super) async fn end_plugin(
        self: &Arc<Self>,
        plugin: &Record,
        by: &Principal,
    ) -> Result<()> {
        plugin::withdraw(&published(&self.config.exec_root), &plugin.name)?;
        if let Some(container) = self.containers.get(&plugin.id) {
            let status = container.record().state.status;
            if status.alive() {
                self.stop_container(&container, Some(GRACE), Some("TERM"), by).await?;
            }
            let options = containers::RemoveOptions { force: true, ..Default::default() };
            match self.remove_container(&container, options, by).await {
                Err(err) if err.kind() != Kind::NotFound => return Err(err),
                _ => {}
            }
        }
        let places = Places::of(&self.config, plugin);
        unshare(&places.propagated())?;
        match fs::remove_dir_all(&places.sockets) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot remove {}", places.sockets.display()), e))
            }
            _ => Ok(()),
        }
    }

    /// Before containers are taken up again: enabled plugins have what they need, others are not found.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn recover_plugins(&self) -> Result<()> {
        let all = self.plugin_records()?;
        self.sweep_plugin_folders(&all);
        match fs::remove_dir_all(published(&self.config.exec_root)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("cannot clear the enabled plugins", e));
            }
            _ => {}
        }
        for plugin in all.iter().filter(|p| p.enabled) {
            if let Err(err) = self.prepare_plugin(plugin).and_then(|()| self.publish_plugin(plugin))
            {
                tracing::error!(
                    plugin = plugin.name,
                    err = err.chain(),
                    "a plugin was not taken up"
                );
            }
        }
        Ok(())
    }

    /// After containers were taken up: what was being switched when the daemon died comes to its end.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) async fn settle_plugins(self: &Arc<Self>) -> Result<()> {
        let by = Principal::daemon();
        let all = self.plugin_records()?;
        for container in self.containers.all() {
            let record = container.record();
            if record.root.is_some() && !all.iter().any(|p| p.id == record.id) {
                let options = containers::RemoveOptions { force: true, ..Default::default() };
                self.remove_container(&container, options, &by).await?;
            }
        }
        for plugin in all {
            let outcome = match (plugin.enabled, self.containers.get(&plugin.id)) {
                (true, None) => self.run_plugin(&plugin, &by).await.map(drop),
                (true, Some(_)) => Ok(()),
                (false, _) => self.end_plugin(&plugin, &by).await,
            };
            if let Err(err) = outcome {
                tracing::error!(
                    plugin = plugin.name,
                    err = err.chain(),
                    "a plugin was not taken up"
                );
            }
        }
        Ok(())
    }
}

fn config(plugin: &Record) -> ContainerConfig {
    let of = &plugin.config;
    let user = match (of.user.uid, of.user.gid) {
        (0, 0) => String::new(),
        (user, group) => format!("{user}:{group}"),
    };
    ContainerConfig {
        image: plugin.name.clone(),
        entrypoint: Some(of.entrypoint.clone()),
        cmd: Some(plugin.settings.args.clone()),
        env: Some(plugin.settings.env.clone()),
        working_dir: of.work_dir.clone(),
        hostname: plugin.id.short().to_owned(),
        user,
        ..ContainerConfig::default()
    }
}

fn host(plugin: &Record) -> HostConfig {
    let of = &plugin.config;
    let host_if = |yes: bool| if yes { "host".to_owned() } else { String::new() };
    let device = |path: &String| DeviceMapping {
        path_on_host: path.clone(),
        path_in_container: path.clone(),
        cgroup_permissions: "rwm".into(),
    };
    let devices: Vec<_> =
        plugin.settings.devices.iter().filter_map(|d| d.path.as_ref()).map(device).collect();
    HostConfig {
        network_mode: if of.network.r#type == "host" { "host".into() } else { "none".into() },
        ipc_mode: if of.ipc_host { "host".into() } else { "private".into() },
        pid_mode: host_if(of.pid_host),
        // Plugins work on the host's files, whoever containers' users are.
        userns_mode: "host".into(),
        cap_add: of.linux.capabilities.clone(),
        devices: Some(devices),
        device_cgroup_rules: of.linux.allow_all_devices.then(|| vec!["a *:* rwm".into()]),
        security_opt: Some(vec!["no-new-privileges=true".into()]),
        restart_policy: RestartPolicy { name: "always".into(), ..RestartPolicy::default() },
        ..HostConfig::default()
    }
}

fn mounts(plugin: &Record, places: &Places) -> Result<Vec<Mounted>> {
    let bind = |source: &Path, target: &str, propagation: &str| Mounted {
        kind: "bind".into(),
        source: source.display().to_string(),
        target: target.into(),
        propagation: propagation.into(),
        recursive: true,
        by_mount: true,
        ..Mounted::default()
    };
    let mut all = vec![bind(&places.sockets, SOCKETS, "rprivate")];
    let propagated = plugin.config.propagated_mount.as_str();
    if !propagated.is_empty() {
        all.push(bind(&places.propagated(), propagated, "rshared"));
    }
    for mount in &plugin.settings.mounts {
        all.push(asked(plugin, mount)?);
    }
    Ok(all)
}

/// A mount that the plugin asks for.
fn asked(plugin: &Record, mount: &PluginMount) -> Result<Mounted> {
    let options = mount.options.as_deref().unwrap_or_default();
    let has = |word: &str| options.iter().any(|o| o == word);
    let mut mounted = Mounted {
        kind: mount.r#type.clone(),
        target: mount.destination.clone(),
        read_only: has("ro"),
        by_mount: true,
        ..Mounted::default()
    };
    if mount.r#type == "tmpfs" {
        mounted.options = options.join(",");
        return Ok(mounted);
    }
    let Some(source) = mount.source.as_ref().filter(|s| s.starts_with('/')) else {
        return Err(Error::invalid(format!(
            "plugin {}: mount {:?} has no absolute source: set it with docker plugin set {} {}.source=PATH",
            plugin.name, mount.name, plugin.name, mount.name
        )));
    };
    if !Path::new(source).exists() {
        return Err(Error::invalid(format!(
            "plugin {}: bind source path does not exist: {source}",
            plugin.name
        )));
    }
    mounted.source.clone_from(source);
    mounted.recursive = has("rbind");
    let propagation = options.iter().find(|o| containers::PROPAGATIONS.contains(&o.as_str()));
    mounted.propagation = propagation.cloned().unwrap_or_else(|| "rprivate".into());
    Ok(mounted)
}

/// Makes a folder a mount of its own that what is mounted below it spreads from.
fn share(folder: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("cannot share mounts below {}", folder.display()), e);
    if mount::is_root(folder).map_err(failed)? {
        return Ok(());
    }
    let tree = mount::clone_path(folder, Depth::One).map_err(failed)?;
    let target = fs::File::open(folder).map_err(failed)?;
    mount::attach(&tree, &target).map_err(failed)?;
    mount::set_attr(&tree, 0, 0, propagation::SHARED, Depth::One).map_err(failed)
}

/// Takes off what [`share`] made, and what was mounted below it.
fn unshare(folder: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("cannot take the mounts off {}", folder.display()), e);
    match mount::is_root(folder) {
        Ok(true) => mount::detach(folder).map_err(failed),
        Ok(false) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

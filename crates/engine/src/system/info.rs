//! `GET /version` and `GET /info`.

use crate::{
    Engine,
    config::{DOCKER_VERSION, VERSION},
    containers::Status,
    runtimes::Runtimes,
    system,
};
use api::model;
use base::{Platform, Result, Timestamp};
use std::collections::BTreeMap;

/// Newest API version served.
pub const API_VERSION: &str = "1.51";
/// A plugin that does not answer within this time is not shown.
const PLUGINS: std::time::Duration = std::time::Duration::from_secs(2);
/// Oldest API version served.
pub const MIN_API_VERSION: &str = "1.24";

impl Engine {
    /// What [`Engine::version`] says of the oldest API version; counts once.
    pub fn set_oldest_api(&self, oldest: &str) {
        let _ = self.oldest_api.set(oldest.to_owned());
    }

    fn oldest_api(&self) -> &str {
        self.oldest_api.get().map_or(MIN_API_VERSION, String::as_str)
    }

    /// Versions of the engine and its parts.
    pub fn version(&self) -> model::Version {
        let details: BTreeMap<String, String> = [
            ("ApiVersion", API_VERSION.to_owned()),
            ("Arch", Platform::host().architecture),
            ("BuildTime", String::new()),
            ("Experimental", self.config.experimental.to_string()),
            ("GitCommit", String::new()),
            ("GoVersion", String::new()),
            ("KernelVersion", self.host.kernel.clone()),
            ("MinAPIVersion", self.oldest_api().to_owned()),
            ("Os", "linux".to_owned()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        let component = |name: &str, version: &str, details| model::VersionComponent {
            name: name.into(),
            version: version.into(),
            details,
        };
        model::Version {
            platform: model::VersionPlatform { name: "Gantry".into() },
            components: vec![
                component("Engine", DOCKER_VERSION, details),
                component("gantry-shim", VERSION, BTreeMap::new()),
            ],
            version: DOCKER_VERSION.into(),
            api_version: API_VERSION.into(),
            min_api_version: self.oldest_api().into(),
            git_commit: String::new(),
            go_version: String::new(),
            os: "linux".into(),
            arch: Platform::host().architecture,
            kernel_version: self.host.kernel.clone(),
            experimental: self.config.experimental,
            build_time: String::new(),
        }
    }

    /// What `docker info` shows.
    ///
    /// # Errors
    /// Of the store.
    pub async fn info(&self) -> Result<model::Info> {
        let statuses: Vec<Status> = self
            .containers
            .all()
            .iter()
            .map(|c| c.record())
            .filter(|r| !r.hidden)
            .map(|r| r.state.status)
            .collect();
        let count = |test: fn(&Status) -> bool| statuses.iter().filter(|s| test(s)).count() as i64;
        let running = count(|s| matches!(s, Status::Running | Status::Restarting));
        let paused = count(|s| *s == Status::Paused);
        let config = &self.config;
        let now = self.reloadable();
        let mut warnings = Vec::new();
        let forwarding = flag("/proc/sys/net/ipv4/ip_forward");
        if !forwarding {
            warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
        }
        let v2 = self.features.cgroup_v2;
        let own = model::RuntimeInfo { path: config.shim.display().to_string(), args: Vec::new() };
        let others = now.runtimes.named().iter().map(|(name, runtime)| {
            let (path, args) = (runtime.path.clone(), runtime.args.clone());
            (name.clone(), model::RuntimeInfo { path, args })
        });
        let runtimes = Runtimes::own()
            .into_iter()
            .map(|name| (name.to_owned(), own.clone()))
            .chain(others)
            .collect();
        let (mut volume_drivers, remote, log) = futures_util::future::join3(
            self.volume_plugins(PLUGINS),
            self.plugins.all(network::NETWORK, PLUGINS),
            self.plugins.all(logging::drivers::plugin::KIND, PLUGINS),
        )
        .await;
        volume_drivers.push(crate::volumes::LOCAL.into());
        volume_drivers.sort();
        let own = network::DRIVERS.iter().map(|d| d.name().to_owned());
        let network_drivers = own.chain(remote.iter().map(|p| p.name().to_owned())).collect();
        let own = logging::DRIVERS.iter().map(|d| d.name().to_owned());
        let log_drivers = own.chain(log.iter().map(|p| p.name().to_owned())).collect();
        let insecure = || now.insecure_registries.iter();
        let own = ["::1/128", "127.0.0.0/8"].into_iter().map(str::to_owned);
        let networks = insecure().filter(|r| r.contains('/')).cloned();
        let hosts = insecure().filter(|r| !r.contains('/')).map(|host| {
            let config = model::IndexInfo { name: host.clone(), ..model::IndexInfo::default() };
            (host.clone(), config)
        });
        let hub = model::IndexInfo {
            name: "docker.io".into(),
            mirrors: now.registry_mirrors.clone(),
            secure: true,
            official: true,
        };
        Ok(model::Info {
            id: self.id.clone(),
            containers: statuses.len() as i64,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: statuses.len() as i64 - running - paused,
            images: self.store.read(|tx| Ok(tx.images::<serde::de::IgnoredAny>()?.len()))? as i64,
            driver: "overlay2".into(),
            driver_status: vec![
                ["Backing Filesystem".into(), super::host::filesystem(&config.data_root)],
                ["Supports d_type".into(), "true".into()],
                ["Using metacopy".into(), "false".into()],
                ["Native Overlay Diff".into(), "true".into()],
                ["userxattr".into(), "false".into()],
            ],
            plugins: model::PluginsInfo {
                volume: volume_drivers,
                network: network_drivers,
                authorization: Some(now.authorization_plugins.clone())
                    .filter(|names| !names.is_empty()),
                log: log_drivers,
            },
            memory_limit: true,
            swap_limit: v2
                || std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
                    .exists(),
            cpu_cfs_period: true,
            cpu_cfs_quota: true,
            cpu_shares: true,
            cpu_set: true,
            pids_limit: true,
            ipv4_forwarding: forwarding,
            bridge_nf_iptables: flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            bridge_nf_ip6tables: flag("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
            debug: now.debug,
            file_descriptors: system::open_descriptors() as i64,
            oom_kill_disable: !v2,
            goroutines: self.tasks.len() as i64,
            system_time: Timestamp::now().to_string(),
            logging_driver: config.log_driver.clone(),
            cgroup_driver: "cgroupfs".into(),
            cgroup_version: if v2 { "2" } else { "1" }.into(),
            event_listeners: self.events.listeners() as i64,
            kernel_version: self.host.kernel.clone(),
            operating_system: self.host.os.clone(),
            os_version: self.host.os_version.clone(),
            os_type: "linux".into(),
            architecture: self.host.machine.clone(),
            index_server_address: "https://index.docker.io/v1/".into(),
            registry_config: model::RegistryConfig {
                insecure_registry_cidrs: own.chain(networks).collect(),
                index_configs: hosts.chain([("docker.io".to_owned(), hub)]).collect(),
                mirrors: now.registry_mirrors.clone(),
                // Gone from the newest daemons; older ones show empty lists.
                allow_nondistributable_artifacts_cidrs: Some(Vec::new()),
                allow_nondistributable_artifacts_hostnames: Some(Vec::new()),
            },
            ncpu: self.host.processors as i64,
            mem_total: self.host.memory as i64,
            docker_root_dir: config.data_root.display().to_string(),
            name: system::hostname(),
            labels: Some(now.labels.clone()),
            experimental_build: config.experimental,
            server_version: DOCKER_VERSION.into(),
            runtimes,
            default_runtime: now.runtimes.default_name().to_owned(),
            swarm: model::SwarmInfo {
                local_node_state: "inactive".into(),
                ..model::SwarmInfo::default()
            },
            live_restore_enabled: true,
            init_binary: "docker-init".into(),
            security_options: security_options(config, &self.kernel),
            firewall_backend: Some(model::FirewallInfo { driver: "nftables".into() }),
            default_address_pools: address_pools(config),
            cdi_spec_dirs: config.cdi_spec_dirs.iter().map(|d| d.display().to_string()).collect(),
            warnings: (!warnings.is_empty()).then_some(warnings),
            ..model::Info::default()
        })
    }
}

fn flag(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// Where subnets come from, when it was said.
fn address_pools(config: &crate::Config) -> Option<Vec<serde_json::Value>> {
    let pools = config.default_address_pools.iter();
    let pools: Vec<_> =
        pools.map(|(base, size)| serde_json::json!({"Base": base, "Size": size})).collect();
    (!pools.is_empty()).then_some(pools)
}

/// What `info` lists under security, in docker's form.
fn security_options(config: &crate::Config, kernel: &crate::containers::Kernel) -> Vec<String> {
    let profile = &config.seccomp.name;
    let mut options = Vec::new();
    if crate::containers::has_apparmor() {
        options.push("name=apparmor".into());
    }
    options.extend([format!("name=seccomp,profile={profile}"), "name=cgroupns".into()]);
    if kernel.selinux {
        options.push("name=selinux".into());
    }
    options.push(format!("name=level,profile={}", config.safeguards.level.name()));
    if config.no_new_privileges {
        options.push("name=no-new-privileges".into());
    }
    if config.userns.is_some() {
        options.push("name=userns".into());
    }
    options
}

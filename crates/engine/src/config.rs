//! What the engine is told at start; the binary reads flags and files and hands this in.

pub use image::compress::form as push_form;
pub use image::registry::{Mirror, Proxies, Settings as Registries};
use std::path::PathBuf;

/// What held a removal up may take its time to go.
pub const RETRY_DEAD: std::time::Duration = std::time::Duration::from_secs(60);

/// Settings of one engine. Paths are absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// State that outlives a reboot: database, content, layers, containers, volumes.
    pub data_root: PathBuf,
    /// State that a reboot clears: sockets of shims, exit records.
    pub exec_root: PathBuf,
    /// The `gantry-shim` binary.
    pub shim: PathBuf,
    /// The daemon's own program, which is also the relay of log drivers that send output away.
    pub program: PathBuf,
    /// Parent of every container's cgroup, `/gantry` when not given.
    pub cgroup_parent: String,
    /// Name of the default bridge; `none` for no default network.
    pub bridge: String,
    /// Address and prefix of the default bridge, for example `172.17.0.1/16`; chosen when not given.
    pub bip: Option<String>,
    /// Ranges that networks get their subnets from, and the prefix length of each: Docker's when empty.
    pub default_address_pools: Vec<(String, u8)>,
    /// More about networks.
    pub networks: Networking,
    /// Bytes; 0 for the kernel's default of 1500.
    pub mtu: u32,
    /// DNS servers for containers that name none.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Whether IPv4 forwarding is switched on when the bridge is made.
    pub ip_forward: bool,
    /// Whether traffic to the outside is masqueraded.
    pub ip_masquerade: bool,
    /// Whether packet filter rules are made at all.
    pub iptables: bool,
    /// Whether containers of the default bridge may talk to each other.
    pub icc: bool,
    /// Address that `-p 80:80` binds.
    pub default_publish_ip: String,
    /// Default log driver.
    pub log_driver: String,
    /// Default log options.
    pub log_options: std::collections::BTreeMap<String, String>,
    /// Default `ulimit`s, `name=soft:hard`.
    pub default_ulimits: Vec<(String, i64, i64)>,
    /// Bytes of `/dev/shm` when a container names none.
    pub default_shm_bytes: i64,
    /// Most bytes of a container's writable layer when it names no bound.
    pub default_writable_bytes: Option<u64>,
    /// How long a container whose removal failed waits for the next try.
    pub retry_dead_every: std::time::Duration,
    /// Whether every container gets an init.
    pub init: bool,
    /// Who the users of containers are on the host, when they have a user namespace.
    pub userns: Option<sys::idmap::Maps>,
    /// The level of defaults, and what is allowed nevertheless.
    pub safeguards: crate::level::Safeguards,
    /// Whether no-new-privileges is the default.
    pub no_new_privileges: bool,
    /// Whether containers get SELinux labels, where the kernel has a policy.
    pub selinux: bool,
    /// Runtimes beside the own one, and the default.
    pub runtimes: crate::runtimes::Runtimes,
    /// Default IPC mode, `private` or `shareable`.
    pub default_ipc: String,
    /// Seconds that a container gets to stop when nothing else is said; negative is for ever. `None`: 10.
    pub default_stop_timeout: Option<i64>,
    /// The build cache's rules, and what builds may be allowed.
    pub builder: crate::build::Builder,
    /// Authorization plugins by name, as `info` shows them.
    pub authorization_plugins: Vec<String>,
    /// Folders that plugins are looked for in.
    pub plugin_folders: Vec<PathBuf>,
    /// How long a plugin may take for an answer; twice that to create or mount a volume.
    pub plugin_timeout: std::time::Duration,
    /// The default seccomp profile.
    pub seccomp: SeccompDefault,
    /// Default cgroup namespace mode, `private` or `host`; empty for the system's default.
    pub default_cgroupns: String,
    /// Folders with descriptions of devices (CDI), the later ones winning.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Labels of this engine, `key=value`.
    pub labels: Vec<String>,
    /// Whether experimental features are shown.
    pub experimental: bool,
    /// Whether the daemon runs in debug mode (shown in `info`).
    pub debug: bool,
    /// Registries that may speak plain HTTP.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the default registry, as given.
    pub registry_mirrors: Vec<String>,
    /// How registries are reached: the two above and all else, read.
    pub registries: Registries,
    /// Layers downloaded at once.
    pub max_downloads: usize,
    /// Tries of a download that makes no progress.
    pub max_download_attempts: usize,
    /// Layers pushed at once.
    pub max_uploads: usize,
    /// How layers are compressed for a push.
    pub push_form: image::compress::Form,
    /// Seconds that an ordered stop of the daemon gives containers when live restore is off.
    pub shutdown_timeout: u64,
    /// Whether running containers outlive an ordered stop of the daemon.
    pub live_restore: bool,
    /// How long events are kept.
    pub event_retention: std::time::Duration,
}

/// Checks the daemon's default log driver and its options.
///
/// # Errors
/// `Invalid`, with docker's text.
pub fn check_logging(
    driver: &str,
    options: &std::collections::BTreeMap<String, String>,
    plugin_folders: &[PathBuf],
) -> base::Result<()> {
    crate::containers::check_logging(driver, options, plugin_folders)
}

/// The seccomp profile of containers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeccompDefault {
    /// As `info` shows it: `builtin`, `unconfined` or the path of a file.
    pub name: String,
    /// The profile, when it is neither of the first two.
    pub json: Option<String>,
}

impl SeccompDefault {
    /// Reads what `--seccomp-profile` names.
    ///
    /// # Errors
    /// `Invalid` when the file cannot be read or is no profile.
    pub fn read(text: &str) -> base::Result<Self> {
        let name = match text {
            "" | "default" => "builtin",
            other => other,
        };
        if matches!(name, "builtin" | "unconfined") {
            return Ok(Self { name: name.to_owned(), json: None });
        }
        let json = std::fs::read_to_string(name).map_err(|err| {
            base::Error::invalid(format!("opening seccomp profile ({name}) failed")).caused_by(err)
        })?;
        crate::containers::check_seccomp(&json).map_err(|err| {
            base::Error::invalid(format!("{name} is no seccomp profile")).caused_by(err.chain())
        })?;
        Ok(Self { name: name.to_owned(), json: Some(json) })
    }
}

/// Settings of networks; empty ones are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networking {
    /// Whether the default bridge has IPv6.
    pub ipv6: bool,
    /// IPv6 address and prefix of the default bridge.
    pub bip6: String,
    /// The part of the default bridge's subnet that addresses are taken from.
    pub fixed_cidr: String,
    /// The default bridge's IPv6 subnet.
    pub fixed_cidr6: String,
    /// Default gateway of containers on the default bridge.
    pub gateway: String,
    /// The same for IPv6.
    pub gateway6: String,
    /// Addresses that `host-gateway` stands for; the first counts.
    pub host_gateways: Vec<String>,
    /// Whether filters of this machine that drop by default decide about containers too.
    pub obey_firewall: bool,
    /// Options of new networks that do not say otherwise, by driver.
    pub default_options:
        std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// Version of this engine.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version that clients of Docker's API are told: Docker's whose manners these are, and ours behind it (ADR 27).
pub const DOCKER_VERSION: &str = concat!("28.5.2+gantry", env!("CARGO_PKG_VERSION"));

impl Config {
    /// Settings as far as they need no decision: folders below `dir`, no network, Docker's defaults. What
    /// tests start from; the daemon decides every field by itself.
    pub fn bare(dir: &std::path::Path, shim: PathBuf) -> Self {
        Self {
            data_root: dir.join("root"),
            exec_root: dir.join("exec"),
            shim,
            program: PathBuf::new(),
            cgroup_parent: String::new(),
            bridge: "none".into(),
            bip: None,
            default_address_pools: Vec::new(),
            networks: Networking::default(),
            mtu: 0,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            ip_forward: false,
            ip_masquerade: false,
            iptables: false,
            icc: true,
            default_publish_ip: "0.0.0.0".into(),
            log_driver: "json-file".into(),
            log_options: Default::default(),
            default_ulimits: Vec::new(),
            default_shm_bytes: 64 << 20,
            init: false,
            userns: None,
            safeguards: crate::level::Safeguards::default(),
            no_new_privileges: false,
            selinux: false,
            runtimes: crate::runtimes::Runtimes::default(),
            default_ipc: "private".into(),
            default_stop_timeout: None,
            builder: crate::build::Builder::default(),
            authorization_plugins: Vec::new(),
            plugin_folders: Vec::new(),
            plugin_timeout: std::time::Duration::from_secs(60),
            seccomp: SeccompDefault::default(),
            default_cgroupns: String::new(),
            cdi_spec_dirs: Vec::new(),
            labels: Vec::new(),
            experimental: false,
            default_writable_bytes: None,
            retry_dead_every: RETRY_DEAD,
            debug: false,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registries: Registries::default(),
            max_downloads: 6,
            max_download_attempts: 5,
            max_uploads: 5,
            push_form: image::compress::Form::default(),
            shutdown_timeout: 1,
            live_restore: false,
            event_retention: std::time::Duration::from_secs(60),
        }
    }
}

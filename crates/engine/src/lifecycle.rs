//! The engine's own life: open the stores, recover what runs, stop in order.

use crate::{
    Config,
    containers::{Confinement, Faults, Kernel, Registry},
    events::Events,
    images::{Images, transfers::Transfers},
    system::Host,
};
use base::{ContainerId, Error, ExecId, Result, Timestamp, event::Event};
use image::{Content, registry::Registries};
use network::{BridgeConfig, Networks};
use runtime::{Features, shim::Binary};
use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use storage::{Layers, Limits, Snapshots, Trash, Volumes};
use store::{Retention, Store};
use sys::cgroup::{Hierarchy, Version};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What one layer may cost: ten million entries, 64 GiB, and 64 MiB stay free on the disk.
pub(crate) const LIMITS: Limits =
    Limits { entries: 10_000_000, tar_bytes: 64 << 30, reserve: 64 << 20 };
/// The event log is trimmed this often.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// How often the database's reserve of space is filled up: nothing is done while it is whole.
const HOLD_EVERY: Duration = Duration::from_secs(60);
/// Rows of the event log that are kept at most.
const EVENTS_MAX: u32 = 1_000_000;

/// One engine over one data root.
pub struct Engine {
    pub(crate) config: Config,
    /// A stable id of this engine, as `info` shows it.
    pub(crate) id: String,
    pub(crate) store: Arc<Store>,
    pub(crate) events: Events,
    pub(crate) counters: crate::metrics::Counters,
    /// Oldest API version that is served, when it is not the oldest possible.
    pub(crate) oldest_api: std::sync::OnceLock<String>,
    pub(crate) images: Arc<Images>,
    pub(crate) registries: Arc<Registries>,
    pub(crate) transfers: Arc<Transfers>,
    pub(crate) layers: Layers,
    pub(crate) snapshots: Snapshots,
    pub(crate) volumes: Volumes,
    pub(crate) volume_holders: crate::volumes::Holders,
    pub(crate) plugins: plugin::Plugins,
    pub(crate) plugin_mounts: crate::volumes::Mounts,
    /// Who installs, switches or removes a managed plugin just now.
    pub(crate) plugin_turn: tokio::sync::Mutex<()>,
    pub(crate) trash: Trash,
    pub(crate) networks: Networks,
    pub(crate) containers: Registry,
    /// Which container an exec belongs to.
    pub(crate) execs: Mutex<HashMap<ExecId, ContainerId>>,
    /// Builds that a client may cancel by name.
    pub(crate) builds: crate::build::Running,
    pub(crate) hierarchy: Hierarchy,
    /// What can be limited with it.
    pub(crate) kernel: Kernel,
    pub(crate) confinement: Confinement,
    /// What decides the SELinux labels of containers, where they are labelled.
    pub(crate) selinux: Option<crate::selinux::Labels>,
    pub(crate) features: Features,
    pub(crate) shim: Binary,
    pub(crate) host: Host,
    reloadable: RwLock<Arc<Reloadable>>,
    /// Faults that tests inject.
    pub faults: Faults,
    /// Background work; an ordered stop waits for it.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the daemon stops.
    pub(crate) stop: CancellationToken,
    /// Keeps a second engine off the data root.
    _lock: File,
}

/// What `SIGHUP` may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloadable {
    pub(crate) debug: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) max_uploads: usize,
    pub(crate) default_stop_timeout: Option<i64>,
    pub(crate) authorization_plugins: Vec<String>,
    pub(crate) runtimes: crate::runtimes::Runtimes,
}

impl Reloadable {
    fn of(config: &Config) -> Self {
        Self {
            debug: config.debug,
            labels: config.labels.clone(),
            insecure_registries: config.insecure_registries.clone(),
            registry_mirrors: config.registry_mirrors.clone(),
            max_uploads: config.max_uploads,
            default_stop_timeout: config.default_stop_timeout,
            authorization_plugins: config.authorization_plugins.clone(),
            runtimes: config.runtimes.clone(),
        }
    }
}

fn json_list(list: &[String]) -> String {
    serde_json::Value::from(list.to_vec()).to_string()
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("data_root", &self.config.data_root).finish_non_exhaustive()
    }
}

impl Engine {
    /// Where everything is that must stay.
    pub fn data_root(&self) -> &std::path::Path {
        &self.config.data_root
    }

    /// Where everything is that goes with a restart of the machine.
    pub fn exec_root(&self) -> &std::path::Path {
        &self.config.exec_root
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The images.
    pub fn image_store(&self) -> &Arc<Images> {
        &self.images
    }

    /// The address that `host-gateway` stands for.
    pub fn host_gateway(&self) -> Option<std::net::IpAddr> {
        let given = self.config.networks.host_gateways.iter().find_map(|ip| ip.parse().ok());
        given.or_else(|| self.networks.bridge_address())
    }

    /// Runs what must be waited for at an ordered stop.
    pub fn task(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Opens the data root and takes up whatever was running.
    ///
    /// # Errors
    /// `Conflict` when another engine holds the data root; of the disk and the database otherwise.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let root = &config.data_root;
        // What is below it does not outlive the machine's run.
        let went_down = !config.exec_root.join("containers").exists();
        for dir in [
            root.clone(),
            config.exec_root.clone(),
            root.join("containers"),
            root.join("plugins"),
            root.join("tmp"),
        ] {
            private_dir(&dir)?;
        }
        let lock = lock(root)?;
        let store = Arc::new(Store::open(&root.join("gantry.db"))?);
        store.write(|tx| tx.release_all())?;
        let events = Events::new(&store);
        let (layers, trash) = open_layers(root)?;
        let snapshots = Snapshots::open(root, &layers, &trash)?;
        let volumes = Volumes::open(root, &trash)?;
        if config.default_writable_bytes.is_some() && !snapshots.can_bound() {
            return Err(Error::invalid(
                "Storage option overlay2.size not supported. Filesystem does not support Project Quota",
            ));
        }
        let content = Content::open(&root.join("content"))?;
        let images = Arc::new(Images::open(Arc::clone(&store), content, Arc::new(layers.clone()))?);
        for image in images.take_up(went_down)? {
            tracing::warn!(
                img = image.as_str(),
                "an image that was being made went with the power"
            );
        }
        let id = identity(root)?;
        let plugins = plugin::Plugins::new(&config.plugin_folders, config.plugin_timeout);
        let asked = crate::networks::Asked {
            plugins: plugins.clone(),
            store: Arc::clone(&store),
            runtime: tokio::runtime::Handle::current(),
        };
        let networks = Networks::open(&network_config(&config, &id, asked)?, &store)?;
        let hierarchy = Hierarchy::detect()
            .map_err(|e| Error::internal("cannot find the cgroup hierarchy").caused_by(e))?;
        let features = Features { cgroup_v2: hierarchy.version() == Version::V2 };
        let shim = Binary::open(&config.shim)?;
        if !shim.is_static()? {
            return Err(Error::invalid(format!(
                "{} is not a static program, so it cannot be a container's init: build it with scripts/build",
                config.shim.display()
            )));
        }
        let registries = Arc::new(Registries::new(config.registries.clone()));
        let tasks = TaskTracker::new();
        let transfers = Arc::new(Transfers::new(
            Arc::clone(&images),
            config.max_downloads,
            config.max_download_attempts,
            tasks.clone(),
        ));
        let reloadable = RwLock::new(Arc::new(Reloadable::of(&config)));
        let can_bound = snapshots.can_bound();
        let selinux = crate::selinux::Labels::new(config.selinux);
        if let Some(labels) = &selinux {
            layers.relabel(&labels.layers())?;
        }
        let engine = Arc::new(Self {
            config,
            id,
            store,
            events,
            counters: crate::metrics::Counters::default(),
            oldest_api: std::sync::OnceLock::new(),
            images,
            registries,
            transfers,
            layers,
            snapshots,
            volumes,
            volume_holders: crate::volumes::Holders::default(),
            plugins,
            plugin_mounts: crate::volumes::Mounts::default(),
            plugin_turn: tokio::sync::Mutex::default(),
            trash,
            networks,
            containers: Registry::default(),
            execs: Mutex::default(),
            builds: crate::build::Running::default(),
            kernel: Kernel { selinux: selinux.is_some(), ..Kernel::of(&hierarchy, can_bound) },
            selinux,
            hierarchy,
            confinement: Confinement::default(),
            features,
            shim,
            host: Host::read(),
            reloadable,
            faults: Faults::default(),
            tasks,
            stop: CancellationToken::new(),
            _lock: lock,
        });
        engine.recover_plugins()?;
        engine.recover_containers().await?;
        engine.settle_plugins().await?;
        engine.recover_builds().await?;
        engine.recover_images();
        engine.upkeep();
        engine.watch_networks();
        engine.recover_plugged_networks();
        Ok(engine)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over what may change while running, and says so in an event.
    ///
    /// # Errors
    /// Of the store.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let new = Reloadable::of(config);
        let event = Event::new("daemon", "reload", self.id.clone())
            .with("debug", new.debug.to_string())
            .with("insecure-registries", json_list(&new.insecure_registries))
            .with("authorization-plugins", json_list(&new.authorization_plugins))
            .with("default-ipc-mode", &self.config.default_ipc)
            .with("default-runtime", new.runtimes.default_name())
            .with("default-shm-size", self.config.default_shm_bytes.to_string())
            .with("labels", json_list(&new.labels))
            .with("live-restore", "true")
            .with("max-concurrent-downloads", config.max_downloads.to_string())
            .with("max-concurrent-uploads", config.max_uploads.to_string())
            .with("max-download-attempts", config.max_download_attempts.to_string())
            .with("name", crate::system::hostname())
            .with("registry-mirrors", json_list(&new.registry_mirrors))
            .with("runtimes", new.runtimes.names().join(" "));
        self.registries.reload(config.registries.clone());
        self.transfers.set_limits(config.max_downloads, config.max_download_attempts);
        *self.reloadable.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })
    }

    /// The settings in force that a reload may change.
    pub(crate) fn reloadable(&self) -> Arc<Reloadable> {
        Arc::clone(&self.reloadable.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The event hub.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Stops in order: no new background work, then what runs is waited for, at most `limit`. Containers
    /// go on; their shims keep them.
    pub async fn shutdown(&self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("background work did not end in time");
        }
        if !self.containers.all().iter().any(|c| c.record().state.status.alive()) {
            self.leave_nothing();
        }
        if let Err(err) = self.images.settle() {
            tracing::error!(err = err.chain(), "images and the state database were not flushed");
        }
    }

    /// With no container alive nobody needs the bridge, its rules, or the parent cgroup.
    fn leave_nothing(&self) {
        if let Err(err) = self.networks.remove_all() {
            tracing::warn!(err = err.chain(), "networks stay until the next start");
        }
        if let Err(err) = self.hierarchy.remove_parent(&self.cgroup_parent("")) {
            tracing::debug!(err = base::error::chain(&err), "the parent cgroup stays");
        }
    }

    /// Images and layers that a killed engine left half-made.
    fn recover_images(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn_blocking(move || match engine.images.recover(&engine.image_users()) {
            Ok(broken) => {
                for image in broken {
                    tracing::error!(
                        img = image.as_str(),
                        "an image is not whole: run gantry daemon --verify"
                    );
                }
            }
            Err(err) => tracing::error!(err = err.chain(), "images were not checked"),
        });
    }

    /// Work without input that is right at any time.
    fn upkeep(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut trim = tokio::time::interval(TRIM_EVERY);
            let mut hold = tokio::time::interval(HOLD_EVERY);
            let mut dead = tokio::time::interval(engine.config.retry_dead_every);
            loop {
                tokio::select! {
                    () = engine.stop.cancelled() => return,
                    _ = trim.tick() => engine.trim_events(),
                    _ = hold.tick() => engine.hold_space(),
                    _ = dead.tick() => engine.remove_the_dead().await,
                }
            }
        });
    }

    fn hold_space(&self) {
        if let Err(err) = self.store.reserve() {
            tracing::warn!(err = err.chain(), "no space is held for changes on a full disk");
        }
    }

    fn trim_events(&self) {
        let keep = Retention {
            oldest: Timestamp::now().minus(self.config.event_retention),
            rows: EVENTS_MAX,
        };
        if let Err(err) = self.store.write(|tx| tx.trim_events(keep)) {
            tracing::warn!(err = err.chain(), "the event log was not trimmed");
        }
    }
}

/// The layers of a data root, and the trash they go to.
pub(crate) fn open_layers(root: &Path) -> Result<(Layers, Trash)> {
    let trash = Trash::open(root)?;
    Ok((Layers::open(root, &trash, LIMITS)?, trash))
}

/// Takes the data root for this process.
pub(crate) fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::conflict(format!(
            "{} is in use by another gantry daemon: stop it or choose another --data-root",
            root.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io(format!("cannot lock {}", path.display()), e)),
    }
}

/// The engine's id: made once, kept in the data root.
fn identity(root: &Path) -> Result<String> {
    let path = root.join("engine-id");
    if let Ok(id) = std::fs::read_to_string(&path)
        && id.len() >= 32
    {
        return Ok(id);
    }
    let hex = base::id::random_hex();
    let id =
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]);
    std::fs::write(&path, &id)
        .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
    Ok(id)
}

fn network_config(
    config: &Config,
    id: &str,
    asked: crate::networks::Asked,
) -> Result<network::Config> {
    let common = network::Common {
        ip_forward: config.ip_forward,
        packet_filter: config.iptables,
        obey: config.networks.obey_firewall,
        publish_ip: match config.default_publish_ip.as_str() {
            "" => std::net::Ipv4Addr::UNSPECIFIED.into(),
            text => text.parse().map_err(|_| {
                Error::invalid(format!("invalid --ip {text:?}: want an IP address"))
            })?,
        },
    };
    let mut pools = match config.default_address_pools.is_empty() {
        true => network::ipam::default_pools(),
        false => config
            .default_address_pools
            .iter()
            .map(|(base, size)| network::ipam::Supply::new(base.parse()?, *size))
            .collect::<Result<_>>()?,
    };
    pools.push(network::ipam::unique_local(id));
    let bridge = match config.bridge.as_str() {
        "none" => None,
        name => {
            let mut bridge = BridgeConfig::named(name);
            bridge.address = config.bip.as_deref().map(str::parse).transpose()?;
            bridge.mtu_bytes = config.mtu;
            bridge.masquerade = config.ip_masquerade;
            bridge.icc = config.icc;
            bridge.pools.clone_from(&pools);
            bridge.common = common.clone();
            let own = &config.networks;
            let read = |text: &str| -> Result<Option<network::Subnet>> {
                if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
            };
            let gateway = |text: &str| -> Result<Option<std::net::IpAddr>> {
                let bad = |_| Error::invalid(format!("invalid default gateway {text:?}"));
                if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(bad) }
            };
            bridge.fixed_cidr = read(&own.fixed_cidr)?;
            bridge.gateway = gateway(&own.gateway)?;
            bridge.gateway6 = gateway(&own.gateway6)?;
            bridge.ipv6 = own.ipv6;
            let range = read(&own.fixed_cidr6)?;
            let first = |range: network::Subnet| range.nth(1).map(|address| range.at(address));
            bridge.address6 = read(&own.bip6)?.or(range.and_then(first));
            Some(bridge)
        }
    };
    let tables = Some(config.exec_root.join("networks"));
    Ok(network::Config { bridge, common, pools, tables, plugins: Some(Arc::new(asked)) })
}

/// Makes `dir` and its parents, entered by its owner alone.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(dir)
        .map_err(|e| Error::io(format!("cannot create {}", dir.display()), e))
}

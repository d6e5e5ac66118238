//! `POST /containers/create`: name, image, merged configuration, volumes, folders, row, event.

use super::{
    Container, Facts, Mounted, Places, Record, State, asked_mounts,
    facts::Deed,
    health,
    merge::merge,
    mounts::{self, Request, Source},
    networking, settle,
};
use crate::{Engine, images::to_api};
use api::model;
use base::{ContainerId, Error, Kind, Platform, Principal, Result, Timestamp, names};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// A create request.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// Name asked for; made up when absent.
    pub name: Option<String>,
    /// Platform asked for.
    pub platform: Option<Platform>,
    /// Configuration.
    pub config: model::ContainerConfig,
    /// Host configuration.
    pub host: model::HostConfig,
    /// Networks.
    pub endpoints: networking::Asked,
    /// Overlays to mount (steps of builds).
    pub overlays: Vec<OverlayMount>,
    /// Not listed and without events: a step of a build.
    pub hidden: bool,
    /// A step of a build, hidden or not: levels of defaults leave it what Docker gives.
    pub step: bool,
    /// Variables that are kept in memory alone (secrets of a step).
    pub secret_env: Vec<String>,
}

/// An overlay that is mounted in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayMount {
    /// Where, absolute.
    pub target: String,
    /// What of it: `/`, or a file or folder in it.
    pub path: String,
    /// Folders of the host, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's scratch folder.
    pub work: PathBuf,
    /// Nothing can be changed.
    pub read_only: bool,
}

/// What a create answers.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new id.
    pub id: ContainerId,
    /// What the kernel lacks or docker warns of.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Creates a container.
    ///
    /// # Errors
    /// `NotFound` for a missing image; `Conflict` for a taken name; `Invalid` for contradicting or
    /// malformed options.
    pub async fn container_create(
        self: &Arc<Self>,
        request: Create,
        by: &Principal,
    ) -> Result<Created> {
        if let Some(name) = &request.name {
            names::check("container", name.strip_prefix('/').unwrap_or(name))?;
        }
        if request.config.image.is_empty() {
            return Err(Error::invalid(
                "no image specified: give the image to create the container from",
            ));
        }
        if let Some(check) = &request.config.healthcheck {
            health::check(check)?;
        }
        let mut host = request.host;
        let mut warnings = self.safeguard(&mut host, request.step)?;
        let (host, lacks) =
            settle::settle(host, &self.config, &self.kernel, &self.reloadable().runtimes)?;
        warnings.extend(lacks);
        settle::check(&request.config, &host)?;
        let mut host = host;
        self.join_by_id(&mut host)?;
        let endpoints = self.named_networks(&mut host, request.endpoints)?;
        networking::check(&host, &endpoints)?;
        self.check_links(&host)?;
        // Its layers are held until the container's row names them.
        let image = self.images.take(&request.config.image, request.platform.as_ref())?;
        let mut config = merge(request.config, &to_api(&image.config.config().config))?;
        settle::check(&config, &host)?;
        if !config.working_dir.is_empty() {
            config.working_dir = build::go::clean(&config.working_dir);
        }
        warnings.extend(health::warning(&config));

        let id = ContainerId::random();
        let name = self.claim_name(request.name.as_deref(), &id)?;
        let places = Places::of(&self.config, &id);
        let made = self
            .populate(
                &id,
                &name,
                &places,
                config,
                host,
                endpoints,
                &image.id,
                &image.layers,
                by,
                request.overlays,
                (request.hidden, request.secret_env),
            )
            .await;
        match made {
            Ok(()) => Ok(Created { id, warnings }),
            Err(err) => {
                self.containers.release(&name, &id);
                self.volumes_taken_back(&id);
                if let Err(left) = self.discard(&places) {
                    tracing::warn!(
                        ctr = id.short(),
                        err = left.chain(),
                        "files of a failed create stay until the next start"
                    );
                }
                Err(err)
            }
        }
    }

    /// What the level of defaults refuses and decides. Returns warnings.
    fn safeguard(&self, host: &mut model::HostConfig, step: bool) -> Result<Vec<String>> {
        let safeguards = &self.config.safeguards;
        if step {
            safeguards.permit_step(host)?;
            return Ok(Vec::new());
        }
        safeguards.permit_container(host)?;
        Ok(safeguards.fill(host, &self.config, &self.host, self.kernel.project_quota))
    }

    #[allow(clippy::too_many_arguments, reason = "one caller; each is a part of the record")]
    async fn populate(
        self: &Arc<Self>,
        id: &ContainerId,
        name: &str,
        places: &Places,
        mut config: model::ContainerConfig,
        mut host: model::HostConfig,
        endpoints: networking::Asked,
        image: &base::ImageId,
        layers: &[base::Digest],
        by: &Principal,
        overlays: Vec<OverlayMount>,
        (hidden, secret_env): (bool, Vec<String>),
    ) -> Result<()> {
        crate::lifecycle::private_dir(&places.data)?;
        let labels = self.claim_labels(&mut host)?;
        let (process_label, mount_label) =
            labels.as_ref().map(|claimed| claimed.pair.texts()).unwrap_or_default();
        let bound = settle::writable_bound(&host, &self.config, &self.kernel)?;
        let active = self.snapshots.prepare(id.as_str(), layers, bound)?;
        if !mount_label.is_empty() {
            // What is put into it while it is stopped is the container's as well.
            storage::relabel(&active.upper, &mount_label)?;
        }
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            // One network, one name. Whether the other is there is asked at the start, as docker does.
            if let Ok(other) = self.containers.find(other) {
                let other = other.record();
                config.hostname.clone_from(&other.config.hostname);
                config.domainname.clone_from(&other.config.domainname);
            }
        } else if config.hostname.is_empty() {
            config.hostname = match host.network_mode.as_str() {
                "host" => crate::system::hostname(),
                _ => id.short().to_owned(),
            };
        }
        let inherited = self.volumes_from(&host)?;
        for mount in &inherited {
            self.permit_source(mount)?;
        }
        let requests = requests(&config, &host, &inherited)?;
        // Images that are mounted are held until the row names their layers.
        let mut held = Vec::new();
        let mut mounts = self.settle_mounts(requests, &active, id, &mut held, by).await?;
        mounts.extend(inherited.into_iter().filter(|i| !host_covers(&host, &i.target)));
        mounts.dedup_by(|a, b| a.target == b.target);
        let now = Timestamp::now();
        let record = Record {
            id: id.clone(),
            name: name.to_owned(),
            created: now,
            image: image.clone(),
            image_reference: config.image.clone(),
            platform: Platform::host(),
            endpoints: networking::asked(&host, endpoints),
            config,
            host,
            layers: layers.to_vec(),
            mounts,
            overlays,
            state: State::default(),
            attached: Vec::new(),
            facts: Facts { created: Some(Deed::now(by)), ..Facts::default() },
            hidden,
            root: None,
            process_label,
            mount_label,
            secret_env,
        };
        let row = record.row();
        self.store.write(|tx| {
            tx.put_container(&row)?;
            let anonymous = record.mounts.iter().filter(|m| m.anonymous);
            Self::volumes_given(tx, anonymous.map(|m| m.name.as_str()))?;
            tx.touch_image(image, now)?;
            if !hidden {
                tx.emit(record.event("create").by(by));
            }
            Ok(())
        })?;
        self.containers.insert(Container::new(record));
        // From here on the record holds the categories.
        drop(labels);
        Ok(())
    }

    /// Containers whose namespaces are joined may be given by name; what is kept goes by id, so that a renamed one is
    /// still found. One whose network is joined may be missing until the start, as in Docker.
    fn join_by_id(&self, host: &mut model::HostConfig) -> Result<()> {
        for (mode, needed) in [
            (&mut host.pid_mode, true),
            (&mut host.ipc_mode, true),
            (&mut host.network_mode, false),
        ] {
            let Some(name) = mode.strip_prefix("container:") else { continue };
            match self.containers.find(name) {
                Ok(other) => *mode = format!("container:{}", other.id()),
                // Not "not found": clients would take it for a missing image and pull.
                Err(err) if needed => return Err(Error::invalid(err.chain())),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Networks may be given by id; what is kept goes by name. One that is not there is told at the start.
    fn named_networks(
        &self,
        host: &mut model::HostConfig,
        endpoints: networking::Asked,
    ) -> Result<networking::Asked> {
        let name = |text: &str| match self.networks.find(text) {
            Ok(network) => network.name,
            Err(_) => text.to_owned(),
        };
        if !host.network_mode.starts_with("container:") {
            host.network_mode = name(&host.network_mode);
        }
        let mut named = networking::Asked::new();
        for (key, settings) in endpoints {
            if named.insert(name(&key), settings).is_some() {
                return Err(Error::invalid(format!(
                    "conflicting options: network {} is asked for twice",
                    name(&key)
                )));
            }
        }
        Ok(named)
    }

    /// The mounts of the containers that `--volumes-from` names.
    fn volumes_from(&self, host: &model::HostConfig) -> Result<Vec<Mounted>> {
        let mut inherited: Vec<Mounted> = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !mode.split(',').all(|m| matches!(m, "rw" | "ro" | "z" | "Z" | "nocopy")) {
                return Err(Error::invalid(format!("invalid mode for volumes-from: {mode}")));
            }
            let read_only = mode.split(',').any(|m| m == "ro");
            // Not "not found": clients would take it for a missing image and pull.
            let other = self.containers.find(name).map_err(|e| Error::invalid(e.chain()))?.record();
            for mount in
                other.mounts.iter().filter(|m| matches!(m.kind.as_str(), "bind" | "volume"))
            {
                inherited.retain(|m| m.target != mount.target);
                // The volume stays its first owner's: it does not go with this container.
                inherited.push(Mounted {
                    read_only: mount.read_only || read_only,
                    anonymous: false,
                    inherited: true,
                    ..mount.clone()
                });
            }
        }
        Ok(inherited)
    }

    /// Claims the name asked for, or makes one up: six tries, then the short id.
    fn claim_name(&self, asked: Option<&str>, id: &ContainerId) -> Result<String> {
        if let Some(name) =
            asked.map(|n| n.strip_prefix('/').unwrap_or(n)).filter(|n| !n.is_empty())
        {
            self.containers.claim(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..6 {
            let name = names::generate(attempt);
            match self.containers.claim(&name, id) {
                Ok(()) => return Ok(name),
                Err(err) if err.kind() == Kind::Conflict => {}
                Err(err) => return Err(err),
            }
        }
        self.containers.claim(id.short(), id)?;
        Ok(id.short().to_owned())
    }

    /// Makes the volumes that are asked for, checks bind sources, fills empty volumes from the image.
    async fn settle_mounts(
        self: &Arc<Self>,
        requests: Vec<Request>,
        active: &storage::Active,
        id: &ContainerId,
        held: &mut Vec<crate::images::Held>,
        by: &Principal,
    ) -> Result<Vec<Mounted>> {
        let mut settled = Vec::with_capacity(requests.len());
        for request in requests {
            let mut mounted = Mounted {
                target: request.target.clone(),
                mode: request.mode.clone(),
                read_only: request.read_only,
                propagation: request.propagation.clone(),
                recursive: request.recursive,
                subpath: request.subpath.clone(),
                copy: request.copy,
                by_mount: request.by_mount,
                read_only_below: request.read_only
                    && request.recursive
                    && request.read_only_depth == mounts::ReadOnly::Recursive,
                ..Mounted::default()
            };
            match request.source {
                Source::Bind(path) => {
                    self.config.safeguards.permit_path(&path)?;
                    mounts::check_source(&path, request.create_source)?;
                    mounted.kind = "bind".into();
                    mounted.source = path;
                    if mounted.propagation.is_empty() {
                        mounted.propagation = "rprivate".into();
                    }
                }
                Source::Image(reference) => {
                    let image = self.images.take(&reference, None).map_err(not_an_image)?;
                    mounted.kind = "image".into();
                    mounted.source = reference;
                    mounted.read_only = true;
                    mounted.image = Some(image.id.clone());
                    mounted.layers.clone_from(&image.layers);
                    held.push(image);
                }
                Source::Tmpfs { options } => {
                    mounted.kind = "tmpfs".into();
                    mounted.options = options;
                }
                Source::Volume { name, driver, options, labels } => {
                    let anonymous = name.is_none();
                    let wanted = crate::volumes::Wanted {
                        name,
                        driver,
                        options,
                        labels: Some(labels).filter(|l| !l.is_empty()),
                        container: Some(id.clone()),
                    };
                    let volume = self.volume_made(wanted, by).await.map_err(not_an_image)?;
                    self.permit_volume(&volume.name)?;
                    if request.copy {
                        self.volume_fill(&volume, active, &request.target, id).await?;
                    }
                    mounted.kind = "volume".into();
                    mounted.name = volume.name;
                    mounted.source = volume.mountpoint;
                    mounted.driver = volume.driver;
                    mounted.anonymous = anonymous;
                    if mounted.mode.is_empty() && !anonymous {
                        mounted.mode = "z".into();
                    }
                }
            }
            settled.push(mounted);
        }
        Ok(settled)
    }
}

impl Engine {
    /// Whether the level of defaults lets a container have what another one has.
    fn permit_source(&self, mount: &Mounted) -> Result<()> {
        match mount.kind.as_str() {
            "bind" => self.config.safeguards.permit_path(&mount.source),
            "volume" => self.permit_volume(&mount.name),
            _ => Ok(()),
        }
    }
}

/// What is missing, but for the container's image, is no "not found": clients would pull that image.
fn not_an_image(err: Error) -> Error {
    match err.kind() {
        Kind::NotFound => Error::invalid(err.chain()),
        _ => err,
    }
}

/// Checks what can be checked of a request without an engine: names and numbers, ports, mounts.
///
/// # Errors
/// `Invalid` with docker's wording.
pub fn check(config: &model::ContainerConfig, host: &model::HostConfig) -> Result<()> {
    settle::check(config, host)?;
    requests(config, host, &[]).map(drop)
}

/// Whether `-v`, `--mount` or `--tmpfs` has its own idea of `target`.
fn host_covers(host: &model::HostConfig, target: &str) -> bool {
    let none = model::ContainerConfig::default();
    requests(&none, host, &[]).is_ok_and(|list| list.iter().any(|r| r.target == target))
}

/// All mounts asked for: `-v`, `--mount`, `--tmpfs`, then the image's volumes that nothing covers.
fn requests(
    config: &model::ContainerConfig,
    host: &model::HostConfig,
    inherited: &[Mounted],
) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for text in host.binds.iter().flatten() {
        requests.push(mounts::parse_bind(text, &host.volume_driver)?);
    }
    for mount in host.mounts.iter().flatten() {
        requests.push(asked_mounts::request(mount)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        mounts::check_tmpfs(options)?;
        let target = mounts::absolute_target(target).map_err(Error::invalid)?;
        requests.push(Request::new(Source::Tmpfs { options: options.clone() }, &target));
    }
    mounts::refuse_duplicates(&requests)?;
    for target in config.volumes.iter().flat_map(BTreeMap::keys) {
        let request = mounts::parse_bind(target, &host.volume_driver)?;
        let covered = requests.iter().any(|r| r.target == request.target)
            || inherited.iter().any(|m| m.target == request.target);
        if !covered {
            requests.push(request);
        }
    }
    Ok(requests)
}

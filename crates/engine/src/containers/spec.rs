//! From a record to what the runtime runs: the spec, as data.
//!
//! Source: Docker's `daemon/oci_linux.go` (behaviour). Not here: defaults of the request (`settle.rs`),
//! the plan (crate `runtime`).

use super::{
    Mounted, Places, Record, cdi, confine::Filter, devices, merge, mounts, settle::SecurityOption,
};
use crate::{Engine, selinux};
use api::model;
use base::{Error, Result};
use runtime::{
    defaults::{self, Capabilities},
    spec::{
        Cgroup, ConsoleSize, Device, Maps, Mount, Namespace, Namespaces, Process, Rlimit, Root,
        Rootfs, Spec, User, UserNamespace,
    },
};
use std::path::PathBuf;
use sys::cgroup::{BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, Throttle, WeightDevice};

/// The spec of a container's first process.
///
/// # Errors
/// `Invalid` for options that contradict the host; `Conflict` when a container whose namespace is asked
/// for does not run.
pub(crate) fn spec(
    record: &Record,
    places: &Places,
    engine: &Engine,
    size: Option<(u16, u16)>,
) -> Result<Spec> {
    let (config, host) = (&record.config, &record.host);
    let source = match &record.root {
        Some(folder) => Rootfs::Path(folder.clone()),
        None => {
            let active = engine.snapshots.get(record.id.as_str(), &record.layers)?;
            Rootfs::Overlay {
                lower: active.lower,
                upper: active.upper,
                work: active.work,
                volatile: host.auto_remove || record.hidden,
            }
        }
    };
    let security = Security::of(record, engine)?;
    let own_uts = host.uts_mode != "host" && host.network_mode != "host";
    let mut process = process(record, &security, config.tty)?;
    process.args = record.argv();
    process.env = merge::process_env(config, &config.hostname);
    process.env.extend(record.secret_env.iter().cloned());
    for variable in engine.link_variables(record)? {
        let name = variable.split('=').next().unwrap_or_default();
        // What the container sets itself counts.
        if !process.env.iter().any(|own| own.split('=').next() == Some(name)) {
            process.env.push(variable);
        }
    }
    merge::overlay_env(&mut process.env, &security.cdi.env);
    process.cwd = if config.working_dir.is_empty() {
        "/".into()
    } else {
        build::go::clean(&config.working_dir)
    };
    process.user.name.clone_from(&config.user);
    process.console_size = size
        .or_else(|| match host.console_size {
            [0, 0] => None,
            [h, w] => {
                Some((u16::try_from(h).unwrap_or(u16::MAX), u16::try_from(w).unwrap_or(u16::MAX)))
            }
        })
        .map(|(height, width)| ConsoleSize { height, width });
    let namespaces = namespaces(record, engine)?;
    Ok(Spec {
        id: record.id.to_string(),
        root: Root {
            source,
            readonly: host.readonly_rootfs,
            propagation: root_propagation(&record.mounts),
        },
        process,
        hostname: if own_uts { config.hostname.clone() } else { String::new() },
        domainname: if own_uts { config.domainname.clone() } else { String::new() },
        mounts: mounts_of(record, places, engine, &security)?,
        devices: security.devices.clone(),
        masked_paths: if security.masks {
            host.masked_paths.clone().unwrap_or_default()
        } else {
            Vec::new()
        },
        readonly_paths: if security.masks {
            host.readonly_paths.clone().unwrap_or_default()
        } else {
            Vec::new()
        },
        sysctl: host.sysctls.clone().unwrap_or_default(),
        namespaces,
        cgroup: Some(Cgroup {
            path: engine.cgroup_path(&record.id, &host.cgroup_parent).into(),
            resources: serde_json::to_value(resources(record, &security))
                .map_err(|e| Error::internal("cannot encode the resources").caused_by(e))?,
        }),
        seccomp: security.seccomp,
        init: host.init == Some(true),
        hooks: security.cdi.hooks,
        mount_label: selinux::mount_label(record, engine).to_owned(),
    })
}

/// The plan of a further process in a running container.
///
/// # Errors
/// `Invalid` for bad options.
pub(crate) fn exec_plan(
    record: &Record,
    id: &str,
    exec: &model::ExecConfig,
    console: Option<[u32; 2]>,
    engine: &Engine,
) -> Result<runtime::ExecPlan> {
    let mut security = Security::of(record, engine)?;
    if exec.privileged && !record.host.privileged {
        security.capabilities = Capabilities::available();
        security.seccomp = None;
        security.apparmor = super::apparmor::none();
    }
    let mut process = process(record, &security, exec.tty)?;
    process.args = exec.cmd.clone().unwrap_or_default();
    process.env = super::exec::environment(record, exec);
    process.cwd = match (exec.working_dir.as_str(), record.config.working_dir.as_str()) {
        ("", "") => "/".into(),
        ("", own) => build::go::clean(own),
        (asked, _) if asked.starts_with('/') => build::go::clean(asked),
        (asked, _) => {
            return Err(Error::invalid(format!(
                "OCI runtime exec failed: Cwd must be an absolute path: {asked}"
            )));
        }
    };
    process.user.name =
        if exec.user.is_empty() { record.config.user.clone() } else { exec.user.clone() };
    process.console_size = console.map(|[h, w]| ConsoleSize {
        height: u16::try_from(h).unwrap_or(u16::MAX),
        width: u16::try_from(w).unwrap_or(u16::MAX),
    });
    runtime::plan_exec(id, &process, security.seccomp.as_deref(), exec.attach_stdin)
}

fn process(record: &Record, security: &Security, terminal: bool) -> Result<Process> {
    let host = &record.host;
    Ok(Process {
        terminal,
        user: User {
            name: String::new(),
            additional_groups: host
                .group_add
                .iter()
                .flatten()
                .cloned()
                .chain(security.cdi.groups.iter().map(ToString::to_string))
                .collect(),
        },
        capabilities: security.capabilities.names().collect(),
        no_new_privileges: security.no_new_privileges,
        apparmor: security.apparmor.clone(),
        selinux_label: security.selinux_label.clone(),
        rlimits: security.rlimits.clone(),
        oom_score_adj: Some(i32::try_from(host.oom_score_adj).unwrap_or(0)),
        ..Process::default()
    })
}

/// What `--privileged`, `--cap-*`, `--security-opt`, `--device` and `--ulimit` come to.
struct Security {
    capabilities: Capabilities,
    no_new_privileges: bool,
    seccomp: Option<Vec<u8>>,
    apparmor: String,
    selinux_label: String,
    masks: bool,
    rlimits: Vec<Rlimit>,
    devices: Vec<Device>,
    rules: Vec<DeviceRule>,
    writable_cgroups: bool,
    /// What devices asked for by name bring along.
    cdi: cdi::Edits,
}

impl Security {
    fn of(record: &Record, engine: &Engine) -> Result<Self> {
        let host = &record.host;
        let capabilities = super::settle::capabilities(host)?;
        let mut security = Self {
            seccomp: None,
            apparmor: super::apparmor::for_process(record)?,
            selinux_label: selinux::process_label(record, engine).to_owned(),
            no_new_privileges: engine.config.no_new_privileges,
            masks: !host.privileged,
            rlimits: Vec::new(),
            devices: Vec::new(),
            rules: Vec::new(),
            writable_cgroups: host.privileged,
            capabilities,
            cdi: cdi::resolve(
                host.device_requests.as_deref().unwrap_or_default(),
                &engine.config.cdi_spec_dirs,
            )?,
        };
        for option in host.security_opt.iter().flatten() {
            match super::settle::security_option(option)? {
                SecurityOption::NoNewPrivileges(on) => security.no_new_privileges = on,
                SecurityOption::SystemPaths("unconfined") => security.masks = false,
                SecurityOption::WritableCgroups(on) => security.writable_cgroups |= on,
                _ => {}
            }
        }
        security.seccomp = Filter::of(record, engine)?.program(engine, security.capabilities)?;
        security.limits(record, engine)?;
        security.nodes(record)?;
        Ok(security)
    }

    fn limits(&mut self, record: &Record, engine: &Engine) -> Result<()> {
        let own = record.host.ulimits.iter().flatten().map(|u| (u.name.clone(), u.soft, u.hard));
        let mut all: Vec<(String, i64, i64)> = own.collect();
        for default in &engine.config.default_ulimits {
            if !all.iter().any(|(name, ..)| *name == default.0) {
                all.push(default.clone());
            }
        }
        for (name, soft, hard) in all {
            let kind = devices::rlimit(&name)
                .ok_or_else(|| Error::invalid(format!("invalid ulimit type: {name}")))?;
            let value = |v: i64| u64::try_from(v).unwrap_or(u64::MAX);
            self.rlimits.push(Rlimit {
                kind: kind.to_owned(),
                soft: value(soft),
                hard: value(hard),
            });
        }
        Ok(())
    }

    fn nodes(&mut self, record: &Record) -> Result<()> {
        let host = &record.host;
        if host.privileged {
            self.devices = devices::defaults();
            self.devices.extend(devices::of_host());
            self.rules = defaults::privileged_device_rules();
            self.devices.extend(self.cdi.nodes.iter().cloned());
            return Ok(());
        }
        self.devices = devices::defaults();
        self.rules = defaults::device_rules();
        for mapping in host.devices.iter().flatten() {
            let (nodes, rules) = devices::asked(
                &mapping.path_on_host,
                if mapping.path_in_container.is_empty() {
                    &mapping.path_on_host
                } else {
                    &mapping.path_in_container
                },
                if mapping.cgroup_permissions.is_empty() {
                    "rwm"
                } else {
                    &mapping.cgroup_permissions
                },
            )?;
            self.devices.extend(nodes);
            self.rules.extend(rules);
        }
        for rule in host.device_cgroup_rules.iter().flatten() {
            self.rules.push(devices::parse_rule(rule)?);
        }
        self.devices.extend(self.cdi.nodes.iter().cloned());
        self.rules.extend(self.cdi.rules.iter().cloned());
        Ok(())
    }
}

/// The limits of a container's cgroup.
///
/// # Errors
/// `Invalid` for bad options.
pub(crate) fn resources_of(record: &Record, engine: &Engine) -> Result<Resources> {
    Ok(resources(record, &Security::of(record, engine)?))
}

fn resources(record: &Record, security: &Security) -> Resources {
    let host = &record.host;
    let positive = |v: i64| (v > 0).then_some(v);
    let (quota, period) = if host.nano_cpus > 0 {
        (Some(host.nano_cpus / 10_000), Some(100_000))
    } else {
        // -1 takes a quota away.
        ((host.cpu_quota != 0).then_some(host.cpu_quota), positive(host.cpu_period))
    };
    let some = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    Resources {
        devices: security.rules.clone(),
        memory: Some(Memory {
            limit: positive(host.memory),
            reservation: positive(host.memory_reservation),
            swap: (host.memory > 0 && host.memory_swap != 0).then_some(host.memory_swap),
            swappiness: host.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
            disable_oom_killer: host.oom_kill_disable.filter(|d| *d),
        }),
        cpu: Some(Cpu {
            shares: positive(host.cpu_shares).and_then(|s| u64::try_from(s).ok()),
            quota,
            period: period.and_then(|p| u64::try_from(p).ok()),
            cpus: some(&host.cpuset_cpus),
            mems: some(&host.cpuset_mems),
            realtime_runtime: positive(host.cpu_realtime_runtime),
            realtime_period: positive(host.cpu_realtime_period).and_then(|p| u64::try_from(p).ok()),
            ..Cpu::default()
        }),
        pids: host.pids_limit.filter(|limit| *limit > 0).map(|limit| Pids { limit }),
        block_io: block_io(host),
        ..Resources::default()
    }
}

/// Weights and rates; a device that is gone by now has none.
fn block_io(host: &model::HostConfig) -> Option<BlockIo> {
    let rates = |list: &Option<Vec<model::ThrottleDevice>>| -> Vec<Throttle> {
        let one = |t: &model::ThrottleDevice| {
            let (major, minor) = devices::block(&t.path).ok()?;
            Some(Throttle { major, minor, rate: t.rate })
        };
        list.iter().flatten().filter_map(one).collect()
    };
    let weight = |w: &model::WeightDevice| {
        let (major, minor) = devices::block(&w.path).ok()?;
        Some(WeightDevice { major, minor, weight: Some(w.weight) })
    };
    let block_io = BlockIo {
        weight: u16::try_from(host.blkio_weight).ok().filter(|w| *w != 0),
        weight_device: host.blkio_weight_device.iter().flatten().filter_map(weight).collect(),
        throttle_read_bps_device: rates(&host.blkio_device_read_bps),
        throttle_write_bps_device: rates(&host.blkio_device_write_bps),
        throttle_read_iops_device: rates(&host.blkio_device_read_iops),
        throttle_write_iops_device: rates(&host.blkio_device_write_iops),
    };
    (block_io != BlockIo::default()).then_some(block_io)
}

fn namespaces(record: &Record, engine: &Engine) -> Result<Namespaces> {
    let host = &record.host;
    let of = |mode: &str, kind: &str| -> Result<Namespace> {
        match mode.strip_prefix("container:") {
            Some(other) => {
                let other = engine.containers.find(other)?.record();
                if !other.state.status.alive() {
                    let not_running = format!("container {} is not running", other.id);
                    return Err(match kind {
                        "net" => Error::conflict(format!(
                            "cannot join network namespace of a non running container: container {} is {}",
                            other.name,
                            other.state.status.word()
                        )),
                        _ => Error::internal(format!(
                            "failed to join {} namespace: {not_running}",
                            kind.to_uppercase()
                        )),
                    });
                }
                Ok(Namespace::Path(PathBuf::from(format!("/proc/{}/ns/{kind}", other.state.pid))))
            }
            None if mode == "host" => Ok(Namespace::Host),
            None => Ok(Namespace::New),
        }
    };
    Ok(Namespaces {
        pid: of(&host.pid_mode, "pid")?,
        net: of(&host.network_mode, "net")?,
        ipc: of(&host.ipc_mode, "ipc")?,
        uts: if host.network_mode == "host" || host.uts_mode == "host" {
            Namespace::Host
        } else {
            Namespace::New
        },
        cgroup: if host.cgroupns_mode == "host" { Namespace::Host } else { Namespace::New },
        user: user_namespace(record, engine)?,
    })
}

/// The user namespace: the host's, one of its own, or that of the container whose other namespaces it shares.
fn user_namespace(record: &Record, engine: &Engine) -> Result<Option<UserNamespace>> {
    let host = &record.host;
    let Some(maps) = engine.config.userns.clone().filter(|_| host.userns_mode != "host") else {
        return Ok(None);
    };
    let shared = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let Some(other) = shared.into_iter().find_map(|mode| mode.strip_prefix("container:")) else {
        return Ok(Some(UserNamespace { path: None, maps }));
    };
    let other = engine.containers.find(other)?.record();
    let failed = |e| Error::io(format!("cannot read the users of container {}", other.id), e);
    let pid = u32::try_from(other.state.pid).unwrap_or(0);
    let theirs = Maps::of_process(pid).map_err(failed)?;
    Ok(theirs.map(|maps| UserNamespace { path: Some(format!("/proc/{pid}/ns/user").into()), maps }))
}

fn mounts_of(
    record: &Record,
    places: &Places,
    engine: &Engine,
    security: &Security,
) -> Result<Vec<Mount>> {
    let host = &record.host;
    let covered = |target: &str| record.mounts.iter().any(|m| m.target == target);
    let mut list: Vec<Mount> = Vec::new();
    for default in defaults::MOUNTS {
        let target = default.destination.to_owned();
        let mut mount = Mount::of(default.kind, default.destination, default.options);
        if security.writable_cgroups && target == "/sys/fs/cgroup" {
            mount.options.retain(|o| o != "ro");
        }
        if covered(&target) {
            continue;
        }
        if target == "/dev/shm" {
            match host.ipc_mode.as_str() {
                "host" => mount = Mount::bind("/dev/shm", "/dev/shm", &["rw"]),
                "none" => continue,
                // Memory that others may share is a folder on the exec root's tmpfs.
                "shareable" => mount = Mount::bind(places.exec.join("shm"), "/dev/shm", &["rw"]),
                mode if mode.starts_with("container:") => {
                    let other = engine.containers.find(&mode["container:".len()..])?.record();
                    if other.host.ipc_mode != "shareable" {
                        return Err(Error::invalid(format!(
                            "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                            other.id
                        )));
                    }
                    let theirs = Places::of(&engine.config, &other.id).exec.join("shm");
                    mount = Mount::bind(theirs, "/dev/shm", &["rw"]);
                }
                _ => {
                    mount.options.retain(|o| !o.starts_with("size="));
                    mount.options.push(format!("size={}", host.shm_size));
                }
            }
        }
        if host.privileged && matches!(target.as_str(), "/sys" | "/sys/fs/cgroup") {
            mount.options.retain(|o| o != "ro");
        }
        list.push(mount);
    }
    for (file, target) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        if !covered(target) {
            let owner = names_owner(record, places, engine)?;
            list.push(Mount::bind(owner.join(file), target, &["rprivate", "idmap"]));
        }
    }
    // Parents before what is mounted below them.
    let mut own: Vec<&Mounted> = record.mounts.iter().collect();
    own.sort_by_key(|m| m.target.split('/').count());
    for mount in own {
        if mount.kind == "bind" {
            mounts::check_propagation(&mount.source, &mount.propagation)?;
        }
        let mut planned = one(mount);
        if mount.kind == "image" {
            let active = engine.snapshots.view_folders(&mount.layers)?;
            planned.lower = active;
        }
        list.push(planned);
    }
    if engine.selinux.is_some() && selinux::is_nested(host)? {
        list.push(Mount::bind(sys::selinux::FOLDER, sys::selinux::FOLDER, &["rw"]));
    }
    list.extend(security.cdi.mounts.iter().cloned());
    list.extend(record.overlays.iter().map(overlay));
    Ok(list)
}

/// Whose names' files a container sees: its own, or those of the container whose network it shares.
fn names_owner(record: &Record, places: &Places, engine: &Engine) -> Result<PathBuf> {
    match record.host.network_mode.strip_prefix("container:") {
        Some(other) => {
            let other = engine.containers.find(other)?;
            Ok(Places::of(&engine.config, other.id()).data)
        }
        None => Ok(places.data.clone()),
    }
}

fn overlay(mount: &super::create::OverlayMount) -> Mount {
    Mount {
        destination: (&mount.target).into(),
        source: "overlay".into(),
        kind: "overlay".into(),
        options: vec![if mount.read_only { "ro" } else { "rw" }.into()],
        overlay: Some(runtime::spec::Overlay {
            lower: mount.lower.clone(),
            upper: mount.upper.clone(),
            work: mount.work.clone(),
            path: (&mount.path).into(),
        }),
        ..Mount::default()
    }
}

fn one(mount: &Mounted) -> Mount {
    let access = match (mount.read_only, mount.read_only_below) {
        (true, true) => "rro",
        (true, false) => "ro",
        _ => "rw",
    };
    match mount.kind.as_str() {
        "image" => Mount {
            inner: mount.subpath.trim_matches('/').into(),
            ..Mount::of("layers", &mount.target, &[])
        },
        "tmpfs" => {
            let mut options: Vec<String> = vec!["noexec".into(), "nosuid".into(), "nodev".into()];
            let own: Vec<&str> = mount.options.split(',').filter(|o| !o.is_empty()).collect();
            for option in own {
                // A given flag takes the place of its opposite.
                options.retain(|o| o.strip_prefix("no") != Some(option));
                options.push(option.to_owned());
            }
            if mount.read_only {
                options.push("ro".into());
            }
            Mount {
                destination: (&mount.target).into(),
                source: "tmpfs".into(),
                kind: "tmpfs".into(),
                options,
                ..Mount::default()
            }
        }
        _ => {
            let propagation =
                if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation };
            let mut bound = Mount::bind(&mount.source, &mount.target, &[access, propagation]);
            if !mount.recursive {
                bound.options.retain(|o| o != "rbind");
                bound.options.insert(0, "bind".into());
            }
            bound.inner = mount.subpath.trim_matches('/').into();
            // What the host keeps for itself stays the host's; a volume is the containers'.
            if mount.kind == "volume" {
                bound.options.push("idmap".into());
            }
            bound
        }
    }
}

/// A shared or slave mount needs a root that lets events pass.
fn root_propagation(mounts: &[Mounted]) -> String {
    let any = |word: &str| mounts.iter().any(|m| m.propagation.ends_with(word));
    match (any("shared"), any("slave")) {
        (true, _) => "rshared".into(),
        (_, true) => "rslave".into(),
        _ => String::new(),
    }
}

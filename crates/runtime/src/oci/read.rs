//! `config.json` as a spec.
//!
//! Invariants: what cannot be done is an error that names it, never passed over; `null` is absence.

use super::{
    model::{self, Config},
    users,
};
use crate::{
    defaults::{self, Capabilities},
    seccomp::{Arch, Profile, compile},
    spec::{self, Spec},
};
use base::{Error, Result};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Mount options that are understood, besides those of the file systems.
pub const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nosuid",
    "nosymfollow",
    "private",
    "rbind",
    "relatime",
    "ridmap",
    "ro",
    "rnodev",
    "rnoexec",
    "rnosuid",
    "rprivate",
    "rro",
    "rshared",
    "rslave",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "tmpcopyup",
    "unbindable",
];

/// Reads the file at `path`, which may have `most` bytes.
///
/// # Errors
/// `Invalid` for what is no configuration of a version that is understood.
pub fn read(path: &Path, most: u64) -> Result<Config> {
    let what = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(what(), e))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
    if bytes.len() as u64 > most {
        return Err(Error::invalid(format!("{} is longer than {most} bytes", path.display())));
    }
    parse(&bytes).map_err(|e| Error::invalid(what()).caused_by(e.chain()))
}

fn parse(bytes: &[u8]) -> Result<Config> {
    let config: Config = from_json(bytes)?;
    let version = &config.oci_version;
    // Of a later minor version everything else is understood as well, or refused by name.
    if version.split('.').next() != Some("1") {
        return Err(Error::invalid(format!("ociVersion {version:?} is not understood: want 1.x")));
    }
    Ok(config)
}

/// Reads the description of a process.
///
/// # Errors
/// `Invalid` for what is none.
pub fn parse_process(bytes: &[u8]) -> Result<model::Process> {
    from_json(bytes)
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bad = |e: serde_json::Error| Error::invalid("malformed JSON").caused_by(e);
    let mut value: Value = serde_json::from_slice(bytes).map_err(bad)?;
    refuse_unknown(&value)?;
    strip(&mut value);
    serde_json::from_value(value).map_err(bad)
}

/// Takes out every `null`.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// What would be passed over, because no field of ours takes it, and matters.
fn refuse_unknown(value: &Value) -> Result<()> {
    for path in [
        "/linux/intelRdt",
        "/linux/personality",
        "/linux/timeOffsets",
        "/process/scheduler",
        "/process/ioPriority",
        "/process/execCPUAffinity",
        "/vm",
        "/solaris",
        "/windows",
        "/zos",
        "/scheduler",
        "/ioPriority",
    ] {
        if value.pointer(path).is_some_and(|v| !v.is_null()) {
            let name = path.trim_start_matches('/').replace('/', ".");
            return Err(Error::invalid(format!("{name} is not available")));
        }
    }
    Ok(())
}

/// The container `id` of the bundle at `bundle` (absolute).
///
/// # Errors
/// `Invalid`, naming what cannot be done.
pub fn spec(id: &str, config: &Config, bundle: &Path) -> Result<Spec> {
    let linux = &config.linux;
    let process = config.process.as_ref().ok_or_else(|| Error::invalid("process is missing"))?;
    let root = config.root.as_ref().ok_or_else(|| Error::invalid("root is missing"))?;
    let user = users::namespace(linux)?;
    let mount = |m| mount(m, bundle, user.is_some());
    Ok(Spec {
        id: id.to_owned(),
        root: spec::Root {
            source: spec::Rootfs::Path(bundle.join(&root.path)),
            readonly: root.readonly,
            propagation: linux.rootfs_propagation.clone(),
        },
        process: spec_process(process)?,
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        mounts: config.mounts.iter().map(mount).collect::<Result<_>>()?,
        devices: devices(&linux.devices),
        masked_paths: texts(&linux.masked_paths),
        readonly_paths: texts(&linux.readonly_paths),
        sysctl: linux.sysctl.clone(),
        namespaces: spec::Namespaces { user, ..namespaces(&linux.namespaces)? },
        cgroup: Some(spec::Cgroup {
            path: group(id, linux.cgroups_path.as_deref()),
            resources: resources(linux.resources.clone())?,
        }),
        seccomp: seccomp(config, process)?,
        init: false,
        hooks: config.hooks.clone().unwrap_or_default(),
        mount_label: linux.mount_label.clone(),
    })
}

/// A process in our words.
///
/// # Errors
/// `Invalid`, naming what cannot be done.
pub fn spec_process(process: &model::Process) -> Result<spec::Process> {
    if process.args.is_empty() {
        return Err(Error::invalid("process.args must not be empty"));
    }
    let caps = process.capabilities.clone().unwrap_or_default();
    let user = &process.user;
    Ok(spec::Process {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: process.cwd.clone(),
        user: spec::User {
            name: format!("{}:{}", user.uid, user.gid),
            additional_groups: user.additional_gids.iter().map(ToString::to_string).collect(),
        },
        terminal: process.terminal,
        console_size: process
            .console_size
            .map(|s| spec::ConsoleSize { height: s.height, width: s.width }),
        capabilities: known(&caps.bounding),
        sets: Some(spec::CapabilitySets {
            effective: known(&caps.effective),
            permitted: known(&caps.permitted),
            inheritable: known(&caps.inheritable),
            ambient: known(&caps.ambient),
        }),
        umask: user.umask,
        no_new_privileges: process.no_new_privileges,
        rlimits: process
            .rlimits
            .iter()
            .map(|l| spec::Rlimit { kind: l.kind.clone(), soft: l.soft, hard: l.hard })
            .collect(),
        oom_score_adj: process.oom_score_adj,
        apparmor: process.apparmor_profile.clone(),
        selinux_label: process.selinux_label.clone(),
    })
}

/// Names that this version knows: the specification wants others to be warned of, not refused.
fn known(names: &[String]) -> Vec<String> {
    names.iter().filter(|n| sys::caps::number(n).is_some()).cloned().collect()
}

/// The compiled filter of the container for a process with such capabilities.
///
/// # Errors
/// `Invalid` for a bad profile; `NotImplemented` where there are no tables, and for notification.
pub fn seccomp(config: &Config, process: &model::Process) -> Result<Option<Vec<u8>>> {
    let Some(section) = &config.linux.seccomp else { return Ok(None) };
    let arch = Arch::native()?;
    let caps = process.capabilities.clone().unwrap_or_default();
    let capabilities = caps.bounding.iter().fold(Capabilities::NONE, |set, name| set.with(name));
    match Profile::parse(&section.to_string(), arch)? {
        Some(profile) => Ok(Some(compile(&profile, capabilities, arch)?.to_bytes())),
        None => Ok(None),
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.to_string_lossy().into_owned()).collect()
}

/// `has_users`: the container has a user namespace.
fn mount(mount: &model::Mount, bundle: &Path, has_users: bool) -> Result<spec::Mount> {
    let mut options = mount.options.clone();
    let bind =
        mount.kind == "bind" || options.iter().any(|o| matches!(o.as_str(), "bind" | "rbind"));
    let source = if bind { bundle.join(&mount.source) } else { mount.source.clone() };
    let maps = users::of_mount(mount, bind, has_users, &mut options)?;
    Ok(spec::Mount {
        // Old configurations have relative ones.
        destination: Path::new("/").join(&mount.destination),
        source,
        kind: if bind { "bind".to_owned() } else { mount.kind.clone() },
        options,
        maps,
        ..spec::Mount::default()
    })
}

/// What the file asks for, and what every container has.
fn devices(asked: &[model::Device]) -> Vec<spec::Device> {
    let mut all: Vec<spec::Device> = defaults::DEVICES
        .iter()
        .filter(|d| !asked.iter().any(|a| a.path == Path::new(d.path)))
        .map(|d| spec::Device {
            path: d.path.into(),
            kind: 'c',
            major: d.major,
            minor: d.minor,
            file_mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    all.extend(asked.iter().map(|d| spec::Device {
        path: d.path.clone(),
        kind: d.kind,
        major: d.major,
        minor: d.minor,
        file_mode: d.file_mode.unwrap_or(0o666),
        uid: d.uid,
        gid: d.gid,
    }));
    all
}

fn namespaces(list: &[model::Namespace]) -> Result<spec::Namespaces> {
    let mut spaces = spec::Namespaces {
        pid: spec::Namespace::Host,
        net: spec::Namespace::Host,
        ipc: spec::Namespace::Host,
        uts: spec::Namespace::Host,
        cgroup: spec::Namespace::Host,
        user: None,
    };
    let mut mount = false;
    let mut seen = Vec::new();
    for namespace in list {
        let kind = namespace.kind.as_str();
        if seen.contains(&kind) {
            return Err(Error::invalid(format!("namespace {kind} is named twice")));
        }
        seen.push(kind);
        let path = namespace.path.clone().filter(|p| !p.as_os_str().is_empty());
        let space = path.clone().map_or(spec::Namespace::New, spec::Namespace::Path);
        match kind {
            "pid" => spaces.pid = space,
            "network" => spaces.net = space,
            "ipc" => spaces.ipc = space,
            "uts" => spaces.uts = space,
            "cgroup" => spaces.cgroup = space,
            "mount" if path.is_none() => mount = true,
            "mount" => {
                return Err(Error::invalid("joining a mount namespace is not available"));
            }
            // With its maps: `users::namespace`.
            "user" => {}
            other => return Err(Error::invalid(format!("namespace {other:?} is not available"))),
        }
    }
    if mount { Ok(spaces) } else { Err(Error::invalid("a container needs a mount namespace")) }
}

/// Relative ones, and none, are below the root of the hierarchy, without a folder of ours that nobody would remove.
fn group(id: &str, asked: Option<&Path>) -> PathBuf {
    match asked.filter(|p| !p.as_os_str().is_empty()) {
        Some(path) => Path::new("/").join(path),
        None => Path::new("/").join(id),
    }
}

/// The limits, with the devices that every container may use.
fn resources(asked: Option<Value>) -> Result<Value> {
    let mut resources = asked.unwrap_or_else(|| json!({}));
    let fields = resources
        .as_object_mut()
        .ok_or_else(|| Error::invalid("linux.resources: want an object"))?;
    let rules = fields.entry("devices").or_insert_with(|| json!([]));
    let rules = rules
        .as_array_mut()
        .ok_or_else(|| Error::invalid("linux.resources.devices: want a list"))?;
    for rule in defaults::device_rules().into_iter().filter(|r| r.allow) {
        let rule = serde_json::to_value(rule)
            .map_err(|e| Error::internal("cannot encode a device rule").caused_by(e))?;
        rules.push(rule);
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Features, plan};

    fn minimal() -> Value {
        json!({
            "ociVersion": "1.0.2-dev",
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 7, "gid": 8, "umask": 63, "additionalGids": [9]},
                "env": null, "capabilities": {"bounding": ["CAP_CHOWN", "CAP_OF_TOMORROW"], "ambient": null}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "data", "source": "inside", "options": ["rbind", "ro"]},
                {"destination": "/big", "type": "hugetlbfs", "source": "none", "options": ["pagesize=2M"]},
            ],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/a"}]},
        })
    }

    fn of(value: &Value) -> Result<Spec, String> {
        let config = parse(value.to_string().as_bytes()).map_err(|e| e.chain())?;
        let spec = spec("one", &config, Path::new("/bundle")).map_err(|e| e.chain())?;
        plan(&spec, &Features { cgroup_v2: true }).map_err(|e| e.chain())?;
        Ok(spec)
    }

    #[test]
    fn a_configuration_becomes_a_spec() {
        let spec = of(&minimal()).unwrap();
        assert_eq!(spec.root.source, spec::Rootfs::Path("/bundle/rootfs".into()));
        assert_eq!(spec.process.user.name, "7:8");
        assert_eq!(spec.process.user.additional_groups, ["9"]);
        assert_eq!(spec.process.umask, Some(0o77));
        assert_eq!(spec.process.capabilities, ["CAP_CHOWN"]);
        assert_eq!(spec.mounts[1].source, Path::new("/bundle/inside"));
        assert_eq!(spec.mounts[1].destination, Path::new("/data"));
        assert_eq!(spec.namespaces.pid, spec::Namespace::New);
        assert_eq!(spec.namespaces.net, spec::Namespace::Path("/run/netns/a".into()));
        assert_eq!(spec.namespaces.ipc, spec::Namespace::Host);
        assert_eq!(spec.cgroup.as_ref().unwrap().path, Path::new("/one"));
        assert_eq!(spec.devices.len(), defaults::DEVICES.len());
        let rules = spec.cgroup.unwrap().resources["devices"].as_array().unwrap().len();
        assert!(rules > 5, "the usual devices can be used");
    }

    #[test]
    fn profiles_and_labels_are_taken_over() {
        let mut config = minimal();
        let none = of(&config).unwrap();
        assert_eq!((none.process.selinux_label.as_str(), none.mount_label.as_str()), ("", ""));
        config["process"]["selinuxLabel"] = json!("u:r:t:s0:c1,c2");
        config["linux"]["mountLabel"] = json!("u:object_r:f:s0:c1,c2");
        let labelled = of(&config).unwrap();
        assert_eq!(labelled.process.selinux_label, "u:r:t:s0:c1,c2");
        assert_eq!(labelled.mount_label, "u:object_r:f:s0:c1,c2");
        config["process"]["apparmorProfile"] = json!("mine");
        assert_eq!(of(&config).unwrap().process.apparmor, "mine");
        config["process"]["apparmorProfile"] = Value::Null;
        assert_eq!(of(&config).unwrap().process.apparmor, "");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let with = |pointer: &str, value: Value| {
            let mut config = minimal();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
            of(&config).unwrap_err()
        };
        assert!(with("/ociVersion", json!("2.0.0")).contains("want 1.x"));
        assert!(with("/process/args", json!([])).contains("process.args"));
        assert!(with("/process/cwd", json!("x")).contains("absolute path"));
        assert!(with("/process/scheduler", json!({"policy": "x"})).contains("process.scheduler"));
        assert!(with("/linux/intelRdt", json!({})).contains("linux.intelRdt"));
        assert!(with("/linux/uidMappings", json!([{"size": 1}])).contains("containerID"));
        assert!(with("/linux/namespaces", json!([{"type": "pid"}])).contains("mount namespace"));
        let twice = json!([{"type": "mount"}, {"type": "pid"}, {"type": "pid"}]);
        assert!(with("/linux/namespaces", twice).contains("named twice"));
        let user = json!([{"type": "mount"}, {"type": "user"}]);
        assert!(with("/linux/namespaces", user).contains("needs linux.uidMappings"));
        let hooks = json!({"poststop": [{"path": "relative"}]});
        assert!(with("/hooks", hooks).contains("absolute"));
        assert!(with("/process", Value::Null).contains("process is missing"));
        assert!(with("/root", Value::Null).contains("root is missing"));
        assert!(with("/linux/resources", json!(3)).contains("linux.resources"));
        let idmap = json!([{"destination": "/d", "source": "/s", "options": ["bind", "idmap"]}]);
        assert!(with("/mounts", idmap).contains("option idmap needs uidMappings"));
    }

    #[test]
    fn bad_files_are_refused() {
        let folder = std::env::temp_dir().join(format!("gantry-oci-{}", std::process::id()));
        std::fs::write(&folder, "[]").unwrap();
        assert!(read(&folder, 100).is_err());
        assert!(read(&folder, 1).unwrap_err().chain().contains("longer than 1 bytes"));
        std::fs::remove_file(&folder).unwrap();
        assert!(read(&folder, 100).unwrap_err().chain().contains("no such file"));
    }
}

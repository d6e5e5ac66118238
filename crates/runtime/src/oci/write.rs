//! A plan as `config.json`.
//!
//! What OCI has no words for is made before: layers and parts of volumes are mounted by the shim and bound
//! by their place, the user is looked up in the container's own files, the tiny init is bound to where
//! Docker has it.

use super::model;
use crate::{
    plan::{self, Attach, MountKind, Plan},
    shim::protocol::OciRuntime,
    spec::{Namespace, Namespaces},
    user::Identity,
};
use base::{Error, Result};
use std::path::{Path, PathBuf};
use sys::mount::{attr, propagation};

/// Where the tiny init lies in a container.
const INIT: &str = "/sbin/docker-init";

/// What was made on the host for a plan.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// Where the root is mounted.
    pub rootfs: &'a Path,
    /// Where the source of each of the plan's mounts is, for those that have one.
    pub sources: &'a [Option<PathBuf>],
    /// Who runs the first process.
    pub identity: &'a Identity,
}

/// The bundle's configuration.
///
/// # Errors
/// `Invalid` for a mount whose source was not made.
pub fn config(plan: &Plan, made: &Made<'_>, runtime: &OciRuntime) -> Result<model::Config> {
    let mut process = process(&plan.process, made.identity);
    let mut mounts = Vec::with_capacity(plan.mounts.len());
    for (at, mount) in plan.mounts.iter().enumerate() {
        mounts.push(self::mount(mount, made.sources.get(at).and_then(Option::as_deref))?);
    }
    if plan.init {
        process.args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
        mounts.push(model::Mount {
            destination: INIT.into(),
            kind: "bind".into(),
            source: runtime.init.clone(),
            options: ["bind", "ro"].map(str::to_owned).to_vec(),
            ..model::Mount::default()
        });
    }
    Ok(model::Config {
        oci_version: super::VERSION.to_owned(),
        process: Some(process),
        root: Some(model::Root { path: made.rootfs.to_owned(), readonly: plan.readonly }),
        hostname: plan.hostname.clone(),
        domainname: plan.domainname.clone(),
        mounts,
        annotations: runtime.annotations.clone(),
        hooks: Some(plan.hooks.clone()).filter(|hooks| !hooks.is_empty()),
        linux: linux(plan, runtime),
    })
}

/// What hooks of the own runtime find in the bundle: the root's place and the process; mounts and namespaces are made.
pub fn for_hooks(plan: &Plan, rootfs: &Path) -> model::Config {
    model::Config {
        oci_version: super::VERSION.to_owned(),
        process: Some(model::Process {
            terminal: plan.process.terminal,
            args: plan.process.args.clone(),
            env: plan.process.env.clone(),
            cwd: plan.process.cwd.clone(),
            ..model::Process::default()
        }),
        root: Some(model::Root { path: rootfs.to_owned(), readonly: plan.readonly }),
        hostname: plan.hostname.clone(),
        domainname: plan.domainname.clone(),
        ..model::Config::default()
    }
}

/// A process by numbers.
pub fn process(process: &plan::Process, identity: &Identity) -> model::Process {
    let names = || -> Vec<String> {
        let all = sys::caps::NAMES.iter().enumerate();
        let kept = all.filter(|(bit, _)| process.capabilities >> bit & 1 == 1);
        kept.map(|(_, name)| format!("CAP_{name}")).collect()
    };
    model::Process {
        terminal: process.terminal,
        console_size: process
            .console_size
            .filter(|_| process.terminal)
            .map(|s| model::ConsoleSize { height: s.height, width: s.width }),
        user: model::User {
            uid: identity.uid,
            gid: identity.gid,
            additional_gids: identity.groups.clone(),
            umask: None,
        },
        args: process.args.clone(),
        env: plan::environment(&process.env, &identity.home),
        cwd: process.cwd.clone(),
        // What a user without root's number keeps of these over execve is the kernel's to say: nothing.
        capabilities: Some(model::Capabilities {
            bounding: names(),
            effective: names(),
            permitted: names(),
            ..model::Capabilities::default()
        }),
        rlimits: process
            .rlimits
            .iter()
            .map(|limit| model::Rlimit { kind: limit.name(), hard: limit.hard, soft: limit.soft })
            .collect(),
        no_new_privileges: process.no_new_privileges,
        oom_score_adj: process.oom_score_adj,
        apparmor_profile: process.apparmor.clone(),
        selinux_label: process.selinux_label.clone(),
    }
}

fn linux(plan: &Plan, runtime: &OciRuntime) -> model::Linux {
    let resources = plan.cgroup.as_ref().map(|c| c.resources.clone()).filter(|r| !r.is_null());
    model::Linux {
        namespaces: namespaces(&plan.namespaces),
        devices: plan
            .devices
            .iter()
            .map(|device| model::Device {
                path: device.path.clone(),
                kind: device.kind,
                major: device.major,
                minor: device.minor,
                file_mode: Some(device.file_mode),
                uid: device.uid,
                gid: device.gid,
            })
            .collect(),
        cgroups_path: plan.cgroup.as_ref().map(|c| c.path.clone()),
        resources,
        rootfs_propagation: propagated(plan.propagation, true).unwrap_or_default(),
        seccomp: runtime.seccomp.clone(),
        sysctl: plan.sysctl.iter().map(|(path, value)| (key(path), value.clone())).collect(),
        masked_paths: plan.masked.clone(),
        readonly_paths: plan.readonly_paths.clone(),
        mount_label: plan.mount_label.clone(),
        ..model::Linux::default()
    }
}

fn namespaces(spaces: &Namespaces) -> Vec<model::Namespace> {
    let all = [
        ("mount", &Namespace::New),
        ("pid", &spaces.pid),
        ("network", &spaces.net),
        ("ipc", &spaces.ipc),
        ("uts", &spaces.uts),
        ("cgroup", &spaces.cgroup),
    ];
    all.into_iter()
        .filter_map(|(kind, space)| {
            let path = match space {
                Namespace::New => None,
                Namespace::Path(path) => Some(path.clone()),
                Namespace::Host => return None,
            };
            Some(model::Namespace { kind: kind.to_owned(), path })
        })
        .collect()
}

/// `net.ipv4.ip_forward`; with its slashes where a part has dots of its own.
fn key(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains('.') { text.into_owned() } else { text.replace('/', ".") }
}

fn mount(mount: &plan::Mount, source: Option<&Path>) -> Result<model::Mount> {
    let mut options = Vec::new();
    let (kind, source) = match (&mount.kind, source) {
        (MountKind::New { fs, source, options: own }, _) => {
            options.extend(own.iter().map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            }));
            (fs.as_str(), PathBuf::from(source))
        }
        (MountKind::Cgroup, _) => ("cgroup", PathBuf::from("cgroup")),
        (_, Some(source)) => {
            options.push("rbind".to_owned());
            ("bind", source.to_owned())
        }
        (_, None) => {
            let target = mount.target.display();
            return Err(Error::invalid(format!("mount {target} has no source on the host")));
        }
    };
    options.extend(words(&mount.attach));
    let (destination, kind) = (mount.target.clone(), kind.to_owned());
    Ok(model::Mount { destination, kind, source, options, ..model::Mount::default() })
}

/// The words of mount(8) for what is set and cleared.
fn words(attach: &Attach) -> Vec<String> {
    const FLAGS: [(u64, &str, &str); 6] = [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (attr::NODIRATIME, "nodiratime", "diratime"),
        (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut words = Vec::new();
    for (bit, on, off) in FLAGS {
        match (attach.set_recursive & bit != 0, attach.set & bit != 0, attach.clear & bit != 0) {
            (true, ..) => words.push(format!("r{on}")),
            (_, true, _) => words.push(on.to_owned()),
            (.., true) => words.push(off.to_owned()),
            _ => {}
        }
    }
    if attach.clear & attr::ATIME != 0 {
        words.push(
            match attach.set & attr::ATIME {
                attr::NOATIME => "noatime",
                attr::STRICTATIME => "strictatime",
                _ => "relatime",
            }
            .to_owned(),
        );
    }
    words.extend(propagated(attach.propagation, attach.propagation_recursive));
    words
}

fn propagated(bits: u64, recursive: bool) -> Option<String> {
    let word = match bits {
        propagation::PRIVATE => "private",
        propagation::SLAVE => "slave",
        propagation::SHARED => "shared",
        propagation::UNBINDABLE => "unbindable",
        _ => return None,
    };
    Some(format!("{}{word}", if recursive { "r" } else { "" }))
}

//! What to run, as data: names and shapes follow the OCI runtime specification, so that a `config.json`
//! maps onto it field by field; what OCI does not know (overlay root, user by name, tiny init) is ours.
//!
//! Invariants: nothing here was checked yet; [`crate::plan()`] does that and is the only reader.
//! Source: opencontainers/runtime-spec 1.2 (words and meaning).

use crate::oci::Hooks;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};
pub use sys::idmap::{Maps, Range};

/// A container to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Container id (64 hex digits for Docker's), for names and messages only.
    pub id: String,
    /// The root file system.
    pub root: Root,
    /// The first process.
    pub process: Process,
    /// Host name in a new UTS namespace; empty leaves the host's.
    pub hostname: String,
    /// NIS domain name in a new UTS namespace; empty leaves it.
    pub domainname: String,
    /// Mounts, in this order, after the root. `/dev` is filled with the default links when it is a tmpfs.
    pub mounts: Vec<Mount>,
    /// Device nodes to make.
    pub devices: Vec<Device>,
    /// Paths that read as empty.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters of the container's own namespaces, `net.ipv4.ip_forward` = `1`.
    pub sysctl: BTreeMap<String, String>,
    /// Which namespaces are new.
    pub namespaces: Namespaces,
    /// Control group; `None` stays in the shim's.
    pub cgroup: Option<Cgroup>,
    /// Compiled seccomp program (array of `struct sock_filter`); `None` is unconfined.
    #[serde(with = "crate::bytes64::option")]
    pub seccomp: Option<Vec<u8>>,
    /// Run a tiny init as pid 1, as `docker run --init`.
    pub init: bool,
    /// Programs of the host that run at the turning points of its life.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// SELinux label of every file of the file systems that are made for it; empty leaves it to the policy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
}

/// The root file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// Where it comes from.
    pub source: Rootfs,
    /// `--read-only`.
    pub readonly: bool,
    /// Mount propagation of `/`: `rprivate` (when empty), `rslave`, `rshared`, ...
    pub propagation: String,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rootfs {
    /// An overlay, mounted in the container's mount namespace only.
    Overlay {
        /// Layer folders, topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// overlayfs's scratch folder, on the same file system as `upper`.
        work: PathBuf,
        /// Never sync the writable layer, not even when the container ends: for layers that nobody wants
        /// after a crash of the machine (`--rm`, build steps).
        #[serde(default)]
        volatile: bool,
    },
    /// A folder as it is: its owners are not mapped, whatever the user namespace.
    Path(PathBuf),
}

impl Default for Rootfs {
    fn default() -> Self {
        Self::Path(PathBuf::new())
    }
}

/// A process: the container's first, or an exec's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`; `HOME` is added from the container's passwd when it is missing.
    pub env: Vec<String>,
    /// Working folder inside the container, made when missing (not for exec).
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// With a terminal of its own.
    pub terminal: bool,
    /// First size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Names like `CAP_CHOWN`: the bounding set, and for uid 0 the effective and permitted sets.
    pub capabilities: Vec<String>,
    /// The other sets of capabilities, when they are not what follows from the user: then `capabilities` is the
    /// bounding set alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sets: Option<CapabilitySets>,
    /// The file mode creation mask; `None` is 022.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Written to `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile; empty leaves it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub apparmor: String,
    /// SELinux label; empty leaves it to the policy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selinux_label: String,
}

/// The user of a process by docker's rules; resolved inside the container's root by the child.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// Raw text: empty, `name`, `uid`, `name:group`, `uid:gid`.
    pub name: String,
    /// `--group-add`: names or numbers.
    pub additional_groups: Vec<String>,
}

/// Sets of capabilities by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilitySets {
    /// What is in effect.
    pub effective: Vec<String>,
    /// What can be put into effect.
    pub permitted: Vec<String>,
    /// What file capabilities may keep.
    pub inheritable: Vec<String>,
    /// What a program without file capabilities keeps.
    pub ambient: Vec<String>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    /// `u64::MAX` is unlimited.
    pub hard: u64,
}

/// A mount in OCI's form.
///
/// Types: `bind`, `tmpfs`, `proc`, `sysfs`, `mqueue`, `devpts`, `cgroup`, and of ours `layers`. Options: `ro rw rro bind rbind
/// nosuid suid nodev dev noexec exec noatime relatime strictatime nodiratime nosymfollow`, propagation
/// (`private rprivate slave rslave shared rshared unbindable runbindable`), `idmap` for binds (owners as `maps` or
/// the container's user namespace have them; `ridmap` with the mounts below), and the file system's own
/// `key=value` for the others. A bind's missing target is made (a folder or an empty file, as the source).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Host path of a bind; else a mere name.
    pub source: PathBuf,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The options.
    pub options: Vec<String>,
    /// Path inside the source of a bind or the tree of layers, resolved there with its symlinks.
    #[serde(skip_serializing_if = "is_empty")]
    pub inner: PathBuf,
    /// Folders of a `layers` mount, topmost first, mounted read-only as one tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<PathBuf>,
    /// What is laid over each other, when `kind` is `overlay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// How a bind with `idmap` shows owners: inside are those of the source, outside those that the host sees.
    /// Without it as the container's user namespace has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<Maps>,
}

fn is_empty(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

/// An overlay that is mounted in a container, in its mount namespace only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlay {
    /// Folders of the host, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's scratch folder, on the same file system as `upper`.
    pub work: PathBuf,
    /// What of the overlay is mounted: `/` for all, or a file or folder in it.
    pub path: PathBuf,
}

impl Mount {
    /// A recursive bind of a host path.
    pub fn bind(
        source: impl Into<PathBuf>,
        destination: impl Into<PathBuf>,
        options: &[&str],
    ) -> Self {
        let options = ["rbind"].iter().chain(options).map(|o| (*o).to_owned()).collect();
        Self {
            destination: destination.into(),
            source: source.into(),
            kind: "bind".into(),
            options,
            ..Self::default()
        }
    }

    /// A new file system of type `kind`.
    pub fn of(kind: &str, destination: impl Into<PathBuf>, options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        Self {
            destination: destination.into(),
            source: kind.into(),
            kind: kind.into(),
            options,
            ..Self::default()
        }
    }
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// `c`, `b` or `p` (`u` is `c`).
    #[serde(rename = "type")]
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub file_mode: u32,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// Which namespaces the container gets; the mount namespace is always new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Processes.
    pub pid: Namespace,
    /// Network. New ones get their `lo` set up.
    pub net: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Control group view.
    pub cgroup: Namespace,
    /// Users and groups; `None` are the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserNamespace>,
}

/// Users and groups of a container's own.
///
/// Layers and whatever else is mounted with the option `idmap` show the owners that are stored as users of the
/// container, so that the same files serve containers with and without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// That behind a path such as `/proc/PID/ns/user`; without it a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Who is who. With a path the kernel tells: these have to be the same, or may be left out.
    pub maps: Maps,
}

/// Where one namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The host's (that of the shim).
    Host,
    /// That behind a path such as `/proc/PID/ns/net`.
    Path(PathBuf),
}

/// The control group of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// Path below the hierarchy's root, `/gantry/<id>`. The shim makes and removes it.
    pub path: PathBuf,
    /// The limits: `sys::cgroup::Resources` as JSON.
    pub resources: serde_json::Value,
}

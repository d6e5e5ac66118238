//! What the shim carries out: a [`Spec`] checked, its texts turned into flags, numbers and masks.
//!
//! Pure: no file is read, no kernel asked; what the kernel can do comes in as [`Features`]. The same
//! spec and features always give the same plan, which is why plans have golden tests.
//! Invariants: every path is absolute and without NUL; no mount hides `/proc` or `/sys` below their root;
//! system parameters are only such as the container's own namespaces hold.
//! Source: OCI runtime-spec; runc `libcontainer/specconv` and `configs/validate` (behaviour, texts).

mod mounts;
mod process;
mod sysctl;
#[cfg(test)]
mod tests;

use crate::oci::Hooks;
use crate::spec::{self, Device, Namespaces, Rootfs, Spec};
use base::{Error, Result};
pub use mounts::{Attach, Kind as MountKind, Mount};
pub use process::{Process, Rlimit, Sets, environment};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// What the kernel can do, probed once by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Containers see cgroup v2 (one hierarchy), not v1.
    pub cgroup_v2: bool,
}

/// A container, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Container id, for names and messages.
    pub id: String,
    /// Where the root comes from.
    pub root: Rootfs,
    /// Whether `/` itself becomes read-only.
    pub readonly: bool,
    /// Propagation flag of `/` (`MS_PRIVATE`, ...), always recursive.
    pub propagation: u64,
    /// The first process.
    pub process: Process,
    /// Host name; empty leaves it.
    pub hostname: String,
    /// NIS domain name; empty leaves it.
    pub domainname: String,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Whether `/dev` is ours to fill with the default links.
    pub own_dev: bool,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Paths to hide.
    pub masked: Vec<PathBuf>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// Paths below `/proc/sys` and their values.
    pub sysctl: Vec<(PathBuf, String)>,
    /// Namespaces to make or join.
    pub namespaces: Namespaces,
    /// Control group.
    pub cgroup: Option<spec::Cgroup>,
    /// Whether containers see cgroup v2.
    pub cgroup_v2: bool,
    /// Compiled seccomp program.
    #[serde(with = "crate::bytes64::option")]
    pub seccomp: Option<Vec<u8>>,
    /// Run a tiny init as pid 1.
    pub init: bool,
    /// Programs of the host that run at the turning points of its life.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// SELinux label of the root, when layers are mounted for it, and of the new file systems in it; empty leaves it to
    /// the policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
}

impl Plan {
    /// The label for mounts that are made, if there is one.
    pub fn label(&self) -> Option<&str> {
        Some(self.mount_label.as_str()).filter(|label| !label.is_empty())
    }
}

/// A further process in a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Exec id; how the process is addressed later.
    pub id: String,
    /// The process.
    pub process: Process,
    /// Compiled seccomp program.
    #[serde(with = "crate::bytes64::option")]
    pub seccomp: Option<Vec<u8>>,
    /// Give it a pipe (or its terminal) as input instead of `/dev/null`.
    pub stdin: bool,
    /// The program lets through what is left to do when the process is born into the container, and is loaded
    /// before: then it never has more rights there than it keeps.
    #[serde(default)]
    pub sealed_at_birth: bool,
}

/// Checks `spec` and turns it into a plan.
///
/// # Errors
/// `Invalid`, with runc's texts where it has one.
pub fn plan(spec: &Spec, features: &Features) -> Result<Plan> {
    let root = root(&spec.root.source)?;
    let mounts: Vec<Mount> = spec.mounts.iter().map(mounts::plan).collect::<Result<_>>()?;
    let own_dev = mounts
        .iter()
        .rev()
        .find(|m| m.target == Path::new("/dev"))
        .is_some_and(|m| !matches!(m.kind, MountKind::Bind { .. }));
    names(spec)?;
    if let Some(user) = &spec.namespaces.user {
        users(user)?;
    }
    Ok(Plan {
        id: spec.id.clone(),
        root,
        readonly: spec.root.readonly,
        propagation: mounts::root_propagation(&spec.root.propagation)?,
        process: process::plan(&spec.process)?,
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        mounts,
        own_dev,
        devices: spec.devices.iter().map(device).collect::<Result<_>>()?,
        masked: spec.masked_paths.iter().map(|p| inner(Path::new(p))).collect::<Result<_>>()?,
        readonly_paths: spec
            .readonly_paths
            .iter()
            .map(|p| inner(Path::new(p)))
            .collect::<Result<_>>()?,
        sysctl: sysctl::plan(&spec.sysctl, &spec.namespaces)?,
        namespaces: spec.namespaces.clone(),
        cgroup: spec.cgroup.as_ref().map(cgroup).transpose()?,
        cgroup_v2: features.cgroup_v2,
        seccomp: spec.seccomp.as_ref().map(|p| program(p)).transpose()?,
        init: spec.init,
        hooks: hooks(&spec.hooks)?,
        mount_label: mount_label(&spec.mount_label)?,
    })
}

/// Checks a further process `exec_id` for a running container.
///
/// # Errors
/// `Invalid`, with runc's texts where it has one.
pub fn plan_exec(
    exec_id: &str,
    process: &spec::Process,
    seccomp: Option<&[u8]>,
    stdin: bool,
) -> Result<ExecPlan> {
    let seccomp = seccomp.map(program).transpose()?;
    let sealed_at_birth = seccomp.as_deref().is_none_or(crate::seccomp::lets_be_born);
    let process = process::plan(process)?;
    Ok(ExecPlan { id: exec_id.to_owned(), process, seccomp, stdin, sealed_at_birth })
}

fn root(source: &Rootfs) -> Result<Rootfs> {
    let check = |path: &Path| match path.is_absolute() && no_nul(path) {
        true => Ok(()),
        false => Err(Error::invalid(format!("root file system path {path:?} is not absolute"))),
    };
    match source {
        Rootfs::Path(path) => check(path)?,
        Rootfs::Overlay { lower, upper, work, .. } => {
            if lower.is_empty() {
                return Err(Error::invalid("overlay root file system without a lower folder"));
            }
            lower.iter().chain([upper, work]).try_for_each(|p| check(p))?;
        }
    }
    Ok(source.clone())
}

/// The root of a user namespace has to be somebody, or nothing can be set up in it. What is not told of one that is
/// joined is looked at when it is.
fn users(user: &spec::UserNamespace) -> Result<()> {
    use sys::idmap::MOST_RANGES;
    if user.path.is_some() && user.maps == spec::Maps::default() {
        return Ok(());
    }
    for (what, ranges) in [("users", &user.maps.users), ("groups", &user.maps.groups)] {
        if ranges.len() > MOST_RANGES {
            return Err(Error::invalid(format!(
                "user namespace with {} ranges of {what}: the kernel takes {MOST_RANGES}",
                ranges.len()
            )));
        }
    }
    match (user.maps.user_outside(0), user.maps.group_outside(0)) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(Error::invalid("user namespace whose root is nobody: map user and group 0")),
    }
}

/// A label is one option of a mount: the kernel takes no longer text for one.
fn mount_label(label: &str) -> Result<String> {
    const LONGEST: usize = 255;
    if label.len() > LONGEST || label.contains('\0') {
        return Err(Error::invalid(format!(
            "invalid SELinux label of mounts {label:?}: longer than {LONGEST} bytes or with a NUL"
        )));
    }
    Ok(label.to_owned())
}

fn names(spec: &Spec) -> Result<()> {
    const UTS_LEN: usize = 64;
    for (what, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if name.is_empty() {
            continue;
        }
        if name.len() > UTS_LEN || name.contains('\0') {
            return Err(Error::invalid(format!(
                "invalid {what} {name:?}: longer than {UTS_LEN} bytes"
            )));
        }
        if spec.namespaces.uts == spec::Namespace::Host {
            return Err(Error::invalid(format!(
                "unable to set {what} without a private UTS namespace"
            )));
        }
    }
    Ok(())
}

fn device(device: &Device) -> Result<Device> {
    let kind = match device.kind {
        'u' => 'c',
        kind @ ('c' | 'b' | 'p') => kind,
        other => {
            return Err(Error::invalid(format!(
                "invalid type {other:?} of device {}",
                device.path.display()
            )));
        }
    };
    Ok(Device {
        path: inner(&device.path)?,
        kind,
        file_mode: device.file_mode & 0o7777,
        ..device.clone()
    })
}

fn hooks(hooks: &Hooks) -> Result<Hooks> {
    match hooks.all().find(|hook| !hook.path.is_absolute()) {
        Some(bad) => Err(Error::invalid(format!("hook {:?}: its path must be absolute", bad.path))),
        None => Ok(hooks.clone()),
    }
}

fn cgroup(cgroup: &spec::Cgroup) -> Result<spec::Cgroup> {
    inner(&cgroup.path)?;
    let below_root = cgroup.path.components().any(|c| matches!(c, Component::Normal(_)));
    let up = cgroup.path.components().any(|c| c == Component::ParentDir);
    if !below_root || up {
        return Err(Error::invalid(format!("invalid cgroup path {:?}", cgroup.path)));
    }
    Ok(cgroup.clone())
}

fn program(bytes: &[u8]) -> Result<Vec<u8>> {
    const FILTER_BYTES: usize = 8;
    const MAX_FILTERS: usize = 4096;
    let filters = bytes.len() / FILTER_BYTES;
    if !bytes.len().is_multiple_of(FILTER_BYTES) || filters == 0 || filters > MAX_FILTERS {
        return Err(Error::invalid(format!("seccomp program of {} bytes", bytes.len())));
    }
    Ok(bytes.to_vec())
}

/// An absolute path inside the container, cleaned of `.`, `..` and doubled slashes.
fn inner(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() || !no_nul(path) {
        return Err(Error::invalid(format!("path {path:?} in the container is not absolute")));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    Ok(clean)
}

fn no_nul(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    !path.as_os_str().as_bytes().contains(&0)
}

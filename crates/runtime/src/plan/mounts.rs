//! Mount options in words -> flags of the new mount API.
//!
//! Invariants: nothing but a fresh `proc` at `/proc` and `sysfs` (or a bind of it) at `/sys` may cover
//! `/proc`; below `/proc` only the files that lxcfs gives may be bound.
//! Source: mount(8), mount_setattr(2); runc `checkProcMount` (behaviour, texts).

use super::inner;
use crate::spec;
use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sys::mount::{attr, propagation};

/// One mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, clean path in the container.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: Kind,
    /// Attributes and propagation.
    pub attach: Attach,
    /// How a mapped bind shows owners, when not as the container's user namespace has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<spec::Maps>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A part of the host's tree.
    Bind {
        /// Host path.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// What of it, by a path inside it; all when it is empty.
        #[serde(default, skip_serializing_if = "is_empty")]
        inner: PathBuf,
    },
    /// Layers of an image, read-only.
    Layers {
        /// Their folders, topmost first.
        lower: Vec<PathBuf>,
        /// What of the tree, by a path inside it; all when it is empty.
        #[serde(default, skip_serializing_if = "is_empty")]
        inner: PathBuf,
    },
    /// A new file system.
    New {
        /// Its type.
        fs: String,
        /// Name shown as the source.
        source: String,
        /// Its own options.
        options: Vec<(String, Option<String>)>,
    },
    /// Folders laid over each other, or what is at a path in them.
    Overlay(spec::Overlay),
    /// The container's own control groups.
    Cgroup,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// How a mount is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MOUNT_ATTR_*` bits to set on the mounts below as well.
    pub set_recursive: u64,
    /// `MS_PRIVATE`, ...; 0 leaves it.
    pub propagation: u64,
    /// Propagation of the mounts below as well.
    pub propagation_recursive: bool,
    /// Owners are shown as the mount's maps or the container's user namespace have them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
    /// Those of the mounts below as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped_recursive: bool,
}

/// Files below `/proc` which lxcfs and the like replace.
const PROC_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Checks and translates one mount.
pub(super) fn plan(mount: &spec::Mount) -> Result<Mount> {
    let target = inner(&mount.destination)?;
    if target == Path::new("/") {
        return Err(Error::invalid("invalid mount: destination can't be '/'"));
    }
    let mut attach = Attach::default();
    let mut own = Vec::new();
    let mut bind = mount.kind == "bind";
    let mut recursive = false;
    for option in &mount.options {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            // Words of the mount table without a meaning for the kernel.
            "defaults" | "" | "async" | "nofail" => {}
            word if apply(word, &mut attach) => {}
            word => own.push(match word.split_once('=') {
                // Quotes keep commas together for mount(8); the kernel's call takes the label as it is.
                Some((key, value)) if key.ends_with("context") => {
                    (key.to_owned(), Some(value.trim_matches('"').to_owned()))
                }
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }),
        }
    }
    let kind = match mount.kind.as_str() {
        "overlay" if mount.overlay.is_some() => Kind::Overlay(overlay(mount, &own)?),
        _ if bind => {
            if let Some((key, _)) = own.first() {
                return Err(Error::invalid(format!(
                    "invalid option {key:?} of bind mount {target:?}"
                )));
            }
            let source = source(&mount.source)?;
            Kind::Bind { source, recursive, inner: below_source(&mount.inner)? }
        }
        "layers" => {
            if mount.lower.is_empty() {
                return Err(Error::invalid(format!("mount {target:?} of no layers")));
            }
            let lower = mount.lower.iter().map(|l| self::source(l)).collect::<Result<_>>()?;
            attach.set |= attr::RDONLY;
            Kind::Layers { lower, inner: below_source(&mount.inner)? }
        }
        "cgroup" | "cgroup2" => Kind::Cgroup,
        // Whether it knows the type is the kernel's to say.
        fs if !fs.is_empty() && !fs.contains('\0') => {
            let source = match mount.source.as_os_str().is_empty() {
                true => fs.to_owned(),
                false => mount.source.to_string_lossy().into_owned(),
            };
            Kind::New { fs: fs.to_owned(), source, options: own }
        }
        other => {
            return Err(Error::invalid(format!("unsupported type {other:?} of mount {target:?}")));
        }
    };
    below_proc(&target, &kind)?;
    if attach.propagation == 0 && bind {
        (attach.propagation, attach.propagation_recursive) = (propagation::PRIVATE, true);
    }
    Ok(Mount { target, kind, attach, maps: mount.maps.clone() })
}

/// The propagation of the root mount.
pub(super) fn root_propagation(text: &str) -> Result<u64> {
    let mut attach = Attach::default();
    match text {
        "" => Ok(propagation::PRIVATE),
        word if apply(word, &mut attach) && attach.propagation != 0 => Ok(attach.propagation),
        word => Err(Error::invalid(format!("rootfsPropagation={word} is not supported"))),
    }
}

/// A path inside a source: nothing that climbs out by its words; symlinks are the shim's to resolve.
fn below_source(path: &Path) -> Result<PathBuf> {
    let plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    match plain && super::no_nul(path) {
        true => Ok(path.to_owned()),
        false => Err(Error::invalid(format!("invalid subpath {path:?}: it must stay inside"))),
    }
}

fn overlay(mount: &spec::Mount, own: &[(String, Option<String>)]) -> Result<spec::Overlay> {
    let target = &mount.destination;
    if let Some((key, _)) = own.first() {
        return Err(Error::invalid(format!("invalid option {key:?} of overlay mount {target:?}")));
    }
    let Some(overlay) = mount.overlay.clone().filter(|o| !o.lower.is_empty()) else {
        return Err(Error::invalid(format!("overlay mount {target:?} without a lower folder")));
    };
    for path in overlay.lower.iter().chain([&overlay.upper, &overlay.work]) {
        source(path)?;
    }
    Ok(spec::Overlay { path: inner(&overlay.path)?, ..overlay })
}

fn source(path: &Path) -> Result<PathBuf> {
    match path.is_absolute() && super::no_nul(path) {
        true => Ok(path.to_owned()),
        false => {
            Err(Error::invalid(format!("invalid mount: source path {path:?} must be absolute")))
        }
    }
}

fn apply(word: &str, attach: &mut Attach) -> bool {
    let mut set = |bits: u64| {
        attach.set |= bits;
        attach.clear &= !bits;
    };
    match word {
        "ro" => set(attr::RDONLY),
        "nosuid" => set(attr::NOSUID),
        "nodev" => set(attr::NODEV),
        "noexec" => set(attr::NOEXEC),
        "nodiratime" => set(attr::NODIRATIME),
        "nosymfollow" => set(attr::NOSYMFOLLOW),
        "rw" => unset(attach, attr::RDONLY),
        "suid" => unset(attach, attr::NOSUID),
        "dev" => unset(attach, attr::NODEV),
        "exec" => unset(attach, attr::NOEXEC),
        "diratime" => unset(attach, attr::NODIRATIME),
        "symfollow" => unset(attach, attr::NOSYMFOLLOW),
        "rro" => recursively(attach, attr::RDONLY),
        "rnosuid" => recursively(attach, attr::NOSUID),
        "rnodev" => recursively(attach, attr::NODEV),
        "rnoexec" => recursively(attach, attr::NOEXEC),
        "relatime" => time(attach, attr::RELATIME),
        "idmap" => attach.mapped = true,
        "ridmap" => (attach.mapped, attach.mapped_recursive) = (true, true),
        "noatime" => time(attach, attr::NOATIME),
        "strictatime" => time(attach, attr::STRICTATIME),
        _ => return propagate(word, attach),
    }
    true
}

fn unset(attach: &mut Attach, bits: u64) {
    attach.clear |= bits;
    attach.set &= !bits;
    attach.set_recursive &= !bits;
}

fn recursively(attach: &mut Attach, bits: u64) {
    attach.set |= bits;
    attach.set_recursive |= bits;
    attach.clear &= !bits;
}

/// The three access time modes are one field: the kernel wants it cleared whole before it is set.
fn time(attach: &mut Attach, mode: u64) {
    attach.set = attach.set & !attr::ATIME | mode;
    attach.clear |= attr::ATIME;
}

fn propagate(word: &str, attach: &mut Attach) -> bool {
    let (recursive, plain) = match word.strip_prefix('r') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    attach.propagation = match plain {
        "private" => propagation::PRIVATE,
        "slave" => propagation::SLAVE,
        "shared" => propagation::SHARED,
        "unbindable" => propagation::UNBINDABLE,
        _ => return false,
    };
    attach.propagation_recursive = recursive;
    true
}

/// Whoever covers `/proc` with files of his own decides what later writes to it do.
fn below_proc(target: &Path, kind: &Kind) -> Result<()> {
    let is = |name: &str| matches!(kind, Kind::New { fs, .. } if fs == name);
    let host_tree =
        |dir: &str| matches!(kind, Kind::Bind { source, .. } if source == Path::new(dir));
    if target == Path::new("/proc") && !is("proc") && !host_tree("/proc") {
        return Err(Error::invalid(format!(
            "{target:?} cannot be mounted because it is not of type proc"
        )));
    }
    if target == Path::new("/sys") && !is("sysfs") && !host_tree("/sys") {
        return Err(Error::invalid(format!(
            "{target:?} cannot be mounted because it is not of type sysfs"
        )));
    }
    let inside = target.starts_with("/proc") && target != Path::new("/proc");
    if inside && !PROC_FILES.iter().any(|f| target == Path::new(f)) {
        return Err(Error::invalid(format!(
            "{target:?} cannot be mounted because it is inside /proc"
        )));
    }
    Ok(())
}

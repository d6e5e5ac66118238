//! Where the kernel shows control groups on this machine, and which limits it can set.
//!
//! Source: `/proc/self/mountinfo` (proc(5)); Linux `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst`.

use super::files::{self, Error, Result};
use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Which interface holds the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One tree per controller.
    V1,
    /// One tree.
    V2,
}

/// Where the kernel shows control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub(super) version: Version,
    pub(super) mounts: Vec<Mount>,
    /// Trees that limit nothing here, where other runtimes make groups of the same path all the same and
    /// leave the parent.
    pub(super) others: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub folder: PathBuf,
    pub controllers: Vec<String>,
}

/// What limits this machine can set; the words of `docker info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Memory limit.
    pub memory: bool,
    /// Limit of memory and swap.
    pub swap: bool,
    /// Switching the OOM killer off.
    pub oom_kill_disable: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// CPU quota and period.
    pub cpu_cfs: bool,
    /// CPU and memory node sets.
    pub cpuset: bool,
    /// Limit of tasks.
    pub pids: bool,
    /// Memory below which reclaim spares a group.
    pub memory_reservation: bool,
    /// How readily memory is swapped out, by group.
    pub swappiness: bool,
    /// Real-time processor time.
    pub cpu_realtime: bool,
    /// Weight of a group's block I/O.
    pub blkio_weight: bool,
    /// The same, by device.
    pub blkio_weight_device: bool,
    /// Rates of block I/O, by device.
    pub blkio_throttle: bool,
    /// Device rules.
    pub devices: bool,
}

/// The v1 trees a container is put into, where they are mounted.
const V1_CONTROLLERS: &[&str] = &[
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "name=systemd",
];

impl Hierarchy {
    /// Finds the mounted trees of this process.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read or shows no control groups.
    pub fn detect() -> Result<Self> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|e| Error::new("read", path, e))?;
        Self::from_mountinfo(&text).ok_or_else(|| {
            let missing =
                io::Error::new(io::ErrorKind::Unsupported, "no control groups are mounted");
            Error::new("find", path, missing)
        })
    }

    /// Finds the trees in the text of a `mountinfo`; nothing when it shows none.
    pub fn from_mountinfo(text: &str) -> Option<Self> {
        let mut v1: Vec<Mount> = Vec::new();
        let mut others = Vec::new();
        let mut v2 = None;
        for line in text.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let mut back = back.split(' ');
            let (kind, options) = (back.next(), back.nth(1).unwrap_or(""));
            let Some(folder) = front.split(' ').nth(4).map(unescape) else { continue };
            match kind {
                Some("cgroup") => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|o| V1_CONTROLLERS.contains(o))
                        .map(str::to_owned)
                        .collect();
                    // A tree mounted twice is used once.
                    let known = v1.iter().any(|m| m.controllers == controllers);
                    match controllers.is_empty() {
                        true => others.push(folder),
                        false if known => {}
                        false => v1.push(Mount { folder, controllers }),
                    }
                }
                Some("cgroup2") if v2.is_none() => v2 = Some(folder),
                _ => {}
            }
        }
        let holds = |name: &str| v1.iter().any(|m| m.controllers.iter().any(|c| c == name));
        if holds("memory") || holds("pids") || holds("cpu") {
            others.extend(v2);
            return Some(Self { version: Version::V1, mounts: v1, others });
        }
        v2.map(Self::v2_at)
    }

    /// A tree of version 2 at `folder`.
    pub fn v2_at(folder: PathBuf) -> Self {
        let controllers = files::read(&folder, "cgroup.controllers").unwrap_or_default();
        let controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
        Self {
            version: Version::V2,
            mounts: vec![Mount { folder, controllers }],
            others: Vec::new(),
        }
    }

    /// The version in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What limits can be set.
    pub fn features(&self) -> Features {
        let has = |controller: &str, file: &str| {
            self.mount(controller).is_some_and(|m| m.join(file).exists())
        };
        let named = |controller: &str| self.mount(controller).is_some();
        // The root has no weights: what is in a group below it tells.
        let below = |controller: &str, files: &[&str]| {
            let Some(root) = self.mount(controller) else { return false };
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            let holds = |folder: &Path| files.iter().any(|f| folder.join(f).exists());
            std::iter::once(root.to_owned())
                .chain(folders.map(|e| e.path()))
                .any(|folder| holds(&folder))
        };
        match self.version {
            Version::V1 => Features {
                memory: has("memory", "memory.limit_in_bytes"),
                swap: has("memory", "memory.memsw.limit_in_bytes"),
                oom_kill_disable: has("memory", "memory.oom_control"),
                cpu_shares: has("cpu", "cpu.shares"),
                cpu_cfs: has("cpu", "cpu.cfs_quota_us"),
                cpuset: has("cpuset", "cpuset.cpus"),
                pids: named("pids"),
                memory_reservation: has("memory", "memory.soft_limit_in_bytes"),
                swappiness: has("memory", "memory.swappiness"),
                cpu_realtime: has("cpu", "cpu.rt_runtime_us"),
                blkio_weight: below("blkio", &["blkio.weight", "blkio.bfq.weight"]),
                blkio_weight_device: below(
                    "blkio",
                    &["blkio.weight_device", "blkio.bfq.weight_device"],
                ),
                blkio_throttle: has("blkio", "blkio.throttle.read_bps_device"),
                devices: named("devices"),
            },
            Version::V2 => Features {
                memory: named("memory"),
                swap: named("memory"),
                oom_kill_disable: false,
                cpu_shares: named("cpu"),
                cpu_cfs: named("cpu"),
                cpuset: named("cpuset"),
                pids: named("pids"),
                memory_reservation: named("memory"),
                swappiness: false,
                cpu_realtime: false,
                blkio_weight: below("io", &["io.weight", "io.bfq.weight"]),
                blkio_weight_device: below("io", &["io.weight", "io.bfq.weight"]),
                blkio_throttle: named("io"),
                devices: true,
            },
        }
    }

    /// Processors and memory nodes that groups may have, as the kernel lists them (`0-3,7`).
    pub fn places(&self) -> (String, String) {
        let read = |files: &[&str], otherwise: &str| {
            let own = self.mount("cpuset").and_then(|root| {
                files.iter().find_map(|f| files::read(root, f).ok()).map(|t| t.trim().to_owned())
            });
            own.filter(|t| !t.is_empty()).unwrap_or_else(|| {
                fs::read_to_string(otherwise).unwrap_or_default().trim().to_owned()
            })
        };
        (
            read(&["cpuset.cpus.effective", "cpuset.cpus"], "/sys/devices/system/cpu/online"),
            read(&["cpuset.mems.effective", "cpuset.mems"], "/sys/devices/system/node/online"),
        )
    }

    /// Removes the folders of `path` (the containers' parent) where they are empty.
    ///
    /// # Errors
    /// When a folder can be neither removed nor is in use.
    pub fn remove_parent(&self, path: &str) -> Result<()> {
        for folder in self.all_folders(&relative(path)?) {
            match fs::remove_dir(&folder) {
                Ok(()) => {}
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EBUSY | libc::ENOTEMPTY | libc::ENOENT)
                    ) => {}
                Err(e) => return Err(Error::new("remove", &folder, e)),
            }
        }
        Ok(())
    }

    /// Where the tree of `controller` is mounted.
    pub(super) fn mount(&self, controller: &str) -> Option<&Path> {
        let holds = |m: &&Mount| m.controllers.iter().any(|c| c == controller);
        self.mounts.iter().find(holds).map(|m| m.folder.as_path())
    }

    pub(super) fn folders(&self, path: &Path) -> Vec<PathBuf> {
        self.mounts.iter().map(|m| m.folder.join(path)).collect()
    }

    /// Those of trees used by other runtimes alone, too.
    pub(super) fn all_folders(&self, path: &Path) -> Vec<PathBuf> {
        let others = self.others.iter().map(|m| m.join(path));
        self.mounts.iter().map(|m| m.folder.join(path)).chain(others).collect()
    }
}

/// `\040` and its kin in mountinfo.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(out).into()
}

/// A path below a mount, checked.
pub(super) fn relative(path: &str) -> Result<PathBuf> {
    let clean: PathBuf = Path::new(path.trim_start_matches('/')).to_owned();
    let plain = clean.components().all(|c| matches!(c, Component::Normal(_)));
    if clean.as_os_str().is_empty() || !plain {
        let bad = io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path must name a group below the root",
        );
        return Err(Error::new("use", Path::new(path), bad));
    }
    Ok(clean)
}

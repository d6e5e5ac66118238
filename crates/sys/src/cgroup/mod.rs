//! Control groups, versions 1 and 2: limits, freezing, counting and killing of a container's processes.
//!
//! Flow: [`Hierarchy::detect`] once; [`Cgroup::create`] makes the folders and writes the limits;
//! processes enter by [`Cgroup::add`], by [`Cgroup::join_fds`] (the child writes `0` itself) or, on v2,
//! by clone3's `CLONE_INTO_CGROUP` with [`Cgroup::folder_fd`]; [`Cgroup::remove`] takes all away.
//! On v1 one container is one folder in each controller's tree; in a hybrid system the v1 trees are used
//! and v2 only when it has the controllers.
//! Invariants: a path is relative to the mount and has no `..`; `create` leaves nothing when it fails;
//! `remove` may be called twice and also removes what a container made below its own folder.
//! Source: Linux `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst`; runc (conversion of units).
//! Not here: the parent's removal is the daemon's ([`Hierarchy::remove_parent`]), when it ends.

mod devices;
mod files;
mod hierarchy;
mod meter;
mod resources;
mod stats;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub use files::Error;
pub use hierarchy::{Features, Hierarchy, Version};
pub use meter::Meter;
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Pids, Resources, Throttle, WeightDevice,
};
pub use stats::{BlkioEntry, CpuStats, MemoryStats, PidsStats, Stats};

use files::Result;
use hierarchy::relative;
use std::{
    fs::{self, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// One container's control group.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Cgroup {
    /// Makes the folders of `path` (`/gantry/<id>`) and writes `resources`.
    ///
    /// # Errors
    /// The control file and value that the kernel refused; nothing is left then.
    pub fn create(hierarchy: &Hierarchy, path: &str, resources: &Resources) -> Result<Self> {
        let group = Self::open(hierarchy, path)?;
        let made = group.make().and_then(|()| group.apply(resources));
        if let Err(err) = made {
            // The first failure is the one to tell.
            let _ = group.remove();
            return Err(err);
        }
        Ok(group)
    }

    /// The group of `path`, without looking whether it is there.
    ///
    /// # Errors
    /// For a path that names no group below the root.
    pub fn open(hierarchy: &Hierarchy, path: &str) -> Result<Self> {
        Ok(Self { hierarchy: hierarchy.clone(), path: relative(path)? })
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.hierarchy.folders(&self.path)
    }

    /// The folder of a v1 controller, or the one folder of v2.
    fn folder(&self, controller: &str) -> Option<PathBuf> {
        match self.hierarchy.version {
            Version::V1 => self.hierarchy.mount(controller).map(|m| m.join(&self.path)),
            Version::V2 => self.hierarchy.mounts.first().map(|m| m.folder.join(&self.path)),
        }
    }

    fn make(&self) -> Result<()> {
        match self.hierarchy.version {
            Version::V1 => v1::make(&self.hierarchy, &self.path),
            Version::V2 => v2::make(&self.hierarchy, &self.path),
        }
    }

    fn apply(&self, resources: &Resources) -> Result<()> {
        match self.hierarchy.version {
            Version::V1 => v1::apply(self, resources),
            Version::V2 => v2::apply(self, resources),
        }
    }

    /// Changes limits; device rules only if `resources` has any.
    ///
    /// # Errors
    /// The control file and value that the kernel refused; earlier values are in force then.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.apply(resources)
    }

    /// Puts a process into the group.
    ///
    /// # Errors
    /// The control file that refused it.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.folders().iter().try_for_each(|f| files::write(f, "cgroup.procs", &pid.to_string()))
    }

    /// Opens what a process writes `0` to, to enter the group by itself.
    ///
    /// # Errors
    /// The control file that cannot be opened.
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        let open = |folder: PathBuf| {
            let file = folder.join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&file)
                .map(OwnedFd::from)
                .map_err(|e| Error::new("open", &file, e))
        };
        self.folders().into_iter().map(open).collect()
    }

    /// The folder of a v2 group, for `CLONE_INTO_CGROUP`; `None` on v1.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn folder_fd(&self) -> Result<Option<OwnedFd>> {
        if self.hierarchy.version == Version::V1 {
            return Ok(None);
        }
        self.folder("").map(|folder| open_folder(&folder)).transpose()
    }

    /// All processes in the group and below it.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        let folder = match self.hierarchy.version {
            Version::V1 => self.folder("devices").or_else(|| self.folders().into_iter().next()),
            Version::V2 => self.folder(""),
        };
        if let Some(folder) = folder {
            collect_pids(&folder, &mut all)?;
        }
        Ok(all)
    }

    /// Stops all processes of the group where they are.
    ///
    /// # Errors
    /// When the kernel refuses, or not all have stopped within ten seconds.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let Some(folder) = self.folder("freezer") else { return Err(self.no_freezer()) };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // v1 may miss a process that forks meanwhile: saying it again catches that.
            match self.hierarchy.version {
                Version::V1 => {
                    let state = if frozen { "FROZEN" } else { "THAWED" };
                    files::write(&folder, "freezer.state", state)?;
                }
                Version::V2 => {
                    files::write(&folder, "cgroup.freeze", if frozen { "1" } else { "0" })?;
                }
            }
            if self.is_frozen()? == frozen {
                return Ok(());
            }
            if Instant::now() > deadline {
                if frozen {
                    // Half stopped is worse than running.
                    self.set_frozen(false)?;
                }
                let late =
                    io::Error::new(io::ErrorKind::TimedOut, "not all processes have stopped");
                return Err(Error::new("freeze", &folder, late));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn no_freezer(&self) -> Error {
        let missing = io::Error::new(io::ErrorKind::Unsupported, "there is no freezer controller");
        Error::new("freeze", &self.path, missing)
    }

    /// Whether all processes of the group are stopped.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some(folder) = self.folder("freezer") else { return Ok(false) };
        Ok(match self.hierarchy.version {
            Version::V1 => files::read(&folder, "freezer.state")?.trim() == "FROZEN",
            Version::V2 => {
                files::read(&folder, "cgroup.events")?.lines().any(|line| line == "frozen 1")
            }
        })
    }

    /// Whether the group was asked to stop its processes and not to let them go on since. One that stands still may be seen
    /// on its way there again, when a signal came for it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_freezing(&self) -> Result<bool> {
        let Some(folder) = self.folder("freezer") else { return Ok(false) };
        let file = match self.hierarchy.version {
            Version::V1 => "freezer.self_freezing",
            Version::V2 => "cgroup.freeze",
        };
        Ok(files::read(&folder, file)?.trim() == "1")
    }

    /// Sends SIGKILL to all processes of the group; they may take a moment to be gone.
    ///
    /// # Errors
    /// When the group's processes cannot be read.
    pub fn kill_all(&self) -> Result<()> {
        if self.hierarchy.version == Version::V2
            && let Some(folder) = self.folder("")
        {
            match files::write(&folder, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
        }
        // Frozen first, so that none can fork away; the signal takes effect when they go on.
        let frozen = self.freeze().is_ok();
        let pids = self.pids();
        for pid in pids.iter().flatten() {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                // One that is gone already is what is wanted.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if frozen {
            self.thaw()?;
        }
        pids.map(drop)
    }

    /// Usage now. For more than one reading there is [`Meter`].
    pub fn stats(&self) -> Stats {
        Meter::new(self.clone()).read()
    }

    /// How many processes of the group the kernel killed for want of memory.
    pub fn oom_count(&self) -> u64 {
        let Some(folder) = self.folder("memory") else { return 0 };
        let file = match self.hierarchy.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        files::value(&folder, file, "oom_kill").unwrap_or(0)
    }

    /// Removes the group and all below it; waits up to two seconds for processes that are just ending.
    ///
    /// # Errors
    /// The folder that stays, with the reason.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut first = None;
        for folder in self.hierarchy.all_folders(&self.path) {
            if let Err(err) = remove_tree(&folder, deadline) {
                first.get_or_insert(err);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

fn open_folder(folder: &Path) -> Result<OwnedFd> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(folder)
        .map(OwnedFd::from)
        .map_err(|e| Error::new("open", folder, e))
}

fn collect_pids(folder: &Path, all: &mut Vec<i32>) -> Result<()> {
    match files::read(folder, "cgroup.procs") {
        Ok(text) => all.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
        // A threaded subtree has no list of its own.
        Err(e) if e.io().raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    }
    for child in children(folder) {
        match collect_pids(&child, all) {
            Err(e) if !e.is_missing() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn remove_tree(folder: &Path, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => {
                for child in children(folder) {
                    remove_tree(&child, deadline)?;
                }
                if Instant::now() >= deadline {
                    return Err(Error::new("remove", folder, e));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(Error::new("remove", folder, e)),
        }
    }
}

/// Makes a folder and those above it, one retry for a parent that another removed meanwhile.
fn make_folders(folder: &Path) -> Result<()> {
    for last in [false, true] {
        match fs::DirBuilder::new().recursive(true).create(folder) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !last => {}
            Err(e) => return Err(Error::new("make", folder, e)),
        }
    }
    Ok(())
}

/// Lets the calling process enter through what [`Cgroup::join_fds`] opened.
///
/// # Errors
/// The failing write.
pub fn join(fds: &[OwnedFd]) -> io::Result<()> {
    fds.iter()
        .try_for_each(|fd| rustix::io::write(fd.as_fd(), b"0").map(drop).map_err(io::Error::from))
}

//! What is known of a container: a folder below the root with `state.json`, and the gate of its first process
//! until that is started.
//!
//! Invariants: `state.json` appears whole (written aside, renamed); whoever changes a container holds the lock
//! on its folder; a pid counts only together with the time at which its process started.

use super::Cx;
use crate::{
    container::{Step, Tried},
    hooks::State,
};
use base::Timestamp;
use runtime::{oci, shim::StartError};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};
use sys::{
    cgroup::{Cgroup, Hierarchy},
    process as kernel,
};

/// Longest id.
const LONGEST: usize = 1024;
/// The gate's name in a container's folder.
const GATE: &str = "exec.fifo";
const FILE: &str = "state.json";

/// What is on record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Its id.
    pub(super) id: String,
    /// Pid of the first process.
    pub(super) pid: u32,
    /// When that process started, in the kernel's ticks.
    pub(super) started: u64,
    /// The bundle's folder.
    pub(super) bundle: PathBuf,
    /// When it was created.
    pub(super) created: String,
    /// Path of its control group.
    pub(super) cgroup: PathBuf,
    /// The bundle's configuration as it was.
    pub(super) config: oci::Config,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// As the specification names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Record {
    /// The state with `status`.
    pub(super) fn state(&self, status: &'static str) -> State<'_> {
        State {
            rootfs: self.config.root.as_ref().map(|r| r.path.as_path()),
            created: &self.created,
            annotations: &self.config.annotations,
            ..State::new(&self.id, self.pid, status, &self.bundle)
        }
    }

    /// The same as hooks read it.
    pub(super) fn for_hooks(&self, status: &'static str) -> String {
        self.state(status).text()
    }
}

/// A container, locked.
#[derive(Debug)]
pub(super) struct Container {
    dir: PathBuf,
    /// What is on record.
    pub(super) record: Record,
    lock: File,
}

impl Drop for Container {
    /// Copies of this process that wait for their start hold the same lock: it is given back, not merely closed.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Container {
    /// Claims the id of a new container.
    pub(super) fn claim(cx: &Cx, id: &str) -> Step<Self> {
        let dir = folder(cx, id)?;
        let what = || format!("make {}", dir.display());
        DirBuilder::new().recursive(true).mode(0o711).create(&cx.root).tried(what)?;
        match DirBuilder::new().mode(0o711).create(&dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(StartError::setup("container with given ID already exists"));
            }
            made => made.tried(what)?,
        }
        let lock = lock(&dir)?;
        let record = Record {
            id: id.to_owned(),
            created: Timestamp::now().to_string(),
            ..Record::default()
        };
        Ok(Self { dir, record, lock })
    }

    /// The container called `id`.
    pub(super) fn find(cx: &Cx, id: &str) -> Step<Self> {
        let dir = folder(cx, id)?;
        if !dir.is_dir() {
            return Err(missing());
        }
        let lock = lock(&dir)?;
        let record = read(&dir)?;
        Ok(Self { dir, record, lock })
    }

    /// The record of `id` without a lock: to look only.
    pub(super) fn look(cx: &Cx, id: &str) -> Step<(Record, Status)> {
        let dir = folder(cx, id)?;
        let record = read(&dir)?;
        let status = status(&dir, &record);
        Ok((record, status))
    }

    /// All that are there, by id.
    pub(super) fn all(cx: &Cx) -> Vec<(Record, Status)> {
        let mut ids: Vec<String> = fs::read_dir(&cx.root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        ids.sort();
        // One may be in the making, or go just now.
        ids.iter().filter_map(|id| Self::look(cx, id).ok()).collect()
    }

    /// Writes the record.
    pub(super) fn save(&self) -> Step {
        let bytes =
            serde_json::to_vec(&self.record).map_err(|e| StartError::setup(e.to_string()))?;
        let (new, place) = (self.dir.join("state.json.new"), self.dir.join(FILE));
        let saved = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &place));
        saved.tried(|| format!("write {}", place.display()))
    }

    /// How far it is.
    pub(super) fn status(&self) -> Status {
        status(&self.dir, &self.record)
    }

    /// Where the gate of its first process is.
    pub(super) fn gate(&self) -> PathBuf {
        self.dir.join(GATE)
    }

    /// Its control group.
    pub(super) fn group(&self) -> Step<Cgroup> {
        group(&self.record)
    }

    /// Its first process.
    pub(super) fn process(&self) -> Step<OwnedFd> {
        process(&self.record)
    }

    /// Forgets it.
    pub(super) fn forget(&self) -> Step {
        fs::remove_dir_all(&self.dir).tried(|| format!("remove {}", self.dir.display()))
    }
}

/// Removes what is left of one that was killed while it was made; whether there was any.
pub(super) fn forget_half_made(cx: &Cx, id: &str) -> Step<bool> {
    let dir = folder(cx, id)?;
    if !dir.is_dir() || dir.join(FILE).exists() {
        return Ok(false);
    }
    let _lock = lock(&dir)?;
    fs::remove_dir_all(&dir).tried(|| format!("remove {}", dir.display()))?;
    Ok(true)
}

/// The first process of a record.
pub(super) fn process(record: &Record) -> Step<OwnedFd> {
    let gone = || StartError::setup("container not running");
    let pidfd = kernel::open(record.pid).map_err(|_| gone())?;
    // The descriptor is of whoever has the pid now: the time tells whether that is still the same.
    if alive(record) { Ok(pidfd) } else { Err(gone()) }
}

/// The control group of a record.
pub(super) fn group(record: &Record) -> Step<Cgroup> {
    let text = |e: &sys::cgroup::Error| StartError::setup(base::error::chain(e));
    let hierarchy = Hierarchy::detect().map_err(|e| text(&e))?;
    Cgroup::open(&hierarchy, &record.cgroup.to_string_lossy()).map_err(|e| text(&e))
}

/// That there is none.
pub(super) fn missing() -> StartError {
    StartError::setup("container does not exist")
}

/// State of a process and the time at which it started.
pub(super) fn start_time(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

fn alive(record: &Record) -> bool {
    start_time(record.pid)
        .is_some_and(|(state, at)| at == record.started && !matches!(state, 'Z' | 'X'))
}

fn status(dir: &Path, record: &Record) -> Status {
    if !alive(record) {
        return Status::Stopped;
    }
    if dir.join(GATE).exists() {
        return Status::Created;
    }
    match group(record).map(|g| g.is_freezing()) {
        Ok(Ok(true)) => Status::Paused,
        _ => Status::Running,
    }
}

fn read(dir: &Path) -> Step<Record> {
    match fs::read(dir.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            StartError::setup(format!("cannot read {}: {e}", dir.join(FILE).display()))
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(missing()),
        Err(e) => Err(e).tried(|| format!("read {}", dir.join(FILE).display())),
    }
}

fn lock(dir: &Path) -> Step<File> {
    let what = || format!("lock {}", dir.display());
    let file = File::open(dir).tried(what)?;
    file.lock().tried(what)?;
    Ok(file)
}

/// The folder of `id`, which is a single plain name.
fn folder(cx: &Cx, id: &str) -> Step<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() || id.len() > LONGEST || !id.bytes().all(plain) || matches!(id, "." | "..") {
        return Err(StartError::setup("invalid container ID format"));
    }
    Ok(cx.root.join(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_name() {
        let cx = Cx { root: "/r".into() };
        assert_eq!(folder(&cx, "a_B+9.x-").unwrap(), Path::new("/r/a_B+9.x-"));
        for bad in ["", ".", "..", "a/b", "a b", "\u{e4}", &"x".repeat(LONGEST + 1)] {
            assert_eq!(folder(&cx, bad).unwrap_err().text, "invalid container ID format", "{bad}");
        }
    }

    #[test]
    fn an_id_is_claimed_once_and_a_pid_counts_with_its_time() {
        let home = tempfile::tempdir().unwrap();
        let cx = Cx { root: home.path().join("root") };
        let mut one = Container::claim(&cx, "one").unwrap();
        let taken = Container::claim(&cx, "one").unwrap_err();
        assert_eq!(taken.text, "container with given ID already exists");
        one.record.pid = std::process::id();
        one.record.started = start_time(std::process::id()).unwrap().1;
        one.save().unwrap();
        drop(one);
        assert_eq!(Container::look(&cx, "one").unwrap().1, Status::Running);
        let mut one = Container::find(&cx, "one").unwrap();
        one.record.started += 1;
        assert_eq!(one.status(), Status::Stopped);
        assert_eq!(process(&one.record).unwrap_err().text, "container not running");
        one.forget().unwrap();
        assert_eq!(Container::look(&cx, "one").unwrap_err().text, "container does not exist");
        assert!(Container::all(&cx).is_empty());
    }
}

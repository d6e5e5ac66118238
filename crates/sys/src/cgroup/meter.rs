//! Reading the control files of one group again and again.
//!
//! Opening and closing the files takes most of what a sample costs, so a meter can hold them open. A held file's group may
//! go meanwhile: the kernel answers `ENODEV` then, and the file is opened anew by its name.
//! Invariant: all meters together hold a part of the files that the process may open, the others open theirs each time.

use super::{Cgroup, Stats, Version, stats};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::{Errno, pread},
    process::{Resource, getrlimit},
};
use std::{
    collections::HashMap,
    fs::File,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Most files that a meter holds.
const FILES: usize = 13;
/// The part of the process's open files that meters may hold: one by this.
const PART: usize = 3;
/// Most control files are shorter.
const USUAL: usize = 4 << 10;
/// A control file that is longer is cut off.
const MOST: usize = 1 << 20;

/// Files held by all meters.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Reads what a group uses.
#[derive(Debug)]
pub struct Meter {
    group: Cgroup,
    held: Option<Held>,
    buffer: Vec<u8>,
}

/// Open files, by name; `None` for one that this kernel does not have.
#[derive(Debug)]
struct Held(HashMap<&'static str, Option<File>>);

impl Held {
    fn new() -> Option<Self> {
        static ALLOWED: OnceLock<usize> = OnceLock::new();
        let allowed = *ALLOWED.get_or_init(|| {
            let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            usize::try_from(most).unwrap_or(usize::MAX) / PART
        });
        if HELD.fetch_add(FILES, Ordering::Relaxed) + FILES > allowed {
            HELD.fetch_sub(FILES, Ordering::Relaxed);
            return None;
        }
        Some(Self(HashMap::with_capacity(FILES)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(FILES, Ordering::Relaxed);
    }
}

impl Meter {
    /// A meter that opens the files for each reading.
    pub fn new(group: Cgroup) -> Self {
        Self { group, held: None, buffer: vec![0; USUAL] }
    }

    /// A meter for many readings: it holds the files open, as long as the process has enough of them.
    pub fn held(group: Cgroup) -> Self {
        Self { held: Held::new(), ..Self::new(group) }
    }

    /// Usage so far and now; zeros for controllers that are not there.
    pub fn read(&mut self) -> Stats {
        match self.group.hierarchy.version {
            Version::V1 => stats::v1(self),
            Version::V2 => stats::v2(self),
        }
    }

    /// The text of a control file; nothing when it or its controller is not there.
    pub(super) fn text(&mut self, controller: &str, name: &'static str) -> &str {
        let length = self.fill(controller, name).unwrap_or(0);
        std::str::from_utf8(&self.buffer[..length]).unwrap_or_default()
    }

    /// A number; `max` and missing files are `None`.
    pub(super) fn number(&mut self, controller: &str, name: &'static str) -> Option<u64> {
        self.text(controller, name).trim().parse().ok()
    }

    fn fill(&mut self, controller: &str, name: &'static str) -> rustix::io::Result<usize> {
        if let Some(Held(files)) = &mut self.held {
            match files.get(name) {
                Some(None) => return Err(Errno::NOENT),
                Some(Some(file)) => match whole(file, &mut self.buffer) {
                    Ok(length) => return Ok(length),
                    Err(_) => _ = files.remove(name),
                },
                None => {}
            }
        }
        let folder = self.group.folder(controller).ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match openat(rustix::fs::CWD, folder.join(name), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(err) => {
                if let (Errno::NOENT, Some(Held(files))) = (err, &mut self.held)
                    && folder.exists()
                {
                    files.insert(name, None);
                }
                return Err(err);
            }
        };
        let length = whole(&file, &mut self.buffer)?;
        if let Some(Held(files)) = &mut self.held {
            files.insert(name, Some(file));
        }
        Ok(length)
    }
}

/// Reads a control file, which is one record: what leaves room in the buffer is all of it.
fn whole(file: &File, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    loop {
        let length = pread(file, &mut buffer[..], 0)?;
        if length < buffer.len() || length >= MOST {
            return Ok(length);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

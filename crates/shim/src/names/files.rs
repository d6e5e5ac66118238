//! Settings and tables, read again when they were replaced.

use resolver::{SETTINGS_FILE, Settings, Table, Zone};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The container's folder is descriptor 1 (see `mod.rs`).
const FOLDER: &str = "/proc/self/fd/1";

/// What tells one state of a file from another: it is replaced, never written to.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

/// The files of one server, and what was in them when they were read last.
#[derive(Debug, Default)]
pub(super) struct Files {
    settings: Stamp,
    tables: Vec<(PathBuf, Stamp)>,
    /// What they say.
    pub(super) zone: Zone,
}

impl Files {
    /// Looks whether anything was replaced. What cannot be read stays as it was.
    pub(super) fn refresh(&mut self) {
        let place = Path::new(FOLDER).join(SETTINGS_FILE);
        let now = stamp(&place);
        let mut changed = false;
        if now != self.settings
            && let Some(settings) = read::<Settings>(&place)
        {
            self.tables = settings.tables.iter().map(|path| (path.clone(), None)).collect();
            self.zone = Zone::new(settings, Vec::new());
            self.settings = now;
            changed = true;
        }
        changed |= self.tables.iter().any(|(path, known)| stamp(path) != *known);
        if !changed {
            return;
        }
        let mut tables = Vec::with_capacity(self.tables.len());
        for (path, known) in &mut self.tables {
            // The stamp is taken first: one replaced meanwhile is read again.
            *known = stamp(path);
            tables.extend(read::<Table>(path));
        }
        self.zone = Zone::new(std::mem::take(&mut self.zone.settings), tables);
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

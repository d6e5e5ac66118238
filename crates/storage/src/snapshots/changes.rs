//! What a container changed: `docker diff`.
//!
//! compat(docker 28): an upper name that a layer below has too is a modification, but for a folder with the
//! same mode, size and time, which is only there because of something in it; yet an addition or deletion
//! always names its folder as modified. Source: Moby pkg/archive/changes.go (behaviour).

use super::{Active, Change, ChangeKind};
use crate::{
    error::io,
    layers::OPAQUE_XATTR,
    pack::Stop,
    walk::{Here, walk},
};
use base::Result;
use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};
use sys::root::{Dir, Kind, Root};

pub(super) fn list(active: &Active) -> Result<Vec<Change>> {
    let fail = |e| io(format!("cannot compare the tree of {}", active.id), e);
    let below = match &active.lower[..] {
        [one] => Root::open(one),
        many => sys::overlay::mount(many, None, None).map(Root::from),
    };
    let below = below.map_err(fail)?;
    let upper = Dir::open(&active.upper).map_err(fail)?;
    let mut found = Found { below, changes: Vec::new(), folders: HashSet::new() };
    walk(upper, |here| found.entry(here)).map_err(|e| e.0)?;
    let mut changes = found.changes;
    changes.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(changes)
}

struct Found {
    below: Root,
    changes: Vec<Change>,
    folders: HashSet<PathBuf>,
}

impl Found {
    fn entry(&mut self, here: &Here<'_>) -> Result<bool, Stop> {
        let path = Path::new("/").join(OsStr::from_bytes(here.path));
        let stat = &here.stat;
        if stat.is_whiteout() {
            self.add(path, ChangeKind::Deleted);
            return Ok(false);
        }
        let was = self.below.lstat(&path).ok();
        let is_dir = stat.kind == Kind::Dir;
        let kind = match was {
            None => ChangeKind::Added,
            Some(was) if is_dir && was.kind == Kind::Dir => {
                let opaque = here.dir.xattr(here.name, OsStr::new(OPAQUE_XATTR))?;
                if opaque.as_deref() == Some(b"y") {
                    ChangeKind::Deleted
                } else if (was.mode, was.mtime, was.size) == (stat.mode, stat.mtime, stat.size) {
                    return Ok(true);
                } else {
                    ChangeKind::Modified
                }
            }
            Some(_) => ChangeKind::Modified,
        };
        if is_dir {
            self.folders.insert(path.clone());
        }
        self.add(path, kind);
        Ok(true)
    }

    fn add(&mut self, path: PathBuf, kind: ChangeKind) {
        if kind != ChangeKind::Modified
            && let Some(parent) = path.parent()
            && parent != Path::new("/")
            && self.folders.insert(parent.to_owned())
        {
            self.changes.push(Change { path: parent.to_owned(), kind: ChangeKind::Modified });
        }
        self.changes.push(Change { path, kind });
    }
}

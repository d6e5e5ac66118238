//! Visits a tree in the order of Go's `filepath.Walk` (each folder's names sorted by byte, a folder
//! before what is in it), which is the order of Docker's layers.
//!
//! Invariants: neither depth nor descriptors grow with the tree; symlinks are not followed; what vanishes
//! while the walk goes on is left out.

use crate::folders::Folders;
use rustix::io::Errno;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};
use sys::root::{Dir, Error, Kind, Stat};

/// Where a visitor is.
#[derive(Debug)]
pub(crate) struct Here<'h> {
    /// The folder.
    pub(crate) dir: &'h Dir,
    /// The name in it.
    pub(crate) name: &'h OsStr,
    /// Path from the root of the walk.
    pub(crate) path: &'h [u8],
    /// What is there.
    pub(crate) stat: Stat,
}

/// Visits all below `root`, not `root` itself. `visit` says whether to go into a folder.
pub(crate) fn walk<E: From<Error>>(
    root: Dir,
    mut visit: impl FnMut(&Here<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut folders = Folders::new(root);
    let mut path: Vec<u8> = Vec::new();
    let first = folders.root().entries()?;
    let mut way = vec![(0, first.into_iter())];
    while let Some((length, names)) = way.last_mut() {
        path.truncate(*length);
        let Some((name, _)) = names.next() else {
            way.pop();
            continue;
        };
        if let Some(inner) = step(&mut folders, &mut path, &name, &mut visit)? {
            way.push((path.len(), inner.into_iter()));
        }
    }
    Ok(())
}

type Names = Vec<(OsString, Option<Kind>)>;

/// Visits one name; gives what is in it when it is a folder to go into.
fn step<E: From<Error>>(
    folders: &mut Folders,
    path: &mut Vec<u8>,
    name: &OsStr,
    visit: &mut impl FnMut(&Here<'_>) -> Result<bool, E>,
) -> Result<Option<Names>, E> {
    let dir = match folders.find(path) {
        Ok(dir) => dir,
        Err(e) if gone(&e) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let stat = match dir.stat(name) {
        Ok(stat) => stat,
        Err(e) if gone(&e) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    if !visit(&Here { dir, name, path, stat })? || stat.kind != Kind::Dir {
        return Ok(None);
    }
    match folders.find(path).and_then(Dir::entries) {
        Ok(inner) => Ok(Some(inner)),
        Err(e) if gone(&e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn gone(err: &Error) -> bool {
    matches!(err.errno(), Errno::NOENT | Errno::NOTDIR | Errno::STALE)
}

//! A way down a tree, kept open: entries of an archive mostly sit beside the one before, so the folder
//! is already at hand and nothing is resolved anew.
//!
//! Invariants: every step down is one name, never a symlink; at most [`OPEN`] descriptors are held,
//! however deep the way; whoever moves or deletes a folder on it calls [`Folders::forget`].

use rustix::io::Errno;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
use sys::root::{Dir, Error, Result};

const OPEN: usize = 48;

/// An open way down below a root.
#[derive(Debug)]
pub(crate) struct Folders {
    root: Dir,
    way: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: Vec<u8>,
    /// `None` when it was closed to stay below the limit.
    dir: Option<Dir>,
}

impl Folders {
    pub(crate) fn new(root: Dir) -> Self {
        Self { root, way: Vec::new() }
    }

    pub(crate) fn root(&self) -> &Dir {
        &self.root
    }

    /// Drops what is open.
    pub(crate) fn forget(&mut self) {
        self.way.clear();
    }

    /// The folder at `path`, names separated by single slashes, empty for the root. `missing` is asked
    /// for what stands in the way: it may make the folder in its parent (then it is opened) or fail.
    pub(crate) fn open<E: From<Error>>(
        &mut self,
        path: &[u8],
        mut missing: impl FnMut(&Dir, &OsStr, &[u8], Errno) -> std::result::Result<(), E>,
    ) -> std::result::Result<&Dir, E> {
        let mut at = 0;
        let mut known = 0;
        for step in &self.way {
            let end = at + step.name.len();
            let same = path.len() >= end
                && path[at..end] == step.name[..]
                && (path.len() == end || path[end] == b'/');
            if !same || step.name.is_empty() {
                break;
            }
            known += 1;
            at = (end + 1).min(path.len());
            if at == path.len() {
                break;
            }
        }
        while known > 0 && self.way[known - 1].dir.is_none() {
            known -= 1;
        }
        self.way.truncate(known);
        at = self.way.iter().map(|step| step.name.len() + 1).sum::<usize>().min(path.len());
        while at < path.len() {
            let end = path[at..].iter().position(|b| *b == b'/').map_or(path.len(), |n| at + n);
            let name = OsStr::from_bytes(&path[at..end]);
            let parent = self.last();
            let dir = match parent.open_dir(name) {
                Ok(dir) => dir,
                Err(e) => {
                    missing(parent, name, &path[..end], e.errno())?;
                    parent.open_dir(name)?
                }
            };
            let depth = self.way.len();
            if depth >= OPEN {
                self.way[depth - OPEN].dir = None;
            }
            self.way.push(Step { name: name.as_bytes().to_vec(), dir: Some(dir) });
            at = (end + 1).min(path.len());
        }
        Ok(self.last())
    }

    /// As [`Self::open`], with nothing made on the way.
    pub(crate) fn find(&mut self, path: &[u8]) -> Result<&Dir> {
        self.open(path, |_, _, at, errno| Err(Error::new("open", OsStr::from_bytes(at), errno)))
    }

    fn last(&self) -> &Dir {
        self.way.last().and_then(|step| step.dir.as_ref()).unwrap_or(&self.root)
    }
}

/// Splits a clean path into parent and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], OsStr::from_bytes(&path[at + 1..])),
        None => (b"", OsStr::from_bytes(path)),
    }
}

/// Cleans a name from an archive: no empty parts, no `.`, each `..` takes the part before away. `None`
/// when it leads above the root.
pub(crate) fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if out.is_empty() {
                    return None;
                }
                let parent = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Some(out)
}

//! What a layer takes from those below: the owner and mode of folders that its tar implies without
//! listing, and files that it hard-links without having them. A layer that takes anything is bound to
//! its chain.

use crate::{
    copy,
    error::io,
    folders::{Folders, split},
    place::Owed,
};
use base::{Error, Result};
use rustix::io::Errno;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
use sys::root::{Kind, Root, Time};

const MOST: usize = 1 << 16;

/// Names whose metadata or content must come from below.
#[derive(Debug, Default)]
pub(crate) struct Borrowed {
    folders: Vec<(Vec<u8>, Time)>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Borrowed {
    /// A folder that an entry of this time implies.
    pub(crate) fn folder(&mut self, path: Vec<u8>, mtime: Time) {
        self.folders.push((path, mtime));
    }

    /// A hard link; `None` when there are too many.
    pub(crate) fn link(&mut self, path: Vec<u8>, target: Vec<u8>) -> Option<()> {
        self.links.push((path, target));
        (self.links.len() <= MOST).then_some(())
    }

    /// Whether anything comes from below.
    pub(crate) fn any(&self) -> bool {
        !(self.folders.is_empty() && self.links.is_empty())
    }

    /// Drops folders at and below `path`.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.folders.retain(|(known, _)| {
            !(known.starts_with(path) && (known.len() == path.len() || known[path.len()] == b'/'))
        });
    }

    /// Takes all from `below`, or the defaults; gives what the folders are still owed and the bytes that
    /// were copied.
    pub(crate) fn settle(
        self,
        below: Option<&Root>,
        layer: &mut Folders,
    ) -> Result<(Vec<Owed>, u64)> {
        layer.forget();
        let mut bytes = 0;
        for (path, target) in self.links {
            bytes += link(below, layer, &path, &target)?;
        }
        let mut owed = Vec::with_capacity(self.folders.len());
        for (path, mtime) in self.folders {
            let fail = |e| io(format!("cannot make the folder {}", path.escape_ascii()), e);
            let own = match layer.find(&path) {
                Ok(own) => own,
                Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(fail(e)),
            };
            let like = below.and_then(|below| below.lstat(OsStr::from_bytes(&path)).ok());
            match (like, below) {
                (Some(like), Some(below)) if like.kind == Kind::Dir => {
                    let model = below.open_dir(OsStr::from_bytes(&path)).map_err(fail)?;
                    owed.push(copy::dress(&model, own, &path).map_err(fail)?);
                }
                _ => {
                    own.set_self((0, 0), 0o755, None).map_err(fail)?;
                    owed.push(Owed::time(&path, mtime));
                }
            }
        }
        Ok((owed, bytes))
    }
}

fn link(below: Option<&Root>, layer: &mut Folders, path: &[u8], target: &[u8]) -> Result<u64> {
    let missing = || {
        let (path, target) = (path.escape_ascii(), target.escape_ascii());
        Error::invalid(format!(
            "malformed tar: entry \"{path}\": its hard link's target \"{target}\" does not exist"
        ))
    };
    let fail = |e| io(format!("cannot link {}", path.escape_ascii()), e);
    let (source, last) =
        below.ok_or_else(missing)?.parent(OsStr::from_bytes(target)).map_err(|_| missing())?;
    let stat = source.stat(last.as_os_str()).map_err(|_| missing())?;
    if !matches!(stat.kind, Kind::File | Kind::Symlink) {
        return Err(missing());
    }
    let (parent, name) = split(path);
    let into = match layer.find(parent) {
        Ok(into) => into,
        // Replaced by a later entry.
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(0),
        Err(e) => return Err(fail(e)),
    };
    match copy::one(&source, &last, into, name, &stat) {
        Ok(()) => Ok(stat.size),
        Err(e) if e.is_taken() => Ok(0),
        Err(e) => Err(fail(e)),
    }
}

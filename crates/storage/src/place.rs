//! Puts single entries of an archive into a folder: the part that unpacking a layer and extracting an
//! archive share.
//!
//! Invariants: owner before mode before attributes before time, since each may undo the next; new files
//! are made with O_EXCL; a folder's time, setgid bit and default ACL come last, because files made in it
//! would change the one and inherit the others.

use crate::tar::{Entry, EntryKind, Segment, reader};
use base::{Error, Kind, Result};
use rustix::io::Errno;
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{BufRead, Seek as _, SeekFrom, Write as _},
    os::unix::ffi::OsStrExt as _,
};
use sys::root::{self, Dir, Node, Time};

/// What a folder is still owed when all is in it.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) path: Vec<u8>,
    mtime: Time,
    mode: Option<u32>,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Who we are and what the process takes away from new files' modes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours {
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Ours {
    pub(crate) fn now() -> Self {
        // umask(2) can only be read by changing it for all threads.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status
            .lines()
            .find_map(|line| line.strip_prefix("Umask:"))
            .and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask.unwrap_or(0o777),
        }
    }

    fn owns(self, entry: &Entry) -> bool {
        (entry.uid, entry.gid) == (self.uid, self.gid)
    }

    fn mode_is_set(self, entry: &Entry) -> bool {
        entry.mode & (0o7000 | self.umask) == 0
    }
}

/// Names the entry above a failed call.
pub(crate) fn failed(entry: &Entry, err: root::Error) -> Error {
    let kind = match err.errno() {
        Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM => Kind::Exhausted,
        // Names too long, devices that may not be made, files too large: the archive asks for them.
        _ => Kind::Invalid,
    };
    let name = entry.name.escape_ascii();
    Error::new(kind, format!("cannot unpack entry \"{name}\"")).caused_by(err)
}

/// Makes a regular file that does not exist yet.
pub(crate) fn file<R: BufRead>(
    ours: Ours,
    dir: &Dir,
    name: &OsStr,
    entry: &Entry,
    tar: &mut reader::Reader<R>,
) -> Result<(), Refused> {
    // Private until its owner is set.
    let early = if ours.owns(entry) { entry.mode & 0o777 } else { 0o600 };
    let mut file = dir.create_new(name, early).map_err(Refused::Call)?;
    content(&mut file, entry, tar)?;
    let call = |e| Refused::Other(failed(entry, e));
    if !ours.owns(entry) {
        root::chown_open(&file, entry.uid, entry.gid).map_err(call)?;
    }
    if !(ours.owns(entry) && ours.mode_is_set(entry)) {
        root::chmod_open(&file, entry.mode).map_err(call)?;
    }
    root::set_xattrs(&entry.xattrs, |key, value| root::set_open_xattr(&file, key, value))
        .map_err(call)?;
    root::set_open_mtime(&file, entry.mtime).map_err(call)
}

/// Why an entry was not made.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Making its name failed; the caller may clear the way and try again.
    Call(root::Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(err: Error) -> Self {
        Self::Other(err)
    }
}

impl Refused {
    pub(crate) fn into_error(self, entry: &Entry) -> Error {
        match self {
            Self::Call(e) => failed(entry, e),
            Self::Other(e) => e,
        }
    }
}

/// Large files of zeros become holes in runs of this size.
const HOLE: usize = 64 << 10;
const LARGE: u64 = 1 << 20;

fn content<R: BufRead>(file: &mut File, entry: &Entry, tar: &mut reader::Reader<R>) -> Result<()> {
    let fail = |e| write_failed(entry, e);
    if let Some(segments) = &entry.sparse {
        for Segment { offset, length } in segments {
            file.seek(SeekFrom::Start(*offset)).map_err(fail)?;
            let mut left = *length;
            while left > 0 {
                let part = tar.fill()?;
                let part = &part[..usize::try_from(left).map_or(part.len(), |n| n.min(part.len()))];
                file.write_all(part).map_err(fail)?;
                let done = part.len();
                left -= done as u64;
                tar.consume(done);
            }
        }
        return file.set_len(entry.size).map_err(fail);
    }
    if entry.size < LARGE {
        while tar.remaining() > 0 {
            let part = tar.fill()?;
            file.write_all(part).map_err(fail)?;
            let done = part.len();
            tar.consume(done);
        }
        return Ok(());
    }
    let mut hole = false;
    while tar.remaining() > 0 {
        let part = tar.fill()?;
        for run in part.chunks(HOLE) {
            if run.len() == HOLE && is_zero(run) {
                file.seek(SeekFrom::Current(HOLE as i64)).map_err(fail)?;
                hole = true;
            } else {
                file.write_all(run).map_err(fail)?;
            }
        }
        let done = part.len();
        tar.consume(done);
    }
    if hole { file.set_len(entry.size).map_err(fail) } else { Ok(()) }
}

fn is_zero(run: &[u8]) -> bool {
    run[..64] == [0; 64] && run.chunks_exact(64).all(|part| part == [0; 64])
}

fn write_failed(entry: &Entry, err: std::io::Error) -> Error {
    let name = entry.name.escape_ascii();
    let kind = match err.kind() {
        std::io::ErrorKind::FileTooLarge | std::io::ErrorKind::InvalidInput => Kind::Invalid,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        _ => Kind::Internal,
    };
    Error::new(kind, format!("cannot unpack entry \"{name}\"")).caused_by(err)
}

/// Makes a symlink, device or pipe that does not exist yet.
pub(crate) fn special(ours: Ours, dir: &Dir, name: &OsStr, entry: &Entry) -> Result<(), Refused> {
    let call = |e| Refused::Other(failed(entry, e));
    let node = match entry.kind {
        EntryKind::Symlink => {
            dir.symlink(OsStr::from_bytes(&entry.link), name).map_err(Refused::Call)?;
            None
        }
        EntryKind::Char(a, b) => Some(Node::Char(a, b)),
        EntryKind::Block(a, b) => Some(Node::Block(a, b)),
        _ => Some(Node::Fifo),
    };
    if let Some(node) = node {
        dir.mknod(name, node, 0o600).map_err(Refused::Call)?;
    }
    if !ours.owns(entry) {
        dir.chown(name, entry.uid, entry.gid).map_err(call)?;
    }
    if node.is_some() {
        dir.chmod(name, entry.mode).map_err(call)?;
    }
    root::set_xattrs(&entry.xattrs, |key, value| dir.set_xattr(name, key, value)).map_err(call)?;
    dir.set_mtime(name, entry.mtime).map_err(call)
}

/// Makes a folder that does not exist yet.
pub(crate) fn folder(
    ours: Ours,
    dir: &Dir,
    name: &OsStr,
    entry: &Entry,
    path: &[u8],
) -> Result<Owed, Refused> {
    let early = if ours.owns(entry) { entry.mode & 0o777 } else { 0o700 };
    dir.mkdir(name, early).map_err(Refused::Call)?;
    if ours.owns(entry) && ours.mode_is_set(entry) && entry.xattrs.is_empty() {
        return Ok(Owed {
            path: path.to_vec(),
            mtime: entry.mtime,
            mode: None,
            xattrs: Vec::new(),
        });
    }
    refolder(dir, name, entry, path).map_err(Refused::Other)
}

/// Gives a folder that exists the entry's owner and mode.
pub(crate) fn refolder(dir: &Dir, name: &OsStr, entry: &Entry, path: &[u8]) -> Result<Owed> {
    let own = dir.open_dir(name).map_err(|e| failed(entry, e))?;
    rewrite(&own, entry, path)
}

/// Gives an open folder the entry's owner and mode.
pub(crate) fn rewrite(own: &Dir, entry: &Entry, path: &[u8]) -> Result<Owed> {
    let call = |e| failed(entry, e);
    let special = entry.mode & 0o7000 != 0;
    let early = if special { entry.mode & 0o777 } else { entry.mode };
    own.set_self((entry.uid, entry.gid), early, None).map_err(call)?;
    let (later, now): (Vec<_>, Vec<_>) =
        entry.xattrs.iter().partition(|(key, _)| key == "system.posix_acl_default");
    root::set_xattrs(now, |key, value| own.set_xattr_self(key, value)).map_err(call)?;
    let later = later.into_iter().cloned().collect();
    let mode = special.then_some(entry.mode);
    Ok(Owed { path: path.to_vec(), mtime: entry.mtime, mode, xattrs: later })
}

impl Owed {
    /// Owes only a time.
    pub(crate) fn time(path: &[u8], mtime: Time) -> Self {
        Self { path: path.to_vec(), mtime, mode: None, xattrs: Vec::new() }
    }

    /// Pays.
    pub(crate) fn settle(&self, own: &Dir) -> Result<(), root::Error> {
        if let Some(mode) = self.mode {
            root::chmod_open(own, mode)?;
        }
        root::set_xattrs(&self.xattrs, |key, value| own.set_xattr_self(key, value))?;
        root::set_open_mtime(own, self.mtime)
    }
}

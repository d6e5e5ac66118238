//! Copies files and trees with all that belongs to them: owner, mode, attributes, times, hard links,
//! holes. Content is shared with the original where the file system can.
//!
//! Invariants: symlinks and special files are copied as such; nothing outside the two folders is touched.

use crate::{folders::Folders, place::Owed, walk::walk};
use rustix::{fs::OFlags, io::Errno};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{Seek as _, SeekFrom},
};
use sys::root::{self, Dir, Error, Kind, Node, Result, Stat};

/// Whether an attribute belongs to the file rather than to the overlay or host it was on.
pub(crate) fn portable(key: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let key = key.as_bytes();
    !key.starts_with(b"trusted.overlay.") && key != b"security.selinux"
}

/// Gives `own` the owner, mode and attributes of `model`; its time is owed until it is filled.
pub(crate) fn dress(model: &Dir, own: &Dir, path: &[u8]) -> Result<Owed> {
    let stat = model.stat_self()?;
    own.set_self((stat.uid, stat.gid), stat.mode, None)?;
    for (key, value) in model.xattrs_self()? {
        if portable(&key) {
            own.set_xattr_self(&key, &value)?;
        }
    }
    Ok(Owed::time(path, stat.mtime))
}

/// Copies one file, symlink or special file to a name that does not exist.
pub(crate) fn one(from: &Dir, name: &OsStr, into: &Dir, new: &OsStr, stat: &Stat) -> Result<()> {
    match stat.kind {
        Kind::File => {
            let source = from.open_file(name, OFlags::RDONLY)?;
            let file = into.create_new(new, 0o600)?;
            content(&source, &file).map_err(|e| {
                Error::new("copy", name, Errno::from_io_error(&e).unwrap_or(Errno::IO))
            })?;
        }
        Kind::Symlink => into.symlink(from.readlink(name)?, new)?,
        Kind::Char => into.mknod(new, Node::Char(stat.rdev.0, stat.rdev.1), 0o600)?,
        Kind::Block => into.mknod(new, Node::Block(stat.rdev.0, stat.rdev.1), 0o600)?,
        Kind::Fifo => into.mknod(new, Node::Fifo, 0o600)?,
        Kind::Socket => into.mknod(new, Node::Socket, 0o600)?,
        Kind::Dir => return Err(Error::new("copy", name, Errno::ISDIR)),
    }
    into.chown(new, stat.uid, stat.gid)?;
    if stat.kind != Kind::Symlink {
        into.chmod(new, stat.mode)?;
    }
    for (key, value) in from.xattrs(name)? {
        if portable(&key) {
            into.set_xattr(new, &key, &value)?;
        }
    }
    into.set_mtime(new, stat.mtime)
}

/// Copies what is in `from` into `into`, which holds none of the names. The folder `into` itself is not
/// changed. `all` keeps overlayfs's attributes too.
pub(crate) fn tree(from: &Dir, into: &Dir, all: bool) -> Result<()> {
    let mut folders = Folders::new(into.try_clone()?);
    let mut linked: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut owed = Vec::new();
    walk(from.try_clone()?, |here| {
        let (parent, name) = crate::folders::split(here.path);
        if here.stat.kind == Kind::Dir {
            folders.find(parent)?.mkdir(name, 0o700)?;
            let own = folders.find(here.path)?;
            let model = here.dir.open_dir(here.name)?;
            owed.push(dress(&model, own, here.path)?);
            if all && let Some(value) = here.dir.xattr(here.name, opaque())? {
                own.set_xattr_self(opaque(), &value)?;
            }
            return Ok(true);
        }
        let inode = (here.stat.dev, here.stat.ino);
        if here.stat.nlink > 1
            && let Some(first) = linked.get(&inode)
        {
            let (from, last) = crate::folders::split(first);
            let source = folders.find(from)?.try_clone()?;
            source.link(last, folders.find(parent)?, name)?;
            return Ok(true);
        }
        one(here.dir, here.name, folders.find(parent)?, name, &here.stat)?;
        if here.stat.nlink > 1 {
            linked.insert(inode, here.path.to_vec());
        }
        Ok::<_, Error>(true)
    })?;
    for owed in owed {
        owed.settle(folders.find(&owed.path)?)?;
    }
    Ok(())
}

fn opaque() -> &'static OsStr {
    OsStr::new(crate::layers::OPAQUE_XATTR)
}

/// Copies content, sharing it where possible and keeping holes.
fn content(from: &File, into: &File) -> std::io::Result<()> {
    if rustix::fs::ioctl_ficlone(into, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    let (mut source, mut target) = (from, into);
    let mut at = 0;
    while at < size {
        let Some((start, end)) = root::next_data(from, at).map_err(std::io::Error::from)? else {
            break;
        };
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(start))?;
        // copy_file_range(2) underneath.
        std::io::copy(&mut std::io::Read::take(source, end - start), &mut target)?;
        at = end;
    }
    into.set_len(size)
}

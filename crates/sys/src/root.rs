//! A tree that is worked on from outside: paths are resolved by the kernel as a process whose root the
//! tree is would resolve them, so that no `..`, no absolute symlink and no race leads out of it.
//!
//! Flow: each operation resolves all but the last component with openat2(2) `RESOLVE_IN_ROOT`, then acts
//! on the last one by name in the folder found ([`crate::dir`]). `open*` and `stat` may follow a symlink
//! in the last component; nothing that changes the tree does, unless its doc says so.
//! Invariants: magic links are refused; a path is at most [`PATH_MAX`] bytes.
//! Source: openat2(2), path_resolution(7).

pub use crate::dir::{
    Dir, Error, Kind, Node, Result, Stat, Time, chmod_open, chown_open, next_data, set_open,
    set_open_mtime, set_open_xattr, set_xattrs, stat_open, xattrs_open,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

/// Longest path that the kernel takes in one call.
pub const PATH_MAX: usize = 4095;

/// Resolution fails with `EAGAIN` when a rename or mount anywhere raced with a `..`.
const RACES: usize = 128;

/// Most symlinks that are followed by hand.
const HOPS: usize = 40;

/// The root of a tree.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl From<OwnedFd> for Root {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Dir> for Root {
    fn from(dir: Dir) -> Self {
        Self(dir.into())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// Takes the folder at a trusted host path as root.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> Result<Self> {
        Dir::open(path).map(Self::from)
    }

    /// A second descriptor of the same root.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_clone(&self) -> Result<Self> {
        self.dir().map(Self::from)
    }

    /// The root as a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self) -> Result<Dir> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0)
            .map(Dir::from)
            .map_err(|e| Error::new("dup", "/", e))
    }

    /// Opens `path` with `flags` inside the root; symlinks are followed unless `flags` says `NOFOLLOW`.
    /// Pipes do not block, terminals are not taken.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_with(&self, path: impl AsRef<Path>, flags: OFlags, mode: u32) -> Result<File> {
        let extra = if flags.contains(OFlags::PATH) {
            OFlags::CLOEXEC
        } else {
            OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
        };
        self.resolve(path.as_ref(), flags | extra, mode, ResolveFlags::IN_ROOT).map(File::from)
    }

    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OFlags::RDONLY, 0)
    }

    /// Opens or makes the file at `path`, emptied, for writing; a symlink is followed inside the root.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        self.open_with(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, mode)
    }

    /// Opens the folder at `path`, following symlinks.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.resolve(path.as_ref(), flags, 0, ResolveFlags::IN_ROOT).map(Dir::from)
    }

    /// The tree below `path` as a root of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn subroot(&self, path: impl AsRef<Path>) -> Result<Self> {
        self.open_dir(path).map(Self::from)
    }

    /// The folder that holds `path`'s last component, symlinks before it followed, and that component.
    ///
    /// # Errors
    /// The kernel's; `INVAL` when the last component is missing, `.` or `..`.
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(Dir, OsString)> {
        let path = path.as_ref();
        let (parent, name) = split(path).ok_or_else(|| Error::new("open", path, Errno::INVAL))?;
        Ok((self.open_dir(parent)?, name.to_owned()))
    }

    /// Where `path` leads inside the root, all symlinks followed, starting with `/`.
    ///
    /// # Errors
    /// The kernel's; `NOENT` when it leads nowhere.
    pub fn canonical(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlags::PATH | OFlags::CLOEXEC, 0, ResolveFlags::IN_ROOT)?;
        let at = |fd: &OwnedFd| {
            fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())
                .map(|link| PathBuf::from(OsStr::from_bytes(link.as_bytes())))
                .map_err(|e| Error::new("readlink", path, e))
        };
        let (whole, root) = (at(&fd)?, at(&self.0)?);
        let inner =
            whole.strip_prefix(&root).map_err(|_| Error::new("resolve", path, Errno::XDEV))?;
        Ok(Path::new("/").join(inner))
    }

    /// Of what `path` leads to, symlinks followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        self.stat_flags(path.as_ref(), OFlags::empty())
    }

    /// Of `path` itself, a symlink not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        self.stat_flags(path.as_ref(), OFlags::NOFOLLOW)
    }

    fn stat_flags(&self, path: &Path, extra: OFlags) -> Result<Stat> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        let fd = self.resolve(path, flags, 0, ResolveFlags::IN_ROOT)?;
        fs::fstat(&fd).map(|st| Stat::from_kernel(&st)).map_err(|e| Error::new("stat", path, e))
    }

    /// Whether `path` leads to something.
    ///
    /// # Errors
    /// The kernel's, but for a missing path.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Target of the symlink at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn readlink(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let (dir, name) = self.parent(path)?;
        dir.readlink(name).map(PathBuf::from)
    }

    /// Sorted names in the folder at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<(OsString, Option<Kind>)>> {
        self.open_dir(path)?.entries()
    }

    /// Makes the folder at `path`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.mkdir(name, mode)
    }

    /// Makes the folder at `path` and all that lead to it, following symlinks to folders; new ones get
    /// `mode` and `owner`. Gives the paths of those made, outermost first.
    ///
    /// # Errors
    /// The kernel's; `NOTDIR` when something else is in the way.
    pub fn mkdir_all(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        self.make_way(path.as_ref(), mode, owner, &mut made, 0)?;
        Ok(made)
    }

    fn make_way(
        &self,
        path: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
        made: &mut Vec<PathBuf>,
        hops: usize,
    ) -> Result<()> {
        if hops > HOPS {
            return Err(Error::new("mkdir", path, Errno::LOOP));
        }
        let mut at = PathBuf::from("/");
        for part in path.components() {
            match part {
                std::path::Component::ParentDir => at.push(".."),
                std::path::Component::Normal(name) => at.push(name),
                _ => continue,
            }
            match self.open_with(&at, OFlags::PATH | OFlags::DIRECTORY, 0) {
                Ok(_) => continue,
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
            // A symlink to nothing is followed to the folder that it wants.
            let target = self.dangling(&at)?;
            if target != at {
                self.make_way(&target, mode, owner, made, hops + 1)?;
                continue;
            }
            let (dir, name) = self.parent(&target)?;
            match dir.mkdir(&name, mode) {
                Ok(()) => {
                    let new = dir.open_dir(&name)?;
                    match owner {
                        Some(owner) => new.set_self(owner, mode, None)?,
                        None => chmod_open(&new, mode)?,
                    }
                    made.push(target);
                }
                Err(e) if e.is_taken() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Follows a symlink that leads to nothing to the place where its target would be.
    fn dangling(&self, path: &Path) -> Result<PathBuf> {
        let mut at = path.to_owned();
        for _ in 0..HOPS {
            match self.readlink(&at) {
                Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
                Err(e) if matches!(e.errno(), Errno::NOENT | Errno::INVAL) => return Ok(at),
                Err(e) => return Err(e),
            }
        }
        Err(Error::new("mkdir", path, Errno::LOOP))
    }

    /// Makes the symlink `path` to `target`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.symlink(target, name)
    }

    /// Makes the special file `path`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn mknod(&self, path: impl AsRef<Path>, node: Node, mode: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.mknod(name, node, mode)
    }

    /// Gives what `from` names the second name `to`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (source, name) = self.parent(from)?;
        let (dir, new) = self.parent(to)?;
        source.link(name, &dir, new)
    }

    /// Moves `from` to `to`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (source, name) = self.parent(from)?;
        let (dir, new) = self.parent(to)?;
        source.rename(name, &dir, new)
    }

    /// Deletes the file, link or special file at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unlink(&self, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.unlink(name)
    }

    /// Deletes what is at `path` and below.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.remove_all(name)
    }

    /// Gives `path` to `uid` and `gid`; a symlink itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.chown(name, uid, gid)
    }

    /// Sets the permission bits of `path`.
    ///
    /// # Errors
    /// The kernel's; `OPNOTSUPP` for a symlink.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.chmod(name, mode)
    }

    /// Sets the time of `path`; of a symlink itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mtime(&self, path: impl AsRef<Path>, mtime: Time) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.set_mtime(name, mtime)
    }

    fn resolve(
        &self,
        path: &Path,
        flags: OFlags,
        mode: u32,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd> {
        let mode =
            if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let text = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        for _ in 0..RACES {
            match fs::openat2(&self.0, text, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done.map_err(|e| Error::new("open", path, e)),
            }
        }
        Err(Error::new("open", path, Errno::AGAIN))
    }
}

/// Parent and last component, trailing slashes ignored.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|b| *b != b'/')? + 1;
    let start = bytes[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let name = &bytes[start..end];
    if name == b"." || name == b".." {
        return None;
    }
    Some((Path::new(OsStr::from_bytes(&bytes[..start])), OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests;

//! A folder by descriptor, and what may be done to the single names inside it.
//!
//! Invariants: every name is one component (no `/`, not empty, not `.` or `..`), no call follows a symlink
//! in its last component, every descriptor is close-on-exec. So nothing here can leave the folder.
//! Source: openat(2), linkat(2), symlink(7), xattr(7), getdents(2).
//! Not here: paths of several components; [`crate::root`] resolves those.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

/// A failed call: which, on what, and the kernel's answer.
#[derive(Clone, Debug)]
pub struct Error {
    call: &'static str,
    subject: PathBuf,
    errno: Errno,
    cause: Cause,
}

#[derive(Clone, Debug)]
struct Cause(Errno);

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `call` on `subject`.
    pub fn new(call: &'static str, subject: impl AsRef<Path>, errno: Errno) -> Self {
        Self { call, subject: subject.as_ref().to_owned(), errno, cause: Cause(errno) }
    }

    /// The kernel's answer.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The failed call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// Whether the named thing does not exist.
    pub fn is_missing(&self) -> bool {
        self.errno == Errno::NOENT
    }

    /// Whether something of that name exists already.
    pub fn is_taken(&self) -> bool {
        self.errno == Errno::EXIST
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.call, self.subject.display())
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = std::io::Error::from(self.0).to_string();
        // Go, and so Docker's clients, know the lower-case text without the number.
        f.write_str(&text.split(" (os error").next().unwrap_or(&text).to_lowercase())
    }
}

impl std::error::Error for Cause {}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl From<Error> for std::io::Error {
    fn from(err: Error) -> Self {
        let kind = std::io::Error::from(err.errno).kind();
        Self::new(kind, err)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    pub(crate) fn from_type(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::Char,
            FileType::BlockDevice => Self::Block,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::File,
        }
    }
}

/// Seconds since 1970 and nanoseconds within the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// So many nanoseconds since 1970.
    pub fn from_nanos(nanos: i64) -> Self {
        Self {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default(),
        }
    }
}

/// What the kernel says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes, of a symlink the length of its target.
    pub size: u64,
    /// 512-byte blocks on disk.
    pub blocks: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Number of names.
    pub nlink: u64,
    /// The file system it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
}

impl Stat {
    pub(crate) fn from_kernel(st: &fs::Stat) -> Self {
        let mode = st.st_mode;
        Self {
            kind: Kind::from_type(FileType::from_raw_mode(mode)),
            mode: mode & 0o7777,
            uid: st.st_uid,
            gid: st.st_gid,
            size: u64::try_from(st.st_size).unwrap_or(0),
            blocks: u64::try_from(st.st_blocks).unwrap_or(0),
            mtime: Time {
                seconds: st.st_mtime,
                nanos: u32::try_from(st.st_mtime_nsec).unwrap_or(0),
            },
            nlink: st.st_nlink,
            dev: st.st_dev,
            ino: st.st_ino,
            rdev: (fs::major(st.st_rdev), fs::minor(st.st_rdev)),
        }
    }

    /// Whether this is overlayfs's mark of a deleted name.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::Char && self.rdev == (0, 0)
    }
}

/// A special file to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A character device with major and minor number.
    Char(u32, u32),
    /// A block device with major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// An open folder.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.0
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const LIST: usize = 32 * 1024;

fn single<'n>(call: &'static str, name: &'n OsStr) -> Result<&'n OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Error::new(call, name, Errno::INVAL));
    }
    Ok(name)
}

impl Dir {
    /// Opens a folder of the host by a trusted path.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(CWD, path, flags, Mode::empty())
            .map(Self)
            .map_err(|e| Error::new("open", path, e))
    }

    /// A second descriptor of the same folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_clone(&self) -> Result<Self> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0).map(Self).map_err(|e| Error::new("dup", "", e))
    }

    /// Opens the folder `name`.
    ///
    /// # Errors
    /// The kernel's; `NOTDIR` for anything but a folder, a symlink too.
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = single("open", name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.0, name, flags, Mode::empty())
            .map(Self)
            .map_err(|e| Error::new("open", name, e))
    }

    /// Opens `name` with `flags`; a symlink is `LOOP`, a pipe does not block.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_file(&self, name: impl AsRef<OsStr>, flags: OFlags) -> Result<File> {
        let name = single("open", name.as_ref())?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        fs::openat(&self.0, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| Error::new("open", name, e))
    }

    /// Makes the file `name`, which must not exist, open for reading and writing.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        let name = single("create", name.as_ref())?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .map_err(|e| Error::new("create", name, e))
    }

    /// Makes the folder `name`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = single("mkdir", name.as_ref())?;
        fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode))
            .map_err(|e| Error::new("mkdir", name, e))
    }

    /// Makes the symlink `name` to `target`, any text.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<()> {
        let name = single("symlink", name.as_ref())?;
        fs::symlinkat(target.as_ref(), &self.0, name).map_err(|e| Error::new("symlink", name, e))
    }

    /// Makes the special file `name`.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn mknod(&self, name: impl AsRef<OsStr>, node: Node, mode: u32) -> Result<()> {
        let name = single("mknod", name.as_ref())?;
        let (kind, dev) = match node {
            Node::Char(major, minor) => (FileType::CharacterDevice, fs::makedev(major, minor)),
            Node::Block(major, minor) => (FileType::BlockDevice, fs::makedev(major, minor)),
            Node::Fifo => (FileType::Fifo, 0),
            Node::Socket => (FileType::Socket, 0),
        };
        fs::mknodat(&self.0, name, kind, Mode::from_raw_mode(mode), dev)
            .map_err(|e| Error::new("mknod", name, e))
    }

    /// Gives `name` here the second name `new` in `into`; a symlink is linked itself.
    ///
    /// # Errors
    /// The kernel's; `EXIST` when taken.
    pub fn link(&self, name: impl AsRef<OsStr>, into: &Self, new: impl AsRef<OsStr>) -> Result<()> {
        let (name, new) = (single("link", name.as_ref())?, single("link", new.as_ref())?);
        fs::linkat(&self.0, name, &into.0, new, AtFlags::empty())
            .map_err(|e| Error::new("link", new, e))
    }

    /// Moves `name` to `new` in `into`, replacing what rename(2) replaces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        into: &Self,
        new: impl AsRef<OsStr>,
    ) -> Result<()> {
        let (name, new) = (single("rename", name.as_ref())?, single("rename", new.as_ref())?);
        fs::renameat(&self.0, name, &into.0, new).map_err(|e| Error::new("rename", name, e))
    }

    /// Deletes `name`, which is not a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = single("unlink", name.as_ref())?;
        fs::unlinkat(&self.0, name, AtFlags::empty()).map_err(|e| Error::new("unlink", name, e))
    }

    /// Deletes the empty folder `name`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = single("rmdir", name.as_ref())?;
        fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR).map_err(|e| Error::new("rmdir", name, e))
    }

    /// Of the folder itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat_self(&self) -> Result<Stat> {
        fs::fstat(&self.0).map(|st| Stat::from_kernel(&st)).map_err(|e| Error::new("stat", ".", e))
    }

    /// Of `name`, of a symlink itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Stat> {
        let name = single("stat", name.as_ref())?;
        fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|st| Stat::from_kernel(&st))
            .map_err(|e| Error::new("stat", name, e))
    }

    /// Target of the symlink `name`.
    ///
    /// # Errors
    /// The kernel's; `INVAL` when it is not a symlink.
    pub fn readlink(&self, name: impl AsRef<OsStr>) -> Result<OsString> {
        let name = single("readlink", name.as_ref())?;
        fs::readlinkat(&self.0, name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(|e| Error::new("readlink", name, e))
    }

    /// Gives `name` to `uid` and `gid`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> Result<()> {
        let name = single("chown", name.as_ref())?;
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        fs::chownat(&self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::new("chown", name, e))
    }

    /// Sets the permission bits of `name`.
    ///
    /// # Errors
    /// The kernel's; `OPNOTSUPP` for a symlink.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = single("chmod", name.as_ref())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.0, name, flags, Mode::empty())
            .map_err(|e| Error::new("chmod", name, e))?;
        // fchmodat(2) follows symlinks and fchmod(2) refuses O_PATH; the magic link does neither.
        fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode))
            .map_err(|e| Error::new("chmod", name, e))
    }

    /// Sets the time of last change of `name`; the time of access becomes the same.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mtime(&self, name: impl AsRef<OsStr>, mtime: Time) -> Result<()> {
        let name = single("utimensat", name.as_ref())?;
        fs::utimensat(&self.0, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::new("utimensat", name, e))
    }

    /// Owner, permission bits and time of the folder itself, in the order that keeps them all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_self(&self, owner: (u32, u32), mode: u32, mtime: Option<Time>) -> Result<()> {
        set_open(&self.0, owner, mode, mtime)
    }

    /// Extended attributes of `name`, sorted by key.
    ///
    /// # Errors
    /// The kernel's; a file system without them has none.
    pub fn xattrs(&self, name: impl AsRef<OsStr>) -> Result<Vec<(OsString, Vec<u8>)>> {
        xattrs_at(&self.magic(name.as_ref())?)
            .map_err(|e| Error::new("listxattr", name.as_ref(), e))
    }

    /// Extended attributes of the folder itself, sorted by key.
    ///
    /// # Errors
    /// The kernel's.
    pub fn xattrs_self(&self) -> Result<Vec<(OsString, Vec<u8>)>> {
        xattrs_at(&self.magic_self()).map_err(|e| Error::new("listxattr", ".", e))
    }

    /// One extended attribute of `name`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn xattr(&self, name: impl AsRef<OsStr>, key: &OsStr) -> Result<Option<Vec<u8>>> {
        let path = self.magic(name.as_ref())?;
        read_xattr(|buffer| fs::lgetxattr(&path, key, buffer))
            .map_err(|e| Error::new("getxattr", name.as_ref(), e))
    }

    /// Sets an extended attribute of `name`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, key: &OsStr, value: &[u8]) -> Result<()> {
        fs::lsetxattr(self.magic(name.as_ref())?, key, value, fs::XattrFlags::empty())
            .map_err(|e| Error::new("setxattr", name.as_ref(), e))
    }

    /// Sets an extended attribute of the folder itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_xattr_self(&self, key: &OsStr, value: &[u8]) -> Result<()> {
        fs::lsetxattr(self.magic_self(), key, value, fs::XattrFlags::empty())
            .map_err(|e| Error::new("setxattr", ".", e))
    }

    /// Removes an extended attribute of `name`; one that is not there is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>, key: &OsStr) -> Result<()> {
        match fs::lremovexattr(self.magic(name.as_ref())?, key) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(Error::new("removexattr", name.as_ref(), e)),
        }
    }

    /// Names in the folder, sorted by byte order, with their kinds where the file system tells.
    ///
    /// # Errors
    /// The kernel's.
    pub fn entries(&self) -> Result<Vec<(OsString, Option<Kind>)>> {
        let fail = |e| Error::new("getdents", ".", e);
        // A descriptor of our own, so that the position of `self` is not shared.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = fs::openat(&self.0, c".", flags, Mode::empty()).map_err(fail)?;
        let mut buffer = Vec::with_capacity(LIST);
        let mut list = RawDir::new(own, buffer.spare_capacity_mut());
        let mut found = Vec::new();
        while let Some(entry) = list.next() {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let kind = match entry.file_type() {
                    FileType::Unknown => None,
                    known => Some(Kind::from_type(known)),
                };
                found.push((OsString::from_vec(name.to_vec()), kind));
            }
        }
        found.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Ok(found)
    }

    /// Deletes `name` and all below it. A name that is not there is fine. Depth is not limited by the
    /// stack or by descriptors: what lies too deep is moved up first.
    ///
    /// # Errors
    /// The kernel's first refusal; the rest is deleted all the same.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<()> {
        crate::remove::remove_all(self, single("unlink", name.as_ref())?)
    }

    /// Writes all of the file system that the folder is on to its disk.
    ///
    /// # Errors
    /// The kernel's; `IO` when earlier writes were lost.
    pub fn sync_filesystem(&self) -> Result<()> {
        fs::syncfs(&self.0).map_err(|e| Error::new("syncfs", ".", e))
    }

    /// Free bytes and free inodes for us on the folder's file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn free(&self) -> Result<(u64, u64)> {
        let st = fs::fstatvfs(&self.0).map_err(|e| Error::new("statvfs", ".", e))?;
        Ok((st.f_bavail.saturating_mul(st.f_frsize), st.f_favail))
    }

    /// Where the folder is now, as the kernel sees it from our root; for messages and canonical paths.
    ///
    /// # Errors
    /// The kernel's.
    pub fn path(&self) -> Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd())).map_err(|e| {
            Error::new("readlink", "/proc/self/fd", Errno::from_io_error(&e).unwrap_or(Errno::IO))
        })
    }

    /// Asks ext4 to put each folder made here into a block group of its own (`chattr +T`).
    ///
    /// ext4 gives an inode number out again only a minute after its file was deleted, and looks at every
    /// number that has to wait for each file it makes. Beside a large tree that was just deleted, a new one
    /// so took ten times as long: 6 s instead of 0.4 s for 8,000 files. Other file systems have no such
    /// attribute and need none, so a failure means nothing.
    pub fn spread(&self) {
        if let Ok(flags) = fs::ioctl_getflags(&self.0) {
            let _ = fs::ioctl_setflags(&self.0, flags | fs::IFlags::TOPDIR);
        }
    }

    fn magic_self(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.0.as_raw_fd()))
    }

    fn magic(&self, name: &OsStr) -> Result<PathBuf> {
        Ok(self.magic_self().join(single("xattr", name)?))
    }
}

/// Sets owner, permission bits and time of an open file, in the order that keeps setuid bits. What is so already is not set:
/// every change costs an entry in the journal.
///
/// # Errors
/// The kernel's.
pub fn set_open(fd: impl AsFd, owner: (u32, u32), mode: u32, mtime: Option<Time>) -> Result<()> {
    let now = stat_open(&fd)?;
    let moved = (now.uid, now.gid) != owner;
    if moved {
        chown_open(&fd, owner.0, owner.1)?;
    }
    if moved || now.mode != mode & 0o7777 {
        chmod_open(&fd, mode)?;
    }
    mtime.map_or(Ok(()), |mtime| set_open_mtime(&fd, mtime))
}

/// Sets the owner of an open file.
///
/// # Errors
/// The kernel's.
pub fn chown_open(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    fs::fchown(&fd, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)))
        .map_err(|e| Error::new("fchown", "", e))
}

/// Sets the permission bits of an open file.
///
/// # Errors
/// The kernel's.
pub fn chmod_open(fd: impl AsFd, mode: u32) -> Result<()> {
    fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|e| Error::new("fchmod", "", e))
}

/// Sets the time of an open file.
///
/// # Errors
/// The kernel's.
pub fn set_open_mtime(fd: impl AsFd, mtime: Time) -> Result<()> {
    fs::futimens(&fd, &times(mtime)).map_err(|e| Error::new("futimens", "", e))
}

/// What the kernel says of an open file.
///
/// # Errors
/// The kernel's.
pub fn stat_open(fd: impl AsFd) -> Result<Stat> {
    fs::fstat(&fd).map(|st| Stat::from_kernel(&st)).map_err(|e| Error::new("fstat", "", e))
}

/// Extended attributes of an open file, sorted by key.
///
/// # Errors
/// The kernel's; a file system without them has none.
pub fn xattrs_open(fd: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>> {
    let list = |buffer: &mut [u8]| fs::flistxattr(&fd, buffer);
    let get = |key: &OsStr, buffer: &mut [u8]| fs::fgetxattr(&fd, key, buffer);
    list_xattrs(list, get).map_err(|e| Error::new("flistxattr", "", e))
}

/// Sets an extended attribute of an open file.
///
/// # Errors
/// The kernel's.
pub fn set_open_xattr(fd: impl AsFd, key: &OsStr, value: &[u8]) -> Result<()> {
    fs::fsetxattr(&fd, key, value, fs::XattrFlags::empty())
        .map_err(|e| Error::new("fsetxattr", key, e))
}

/// Gives each of `attributes` to a file by `set`; a file system that has no such attributes is no reason to refuse the file.
///
/// # Errors
/// Those of `set`, but `EOPNOTSUPP`.
pub fn set_xattrs<'a>(
    attributes: impl IntoIterator<Item = &'a (OsString, Vec<u8>)>,
    set: impl Fn(&OsStr, &[u8]) -> Result<()>,
) -> Result<()> {
    attributes.into_iter().try_for_each(|(key, value)| match set(key, value) {
        Err(e) if e.errno() == Errno::OPNOTSUPP => Ok(()),
        done => done,
    })
}

/// Where content begins at or after `from`, and where it ends; `None` when only a hole is left.
///
/// # Errors
/// The kernel's.
pub fn next_data(fd: impl AsFd, from: u64) -> Result<Option<(u64, u64)>> {
    let start = match fs::seek(&fd, fs::SeekFrom::Data(from)) {
        Ok(at) => at,
        Err(Errno::NXIO) => return Ok(None),
        Err(e) => return Err(Error::new("lseek", "", e)),
    };
    let end = fs::seek(&fd, fs::SeekFrom::Hole(start)).map_err(|e| Error::new("lseek", "", e))?;
    Ok(Some((start, end)))
}

pub(crate) fn times(mtime: Time) -> Timestamps {
    let at =
        Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos.min(999_999_999)) as _ };
    debug_assert!(at.tv_nsec != UTIME_OMIT);
    Timestamps { last_access: at, last_modification: at }
}

fn xattrs_at(path: &Path) -> rustix::io::Result<Vec<(OsString, Vec<u8>)>> {
    let list = |buffer: &mut [u8]| fs::llistxattr(path, buffer);
    list_xattrs(list, |key, buffer| fs::lgetxattr(path, key, buffer))
}

fn list_xattrs(
    list: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    mut get: impl FnMut(&OsStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<(OsString, Vec<u8>)>> {
    let names = match read_growing(list) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let key = OsStr::from_bytes(name);
        if let Some(value) = read_xattr(|buffer| get(key, buffer))? {
            found.push((key.to_owned(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn read_xattr(
    get: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Option<Vec<u8>>> {
    match read_growing(get) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads into a small buffer, and into the largest there can be when that was too small.
fn read_growing(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    const LARGEST: usize = 65_536;
    let mut small = [0_u8; 512];
    match read(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LARGEST];
            let length = read(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(e) => Err(e),
    }
}

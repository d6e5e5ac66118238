//! Mounts by descriptor: made detached, given their attributes, attached last.
//!
//! Invariants: a path is only ever taken relative to a descriptor or from a trusted caller; every
//! descriptor is close-on-exec.
//! Source: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), pivot_root(2).
//! Not here: the overlay's own settings ([`crate::overlay`]).

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::CWD,
    io::Errno,
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags},
};
use std::{io, os::fd::AsRawFd as _, path::Path, ptr};

/// `MOUNT_ATTR_*` bits.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field of access time modes.
    pub const ATIME: u64 = 0x70;
    /// Access times change when older than the change time.
    pub const RELATIME: u64 = 0;
    /// Access times never change.
    pub const NOATIME: u64 = 0x10;
    /// Access times always change.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of folders never change.
    pub const NODIRATIME: u64 = 0x80;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Propagation types as `mount_setattr` takes them.
pub mod propagation {
    /// Cannot be bound.
    pub const UNBINDABLE: u64 = 1 << 17;
    /// Neither gives nor takes.
    pub const PRIVATE: u64 = 1 << 18;
    /// Takes only.
    pub const SLAVE: u64 = 1 << 19;
    /// Gives and takes.
    pub const SHARED: u64 = 1 << 20;
}

/// How far a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount alone.
    One,
    /// And all below it.
    Recursive,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes attributes and (if not 0) propagation of the mount whose root `mount` is.
///
/// # Errors
/// The kernel's.
pub fn set_attr(
    mount: impl AsFd,
    set: u64,
    clear: u64,
    propagation: u64,
    depth: Depth,
) -> io::Result<()> {
    change(mount.as_fd(), &MountAttr { set, clear, propagation, userns_fd: 0 }, depth)
}

/// Shows owners on a detached mount (`depth`: and on those below it) as they are inside the user namespace `space`,
/// once for each mount.
///
/// # Errors
/// The kernel's; `EINVAL` when the file system cannot do that.
pub fn set_idmap(mount: impl AsFd, space: impl AsFd, depth: Depth) -> io::Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    let userns_fd = u64::try_from(space.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
    let map = MountAttr { set: IDMAP, clear: 0, propagation: 0, userns_fd };
    change(mount.as_fd(), &map, depth)
}

fn change(mount: BorrowedFd<'_>, change: &MountAttr, depth: Depth) -> io::Result<()> {
    let flags =
        libc::AT_EMPTY_PATH | if depth == Depth::Recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant and `change` lives through the call, which reads as
    // many bytes of it as it is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(change),
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A detached copy of the mount at a trusted host path, from that path down.
///
/// # Errors
/// The kernel's.
pub fn clone_path(path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    Ok(mount::open_tree(CWD, path, clone_flags(depth))?)
}

/// A detached copy of the mount that `at` is on, from `at` down.
///
/// # Errors
/// The kernel's.
pub fn clone_at(at: impl AsFd, depth: Depth) -> io::Result<OwnedFd> {
    Ok(mount::open_tree(at, "", clone_flags(depth) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(depth: Depth) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// A descriptor of the file at `path` on a detached read-only mount of its own: what is executed through
/// it cannot be written to through `/proc/PID/exe`.
///
/// # Errors
/// The kernel's; without the right to mount `EPERM`.
pub fn readonly_clone(path: &Path) -> io::Result<OwnedFd> {
    let tree = clone_path(path, Depth::One)?;
    set_attr(
        &tree,
        attr::RDONLY | attr::NOSUID | attr::NODEV,
        0,
        propagation::PRIVATE,
        Depth::One,
    )?;
    Ok(tree)
}

/// A new file system, detached.
///
/// # Errors
/// The kernel's, for the option or call that failed.
pub fn new_fs(
    kind: &str,
    source: &str,
    options: &[(String, Option<String>)],
    attrs: u64,
) -> Result<OwnedFd, (String, Errno)> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |e| (what, e)
    };
    let fs = mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
    if !source.is_empty() {
        mount::fsconfig_set_string(&fs, "source", source).map_err(fail("source"))?;
    }
    for (key, value) in options {
        match value {
            Some(value) => mount::fsconfig_set_string(&fs, key.as_str(), value.as_str()),
            None => mount::fsconfig_set_flag(&fs, key.as_str()),
        }
        .map_err(fail(key))?;
    }
    mount::fsconfig_create(&fs).map_err(fail("create"))?;
    let attrs = MountAttrFlags::from_bits_retain(u32::try_from(attrs).unwrap_or(u32::MAX));
    mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs).map_err(fail("fsmount"))
}

/// Attaches a detached mount onto what `target` is.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(mount::move_mount(mount, "", target, "", flags)?)
}

/// Takes the topmost mount off a trusted path; what still uses it keeps it.
///
/// # Errors
/// The kernel's; `EINVAL` when nothing is mounted there.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(mount::unmount(path, mount::UnmountFlags::DETACH | mount::UnmountFlags::NOFOLLOW)?)
}

/// Whether a mount stands at a trusted path.
///
/// # Errors
/// The kernel's.
pub fn is_root(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(CWD, path, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Takes the mount whose root `mount` is, and what is mounted below it, out of the tree. The working folder of the
/// process is `/` then.
///
/// # Errors
/// The kernel's.
pub fn detach_open(mount: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(mount)?;
    let done = mount::unmount(".", mount::UnmountFlags::DETACH);
    rustix::process::chdir("/")?;
    Ok(done?)
}

/// Changes the propagation of every mount of this namespace.
///
/// # Errors
/// The kernel's.
pub fn set_propagation_of_all(propagation: u64) -> io::Result<()> {
    let root =
        rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, 0.into())?;
    set_attr(root, 0, 0, propagation, Depth::Recursive)
}

/// Makes the mount `root` is the root of this namespace and lets go of the old root with all that is
/// mounted below it. The working folder is `/` then.
///
/// # Errors
/// The kernel's.
pub fn pivot_into(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root now lies over the new one.
    mount::unmount(".", mount::UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Whether the mount that `fd` is on is read-only.
///
/// # Errors
/// The kernel's.
pub fn is_readonly(fd: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstatvfs(fd)?;
    Ok(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Type number of the file system that `fd` is on (`PROC_SUPER_MAGIC` and the like).
///
/// # Errors
/// The kernel's.
pub fn fs_magic(fd: impl AsFd) -> io::Result<i64> {
    #[allow(clippy::unnecessary_cast, reason = "its width differs between C libraries")]
    Ok(rustix::fs::fstatfs(fd)?.f_type as i64)
}

/// `proc`.
pub const PROC_MAGIC: i64 = 0x9fa0;
/// `sysfs`.
pub const SYSFS_MAGIC: i64 = 0x6265_6572;
/// `devpts`.
pub const DEVPTS_MAGIC: i64 = 0x1cd1;

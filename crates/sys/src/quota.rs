//! Project quotas: a limit of space for all that is in a folder.
//!
//! A folder gets a project number that everything made in it inherits; the file system (xfs, ext4) counts what a number
//! takes and refuses more than its limit. Processes with CAP_SYS_RESOURCE may exceed it on ext4.
//! Source: quotactl(2), quotactl_fd(2) (Linux 5.14), `linux/dqblk_xfs.h`, `linux/fs.h` (`struct fsxattr`).

use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _};

/// What a project takes, and what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, folders and the rest.
    pub inodes: u64,
    /// Most bytes; 0 for no limit.
    pub limit: u64,
}

/// `struct fs_disk_quota`; sizes in blocks of 512 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    bytes_hard: u64,
    bytes_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    bytes: u64,
    inodes: u64,
    rest: [u64; 7],
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

const PROJECTS: u32 = 2;
const GET: u32 = command(3);
const SET_LIMITS: u32 = command(4);
const STATE: u32 = command(8);
const FIELD_SOFT: u16 = 1 << 2;
const FIELD_HARD: u16 = 1 << 3;
const FLAG_PROJECT: i8 = 2;
/// Limits of projects hold.
const ENFORCED: u16 = 1 << 5;
const BLOCK: u64 = 512;
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// `FS_XFLAG_PROJINHERIT`: what is made inside gets the number too.
const INHERIT: u32 = 1 << 9;

/// A command of xfs's set, which ext4 takes too, for projects.
const fn command(number: u32) -> u32 {
    ((((b'X' as u32) << 8) + number) << 8) | PROJECTS
}

/// Whether the file system of `file` holds projects to their limits.
pub fn enforced(file: impl AsFd) -> bool {
    // `struct fs_quota_statv`, 160 bytes: a version, and after two bytes the flags.
    let mut state = [0_u64; 32];
    state[0] = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
    // SAFETY: the kernel writes at most 160 of the 256 bytes.
    let asked = unsafe { quotactl(&file, STATE, 0, state.as_mut_ptr().cast()) };
    let [_, _, low, high, ..] = state[0].to_ne_bytes();
    asked.is_ok() && u16::from_ne_bytes([low, high]) & ENFORCED != 0
}

/// What project `number` takes on the file system of `file`.
///
/// # Errors
/// The kernel's; a number that was never used is no error.
pub fn usage(file: impl AsFd, number: u32) -> Result<Use, Errno> {
    let mut quota = DiskQuota::default();
    // SAFETY: the kernel writes one `fs_disk_quota`, which `quota` is.
    match unsafe { quotactl(&file, GET, number, (&raw mut quota).cast()) } {
        Ok(()) => Ok(Use {
            bytes: quota.bytes.saturating_mul(BLOCK),
            inodes: quota.inodes,
            limit: quota.bytes_hard.saturating_mul(BLOCK),
        }),
        Err(Errno::NOENT) => Ok(Use::default()),
        Err(err) => Err(err),
    }
}

/// Lets project `number` take at most `bytes` on the file system of `file`; 0 takes the limit away.
///
/// # Errors
/// The kernel's.
pub fn set_limit(file: impl AsFd, number: u32, bytes: u64) -> Result<(), Errno> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut quota = DiskQuota {
        version: 1,
        flags: FLAG_PROJECT,
        fields: FIELD_SOFT | FIELD_HARD,
        id: number,
        bytes_hard: blocks,
        bytes_soft: blocks,
        ..DiskQuota::default()
    };
    // SAFETY: the kernel reads one `fs_disk_quota`, which `quota` is.
    unsafe { quotactl(&file, SET_LIMITS, number, (&raw mut quota).cast()) }
}

/// The project that new files in `folder` get; `None` when they get none.
///
/// # Errors
/// The kernel's: `NOTTY` or `OPNOTSUPP` on file systems without projects.
pub fn project(folder: impl AsFd) -> Result<Option<u32>, Errno> {
    let found = attributes(&folder)?;
    Ok((found.flags & INHERIT != 0 && found.project != 0).then_some(found.project))
}

/// Gives `folder`, and what will be made in it, project `number`.
///
/// # Errors
/// The kernel's.
pub fn set_project(folder: impl AsFd, number: u32) -> Result<(), Errno> {
    let mut wanted = attributes(&folder)?;
    wanted.project = number;
    wanted.flags |= INHERIT;
    // SAFETY: the kernel reads one `fsxattr`, which `wanted` is.
    unsafe { ioctl(&folder, SET_ATTRIBUTES, &mut wanted) }
}

fn attributes(folder: &impl AsFd) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    // SAFETY: the kernel writes one `fsxattr`, which `found` is.
    unsafe { ioctl(folder, GET_ATTRIBUTES, &mut found)? };
    Ok(found)
}

/// # Safety
/// `request` takes a `struct fsxattr`.
unsafe fn ioctl(
    file: &impl AsFd,
    request: libc::Ioctl,
    with: &mut Attributes,
) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and `with` is what the caller says that the request takes.
    answer(libc::c_long::from(unsafe {
        libc::ioctl(file.as_fd().as_raw_fd(), request, std::ptr::from_mut(with))
    }))
}

/// # Safety
/// `with` is what `command` takes.
unsafe fn quotactl(
    file: &impl AsFd,
    command: u32,
    number: u32,
    with: *mut libc::c_void,
) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and `with` is what the caller says that the command takes.
    answer(unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), command, number, with)
    })
}

fn answer(code: libc::c_long) -> Result<(), Errno> {
    if code >= 0 {
        return Ok(());
    }
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!((GET, SET_LIMITS, STATE), (0x58_0302, 0x58_0402, 0x58_0802));
    }

    #[test]
    fn file_systems_without_projects_say_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!enforced(&proc));
        assert!(usage(&proc, 1).is_err());
        assert!(set_limit(&proc, 1, 1).is_err());
        assert!(project(&proc).is_err());
        assert!(set_project(&proc, 1).is_err());
    }
}

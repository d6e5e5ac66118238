//! `tmpcopyup`: a tmpfs begins with what it covers, as podman asks for with `--tmpfs`.
//!
//! Invariants: all by descriptor; links are copied, not followed; what is neither file, folder nor link stays
//! out; depth and size are bounded by the tmpfs and [`DEPTH`].

use super::{Step, Tried};
use rustix::{
    fs::{self as files, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Folders in folders that are copied.
const DEPTH: usize = 64;

/// Copies what is in the folder `from` into `to`.
pub(super) fn copy(from: impl AsFd, to: impl AsFd, what: &str) -> Step {
    folder(from.as_fd(), to.as_fd(), DEPTH).tried(|| format!("copy what {what} covers"))
}

fn open(at: BorrowedFd<'_>, name: &std::ffi::CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    files::openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth == 0 {
        return Err(Errno::LOOP);
    }
    for entry in files::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = files::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                files::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let inner = open(from, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let made = open(to, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                folder(inner.as_fd(), made.as_fd(), depth - 1)?;
                own(&made, &stat)?;
                files::fchmod(&made, mode)?;
            }
            FileType::Symlink => {
                let target = files::readlinkat(from, name, Vec::new())?;
                files::symlinkat(target, to, name)?;
                let (uid, gid) = owner(&stat);
                files::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            FileType::RegularFile => {
                let source = open(from, name, OFlags::RDONLY)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = files::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                while files::sendfile(&made, &source, None, 1 << 20)? > 0 {}
                own(&made, &stat)?;
                files::fchmod(&made, mode)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn owner(stat: &files::Stat) -> (Option<files::Uid>, Option<files::Gid>) {
    (Some(files::Uid::from_raw(stat.st_uid)), Some(files::Gid::from_raw(stat.st_gid)))
}

fn own(fd: &OwnedFd, stat: &files::Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    files::fchown(fd, uid, gid)
}

/// Takes the word out of a mount's options; whether it was there.
pub(super) fn asked(options: &mut Vec<(String, Option<String>)>) -> bool {
    let before = options.len();
    options.retain(|(key, _)| key != "tmpcopyup");
    options.len() != before
}

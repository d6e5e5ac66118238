//! Detached overlay mounts: made by descriptor, attached nowhere, gone when the last descriptor is.
//!
//! Flow: fsopen("overlay"), one `lowerdir+` per layer (Linux 6.8; older kernels get the joined `lowerdir`
//! with its escapes), fsconfig(CREATE), fsmount. Settings are pinned, whatever the kernel was built with:
//! no redirects, no metacopy, no index, so that an upper folder holds whole files that can become a layer.
//! Invariants: nothing appears in any mount table; `upper` and `work` are on one file system.
//! Source: Documentation/filesystems/overlayfs.rst, fsopen(2).

use crate::dir::{Error, Result};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags},
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

/// The folder that takes changes.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'p> {
    /// Where changed and new files go.
    pub upper: &'p Path,
    /// overlayfs's own scratch folder, empty.
    pub work: &'p Path,
    /// Skip all syncing (`volatile`): for trees that are thrown away after a crash anyway. Saves the
    /// sync of the whole file system that an unmount costs otherwise.
    pub volatile: bool,
}

/// Mounts `lower` (topmost first), with changes going to `upper` or read-only without, and gives the
/// root of the mount.
///
/// # Errors
/// The kernel's, with its own words from the mount's log where it gave any in the subject.
pub fn mount(lower: &[impl AsRef<Path>], upper: Option<Upper<'_>>) -> Result<OwnedFd> {
    let fail = |call| move |e| Error::new(call, "overlay", e);
    let fs = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
    set_lower(&fs, lower)?;
    for (key, value) in
        [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")]
    {
        // A kernel without the option has it off.
        let _ = mount::fsconfig_set_string(&fs, key, value);
    }
    if let Some(Upper { upper, work, volatile }) = upper {
        set_path(&fs, "upperdir", upper)?;
        set_path(&fs, "workdir", work)?;
        if volatile {
            mount::fsconfig_set_flag(&fs, "volatile").map_err(fail("fsconfig volatile"))?;
        }
    }
    mount::fsconfig_create(&fs).map_err(|e| Error::new("mount", describe(&fs), e))?;
    let flags =
        if upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(fail("fsmount"))
}

/// Removes the mark that a volatile mount leaves in its scratch folder and that forbids the next mount:
/// for trees that no crash of the machine has touched since, or that are worth nothing after one.
///
/// # Errors
/// The kernel's.
pub fn forget_volatile(work: &Path) -> Result<()> {
    let mark = work.join("work/incompat/volatile");
    match rustix::fs::rmdir(&mark) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(Error::new("rmdir", mark, e)),
    }
}

fn set_lower(fs: &OwnedFd, lower: &[impl AsRef<Path>]) -> Result<()> {
    for (at, layer) in lower.iter().enumerate() {
        match mount::fsconfig_set_string(fs, "lowerdir+", layer.as_ref()) {
            Ok(()) => {}
            Err(Errno::INVAL) if at == 0 => return set_joined(fs, lower),
            Err(e) => return Err(Error::new("fsconfig lowerdir+", layer.as_ref(), e)),
        }
    }
    Ok(())
}

/// Before Linux 6.8: one text of at most a page, `:` and `\` escaped.
fn set_joined(fs: &OwnedFd, lower: &[impl AsRef<Path>]) -> Result<()> {
    let mut joined = Vec::new();
    for layer in lower {
        if !joined.is_empty() {
            joined.push(b':');
        }
        joined.extend(escape(layer.as_ref().as_os_str()));
    }
    let joined = OsString::from_vec(joined);
    mount::fsconfig_set_string(fs, "lowerdir", joined.as_os_str())
        .map_err(|e| Error::new("fsconfig lowerdir", &joined, e))
}

fn set_path(fs: &OwnedFd, key: &'static str, path: &Path) -> Result<()> {
    mount::fsconfig_set_string(fs, key, path).map_err(|e| Error::new("fsconfig", path, e))
}

fn escape(text: &OsStr) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.as_bytes() {
        if matches!(byte, b':' | b'\\' | b',') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

/// What the kernel wrote into the mount's own log, one message a read.
fn describe(fs: &OwnedFd) -> OsString {
    let mut text = b"overlay".to_vec();
    let mut line = [0_u8; 1024];
    for _ in 0..8 {
        match rustix::io::read(fs, &mut line) {
            Ok(length) if length > 0 => {
                text.extend(b" (");
                text.extend(line[..length].trim_ascii());
                text.push(b')');
            }
            _ => break,
        }
    }
    OsString::from_vec(text)
}

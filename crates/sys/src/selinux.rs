//! SELinux: whether a policy is loaded, what it knows, and which labels the next program and files get.
//!
//! A label is `user:role:type` and, where the policy has levels, `:level`. Texts of labels go to the kernel as they
//! are; what they mean is the policy's.
//! Source: proc(5) (`/proc/pid/attr`), the kernel's `security/selinux`, xattr(7).

use crate::{
    attribute,
    dir::{self, Dir},
    mount,
};
use rustix::{fs::XattrFlags, io::Errno};
use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
};

/// Where the kernel shows its policy.
pub const FOLDER: &str = "/sys/fs/selinux";
/// `selinuxfs`.
const MAGIC: i64 = 0xf97c_ff8c;
/// The label of a process before a policy is loaded.
const NO_POLICY: &str = "kernel";
/// The attribute that holds a file's label.
const XATTR: &str = "security.selinux";

/// Whether the kernel labels, with a policy that was loaded.
pub fn enabled() -> bool {
    let shown = fs::File::open(FOLDER).and_then(mount::fs_magic).is_ok_and(|magic| magic == MAGIC);
    shown && attribute::read("current").is_ok_and(|label| label != NO_POLICY)
}

/// Whether the policy knows every part of `label`.
///
/// # Errors
/// The kernel's, when it may not be asked.
pub fn is_known(label: &str) -> io::Result<bool> {
    match fs::write(Path::new(FOLDER).join("context"), label) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The next program of this thread runs as `label`, and the keyrings that are made until then are labelled so; those that
/// it makes until then inherit both. Before the root is changed: `/proc` has to be the kernel's own.
///
/// # Errors
/// The kernel's: `EINVAL` for a label that the policy does not know or without SELinux, `EACCES` when it forbids to ask.
pub fn on_exec(label: &str) -> io::Result<()> {
    match attribute::write("keycreate", label) {
        // Kernels without keyrings have no such file.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        done => done?,
    }
    attribute::write("exec", label)
}

/// Labels what is open, if only as a place.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where files have no labels of their own.
pub fn set_label(fd: impl AsFd, label: &str) -> dir::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::setxattr(&path, XATTR, label.as_bytes(), XattrFlags::empty())
        .map_err(|e| dir::Error::new("setxattr", XATTR, e))
}

/// Labels what is open to be read, without a look at `/proc`.
///
/// # Errors
/// As [`set_label`].
pub fn set_open_label(fd: impl AsFd, label: &str) -> dir::Result<()> {
    dir::set_open_xattr(fd, OsStr::new(XATTR), label.as_bytes())
}

impl Dir {
    /// The label of the entry `name`, not of what a symlink leads to; none where files have none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn label(&self, name: impl AsRef<OsStr>) -> dir::Result<Option<String>> {
        let bytes = self.xattr(name, OsStr::new(XATTR))?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).trim_end_matches('\0').to_owned()))
    }

    /// Labels the entry `name`, not what a symlink leads to.
    ///
    /// # Errors
    /// As [`set_label`].
    pub fn set_label(&self, name: impl AsRef<OsStr>, label: &str) -> dir::Result<()> {
        self.set_xattr(name, OsStr::new(XATTR), label.as_bytes())
    }

    /// Labels this folder.
    ///
    /// # Errors
    /// As [`set_label`].
    pub fn set_own_label(&self, label: &str) -> dir::Result<()> {
        self.set_xattr_self(OsStr::new(XATTR), label.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_policy_no_label_can_be_had() {
        if !enabled() {
            assert!(on_exec("a_u:a_r:a_t:s0").is_err());
            assert!(is_known("a_u:a_r:a_t:s0").is_err());
        }
    }
}

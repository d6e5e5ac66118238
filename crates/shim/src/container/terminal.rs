//! The container's terminal, from its own devpts.

use super::{Step, Tried};
use runtime::{shim::StartError, spec::ConsoleSize};
use rustix::fs::OFlags;
use std::os::fd::{AsFd as _, OwnedFd};
use sys::{mount, pty, root::Root};

/// Both ends.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The shim's.
    pub(crate) near: OwnedFd,
    /// The process's.
    pub(crate) far: OwnedFd,
}

/// Opens a new terminal of the container.
pub(crate) fn open(root: &Root, size: Option<ConsoleSize>) -> Step<Pair> {
    let what = || "open /dev/pts/ptmx in the container".to_owned();
    let near = root.open_with("/dev/pts/ptmx", OFlags::RDWR, 0).tried(what)?;
    if mount::fs_magic(&near).tried(what)? != mount::DEVPTS_MAGIC {
        return Err(StartError::setup("/dev/pts/ptmx in the container is not of devpts"));
    }
    let far = pty::peer(&near).tried(|| "open the far end of the terminal".into())?;
    if let Some(size) = size.filter(|s| s.height > 0 || s.width > 0) {
        pty::resize(&near, size.height, size.width).tried(|| "set the terminal's size".into())?;
    }
    Ok(Pair { near: near.into(), far })
}

/// Shows the terminal as `/dev/console`.
pub(crate) fn console(root: &Root, far: &OwnedFd) -> Step {
    let what = || "mount /dev/console".to_owned();
    let target = super::mounts::file(root, "/dev/console".as_ref(), 0o600).tried(what)?;
    let tree = mount::clone_at(far.as_fd(), mount::Depth::One).tried(what)?;
    mount::attach(&tree, &target).tried(what)
}

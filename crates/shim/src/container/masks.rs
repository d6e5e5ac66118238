//! Paths that read as empty, and paths that cannot be written.
//!
//! What hides a file is the container's own null device, proven by its numbers on the very descriptor
//! that is then mounted, so that swapping `/dev/null` gains nothing. Folders are hidden by one empty
//! read-only tmpfs.

use super::{Step, Tried, mounts, stdio::is_null};
use runtime::{plan::Plan, shim::StartError};
use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};
use sys::{
    mount::{self, Depth, attr},
    root::Root,
};

/// Hides and protects what the plan says; paths that do not exist here are passed over.
pub(crate) fn apply(root: &Root, plan: &Plan, null: &OwnedFd) -> Step {
    for path in &plan.readonly_paths {
        protect(root, path)?;
    }
    let mut empty = None;
    for path in &plan.masked {
        hide(root, path, null, plan.label(), &mut empty)?;
    }
    Ok(())
}

/// Opens the target, if there is one. Nothing but the kernel's own file systems can lie at `/proc` and
/// `/sys`: see `mounts::allowed` and the plan.
fn target(root: &Root, path: &Path, what: &dyn Fn() -> String) -> Step<Option<File>> {
    match root.open_with(path, OFlags::PATH, 0) {
        Ok(file) => Ok(Some(file)),
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e).tried(what),
    }
}

fn protect(root: &Root, path: &Path) -> Step {
    let what = || format!("error making {} read-only", path.display());
    let Some(target) = target(root, path, &what)? else { return Ok(()) };
    let tree = mount::clone_at(&target, Depth::Recursive).tried(what)?;
    mount::set_attr(&tree, attr::RDONLY, 0, 0, Depth::Recursive).tried(what)?;
    mount::attach(&tree, &target).tried(what)
}

fn hide(
    root: &Root,
    path: &Path,
    null: &OwnedFd,
    label: Option<&str>,
    empty: &mut Option<OwnedFd>,
) -> Step {
    let what = || format!("error masking {}", path.display());
    let Some(target) = target(root, path, &what)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&target).tried(what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let tree = mount::clone_at(null.as_fd(), Depth::One).tried(what)?;
        return mount::attach(&tree, &target).tried(what);
    }
    let tree = match empty {
        Some(first) => mount::clone_at(first.as_fd(), Depth::One).tried(what)?,
        None => {
            let mut options = [("nr_inodes", "2"), ("size", "0"), ("mode", "755")]
                .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
                .to_vec();
            if let Some(label) = label {
                mounts::labelled(&mut options, label);
            }
            let attrs = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            mount::new_fs("tmpfs", "tmpfs", &options, attrs).tried(what)?
        }
    };
    mount::attach(&tree, &target).tried(what)?;
    if empty.is_none() {
        *empty = Some(tree);
    }
    Ok(())
}

/// The null device to hide files with.
pub(crate) fn null(root: &Root) -> Step<OwnedFd> {
    let what = || "open /dev/null in the container".to_owned();
    let file = root.open_with("/dev/null", OFlags::PATH | OFlags::NOFOLLOW, 0).tried(what)?;
    match is_null(&rustix::fs::fstat(&file).tried(what)?) {
        true => Ok(file.into()),
        false => Err(StartError::setup("/dev/null in the container is not the null device")),
    }
}

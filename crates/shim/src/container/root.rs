//! The root file system: a detached mount, made before the clone, entered by pivot_root after it.

use super::{
    Step, Tried,
    users::{self, Space},
};
use runtime::{plan::Plan, spec::Rootfs};
use rustix::fs::OFlags;
use std::{os::fd::OwnedFd, path::Path};
use sys::{
    mount::{self, Depth, propagation},
    overlay,
    root::Root,
};

/// Makes the mount, attached nowhere; layers with the users of `space` and the plan's label. `place` is any folder of the
/// host.
pub(crate) fn make(plan: &Plan, space: Option<&Space>, place: &Path) -> Step<OwnedFd> {
    match &plan.root {
        Rootfs::Path(path) => {
            let tree = mount::clone_path(path, Depth::Recursive);
            let tree =
                tree.tried(|| format!("error opening root file system {}", path.display()))?;
            mount::set_attr(&tree, 0, 0, propagation::PRIVATE, Depth::Recursive)
                .tried(|| "error making root file system private".into())?;
            Ok(tree)
        }
        Rootfs::Overlay { lower, upper, work, volatile } => {
            overlay::forget_volatile(work)
                .tried(|| format!("error cleaning {}", work.display()))?;
            let upper = overlay::Upper { upper, work, volatile: *volatile };
            match space {
                Some(space) => {
                    users::mapped_overlay(lower, Some(upper), plan.label(), space, place)
                }
                None => overlay::mount(lower, Some(upper), plan.label())
                    .tried(|| "error mounting root file system".into()),
            }
        }
    }
}

/// How a root is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The old root is gone afterwards.
    Pivot,
    /// The new one covers it, where the kernel's first root cannot be left (`--no-pivot`).
    Move,
}

fn move_into(tree: &OwnedFd) -> Step {
    let what = || "error jailing process inside rootfs: moving it".to_owned();
    rustix::process::fchdir(tree).tried(what)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, 0.into()).tried(what)?;
    mount::attach(tree, &old).tried(what)?;
    rustix::process::chroot(".").tried(what)?;
    rustix::process::chdir("/").tried(what)
}

/// In the container's own mount namespace: puts `tree` on `place`, any folder of the host, to be entered there.
pub(crate) fn attach(tree: &OwnedFd, place: &Path, propagation: u64) -> Step<Root> {
    mount::set_propagation_of_all(propagation::SLAVE)
        .tried(|| "error making the mounts of the host slaves".into())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target =
        rustix::fs::open(place, flags, 0.into()).tried(|| format!("open {}", place.display()))?;
    mount::attach(tree, &target).tried(|| "error attaching root file system".into())?;
    if propagation != propagation::SHARED {
        propagate(tree, propagation)?;
    }
    let same = rustix::io::fcntl_dupfd_cloexec(tree, 3);
    same.map(Root::from).tried(|| "open the container's root".into())
}

fn propagate(tree: &OwnedFd, propagation: u64) -> Step {
    mount::set_attr(tree, 0, 0, propagation, Depth::Recursive)
        .tried(|| "error setting propagation of /".into())
}

/// Makes the attached `tree` the root and leaves the host's behind.
pub(crate) fn enter(tree: &OwnedFd, propagation: u64, how: Entry) -> Step<Root> {
    match how {
        Entry::Pivot => mount::pivot_into(tree.as_fd())
            .tried(|| "error jailing process inside rootfs: pivot_root".into())?,
        Entry::Move => move_into(tree)?,
    }
    // A shared mount cannot become the root.
    if propagation == propagation::SHARED {
        propagate(tree, propagation)?;
    }
    Root::open(Path::new("/")).tried(|| "open the container's root".into())
}

use std::os::fd::AsFd as _;

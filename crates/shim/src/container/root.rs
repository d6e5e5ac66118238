//! The root file system: a detached mount, made before the clone, entered by pivot_root after it.

use super::{
    Step, Tried,
    users::{self, Space},
};
use runtime::spec::Rootfs;
use rustix::fs::OFlags;
use std::{os::fd::OwnedFd, path::Path};
use sys::{
    mount::{self, Depth, propagation},
    overlay,
    root::Root,
};

/// Makes the mount, attached nowhere, with the users of `space`. `place` is any folder of the host.
pub(crate) fn make(source: &Rootfs, space: Option<&Space>, place: &Path) -> Step<OwnedFd> {
    match source {
        Rootfs::Path(path) => {
            let tree = mount::clone_path(path, Depth::Recursive);
            let tree =
                tree.tried(|| format!("error opening root file system {}", path.display()))?;
            mount::set_attr(&tree, 0, 0, propagation::PRIVATE, Depth::Recursive)
                .tried(|| "error making root file system private".into())?;
            if let Some(space) = space {
                users::map(&tree, &space.user, || format!("error mounting {}", path.display()))?;
            }
            Ok(tree)
        }
        Rootfs::Overlay { lower, upper, work, volatile } => {
            overlay::forget_volatile(work)
                .tried(|| format!("error cleaning {}", work.display()))?;
            let upper = overlay::Upper { upper, work, volatile: *volatile };
            match space {
                Some(space) => users::mapped_overlay(lower, Some(upper), space, place),
                None => overlay::mount(lower, Some(upper))
                    .tried(|| "error mounting root file system".into()),
            }
        }
    }
}

/// In the container's own mount namespace: makes `tree` its root and leaves the host's behind. `place`
/// is any folder of the host; the root lies there for a moment.
pub(crate) fn enter(tree: &OwnedFd, place: &Path, propagation: u64) -> Step<Root> {
    mount::set_propagation_of_all(propagation::SLAVE)
        .tried(|| "error making the mounts of the host slaves".into())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target =
        rustix::fs::open(place, flags, 0.into()).tried(|| format!("open {}", place.display()))?;
    mount::attach(tree, &target).tried(|| "error attaching root file system".into())?;
    mount::pivot_into(tree.as_fd())
        .tried(|| "error jailing process inside rootfs: pivot_root".into())?;
    mount::set_attr(tree, 0, 0, propagation, Depth::Recursive)
        .tried(|| "error setting propagation of /".into())?;
    Root::open(Path::new("/")).tried(|| "open the container's root".into())
}

use std::os::fd::AsFd as _;

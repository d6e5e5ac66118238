//! Mount namespaces: trees that are put together for one reader, and single mounts of another namespace.
//!
//! A mount namespace belongs to a thread; as with [`crate::netns`], work there is done on a thread of its own.
//! Descriptors that were opened there keep their view of mounts wherever they are used, as long as the namespace
//! lives: [`Held`] keeps it.
//! Source: setns(2), unshare(2), mount_namespaces(7).

use crate::{
    mount::{self, Depth, propagation},
    process::{self, ns},
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::mpsc,
    thread::JoinHandle,
};

/// Bytes; what runs there is small.
const STACK: usize = 256 * 1024;

/// A mount namespace that lives as long as this.
#[derive(Debug)]
pub struct Held {
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing but end.
            let _ = thread.join();
        }
    }
}

/// Runs `make` in a new mount namespace, a copy of ours into which unmounts of ours go on to propagate and out of
/// which nothing does, and keeps it.
///
/// # Errors
/// `EPERM` without privilege; `EAGAIN` when no thread can be made; `EIO` when `make` panicked.
pub fn copy<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> io::Result<(T, Held)> {
    let (release, released) = mpsc::channel::<()>();
    let (answer, made) = mpsc::channel();
    let thread = std::thread::Builder::new().name("mntns".into()).stack_size(STACK);
    let thread = thread.spawn(move || {
        // SAFETY: only this thread's namespace and folder settings change; no descriptor table is unshared.
        let alone = unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        let alone = alone
            .map_err(io::Error::from)
            .and_then(|()| mount::set_propagation_of_all(propagation::SLAVE));
        let failed = alone.is_err();
        let sent = answer.send(alone.map(|()| make()));
        drop(answer);
        if !failed && sent.is_ok() {
            // Ends with an error, when the other end is dropped.
            let _ = released.recv();
        }
    })?;
    let held = Held { release: Some(release), thread: Some(thread) };
    let made = made.recv().map_err(|_| io::Error::from_raw_os_error(libc::EIO))??;
    Ok((made, held))
}

/// The root mount of the process behind a pidfd alone, without what is mounted below it, detached.
///
/// # Errors
/// The kernel's; `ESRCH` when the process has ended.
pub fn root_of(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mntns".into()).stack_size(STACK);
        let handle = thread.spawn_scoped(scope, move || {
            // SAFETY: only this thread's folder settings become its own.
            unsafe { unshare_unsafe(UnshareFlags::FS) }?;
            process::join(pidfd, ns::MOUNT)?;
            let root = mount::clone_path(Path::new("/"), Depth::One)?;
            mount::set_attr(&root, 0, 0, propagation::PRIVATE, Depth::One)?;
            Ok(root)
        })?;
        handle.join().unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::EIO)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;
    use std::{fs, os::fd::AsFd as _};

    #[test]
    fn mounts_of_a_copy_are_seen_through_its_descriptors_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (below, over) = (dir.path().join("below"), dir.path().join("over"));
        for folder in [&below, &over] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(over.join("seen"), "x").unwrap();
        let (root, held) = copy({
            let (path, over, below) = (dir.path().to_owned(), over, below.clone());
            move || {
                let tree = mount::clone_path(&over, Depth::One).unwrap();
                let target = rustix::fs::open(&below, rustix::fs::OFlags::PATH, 0.into()).unwrap();
                mount::attach(&tree, &target).unwrap();
                Root::open(&path).unwrap()
            }
        })
        .unwrap();
        assert!(root.exists("/below/seen").unwrap());
        assert!(!below.join("seen").exists());
        drop(held);
        assert!(!below.join("seen").exists());
    }

    #[test]
    fn the_root_of_a_process_comes_without_what_is_below() {
        let me = process::open(std::process::id()).unwrap();
        let root = Root::from(root_of(me.as_fd()).unwrap());
        assert!(root.exists("/proc").unwrap() && !root.exists("/proc/self").unwrap());
    }
}

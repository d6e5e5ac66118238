//! Network namespaces: doing one thing inside another one.
//!
//! A namespace belongs to a thread, and a thread of a pool that came back in the wrong one would harm
//! whoever uses it next. So the thing is done on a thread of its own, which ends afterwards. A socket
//! opened there stays in its namespace wherever it is used.
//! Source: setns(2), network_namespaces(7).

use crate::netlink::{Error, Result, Route};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use std::{
    io::Write as _,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

/// Bytes; what runs there is small.
const STACK: usize = 128 * 1024;

/// Opens a namespace, such as `/proc/<pid>/ns/net`.
///
/// # Errors
/// Of the kernel; `ENOENT` when the process is gone.
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new(format!("open network namespace {}", path.display()), errno))
}

/// Runs `work` in the namespace, on a thread of its own.
///
/// # Errors
/// `EAGAIN` when no thread can be made, `EIO` when `work` panicked; otherwise of setns(2).
pub fn within<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    beside(netns, work, || ()).map(|(inside, ())| inside)
}

/// Runs `work` in the namespace, on a thread of its own, and `meanwhile` on this one.
///
/// # Errors
/// As [`within`]; `meanwhile` has run in any case.
pub fn beside<T: Send, U>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce() -> U,
) -> Result<(T, U)> {
    let failed = |errno| Error::new("enter a network namespace", errno);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).stack_size(STACK);
        let handle = thread.spawn_scoped(scope, move || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        let here = meanwhile();
        let inside = handle.map_err(|_| failed(Errno::AGAIN))?.join().unwrap_or(Err(Errno::IO));
        Ok((inside.map_err(failed)?, here))
    })
}

/// Opens a socket for links, addresses and routes inside the namespace.
///
/// # Errors
/// As [`within`], and of the kernel.
pub fn route(netns: BorrowedFd<'_>) -> Result<Route> {
    within(netns, Route::open)?
}

/// Makes a network namespace, which lives as long as the descriptor or a process in it.
///
/// # Errors
/// `EPERM` without privilege; `ENOSPC` when there are too many.
pub fn create() -> Result<OwnedFd> {
    let failed = |errno| Error::new("make a network namespace", errno);
    let thread = std::thread::Builder::new().name("netns".into()).stack_size(STACK);
    let handle = thread.spawn(move || {
        // SAFETY: only the network namespace of this thread changes; no descriptor table is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(failed)?;
        open(Path::new("/proc/thread-self/ns/net"))
    });
    let handle = handle.map_err(|_| failed(Errno::AGAIN))?;
    handle.join().unwrap_or(Err(failed(Errno::IO)))
}

/// Writes a setting below `/proc/sys/net` of the calling thread's namespace.
///
/// # Errors
/// `NotFound` where the kernel lacks what the setting is about.
pub fn set_sysctl(name: &str, value: &str) -> std::io::Result<()> {
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn work_happens_inside_and_the_caller_stays_outside() {
        let inside = create().unwrap();
        let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let there =
            within(inside.as_fd(), || std::fs::read_link("/proc/thread-self/ns/net").unwrap())
                .unwrap();
        assert_ne!(before, there);
        assert_eq!(before, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        let links = route(inside.as_fd()).unwrap().links(None).unwrap();
        assert!(links.iter().any(|l| l.name == "lo" && !l.up));
    }

    #[test]
    fn what_is_no_namespace_and_what_panics_are_errors() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(within(file.as_fd(), || ()).unwrap_err().errno, Errno::INVAL);
        let inside = create().unwrap();
        assert_eq!(within(inside.as_fd(), || panic!("on purpose")).unwrap_err().errno, Errno::IO);
    }

    #[test]
    fn settings_belong_to_the_namespace() {
        let inside = create().unwrap();
        within(inside.as_fd(), || {
            set_sysctl("ipv4/ip_forward", "1").unwrap();
            set_sysctl("ipv4/ip_forward", "1").unwrap();
            assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "1\n");
            assert!(set_sysctl("ipv4/no_such_thing", "1").is_err());
        })
        .unwrap();
    }
}

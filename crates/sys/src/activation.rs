//! Sockets passed by the service manager: `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`.
//!
//! Source: sd_listen_fds(3).

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first passed descriptor, by the protocol.
const FIRST: RawFd = 3;
/// More are not believed.
const MOST: RawFd = 1024;

/// A passed socket.
#[derive(Debug)]
pub struct Socket {
    /// The descriptor; closes on exec.
    pub fd: OwnedFd,
    /// Its number, counted from 3.
    pub number: RawFd,
    /// Its name, empty when it has none.
    pub name: String,
}

/// Takes the passed sockets. Later calls return none.
pub fn take() -> Vec<Socket> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let ours = std::env::var("LISTEN_PID").is_ok_and(|p| p == std::process::id().to_string());
    if !ours || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let count: RawFd = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (FIRST..FIRST + count.clamp(0, MOST))
        .filter_map(|number| {
            let name = names.next().unwrap_or_default().to_owned();
            // SAFETY: the service manager opened these descriptors for this very process (LISTEN_PID) and
            // nothing else in it knows them; TAKEN makes sure that they are owned once. One that is not
            // open is noticed by the next line and given up without being closed.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            match rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC) {
                Ok(()) => Some(Socket { fd, number, name }),
                Err(_) => {
                    std::mem::forget(fd);
                    None
                }
            }
        })
        .collect()
}

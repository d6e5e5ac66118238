//! What is different for a process that no monitor stands by: it waits at a gate of its own, and it does not end with
//! whoever made it.

use super::{Message, Step, Sync, Tried};
use runtime::shim::StartError;
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};
use sys::epoll::{Interest, Poll};

/// A first process made by the command line of the runtime.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Where it waits for its start: the reading end of a pipe with a name.
    pub(crate) gate: OwnedFd,
    /// Descriptors from 3 on that the program keeps.
    pub(crate) preserve: i32,
    /// Whether it gets a session keyring of its own.
    pub(crate) keyring: bool,
    /// Whether the root is entered by `pivot_root`.
    pub(crate) pivot: bool,
}

impl Alone {
    /// All is prepared: says so and waits for the start.
    pub(crate) fn wait(&self, sync: &Sync) -> Step {
        let what = || "wait for the start".to_owned();
        // Whoever made this process is gone once it has heard this.
        let _ = sync.send(&Message::Waiting, None);
        let poll = Poll::new().tried(what)?;
        poll.add(&self.gate, 0, Interest::IN).tried(what)?;
        let mut byte = [0];
        loop {
            match rustix::io::read(self.gate.as_fd(), &mut byte) {
                Ok(1) => return Ok(()),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(err) => return Err(err).tried(what),
            }
            poll.wait(&mut Vec::new(), None).tried(what)?;
        }
    }
}

/// Refuses descriptors that are not there: one of this program's own would take their place.
pub(crate) fn preserved(number: u32) -> Step<i32> {
    let open = |n: &u32| std::path::Path::new(&format!("/proc/self/fd/{n}")).exists();
    let missing = (3..number.saturating_add(3)).find(|n| !open(n));
    match (missing, i32::try_from(number)) {
        (None, Ok(number)) => Ok(number),
        (missing, _) => Err(StartError::setup(format!(
            "--preserve-fds {number}: descriptor {} is not open",
            missing.unwrap_or_default()
        ))),
    }
}

//! The socket between the shim and a process that it is making.

use super::Step;
use runtime::shim::StartError;
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Longest message; an error text with two paths fits.
const LIMIT: usize = 64 << 10;

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Sync(OwnedFd);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Shim to child: it is in its control groups.
    Joined,
    /// Shim to child: run the program.
    Run,
    /// Child to shim: the near end of its terminal comes along.
    Terminal,
    /// Helper to shim: what it was made for is done; the mount comes along, if that was it.
    Made,
    /// Child to shim: the process that will run the program, by its pid on the host.
    Pid(u32),
    /// Child to shim: as good as started; what fails now the container itself prints.
    Started,
    /// Child to its maker: its namespaces and mounts are there, and hooks may run.
    Spaces,
    /// Maker to child: they have run, and this is the state that further ones get.
    Hooked(String),
    /// Child to its maker: it waits at its gate.
    Waiting,
    /// Child to shim: it does not start.
    Failed(StartError),
}

impl AsFd for Sync {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Sync {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = sys::fdpass::pair()?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        if bytes.len() > LIMIT {
            let long = StartError::setup("error message of the container's set-up is too long");
            bytes = serde_json::to_vec(&Message::Failed(long))?;
        }
        sys::fdpass::send(&self.0, &bytes, fd)
    }

    /// Receives a message; `None` when the other end is closed.
    pub(crate) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        // Told once when the other end was closed with something unread; what it said before comes after.
        let (bytes, fd) = match sys::fdpass::receive(&self.0, LIMIT) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                sys::fdpass::receive(&self.0, LIMIT)?
            }
            received => received?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes)?, fd)))
    }

    /// In the child: waits for the shim's word.
    pub(crate) fn expect(&self, wanted: fn(&Message) -> bool) -> Step {
        match self.receive() {
            Ok(Some((message, _))) if wanted(&message) => Ok(()),
            // Nobody is left to be told.
            _ => Err(StartError::setup("the shim went away")),
        }
    }
}

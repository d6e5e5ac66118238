//! Netlink: a small synchronous client, and over it links, addresses, routes and neighbours (rtnetlink).
//!
//! Flow: a [`Request`] is one message with a word on what it does; [`Socket::run`] sends several in one
//! datagram and collects an answer for each. [`Route`] wraps a socket with the questions that rtnetlink
//! answers by lists.
//!
//! Invariants: a reply is read through bounds-checked iterators, and one that makes no sense is an error,
//! never a panic; a lost reply ends in a timeout, never in a hang.
//! Source: `linux/netlink.h`, `linux/rtnetlink.h`, netlink(7), rtnetlink(7).

mod link;
mod message;
mod route;
mod socket;

pub use link::{Link, Over, Port, Veth};
pub use message::{Attributes, Message};
pub use route::{Address, NextHop, Route};
pub use socket::{Reply, Request, Socket};

use rustix::io::Errno;

/// A failed netlink request.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub struct Error {
    /// What was tried, on what.
    pub what: String,
    /// What the kernel adds in words, if anything.
    pub detail: Option<String>,
    /// The kernel's answer.
    #[source]
    pub errno: Errno,
}

impl Error {
    pub(crate) fn new(what: impl Into<String>, errno: Errno) -> Self {
        Self { what: what.into(), detail: None, errno }
    }

    /// Whether the thing asked for is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, Errno::NOENT | Errno::NODEV | Errno::SRCH)
    }

    /// Whether the thing to be made is there already.
    pub fn is_there(&self) -> bool {
        self.errno == Errno::EXIST
    }

    /// A bridge takes no more ports.
    pub fn is_full(&self) -> bool {
        self.errno == Errno::XFULL
    }
}

/// Number of the loopback link in every network namespace (LOOPBACK_IFINDEX).
pub const LOOPBACK: u32 = 1;

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

//! What happens on the far side of the clone: a copy of the shim turns itself into the container's
//! process, step by step, and ends in execve.
//!
//! The copy has one thread, so ordinary Rust is fine; it talks to the shim over a socket of messages
//! ([`Sync`]) that closes by itself at execve. Whatever fails is said there in docker's words.
//! Invariants: from [`root::enter`] on no path of the host can be reached; everything inside the root is
//! opened through `sys::root`, also before that; the last steps are user namespace, user, capabilities, seccomp,
//! execve, in that order.

mod alone;
mod cgroups;
mod copyup;
mod cwd;
mod delegate;
mod dev;
mod exec;
mod first;
mod identity;
mod masks;
mod mounts;
mod prepare;
mod program;
mod root;
mod stdio;
mod sync;
mod terminal;
mod users;

pub(crate) use alone::{Alone, preserved};
pub(crate) use delegate::{BUNDLE, Call, Command, Ground, call_file, last_error};
pub(crate) use exec::Joining;
pub(crate) use first::First;
pub(crate) use prepare::Prepared;
pub(crate) use program::{lookup, run as run_program};
pub(crate) use stdio::{Ends, Input, Streams, pipes};
pub(crate) use sync::{Message, Sync};

use runtime::shim::StartError;

/// A step's result.
pub(crate) type Step<T = ()> = Result<T, StartError>;

/// Turns the failure of a step into docker's form: what was tried, then why.
pub(crate) trait Tried<T> {
    /// Says what was tried.
    fn tried(self, what: impl FnOnce() -> String) -> Step<T>;
}

impl<T, E: Reason> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|e| StartError::setup(format!("{}: {}", what(), e.reason())))
    }
}

/// The reason that an error gives, in the kernel's words as Go prints them.
pub(crate) trait Reason {
    /// Its text.
    fn reason(&self) -> String;
}

impl Reason for std::io::Error {
    fn reason(&self) -> String {
        match self.raw_os_error() {
            Some(number) => errno_text(number),
            None => self.to_string(),
        }
    }
}

impl Reason for rustix::io::Errno {
    fn reason(&self) -> String {
        errno_text(self.raw_os_error())
    }
}

impl Reason for sys::root::Error {
    fn reason(&self) -> String {
        let subject = self.to_string();
        format!("{subject}: {}", self.errno().reason())
    }
}

impl Reason for (String, rustix::io::Errno) {
    fn reason(&self) -> String {
        format!("{}: {}", self.0, self.1.reason())
    }
}

/// `strerror` in lower case, as every client of Docker knows it.
pub(crate) fn errno_text(number: i32) -> String {
    let whole = std::io::Error::from_raw_os_error(number).to_string();
    let text = whole.split(" (os error").next().unwrap_or(&whole);
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // `I/O error` keeps its capitals out of habit only: Go writes them small as well.
        (Some(first), _) => first.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => format!("error {number}"),
    }
}

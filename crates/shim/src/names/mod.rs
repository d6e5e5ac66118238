//! The server at 127.0.0.11 of one container: names of its networks, and a way to the servers outside.
//!
//! Flow: the monitor makes a copy of this process ([`start`]), which opens its sockets inside the container's
//! network namespace ([`sockets`]), says that it is ready, and serves ([`server`]) until its parent ends. The
//! daemon is not needed for it: what it knows stands in files that the daemon replaces.
//! Why a process: whatever a container's programs send, it cannot reach the one that holds the container's
//! streams; and what does not end here ends with the kernel's help.
//! Invariants: of all privileges only the one to change network namespaces is left; a query costs bounded
//! memory, and there are boundedly many.

mod files;
mod server;
mod sockets;
mod upstream;

use rustix::fd::AsFd as _;
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::net::UnixStream,
};
use sys::{caps, process as kernel};

/// What the copy says when it serves; anything else is why it does not.
pub(crate) const READY: u8 = b'+';
/// `SIGKILL`.
const KILL: i32 = 9;

/// A copy of this process that serves the container whose first process is `pid`, and the near end of the
/// socket on which it says [`READY`]. `dir` is the container's folder.
pub(crate) fn start(dir: &File, pid: u32) -> io::Result<(u32, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    let parent = std::process::id();
    if let Some(child) = kernel::fork()? {
        near.set_nonblocking(true)?;
        return Ok((child, near));
    }
    let outcome = become_server(dir, &far, parent).and_then(|()| serve(pid));
    // Only what went wrong comes here.
    let text = outcome.map_or_else(|e| e.to_string(), |()| String::new());
    let _ = File::from(rustix::io::dup(rustix::stdio::stdin()).unwrap_or_else(|_| kernel::exit(1)))
        .write_all(text.as_bytes());
    kernel::exit(1)
}

/// Keeps the folder and the socket, as descriptors 1 and 0, and lets go of all else that was copied.
fn become_server(dir: &File, ready: &UnixStream, parent: u32) -> io::Result<()> {
    kernel::set_stdio(ready.as_fd(), 0)?;
    kernel::set_stdio(dir.as_fd(), 1)?;
    let null = File::open("/dev/null")?;
    kernel::set_stdio(null.as_fd(), 2)?;
    drop(null);
    kernel::close_from(3)?;
    kernel::reset_signals();
    kernel::set_name(c"gantry-names")?;
    // It ends with the monitor, which may have ended just now.
    kernel::set_parent_death_signal(KILL)?;
    match rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) {
        Some(now) if now.cast_unsigned() == parent => Ok(()),
        _ => Err(io::Error::other("the shim is gone")),
    }
}

fn serve(pid: u32) -> io::Result<()> {
    let spaces = sockets::Spaces::open(pid)?;
    let sockets = sockets::open(&spaces)?;
    // To change network namespaces is all that is left to do as root.
    let keep = 1 << caps::SYS_ADMIN;
    caps::bound(keep)?;
    kernel::set_no_new_privs()?;
    caps::set(caps::Sets { effective: keep, permitted: keep, inheritable: 0 })?;
    kernel::set_parent_death_signal(KILL)?;
    let ready = rustix::io::dup(rustix::stdio::stdin())?;
    let mut server = server::Server::new(sockets, spaces)?;
    File::from(ready).write_all(&[READY])?;
    server.run()
}

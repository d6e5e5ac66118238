//! Terminals: the pair, its size, its session.
//!
//! The far end is opened through the near one (`TIOCGPTPEER`), never by a path inside a container.
//! Source: pts(4), ioctl_tty(2).

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    pty::OpenptFlags,
    termios::{self, Winsize},
};
use std::{io, os::fd::AsRawFd as _};

/// Opens the far end of the terminal that `master` (an open `ptmx`) is.
///
/// # Errors
/// The kernel's.
pub fn peer(master: impl AsFd) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(&master, flags)?)
}

/// Sets the size; its processes are told.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(termios::tcsetwinsize(terminal, size)?)
}

/// Starts a session whose terminal `terminal` is.
///
/// # Errors
/// The kernel's.
pub fn take(terminal: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: this request takes a number.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_talks_and_has_a_size() {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let far = peer(&master).unwrap();
        resize(&master, 24, 80).unwrap();
        let size = termios::tcgetwinsize(&far).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (24, 80));
        rustix::io::write(&far, b"x\n").unwrap();
        let mut bytes = [0; 8];
        let len = rustix::io::read(&master, &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"x\r\n");
    }
}

//! Waiting for many descriptors and for signals, in one thread.
//!
//! Source: epoll(7), signalfd(2).

use rustix::{
    event::{Timespec, epoll},
    fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};
use std::{io, ptr, time::Duration};

pub use rustix::event::epoll::EventFlags as Interest;

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poll(OwnedFd);

/// What happened to one of them.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number given to [`Poll::add`].
    pub token: u64,
    /// What happened.
    pub flags: Interest,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds `fd` under a number.
    ///
    /// # Errors
    /// The kernel's; `EPERM` for what is always ready, such as files.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(token), interest)?)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(token), interest)?)
    }

    /// Takes `fd` out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until something is ready or the time is over, and adds what is to `ready`.
    ///
    /// # Errors
    /// The kernel's; an interrupted wait is an early end, no error.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut events = Vec::with_capacity(32);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
        // Packed on some machines: fields are copied out, not borrowed.
        ready.extend(events.iter().map(|e| Ready { token: { e.data }.u64(), flags: e.flags }));
        Ok(())
    }
}

/// A descriptor that reads as the signals which came.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SignalFd {
    /// Holds `signals` back from this thread and reads them here instead.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: an all-zero set is a valid one; the calls write to it and read it while it lives.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal's number, if one came.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // SAFETY: all-zero is a valid value.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer is as long as said; the kernel writes whole records or none.
        let read =
            unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size_of_val(&info)) };
        if read < 0 {
            let err = io::Error::last_os_error();
            return if err.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(err) };
        }
        Ok(i32::try_from(info.ssi_signo).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_and_signals_are_seen() {
        let poll = Poll::new().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        poll.add(&read, 7, Interest::IN).unwrap();
        let mut ready = Vec::new();
        poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        rustix::io::write(&write, b"x").unwrap();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!(ready[0].token, 7);
        poll.remove(&read).unwrap();

        let signals = SignalFd::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        poll.add(&signals, 8, Interest::IN).unwrap();
        // SAFETY: raises a signal that this thread holds back.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
        ready.clear();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!(ready[0].token, 8);
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
    }
}

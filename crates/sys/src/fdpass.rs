//! Messages with descriptors between processes on this machine.
//!
//! Source: unix(7), `SCM_RIGHTS`.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
};

/// A pair of connected sockets that keep messages apart.
///
/// # Errors
/// The kernel's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one message, with a descriptor or without.
///
/// # Errors
/// The kernel's; `EPIPE` when the other end is closed.
pub fn send(socket: impl AsFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: &[BorrowedFd<'_>] = fd.as_slice();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message; empty when the other end is closed.
///
/// # Errors
/// The kernel's; `EMSGSIZE` when it is longer than `limit` bytes.
pub fn receive(socket: impl AsFd, limit: usize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = vec![0; limit];
    let received = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut message)];
        recvmsg(&socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    message.truncate(received.bytes);
    let fd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((message, fd))
}

/// User at the other end of a unix socket, as it was when it connected.
///
/// # Errors
/// The kernel's.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

/// Process at the other end of a unix socket: who connected, or who began to listen.
///
/// # Errors
/// The kernel's.
pub fn peer_pid(socket: impl AsFd) -> io::Result<i32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.pid.as_raw_nonzero().get())
}

/// Bytes that were sent on a socket and that the other end has not read yet (unix: SIOCOUTQ, unix(7)).
///
/// # Errors
/// Of the kernel, for what is no socket.
pub fn unread(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the call, and the kernel writes one int to the place given.
    let done = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd()),
            libc::TIOCOUTQ,
            &raw mut bytes,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (a, b) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&a, b"hello", Some(write.as_fd())).unwrap();
        send(&a, b"bye", None).unwrap();
        drop(write);
        let (message, fd) = receive(&b, 100).unwrap();
        assert_eq!(message, b"hello");
        rustix::io::write(fd.unwrap(), b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 2]).unwrap(), 1);
        assert_eq!(receive(&b, 2).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        drop(a);
        assert_eq!(receive(&b, 2).unwrap().0, b"");
        assert_eq!(send(&b, b"x", None).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}

//! Ports of this machine, held so that nobody else takes them.
//!
//! The packet filter carries the traffic of a published port; the socket here only makes the port taken,
//! for other programs and for `ss`. Whatever reaches it (when someone flushed the rules) is dropped by a
//! filter, so that a client sees silence rather than a connection that nobody serves.
//! Source: socket(7), `SO_ATTACH_FILTER`.

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, SocketFlags, SocketType, ipproto,
        sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr},
    },
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

/// A transport protocol whose ports can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Holds a port in the network namespace of the calling thread until the descriptor is closed. `None`
/// when the kernel lacks the protocol, so that nobody can take its ports.
///
/// # Errors
/// `EADDRINUSE` when another socket has it, `EADDRNOTAVAIL` when the address is not of this machine.
pub fn hold(transport: Transport, at: SocketAddr) -> Result<Option<OwnedFd>, Errno> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
        Transport::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = match net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if transport == Transport::Sctp => {
            return Ok(None);
        }
        other => other?,
    };
    if at.is_ipv6() {
        // The other family's port is held by a socket of its own.
        set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of the last owner that linger in TIME_WAIT are no obstacle.
        set_socket_reuseaddr(&socket, true)?;
    } else {
        set_socket_recv_buffer_size(&socket, 0)?;
    }
    drop_everything(&socket)?;
    net::bind(&socket, &at)?;
    if kind == SocketType::STREAM {
        // Only a listening socket keeps out others that ask for SO_REUSEADDR too, as most servers do.
        net::listen(&socket, 0)?;
    }
    Ok(Some(socket))
}

fn drop_everything(socket: &OwnedFd) -> Result<(), Errno> {
    let mut drop_all =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `socket` is open for the call; `program` and the one instruction it points to outlive it, and
    // the kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// Waits until one of two descriptors is readable or closed, or time is up; tells which are.
///
/// # Errors
/// Of poll(2).
pub fn wait(
    first: impl AsFd,
    second: impl AsFd,
    patience: Duration,
) -> Result<(bool, bool), Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (first, second) = (first.as_fd(), second.as_fd());
    let mut both = [
        PollFd::from_borrowed_fd(first, PollFlags::IN),
        PollFd::from_borrowed_fd(second, PollFlags::IN),
    ];
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    match poll(&mut both, Some(&patience)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    Ok((!both[0].revents().is_empty(), !both[1].revents().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn inside(work: impl FnOnce() + Send) {
        let namespace = netns::create().unwrap();
        netns::within(namespace.as_fd(), || {
            let mut route = crate::netlink::Route::open().unwrap();
            let lo = route.link("lo").unwrap().unwrap();
            route.run(&[crate::netlink::Request::set_up(lo.index)]).unwrap();
            work();
        })
        .unwrap();
    }

    #[test]
    fn a_held_port_is_taken_for_everyone_until_it_is_closed() {
        inside(|| {
            let tcp = hold(Transport::Tcp, at(80)).unwrap();
            let udp = hold(Transport::Udp, at(80)).unwrap();
            assert_eq!(hold(Transport::Tcp, at(80)).unwrap_err(), Errno::ADDRINUSE);
            assert_eq!(hold(Transport::Udp, at(80)).unwrap_err(), Errno::ADDRINUSE);
            assert_eq!(
                TcpListener::bind(at(80)).unwrap_err().kind(),
                std::io::ErrorKind::AddrInUse
            );
            assert_eq!(
                UdpSocket::bind("0.0.0.0:80").unwrap_err().kind(),
                std::io::ErrorKind::AddrInUse
            );
            drop((tcp, udp));
            TcpListener::bind(at(80)).unwrap();
        });
    }

    #[test]
    fn nobody_connects_to_a_held_port() {
        inside(|| {
            let _held = hold(Transport::Tcp, at(81)).unwrap();
            let tried = std::net::TcpStream::connect_timeout(&at(81), Duration::from_millis(50));
            assert_eq!(tried.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn an_address_of_another_machine_cannot_be_held() {
        inside(|| {
            let foreign = (Ipv4Addr::new(203, 0, 113, 9), 80).into();
            assert_eq!(hold(Transport::Tcp, foreign).unwrap_err(), Errno::ADDRNOTAVAIL);
        });
    }
}

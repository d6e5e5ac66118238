//! Connections to receivers: blocking, with a bound on how long connecting takes.

use base::error::chain;
use fetch::Trust;
use logging::Address;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    fmt::Display,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// Longest time to connect to one address of a host.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) enum Link {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
    Udp(UdpSocket),
    UnixDatagram(UnixDatagram),
}

/// Connects.
///
/// # Errors
/// Network, address and reason in one line.
pub(crate) fn connect(address: &Address, trust: &Trust) -> Result<Link, String> {
    let failed = |net: &str, to: &dyn Display, why: &dyn Display| format!("dial {net} {to}: {why}");
    match address {
        Address::Tcp(host) => tcp(host).map(Link::Tcp).map_err(|e| failed("tcp", host, &e)),
        Address::Tls(host) => {
            let socket = tcp(host).map_err(|e| failed("tcp", host, &e))?;
            tls(socket, host, trust).map_err(|why| failed("tcp+tls", host, &why))
        }
        Address::Udp(host) => udp(host).map(Link::Udp).map_err(|e| failed("udp", host, &e)),
        Address::Unix(path) => UnixStream::connect(path)
            .map(Link::Unix)
            .map_err(|e| failed("unix", &path.display(), &e)),
        Address::UnixDatagram(path) => datagram(path)
            .map(Link::UnixDatagram)
            .map_err(|e| failed("unixgram", &path.display(), &e)),
    }
}

pub(crate) fn datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn tcp(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no such host");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(err) => last = err,
        }
    }
    Err(last)
}

fn udp(host: &str) -> io::Result<UdpSocket> {
    let address = host.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such host"))?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

fn tls(mut socket: TcpStream, host: &str, trust: &Trust) -> Result<Link, String> {
    let config = trust.config().map_err(|e| chain(&e))?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    let mut session =
        ClientConnection::new(Arc::clone(&config), name).map_err(|e| e.to_string())?;
    // A receiver that is silent in the handshake must not be waited for without end.
    socket.set_read_timeout(Some(CONNECT)).map_err(|e| e.to_string())?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|e| e.to_string())?;
    }
    socket.set_read_timeout(None).map_err(|e| e.to_string())?;
    Ok(Link::Tls(Box::new(StreamOwned::new(session, socket))))
}

impl Link {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(socket) => Some(socket),
            Self::Tls(session) => Some(session.get_ref()),
            Self::Unix(_) | Self::Udp(_) | Self::UnixDatagram(_) => None,
        }
    }

    /// Whether the receiver has hung up: then bytes that are written now would be lost without a word.
    pub(crate) fn is_closed(&self) -> bool {
        let peek = |fd: std::os::fd::BorrowedFd<'_>| {
            use rustix::net::RecvFlags;
            let mut byte = [0_u8; 1];
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            match rustix::net::recv(fd, &mut byte[..], flags) {
                Ok((_, read)) => read == 0,
                Err(err) => err != rustix::io::Errno::AGAIN && err != rustix::io::Errno::INTR,
            }
        };
        use std::os::fd::AsFd as _;
        match self {
            Self::Tcp(socket) => peek(socket.as_fd()),
            Self::Tls(session) => peek(session.get_ref().as_fd()),
            Self::Unix(socket) => peek(socket.as_fd()),
            Self::Udp(_) | Self::UnixDatagram(_) => false,
        }
    }

    /// Bounds how long reading and writing may take.
    pub(crate) fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) {
        // Only a zero duration is refused, and there is none.
        if let Some(socket) = self.socket() {
            let _ = socket.set_read_timeout(read);
            let _ = socket.set_write_timeout(write);
        } else if let Self::Unix(socket) = self {
            let _ = socket.set_read_timeout(read);
            let _ = socket.set_write_timeout(write);
        }
    }

    /// Sends a whole message.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.write_all(bytes),
            Self::Tls(session) => session.write_all(bytes).and_then(|()| session.flush()),
            Self::Unix(socket) => socket.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(drop),
            Self::UnixDatagram(socket) => socket.send(bytes).map(drop),
        }
    }

    /// Reads what is there, waiting for something.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(into),
            Self::Tls(session) => session.read(into),
            Self::Unix(socket) => socket.read(into),
            Self::Udp(socket) => socket.recv(into),
            Self::UnixDatagram(socket) => socket.recv(into),
        }
    }
}

//! The server's sockets, inside the container's network namespace; and the way between the two namespaces.
//!
//! A container may have a server of its own at port 53 of all addresses, so this one listens at other ports of
//! 127.0.0.11, and a rule of the packet filter inside leads port 53 there.

use resolver::ADDRESS;
use rustix::{
    io::Errno,
    net::{self, AddressFamily, SocketFlags, SocketType},
};
use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};
use sys::{
    nft::{Batch, Chain, Cmp, Expr, Family, Hook, Meta, Nft, Register, Verdict},
    process::{self as kernel, ns},
};

const PORT: u16 = 53;
const TABLE: &str = "gantry-names";
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The namespaces that this process goes between.
#[derive(Debug)]
pub(super) struct Spaces {
    host: File,
    guest: File,
}

impl Spaces {
    /// Those of this process and of the container whose first process is `pid`.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        Ok(Self {
            host: File::open("/proc/self/ns/net")?,
            guest: File::open(format!("/proc/{pid}/ns/net"))?,
        })
    }

    /// Does something inside the container's namespace.
    pub(super) fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        kernel::join(&self.guest, ns::NET)?;
        let done = work();
        if kernel::join(&self.host, ns::NET).is_err() {
            // To go on in the wrong namespace would be worse than to start anew.
            kernel::exit(1);
        }
        done
    }

    /// A socket that talks to a server alone, in one of the namespaces.
    pub(super) fn udp(&self, to: IpAddr, from_host: bool) -> io::Result<UdpSocket> {
        let make = || {
            let any: SocketAddr = match to {
                IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                IpAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect((to, PORT))?;
            Ok(socket)
        };
        if from_host { make() } else { self.inside(make) }
    }

    /// A connection to a server, which may not be made yet.
    pub(super) fn tcp(&self, to: IpAddr, from_host: bool) -> io::Result<TcpStream> {
        let make = || {
            let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
            match net::connect(&socket, &SocketAddr::new(to, PORT)) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
                Err(errno) => Err(errno.into()),
            }
        };
        if from_host { make() } else { self.inside(make) }
    }
}

/// Where queries come in.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Opens the sockets and leads port 53 to them.
pub(super) fn open(spaces: &Spaces) -> io::Result<Sockets> {
    spaces.inside(|| {
        let sockets =
            Sockets { udp: UdpSocket::bind((ADDRESS, 0))?, tcp: TcpListener::bind((ADDRESS, 0))? };
        let ports =
            [(UDP, sockets.udp.local_addr()?.port()), (TCP, sockets.tcp.local_addr()?.port())];
        let sockets = match lead(ports) {
            Ok(()) => sockets,
            // Without a packet filter inside, at the port itself.
            Err(_) => Sockets {
                udp: UdpSocket::bind((ADDRESS, PORT))?,
                tcp: TcpListener::bind((ADDRESS, PORT))?,
            },
        };
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        Ok(sockets)
    })
}

fn lead(ports: [(u8, u16); 2]) -> Result<(), sys::netlink::Error> {
    let mut batch = Batch::new(Family::Ipv4);
    batch.renew_table(TABLE);
    batch.add_chain(TABLE, &Chain { name: "output", base: Some(("nat", Hook::Output, -100)) });
    let mut rule: Vec<Expr> = Expr::destination(&ADDRESS.octets(), &[255; 4]).to_vec();
    rule.push(Expr::Verdict(Verdict::Jump("lead".to_owned())));
    batch.add_chain(TABLE, &Chain { name: "lead", base: None });
    batch.add_rule(TABLE, "output", &rule);
    let r = Register;
    for (protocol, port) in ports {
        batch.add_rule(
            TABLE,
            "lead",
            &[
                Expr::Meta(Meta::Transport, r(0)),
                Expr::Cmp(r(0), Cmp::Eq, vec![protocol]),
                Expr::TransportHeader(2, 2, r(0)),
                Expr::Cmp(r(0), Cmp::Eq, PORT.to_be_bytes().to_vec()),
                Expr::Value(r(8), ADDRESS.octets().to_vec()),
                Expr::Value(r(9), port.to_be_bytes().to_vec()),
                Expr::Dnat(r(8), r(9)),
            ],
        );
    }
    Nft::open(Family::Ipv4)?.commit(&batch)
}

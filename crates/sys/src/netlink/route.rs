//! Addresses, routes, neighbours; and the socket that asks for them.

use super::{
    Attributes, Error, Link, Message, Request, Result, Socket, link::is_link, message::read_u32,
};
use rustix::io::Errno;
use std::{
    net::Ipv4Addr,
    ops::{Deref, DerefMut},
};

/// Length of `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// Length of `struct rtmsg`.
const ROUTE: usize = 12;
/// Length of `struct ndmsg`.
const NEIGHBOUR: usize = 12;
const IPV4: u8 = libc::AF_INET as u8;

/// An IPv4 address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the link.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network's prefix.
    pub prefix: u8,
}

/// An IPv4 route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Destination; 0.0.0.0/0 is the default route.
    pub destination: Ipv4Addr,
    /// Bits of the destination's prefix.
    pub prefix: u8,
    /// Gateway, if not on the link.
    pub gateway: Option<Ipv4Addr>,
    /// Number of the link it leaves by.
    pub link: Option<u32>,
}

impl Request {
    /// Gives a link an IPv4 address.
    pub fn add_address(link: u32, address: Ipv4Addr, prefix: u8) -> Self {
        Self::address(
            libc::RTM_NEWADDR,
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            link,
            address,
            prefix,
        )
    }

    /// Takes an IPv4 address from a link.
    pub fn delete_address(link: u32, address: Ipv4Addr, prefix: u8) -> Self {
        Self::address(libc::RTM_DELADDR, 0, link, address, prefix)
    }

    fn address(kind: u16, flags: i32, link: u32, address: Ipv4Addr, prefix: u8) -> Self {
        let mut fixed = [IPV4, prefix, 0, 0, 0, 0, 0, 0];
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        let octets = address.octets();
        let mut message = Message::new(kind, flags, &fixed)
            .with(libc::IFA_LOCAL, &octets)
            .with(libc::IFA_ADDRESS, &octets);
        let broadcast = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0) | address.to_bits();
        if kind == libc::RTM_NEWADDR && prefix < 31 {
            message.push(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
        let verb = if kind == libc::RTM_NEWADDR { "add" } else { "delete" };
        Self::new(message, format!("{verb} address {address}/{prefix} on link {link}"))
    }

    /// Adds the IPv4 default route.
    pub fn add_default_route(link: u32, gateway: Ipv4Addr) -> Self {
        let mut fixed = [0; ROUTE];
        fixed[0] = IPV4;
        fixed[4] = libc::RT_TABLE_MAIN;
        fixed[5] = libc::RTPROT_BOOT;
        fixed[6] = libc::RT_SCOPE_UNIVERSE;
        fixed[7] = libc::RTN_UNICAST;
        let message =
            Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
                .with(libc::RTA_GATEWAY, &gateway.octets())
                .with_u32(libc::RTA_OIF, link);
        Self::new(message, format!("add default route by {gateway}"))
    }

    /// Writes a permanent neighbour entry, replacing any.
    pub fn set_neighbour(link: u32, address: Ipv4Addr, mac: [u8; 6]) -> Self {
        let fixed = neighbour(IPV4, link, libc::NUD_PERMANENT, 0);
        let message =
            Message::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &fixed)
                .with(libc::NDA_DST, &address.octets())
                .with(libc::NDA_LLADDR, &mac);
        Self::new(message, format!("set neighbour {address}"))
    }

    /// Removes a neighbour entry.
    pub fn delete_neighbour(link: u32, address: Ipv4Addr) -> Self {
        let message = Message::new(libc::RTM_DELNEIGH, 0, &neighbour(IPV4, link, 0, 0))
            .with(libc::NDA_DST, &address.octets());
        Self::new(message, format!("delete neighbour {address}"))
    }
}

fn neighbour(family: u8, link: u32, state: u16, flags: u8) -> [u8; NEIGHBOUR] {
    let mut fixed = [0; NEIGHBOUR];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&state.to_ne_bytes());
    fixed[10] = flags;
    fixed
}

/// A socket for links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Route(Socket);

impl Route {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn open() -> Result<Self> {
        Socket::open(libc::NETLINK_ROUTE).map(Self)
    }

    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let request = Request::get_link(name);
        match self.0.get(&request) {
            Ok(reply) => Link::parse(&reply.payload)
                .map(Some)
                .ok_or_else(|| Error::new(request.what, Errno::PROTO)),
            Err(error) if error.errno == Errno::NODEV => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of the link of this name, if there is one. Unlike [`Route::link`] this does not wait for
    /// changes of links that others are about to make, which take tens of milliseconds.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn index(&self, name: &str) -> Result<Option<u32>> {
        match rustix::net::netdevice::name_to_index(&self.0, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::new(format!("find link {name}"), errno)),
        }
    }

    /// All links; with a master only its ports.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn links(&mut self, master: Option<u32>) -> Result<Vec<Link>> {
        let replies = self.0.list(&Request::list_links(master))?;
        let links =
            replies.iter().filter(|r| is_link(r.kind)).filter_map(|r| Link::parse(&r.payload));
        // Old kernels ignore the filter.
        Ok(links.filter(|l| master.is_none() || l.master == master).collect())
    }

    /// All IPv4 addresses.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, 0, &[IPV4, 0, 0, 0, 0, 0, 0, 0]);
        let replies = self.0.list(&Request::new(message, "list addresses"))?;
        let addresses = replies
            .iter()
            .filter(|r| r.kind == libc::RTM_NEWADDR && r.payload.first() == Some(&IPV4));
        Ok(addresses.filter_map(|r| parse_address(&r.payload)).collect())
    }

    /// All IPv4 routes of the main table.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn routes(&mut self) -> Result<Vec<NextHop>> {
        let mut fixed = [0; ROUTE];
        fixed[0] = IPV4;
        let replies = self
            .0
            .list(&Request::new(Message::new(libc::RTM_GETROUTE, 0, &fixed), "list routes"))?;
        let routes = replies
            .iter()
            .filter(|r| r.kind == libc::RTM_NEWROUTE && r.payload.first() == Some(&IPV4));
        Ok(routes.filter_map(|r| parse_route(&r.payload)).collect())
    }
}

impl Deref for Route {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl DerefMut for Route {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.0
    }
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn parse_address(payload: &[u8]) -> Option<Address> {
    let attributes = Attributes::after(payload, ADDRESS);
    let local =
        attributes.value(libc::IFA_LOCAL).or_else(|| attributes.value(libc::IFA_ADDRESS))?;
    Some(Address {
        link: read_u32(payload.get(4..)?)?,
        address: ipv4(local)?,
        prefix: *payload.get(1)?,
    })
}

fn parse_route(payload: &[u8]) -> Option<NextHop> {
    let attributes = Attributes::after(payload, ROUTE);
    let table = attributes.number(libc::RTA_TABLE).unwrap_or(u32::from(*payload.get(4)?));
    if table != u32::from(libc::RT_TABLE_MAIN) {
        return None;
    }
    Some(NextHop {
        destination: attributes.value(libc::RTA_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), ipv4)?,
        prefix: *payload.get(1)?,
        gateway: attributes.value(libc::RTA_GATEWAY).and_then(ipv4),
        link: attributes.number(libc::RTA_OIF),
    })
}

#[cfg(test)]
mod tests;

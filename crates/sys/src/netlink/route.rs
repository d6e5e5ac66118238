//! Addresses, routes, neighbours; and the socket that asks for them.

use super::{
    Attributes, Error, Link, Message, Request, Result, Socket, link::is_link, message::read_u32,
};
use rustix::io::Errno;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::{Deref, DerefMut},
};

/// Length of `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// Length of `struct rtmsg`.
const ROUTE: usize = 12;
/// Length of `struct ndmsg`.
const NEIGHBOUR: usize = 12;
const IPV4: u8 = libc::AF_INET as u8;
const IPV6: u8 = libc::AF_INET6 as u8;
/// Nobody else can have an address that was given out here, so nobody is asked first (`IFA_F_NODAD`).
const NO_DAD: u8 = 0x02;

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the link.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits of its network's prefix.
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Destination; 0.0.0.0/0 and ::/0 are the default routes.
    pub destination: IpAddr,
    /// Bits of the destination's prefix.
    pub prefix: u8,
    /// Gateway, if not on the link.
    pub gateway: Option<IpAddr>,
    /// Number of the link it leaves by.
    pub link: Option<u32>,
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() { IPV6 } else { IPV4 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A message about the default route of a family.
fn route(kind: u16, flags: i32, ipv6: bool, scope: u8) -> Message {
    route_to(kind, flags, ipv6, scope, 0)
}

/// A message about a route to a network of this prefix length.
fn route_to(kind: u16, flags: i32, ipv6: bool, scope: u8, prefix: u8) -> Message {
    let mut fixed = [0; ROUTE];
    fixed[0] = if ipv6 { IPV6 } else { IPV4 };
    fixed[1] = prefix;
    fixed[4] = libc::RT_TABLE_MAIN;
    if kind == libc::RTM_NEWROUTE {
        fixed[5] = libc::RTPROT_BOOT;
        fixed[7] = libc::RTN_UNICAST;
    }
    fixed[6] = scope;
    Message::new(kind, flags, &fixed)
}

impl Request {
    /// Gives a link an address. An IPv6 one may be used at once.
    pub fn add_address(link: u32, address: impl Into<IpAddr>, prefix: u8) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        Self::address(libc::RTM_NEWADDR, flags, link, address.into(), prefix)
    }

    /// Takes an address from a link.
    pub fn delete_address(link: u32, address: impl Into<IpAddr>, prefix: u8) -> Self {
        Self::address(libc::RTM_DELADDR, 0, link, address.into(), prefix)
    }

    fn address(kind: u16, flags: i32, link: u32, address: IpAddr, prefix: u8) -> Self {
        let mut fixed = [family(address), prefix, 0, 0, 0, 0, 0, 0];
        if address.is_ipv6() && kind == libc::RTM_NEWADDR {
            fixed[2] = NO_DAD;
        }
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        let octets = octets(address);
        let mut message = Message::new(kind, flags, &fixed)
            .with(libc::IFA_LOCAL, &octets)
            .with(libc::IFA_ADDRESS, &octets);
        if let IpAddr::V4(address) = address
            && kind == libc::RTM_NEWADDR
            && prefix < 31
        {
            let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            message.push(libc::IFA_BROADCAST, &(host | address.to_bits()).to_be_bytes());
        }
        let verb = if kind == libc::RTM_NEWADDR { "add" } else { "delete" };
        Self::new(message, format!("{verb} address {address}/{prefix} on link {link}"))
    }

    /// Adds the default route of the gateway's family.
    pub fn add_default_route(link: u32, gateway: impl Into<IpAddr>) -> Self {
        let gateway = gateway.into();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let message = route(libc::RTM_NEWROUTE, flags, gateway.is_ipv6(), libc::RT_SCOPE_UNIVERSE)
            .with(libc::RTA_GATEWAY, &octets(gateway))
            .with_u32(libc::RTA_OIF, link);
        Self::new(message, format!("add default route by {gateway}"))
    }

    /// Adds a default route by a link alone, for networks without a gateway.
    pub fn add_default_link_route(link: u32, ipv6: bool) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let message = route(libc::RTM_NEWROUTE, flags, ipv6, libc::RT_SCOPE_LINK)
            .with_u32(libc::RTA_OIF, link);
        Self::new(message, format!("add default route by link {link}"))
    }

    /// Adds a route by a gateway, or by the link alone.
    pub fn add_route(link: u32, to: IpAddr, prefix: u8, gateway: Option<IpAddr>) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let mut message = route_to(libc::RTM_NEWROUTE, flags, to.is_ipv6(), scope, prefix);
        if prefix > 0 {
            message.push(libc::RTA_DST, &octets(to));
        }
        if let Some(gateway) = gateway {
            message.push(libc::RTA_GATEWAY, &octets(gateway));
        }
        Self::new(message.with_u32(libc::RTA_OIF, link), format!("add route to {to}/{prefix}"))
    }

    /// Lets packets to `::1` in by a link, next to the loopback link: only those that were sent to another address and were
    /// translated, because the kernel drops the others before it asks for a route. Goes with the link.
    pub fn set_loopback_route(link: u32) -> Self {
        const METRIC: u32 = 1 << 16;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut fixed = [0; ROUTE];
        fixed[..2].copy_from_slice(&[IPV6, 128]);
        fixed[4..8].copy_from_slice(&[
            libc::RT_TABLE_LOCAL,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_LOCAL,
        ]);
        // Routes to one destination are told apart by their metric alone.
        let message = Message::new(libc::RTM_NEWROUTE, flags, &fixed)
            .with(libc::RTA_DST, &Ipv6Addr::LOCALHOST.octets())
            .with_u32(libc::RTA_OIF, link)
            .with_u32(libc::RTA_PRIORITY, METRIC + link);
        Self::new(message, format!("let ::1 in by link {link}"))
    }

    /// Removes the default route of a family, whatever it leads to.
    pub fn delete_default_route(ipv6: bool) -> Self {
        let message = route(libc::RTM_DELROUTE, 0, ipv6, libc::RT_SCOPE_NOWHERE);
        Self::new(message, "delete the default route")
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

    /// All addresses of both families.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, 0, &[0; ADDRESS]);
        let replies = self.0.list(&Request::new(message, "list addresses"))?;
        let addresses = replies.iter().filter(|r| r.kind == libc::RTM_NEWADDR);
        Ok(addresses.filter_map(|r| parse_address(&r.payload)).collect())
    }

    /// All routes of the main table, of both families.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn routes(&mut self) -> Result<Vec<NextHop>> {
        let message = Message::new(libc::RTM_GETROUTE, 0, &[0; ROUTE]);
        let replies = self.0.list(&Request::new(message, "list routes"))?;
        let routes = replies.iter().filter(|r| r.kind == libc::RTM_NEWROUTE);
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

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| IpAddr::V4(octets.into())),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::V6(octets.into())),
        _ => None,
    }
}

fn parse_address(payload: &[u8]) -> Option<Address> {
    let attributes = Attributes::after(payload, ADDRESS);
    let local =
        attributes.value(libc::IFA_LOCAL).or_else(|| attributes.value(libc::IFA_ADDRESS))?;
    Some(Address {
        link: read_u32(payload.get(4..)?)?,
        address: ip(local)?,
        prefix: *payload.get(1)?,
    })
}

fn parse_route(payload: &[u8]) -> Option<NextHop> {
    let attributes = Attributes::after(payload, ROUTE);
    let table = attributes.number(libc::RTA_TABLE).unwrap_or(u32::from(*payload.get(4)?));
    if table != u32::from(libc::RT_TABLE_MAIN) {
        return None;
    }
    let everywhere = match *payload.first()? {
        IPV4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IPV6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    Some(NextHop {
        destination: attributes.value(libc::RTA_DST).map_or(Some(everywhere), ip)?,
        prefix: *payload.get(1)?,
        gateway: attributes.value(libc::RTA_GATEWAY).and_then(ip),
        link: attributes.number(libc::RTA_OIF),
    })
}

#[cfg(test)]
mod tests;

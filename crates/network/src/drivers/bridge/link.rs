//! The bridge itself: found or made, with an address, up, and ready to forward.

use super::kernel;
use crate::{BridgeConfig, Mac, Subnet, ipam};
use base::{Error, Result};
use std::net::Ipv4Addr;
use sys::{
    netlink::{Request, Route},
    netns::set_sysctl,
};

/// Longest name of a link (IFNAMSIZ - 1).
const NAME_BYTES: usize = 15;

/// Left on bridges made here, so that one made by hand is never removed.
const MADE_HERE: &str = "gantry";

/// A bridge that is there.
#[derive(Debug)]
pub(super) struct Bridge {
    pub index: u32,
    /// Whether this or an earlier daemon made it.
    pub made_here: bool,
    /// Its own address, and the prefix of the network.
    pub address: Subnet,
}

/// Makes or adopts the bridge of these settings.
pub(super) fn open(route: &mut Route, config: &BridgeConfig) -> Result<Bridge> {
    check(config)?;
    let found = route.link(&config.name).map_err(kernel)?;
    if let Some(link) = found.as_ref().filter(|link| link.kind != "bridge") {
        let kind = if link.kind.is_empty() { "a device" } else { &link.kind };
        return Err(Error::invalid(format!(
            "existing interface {} is not a bridge but {kind}",
            link.name
        )));
    }
    let current = match &found {
        Some(link) => addresses(route, link.index)?,
        None => Vec::new(),
    };
    let address = match (config.address, current.first()) {
        (Some(wished), _) => wished,
        (None, Some(current)) => *current,
        (None, None) => choose(route, config)?,
    };
    let mac = found.as_ref().and_then(|link| link.mac);
    let made_here = found.as_ref().is_none_or(|link| link.alias == MADE_HERE);
    let index = match found {
        Some(link) => link.index,
        None => make(route, config, address)?,
    };
    for old in current.iter().filter(|old| **old != address) {
        route
            .run(&[Request::delete_address(index, old.address(), old.prefix())])
            .map_err(kernel)?;
    }
    if !current.contains(&address) {
        route
            .run(&[Request::add_address(index, address.address(), address.prefix())])
            .map_err(kernel)?;
    }
    quiet_ipv6(&config.name);
    let mut requests = vec![Request::set_up(index)];
    // One made by hand follows the lowest address among its ports until it is told to keep its own; each
    // change would leave containers with the address of a gateway that is none any more.
    requests.extend(mac.map(|mac| Request::set_mac(index, mac)));
    if config.mtu_bytes != 0 {
        requests.push(Request::set_mtu(index, config.mtu_bytes));
    }
    route.run(&requests).map_err(kernel)?;
    // A packet from 127.0.0.1 to a published port leaves by the bridge; without this the kernel drops it.
    set_sysctl(&format!("ipv4/conf/{}/route_localnet", config.name), "1").map_err(|e| {
        Error::io(format!("cannot let bridge {} carry loopback addresses", config.name), e)
    })?;
    Ok(Bridge { index, made_here, address })
}

fn check(config: &BridgeConfig) -> Result<()> {
    let name = &config.name;
    let odd =
        |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control() || !c.is_ascii();
    if name.is_empty()
        || name.len() > NAME_BYTES
        || name.contains(odd)
        || name == "."
        || name == ".."
    {
        return Err(Error::invalid(format!("invalid bridge name {name:?}")));
    }
    let Some(bip) = config.address else { return Ok(()) };
    let edge = bip.prefix() < 31 && (bip.address() == bip.first() || bip.address() == bip.last());
    if bip.prefix() < 8
        || bip.prefix() > 30
        || edge
        || bip.address().is_loopback()
        || bip.address().is_multicast()
    {
        return Err(Error::invalid(format!("bridge address {bip} leaves no room for a network")));
    }
    let misplaced = config.gateway.filter(|gateway| !bip.contains(*gateway));
    match misplaced {
        Some(gateway) => Err(Error::invalid(format!(
            "default gateway {gateway} is not in the network {}",
            bip.network()
        ))),
        None => Ok(()),
    }
}

fn addresses(route: &mut Route, index: u32) -> Result<Vec<Subnet>> {
    let all = route.addresses().map_err(kernel)?;
    all.iter().filter(|a| a.link == index).map(|a| Subnet::new(a.address, a.prefix)).collect()
}

/// The first pool that meets no address and no route of this machine, and the bridge's address in it.
fn choose(route: &mut Route, config: &BridgeConfig) -> Result<Subnet> {
    let mut taken = Vec::new();
    for address in route.addresses().map_err(kernel)? {
        taken.push(Subnet::new(address.address, address.prefix)?);
    }
    for hop in route.routes().map_err(kernel)?.iter().filter(|hop| hop.prefix != 0) {
        taken.push(Subnet::new(hop.destination, hop.prefix)?);
    }
    let pool = ipam::choose(&config.pools, &taken)?;
    Ok(pool.at(Ipv4Addr::from_bits(pool.first().to_bits() + 1)))
}

fn make(route: &mut Route, config: &BridgeConfig, address: Subnet) -> Result<u32> {
    // With an address of its own the bridge does not take over those of its ports as they come and go.
    let mac = Mac::of(address.address());
    match route.run(&[Request::add_bridge(&config.name, Some(mac.0), config.mtu_bytes)]) {
        // Another daemon may have made it just now.
        Err(error) if !error.is_there() => return Err(kernel(error)),
        _ => {}
    }
    let link = route.index(&config.name).map_err(kernel)?;
    let index = link.ok_or_else(|| Error::internal(format!("bridge {} vanished", config.name)))?;
    route.run(&[Request::set_alias(index, MADE_HERE)]).map_err(kernel)?;
    Ok(index)
}

/// The network has no IPv6, so neither has its bridge: nobody reaches the host by a link-local address.
fn quiet_ipv6(name: &str) {
    // Where the kernel has no IPv6 there is nothing to switch off.
    let _ = set_sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
}

/// Switches forwarding on if it is wished; true when it was off before.
pub(super) fn forward(config: &BridgeConfig) -> Result<bool> {
    const FORWARD: &str = "ipv4/ip_forward";
    let on = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
        .is_ok_and(|text| text.trim_end() == "1");
    if on || !config.ip_forward {
        return Ok(false);
    }
    set_sysctl(FORWARD, "1").map_err(|e| Error::io("cannot switch IPv4 forwarding on", e))?;
    Ok(true)
}

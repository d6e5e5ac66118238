//! The bridge itself: found or made, with an address, up, and ready to forward.

use super::kernel;
use crate::{BridgeConfig, GatewayMode, Mac, Subnet, ipam};
use base::{Error, Result};
use std::{fs, net::IpAddr};
use sys::{
    netlink::{Request, Route},
    netns::set_sysctl,
};

/// Longest name of a link (IFNAMSIZ - 1).
const NAME_BYTES: usize = 15;

/// Left on bridges made here, so that one made by hand is never removed.
pub(super) const MADE_HERE: &str = "gantry";

/// A bridge that is there.
#[derive(Debug)]
pub(super) struct Bridge {
    pub index: u32,
    /// Whether this or an earlier daemon made it.
    pub made_here: bool,
    /// The subnets, at most one of each family, each with the address that is the bridge's own unless the
    /// settings keep it off.
    pub subnets: Vec<Subnet>,
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
    let mut subnets = Vec::new();
    for (wanted, wished, ipv6) in
        [(config.ipv4, config.address, false), (config.ipv6, config.address6, true)]
    {
        if wanted {
            subnets.push(match (wished, current.iter().find(|a| a.is_ipv6() == ipv6)) {
                (Some(wished), _) => wished,
                (None, Some(current)) => *current,
                (None, None) => choose(route, config, ipv6)?,
            });
        }
    }
    let mac = found.as_ref().and_then(|link| link.mac);
    let made_here = found.as_ref().is_none_or(|link| link.alias == MADE_HERE);
    let index = match found {
        Some(link) => link.index,
        None => make(route, config, subnets.first().map(|s| s.address()))?,
    };
    switch_ipv6(&config.name, config.ipv6)?;
    let own: Vec<Subnet> = subnets.iter().copied().filter(|s| is_own(config, *s)).collect();
    let mut requests = Vec::new();
    for old in current.iter().filter(|old| !own.contains(old)) {
        requests.push(Request::delete_address(index, old.address(), old.prefix()));
    }
    for new in own.iter().filter(|new| !current.contains(new)) {
        requests.push(Request::add_address(index, new.address(), new.prefix()));
    }
    requests.push(Request::set_up(index));
    // One made by hand follows the lowest address among its ports until it is told to keep its own; each
    // change would leave containers with the address of a gateway that is none any more.
    requests.extend(mac.map(|mac| Request::set_mac(index, mac)));
    if config.mtu_bytes != 0 {
        requests.push(Request::set_mtu(index, config.mtu_bytes));
    }
    if config.ipv6 && config.modes[1].translates() {
        requests.push(Request::set_loopback_route(index));
    }
    route.run(&requests).map_err(kernel)?;
    // A packet from 127.0.0.1 to a published port leaves by the bridge; without this the kernel drops it.
    set_sysctl(&format!("ipv4/conf/{}/route_localnet", config.name), "1").map_err(|e| {
        Error::io(format!("cannot let bridge {} carry loopback addresses", config.name), e)
    })?;
    Ok(Bridge { index, made_here, subnets })
}

/// Whether the bridge itself has the address of this subnet.
pub(super) fn is_own(config: &BridgeConfig, subnet: Subnet) -> bool {
    let kept_off = !subnet.is_ipv6() && config.inhibit_ipv4;
    !kept_off && config.modes[usize::from(subnet.is_ipv6())] != GatewayMode::Isolated
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
    if let Some(stray) = [config.address, config.address6]
        .into_iter()
        .enumerate()
        .find_map(|(n, address)| address.filter(|a| a.is_ipv6() != (n == 1)))
    {
        return Err(Error::invalid(format!("bridge address {stray} is of the other family")));
    }
    let Some(bip) = config.address else { return Ok(()) };
    let edge = bip.prefix() < 31 && (bip.address() == bip.first() || bip.address() == bip.last());
    if bip.prefix() < 8
        || (config.default && bip.prefix() > 30)
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

/// Addresses of a link, but for those that IPv6 gives every link by itself.
fn addresses(route: &mut Route, index: u32) -> Result<Vec<Subnet>> {
    let all = route.addresses().map_err(kernel)?;
    let own = all.iter().filter(|a| a.link == index && !is_link_local(a.address));
    own.map(|a| Subnet::new(a.address, a.prefix)).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Networks that this machine has an address in or a route to, but for default routes.
pub(crate) fn taken(route: &mut Route) -> Result<Vec<Subnet>> {
    let mut taken = Vec::new();
    for address in route.addresses().map_err(kernel)? {
        if !is_link_local(address.address) {
            taken.push(Subnet::new(address.address, address.prefix)?);
        }
    }
    for hop in route.routes().map_err(kernel)?.iter().filter(|hop| hop.prefix != 0) {
        if !is_link_local(hop.destination) {
            taken.push(Subnet::new(hop.destination, hop.prefix)?);
        }
    }
    Ok(taken)
}

/// The first pool that meets no address and no route of this machine, and the bridge's address in it.
fn choose(route: &mut Route, config: &BridgeConfig, ipv6: bool) -> Result<Subnet> {
    let pool = ipam::choose(&config.pools, ipv6, &taken(route)?)?;
    let first = pool.nth(1).ok_or_else(|| Error::invalid(format!("subnet {pool} is too small")))?;
    Ok(pool.at(first))
}

fn make(route: &mut Route, config: &BridgeConfig, address: Option<IpAddr>) -> Result<u32> {
    // With an address of its own the bridge does not take over those of its ports as they come and go.
    let mac = address.map(|address| Mac::of(address).0);
    // One message: a daemon that dies here leaves no bridge that the next one takes for another's and never removes.
    let requests = [
        Request::add_bridge(&config.name, mac, config.mtu_bytes),
        Request::set_alias(&config.name, MADE_HERE),
    ];
    match route.run(&requests) {
        // Another daemon may have made it just now.
        Err(error) if !error.is_there() => return Err(kernel(error)),
        _ => {}
    }
    let link = route.index(&config.name).map_err(kernel)?;
    link.ok_or_else(|| Error::internal(format!("bridge {} vanished", config.name)))
}

/// A network without IPv6 has a bridge without: nobody reaches the host by a link-local address.
fn switch_ipv6(name: &str, on: bool) -> Result<()> {
    let disabled =
        set_sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), if on { "0" } else { "1" });
    match disabled {
        Err(e) if on => Err(Error::io(format!("cannot switch IPv6 on for bridge {name}"), e)),
        // Where the kernel has no IPv6 there is nothing to switch off.
        _ => {
            if on {
                // The host takes no advice about routes from its containers.
                let _ = set_sysctl(&format!("ipv6/conf/{name}/accept_ra"), "0");
            }
            Ok(())
        }
    }
}

/// Switches forwarding on if it is wished; true when it was off before.
pub(super) fn forward(config: &BridgeConfig) -> Result<bool> {
    if !config.common.ip_forward || config.internal {
        return Ok(false);
    }
    let on = |name: &str| {
        fs::read_to_string(format!("/proc/sys/net/{name}")).is_ok_and(|t| t.trim_end() == "1")
    };
    let mut switched = false;
    if config.ipv4 && !on("ipv4/ip_forward") {
        set_sysctl("ipv4/ip_forward", "1")
            .map_err(|e| Error::io("cannot switch IPv4 forwarding on", e))?;
        switched = true;
    }
    if config.ipv6 && !on("ipv6/conf/all/forwarding") {
        keep_advertised_routes();
        set_sysctl("ipv6/conf/all/forwarding", "1")
            .map_err(|e| Error::io("cannot switch IPv6 forwarding on", e))?;
        switched = true;
    }
    Ok(switched)
}

/// A router takes no advertised routes unless it is told to (`accept_ra` 2): the machine keeps those it has.
fn keep_advertised_routes() {
    for link in fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let file = link.path().join("accept_ra");
        let name = link.file_name();
        if fs::read_to_string(&file).is_ok_and(|text| text.trim_end() == "1")
            && name != "all"
            && name != "default"
        {
            let _ = fs::write(&file, "2");
        }
    }
}

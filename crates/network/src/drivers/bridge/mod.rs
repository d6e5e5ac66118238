//! Bridge networks: one Linux bridge per network, one veth pair per endpoint.
//!
//! Flow: `open` makes or adopts the bridge ([`link`]) and its table of rules ([`firewall`]); `attach` takes
//! an address and ports, makes the pair with its far end already in the container's namespace ([`wire`]),
//! and adds the ports to the table; `detach` undoes the table and the ports at once, while the pair goes
//! with the namespace, because removing it by hand takes 20 ms.
//! Invariants: the table in the kernel always follows from what this process knows, and is written anew when
//! it does not; links made here are named `veth` + 11 hexadecimal digits of the endpoint's id.
//! Source: Moby `daemon/libnetwork/drivers/bridge` (behaviour), rtnetlink(7) and nf_tables (kernel side).
//! Not here: choice of addresses (`ipam.rs`), which ports are taken (`ports.rs`).

mod firewall;
mod link;
mod options;
mod through;
mod wire;

pub(crate) use link::taken;

use super::{Driver, Opening, Plane, Wired, inside};
use crate::{
    Attach, BridgeConfig, Common, Endpoint, GatewayMode, Leftovers, Mac, Protocol, Publish,
    Published, Repair, Spec, Subnet,
    ipam::Pool,
    leases::Leases,
    ports::{Ports, Taker},
};
use base::{ContainerId, EndpointId, Error, NetworkId, Result};
use firewall::Firewall;
use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use sys::{
    netlink::{Request, Route},
    nft::Family,
};

/// How long a link may outlive its endpoint before it is removed by hand: usually its namespace is being
/// torn down by the kernel, which takes some tens of milliseconds.
const LINGER: Duration = Duration::from_secs(2);
/// Links of former endpoints looked after at each attach.
const SETTLE: usize = 8;

/// The driver `bridge`.
#[derive(Debug)]
pub struct Bridge;

impl Driver for Bridge {
    fn name(&self) -> &str {
        "bridge"
    }

    fn has_addresses(&self) -> bool {
        true
    }

    fn check(&self, id: &NetworkId, spec: &Spec, common: &Common) -> Result<()> {
        options::settings(id, spec, common).map(drop)
    }

    fn open(&self, opening: &Opening<'_>, ports: &Ports) -> Result<Box<dyn Plane>> {
        let mut config = match (opening.name, &opening.config.bridge) {
            ("bridge", Some(config)) => config.clone(),
            _ => options::settings(opening.id, opening.spec, &opening.config.common)?,
        };
        config.forwarding_was_off |= opening.forwarding_was_off;
        Ok(Box::new(Live::open(&config, ports.clone())?))
    }
}

/// The name of the bridge of a user-defined network.
pub(crate) fn bridge_name(id: &NetworkId, spec: &Spec) -> String {
    match spec.option(options::NAME) {
        None | Some("") => options::default_name(id),
        Some(name) => name.to_owned(),
    }
}

/// A bridge that works.
#[derive(Debug)]
struct Live {
    config: BridgeConfig,
    bridge: link::Bridge,
    switched_forwarding_on: bool,
    ports: Ports,
    route: Mutex<Route>,
    /// One for each family; none without packet filter rules.
    firewalls: Vec<Mutex<Firewall>>,
    /// One for each family; none in the mode "obey".
    ways: Vec<Mutex<through::Through>>,
    leases: Mutex<Leases>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves half done is put right by `mend` and `reconcile`, which trust only the kernel.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the kernel, below what was tried.
pub(crate) fn kernel(error: sys::netlink::Error) -> Error {
    // The kernel's "Exchange full" tells nobody what to do.
    if error.is_full() {
        return Error::new(
            base::Kind::Exhausted,
            "the network's bridge has as many ports as the kernel allows (1,023): remove containers or use another network",
        )
        .caused_by(error.to_string());
    }
    let io = std::io::Error::from(error.errno);
    Error::io(error.to_string(), io)
}

impl Live {
    /// Makes or adopts the bridge and its rules. On error a bridge that was not there before is not there after.
    fn open(config: &BridgeConfig, ports: Ports) -> Result<Self> {
        let mut route = Route::open().map_err(kernel)?;
        let new = route.index(&config.name).map_err(kernel)?.is_none();
        let opened = Self::open_all(config, ports);
        if new && opened.is_err() {
            for ipv6 in [false, true].into_iter().filter(|_| config.common.packet_filter) {
                // What is not there needs no removal, and the error that is told came first.
                let _ = firewall::remove(config, ipv6);
            }
            if let Ok(Some(link)) = route.link(&config.name)
                && link.alias == link::MADE_HERE
            {
                let _ = wire::delete(&mut route, &config.name);
            }
        }
        opened
    }

    fn open_all(config: &BridgeConfig, ports: Ports) -> Result<Self> {
        let mut route = Route::open().map_err(kernel)?;
        let bridge = link::open(&mut route, config)?;
        let mut pools = Vec::new();
        for subnet in &bridge.subnets {
            let mut reserved = config.reserved.clone();
            if link::is_own(config, *subnet) || config.inhibit_ipv4 {
                reserved.push(subnet.address());
            }
            let (range, gateway) = match subnet.is_ipv6() {
                false => (config.fixed_cidr, config.gateway),
                true => (config.fixed_cidr6, config.gateway6),
            };
            reserved.extend(gateway);
            pools.push(Pool::new(subnet.network(), range, &reserved)?);
        }
        let forwarding = link::forward(config)?;
        let no_router = forwarding || config.forwarding_was_off;
        let firewalls = match config.common.packet_filter {
            true => bridge
                .subnets
                .iter()
                .map(|subnet| Firewall::open(config, *subnet, no_router).map(Mutex::new))
                .collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let mut ways = Vec::new();
        if config.common.packet_filter && !config.common.obey {
            for firewall in &firewalls {
                let mut way = through::Through::open(&config.name, locked(firewall).family())?;
                way.ensure()?;
                ways.push(Mutex::new(way));
            }
        }
        Ok(Self {
            config: config.clone(),
            ways,
            bridge,
            switched_forwarding_on: forwarding,
            ports,
            route: Mutex::new(route),
            firewalls,
            leases: Mutex::new(Leases::new(pools)),
        })
    }

    fn lease(&self, link: &str, wish: &Attach<'_>) -> Result<Vec<Subnet>> {
        self.settle(SETTLE, LINGER);
        let first = locked(&self.leases).give(link, wish);
        first.or_else(|_| {
            // Perhaps all that is missing still waits for its link to go.
            self.settle(usize::MAX, Duration::ZERO);
            locked(&self.leases).give(link, wish)
        })
    }

    /// Gives back addresses whose links are gone, of at most `most` former endpoints; links that lingered
    /// longer than `linger` are removed.
    fn settle(&self, most: usize, linger: Duration) -> Vec<String> {
        let leaving = locked(&self.leases).leaving(most);
        if leaving.is_empty() {
            return Vec::new();
        }
        let (mut removed, mut gone, mut stay) = (Vec::new(), Vec::new(), Vec::new());
        let mut route = locked(&self.route);
        for one in leaving {
            let there = !matches!(route.index(&one.link), Ok(None));
            if there && (!one.lingers(linger) || wire::delete(&mut route, &one.link).is_err()) {
                stay.push(one);
                continue;
            }
            if there {
                removed.push(one.link.clone());
            }
            gone.push(one);
        }
        drop(route);
        locked(&self.leases).settled(gone, stay);
        removed
    }

    /// Default gateway of containers in a family.
    fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        let subnet = self.bridge.subnets.iter().find(|s| s.is_ipv6() == ipv6)?;
        let isolated = self.config.modes[usize::from(ipv6)] == GatewayMode::Isolated;
        let other = if ipv6 { self.config.gateway6 } else { self.config.gateway };
        (!self.config.internal && !isolated).then(|| other.unwrap_or(subnet.address()))
    }

    fn gateways(&self) -> Vec<IpAddr> {
        [false, true].into_iter().filter_map(|ipv6| self.gateway(ipv6)).collect()
    }

    /// The address that a port is published on when the wish names none, one for each family.
    fn default_addresses(&self) -> Vec<IpAddr> {
        let given = self.config.common.publish_ip;
        let subnets = self.bridge.subnets.iter();
        let each = subnets.filter_map(|subnet| match (subnet.is_ipv6(), given.is_unspecified()) {
            (true, true) => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            (true, false) => None,
            (false, _) => Some(given),
        });
        each.collect()
    }

    fn firewall(&self, ipv6: bool) -> Option<MutexGuard<'_, Firewall>> {
        let all = self.firewalls.iter().map(locked);
        all.into_iter().find(|firewall| (firewall.family() == Family::Ipv6) == ipv6)
    }

    fn take_ports(&self, name: &str, wishes: &[Publish]) -> Result<Vec<Published>> {
        if wishes.is_empty() || self.config.internal {
            return Ok(Vec::new());
        }
        let modes = self.config.modes;
        let taker = Taker {
            name,
            defaults: &self.default_addresses(),
            translates: modes.map(GatewayMode::translates),
        };
        self.ports.take(wishes, taker)
    }

    fn open_ports(&self, addresses: &[Subnet], ports: &[Published]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        if self.firewalls.is_empty() {
            return Err(Error::invalid(
                "ports cannot be published while packet filter rules are switched off (--iptables=false)",
            ));
        }
        for address in addresses {
            let ipv6 = address.is_ipv6();
            let own: Vec<_> = of_family(ports, ipv6);
            if let Some(mut firewall) = self.firewall(ipv6).filter(|_| !own.is_empty()) {
                firewall.publish(address.address(), &own)?;
                drop(firewall);
                forget_flows(ipv6, &own);
            }
        }
        Ok(())
    }

    fn close_ports(&self, ports: &[Published]) -> Result<()> {
        let mut result = Ok(());
        for ipv6 in [false, true] {
            let own = of_family(ports, ipv6);
            if let Some(mut firewall) = self.firewall(ipv6).filter(|_| !own.is_empty()) {
                result = result.and(firewall.withdraw(&own));
            }
        }
        result
    }

    fn leave(&self, link: Option<&str>) {
        if let Some(link) = link {
            locked(&self.leases).leave(link);
        }
    }

    fn pair<'a>(
        &'a self,
        name: &'a str,
        wish: &Attach<'a>,
        addresses: &[Subnet],
    ) -> Result<wire::Pair<'a>> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid("a bridge network needs a network namespace of the container's own")
        })?;
        let own =
            addresses.first().map_or_else(|| Mac::from_id(&name[4..]), |a| Mac::of(a.address()));
        Ok(wire::Pair {
            bridge: &self.bridge,
            name,
            netns,
            inside: inside::Inside {
                interface: wish.interface,
                mac: wish.mac.unwrap_or(own),
                addresses: addresses.to_vec(),
                link_local: wish.link_local,
                gateways: if wish.gateway { self.gateways() } else { Vec::new() },
                by_link: [false; 2],
                sysctls: inside::sysctls(wish.options, wish.interface)?,
            },
            mtu_bytes: self.config.mtu_bytes,
            isolated: !self.config.icc,
        })
    }
}

impl Plane for Live {
    fn describe(&self, spec: &mut Spec) {
        if !self.config.default {
            return;
        }
        let mtu = if self.config.mtu_bytes == 0 { 1500 } else { self.config.mtu_bytes };
        let known = [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            (options::ICC, self.config.icc.to_string()),
            (options::MASQUERADE, self.config.masquerade.to_string()),
            (options::HOST_BINDING, self.config.common.publish_ip.to_string()),
            (options::NAME, self.config.name.clone()),
            ("com.docker.network.driver.mtu", mtu.to_string()),
        ];
        spec.options = known.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        spec.ipv6 = self.config.ipv6;
        let range = |ipv6| if ipv6 { self.config.fixed_cidr6 } else { self.config.fixed_cidr };
        let pools = self.bridge.subnets.iter().map(|subnet| crate::spec::Pool {
            range: range(subnet.is_ipv6()),
            gateway: Some(subnet.address()),
            ..crate::spec::Pool::chosen(subnet.network())
        });
        spec.ipam.pools = pools.collect();
    }

    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        inside::check(wish)?;
        let ports = self
            .take_ports(wish.name, wish.publish)
            .map_err(|e| refused(e, endpoint, wish.name))?;
        let link = wire::name(endpoint);
        let addresses = match self.lease(&link, wish) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.ports.release(&ports);
                return Err(error);
            }
        };
        let done = self.pair(&link, wish, &addresses).and_then(|pair| {
            wire::connect(&self.route, &pair)?;
            self.open_ports(&addresses, &ports).map_err(|e| refused(e, endpoint, wish.name))?;
            Ok(pair.inside.mac)
        });
        match done {
            Ok(mac) => Ok(Wired {
                address: addresses.iter().copied().find(|a| !a.is_ipv6()),
                address6: addresses.iter().copied().find(|a| a.is_ipv6()),
                gateway: self.gateway(false),
                gateway6: self.gateway(true),
                mac: Some(mac),
                link: Some(link),
                ports,
                interface: None,
            }),
            Err(error) => {
                // What was opened before the failure.
                let _ = self.close_ports(&ports);
                let _ = wire::delete(&mut locked(&self.route), &link);
                self.ports.release(&ports);
                self.leave(Some(&link));
                self.settle(usize::MAX, LINGER);
                Err(error)
            }
        }
    }

    fn detach(&self, endpoint: &Endpoint) -> Result<()> {
        let withdrawn = self.withdraw(endpoint);
        self.leave(endpoint.link.as_deref());
        withdrawn
    }

    fn unplug(&self, endpoint: &Endpoint, _netns: BorrowedFd<'_>) -> Result<()> {
        let detached = self.detach(endpoint);
        let deleted = match &endpoint.link {
            Some(link) => wire::delete(&mut locked(&self.route), link),
            None => Ok(()),
        };
        self.settle(usize::MAX, LINGER);
        detached.and(deleted)
    }

    fn publish(
        &self,
        endpoint: &Endpoint,
        name: &str,
        wishes: &[Publish],
    ) -> Result<Vec<Published>> {
        let ports = self.take_ports(name, wishes).map_err(|e| refused(e, &endpoint.id, name))?;
        let addresses: Vec<_> = endpoint.addresses().collect();
        if let Err(error) = self.open_ports(&addresses, &ports) {
            let _ = self.close_ports(&ports);
            self.ports.release(&ports);
            return Err(refused(error, &endpoint.id, name));
        }
        Ok(ports)
    }

    fn withdraw(&self, endpoint: &Endpoint) -> Result<()> {
        let withdrawn = self.close_ports(&endpoint.ports);
        self.ports.release(&endpoint.ports);
        withdrawn
    }

    fn reconcile(&self, living: &[(&ContainerId, &Endpoint)]) -> Repair {
        let mut repair = Repair::default();
        let mut published = Vec::new();
        for (container, endpoint) in living {
            let Some(link) = &endpoint.link else { continue };
            let addresses: Vec<_> = endpoint.addresses().map(Subnet::address).collect();
            if !locked(&self.leases).adopt(link, &addresses) {
                repair.failures.push(format!(
                    "container {} has addresses {addresses:?} outside of its network {}",
                    container.short(),
                    endpoint.network_name
                ));
            }
            for address in addresses {
                let own = of_family(&endpoint.ports, address.is_ipv6());
                published.extend(own.into_iter().map(|port| (endpoint, address, port)));
            }
        }
        for firewall in &self.firewalls {
            let mut firewall = locked(firewall);
            let ipv6 = firewall.family() == Family::Ipv6;
            let mut own: Vec<_> =
                published.iter().filter(|(_, address, _)| address.is_ipv6() == ipv6).collect();
            // What was attached or taken over before is known already.
            own.retain(|(_, address, port)| !firewall.knows(*address, port));
            for (endpoint, _, port) in &own {
                let name = endpoint.names.first().map_or(endpoint.id.as_str(), String::as_str);
                if let Err(error) = self.ports.adopt(port, name) {
                    repair.failures.push(error.chain());
                }
            }
            firewall.assume(own.into_iter().map(|(_, a, port)| (*a, port.clone())).collect());
            firewall.mend(&mut repair);
        }
        self.mend_links(&mut repair);
        repair
    }

    fn leftovers(&self) -> Result<Leftovers> {
        let ports = self.bridge_ports()?;
        let leases = locked(&self.leases);
        let links = ports.into_iter().filter(|name| !leases.knows(name)).collect();
        drop(leases);
        let mut ports = 0;
        for firewall in &self.firewalls {
            ports += locked(firewall).strangers()?;
        }
        Ok(Leftovers { links, ports })
    }

    fn mend(&self) -> Repair {
        let mut repair =
            Repair { links_removed: self.settle(usize::MAX, LINGER), ..Repair::default() };
        for firewall in &self.firewalls {
            locked(firewall).mend(&mut repair);
        }
        for way in &self.ways {
            match locked(way).ensure() {
                Ok(opened) => repair.ways_opened += opened,
                Err(error) => repair.failures.push(error.chain()),
            }
        }
        repair
    }

    fn switched_forwarding_on(&self) -> bool {
        self.switched_forwarding_on
    }

    fn restless(&self) -> bool {
        locked(&self.leases).restless()
    }

    fn tables(&self) -> Vec<String> {
        let own = self.firewalls.first().map(|f| locked(f).table().to_owned());
        let others = self.ways.iter().flat_map(|way| locked(way).tables().to_vec());
        own.into_iter().chain(others).collect()
    }

    fn remove(&self) -> Result<()> {
        let mut removed = Ok(());
        for firewall in &self.firewalls {
            removed = removed.and(locked(firewall).remove());
        }
        for way in &self.ways {
            removed = removed.and(locked(way).remove());
        }
        let links: Vec<_> = {
            let leases = locked(&self.leases);
            leases.links().into_iter().chain(leases.old_links()).collect()
        };
        let mut route = locked(&self.route);
        let bridge = self.bridge.made_here.then(|| self.config.name.clone());
        for name in links.iter().chain(&bridge) {
            removed = removed.and(wire::delete(&mut route, name));
        }
        removed
    }
}

impl Live {
    /// Names of the links on the bridge that were made here.
    fn bridge_ports(&self) -> Result<Vec<String>> {
        let links = locked(&self.route).links(Some(self.bridge.index)).map_err(kernel)?;
        Ok(links
            .into_iter()
            .filter(|l| l.kind == "veth" && wire::is_ours(&l.name))
            .map(|l| l.name)
            .collect())
    }

    /// Removes links of no living container, and puts those of living ones back on the bridge.
    fn mend_links(&self, repair: &mut Repair) {
        let on_bridge = match self.bridge_ports() {
            Ok(ports) => ports,
            Err(error) => return repair.failures.push(error.chain()),
        };
        let (links, leaving) = {
            let leases = locked(&self.leases);
            (leases.links(), leases.old_links())
        };
        let mut route = locked(&self.route);
        for name in on_bridge.iter().filter(|name| !links.contains(name) && !leaving.contains(name))
        {
            match wire::delete(&mut route, name) {
                Ok(()) => repair.links_removed.push(name.clone()),
                Err(error) => repair.failures.push(error.chain()),
            }
        }
        for name in links.iter().filter(|name| !on_bridge.contains(name)) {
            let back = [
                Request::set_master(name, self.bridge.index),
                Request::set_port_up(name, wire::port(!self.config.icc)),
            ];
            if let Err(error) = route.run(&back) {
                repair.failures.push(kernel(error).chain());
            }
        }
    }
}

fn of_family(ports: &[Published], ipv6: bool) -> Vec<Published> {
    ports.iter().filter(|port| port.host_ip.is_ipv6() == ipv6).cloned().collect()
}

/// Lets UDP clients that sent to these ports before reach the new owner: while they go on sending, the
/// kernel keeps to what it decided at their first packet.
fn forget_flows(ipv6: bool, ports: &[Published]) {
    let translated = ports.iter().filter(|p| p.host_port != 0);
    let udp: Vec<_> =
        translated.filter(|p| p.protocol == Protocol::Udp).map(|p| p.host_port).collect();
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    if let Err(error) = sys::conntrack::forget(family, Protocol::Udp.number(), &udp) {
        tracing::warn!(err = kernel(error).chain(), "UDP clients may keep to a former container");
    }
}

/// Docker's sentence about ports that cannot be published.
fn refused(error: Error, endpoint: &EndpointId, name: &str) -> Error {
    Error::new(
        error.kind(),
        format!("driver failed programming external connectivity on endpoint {name} ({endpoint})"),
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests;

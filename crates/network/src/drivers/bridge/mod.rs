//! Bridge networks: one Linux bridge per network, one veth pair per endpoint.
//!
//! Flow: `open` makes or adopts the bridge ([`link`]) and its table of rules ([`firewall`]); `attach` takes
//! an address and ports, makes the pair with its far end already in the container's namespace ([`wire`]),
//! and adds the ports to the table; `detach` undoes the table and the ports at once, while the pair goes
//! with the namespace, because removing it by hand takes 20 ms.
//! Invariants: an address is given again only when the link that had it is gone, so that no frame meets the
//! old one; the table in the kernel always follows from what this process knows, and is written anew when
//! it does not; links made here are named `veth` + 11 hexadecimal digits of the endpoint's id.
//! Source: Moby `daemon/libnetwork/drivers/bridge` (behaviour), rtnetlink(7) and nf_tables (kernel side).
//! Not here: choice of addresses (`ipam.rs`), which ports are taken (`ports.rs`).

mod firewall;
mod link;
mod wire;

use super::{Driver, Plane, Wired};
use crate::{
    Attach, BridgeConfig, Config, Endpoint, Leftovers, Mac, Protocol, Published, Repair, Subnet,
    ipam::Pool, ports::Ports,
};
use base::{ContainerId, EndpointId, Error, Kind, Result};
use firewall::Firewall;
use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use sys::netlink::{Request, Route};

/// How long a link may outlive its endpoint before it is removed by hand: usually its namespace is being
/// torn down by the kernel, which takes some tens of milliseconds.
const LINGER: Duration = Duration::from_secs(2);
/// Links of former endpoints looked after at each attach.
const SETTLE: usize = 8;

/// The driver `bridge`.
#[derive(Debug)]
pub struct Bridge;

impl Driver for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn open(&self, config: &Config, ports: &Ports) -> Result<Box<dyn Plane>> {
        let config = config
            .bridge
            .as_ref()
            .ok_or_else(|| Error::invalid("a bridge network needs the settings of its bridge"))?;
        Ok(Box::new(Live::open(config, ports.clone())?))
    }
}

/// A bridge that works.
#[derive(Debug)]
struct Live {
    config: BridgeConfig,
    bridge: link::Bridge,
    gateway: Ipv4Addr,
    switched_forwarding_on: bool,
    ports: Ports,
    route: Mutex<Route>,
    firewall: Option<Mutex<Firewall>>,
    leases: Mutex<Leases>,
}

#[derive(Debug)]
struct Leases {
    pool: Pool,
    /// Links of endpoints that are attached, and their addresses.
    links: HashMap<String, Ipv4Addr>,
    /// Links of endpoints that are gone, the addresses to give back with them, and since when.
    leaving: Vec<(String, Option<Ipv4Addr>, Instant)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves half done is put right by `mend` and `reconcile`, which trust only the kernel.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the kernel, below what was tried.
fn kernel(error: sys::netlink::Error) -> Error {
    let io = std::io::Error::from(error.errno);
    Error::io(error.to_string(), io)
}

impl Live {
    fn open(config: &BridgeConfig, ports: Ports) -> Result<Self> {
        let mut route = Route::open().map_err(kernel)?;
        let bridge = link::open(&mut route, config)?;
        let gateway = config.gateway.unwrap_or(bridge.address.address());
        let reserved = [bridge.address.address(), gateway];
        let pool = Pool::new(bridge.address.network(), config.fixed_cidr, &reserved)?;
        let forwarding = link::forward(config)?;
        let firewall = match config.packet_filter {
            true => {
                let no_router = forwarding || config.forwarding_was_off;
                Some(Mutex::new(Firewall::open(config, bridge.address, no_router)?))
            }
            false => None,
        };
        Ok(Self {
            config: config.clone(),
            bridge,
            gateway,
            switched_forwarding_on: forwarding,
            ports,
            route: Mutex::new(route),
            firewall,
            leases: Mutex::new(Leases { pool, links: HashMap::new(), leaving: Vec::new() }),
        })
    }

    fn lease(&self, wish: &Attach<'_>) -> Result<Ipv4Addr> {
        self.settle(SETTLE, LINGER);
        if let Some(address) = wish.address {
            return self.lease_fixed(address);
        }
        let first = locked(&self.leases).pool.allocate();
        first.or_else(|_| {
            // Perhaps all that is missing still waits for its link to go.
            self.settle(usize::MAX, Duration::ZERO);
            locked(&self.leases).pool.allocate()
        })
    }

    fn lease_fixed(&self, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let subnet = self.bridge.address;
        if !subnet.contains(address) {
            return Err(Error::invalid(format!(
                "no configured subnet or ip-range contain the IP address {address}"
            )));
        }
        let mut leases = locked(&self.leases);
        let in_use = leases.links.values().any(|a| *a == address);
        if in_use || !leases.pool.reserve(address) {
            return Err(Error::new(Kind::Forbidden, "Address already in use"));
        }
        Ok(address)
    }

    /// Gives back addresses whose links are gone, of at most `most` former endpoints; links that lingered
    /// longer than `linger` are removed.
    fn settle(&self, most: usize, linger: Duration) -> Vec<String> {
        let leaving: Vec<_> = {
            let mut leases = locked(&self.leases);
            let most = most.min(leases.leaving.len());
            leases.leaving.drain(..most).collect()
        };
        if leaving.is_empty() {
            return Vec::new();
        }
        let (mut removed, mut stay) = (Vec::new(), Vec::new());
        let mut gone = Vec::new();
        let mut route = locked(&self.route);
        for (name, address, since) in leaving {
            let there = !matches!(route.index(&name), Ok(None));
            if there && since.elapsed() < linger {
                stay.push((name, address, since));
                continue;
            }
            match if there { wire::delete(&mut route, &name) } else { Ok(()) } {
                Ok(()) => {
                    gone.extend(address);
                    if there {
                        removed.push(name);
                    }
                }
                Err(_) => stay.push((name, address, since)),
            }
        }
        drop(route);
        let mut leases = locked(&self.leases);
        gone.into_iter().for_each(|address| leases.pool.release(address));
        leases.leaving.extend(stay);
        removed
    }

    fn publish(&self, address: Ipv4Addr, ports: &[Published]) -> Result<()> {
        match &self.firewall {
            _ if ports.is_empty() => Ok(()),
            Some(firewall) => {
                locked(firewall).publish(address, ports)?;
                forget_flows(ports);
                Ok(())
            }
            None => Err(Error::invalid(
                "ports cannot be published while packet filter rules are switched off (--iptables=false)",
            )),
        }
    }

    fn withdraw(&self, ports: &[Published]) -> Result<()> {
        match &self.firewall {
            Some(firewall) if !ports.is_empty() => locked(firewall).withdraw(ports),
            _ => Ok(()),
        }
    }

    fn leave(&self, link: Option<&str>, address: Option<Ipv4Addr>) {
        let Some(link) = link else { return };
        let mut leases = locked(&self.leases);
        // Only the first detach gives the address back.
        if leases.links.remove(link).is_some() {
            leases.leaving.push((link.to_owned(), address, Instant::now()));
        }
    }
}

impl Plane for Live {
    fn subnet(&self) -> Option<Subnet> {
        Some(self.bridge.address)
    }

    fn gateway(&self) -> Option<Ipv4Addr> {
        Some(self.bridge.address.address())
    }

    fn range(&self) -> Option<Subnet> {
        self.config.fixed_cidr
    }

    fn options(&self) -> BTreeMap<String, String> {
        let mtu = if self.config.mtu_bytes == 0 { 1500 } else { self.config.mtu_bytes };
        [
            ("default_bridge", "true".to_owned()),
            ("enable_icc", self.config.icc.to_string()),
            ("enable_ip_masquerade", self.config.masquerade.to_string()),
            ("host_binding_ipv4", self.config.publish_ip.to_string()),
            ("name", self.config.name.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("com.docker.network.bridge.{key}"), value))
        .chain([("com.docker.network.driver.mtu".to_owned(), mtu.to_string())])
        .collect()
    }

    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid("a bridge network needs a network namespace of the container's own")
        })?;
        let ports = self
            .ports
            .take(wish.publish, self.config.publish_ip)
            .map_err(|e| refused(e, endpoint, wish))?;
        let address = match self.lease(wish) {
            Ok(address) => address,
            Err(error) => {
                self.ports.release(&ports);
                return Err(error);
            }
        };
        let wired = Wired {
            link: Some(wire::name(endpoint)),
            address: Some(self.bridge.address.at(address)),
            gateway: Some(self.gateway),
            mac: Some(wish.mac.unwrap_or(Mac::of(address))),
            ports,
        };
        let link = wire::name(endpoint);
        let pair = wire::Pair {
            bridge: &self.bridge,
            name: &link,
            interface: wish.interface,
            netns,
            mac: wired.mac.unwrap_or(Mac::of(address)),
            address: self.bridge.address.at(address),
            gateway: self.gateway,
            mtu_bytes: self.config.mtu_bytes,
            isolated: !self.config.icc,
        };
        locked(&self.leases).links.insert(link.clone(), address);
        let done = wire::connect(&self.route, &pair).and_then(|()| {
            self.publish(address, &wired.ports).map_err(|e| refused(e, endpoint, wish))
        });
        match done {
            Ok(()) => Ok(wired),
            Err(error) => {
                let _ = wire::delete(&mut locked(&self.route), &link);
                self.ports.release(&wired.ports);
                self.leave(Some(&link), Some(address));
                self.settle(usize::MAX, LINGER);
                Err(error)
            }
        }
    }

    fn detach(&self, endpoint: &Endpoint) -> Result<()> {
        let withdrawn = self.withdraw(&endpoint.ports);
        self.ports.release(&endpoint.ports);
        self.leave(endpoint.link.as_deref(), endpoint.address.map(Subnet::address));
        withdrawn
    }

    fn reconcile(&self, living: &[(&ContainerId, &Endpoint)]) -> Repair {
        let mut repair = Repair::default();
        let mut published = Vec::new();
        {
            let mut leases = locked(&self.leases);
            for (container, endpoint) in living {
                let Some((link, subnet)) = endpoint.link.as_ref().zip(endpoint.address) else {
                    continue;
                };
                if !self.bridge.address.contains(subnet.address()) {
                    repair.failures.push(format!(
                        "container {} has the address {subnet} outside of the network {}",
                        container.short(),
                        self.bridge.address.network()
                    ));
                }
                leases.pool.reserve(subnet.address());
                leases.links.insert(link.clone(), subnet.address());
                published
                    .extend(endpoint.ports.iter().map(|port| (subnet.address(), port.clone())));
            }
        }
        if let Some(firewall) = &self.firewall {
            let mut firewall = locked(firewall);
            // What was attached or taken over before is known already.
            published.retain(|(address, port)| !firewall.knows(*address, port));
            for (_, port) in &published {
                if let Err(error) = self.ports.adopt(port) {
                    repair.failures.push(error.chain());
                }
            }
            firewall.assume(published);
            firewall.mend(&mut repair);
        }
        self.mend_links(&mut repair);
        repair
    }

    fn leftovers(&self) -> Result<Leftovers> {
        let ports = self.bridge_ports()?;
        let leases = locked(&self.leases);
        let known = |name: &str| {
            leases.links.contains_key(name) || leases.leaving.iter().any(|l| l.0 == name)
        };
        let links = ports.into_iter().filter(|name| !known(name)).collect();
        drop(leases);
        let ports = self.firewall.as_ref().map_or(Ok(0), |f| locked(f).strangers())?;
        Ok(Leftovers { links, ports })
    }

    fn mend(&self) -> Repair {
        let mut repair =
            Repair { links_removed: self.settle(usize::MAX, LINGER), ..Repair::default() };
        if let Some(firewall) = &self.firewall {
            locked(firewall).mend(&mut repair);
        }
        repair
    }

    fn switched_forwarding_on(&self) -> bool {
        self.switched_forwarding_on
    }

    fn restless(&self) -> bool {
        !locked(&self.leases).leaving.is_empty()
    }

    fn table(&self) -> Option<String> {
        self.firewall.as_ref().map(|f| locked(f).table().to_owned())
    }

    fn remove(&self) -> Result<()> {
        let mut removed = self.firewall.as_ref().map_or(Ok(()), |f| locked(f).remove());
        let links: Vec<_> = {
            let leases = locked(&self.leases);
            let leaving = leases.leaving.iter().map(|(name, ..)| name.clone());
            leases.links.keys().cloned().chain(leaving).collect()
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
            let leaving: Vec<_> = leases.leaving.iter().map(|l| l.0.clone()).collect();
            (leases.links.keys().cloned().collect::<Vec<_>>(), leaving)
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

/// Lets UDP clients that sent to these ports before reach the new owner: while they go on sending, the
/// kernel keeps to what it decided at their first packet.
fn forget_flows(ports: &[Published]) {
    let udp: Vec<_> =
        ports.iter().filter(|p| p.protocol == Protocol::Udp).map(|p| p.host_port).collect();
    if let Err(error) = sys::conntrack::forget(Protocol::Udp.number(), &udp) {
        tracing::warn!(err = kernel(error).chain(), "UDP clients may keep to a former container");
    }
}

/// Docker's sentence about ports that cannot be published.
fn refused(error: Error, endpoint: &EndpointId, wish: &Attach<'_>) -> Error {
    Error::new(
        error.kind(),
        format!(
            "driver failed programming external connectivity on endpoint {} ({endpoint})",
            wish.name
        ),
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests;

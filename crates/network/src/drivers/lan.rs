//! Networks `macvlan` and `ipvlan`: containers are machines of the network that a link of this one is on.
//!
//! Flow: `open` finds the parent link, or makes it when it is named `LINK.TAG` (frames with that tag) or not at
//! all (a link that leads nowhere); `attach` makes a link over it inside the container's namespace. There is
//! nothing on the host's side, and no port is published: who is on that network reaches the container anyway.
//! Invariants: what was made here bears [`MADE_HERE`] and goes with the network; a parent that was there
//! stays. This machine itself does not reach the containers by their parent; so works the kernel.
//! Source: Moby `daemon/libnetwork/drivers/{macvlan,ipvlan}` (options and words), rtnetlink(7).

use super::{Driver, Opening, Plane, Wired, bridge::kernel, inside, settings_of_a_namespace};
use crate::{
    Attach, Common, Endpoint, Leftovers, Mac, Repair, Spec, Subnet, leases::Leases, ports::Ports,
};
use base::{ContainerId, EndpointId, Error, NetworkId, Result};
use std::{
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};
use sys::{
    netlink::{Over, Request, Route},
    netns,
};

/// Left on links made here.
const MADE_HERE: &str = "gantry";
/// Longest name of a link (IFNAMSIZ - 1).
const NAME_BYTES: usize = 15;
/// `EOPNOTSUPP`: the kernel has no links of this kind.
const NOT_SUPPORTED: i32 = 95;

/// Both drivers, which differ in the kind of link alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lan {
    /// Every container has a link address of its own.
    Macvlan,
    /// All have that of the parent.
    Ipvlan,
}

/// What a network's options come to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// Name of the link below.
    parent: String,
    /// What is made when it is not there.
    make: Option<Make>,
    over: Over,
    /// Default routes lead out by the link alone (layer 3).
    by_link: bool,
    mtu_bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Make {
    /// A link for frames with a tag, over another one.
    Vlan(String, u16),
    /// One that leads nowhere.
    Nowhere,
}

impl Driver for Lan {
    fn name(&self) -> &str {
        match self {
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }

    fn has_addresses(&self) -> bool {
        true
    }

    fn check(&self, id: &NetworkId, spec: &Spec, _: &Common) -> Result<()> {
        let settings = self.settings(id, spec)?;
        let mut route = Route::open().map_err(kernel)?;
        match &settings.make {
            Some(Make::Nowhere) => return Ok(()),
            Some(Make::Vlan(below, _)) => drop(self.below(&mut route, below)?),
            None => self.probe(&mut route, &settings)?,
        }
        Ok(())
    }

    fn open(&self, opening: &Opening<'_>, _: &Ports) -> Result<Box<dyn Plane>> {
        let settings = self.settings(opening.id, opening.spec)?;
        let mut route = Route::open().map_err(kernel)?;
        let made = self.make_parent(&mut route, &settings)?;
        self.below(&mut route, &settings.parent)?;
        let gateways = opening.spec.ipam.pools.iter().filter_map(|pool| pool.gateway).collect();
        let outward = !opening.spec.internal && settings.make != Some(Make::Nowhere);
        Ok(Box::new(Live {
            kind: *self,
            made: made.then(|| settings.parent.clone()),
            gateways: if outward { gateways } else { Vec::new() },
            outward,
            settings,
            leases: Mutex::new(Leases::of(opening.spec)?),
        }))
    }
}

impl Lan {
    fn settings(self, id: &NetworkId, spec: &Spec) -> Result<Settings> {
        let option = |name: &str| spec.option(name).filter(|text| !text.is_empty());
        let unknown = |what: &str, text: &str| {
            Error::invalid(format!("requested {} {what} '{text}' is not valid", self.name()))
        };
        let mode = option(if self == Self::Macvlan { "macvlan_mode" } else { "ipvlan_mode" });
        let over = match self {
            Self::Macvlan => Over::Macvlan(match mode.unwrap_or("bridge") {
                "private" => 1,
                "vepa" => 2,
                "bridge" => 4,
                "passthru" => 8,
                other => return Err(unknown("mode", other)),
            }),
            Self::Ipvlan => {
                let mode = match mode.unwrap_or("l2") {
                    "l2" => 0,
                    "l3" => 1,
                    "l3s" => 2,
                    other => return Err(unknown("mode", other)),
                };
                let flag = match option("ipvlan_flag").unwrap_or("bridge") {
                    "bridge" => 0,
                    "private" => 1,
                    "vepa" => 2,
                    other => return Err(unknown("flag", other)),
                };
                Over::Ipvlan(mode, flag)
            }
        };
        let short = &id.as_str()[..12];
        let (parent, make) = match option("parent") {
            None if self == Self::Macvlan => (format!("dm-{short}"), Some(Make::Nowhere)),
            None => (format!("di-{short}"), Some(Make::Nowhere)),
            Some(name) => (name.to_owned(), tagged(name)?),
        };
        if parent.len() > NAME_BYTES || parent.contains(['/', ' ']) {
            return Err(Error::invalid(format!("invalid parent interface {parent:?}")));
        }
        if parent == "lo" {
            return Err(Error::invalid(format!(
                "loopback interface is not a valid {} parent link",
                self.name()
            )));
        }
        let by_link = matches!(over, Over::Ipvlan(1 | 2, _));
        Ok(Settings { parent, make, over, by_link, mtu_bytes: spec.mtu()? })
    }

    /// Number of a link that is to be below others.
    fn below(self, route: &mut Route, name: &str) -> Result<u32> {
        route.index(name).map_err(kernel)?.ok_or_else(|| {
            Error::invalid(format!(
                "invalid subinterface vlan name {name}, example formatting is eth0.10: there is no link {name} on this machine (see ip link)"
            ))
        })
    }

    /// Whether the kernel can make such links over this parent, tried in a way that leaves nothing.
    fn probe(self, route: &mut Route, settings: &Settings) -> Result<()> {
        let below = self.below(route, &settings.parent)?;
        let name = format!("gprobe{}", std::process::id() % 1_000_000);
        // One message, so that nobody dies between the two.
        let requests = [
            Request::add_over(&name, below, settings.over, None, None, 0),
            Request::delete_link(&name),
        ];
        route.run(&requests).map_err(|error| self.explain(error))
    }

    fn explain(self, error: sys::netlink::Error) -> Error {
        let name = self.name();
        match error.errno.raw_os_error() {
            NOT_SUPPORTED => Error::invalid(format!(
                "the kernel of this machine has no {name}: load the module {name}, or choose another driver"
            ))
            .caused_by(kernel(error)),
            _ => kernel(error),
        }
    }

    /// Makes the parent when it is missing; true when this or an earlier daemon made it.
    fn make_parent(self, route: &mut Route, settings: &Settings) -> Result<bool> {
        if let Some(found) = route.link(&settings.parent).map_err(kernel)? {
            return Ok(found.alias == MADE_HERE);
        }
        let (request, kind) = match &settings.make {
            None => return Ok(false),
            Some(Make::Nowhere) => (Request::add_dummy(&settings.parent), "dummy"),
            Some(Make::Vlan(below, tag)) => {
                let below = self.below(route, below)?;
                let over = Over::Vlan(*tag);
                (Request::add_over(&settings.parent, below, over, None, None, 0), "8021q")
            }
        };
        // One message: a daemon that dies here leaves no link that the next one takes for another's and never removes.
        let requests = [request, Request::set_alias(&settings.parent, MADE_HERE)];
        route.run(&requests).map_err(|error| match error.errno.raw_os_error() {
            NOT_SUPPORTED => Error::invalid(format!(
                "the kernel of this machine cannot make the parent interface {}: load the module {kind}, or name an interface that is there (-o parent=...)",
                settings.parent
            ))
            .caused_by(kernel(error)),
            _ => kernel(error),
        })?;
        let index = self.below(route, &settings.parent)?;
        route.run(&[Request::set_up(index)]).map_err(kernel)?;
        Ok(true)
    }
}

/// `eth0.10` is what carries tag 10 on `eth0`.
fn tagged(name: &str) -> Result<Option<Make>> {
    let Some((below, tag)) = name.rsplit_once('.') else { return Ok(None) };
    let bad = || {
        Error::invalid(format!(
            "invalid subinterface vlan name {name}, example formatting is eth0.10 with a tag from 1 to 4094"
        ))
    };
    let tag = tag.parse().ok().filter(|tag| (1..4095).contains(tag)).ok_or_else(bad)?;
    if below.is_empty() { Err(bad()) } else { Ok(Some(Make::Vlan(below.to_owned(), tag))) }
}

/// A network that works.
#[derive(Debug)]
struct Live {
    kind: Lan,
    settings: Settings,
    /// The parent, when it was made here.
    made: Option<String>,
    gateways: Vec<IpAddr>,
    /// Whether it leads anywhere.
    outward: bool,
    leases: Mutex<Leases>,
}

impl Live {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        // Each change is one call, so it is sound even behind a poisoned lock.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        let found = self.gateways.iter().copied().find(|g| g.is_ipv6() == ipv6);
        found.filter(|_| !self.settings.by_link)
    }

    /// The address is free at once: its link is inside, and goes with the namespace.
    fn give_back(&self, key: &str) {
        let mut leases = self.leases();
        leases.leave(key);
        let gone = leases.leaving(usize::MAX);
        leases.settled(gone, Vec::new());
    }

    fn wire(&self, key: &str, wish: &Attach<'_>, addresses: &[Subnet]) -> Result<Option<Mac>> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid(format!(
                "a {} network needs a network namespace of the container's own",
                self.kind.name()
            ))
        })?;
        let mac = match self.kind {
            // Not made of the IP address: a link that had it may take a moment to go, and no two over one
            // parent may have the same.
            Lan::Macvlan => Some(wish.mac.unwrap_or(Mac::from_id(key))),
            Lan::Ipvlan => None,
        };
        let mut route = Route::open().map_err(kernel)?;
        let below = self.kind.below(&mut route, &self.settings.parent)?;
        let request = Request::add_over(
            wish.interface,
            below,
            self.settings.over,
            Some(netns),
            mac.map(|mac| mac.0),
            self.settings.mtu_bytes,
        );
        route.run(&[request]).map_err(|error| self.kind.explain(error))?;
        let families = [false, true].map(|ipv6| addresses.iter().any(|a| a.is_ipv6() == ipv6));
        let by_link = self.routes_by_link();
        let lead =
            |ipv6: bool| wish.gateway && by_link[usize::from(ipv6)] && families[usize::from(ipv6)];
        let inside = inside::Inside {
            interface: wish.interface,
            mac: mac.unwrap_or(Mac([0; 6])),
            addresses: addresses.to_vec(),
            link_local: wish.link_local,
            gateways: match wish.gateway {
                true => [false, true].into_iter().filter_map(|ipv6| self.gateway(ipv6)).collect(),
                false => Vec::new(),
            },
            by_link: [lead(false), lead(true)],
            sysctls: inside::sysctls(wish.options, wish.interface)?,
        };
        let settled = netns::within(netns, || {
            settings_of_a_namespace();
            let mut route = Route::open().map_err(kernel)?;
            inside::settle(&mut route, &inside)
        });
        if let Err(error) = settled.map_err(kernel).and_then(|done| done) {
            let _ = remove_inside(netns, wish.interface);
            return Err(error);
        }
        Ok(mac)
    }
}

fn remove_inside(netns: BorrowedFd<'_>, interface: &str) -> Result<()> {
    let removed = netns::within(netns, || {
        let mut route = Route::open()?;
        match route.run(&[Request::delete_link(interface)]) {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    });
    removed.and_then(|done| done).map_err(kernel)
}

impl Plane for Live {
    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        inside::check(wish)?;
        let key = endpoint.as_str();
        let addresses = self.leases().give(key, wish)?;
        match self.wire(key, wish, &addresses) {
            Ok(mac) => Ok(Wired {
                link: None,
                address: addresses.iter().copied().find(|a| !a.is_ipv6()),
                address6: addresses.iter().copied().find(|a| a.is_ipv6()),
                gateway: self.gateway(false),
                gateway6: self.gateway(true),
                mac,
                ..Wired::default()
            }),
            Err(error) => {
                self.give_back(key);
                Err(error)
            }
        }
    }

    fn detach(&self, endpoint: &Endpoint) -> Result<()> {
        self.give_back(endpoint.id.as_str());
        Ok(())
    }

    fn unplug(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        let removed = remove_inside(netns, &endpoint.interface);
        self.give_back(endpoint.id.as_str());
        removed
    }

    fn routes_by_link(&self) -> [bool; 2] {
        [self.settings.by_link && self.outward; 2]
    }

    fn reconcile(&self, living: &[(&ContainerId, &Endpoint)]) -> Repair {
        let mut repair = Repair::default();
        for (container, endpoint) in living {
            let addresses: Vec<_> = endpoint.addresses().map(Subnet::address).collect();
            if !self.leases().adopt(endpoint.id.as_str(), &addresses) {
                repair.failures.push(format!(
                    "container {} has addresses {addresses:?} outside of its network {}",
                    container.short(),
                    endpoint.network_name
                ));
            }
        }
        repair
    }

    fn leftovers(&self) -> Result<Leftovers> {
        Ok(Leftovers::default())
    }

    fn remove(&self) -> Result<()> {
        let Some(parent) = &self.made else { return Ok(()) };
        let mut route = Route::open().map_err(kernel)?;
        match route.run(&[Request::delete_link(parent)]) {
            Err(error) if !error.is_missing() => Err(kernel(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

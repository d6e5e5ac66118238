//! Networks of plugins: a plugin makes the link of each container, which is brought inside and dressed here.
//!
//! Flow: `attach` tells of the endpoint (`CreateEndpoint`: addresses and link address are ours, or the plugin's when we
//! have none), asks for its link (`Join`), moves that into the container's namespace under the name that the plugin's
//! prefix says, gives it addresses and routes, and tells that the outside leads here
//! (`ProgramExternalConnectivity`). Taking off is told by [`crate::Networks`], which keeps the note about it.
//! Invariants: a link that is brought inside and stays unused goes back to the host under its old name.
//! Source: Moby `daemon/libnetwork/drivers/remote` (documents and rules), `osl/interface_linux.go` (names).
//! Not here: published ports, which are the plugin's to make; a way out by `docker_gwbridge` for plugins that give no
//! gateway.

use super::{Driver, Opening, Plane, Wired, bridge::kernel, inside, settings_of_a_namespace};
use crate::{
    Attach, Endpoint, Leftovers, Mac, Publish, Published, Repair, Subnet,
    leases::Leases,
    plugged::{Plugin, port_map},
    ports::Ports,
};
use base::{ContainerId, EndpointId, Error, NetworkId, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};
use sys::{
    netlink::{Request, Route},
    netns,
};

/// Longest name of a link (IFNAMSIZ - 1).
const NAME_BYTES: usize = 15;
/// Routes of one endpoint that are taken.
const MOST_ROUTES: usize = 1024;

/// The driver of one plugin.
#[derive(Debug)]
pub(crate) struct Remote(pub(crate) Plugin);

impl Driver for Remote {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn has_addresses(&self) -> bool {
        true
    }

    fn open(&self, opening: &Opening<'_>, _: &Ports) -> Result<Box<dyn Plane>> {
        Ok(Box::new(Live {
            id: opening.id.clone(),
            plugin: self.0.clone(),
            leases: Mutex::new(Leases::of(opening.spec)?),
        }))
    }
}

/// A network of a plugin.
#[derive(Debug)]
struct Live {
    id: NetworkId,
    plugin: Plugin,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Created {
    interface: Option<Interface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Interface {
    address: String,
    #[serde(rename = "AddressIPv6")]
    address6: String,
    mac_address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Joined {
    interface_name: Option<Names>,
    gateway: String,
    #[serde(rename = "GatewayIPv6")]
    gateway6: String,
    static_routes: Option<Vec<StaticRoute>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Names {
    src_name: String,
    dst_prefix: String,
    dst_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StaticRoute {
    destination: String,
    /// 0: by `next_hop`; 1: by the link alone.
    route_type: i64,
    next_hop: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Information {
    value: Option<Map<String, Value>>,
}

/// What an endpoint comes to.
#[derive(Debug, Default)]
struct Plan {
    addresses: Vec<Subnet>,
    mac: Option<Mac>,
    /// Name of the link on the host; without one the plugin wires the namespace by itself.
    link: Option<String>,
    /// Its name inside, or the beginning of it.
    name: Name,
    gateways: [Option<IpAddr>; 2],
    routes: Vec<(Subnet, Option<IpAddr>)>,
}

#[derive(Debug)]
enum Name {
    Whole(String),
    Prefix(String),
}

impl Default for Name {
    fn default() -> Self {
        Self::Prefix("eth".into())
    }
}

fn read<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Error::internal(format!("a plugin answers with {what} {text:?}, which cannot be read"))
        }),
    }
}

fn link_name(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == ':' || !c.is_ascii_graphic();
    if name.is_empty()
        || name.len() > NAME_BYTES
        || name.contains(odd)
        || [".", ".."].contains(&name)
    {
        return Err(Error::internal(format!(
            "a plugin names the link {name:?}, which no link is called"
        )));
    }
    Ok(())
}

impl Live {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        // Each change is one call, so it is sound even behind a poisoned lock.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address is free at once: its link goes with the endpoint.
    fn free(&self, endpoint: &EndpointId) {
        let mut leases = self.leases();
        leases.leave(endpoint.as_str());
        let gone = leases.leaving(usize::MAX);
        leases.settled(gone, Vec::new());
    }

    /// Tells of the endpoint; what it has then.
    fn create(&self, endpoint: &EndpointId, wish: &Attach<'_>, plan: &mut Plan) -> Result<()> {
        let own = |ipv6| plan.addresses.iter().find(|a| a.is_ipv6() == ipv6).copied();
        let text = |subnet: Option<Subnet>| subnet.map(|s| s.to_string()).unwrap_or_default();
        let mut options: Map<String, Value> =
            wish.options.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        options.insert("com.docker.network.portmap".into(), port_map(wish.publish));
        let ports = wish.publish.iter();
        let exposed: Value = ports
            .map(|p| json!({"Proto": p.protocol.number(), "Port": p.container_port}))
            .collect();
        options.insert("com.docker.network.endpoint.exposedports".into(), exposed);
        let created: Created = self.plugin.ask(
            "NetworkDriver.CreateEndpoint",
            &json!({
                "NetworkID": self.id,
                "EndpointID": endpoint,
                "Interface": {
                    "Address": text(own(false)),
                    "AddressIPv6": text(own(true)),
                    "MacAddress": wish.mac.map(|m| m.to_string()).unwrap_or_default(),
                },
                "Options": options,
            }),
        )?;
        let answer = created.interface.unwrap_or_default();
        plan.mac = wish.mac;
        if let Some(mac) = read::<Mac>("the link address", &answer.mac_address)? {
            if plan.mac.is_some_and(|own| own != mac) {
                return Err(overwrites("MAC address", &plan.mac, &mac));
            }
            plan.mac = Some(mac);
        }
        for (address, ipv6) in [(&answer.address, false), (&answer.address6, true)] {
            let Some(given) = read::<Subnet>("the address", address)? else { continue };
            match plan.addresses.iter().find(|a| a.is_ipv6() == ipv6) {
                Some(own) if *own == given => {}
                Some(own) => return Err(overwrites("address", &Some(*own), &given)),
                None if given.is_ipv6() == ipv6 => plan.addresses.push(given),
                None => {
                    return Err(Error::internal(format!(
                        "plugin {} answers with the address {given} of the wrong family",
                        self.plugin.name
                    )));
                }
            }
        }
        Ok(())
    }

    fn join(&self, endpoint: &EndpointId, wish: &Attach<'_>, plan: &mut Plan) -> Result<()> {
        let joined: Joined = self.plugin.ask(
            "NetworkDriver.Join",
            &json!({
                "NetworkID": self.id,
                "EndpointID": endpoint,
                "SandboxKey": wish.sandbox,
                "Options": {"com.docker.network.portmap": port_map(wish.publish)},
            }),
        )?;
        if let Some(names) = joined.interface_name.filter(|n| !n.src_name.is_empty()) {
            link_name(&names.src_name)?;
            plan.link = Some(names.src_name);
            plan.name = if wish.options.contains_key(inside::INTERFACE) {
                Name::Whole(wish.interface.to_owned())
            } else if !names.dst_name.is_empty() {
                Name::Whole(names.dst_name)
            } else if !names.dst_prefix.is_empty() {
                Name::Prefix(names.dst_prefix)
            } else {
                Name::default()
            };
        }
        plan.gateways =
            [read("the gateway", &joined.gateway)?, read("the gateway", &joined.gateway6)?];
        for route in joined.static_routes.unwrap_or_default().into_iter().take(MOST_ROUTES) {
            let Some(to) = read::<Subnet>("the route", &route.destination)? else { continue };
            let hop = match route.route_type {
                0 => read::<IpAddr>("the next hop", &route.next_hop)?,
                _ => None,
            };
            if let Some(hop) = hop.filter(|hop| hop.is_ipv6() != to.is_ipv6()) {
                return Err(Error::internal(format!(
                    "plugin {} answers with a route to {to} by {hop}, which is of the other family",
                    self.plugin.name
                )));
            }
            plan.routes.push((to, hop));
        }
        Ok(())
    }

    /// Brings the link inside and dresses it; its name there.
    fn wire(&self, wish: &Attach<'_>, plan: &mut Plan) -> Result<Option<String>> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid(format!(
                "a network of plugin {} needs a network namespace of the container's own",
                self.plugin.name
            ))
        })?;
        let Some(link) = &plan.link else {
            // The plugin has entered the namespace by itself.
            netns::within(netns, settings_of_a_namespace).map_err(kernel)?;
            return Ok(None);
        };
        let mut host = Route::open().map_err(kernel)?;
        let Some(index) = host.index(link).map_err(kernel)? else {
            return Err(Error::internal(format!(
                "plugin {} names the link {link}, which is not on this machine",
                self.plugin.name
            )));
        };
        let name = self.free_name(netns, &plan.name)?;
        host.run(&[Request::move_link(index, netns, &name)]).map_err(kernel)?;
        let dressed = netns::within(netns, || {
            settings_of_a_namespace();
            let mut route = Route::open().map_err(kernel)?;
            let own = route.link(&name).map_err(kernel)?;
            let own =
                own.ok_or_else(|| Error::internal(format!("the link {name} is not there")))?;
            if let Some(mac) = plan.mac {
                route.run(&[Request::set_mac(own.index, mac.0)]).map_err(kernel)?;
            }
            let inside = inside::Inside {
                interface: &name,
                mac: Mac([0; 6]),
                addresses: plan.addresses.clone(),
                link_local: wish.link_local,
                gateways: Vec::new(),
                by_link: [false; 2],
                sysctls: inside::sysctls(wish.options, &name)?,
            };
            inside::settle(&mut route, &inside)?;
            // By the link first: a gateway may be reached by such a route alone.
            let (direct, by_hop): (Vec<_>, Vec<_>) =
                plan.routes.iter().partition(|(_, hop)| hop.is_none());
            for (to, hop) in direct.into_iter().chain(by_hop) {
                route
                    .run(&[Request::add_route(own.index, to.first(), to.prefix(), hop)])
                    .map_err(kernel)?;
            }
            for gateway in plan.gateways.iter().flatten().filter(|_| wish.gateway) {
                route.run(&[Request::add_default_route(own.index, *gateway)]).map_err(kernel)?;
            }
            Ok(own.mac.map(Mac))
        });
        match dressed.map_err(kernel).and_then(|done: Result<Option<Mac>>| done) {
            Ok(mac) => {
                plan.mac = plan.mac.or(mac);
                Ok(Some(name))
            }
            Err(err) => {
                if let Err(left) = put_out(netns, &name, link) {
                    tracing::warn!(link, err = left.chain(), "a plugin's link stays inside");
                }
                Err(err)
            }
        }
    }

    /// The name that the link gets inside.
    fn free_name(&self, netns: BorrowedFd<'_>, name: &Name) -> Result<String> {
        let mut inside = netns::route(netns).map_err(kernel)?;
        let taken: Vec<String> =
            inside.links(None).map_err(kernel)?.into_iter().map(|l| l.name).collect();
        let chosen = match name {
            Name::Whole(name) => name.clone(),
            Name::Prefix(prefix) => {
                let mut names = (0..=taken.len()).map(|n| format!("{prefix}{n}"));
                names.find(|name| !taken.contains(name)).unwrap_or_default()
            }
        };
        link_name(&chosen)?;
        Ok(chosen)
    }
}

fn overwrites<T: std::fmt::Display>(what: &str, own: &Option<T>, given: &T) -> Error {
    let own = own.as_ref().map(ToString::to_string).unwrap_or_default();
    Error::internal(format!(
        "endpoint interface {what} present ({own}). Cannot be modified with {given}"
    ))
}

/// Brings a link back to the host, under the name that its plugin knows.
fn put_out(netns: BorrowedFd<'_>, name: &str, old: &str) -> Result<()> {
    let host = netns::open(std::path::Path::new("/proc/self/ns/net")).map_err(kernel)?;
    let moved = netns::within(netns, || {
        let mut route = Route::open()?;
        match route.index(name)? {
            Some(index) => {
                route.run(&[Request::move_link(index, std::os::fd::AsFd::as_fd(&host), old)])
            }
            None => Ok(()),
        }
    });
    moved.and_then(|done| done).map_err(kernel)
}

impl Plane for Live {
    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        inside::check(wish)?;
        let mut plan =
            Plan { addresses: self.leases().give(endpoint.as_str(), wish)?, ..Plan::default() };
        let outcome = self.create(endpoint, wish, &mut plan).and_then(|()| {
            self.join(endpoint, wish, &mut plan)?;
            let interface = self.wire(wish, &mut plan)?;
            if wish.gateway
                && let Err(err) = self.program(endpoint, wish.publish)
            {
                if let (Some(netns), Some(name), Some(link)) = (wish.netns, &interface, &plan.link)
                {
                    put_out(netns, name, link)?;
                }
                return Err(err);
            }
            Ok(interface)
        });
        match outcome {
            Ok(interface) => Ok(Wired {
                link: plan.link,
                address: plan.addresses.iter().copied().find(|a| !a.is_ipv6()),
                address6: plan.addresses.iter().copied().find(|a| a.is_ipv6()),
                gateway: plan.gateways[0],
                gateway6: plan.gateways[1],
                mac: plan.mac,
                ports: Vec::new(),
                interface,
            }),
            Err(err) => {
                self.free(endpoint);
                Err(err)
            }
        }
    }

    fn detach(&self, endpoint: &Endpoint) -> Result<()> {
        self.free(&endpoint.id);
        Ok(())
    }

    fn unplug(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        let out = match &endpoint.link {
            Some(link) => put_out(netns, &endpoint.interface, link),
            None => Ok(()),
        };
        self.free(&endpoint.id);
        out
    }

    fn publish(&self, endpoint: &Endpoint, _: &str, publish: &[Publish]) -> Result<Vec<Published>> {
        self.program(&endpoint.id, publish)?;
        Ok(Vec::new())
    }

    fn information(&self, endpoint: &Endpoint) -> Result<Map<String, Value>> {
        let argument = json!({"NetworkID": self.id, "EndpointID": endpoint.id});
        let asked = self.plugin.ask::<Information>("NetworkDriver.EndpointOperInfo", &argument);
        match asked {
            Ok(told) => Ok(told.value.unwrap_or_default()),
            // Older plugins do not know it.
            Err(err) if err.kind() == base::Kind::NotImplemented => Ok(Map::new()),
            Err(err) => Err(err),
        }
    }

    fn withdraw(&self, endpoint: &Endpoint) -> Result<()> {
        let argument = json!({"NetworkID": self.id, "EndpointID": endpoint.id});
        self.plugin.tell("NetworkDriver.RevokeExternalConnectivity", &argument)
    }

    fn reconcile(&self, living: &[(&ContainerId, &Endpoint)]) -> Repair {
        for (_, endpoint) in living {
            let addresses: Vec<_> = endpoint.addresses().map(Subnet::address).collect();
            // Addresses of the plugin's own are of no subnet here.
            self.leases().adopt(endpoint.id.as_str(), &addresses);
        }
        Repair::default()
    }

    fn leftovers(&self) -> Result<Leftovers> {
        Ok(Leftovers::default())
    }
}

impl Live {
    /// Tells that the outside leads to this endpoint.
    fn program(&self, endpoint: &EndpointId, publish: &[Publish]) -> Result<()> {
        let argument = json!({
            "NetworkID": self.id,
            "EndpointID": endpoint,
            "Options": {"com.docker.network.portmap": port_map(publish)},
        });
        let asked = self
            .plugin
            .ask::<Map<String, Value>>("NetworkDriver.ProgramExternalConnectivity", &argument);
        match asked {
            // Older plugins do not know it.
            Err(err) if err.kind() == base::Kind::NotImplemented => Ok(()),
            other => other.map(drop),
        }
    }
}

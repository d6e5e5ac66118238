//! Network drivers: what makes a kind of network.
//!
//! Any other name is a plugin's (`remote.rs`). A [`Driver`] opens a [`Plane`], one live network; the plane wires containers. A new driver is one file
//! and one word in [`DRIVERS`]; it must pass the contract suite in `contract.rs`.

pub(crate) mod bridge;
mod host;
pub(crate) mod inside;
mod lan;
pub(crate) mod null;
pub(crate) mod remote;

use crate::{
    Attach, Common, Config, Endpoint, Leftovers, Publish, Published, Repair, Spec, Subnet,
    ports::Ports,
};
use base::{ContainerId, EndpointId, NetworkId, Result};
use serde_json::{Map, Value};
use std::{fmt, net::IpAddr, os::fd::BorrowedFd};

/// A network that a driver is to open.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Its id.
    pub id: &'a NetworkId,
    /// Its name.
    pub name: &'a str,
    /// What it was asked for, with its subnets.
    pub spec: &'a Spec,
    /// Settings of the daemon.
    pub config: &'a Config,
    /// Whether forwarding was off before a daemon came (see [`crate::BridgeConfig`]).
    pub forwarding_was_off: bool,
}

/// A kind of network.
pub trait Driver: fmt::Debug + Sync {
    /// Docker's name of it.
    fn name(&self) -> &str;

    /// Whether its endpoints have addresses, so that a network needs subnets.
    fn has_addresses(&self) -> bool {
        false
    }

    /// Whether users may make networks of it.
    fn creatable(&self) -> bool {
        true
    }

    /// Checks what a network is asked for, before anything is made.
    ///
    /// # Errors
    /// `Invalid` for options that make no sense.
    fn check(&self, _: &NetworkId, _: &Spec, _: &Common) -> Result<()> {
        Ok(())
    }

    /// Makes or adopts what the network needs in the kernel. Opening twice changes nothing.
    ///
    /// # Errors
    /// `Invalid` when the settings contradict each other or the machine; of the kernel otherwise.
    fn open(&self, opening: &Opening<'_>, ports: &Ports) -> Result<Box<dyn Plane>>;
}

/// What a plane gives an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wired {
    /// The host's end of the pair.
    pub link: Option<String>,
    /// IPv4 address and prefix.
    pub address: Option<Subnet>,
    /// IPv6 address and prefix.
    pub address6: Option<Subnet>,
    /// IPv4 gateway of the network.
    pub gateway: Option<IpAddr>,
    /// IPv6 gateway of the network.
    pub gateway6: Option<IpAddr>,
    /// Link address.
    pub mac: Option<crate::Mac>,
    /// Published ports.
    pub ports: Vec<Published>,
    /// Name of the link inside, when it is another than was wished for.
    pub interface: Option<String>,
}

/// One live network.
pub trait Plane: fmt::Debug + Send + Sync {
    /// Says what a predefined network came to: subnets and options.
    fn describe(&self, _: &mut Spec) {}

    /// Wires a container. On error nothing is left.
    ///
    /// # Errors
    /// `Invalid` for wishes the driver cannot grant, `Exhausted` when addresses or ports ran out,
    /// `Internal` with Docker's words when a port is taken.
    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired>;

    /// Takes a container off; a second time changes nothing. Its links go with its namespace. Collects errors
    /// and goes on.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    fn detach(&self, endpoint: &Endpoint) -> Result<()>;

    /// Takes a container off that lives on: its link is gone when this returns.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    fn unplug(&self, endpoint: &Endpoint, _netns: BorrowedFd<'_>) -> Result<()> {
        self.detach(endpoint)
    }

    /// Publishes ports of an endpoint that has none: its container's default route leads here from now on.
    ///
    /// # Errors
    /// As [`Plane::attach`]; nothing is published then.
    fn publish(&self, _: &Endpoint, _: &str, _: &[Publish]) -> Result<Vec<Published>> {
        Ok(Vec::new())
    }

    /// Takes back all ports of an endpoint.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    fn withdraw(&self, _: &Endpoint) -> Result<()> {
        Ok(())
    }

    /// What the driver tells of an endpoint, for people. A plugin is asked.
    ///
    /// # Errors
    /// The plugin's.
    fn information(&self, _: &Endpoint) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }

    /// Default routes of the driver's endpoints that need no gateway, IPv4 and IPv6.
    fn routes_by_link(&self) -> [bool; 2] {
        [false; 2]
    }

    /// Takes over `living` beside what was attached here, and makes the kernel hold these and nothing else.
    fn reconcile(&self, living: &[(&ContainerId, &Endpoint)]) -> Repair;

    /// What the kernel holds beyond the endpoints known here.
    ///
    /// # Errors
    /// Of the kernel.
    fn leftovers(&self) -> Result<Leftovers>;

    /// Puts packet filter rules back if someone removed them, and removes links whose namespaces lived on.
    /// Returns what was done.
    fn mend(&self) -> Repair {
        Repair::default()
    }

    /// Whether opening it made a router of this machine, which was none before.
    fn switched_forwarding_on(&self) -> bool {
        false
    }

    /// Whether links of former endpoints wait for [`Plane::mend`].
    fn restless(&self) -> bool {
        false
    }

    /// Packet filter tables that hold rules of it.
    fn tables(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes everything the network made in the kernel.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    fn remove(&self) -> Result<()> {
        Ok(())
    }
}

/// All drivers.
pub static DRIVERS: &[&dyn Driver] =
    &[&bridge::Bridge, &host::Host, &null::Null, &lan::Lan::Macvlan, &lan::Lan::Ipvlan];

/// Whether a driver is one of ours.
pub(crate) fn is_own(name: &str) -> bool {
    DRIVERS.iter().any(|driver| driver.name() == name)
}

/// Sets what Docker sets in every network namespace of a container's own: low ports and ping need no
/// privilege inside. A container's `--sysctl` comes later and wins.
fn settings_of_a_namespace() {
    for (name, value) in
        [("ipv4/ip_unprivileged_port_start", "0"), ("ipv4/ping_group_range", "0 2147483647")]
    {
        // Kernels without the setting have nothing to relax.
        let _ = sys::netns::set_sysctl(name, value);
    }
}

#[cfg(test)]
mod contract;

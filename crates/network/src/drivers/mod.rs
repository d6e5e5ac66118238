//! Network drivers: what makes a kind of network.
//!
//! A [`Driver`] opens a [`Plane`], one live network; the plane wires containers. A new driver is one file
//! and one word in [`DRIVERS`]; it must pass the contract suite in `contract.rs`.

mod bridge;
mod host;
mod null;

use crate::{Attach, Config, Endpoint, Leftovers, Published, Repair, Subnet, ports::Ports};
use base::{ContainerId, EndpointId, Result};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

/// A kind of network.
pub trait Driver: fmt::Debug + Sync {
    /// Docker's name of it.
    fn name(&self) -> &'static str;

    /// Makes or adopts what the network needs in the kernel. Opening twice changes nothing.
    ///
    /// # Errors
    /// `Invalid` when the settings contradict each other or the machine; of the kernel otherwise.
    fn open(&self, config: &Config, ports: &Ports) -> Result<Box<dyn Plane>>;
}

/// What a plane gives an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wired {
    /// The host's end of the pair.
    pub link: Option<String>,
    /// Address and prefix.
    pub address: Option<Subnet>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Link address.
    pub mac: Option<crate::Mac>,
    /// Published ports.
    pub ports: Vec<Published>,
}

/// One live network.
pub trait Plane: fmt::Debug + Send + Sync {
    /// Its subnet, if it has one.
    fn subnet(&self) -> Option<Subnet> {
        None
    }

    /// Its address on this machine, if it has one.
    fn gateway(&self) -> Option<Ipv4Addr> {
        None
    }

    /// The part of the subnet that addresses are taken from, if not all of it.
    fn range(&self) -> Option<Subnet> {
        None
    }

    /// Driver options as `network inspect` shows them.
    fn options(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Wires a container. On error nothing is left.
    ///
    /// # Errors
    /// `Invalid` for wishes the driver cannot grant, `Exhausted` when addresses or ports ran out,
    /// `Internal` with Docker's words when a port is taken.
    fn attach(&self, endpoint: &EndpointId, wish: &Attach<'_>) -> Result<Wired>;

    /// Takes a container off; a second time changes nothing. Collects errors and goes on.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    fn detach(&self, endpoint: &Endpoint) -> Result<()>;

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

    /// The packet filter table that holds its rules, if it has one.
    fn table(&self) -> Option<String> {
        None
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
pub static DRIVERS: &[&dyn Driver] = &[&bridge::Bridge, &host::Host, &null::Null];

/// The driver of this name.
///
/// # Errors
/// `NotFound`, with Docker's words.
pub fn named(name: &str) -> Result<&'static dyn Driver> {
    DRIVERS.iter().copied().find(|driver| driver.name() == name).ok_or_else(|| {
        base::Error::not_found(format!("could not resolve driver {name} in registry"))
    })
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

//! A container's place on a network: what is asked for, what was given, what was mended.

use crate::{Mac, Publish, Published, Subnet};
use base::{ContainerId, EndpointId, NetworkId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, os::fd::BorrowedFd};

/// A wish to put one container on one network.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The container.
    pub container: &'a ContainerId,
    /// Its name without slash, for error texts.
    pub name: &'a str,
    /// Its network namespace (`/proc/<pid>/ns/net`, opened); `None` only for the driver `host`.
    pub netns: Option<BorrowedFd<'a>>,
    /// Path of that namespace, for plugins.
    pub sandbox: &'a str,
    /// Name of the link inside; `eth0` for the first network.
    pub interface: &'a str,
    /// A fixed link address.
    pub mac: Option<Mac>,
    /// A fixed IPv4 address.
    pub address: Option<IpAddr>,
    /// A fixed IPv6 address.
    pub address6: Option<IpAddr>,
    /// More addresses of its link, which nobody else is asked about.
    pub link_local: &'a [Subnet],
    /// Whether the container's default route leads here; only then are ports published here.
    pub gateway: bool,
    /// Ports to publish.
    pub publish: &'a [Publish],
    /// Names it is found by on this network, its own first.
    pub names: &'a [String],
    /// Options of the endpoint, such as `com.docker.network.endpoint.sysctls`.
    pub options: &'a BTreeMap<String, String>,
}

/// What an attached container has on a network. The engine keeps it in the container's row from before
/// the program is released until [`crate::Networks::detach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network's id.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// The network's driver.
    #[serde(default)]
    pub driver: String,
    /// The host's end of the pair, if the driver makes one.
    pub link: Option<String>,
    /// Name of the link inside.
    #[serde(default = "first_interface")]
    pub interface: String,
    /// Address and prefix, if the driver gives one.
    pub address: Option<Subnet>,
    /// IPv6 address and prefix.
    #[serde(default)]
    pub address6: Option<Subnet>,
    /// Default gateway of its network, whether or not the container's route leads there.
    pub gateway: Option<IpAddr>,
    /// IPv6 default gateway of its network.
    #[serde(default)]
    pub gateway6: Option<IpAddr>,
    /// Whether the container's default route leads here.
    #[serde(default = "yes")]
    pub is_gateway: bool,
    /// Link address.
    pub mac: Option<Mac>,
    /// Names it is found by on this network, its own first.
    #[serde(default)]
    pub names: Vec<String>,
    /// Published ports, in the order asked for, each with the host port it got.
    pub ports: Vec<Published>,
}

fn first_interface() -> String {
    "eth0".into()
}

fn yes() -> bool {
    true
}

impl Endpoint {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = Subnet> + '_ {
        self.address.into_iter().chain(self.address6)
    }
}

/// What [`crate::Networks::reconcile`] had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Links removed because no living container owns them.
    pub links_removed: Vec<String>,
    /// Published ports removed because no living container owns them.
    pub ports_removed: usize,
    /// Whether the packet filter table was made anew.
    pub table_made: bool,
    /// Published ports of living containers put back into the table.
    pub ports_added: usize,
    /// Chains of others that were told again to let containers through.
    pub ways_opened: usize,
    /// Things that could not be mended, for the log.
    pub failures: Vec<String>,
}

/// What is in the kernel and belongs to no endpoint known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Links on our bridges.
    pub links: Vec<String>,
    /// Elements in our maps of published ports.
    pub ports: usize,
}

impl Leftovers {
    /// Whether nothing is left over.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.ports == 0
    }
}

impl Repair {
    /// Whether nothing had to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether rules or published ports had to be put right.
    pub fn firewall(&self) -> bool {
        self.table_made || self.ports_added > 0 || self.ports_removed > 0 || self.ways_opened > 0
    }

    /// Writes what was done to the log.
    pub fn log(&self) {
        if self.firewall() || !self.links_removed.is_empty() {
            tracing::warn!(
                table = self.table_made,
                ports_added = self.ports_added,
                ports_removed = self.ports_removed,
                ways = self.ways_opened,
                links_removed = self.links_removed.len(),
                "network mended"
            );
        }
        for failure in &self.failures {
            tracing::error!(err = failure, "network cannot be mended");
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.links_removed.extend(other.links_removed);
        self.ports_removed += other.ports_removed;
        self.table_made |= other.table_made;
        self.ports_added += other.ports_added;
        self.ways_opened += other.ways_opened;
        self.failures.extend(other.failures);
    }
}

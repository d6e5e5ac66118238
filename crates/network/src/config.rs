//! What the engine tells this crate at start.

use crate::Subnet;
use std::net::Ipv4Addr;

/// Settings of all networks of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// The default bridge; `None` for `--bridge none`: then the network `bridge` does not exist.
    pub bridge: Option<BridgeConfig>,
}

/// Settings of the default bridge. Two daemons on one machine differ in `name` (the table of packet
/// filter rules is named after it) and in `address`.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// Name of the link, at most 15 bytes; made when it is missing.
    pub name: String,
    /// Address and prefix of the bridge (`--bip`); otherwise what the link has, otherwise the first of
    /// `pools` that meets no route of this machine.
    pub address: Option<Subnet>,
    /// Part of the subnet that addresses are taken from (`--fixed-cidr`).
    pub fixed_cidr: Option<Subnet>,
    /// Default gateway of containers when it is not the bridge (`--default-gateway`).
    pub gateway: Option<Ipv4Addr>,
    /// Subnets to choose from, in order; see [`crate::ipam::default_pools`].
    pub pools: Vec<Subnet>,
    /// Bytes; 0 for the kernel's default of 1500.
    pub mtu_bytes: u32,
    /// Whether forwarding is switched on when the bridge is made (`--ip-forward`).
    pub ip_forward: bool,
    /// Whether forwarding was off when a daemon first switched it on since this machine started: then others
    /// are not routed. [`crate::Networks::open`] remembers it.
    pub forwarding_was_off: bool,
    /// Whether traffic to the outside gets the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// Whether packet filter rules are made at all (`--iptables`). Without them ports are not published.
    pub packet_filter: bool,
    /// Whether containers of this bridge may talk to each other (`--icc`).
    pub icc: bool,
    /// Address that a port is published on when the request names none (`--ip`).
    pub publish_ip: Ipv4Addr,
}

impl BridgeConfig {
    /// Docker's defaults for a bridge of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: None,
            fixed_cidr: None,
            gateway: None,
            pools: crate::ipam::default_pools(),
            mtu_bytes: 0,
            ip_forward: true,
            forwarding_was_off: false,
            masquerade: true,
            packet_filter: true,
            icc: true,
            publish_ip: Ipv4Addr::UNSPECIFIED,
        }
    }
}

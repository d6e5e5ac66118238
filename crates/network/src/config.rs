//! What the engine tells this crate at start, and what a driver is told of one bridge.

use crate::{Subnet, ipam::Supply};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

/// Settings of all networks of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// The default bridge; `None` for `--bridge none`: then the network `bridge` does not exist.
    pub bridge: Option<BridgeConfig>,
    /// What every bridge starts from: forwarding, packet filter, MTU.
    pub common: Common,
    /// Ranges that subnets are chosen from, both families; see [`crate::ipam::default_pools`].
    pub pools: Vec<Supply>,
    /// Folder for the tables of names of user-defined networks; none are written without it.
    pub tables: Option<PathBuf>,
    /// How plugins are asked; without it there are none.
    pub plugins: Option<Arc<dyn crate::Plugins>>,
}

impl Config {
    /// Docker's defaults, with or without a default bridge.
    pub fn with(bridge: Option<BridgeConfig>) -> Self {
        let common = bridge.as_ref().map(|b| b.common.clone()).unwrap_or_default();
        Self { bridge, common, pools: crate::ipam::default_pools(), tables: None, plugins: None }
    }
}

/// Settings that all bridges of a daemon share.
#[derive(Clone, Debug)]
pub struct Common {
    /// Whether forwarding is switched on when a bridge is made (`--ip-forward`).
    pub ip_forward: bool,
    /// Whether packet filter rules are made at all (`--iptables`). Without them ports are not published.
    pub packet_filter: bool,
    /// Address that a port is published on when the request names none (`--ip`); unspecified for all
    /// addresses of both families.
    pub publish_ip: IpAddr,
    /// Whether chains of others that drop by default decide about containers too (`--firewall obey`), rather
    /// than being told to let them through.
    pub obey: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            ip_forward: true,
            packet_filter: true,
            publish_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            obey: false,
        }
    }
}

/// What a bridge does between its containers and the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Addresses are translated; from outside only published ports are reached.
    #[default]
    Nat,
    /// Addresses are translated, but every port is reached by who knows the way.
    NatUnprotected,
    /// Nothing is translated; the outside has a route, and reaches published ports.
    Routed,
    /// This machine has no address on the bridge.
    Isolated,
}

impl GatewayMode {
    /// Whether addresses are translated.
    pub fn translates(self) -> bool {
        matches!(self, Self::Nat | Self::NatUnprotected)
    }
}

/// Settings of one bridge. Two daemons on one machine differ in `name` (the table of packet
/// filter rules is named after it) and in `address`.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// Name of the link, at most 15 bytes; made when it is missing.
    pub name: String,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Address and prefix of the bridge (`--bip`); for the default one otherwise what the link has, otherwise
    /// the first of `pools` that meets no route of this machine.
    pub address: Option<Subnet>,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// IPv6 address and prefix of the bridge, chosen as `address` is.
    pub address6: Option<Subnet>,
    /// Part of the subnet that addresses are taken from (`--fixed-cidr`).
    pub fixed_cidr: Option<Subnet>,
    /// The same for IPv6.
    pub fixed_cidr6: Option<Subnet>,
    /// Default gateway of containers when it is not the bridge (`--default-gateway`).
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway6: Option<IpAddr>,
    /// Addresses that are never given.
    pub reserved: Vec<IpAddr>,
    /// Ranges to choose from when nothing says which subnet.
    pub pools: Vec<Supply>,
    /// Bytes; 0 for the kernel's default of 1500.
    pub mtu_bytes: u32,
    /// Whether forwarding was off when a daemon first switched it on since this machine started: then others
    /// are not routed. [`crate::Networks::open`] remembers it.
    pub forwarding_was_off: bool,
    /// Whether traffic to the outside gets the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// Source address of translated traffic instead of that of the link it leaves by, for each family.
    pub source: [Option<IpAddr>; 2],
    /// Whether containers of this bridge may talk to each other (`--icc`).
    pub icc: bool,
    /// No way to the outside.
    pub internal: bool,
    /// IPv4 and IPv6.
    pub modes: [GatewayMode; 2],
    /// The bridge gets no IPv4 address: its subnet's gateway is another machine's.
    pub inhibit_ipv4: bool,
    /// Whether it is the network `bridge`.
    pub default: bool,
    /// What it shares with others.
    pub common: Common,
}

impl BridgeConfig {
    /// Docker's defaults for a default bridge of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ipv4: true,
            address: None,
            ipv6: false,
            address6: None,
            fixed_cidr: None,
            fixed_cidr6: None,
            gateway: None,
            gateway6: None,
            reserved: Vec::new(),
            pools: crate::ipam::default_pools(),
            mtu_bytes: 0,
            forwarding_was_off: false,
            masquerade: true,
            source: [None; 2],
            icc: true,
            internal: false,
            modes: [GatewayMode::Nat; 2],
            inhibit_ipv4: false,
            default: true,
            common: Common::default(),
        }
    }
}

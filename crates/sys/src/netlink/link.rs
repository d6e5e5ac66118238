//! Links: bridges, veth pairs, bridge ports (`struct ifinfomsg`).

use super::{Attributes, Message, Request, message::read_u32};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Length of `struct ifinfomsg`.
pub(super) const FIXED: usize = 16;
const UP: u32 = libc::IFF_UP as u32;
const VETH_INFO_PEER: u16 = 1;
const BR_STP_STATE: u16 = 5;
const BR_MCAST_SNOOPING: u16 = 23;
const PORT_MODE: u16 = 4;
const PORT_ISOLATED: u16 = 33;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, ...; empty for hardware and loopback.
    pub kind: String,
    /// Whether it is up.
    pub up: bool,
    /// The number of the bridge it is a port of.
    pub master: Option<u32>,
    /// Link address.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// A free text that whoever made it left on it.
    pub alias: String,
    /// The number of the other end (veth) or of the link below.
    pub peer: Option<u32>,
}

impl Link {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let attributes = Attributes::after(payload, FIXED);
        Some(Self {
            index: read_u32(payload.get(4..)?)?,
            name: attributes.text(libc::IFLA_IFNAME)?,
            kind: attributes
                .nested(libc::IFLA_LINKINFO)
                .text(libc::IFLA_INFO_KIND)
                .unwrap_or_default(),
            up: read_u32(payload.get(8..)?)? & UP != 0,
            master: attributes.number(libc::IFLA_MASTER).filter(|index| *index != 0),
            mac: attributes.value(libc::IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()),
            mtu: attributes.number(libc::IFLA_MTU).unwrap_or(0),
            alias: attributes.text(libc::IFLA_IFALIAS).unwrap_or_default(),
            peer: attributes.number(libc::IFLA_LINK),
        })
    }
}

/// A pair of links, one of them born in another network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub host: &'a str,
    /// Name of the other end.
    pub peer: &'a str,
    /// Namespace of the other end.
    pub netns: BorrowedFd<'a>,
    /// Link address of the other end.
    pub peer_mac: Option<[u8; 6]>,
    /// Bridge that the end here joins.
    pub master: Option<u32>,
    /// MTU in bytes of both; 0 for the default.
    pub mtu: u32,
}

/// A link over another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// With a link address of its own; `MACVLAN_MODE_*`.
    Macvlan(u32),
    /// With the link address of the one below; `IPVLAN_MODE_*` and `IPVLAN_F_*`.
    Ipvlan(u16, u16),
    /// The frames with this tag.
    Vlan(u16),
}

impl Over {
    fn kind(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
            Self::Vlan(_) => "vlan",
        }
    }
}

/// How a bridge treats one of its ports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    /// Frames may leave by the port they came in by.
    pub hairpin: bool,
    /// Frames never go to another isolated port.
    pub isolated: bool,
}

fn fixed(family: libc::c_int, index: u32, flags: u32) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn new(flags: i32, index: u32, link_flags: u32) -> Message {
    Message::new(libc::RTM_NEWLINK, flags, &fixed(libc::AF_UNSPEC, index, link_flags))
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

fn with_mtu(message: Message, mtu: u32) -> Message {
    if mtu == 0 { message } else { message.with_u32(libc::IFLA_MTU, mtu) }
}

/// Link-local IPv6 addresses are not made by themselves.
fn without_ipv6_address(message: Message) -> Message {
    message.nest(libc::IFLA_AF_SPEC, |m| {
        m.nest(libc::AF_INET6 as u16, |m| m.with_u8(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE))
    })
}

impl Request {
    /// Makes a bridge, down, without spanning tree and without snooping of multicast (which would delay
    /// frames while the bridge listens for queriers).
    pub fn add_bridge(name: &str, mac: Option<[u8; 6]>, mtu: u32) -> Self {
        let mut message = with_mtu(new(CREATE, 0, 0).with_str(libc::IFLA_IFNAME, name), mtu);
        if let Some(mac) = mac {
            message.push(libc::IFLA_ADDRESS, &mac);
        }
        let message = message.nest(libc::IFLA_LINKINFO, |m| {
            m.with_str(libc::IFLA_INFO_KIND, "bridge").nest(libc::IFLA_INFO_DATA, |m| {
                m.with_u32(BR_STP_STATE, 0).with_u8(BR_MCAST_SNOOPING, 0)
            })
        });
        Self::new(message, format!("add bridge {name}"))
    }

    /// Makes a link over the link with number `below`, down, in another namespace if one is given.
    pub fn add_over(
        name: &str,
        below: u32,
        over: Over,
        netns: Option<BorrowedFd<'_>>,
        mac: Option<[u8; 6]>,
        mtu: u32,
    ) -> Self {
        const MODE: u16 = 1;
        const FLAGS: u16 = 2;
        let message = new(CREATE, 0, 0).with_str(libc::IFLA_IFNAME, name);
        let mut message = with_mtu(message, mtu).with_u32(libc::IFLA_LINK, below);
        if let Some(mac) = mac {
            message.push(libc::IFLA_ADDRESS, &mac);
        }
        if let Some(netns) = netns {
            message = message.with_u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        }
        let message = message.nest(libc::IFLA_LINKINFO, |m| {
            m.with_str(libc::IFLA_INFO_KIND, over.kind()).nest(libc::IFLA_INFO_DATA, |m| match over
            {
                Over::Macvlan(mode) => m.with_u32(MODE, mode),
                Over::Ipvlan(mode, flags) => {
                    m.with(MODE, &mode.to_ne_bytes()).with(FLAGS, &flags.to_ne_bytes())
                }
                Over::Vlan(tag) => m.with(MODE, &tag.to_ne_bytes()),
            })
        });
        Self::new(message, format!("add {} link {name} over link {below}", over.kind()))
    }

    /// Makes a link that leads nowhere, down.
    pub fn add_dummy(name: &str) -> Self {
        let message = new(CREATE, 0, 0).with_str(libc::IFLA_IFNAME, name);
        let message =
            message.nest(libc::IFLA_LINKINFO, |m| m.with_str(libc::IFLA_INFO_KIND, "dummy"));
        Self::new(message, format!("add dummy link {name}"))
    }

    /// Makes a pair of links, both down, in one message.
    pub fn add_veth(veth: &Veth<'_>) -> Self {
        let mut message =
            with_mtu(new(CREATE, 0, 0).with_str(libc::IFLA_IFNAME, veth.host), veth.mtu);
        if let Some(master) = veth.master {
            message = message.with_u32(libc::IFLA_MASTER, master);
        }
        let message = message.nest(libc::IFLA_LINKINFO, |m| {
            m.with_str(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    let peer =
                        m.raw(&fixed(libc::AF_UNSPEC, 0, 0)).with_str(libc::IFLA_IFNAME, veth.peer);
                    let mut peer = with_mtu(peer, veth.mtu)
                        .with_u32(libc::IFLA_NET_NS_FD, veth.netns.as_raw_fd().cast_unsigned());
                    if let Some(mac) = veth.peer_mac {
                        peer.push(libc::IFLA_ADDRESS, &mac);
                    }
                    peer
                })
            })
        });
        Self::new(message, format!("add veth pair {} and {}", veth.host, veth.peer))
    }

    /// Sets a bridge port up, without an IPv6 address, with the bridge's settings for it, all in one message.
    pub fn set_port_up(name: &str, port: Port) -> Self {
        let message =
            new(0, 0, UP).with_str(libc::IFLA_IFNAME, name).nest(libc::IFLA_LINKINFO, |m| {
                m.with_str(libc::IFLA_INFO_SLAVE_KIND, "bridge").nest(
                    libc::IFLA_INFO_SLAVE_DATA,
                    |m| {
                        m.with_u8(PORT_MODE, port.hairpin.into())
                            .with_u8(PORT_ISOLATED, port.isolated.into())
                    },
                )
            });
        Self::new(message, format!("set bridge port {name} up"))
    }

    /// The same, and keeps the port from making itself an IPv6 address; fails where IPv6 is absent.
    pub fn no_ipv6_address(name: &str) -> Self {
        let message = Message::new(libc::RTM_SETLINK, 0, &fixed(libc::AF_UNSPEC, 0, 0));
        let message = without_ipv6_address(message.with_str(libc::IFLA_IFNAME, name));
        Self::new(message, format!("keep IPv6 addresses off link {name}"))
    }

    /// Sets a link up.
    pub fn set_up(index: u32) -> Self {
        Self::new(new(0, index, UP), format!("set link {index} up"))
    }

    /// Makes a link the port of a bridge.
    pub fn set_master(name: &str, master: u32) -> Self {
        let message =
            new(0, 0, 0).with_str(libc::IFLA_IFNAME, name).with_u32(libc::IFLA_MASTER, master);
        Self::new(message, format!("make link {name} a port of link {master}"))
    }

    /// Leaves a text on a link, for whoever finds it later. Sent together with what makes the link there is no moment at
    /// which it is there without.
    pub fn set_alias(name: &str, alias: &str) -> Self {
        let message = Message::new(libc::RTM_SETLINK, 0, &fixed(libc::AF_UNSPEC, 0, 0));
        let message = message.with_str(libc::IFLA_IFNAME, name);
        Self::new(
            message.with(libc::IFLA_IFALIAS, alias.as_bytes()),
            format!("set alias of link {name}"),
        )
    }

    /// Gives a link this address; a bridge then keeps it, whatever ports come and go.
    pub fn set_mac(index: u32, mac: [u8; 6]) -> Self {
        let message = Message::new(libc::RTM_SETLINK, 0, &fixed(libc::AF_UNSPEC, index, 0));
        Self::new(message.with(libc::IFLA_ADDRESS, &mac), format!("set address of link {index}"))
    }

    /// Gives a link this MTU.
    pub fn set_mtu(index: u32, mtu: u32) -> Self {
        Self::new(
            new(0, index, 0).with_u32(libc::IFLA_MTU, mtu),
            format!("set MTU of link {index}"),
        )
    }

    /// Brings a link into another namespace, down, under another name.
    pub fn move_link(index: u32, netns: BorrowedFd<'_>, name: &str) -> Self {
        let message = new(0, index, 0)
            .with_u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned())
            .with_str(libc::IFLA_IFNAME, name);
        Self::new(message, format!("bring link {index} into a namespace as {name}"))
    }

    /// Removes a link, and with it the other end of a pair.
    pub fn delete_link(name: &str) -> Self {
        let message = Message::new(libc::RTM_DELLINK, 0, &fixed(libc::AF_UNSPEC, 0, 0));
        Self::new(message.with_str(libc::IFLA_IFNAME, name), format!("delete link {name}"))
    }

    /// Asks for the link of this name.
    pub fn get_link(name: &str) -> Self {
        let message = Message::new(libc::RTM_GETLINK, 0, &fixed(libc::AF_UNSPEC, 0, 0));
        Self::new(message.with_str(libc::IFLA_IFNAME, name), format!("find link {name}"))
    }

    /// Asks for all links, or with a master for its ports.
    pub fn list_links(master: Option<u32>) -> Self {
        let mut message = Message::new(libc::RTM_GETLINK, 0, &fixed(libc::AF_UNSPEC, 0, 0));
        if let Some(master) = master {
            message = message.with_u32(libc::IFLA_MASTER, master);
        }
        Self::new(message, "list links")
    }
}

/// Whether a reply announces or describes a link.
pub(super) fn is_link(kind: u16) -> bool {
    kind == libc::RTM_NEWLINK
}

//! The packet filter of one bridge: a table of its own, with published ports as map elements.
//!
//! Rules are few and never change; a container adds and removes elements of two maps, `any` (protocol,
//! port) for ports published on all addresses and `at` (protocol, address, port) for the others.
//!
//! Invariants: what this process knows is what the table should hold, and [`Firewall::mend`] makes it so;
//! a packet reaches a container only as an answer, by a published port, or from its own bridge; a packet
//! that comes in by a link and says 127.0.0.0/8 is never translated and never enters from the bridge.
//! The verdict "accept" binds this table alone: a `DROP` in another table of the same hook (the policy that
//! a second engine sets on `FORWARD`, say) still holds.
//! Not here: IPv6.

use super::kernel;
use crate::{BridgeConfig, Published, Repair, Subnet};
use base::Result;
use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};
use sys::nft::{
    Batch, Chain, Cmp, Ct, Element, Expr, Hook, Map, Meta, Nft, Register, Set, Verdict,
};

/// Types of keys, by the numbers that `nft list` knows.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

const ANY: &str = "any";
const AT: &str = "at";
/// Present only when forwarding was off before the daemon came.
const ROUTER: &str = "router";

const RAW: i32 = -300;
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DESTINATION_CHANGED: u32 = 0x20;
/// Of a `fib` lookup: an address of this machine.
const LOCAL: u32 = 2;

/// What the rules follow from.
#[derive(Clone, Debug)]
struct Shape {
    table: String,
    bridge: String,
    subnet: Subnet,
    masquerade: bool,
    icc: bool,
    /// Forwarding was off before, so this machine is to be no router for others.
    no_router: bool,
}

/// The table of one bridge.
#[derive(Debug)]
pub(super) struct Firewall {
    nft: Nft,
    shape: Shape,
    published: HashMap<Published, Ipv4Addr>,
}

impl Firewall {
    /// Opens the packet filter. The table is written by the first [`Firewall::mend`] at the latest; here it
    /// is made without ports unless it is there, so that a running container's ports are not cut off while
    /// the daemon starts.
    pub(super) fn open(config: &BridgeConfig, subnet: Subnet, no_router: bool) -> Result<Self> {
        let mut nft = Nft::open().map_err(kernel)?;
        let table = format!("gantry-{}", config.name);
        let rules = nft.rules(&table).map_err(kernel)?;
        let shape = Shape {
            bridge: config.name.clone(),
            subnet: subnet.network(),
            masquerade: config.masquerade,
            icc: config.icc,
            no_router: no_router || rules.iter().any(|chain| chain == ROUTER),
            table,
        };
        let mut firewall = Self { nft, shape, published: HashMap::new() };
        if rules.is_empty() {
            firewall.write()?;
        }
        Ok(firewall)
    }

    pub(super) fn table(&self) -> &str {
        &self.shape.table
    }

    /// Publishes ports of a container.
    pub(super) fn publish(&mut self, address: Ipv4Addr, ports: &[Published]) -> Result<()> {
        let (any, at) = elements(ports.iter().map(|port| (port, address)));
        self.published.extend(ports.iter().map(|port| (port.clone(), address)));
        let mut batch = Batch::new();
        batch.add_elements(&self.shape.table, ANY, &any);
        batch.add_elements(&self.shape.table, AT, &at);
        // When the table is gone or differs from what it should be, it is written anew.
        let result = self.nft.commit(&batch).map_err(kernel).or_else(|_| self.write());
        if result.is_err() {
            self.published.retain(|port, _| !ports.contains(port));
        }
        result
    }

    /// Takes ports back; those not published are passed over.
    pub(super) fn withdraw(&mut self, ports: &[Published]) -> Result<()> {
        let known: Vec<_> =
            ports.iter().filter_map(|port| Some((port, self.published.remove(port)?))).collect();
        let (any, at) = elements(known);
        let keys = |all: Vec<Element>| {
            all.into_iter().map(|e| Element { value: None, ..e }).collect::<Vec<_>>()
        };
        let mut batch = Batch::new();
        batch.delete_elements(&self.shape.table, ANY, &keys(any));
        batch.delete_elements(&self.shape.table, AT, &keys(at));
        self.nft.commit(&batch).map_err(kernel).or_else(|_| self.write())
    }

    /// Whether this port of a container is published already.
    pub(super) fn knows(&self, address: Ipv4Addr, port: &Published) -> bool {
        self.published.get(port) == Some(&address)
    }

    /// Takes these ports as published too; to be followed by [`Firewall::mend`].
    pub(super) fn assume(&mut self, published: Vec<(Ipv4Addr, Published)>) {
        self.published.extend(published.into_iter().map(|(address, port)| (port, address)));
    }

    /// Writes the table anew if anything in it is not as it should be.
    pub(super) fn mend(&mut self, repair: &mut Repair) {
        if let Err(error) = self.try_mend(repair) {
            repair.failures.push(error.chain());
        }
    }

    fn try_mend(&mut self, repair: &mut Repair) -> Result<()> {
        let mut rules = self.nft.rules(&self.shape.table).map_err(kernel)?;
        let mut wanted: Vec<_> =
            self.shape.rules().into_iter().map(|(chain, _)| chain.to_owned()).collect();
        rules.sort();
        wanted.sort();
        let there = self.there()?;
        let wanted_elements = self.wanted();
        let missing = wanted_elements.difference(&there).count();
        let strange = there.difference(&wanted_elements).count();
        if rules == wanted && missing == 0 && strange == 0 {
            return Ok(());
        }
        self.write()?;
        repair.table_made |= rules != wanted;
        repair.ports_added += missing;
        repair.ports_removed += strange;
        Ok(())
    }

    /// Elements in the maps that nobody published.
    pub(super) fn strangers(&mut self) -> Result<usize> {
        let there = self.there()?;
        Ok(there.difference(&self.wanted()).count())
    }

    pub(super) fn remove(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        batch.add_table(&self.shape.table);
        batch.delete_table(&self.shape.table);
        self.nft.commit(&batch).map_err(kernel)
    }

    fn there(&mut self) -> Result<HashSet<Element>> {
        let mut all = HashSet::new();
        for map in [ANY, AT] {
            all.extend(
                self.nft.elements(&self.shape.table, map).map_err(kernel)?.unwrap_or_default(),
            );
        }
        Ok(all)
    }

    fn wanted(&self) -> HashSet<Element> {
        let (any, at) = elements(self.published.iter().map(|(port, address)| (port, *address)));
        any.into_iter().chain(at).collect()
    }

    /// Replaces the whole table in one step.
    fn write(&mut self) -> Result<()> {
        let mut batch = self.shape.batch();
        let (any, at) = elements(self.published.iter().map(|(port, address)| (port, *address)));
        batch.add_elements(&self.shape.table, ANY, &any);
        batch.add_elements(&self.shape.table, AT, &at);
        self.nft.commit(&batch).map_err(kernel)
    }
}

/// The elements of both maps for these ports. Keys of `any` have two parts, those of `at` three, so they
/// never meet.
fn elements<'a>(
    ports: impl IntoIterator<Item = (&'a Published, Ipv4Addr)>,
) -> (Vec<Element>, Vec<Element>) {
    let (mut any, mut at) = (Vec::new(), Vec::new());
    for (port, address) in ports {
        let protocol = [port.protocol.number(), 0, 0, 0];
        let padded = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
        let value = Some([&address.octets()[..], &padded(port.container_port)].concat());
        if port.host_ip.is_unspecified() {
            any.push(Element { key: [&protocol[..], &padded(port.host_port)].concat(), value });
        } else {
            let key = [&protocol[..], &port.host_ip.octets(), &padded(port.host_port)].concat();
            at.push(Element { key, value });
        }
    }
    (any, at)
}

impl Shape {
    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        let table = &self.table;
        batch.renew_table(table);
        let map = |name, key_type, key_bytes| Map {
            set: Set { name, key_type, key_bytes },
            value_type: (ADDRESS << TYPE_BITS) | PORT,
            value_bytes: 8,
        };
        batch.add_map(table, &map(ANY, (PROTOCOL << TYPE_BITS) | PORT, 8));
        batch.add_map(
            table,
            &map(AT, (((PROTOCOL << TYPE_BITS) | ADDRESS) << TYPE_BITS) | PORT, 12),
        );
        for (name, base) in [
            ("publish", None),
            ("inward", None),
            ("guard", Some(("filter", Hook::Prerouting, RAW))),
            ("prerouting", Some(("nat", Hook::Prerouting, DNAT))),
            ("output", Some(("nat", Hook::Output, DNAT))),
            ("forward", Some(("filter", Hook::Forward, FILTER))),
            ("postrouting", Some(("nat", Hook::Postrouting, SNAT))),
        ] {
            batch.add_chain(table, &Chain { name, base });
        }
        if self.no_router {
            batch.add_chain(
                table,
                &Chain { name: ROUTER, base: Some(("filter", Hook::Forward, FILTER)) },
            );
        }
        for (chain, rule) in self.rules() {
            batch.add_rule(table, chain, &rule);
        }
        batch
    }

    /// All rules, each with its chain, in order.
    fn rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let mut all = self.guard_rules();
        all.extend(self.publish_rules());
        all.extend(self.forward_rules());
        all.extend(self.source_rules());
        all
    }

    fn in_by_bridge(&self) -> [Expr; 2] {
        Expr::input(&self.bridge, Cmp::Eq)
    }

    fn out_by_bridge(&self) -> [Expr; 2] {
        Expr::output(&self.bridge, Cmp::Eq)
    }

    fn source_inside(&self) -> [Expr; 3] {
        Expr::source(self.subnet.first().octets(), self.subnet.mask().octets())
    }

    fn destination_inside(&self) -> [Expr; 3] {
        Expr::destination(self.subnet.first().octets(), self.subnet.mask().octets())
    }

    /// The bridge may carry loopback addresses (for the host's own connections), so containers must be kept
    /// from using them to reach what listens on the host's loopback.
    fn guard_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        vec![
            ("guard", rule([self.in_by_bridge().to_vec(), to_loopback().to_vec()], Verdict::Drop)),
            (
                "guard",
                rule([self.in_by_bridge().to_vec(), from_loopback().to_vec()], Verdict::Drop),
            ),
        ]
    }

    fn publish_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let r = Register;
        let local = || {
            [Expr::DestinationKind(r(0)), Expr::Cmp(r(0), Cmp::Eq, LOCAL.to_ne_bytes().to_vec())]
        };
        let publish = || Verdict::Jump("publish".to_owned());
        let port = |cell| Expr::TransportHeader(2, 2, r(cell));
        let dnat = || Expr::Dnat(r(8), r(9));
        vec![
            ("prerouting", rule([to_loopback().to_vec()], Verdict::Return)),
            ("prerouting", rule([local().to_vec()], publish())),
            ("output", rule([local().to_vec()], publish())),
            (
                "publish",
                vec![
                    Expr::Meta(Meta::Transport, r(0)),
                    Expr::Network(16, 4, r(1)),
                    port(2),
                    Expr::Map(r(0), AT.to_owned(), r(8)),
                    dnat(),
                ],
            ),
            (
                "publish",
                vec![
                    Expr::Meta(Meta::Transport, r(0)),
                    port(1),
                    Expr::Map(r(0), ANY.to_owned(), r(8)),
                    dnat(),
                ],
            ),
        ]
    }

    fn forward_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let siblings = if self.icc { Verdict::Accept } else { Verdict::Drop };
        let mut all = vec![
            ("forward", rule([self.out_by_bridge().to_vec()], Verdict::Jump("inward".to_owned()))),
            (
                "inward",
                rule([Expr::ct(Ct::State, ESTABLISHED_OR_RELATED).to_vec()], Verdict::Accept),
            ),
            ("inward", rule([Expr::ct(Ct::Status, DESTINATION_CHANGED).to_vec()], Verdict::Accept)),
            ("inward", rule([self.in_by_bridge().to_vec()], siblings)),
            ("inward", rule([], Verdict::Drop)),
        ];
        if self.no_router {
            all.extend([
                (ROUTER, rule([Expr::input_kind("bridge").to_vec()], Verdict::Accept)),
                (ROUTER, rule([Expr::output_kind("bridge").to_vec()], Verdict::Accept)),
                (ROUTER, rule([], Verdict::Drop)),
            ]);
        }
        all
    }

    /// Who gets the host's address: containers towards the outside; the host's loopback towards containers;
    /// and containers that use a published port of their own bridge, because the answer would otherwise
    /// take the short way and not be recognised.
    fn source_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let changed = Expr::ct(Ct::Status, DESTINATION_CHANGED).to_vec();
        let masquerade = |conditions: Vec<Vec<Expr>>| {
            ("postrouting", conditions.into_iter().flatten().chain([Expr::Masquerade]).collect())
        };
        let mut all = vec![
            masquerade(vec![self.out_by_bridge().to_vec(), from_loopback().to_vec()]),
            masquerade(vec![
                self.source_inside().to_vec(),
                self.destination_inside().to_vec(),
                changed,
            ]),
        ];
        if self.masquerade {
            let outward = Expr::output(&self.bridge, Cmp::Ne).to_vec();
            all.push(masquerade(vec![outward, self.source_inside().to_vec()]));
        }
        all
    }
}

fn rule<const N: usize>(conditions: [Vec<Expr>; N], verdict: Verdict) -> Vec<Expr> {
    conditions.into_iter().flatten().chain([Expr::Verdict(verdict)]).collect()
}

fn to_loopback() -> [Expr; 3] {
    Expr::destination([127, 0, 0, 0], [255, 0, 0, 0])
}

fn from_loopback() -> [Expr; 3] {
    Expr::source([127, 0, 0, 0], [255, 0, 0, 0])
}

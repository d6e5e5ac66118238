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
//! One table per family; both have the same rules.
//! Not here: which ports are taken (`ports.rs`).

use super::kernel;
use crate::{BridgeConfig, GatewayMode, Published, Repair, Subnet, subnet::octets};
use base::{Error, Result};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
};
use sys::nft::{
    Batch, Chain, Cmp, Ct, Element, Expr, Family, Hook, Map, Meta, Nft, Register, Set, Verdict,
};

/// Types of keys, by the numbers that `nft list` knows.
const ADDRESS: u32 = 7;
const ADDRESS6: u32 = 8;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

const ANY: &str = "any";
const AT: &str = "at";
/// Ports of containers that are reached as they are, where nothing is translated.
const OPEN: &str = "open";
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
    family: Family,
    table: String,
    bridge: String,
    subnet: Subnet,
    masquerade: bool,
    source: Option<IpAddr>,
    icc: bool,
    internal: bool,
    mode: GatewayMode,
    /// Forwarding was off before, so this machine is to be no router for others.
    no_router: bool,
}

fn table_of(config: &BridgeConfig) -> String {
    format!("gantry-{}", config.name)
}

/// Takes a table away, whether or not it is there.
fn drop_table(nft: &mut Nft, family: Family, table: &str) -> Result<()> {
    let mut batch = Batch::new(family);
    batch.add_table(table);
    batch.delete_table(table);
    nft.commit(&batch).map_err(kernel)
}

/// Takes away the table of a bridge that did not come to be.
pub(super) fn remove(config: &BridgeConfig, ipv6: bool) -> Result<()> {
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    drop_table(&mut Nft::open(family).map_err(without_nftables)?, family, &table_of(config))
}

/// The table of one bridge.
#[derive(Debug)]
pub(super) struct Firewall {
    nft: Nft,
    shape: Shape,
    published: HashMap<Published, IpAddr>,
    /// It was taken away with its network: whoever still mends or withdraws must not make it anew.
    removed: bool,
}

impl Firewall {
    /// Opens the packet filter. The table is written by the first [`Firewall::mend`] at the latest; here it
    /// is made without ports unless it is there, so that a running container's ports are not cut off while
    /// the daemon starts.
    pub(super) fn open(config: &BridgeConfig, subnet: Subnet, no_router: bool) -> Result<Self> {
        let family = if subnet.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 };
        let which = usize::from(subnet.is_ipv6());
        let mut nft = Nft::open(family).map_err(without_nftables)?;
        let table = table_of(config);
        let rules = nft.rules(&table).map_err(without_nftables)?;
        let shape = Shape {
            family,
            bridge: config.name.clone(),
            subnet: subnet.network(),
            masquerade: config.masquerade,
            source: config.source[which],
            icc: config.icc,
            internal: config.internal,
            mode: config.modes[which],
            no_router: no_router || rules.iter().any(|chain| chain == ROUTER),
            table,
        };
        let mut firewall = Self { nft, shape, published: HashMap::new(), removed: false };
        if rules.is_empty() {
            firewall.write()?;
        }
        Ok(firewall)
    }

    pub(super) fn family(&self) -> Family {
        self.shape.family
    }

    pub(super) fn table(&self) -> &str {
        &self.shape.table
    }

    /// Publishes ports of a container.
    pub(super) fn publish(&mut self, address: IpAddr, ports: &[Published]) -> Result<()> {
        let elements = elements(ports.iter().map(|port| (port, address)));
        self.published.extend(ports.iter().map(|port| (port.clone(), address)));
        let mut batch = Batch::new(self.shape.family);
        for (set, elements) in &elements {
            batch.add_elements(&self.shape.table, set, elements);
        }
        // When the table is gone or differs from what it should be, it is written anew.
        let result = self.nft.commit(&batch).map_err(kernel).or_else(|_| self.write());
        if result.is_err() {
            self.published.retain(|port, _| !ports.contains(port));
        }
        result
    }

    /// Takes ports back; those not published are passed over.
    pub(super) fn withdraw(&mut self, ports: &[Published]) -> Result<()> {
        if self.removed {
            return Ok(());
        }
        let known: Vec<_> =
            ports.iter().filter_map(|port| Some((port, self.published.remove(port)?))).collect();
        let mut batch = Batch::new(self.shape.family);
        for (set, elements) in elements(known) {
            let keys: Vec<_> = elements.into_iter().map(|e| Element { value: None, ..e }).collect();
            batch.delete_elements(&self.shape.table, set, &keys);
        }
        self.nft.commit(&batch).map_err(kernel).or_else(|_| self.write())
    }

    /// Whether this port of a container is published already.
    pub(super) fn knows(&self, address: IpAddr, port: &Published) -> bool {
        self.published.get(port) == Some(&address)
    }

    /// Takes these ports as published too; to be followed by [`Firewall::mend`].
    pub(super) fn assume(&mut self, published: Vec<(IpAddr, Published)>) {
        self.published.extend(published.into_iter().map(|(address, port)| (port, address)));
    }

    /// Writes the table anew if anything in it is not as it should be.
    pub(super) fn mend(&mut self, repair: &mut Repair) {
        if let Err(error) = self.try_mend(repair) {
            repair.failures.push(error.chain());
        }
    }

    fn try_mend(&mut self, repair: &mut Repair) -> Result<()> {
        if self.removed {
            return Ok(());
        }
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
        self.removed = true;
        drop_table(&mut self.nft, self.shape.family, &self.shape.table)
    }

    fn there(&mut self) -> Result<HashSet<(&'static str, Element)>> {
        let mut all = HashSet::new();
        for set in self.shape.sets() {
            let found = self.nft.elements(&self.shape.table, set).map_err(kernel)?;
            all.extend(found.unwrap_or_default().into_iter().map(|element| (set, element)));
        }
        Ok(all)
    }

    fn wanted(&self) -> HashSet<(&'static str, Element)> {
        elements(self.published.iter().map(|(port, address)| (port, *address)))
            .into_iter()
            .flat_map(|(set, all)| all.into_iter().map(move |element| (set, element)))
            .collect()
    }

    /// Replaces the whole table in one step.
    fn write(&mut self) -> Result<()> {
        if self.removed {
            return Err(Error::not_found(format!(
                "the network of the bridge {} is removed",
                self.shape.bridge
            )));
        }
        let mut batch = self.shape.batch();
        for (set, all) in elements(self.published.iter().map(|(port, address)| (port, *address))) {
            batch.add_elements(&self.shape.table, set, &all);
        }
        self.nft.commit(&batch).map_err(kernel)
    }
}

/// A kernel that has xtables alone (`iptables-legacy`) knows nothing of tables: that is said in words.
fn without_nftables(error: sys::netlink::Error) -> Error {
    const PROTONOSUPPORT: i32 = 93;
    const OPNOTSUPP: i32 = 95;
    const INVAL: i32 = 22;
    match error.errno.raw_os_error() {
        PROTONOSUPPORT | OPNOTSUPP | INVAL => Error::invalid(
            "the kernel of this machine has no nf_tables, and rules of iptables-legacy are not made: load the module nf_tables, or start the daemon with --iptables=false, then no port is published",
        )
        .caused_by(kernel(error)),
        _ => kernel(error),
    }
}

/// The elements that these ports are, by their sets.
fn elements<'a>(
    ports: impl IntoIterator<Item = (&'a Published, IpAddr)>,
) -> Vec<(&'static str, Vec<Element>)> {
    let (mut any, mut at, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for (port, address) in ports {
        let protocol = [port.protocol.number(), 0, 0, 0];
        let padded = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
        let value = Some([octets(address), padded(port.container_port)].concat());
        if port.host_port == 0 {
            let key = [&protocol[..], &octets(address), &padded(port.container_port)].concat();
            open.push(Element { key, value: None });
        } else if port.host_ip.is_unspecified() {
            any.push(Element { key: [&protocol[..], &padded(port.host_port)].concat(), value });
        } else {
            let key = [&protocol[..], &octets(port.host_ip), &padded(port.host_port)].concat();
            at.push(Element { key, value });
        }
    }
    // One that several addresses of the host are to lead to is open once.
    open.sort();
    open.dedup();
    [(ANY, any), (AT, at), (OPEN, open)].into_iter().filter(|(_, all)| !all.is_empty()).collect()
}

impl Shape {
    /// Bytes of an address, in registers of four.
    fn width(&self) -> (u32, u8) {
        match self.family {
            Family::Ipv4 | Family::Inet => (4, 1),
            Family::Ipv6 => (16, 4),
        }
    }

    fn translates(&self) -> bool {
        self.mode.translates() && !self.internal
    }

    /// Sets and maps that this table has.
    fn sets(&self) -> Vec<&'static str> {
        match (self.internal, self.mode) {
            (true, _) | (_, GatewayMode::Isolated) => Vec::new(),
            (false, GatewayMode::Routed) => vec![OPEN],
            (false, _) => vec![ANY, AT],
        }
    }

    fn add_sets(&self, batch: &mut Batch) {
        let table = &self.table;
        let address = if self.family == Family::Ipv6 { ADDRESS6 } else { ADDRESS };
        let bytes = self.width().0;
        let map = |name, key_type, key_bytes| Map {
            set: Set { name, key_type, key_bytes },
            value_type: (address << TYPE_BITS) | PORT,
            value_bytes: bytes + 4,
        };
        let whole = (((PROTOCOL << TYPE_BITS) | address) << TYPE_BITS) | PORT;
        for set in self.sets() {
            match set {
                ANY => batch.add_map(table, &map(ANY, (PROTOCOL << TYPE_BITS) | PORT, 8)),
                AT => batch.add_map(table, &map(AT, whole, bytes + 8)),
                _ => {
                    batch
                        .add_set(table, &Set { name: OPEN, key_type: whole, key_bytes: bytes + 8 });
                }
            }
        }
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new(self.family);
        let table = &self.table;
        batch.renew_table(table);
        self.add_sets(&mut batch);
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
        Expr::source(&octets(self.subnet.first()), &octets(self.subnet.mask()))
    }

    fn destination_inside(&self) -> [Expr; 3] {
        Expr::destination(&octets(self.subnet.first()), &octets(self.subnet.mask()))
    }

    /// Loopback addresses of the family and their mask.
    fn loopback(&self) -> [Vec<u8>; 2] {
        match self.family {
            Family::Ipv4 | Family::Inet => [vec![127, 0, 0, 0], vec![255, 0, 0, 0]],
            Family::Ipv6 => [Ipv6Addr::LOCALHOST.octets().to_vec(), vec![255; 16]],
        }
    }

    fn loopback_destination(&self) -> [Expr; 3] {
        let [network, mask] = self.loopback();
        Expr::destination(&network, &mask)
    }

    fn loopback_source(&self) -> [Expr; 3] {
        let [network, mask] = self.loopback();
        Expr::source(&network, &mask)
    }

    /// The bridge may carry loopback addresses (for the host's own connections), so containers must be kept
    /// from using them to reach what listens on the host's loopback.
    fn guard_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        [self.loopback_destination(), self.loopback_source()]
            .map(|loopback| {
                ("guard", rule([self.in_by_bridge().to_vec(), loopback.to_vec()], Verdict::Drop))
            })
            .to_vec()
    }

    fn publish_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        if !self.translates() {
            return Vec::new();
        }
        let r = Register;
        let (bytes, cells) = self.width();
        let local = || {
            [Expr::DestinationKind(r(0)), Expr::Cmp(r(0), Cmp::Eq, LOCAL.to_ne_bytes().to_vec())]
        };
        let publish = || Verdict::Jump("publish".to_owned());
        let port = |cell| Expr::TransportHeader(2, 2, r(cell));
        let dnat = || Expr::Dnat(r(8), r(8 + cells));
        let destination = if self.family == Family::Ipv6 { 24 } else { 16 };
        vec![
            ("prerouting", rule([self.loopback_destination().to_vec()], Verdict::Return)),
            ("prerouting", rule([local().to_vec()], publish())),
            ("output", rule([local().to_vec()], publish())),
            (
                "publish",
                vec![
                    Expr::Meta(Meta::Transport, r(0)),
                    Expr::Network(destination, bytes, r(1)),
                    port(1 + cells),
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
        let siblings = || if self.icc { Verdict::Accept } else { Verdict::Drop };
        let mut all = Vec::new();
        all.push((
            "forward",
            rule([self.out_by_bridge().to_vec()], Verdict::Jump("inward".into())),
        ));
        if self.internal || self.mode == GatewayMode::Isolated {
            all.push(("forward", rule([self.in_by_bridge().to_vec()], Verdict::Drop)));
            all.push(("inward", rule([self.in_by_bridge().to_vec()], siblings())));
        } else {
            let answers = Expr::ct(Ct::State, ESTABLISHED_OR_RELATED).to_vec();
            all.push(("inward", rule([answers], Verdict::Accept)));
            if self.translates() {
                let published = Expr::ct(Ct::Status, DESTINATION_CHANGED).to_vec();
                all.push(("inward", rule([published], Verdict::Accept)));
            }
            all.push(("inward", rule([self.in_by_bridge().to_vec()], siblings())));
            all.extend(self.direct_rules());
        }
        all.push(("inward", rule([], Verdict::Drop)));
        if self.no_router {
            all.extend([
                (ROUTER, rule([Expr::input_kind("bridge").to_vec()], Verdict::Accept)),
                (ROUTER, rule([Expr::output_kind("bridge").to_vec()], Verdict::Accept)),
                (ROUTER, rule([], Verdict::Drop)),
            ]);
        }
        all
    }

    /// Who reaches containers by their own addresses from outside.
    fn direct_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let r = Register;
        let (bytes, cells) = self.width();
        let destination = if self.family == Family::Ipv6 { 24 } else { 16 };
        match self.mode {
            GatewayMode::NatUnprotected => vec![("inward", rule([], Verdict::Accept))],
            GatewayMode::Routed => {
                let echo = match self.family {
                    Family::Ipv4 | Family::Inet => control(1),
                    Family::Ipv6 => control(58),
                };
                let open = vec![
                    Expr::Meta(Meta::Transport, r(0)),
                    Expr::Network(destination, bytes, r(1)),
                    Expr::TransportHeader(2, 2, r(1 + cells)),
                    Expr::InSet(r(0), OPEN.to_owned()),
                ];
                vec![
                    ("inward", rule([echo], Verdict::Accept)),
                    ("inward", rule([open], Verdict::Accept)),
                ]
            }
            GatewayMode::Nat | GatewayMode::Isolated => Vec::new(),
        }
    }

    /// Who gets the host's address: containers towards the outside; the host's loopback towards containers;
    /// and containers that use a published port of their own bridge, because the answer would otherwise
    /// take the short way and not be recognised.
    fn source_rules(&self) -> Vec<(&'static str, Vec<Expr>)> {
        if !self.translates() {
            return Vec::new();
        }
        let changed = Expr::ct(Ct::Status, DESTINATION_CHANGED).to_vec();
        let translate = |conditions: Vec<Vec<Expr>>, how: Vec<Expr>| {
            ("postrouting", conditions.into_iter().flatten().chain(how).collect())
        };
        let masquerade = || vec![Expr::Masquerade];
        let mut all = vec![
            translate(
                vec![self.out_by_bridge().to_vec(), self.loopback_source().to_vec()],
                masquerade(),
            ),
            translate(
                vec![self.source_inside().to_vec(), self.destination_inside().to_vec(), changed],
                masquerade(),
            ),
        ];
        if self.masquerade {
            let outward = Expr::output(&self.bridge, Cmp::Ne).to_vec();
            let how = match self.source {
                Some(address) => {
                    vec![Expr::Value(Register(8), octets(address)), Expr::Snat(Register(8))]
                }
                None => masquerade(),
            };
            all.push(translate(vec![outward, self.source_inside().to_vec()], how));
        }
        all
    }
}

/// True for packets of the control protocol of this number.
fn control(number: u8) -> Vec<Expr> {
    let r = Register(0);
    vec![Expr::Meta(Meta::Transport, r), Expr::Cmp(r, Cmp::Eq, vec![number])]
}

fn rule<const N: usize>(conditions: [Vec<Expr>; N], verdict: Verdict) -> Vec<Expr> {
    conditions.into_iter().flatten().chain([Expr::Verdict(verdict)]).collect()
}

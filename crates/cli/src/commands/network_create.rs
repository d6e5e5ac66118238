//! `network create`: makes a network.

use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    options::values,
    ui::Ui,
};
use api::model::{ConfigReference, Ipam, IpamConfig, NetworkCreate, NetworkCreated};
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const FLAGS: &[Flag] = &[
    flag("attachable", Kind::Bool, "Enable manual container attachment"),
    flag("aux-address", Kind::Map, "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
    flag("config-from", Kind::Text, "The network from which to copy the configuration"),
    flag("config-only", Kind::Bool, "Create a configuration only network"),
    short('d', "driver", Kind::Text, "Driver to manage the Network (default \"bridge\")"),
    flag("gateway", Kind::Strings, "IPv4 or IPv6 Gateway for the master subnet"),
    flag("ingress", Kind::Bool, "Create swarm routing-mesh network"),
    flag("internal", Kind::Bool, "Restrict external access to the network"),
    flag("ip-range", Kind::Strings, "Allocate container ip from a sub-range"),
    flag("ipam-driver", Kind::Text, "IP Address Management Driver (default \"default\")"),
    flag("ipam-opt", Kind::Map, "Set IPAM driver specific options"),
    flag("ipv4", Kind::Bool, "Enable or disable IPv4 address assignment (default true)"),
    flag("ipv6", Kind::Bool, "Enable or disable IPv6 address assignment"),
    flag("label", Kind::List, "Set metadata on a network"),
    short('o', "opt", Kind::Map, "Set driver specific options"),
    flag("scope", Kind::Text, "Control the network's scope"),
    flag("subnet", Kind::Strings, "Subnet in CIDR format that represents a network segment"),
];

pub(crate) const NETWORK_CREATE: Command = Command {
    names: &["network create"],
    usage: "NETWORK",
    about: "Create a network",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let word = |name: &str, default: &str| given.text(name).unwrap_or(default).to_owned();
    let body = NetworkCreate {
        name: given.words[0].clone(),
        driver: word("driver", "bridge"),
        scope: given.text_or_empty("scope"),
        enable_ipv4: given.has("ipv4").then(|| given.is("ipv4")),
        enable_ipv6: given.has("ipv6").then(|| given.is("ipv6")),
        ipam: Some(Ipam {
            driver: word("ipam-driver", "default"),
            options: Some(values::map(given.list("ipam-opt"))),
            config: Some(pools(given)?),
        }),
        internal: given.is("internal"),
        attachable: given.is("attachable"),
        ingress: given.is("ingress"),
        config_only: given.is("config-only"),
        config_from: given.text("config-from").map(|name| ConfigReference { network: name.into() }),
        options: Some(values::map(given.list("opt"))),
        labels: Some(values::map(given.list("label"))),
        ..NetworkCreate::default()
    };
    let made: NetworkCreated = ui.client()?.post_json("/networks/create", &Query::new(), &body)?;
    if !made.warning.is_empty() {
        writeln!(ui.err, "WARNING: {}", made.warning)?;
    }
    Ok(writeln!(ui.out, "{}", made.id)?)
}

/// An address and the bits of it that count.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

fn contains(subnet: &str, address: &str) -> bool {
    let bare = address.split('/').next().unwrap_or_default();
    let (Some((network, prefix)), Ok(address)) = (network(subnet), bare.parse::<IpAddr>()) else {
        return false;
    };
    let shift = |bits: u32| bits.saturating_sub(prefix);
    let equal = |a: u128, b: u128, bits: u32| {
        a.checked_shr(shift(bits)).unwrap_or(0) == b.checked_shr(shift(bits)).unwrap_or(0)
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => equal(number4(a), number4(b), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => equal(number6(a), number6(b), 128),
        _ => false,
    }
}

fn number4(address: Ipv4Addr) -> u128 {
    address.to_bits().into()
}

fn number6(address: Ipv6Addr) -> u128 {
    address.to_bits()
}

/// Ranges, gateways and auxiliary addresses, each with the subnet that it lies in.
fn pools(given: &Given) -> Result<Vec<IpamConfig>> {
    let mut pools: Vec<IpamConfig> = given
        .list("subnet")
        .iter()
        .map(|subnet| IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() })
        .collect();
    let stray = |what: &str, text: &str| Fail::new(format!("no matching subnet for {what} {text}"));
    if pools.is_empty() {
        for (flag, what) in
            [("ip-range", "range"), ("gateway", "gateway"), ("aux-address", "aux-address")]
        {
            if let Some(text) = given.list(flag).first() {
                return Err(stray(what, text));
            }
        }
    }
    for range in given.list("ip-range") {
        let pool = pools.iter_mut().find(|p| contains(&p.subnet, range));
        let pool = pool.ok_or_else(|| stray("range", range))?;
        if !pool.ip_range.is_empty() {
            return Err(Fail::new(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            )));
        }
        pool.ip_range.clone_from(range);
    }
    for gateway in given.list("gateway") {
        let pool = pools.iter_mut().find(|p| contains(&p.subnet, gateway));
        let pool = pool.ok_or_else(|| stray("gateway", gateway))?;
        if !pool.gateway.is_empty() {
            return Err(Fail::new(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            )));
        }
        pool.gateway.clone_from(gateway);
    }
    for (name, address) in values::map(given.list("aux-address")) {
        let pool = pools.iter_mut().find(|p| contains(&p.subnet, &address));
        let pool = pool.ok_or_else(|| stray("aux-address", &address))?;
        pool.auxiliary_addresses.get_or_insert_default().insert(name, address);
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_matched_with_their_subnets() {
        assert!(contains("10.1.0.0/16", "10.1.2.3") && contains("10.1.0.0/16", "10.1.5.0/24"));
        assert!(contains("fd00:1::/64", "fd00:1::9") && contains("0.0.0.0/0", "1.2.3.4"));
        for (subnet, address) in [
            ("10.1.0.0/16", "10.2.0.1"),
            ("10.1.0.0/16", "x"),
            ("x", "10.1.0.1"),
            ("10.0.0.0/8", "::1"),
        ] {
            assert!(!contains(subnet, address), "{subnet} {address}");
        }
    }
}

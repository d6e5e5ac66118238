//! From a network's options to the settings of its bridge.
//!
//! Source: Moby `daemon/libnetwork/drivers/bridge` labels, and docs of `docker network create`.

use crate::{BridgeConfig, Common, GatewayMode, Spec, spec::Pool};
use base::{Error, NetworkId, Result};
use std::net::IpAddr;

pub(super) const NAME: &str = "com.docker.network.bridge.name";
pub(super) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
const SOURCES: [&str; 2] = ["com.docker.network.host_ipv4", "com.docker.network.host_ipv6"];

/// The name of a bridge that is not named: 15 bytes, as many as a link's name may have.
pub(super) fn default_name(id: &NetworkId) -> String {
    format!("br-{}", &id.as_str()[..12])
}

/// The settings of a user-defined bridge network.
///
/// # Errors
/// `Invalid` for values that make no sense or contradict each other.
pub(super) fn settings(id: &NetworkId, spec: &Spec, common: &Common) -> Result<BridgeConfig> {
    let name = super::bridge_name(id, spec);
    let modes = [mode(spec, 0)?, mode(spec, 1)?];
    if modes.contains(&GatewayMode::Isolated) && !spec.internal {
        return Err(Error::invalid(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    let common = match spec.option(HOST_BINDING) {
        None | Some("") => common.clone(),
        Some(text) => Common { publish_ip: address(HOST_BINDING, text, false)?, ..common.clone() },
    };
    let source = |which: usize| match spec.option(SOURCES[which]) {
        None | Some("") => Ok(None),
        Some(text) => address(SOURCES[which], text, which == 1).map(Some),
    };
    let own = |pool: &Pool| pool.default_gateway().map(|gateway| pool.subnet.at(gateway));
    let (pool, pool6) = (spec.pool(false), spec.pool(true));
    let reserved = spec.ipam.pools.iter().flat_map(|pool| pool.auxiliary.values().copied());
    Ok(BridgeConfig {
        ipv4: pool.is_some(),
        address: pool.and_then(own),
        ipv6: pool6.is_some(),
        address6: pool6.and_then(own),
        fixed_cidr: pool.and_then(|p| p.range),
        fixed_cidr6: pool6.and_then(|p| p.range),
        gateway: None,
        gateway6: None,
        reserved: reserved.collect(),
        pools: Vec::new(),
        mtu_bytes: spec.mtu()?,
        forwarding_was_off: false,
        masquerade: spec.flag(MASQUERADE)?.unwrap_or(true),
        source: [source(0)?, source(1)?],
        icc: spec.flag(ICC)?.unwrap_or(true),
        internal: spec.internal,
        modes,
        inhibit_ipv4: spec.flag(INHIBIT_IPV4)?.unwrap_or(false),
        default: false,
        common,
        name,
    })
}

fn mode(spec: &Spec, which: usize) -> Result<GatewayMode> {
    match spec.option(MODES[which]) {
        None | Some("" | "nat") => Ok(GatewayMode::Nat),
        Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
        Some("routed") => Ok(GatewayMode::Routed),
        Some("isolated") => Ok(GatewayMode::Isolated),
        Some(other) => Err(Error::invalid(format!(
            "unknown gateway mode {other:?} in {}: want nat, nat-unprotected, routed or isolated",
            MODES[which]
        ))),
    }
}

fn address(option: &str, text: &str, ipv6: bool) -> Result<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|address| address.is_ipv6() == ipv6).ok_or_else(|| {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        Error::invalid(format!(
            "invalid value {text:?} of option {option}: want an {family} address"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)], internal: bool) -> Result<BridgeConfig> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = Spec { options, internal, ..Spec::default() };
        settings(&NetworkId::random(), &spec, &Common::default())
    }

    #[test]
    fn every_option_has_its_place() {
        let config = read(
            &[
                (NAME, "web0"),
                (ICC, "false"),
                (MASQUERADE, "0"),
                (HOST_BINDING, "127.0.0.1"),
                (INHIBIT_IPV4, "true"),
                (MODES[0], "routed"),
                (MODES[1], "nat-unprotected"),
                (SOURCES[0], "198.18.0.1"),
                ("com.docker.network.driver.mtu", "1400"),
            ],
            false,
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.icc, config.masquerade), ("web0", false, false));
        assert_eq!(config.common.publish_ip.to_string(), "127.0.0.1");
        assert_eq!(config.modes, [GatewayMode::Routed, GatewayMode::NatUnprotected]);
        assert_eq!(config.source[0].unwrap().to_string(), "198.18.0.1");
        assert!(config.inhibit_ipv4 && config.mtu_bytes == 1400);
        let config = read(&[], false).unwrap();
        assert!(config.name.starts_with("br-") && config.name.len() == 15);
        assert!(config.icc && config.masquerade && !config.ipv4);
    }

    #[test]
    fn nonsense_is_refused() {
        for options in [
            (ICC, "maybe"),
            (HOST_BINDING, "::1"),
            (MODES[0], "bridge"),
            (MODES[0], "isolated"),
            (SOURCES[1], "1.2.3.4"),
            ("com.docker.network.driver.mtu", "-1"),
        ] {
            assert!(read(&[options], false).is_err(), "{options:?}");
        }
        assert!(read(&[(MODES[0], "isolated")], true).is_ok());
    }
}

//! What a network was asked for and settled to: the part of it that the store keeps.
//!
//! Source: Docker Engine API 1.51, `NetworkCreateRequest`; Moby `daemon/libnetwork/network.go` (behaviour).

use crate::Subnet;
use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// A network as it was asked for; after [`crate::Networks::create`] with its subnets and gateways chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Docker's name of the driver.
    pub driver: String,
    /// Driver options, as given.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// No way to the outside.
    pub internal: bool,
    /// Kept and shown; every local network can be attached to.
    pub attachable: bool,
    /// Kept and shown; the routing mesh comes with clusters.
    pub ingress: bool,
    /// Whether endpoints get IPv4 addresses.
    pub ipv4: bool,
    /// Whether endpoints get IPv6 addresses.
    pub ipv6: bool,
    /// Who chooses addresses.
    pub ipam: Ipam,
    /// Only a template for others.
    pub config_only: bool,
    /// Name of the template it was made from.
    pub config_from: String,
    /// `local`, or what the driver's plugin says.
    pub scope: String,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            driver: "bridge".into(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            internal: false,
            attachable: false,
            ingress: false,
            ipv4: true,
            ipv6: false,
            ipam: Ipam::default(),
            config_only: false,
            config_from: String::new(),
            scope: "local".into(),
        }
    }
}

/// Address management of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `default`, `null` for none, or a plugin's name.
    pub driver: String,
    /// Options, as given.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets, those of IPv4 first.
    pub pools: Vec<Pool>,
}

impl Default for Ipam {
    fn default() -> Self {
        Self { driver: "default".into(), options: None, pools: Vec::new() }
    }
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: Subnet,
    /// The part of it that addresses are taken from.
    #[serde(default)]
    pub range: Option<Subnet>,
    /// Default gateway of its endpoints.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that belong to others, by their names.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Chosen here rather than asked for: then no endpoint may ask for an address.
    #[serde(default)]
    pub chosen: bool,
    /// What the plugin that gave it calls it.
    #[serde(default)]
    pub id: String,
    /// The plugin's address space that it is in; our own have none.
    #[serde(default)]
    pub space: String,
    /// Addresses that the plugin gave for the network itself.
    #[serde(default)]
    pub lent: Vec<IpAddr>,
}

impl Pool {
    /// A subnet that nobody asked for, with nothing in it.
    pub fn chosen(subnet: Subnet) -> Self {
        Self {
            subnet,
            range: None,
            gateway: None,
            auxiliary: BTreeMap::new(),
            chosen: true,
            id: String::new(),
            space: String::new(),
            lent: Vec::new(),
        }
    }

    /// Reads what the API says of a subnet; empty texts stand for what is not said.
    ///
    /// # Errors
    /// `Invalid`, with Docker's words.
    pub fn parse(
        subnet: &str,
        range: &str,
        gateway: &str,
        auxiliary: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let invalid = |text: String| Error::invalid(text);
        let given: Subnet = subnet.parse().map_err(|_| {
            invalid(format!("invalid subnet {subnet}: invalid CIDR block notation"))
        })?;
        let network = given.network();
        if network != given {
            return Err(invalid(format!("invalid subnet {subnet}: it should be {network}")));
        }
        let range = match range {
            "" => None,
            text => {
                let given: Subnet = text.parse().map_err(|_| {
                    invalid(format!("invalid ip-range {text}: invalid CIDR block notation"))
                })?;
                let range = given.network();
                if range != given {
                    return Err(invalid(format!("invalid ip-range {text}: it should be {range}")));
                }
                if range.is_ipv6() != network.is_ipv6() {
                    return Err(invalid(format!(
                        "invalid ip-range {text}: parent subnet is an {} block",
                        if network.is_ipv6() { "IPv6" } else { "IPv4" }
                    )));
                }
                if !network.contains(range.first()) || range.prefix() < network.prefix() {
                    return Err(invalid(format!(
                        "invalid ip-range {text}: parent subnet {network} doesn't contain ip-range"
                    )));
                }
                Some(range)
            }
        };
        let within = |what: &str, text: &str| -> Result<IpAddr> {
            let address: IpAddr = text
                .parse()
                .map_err(|_| invalid(format!("invalid {what} {text}: invalid address")))?;
            match network.contains(address) {
                true => Ok(address),
                false => Err(invalid(format!(
                    "invalid {what} {text}: parent subnet {network} doesn't contain this address"
                ))),
            }
        };
        let gateway = match gateway {
            "" => None,
            text => Some(within("gateway", text)?),
        };
        let auxiliary = auxiliary
            .iter()
            .map(|(name, text)| {
                Ok((name.clone(), within(&format!("auxiliary address {name}"), text)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { range, gateway, auxiliary, chosen: false, ..Self::chosen(network) })
    }

    /// The gateway, or the one that the subnet gets when none is asked for: its second address.
    pub fn default_gateway(&self) -> Option<IpAddr> {
        self.gateway.or_else(|| self.subnet.nth(u128::from(self.subnet.host_bits() > 1)))
    }
}

impl Spec {
    /// An option's value.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// A boolean option: everything that Go's `strconv.ParseBool` takes.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.option(key)
            .map(|text| match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "invalid value {text:?} of option {key}: want true or false"
                ))),
            })
            .transpose()
    }

    /// The pool of a family.
    pub fn pool(&self, ipv6: bool) -> Option<&Pool> {
        self.ipam.pools.iter().find(|pool| pool.subnet.is_ipv6() == ipv6)
    }

    /// MTU in bytes; 0 when none is asked for.
    ///
    /// # Errors
    /// `Invalid` for what is no number of bytes.
    pub fn mtu(&self) -> Result<u32> {
        let Some(text) = self.option("com.docker.network.driver.mtu") else { return Ok(0) };
        text.parse().ok().filter(|mtu| *mtu == 0 || (68..=65535).contains(mtu)).ok_or_else(|| {
            Error::invalid(format!(
                "invalid value {text:?} of option com.docker.network.driver.mtu: want 68 to 65535 bytes"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(subnet: &str, range: &str, gateway: &str) -> Result<Pool> {
        Pool::parse(subnet, range, gateway, &BTreeMap::new())
    }

    #[test]
    fn a_pool_is_read_with_all_its_parts() {
        let aux = BTreeMap::from([("router".to_owned(), "10.1.0.9".to_owned())]);
        let pool = Pool::parse("10.1.0.0/16", "10.1.5.0/24", "10.1.0.254", &aux).unwrap();
        assert_eq!(pool.range.unwrap().to_string(), "10.1.5.0/24");
        assert_eq!(pool.default_gateway().unwrap().to_string(), "10.1.0.254");
        assert_eq!(pool.auxiliary["router"].to_string(), "10.1.0.9");
        let pool = parse("fd00:5::/64", "", "").unwrap();
        assert_eq!(pool.default_gateway().unwrap().to_string(), "fd00:5::1");
        let pool = parse("10.1.0.4/31", "", "").unwrap();
        assert_eq!(pool.default_gateway().unwrap().to_string(), "10.1.0.4");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (subnet, range, gateway) in [
            ("10.1.0.1/16", "", ""),
            ("x", "", ""),
            ("10.1.0.0/16", "10.2.0.0/24", ""),
            ("10.1.0.0/16", "10.1.0.0/8", ""),
            ("10.1.0.0/16", "fd00::/64", ""),
            ("10.1.0.0/16", "10.1.5.7/24", ""),
            ("10.1.0.0/16", "", "10.2.0.1"),
            ("10.1.0.0/16", "", "gate"),
        ] {
            let error = parse(subnet, range, gateway).unwrap_err();
            assert_eq!(error.kind(), base::Kind::Invalid, "{subnet} {range} {gateway}");
        }
        let aux = BTreeMap::from([("a".to_owned(), "1.2.3.4".to_owned())]);
        assert!(Pool::parse("10.1.0.0/16", "", "", &aux).is_err());
    }

    #[test]
    fn options_have_types() {
        let mut spec = Spec::default();
        spec.options.insert("a".into(), "T".into());
        spec.options.insert("com.docker.network.driver.mtu".into(), "1400".into());
        assert_eq!((spec.flag("a").unwrap(), spec.flag("b").unwrap()), (Some(true), None));
        assert_eq!(spec.mtu().unwrap(), 1400);
        spec.options.insert("com.docker.network.driver.mtu".into(), "20".into());
        assert!(spec.mtu().is_err());
        spec.options.insert("a".into(), "yes".into());
        assert!(spec.flag("a").is_err());
    }
}

//! Plugins for addresses: subnets when a network is made, an address for each endpoint.
//!
//! Invariants: what is asked of a plugin and not kept is given back; an address that is no address of its subnet is the
//! plugin's fault, and given back too.

use super::Plugin;
use crate::{
    Mac, Spec, Subnet,
    spec::{Ipam, Pool},
};
use base::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// What an address is wanted for.
const KIND: &str = "RequestAddressType";
/// The key and the kind of a gateway.
const GATEWAY: &str = "com.docker.network.gateway";
/// The option that tells an endpoint's link address.
const MAC: &str = "com.docker.network.endpoint.macaddress";

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    #[serde(rename = "RequiresMACAddress")]
    requires_mac_address: bool,
    requires_request_replay: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Spaces {
    local_default_address_space: String,
    global_default_address_space: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Given {
    #[serde(rename = "PoolID")]
    pool_id: String,
    pool: String,
    address: String,
    data: Option<BTreeMap<String, String>>,
}

impl Plugin {
    fn ipam_capabilities(&self) -> Result<Capabilities> {
        match self.ask("IpamDriver.GetCapabilities", &json!({})) {
            Err(err) if err.kind() == base::Kind::NotImplemented => Ok(Capabilities::default()),
            other => other,
        }
    }

    /// Whether the plugin wants to hear an endpoint's link address.
    pub(crate) fn wants_mac(&self) -> Result<bool> {
        self.ipam_capabilities().map(|c| c.requires_mac_address)
    }

    /// Asks for the subnets of a network, with their gateways.
    ///
    /// # Errors
    /// The plugin's; then nothing is kept.
    pub(crate) fn request_pools(&self, spec: &mut Spec) -> Result<()> {
        self.all.check(&self.name, super::IPAM)?;
        let spaces: Spaces = self.ask("IpamDriver.GetDefaultAddressSpaces", &json!({}))?;
        let space = match spec.scope.as_str() {
            "global" => spaces.global_default_address_space,
            _ => spaces.local_default_address_space,
        };
        let asked = std::mem::take(&mut spec.ipam.pools);
        let mut got = Vec::new();
        for (ipv6, wanted) in [(false, spec.ipv4), (true, spec.ipv6)] {
            let of: Vec<Option<&Pool>> = match wanted {
                false => Vec::new(),
                true => {
                    let given: Vec<_> =
                        asked.iter().filter(|p| p.subnet.is_ipv6() == ipv6).map(Some).collect();
                    if given.is_empty() { vec![None] } else { given }
                }
            };
            for wish in of {
                if let Err(err) = self.request_pool(&spec.ipam, &space, wish, ipv6, &mut got) {
                    spec.ipam.pools = got;
                    if let Err(left) = self.release_pools(&spec.ipam) {
                        tracing::warn!(
                            plugin = self.name,
                            err = left.chain(),
                            "a subnet stays taken"
                        );
                    }
                    return Err(err);
                }
            }
        }
        spec.ipam.pools = got;
        Ok(())
    }

    fn request_pool(
        &self,
        ipam: &Ipam,
        space: &str,
        wish: Option<&Pool>,
        ipv6: bool,
        got: &mut Vec<Pool>,
    ) -> Result<()> {
        let text = |subnet: Option<Subnet>| subnet.map(|s| s.to_string()).unwrap_or_default();
        let given: Given = self.ask(
            "IpamDriver.RequestPool",
            &json!({
                "AddressSpace": space,
                "Pool": text(wish.map(|w| w.subnet)),
                "SubPool": text(wish.and_then(|w| w.range)),
                "Options": ipam.options,
                "V6": ipv6,
            }),
        )?;
        let read = given.pool.parse::<Subnet>().ok().filter(|s| s.is_ipv6() == ipv6);
        let id = given.pool_id;
        let Some(subnet) = read.map(Subnet::network) else {
            self.tell("IpamDriver.ReleasePool", &json!({"PoolID": id}))?;
            return Err(Error::internal(format!(
                "IpamDriver.RequestPool: plugin {} gives {:?}, which is no subnet of the wanted family",
                self.name, given.pool
            )));
        };
        let mut pool = Pool {
            range: wish.and_then(|w| w.range),
            auxiliary: wish.map(|w| w.auxiliary.clone()).unwrap_or_default(),
            chosen: wish.is_none(),
            id,
            space: space.to_owned(),
            ..Pool::chosen(subnet)
        };
        let settled = self.settle_pool(&mut pool, wish, given.data.unwrap_or_default());
        got.push(pool);
        settled
    }

    /// The gateway and the addresses that belong to others.
    fn settle_pool(
        &self,
        pool: &mut Pool,
        wish: Option<&Pool>,
        data: BTreeMap<String, String>,
    ) -> Result<()> {
        let asked = wish.and_then(|w| w.gateway);
        let told = data.get(GATEWAY).and_then(|text| text.parse::<Subnet>().ok());
        pool.gateway = match (asked, told) {
            (None, Some(told)) => Some(told.address()),
            (wished, _) => {
                let options = json!({KIND: GATEWAY});
                let given = self.request_address(pool, wished, &options)?.address();
                pool.lent.push(given);
                Some(given)
            }
        };
        for address in pool.auxiliary.values().copied().collect::<Vec<_>>() {
            let given = self.request_address(pool, Some(address), &json!({}))?;
            pool.lent.push(given.address());
        }
        Ok(())
    }

    /// An address of a pool: a wished one, or any.
    fn request_address(
        &self,
        pool: &Pool,
        wish: Option<IpAddr>,
        options: &Value,
    ) -> Result<Subnet> {
        let given: Given = self.ask(
            "IpamDriver.RequestAddress",
            &json!({
                "PoolID": pool.id,
                "Address": wish.map(|w| w.to_string()).unwrap_or_default(),
                "Options": options,
            }),
        )?;
        let read = given.address.parse::<Subnet>().ok();
        if let Some(address) = read.filter(|a| pool.subnet.contains(a.address())) {
            return Ok(address);
        }
        let back = json!({"PoolID": pool.id, "Address": given.address});
        self.tell("IpamDriver.ReleaseAddress", &back)?;
        Err(Error::internal(format!(
            "IpamDriver.RequestAddress: plugin {} gives {:?}, which is no address with prefix in {}",
            self.name, given.address, pool.subnet
        )))
    }

    /// An address of each subnet's family for an endpoint.
    ///
    /// # Errors
    /// The plugin's; then nothing is kept.
    pub(crate) fn request_addresses(
        &self,
        ipam: &Ipam,
        wishes: [Option<IpAddr>; 2],
        mac: Option<Mac>,
    ) -> Result<Vec<(String, Subnet)>> {
        let mut options = Map::new();
        if let Some(mac) = mac {
            options.insert(MAC.into(), mac.to_string().into());
        }
        let options = Value::Object(options);
        let mut given: Vec<(String, Subnet)> = Vec::new();
        for ipv6 in [false, true] {
            // As everywhere, the first subnet of a family is the one that is given from.
            let Some(pool) = ipam.pools.iter().find(|p| p.subnet.is_ipv6() == ipv6) else {
                continue;
            };
            match self.request_address(pool, wishes[usize::from(ipv6)], &options) {
                Ok(address) => given.push((pool.id.clone(), address)),
                Err(err) => {
                    let back: Vec<_> =
                        given.iter().map(|(id, a)| (id.clone(), a.address())).collect();
                    self.release_addresses(&back)?;
                    return Err(err);
                }
            }
        }
        Ok(given)
    }

    /// Gives addresses back.
    ///
    /// # Errors
    /// The plugin cannot be asked.
    pub(crate) fn release_addresses(&self, addresses: &[(String, IpAddr)]) -> Result<()> {
        for (pool, address) in addresses {
            let argument = json!({"PoolID": pool, "Address": address.to_string()});
            self.tell("IpamDriver.ReleaseAddress", &argument)?;
        }
        Ok(())
    }

    /// Gives a network's subnets back.
    ///
    /// # Errors
    /// The plugin cannot be asked.
    pub(crate) fn release_pools(&self, ipam: &Ipam) -> Result<()> {
        for pool in &ipam.pools {
            let lent: Vec<_> = pool.lent.iter().map(|a| (pool.id.clone(), *a)).collect();
            self.release_addresses(&lent)?;
            self.tell("IpamDriver.ReleasePool", &json!({"PoolID": pool.id}))?;
        }
        Ok(())
    }

    /// Asks again for what a network and its endpoints have, when the plugin wants to hear it after a start of the
    /// engine.
    ///
    /// # Errors
    /// The plugin cannot be asked.
    pub(crate) fn replay(&self, ipam: &Ipam, held: &[(String, IpAddr)]) -> Result<()> {
        if !self.ipam_capabilities()?.requires_request_replay {
            return Ok(());
        }
        for pool in &ipam.pools {
            let argument = json!({
                "AddressSpace": pool.space,
                "Pool": pool.subnet.to_string(),
                "SubPool": pool.range.map(|r| r.to_string()).unwrap_or_default(),
                "Options": ipam.options,
                "V6": pool.subnet.is_ipv6(),
            });
            self.tell("IpamDriver.RequestPool", &argument)?;
            for address in &pool.lent {
                let options =
                    if pool.gateway == Some(*address) { json!({KIND: GATEWAY}) } else { json!({}) };
                let argument =
                    json!({"PoolID": pool.id, "Address": address.to_string(), "Options": options});
                self.tell("IpamDriver.RequestAddress", &argument)?;
            }
        }
        for (pool, address) in held {
            let argument = json!({"PoolID": pool, "Address": address.to_string(), "Options": {}});
            self.tell("IpamDriver.RequestAddress", &argument)?;
        }
        Ok(())
    }
}

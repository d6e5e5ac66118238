//! Networks: what `docker network` asks for, over the drivers of `network`.

mod change;
mod watch;

use crate::Engine;
use api::model;
use base::{Error, Result, filters::Filters};
use std::collections::BTreeMap;

const LIST: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Engine {
    /// `GET /networks`.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn networks_list(&self, filters: &Filters) -> Result<Vec<model::Network>> {
        filters.only(LIST)?;
        let dangling = filters.bool("dangling")?;
        let predefined = filters.get("type");
        if let Some(bad) = predefined.iter().find(|t| !["builtin", "custom"].contains(&t.as_str()))
        {
            return Err(Error::invalid(format!("invalid filter: 'type'='{bad}'")));
        }
        Ok(self
            .networks
            .list()
            .iter()
            .filter(|n| filters.any("name", |v| n.name.contains(v)))
            .filter(|n| filters.any("id", |v| n.id.as_str().starts_with(v)))
            .filter(|n| filters.exact("driver", n.driver))
            .filter(|_| filters.exact("scope", "local"))
            .filter(|_| filters.labels(|_| None))
            // The predefined ones are built in, and never dangling.
            .filter(|n| {
                predefined.is_empty()
                    || predefined.iter().any(|t| (t == "builtin") == n.predefined())
            })
            .filter(|n| dangling.is_none_or(|d| n.predefined() != d))
            .map(|n| self.network_shown(n, false))
            .collect())
    }

    /// `GET /networks/{id}`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an ambiguous id.
    pub async fn network_inspect(&self, name: &str, _verbose: bool) -> Result<model::Network> {
        Ok(self.network_shown(&self.networks.find(name)?, true))
    }

    fn network_shown(&self, network: &network::Network, with_containers: bool) -> model::Network {
        let pool = network.subnet.map(|subnet| model::IpamConfig {
            subnet: subnet.to_string(),
            gateway: network.gateway.map(|g| g.to_string()).unwrap_or_default(),
            ip_range: network.range.map(|r| r.to_string()).unwrap_or_default(),
            ..model::IpamConfig::default()
        });
        model::Network {
            name: network.name.clone(),
            id: network.id.to_string(),
            created: network.created.to_string(),
            scope: "local".into(),
            driver: network.driver.into(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: model::Ipam {
                driver: "default".into(),
                options: None,
                config: match network.driver {
                    "bridge" => Some(pool.into_iter().collect()),
                    _ => None,
                },
            },
            containers: with_containers.then(|| self.network_members(network)),
            options: Some(network.options.clone()),
            labels: Some(BTreeMap::new()),
            ..model::Network::default()
        }
    }

    /// Who is on a network: those with an endpoint, and those that live in the host's network.
    fn network_members(
        &self,
        network: &network::Network,
    ) -> BTreeMap<String, model::NetworkContainer> {
        let mut members: BTreeMap<_, _> = self
            .networks
            .members(&network.id)
            .into_iter()
            .map(|(id, endpoint)| {
                let shown = model::NetworkContainer {
                    name: self
                        .containers
                        .get(&id)
                        .map(|c| c.record().name.clone())
                        .unwrap_or_default(),
                    endpoint_id: endpoint.id.to_string(),
                    mac_address: endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
                    ipv4_address: endpoint.address.map(|a| a.to_string()).unwrap_or_default(),
                    ipv6_address: String::new(),
                };
                (id.to_string(), shown)
            })
            .collect();
        if network.driver == "host" {
            let all = self.containers.all();
            let records = all.iter().map(|c| c.record());
            for record in
                records.filter(|r| r.host.network_mode == "host" && r.state.status.alive())
            {
                let shown = model::NetworkContainer {
                    name: record.name.clone(),
                    // Nothing is made for it, so it has no id of its own.
                    endpoint_id: record.id.to_string(),
                    ..model::NetworkContainer::default()
                };
                members.insert(record.id.to_string(), shown);
            }
        }
        members
    }
}

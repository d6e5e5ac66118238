//! Networks: what `docker network` asks for, over the drivers of `network`.

mod change;
mod connect;
mod plugins;
mod traffic;
mod watch;

pub(crate) use plugins::Asked;

use crate::{Engine, containers::Container};
use api::model;
use base::{ContainerId, Error, Result, filters::Filters};
use std::{collections::BTreeMap, sync::Arc};

/// Steps of changes of networks at which a test lets the engine die.
pub const STEPS: [&str; 7] = [
    "create-made",
    "connect-wired",
    "connect-noted",
    "connect-led",
    "disconnect-noted",
    "disconnect-unplugged",
    "remove-taken-down",
];

const LIST: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Runs what talks to the kernel for longer than a moment on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("a change of networks broke off").caused_by(e))?
}

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
            .filter(|n| filters.exact("driver", &n.spec.driver))
            .filter(|n| filters.exact("scope", &n.spec.scope))
            .filter(|n| filters.labels(|key| n.spec.labels.get(key).map(String::as_str)))
            // The predefined ones are built in, and never dangling.
            .filter(|n| {
                predefined.is_empty()
                    || predefined.iter().any(|t| (t == "builtin") == n.predefined())
            })
            .filter(|n| {
                let free = !n.predefined() && self.network_users(n).is_empty();
                dangling.is_none_or(|d| free == d)
            })
            .map(|n| self.network_shown(n, false))
            .collect())
    }

    /// `GET /networks/{id}`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an ambiguous id.
    pub async fn network_inspect(
        self: &Arc<Self>,
        name: &str,
        _verbose: bool,
    ) -> Result<model::Network> {
        let network = self.networks.find(name)?;
        let mut shown = self.network_shown(&network, true);
        let members = self.networks.members(&network.id);
        let told = self.endpoint_information(members.clone());
        let seen: Vec<_> = members
            .into_iter()
            .filter_map(|(id, endpoint)| {
                let container = self.containers.get(&id)?;
                let pids = self.cgroup(&container).ok()?.pids().unwrap_or_default();
                Some((id, traffic::Member { pid: container.record().state.pid, pids, endpoint }))
            })
            .collect();
        let used = blocking(move || {
            Ok(seen.into_iter().map(|(id, member)| (id, member.look())).collect::<Vec<_>>())
        });
        for (id, used) in used.await? {
            let members = shown.containers.as_mut();
            if let Some(member) = members.and_then(|all| all.get_mut(id.as_str())) {
                member.gantry = used;
            }
        }
        for (id, told) in told.await {
            let members = shown.containers.as_mut();
            let member = members.and_then(|all| all.get_mut(id.as_str()));
            if let Some(used) = member.and_then(|member| member.gantry.as_mut()) {
                used.driver = told;
            }
        }
        Ok(shown)
    }

    /// Containers that are on a network, or come to it when they are started.
    pub(crate) fn network_users(&self, network: &network::Network) -> Vec<ContainerId> {
        let uses = |c: &Arc<Container>| c.record().endpoints.contains_key(&network.name);
        self.containers.all().iter().filter(|c| uses(c)).map(|c| c.id().clone()).collect()
    }

    fn network_shown(&self, network: &network::Network, with_containers: bool) -> model::Network {
        let spec = &network.spec;
        let shown = |pool: &network::spec::Pool| model::IpamConfig {
            subnet: pool.subnet.to_string(),
            gateway: pool.gateway.map(|g| g.to_string()).unwrap_or_default(),
            ip_range: pool.range.map(|r| r.to_string()).unwrap_or_default(),
            auxiliary_addresses: (!pool.auxiliary.is_empty())
                .then(|| pool.auxiliary.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()),
        };
        let pools: Vec<_> = spec.ipam.pools.iter().map(shown).collect();
        model::Network {
            name: network.name.clone(),
            id: network.id.to_string(),
            created: network.created.to_string(),
            scope: spec.scope.clone(),
            driver: spec.driver.clone(),
            enable_ipv4: spec.ipv4,
            enable_ipv6: spec.ipv6,
            ipam: model::Ipam {
                driver: spec.ipam.driver.clone(),
                options: match network.predefined() {
                    true => None,
                    false => Some(spec.ipam.options.clone().unwrap_or_default()),
                },
                config: match spec.driver.as_str() {
                    "host" | "null" => None,
                    _ => Some(pools),
                },
            },
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            config_from: model::ConfigReference { network: spec.config_from.clone() },
            config_only: spec.config_only,
            containers: Some(match with_containers {
                true => self.network_members(network),
                false => BTreeMap::new(),
            }),
            options: Some(spec.options.clone()),
            labels: Some(spec.labels.clone()),
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
                    ipv6_address: endpoint.address6.map(|a| a.to_string()).unwrap_or_default(),
                    gantry: None,
                };
                (id.to_string(), shown)
            })
            .collect();
        if network.spec.driver == "host" {
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

//! `POST /networks/create`, `DELETE /networks/{id}`, `POST /networks/prune`.

use crate::Engine;
use api::model;
use base::{Error, Principal, Result, Timestamp, event::Event, filters::Filters};
use network::{Network, Spec, spec};
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of a network's name.
const LONGEST_NAME: usize = 255;

const PRUNE: &[&str] = &["label", "label!", "until"];

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// `Invalid` for a bad name or settings; `Forbidden` for a predefined name or a taken subnet; `NotFound`
    /// for an unknown driver; `Conflict` for a taken name.
    pub async fn network_create(
        self: &Arc<Self>,
        request: &model::NetworkCreate,
        by: &Principal,
    ) -> Result<model::NetworkCreated> {
        let name = request.name.trim().to_owned();
        if name.is_empty() {
            return Err(Error::invalid("invalid network name: name is empty"));
        }
        if network::predefined(&name) || name == "default" {
            return Err(Error::new(
                base::Kind::Forbidden,
                format!("operation is not permitted on predefined {name} network"),
            ));
        }
        // Docker takes any name here, "n" and "my net" among them.
        if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "invalid network name: {name:?} has control characters or more than {LONGEST_NAME} bytes"
            )));
        }
        let mut spec = spec_of(request)?;
        let defaults = self.config.networks.default_options.get(&spec.driver);
        for (key, value) in defaults.into_iter().flatten() {
            spec.options.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let (engine, by) = (Arc::clone(self), by.clone());
        let made = super::blocking(move || {
            engine.networks.create(&engine.store, &name, spec, |tx, network| {
                tx.emit(event("create", network).by(&by));
                engine.faults.step("create-made");
                Ok(())
            })
        })
        .await?;
        Ok(model::NetworkCreated { id: made.network.id.to_string(), warning: made.warning })
    }

    /// Removes a network.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a predefined one and for one with endpoints.
    pub async fn network_remove(self: &Arc<Self>, name: &str, by: &Principal) -> Result<()> {
        let (engine, name, by) = (Arc::clone(self), name.to_owned(), by.clone());
        super::blocking(move || engine.drop_network(&name, &by)).await
    }

    fn drop_network(&self, name: &str, by: &Principal) -> Result<()> {
        self.networks.remove(&self.store, name, |tx, network| {
            tx.emit(event("destroy", network).by(by));
            self.faults.step("remove-taken-down");
            Ok(())
        })
    }

    /// Removes networks that no container is on or would come to at its start. Predefined ones are never
    /// pruned.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn networks_prune(
        self: &Arc<Self>,
        filters: &Filters,
        by: &Principal,
    ) -> Result<model::NetworksPruned> {
        filters.only(PRUNE)?;
        let until = match filters.get("until") {
            [] => None,
            [one] => Some(Timestamp::parse_relative(one, Timestamp::now())?),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        let (engine, by) = (Arc::clone(self), by.clone());
        let doomed: Vec<Network> = engine
            .networks
            .list()
            .into_iter()
            .filter(|n| !n.predefined() && self.network_users(n).is_empty())
            .filter(|n| until.is_none_or(|until| n.created <= until))
            .filter(|n| filters.labels(|key| n.spec.labels.get(key).map(String::as_str)))
            .collect();
        super::blocking(move || {
            let mut deleted = Vec::new();
            for network in doomed {
                match engine.drop_network(network.id.as_str(), &by) {
                    Ok(()) => deleted.push(network.name),
                    Err(err) => {
                        tracing::warn!(
                            net = network.name,
                            err = err.chain(),
                            "prune skips a network"
                        );
                    }
                }
            }
            engine.store.write(|tx| {
                tx.emit(Event::new("network", "prune", "").with("reclaimed", "0").by(&by));
                Ok(())
            })?;
            Ok(model::NetworksPruned { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
        })
        .await
    }
}

/// An event of a network, with docker's attributes.
fn event(action: &str, network: &Network) -> Event {
    Event::new("network", action, network.id.as_str())
        .with("name", &network.name)
        .with("type", &network.spec.driver)
}

/// What the API asks for, read.
fn spec_of(request: &model::NetworkCreate) -> Result<Spec> {
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::new(
            base::Kind::Forbidden,
            format!(
                "cannot create a network of scope {:?}: this node is not part of a cluster",
                request.scope
            ),
        ));
    }
    let ipam = request.ipam.clone().unwrap_or_default();
    let mut pools = Vec::new();
    for config in ipam.config.iter().flatten() {
        let auxiliary = config.auxiliary_addresses.clone().unwrap_or_default();
        if config.subnet.is_empty() {
            if config.ip_range.is_empty() && config.gateway.is_empty() && auxiliary.is_empty() {
                continue;
            }
            return Err(Error::invalid(
                "invalid network config: an ip-range, a gateway or an auxiliary address needs a subnet",
            ));
        }
        pools.push(spec::Pool::parse(
            &config.subnet,
            &config.ip_range,
            &config.gateway,
            &auxiliary,
        )?);
    }
    for (n, pool) in pools.iter().enumerate() {
        if let Some(other) = pools[..n].iter().find(|other| other.subnet.overlaps(pool.subnet)) {
            return Err(Error::invalid(format!(
                "invalid network config: subnets {} and {} overlap",
                other.subnet, pool.subnet
            )));
        }
    }
    let word = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let driver = match request.driver.as_str() {
        "default" => "bridge".to_owned(),
        other => word(other, "bridge"),
    };
    let options = request.options.clone().unwrap_or_default();
    // Since 20.10 the CLI's `-o com.docker.network.enable_ipv6` stands beside the flag.
    let option = |key: &str| options.get(key).and_then(|text| text.parse::<bool>().ok());
    let ipv6 = request.enable_ipv6.or_else(|| option("com.docker.network.enable_ipv6"));
    let ipv4 = request.enable_ipv4.or_else(|| option("com.docker.network.enable_ipv4"));
    let internal = request.internal;
    Ok(Spec {
        driver,
        labels: request.labels.clone().unwrap_or_default(),
        internal,
        attachable: request.attachable,
        ingress: request.ingress,
        ipv4: ipv4.unwrap_or(true),
        ipv6: ipv6.unwrap_or(false),
        ipam: spec::Ipam { driver: word(&ipam.driver, "default"), options: ipam.options, pools },
        config_only: request.config_only,
        config_from: request.config_from.clone().map(|c| c.network).unwrap_or_default(),
        options: options.into_iter().collect::<BTreeMap<_, _>>(),
        scope: "local".into(),
    })
}

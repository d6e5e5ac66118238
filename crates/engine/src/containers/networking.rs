//! Which networks a container is on: asked for at its creation or by a later connect, in which order they
//! are wired, and what it publishes there.
//!
//! Invariants: `Record::endpoints` says what is asked for, by name of network, also while the container does
//! not run; `Record::attached` says what it has, and is empty while it does not run.
//! Source: Moby `daemon/container_operations.go` (behaviour).
//! Not here: wiring (crate `network`), the steps of a start (`start.rs`).

use super::Record;
use api::model::{EndpointSettings, HostConfig};
use base::{Error, Result, event::Event};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Endpoints asked for, by name of network.
pub(crate) type Asked = BTreeMap<String, EndpointSettings>;

/// Checks what can be said of wished networks without looking at them.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn check(host: &HostConfig, asked: &Asked) -> Result<()> {
    if asked.len() > 1 && (host.network_mode == "none" || asked.contains_key("none")) {
        return Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    if asked.len() > 1 && (host.network_mode == "host" || asked.contains_key("host")) {
        return Err(Error::invalid(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    Ok(())
}

/// What a new container asks for: `default` is the bridge, and without any endpoint it is on the network of
/// its mode.
pub(crate) fn asked(host: &HostConfig, endpoints: Asked) -> Asked {
    if host.network_mode.starts_with("container:") {
        return Asked::new();
    }
    let name = |name: String| if name == "default" { "bridge".to_owned() } else { name };
    let mut asked: Asked = endpoints.into_iter().map(|(key, value)| (name(key), value)).collect();
    if asked.is_empty() {
        asked.insert(host.network_mode.clone(), EndpointSettings::default());
    }
    asked
}

impl Record {
    /// Names of the networks that it asks for, in the order in which they are wired: that of its mode first,
    /// so that it is `eth0`, then by name.
    pub(crate) fn network_names(&self) -> Vec<&str> {
        let mode = self.host.network_mode.as_str();
        let mut names: Vec<&str> = self.endpoints.keys().map(String::as_str).collect();
        names.sort_by_key(|name| (*name != mode, *name));
        names
    }

    /// Networks in which it gets an endpoint: none when it shares another's or the host's.
    pub(crate) fn own_networks(&self) -> Vec<&str> {
        let mode = self.host.network_mode.as_str();
        if mode == "host" || mode.starts_with("container:") {
            return Vec::new();
        }
        self.network_names()
    }

    /// Its endpoint on a network, while it runs.
    pub(crate) fn attached_to(&self, network: &str) -> Option<&network::Endpoint> {
        self.attached.iter().find(|e| e.network_name == network)
    }

    /// Name and id of the networks that it is on; without an id while it does not run.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.network_names().into_iter().map(|name| {
            (name, self.attached_to(name).map_or("", |endpoint| endpoint.network.as_str()))
        })
    }
}

/// Ports to publish: those asked for, and with `-P` all exposed ones.
///
/// # Errors
/// `Invalid` with docker's words.
pub(crate) fn published(record: &Record) -> Result<Vec<network::Publish>> {
    let mut list = Vec::new();
    for (key, bindings) in record.host.port_bindings.iter().flatten() {
        let bindings = bindings.clone().unwrap_or_default();
        if bindings.is_empty() {
            list.push(network::Publish::parse(key, "", "")?);
        }
        for binding in bindings {
            list.push(network::Publish::parse(key, &binding.host_ip, &binding.host_port)?);
        }
    }
    if record.host.publish_all_ports {
        for (number, protocol) in record.exposed() {
            let key = format!("{number}/{protocol}");
            if !record.host.port_bindings.as_ref().is_some_and(|p| p.contains_key(&key)) {
                list.push(network::Publish::parse(&key, "", "")?);
            }
        }
    }
    Ok(list)
}

/// `network connect` and `network disconnect`.
pub(crate) fn network_event(action: &str, record: &Record, endpoint: &network::Endpoint) -> Event {
    Event::new("network", action, endpoint.network.as_str())
        .with("container", record.id.as_str())
        .with("name", &endpoint.network_name)
        .with("type", if endpoint.network_name == "none" { "null" } else { &endpoint.network_name })
}

/// Reads what a container has on its networks, also from rows that knew of one network only.
pub(super) fn several<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<network::Endpoint>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Several(Vec<network::Endpoint>),
        One(Option<Box<network::Endpoint>>),
    }
    Ok(match Kept::deserialize(deserializer)? {
        Kept::Several(list) => list,
        Kept::One(one) => one.map(|endpoint| *endpoint).into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mode: &str) -> HostConfig {
        HostConfig { network_mode: mode.into(), ..HostConfig::default() }
    }

    fn endpoints(names: &[&str]) -> Asked {
        names.iter().map(|name| ((*name).to_owned(), EndpointSettings::default())).collect()
    }

    #[test]
    fn a_container_without_endpoints_is_on_the_network_of_its_mode() {
        let names = |mode: &str, given: &[&str]| {
            asked(&host(mode), endpoints(given)).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names("bridge", &[]), ["bridge"]);
        assert_eq!(names("bridge", &["default", "web"]), ["bridge", "web"]);
        assert_eq!(names("web", &["db", "web"]), ["db", "web"]);
        assert_eq!(names("host", &[]), ["host"]);
        assert!(names("container:x", &[]).is_empty());
    }

    #[test]
    fn private_networks_are_alone() {
        for (mode, given) in
            [("none", vec!["a", "b"]), ("a", vec!["a", "none"]), ("host", vec!["host", "a"])]
        {
            assert!(check(&host(mode), &endpoints(&given)).is_err(), "{mode}");
        }
        assert!(check(&host("a"), &endpoints(&["a", "b"])).is_ok());
        assert!(check(&host("none"), &endpoints(&["none"])).is_ok());
    }
}

//! A service's networks, and its place on each.

use super::{Asked, Service, pairs};
use crate::{
    project::Project,
    value::{Fields, Value},
};
use api::model::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use std::collections::BTreeMap;

const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// The highest priority first, equal ones by name.
pub(super) fn by_priority(of: &Fields) -> Vec<String> {
    let mut all: Vec<(i64, String)> = of
        .map("networks")
        .map(|(key, place)| {
            let priority = place.as_fields().and_then(|p| p.int("priority")).unwrap_or_default();
            (-priority, key.clone())
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, key)| key).collect()
}

pub(super) fn settings(
    project: &Project,
    service: &Service,
    asked: &Asked<'_>,
) -> (String, NetworkingConfig) {
    let mode = service.fields.text("network_mode");
    if !mode.is_empty() {
        return (mode.to_owned(), NetworkingConfig::default());
    }
    if project.networks.is_empty() {
        return ("none".into(), NetworkingConfig::default());
    }
    let mut keys = by_priority(&service.fields);
    if keys.is_empty() {
        keys.push("default".into());
    }
    let real = |key: &str| {
        project.networks.get(key).map_or_else(|| key.to_owned(), |n| n.text("name").to_owned())
    };
    let mut endpoints = BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        let mut endpoint = endpoint(project, service, key, asked);
        if at == 0 && endpoint.mac_address.is_empty() {
            service.fields.text("mac_address").clone_into(&mut endpoint.mac_address);
        }
        endpoints.insert(real(key), endpoint);
    }
    (real(&keys[0]), NetworkingConfig { endpoints_config: Some(endpoints) })
}

fn endpoint(
    project: &Project,
    service: &Service,
    key: &str,
    asked: &Asked<'_>,
) -> EndpointSettings {
    let of = &service.fields;
    let name = match (asked.number, of.text("container_name")) {
        (_, own) if !own.is_empty() => own.to_owned(),
        (number, _) => {
            let number = number.map_or_else(|| "-1".to_owned(), |n| n.to_string());
            [&project.name, service.name.as_str(), &number].join(&project.separator)
        }
    };
    let mut aliases = vec![name];
    let place = of.map("networks").find(|(k, _)| *k == key).and_then(|(_, v)| v.as_fields());
    if asked.aliases {
        aliases.push(service.name.clone());
        aliases.extend(place.into_iter().flat_map(|p| p.texts("aliases")).map(str::to_owned));
    }
    let links = Some(asked.links.clone()).filter(|l| !l.is_empty());
    let mut made =
        EndpointSettings { aliases: Some(aliases), links, ..EndpointSettings::default() };
    let Some(place) = place else { return made };
    let local: Vec<String> = place.texts("link_local_ips").map(str::to_owned).collect();
    made.ipam_config = Some(EndpointIpamConfig {
        ipv4_address: place.text("ipv4_address").to_owned(),
        ipv6_address: place.text("ipv6_address").to_owned(),
        link_local_ips: Some(local).filter(|l| !l.is_empty()),
    });
    made.ip_address = place.text("ipv4_address").to_owned();
    made.mac_address = place.text("mac_address").to_owned();
    made.driver_opts = pairs(place, "driver_opts");
    if let Some(Value::Text(interface)) = place.get("interface_name") {
        let options = made.driver_opts.get_or_insert_default();
        options.insert(INTERFACE.into(), interface.clone());
    }
    made.gw_priority = place.int("gw_priority").unwrap_or_default();
    made
}

//! `--network` in its short and long form, with the options that belong to the first network.

use super::values;
use crate::{
    error::{Fail, Result},
    flags::Given,
};
use api::model::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

/// The network mode and the endpoints of a new container.
pub(crate) fn networks(given: &Given) -> Result<(String, NetworkingConfig)> {
    let mut config = NetworkingConfig::default();
    let mut mode = String::new();
    for (n, text) in given.list("network").iter().enumerate() {
        let (name, mut endpoint) = network(text)?;
        if n == 0 {
            name.clone_into(&mut mode);
            first_endpoint(given, &mut endpoint);
        }
        let special = ["host", "none", "default", ""].contains(&name.as_str())
            || name.starts_with("container:");
        if special && given.list("network").len() > 1 {
            return Err(Fail::new(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if !special || endpoint != EndpointSettings::default() {
            config.endpoints_config.get_or_insert_default().insert(name, endpoint);
        }
    }
    if mode.is_empty() {
        mode = "default".into();
        let mut endpoint = EndpointSettings::default();
        first_endpoint(given, &mut endpoint);
        if endpoint != EndpointSettings::default() {
            config.endpoints_config.get_or_insert_default().insert(mode.clone(), endpoint);
        }
    }
    Ok((mode, config))
}

fn first_endpoint(given: &Given, endpoint: &mut EndpointSettings) {
    if let Some(aliases) = given.some_list("network-alias") {
        endpoint.aliases.get_or_insert_default().extend(aliases);
    }
    if let Some(mac) = given.text("mac-address") {
        mac.clone_into(&mut endpoint.mac_address);
    }
    let links = given.some_list("link-local-ip");
    let (ip, ip6) = (given.text_or_empty("ip"), given.text_or_empty("ip6"));
    if !ip.is_empty() || !ip6.is_empty() || links.is_some() {
        let ipam = endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default);
        (ipam.ipv4_address, ipam.ipv6_address, ipam.link_local_ips) = (ip, ip6, links);
    }
}

fn network(text: &str) -> Result<(String, EndpointSettings)> {
    let mut endpoint = EndpointSettings::default();
    if !text.contains('=') || text.starts_with("container:") {
        return Ok((text.to_owned(), endpoint));
    }
    let mut name = String::new();
    for field in values::csv(text)? {
        let fail = |why: &str| {
            Fail::new(format!("invalid argument {text:?} for \"--network\" flag: {why}"))
                .with_code(125)
        };
        let (key, value) =
            field.split_once('=').ok_or_else(|| fail(&format!("invalid field {field}")))?;
        match key.to_lowercase().as_str() {
            "name" => value.clone_into(&mut name),
            "alias" => endpoint.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => {
                value.clone_into(&mut endpoint.ipam_config.get_or_insert_default().ipv4_address);
            }
            "ip6" => {
                value.clone_into(&mut endpoint.ipam_config.get_or_insert_default().ipv6_address);
            }
            "link-local-ip" => {
                let ipam = endpoint.ipam_config.get_or_insert_default();
                ipam.link_local_ips.get_or_insert_default().push(value.to_owned());
            }
            "mac-address" => value.clone_into(&mut endpoint.mac_address),
            "driver-opt" => {
                let (option, text) = value
                    .split_once('=')
                    .ok_or_else(|| fail("invalid key value pair format in driver options"))?;
                endpoint
                    .driver_opts
                    .get_or_insert_default()
                    .insert(option.to_owned(), text.to_owned());
            }
            "gw-priority" => {
                endpoint.gw_priority = value.parse().map_err(|_| fail("invalid gw-priority"))?;
            }
            other => return Err(fail(&format!("invalid field key {other}"))),
        }
    }
    Ok((name, endpoint))
}

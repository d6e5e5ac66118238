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
use std::{collections::BTreeMap, net::IpAddr, os::fd::BorrowedFd};

/// Endpoints asked for, by name of network.
pub(crate) type Asked = BTreeMap<String, EndpointSettings>;

/// Network option: what interfaces inside are called, before their number.
const PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Longest name of a link (IFNAMSIZ - 1).
const NAME_BYTES: usize = 15;

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
    for (name, settings) in asked {
        check_endpoint(name, settings)?;
    }
    Ok(())
}

/// Checks what is asked for on one network.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn check_endpoint(network: &str, settings: &EndpointSettings) -> Result<()> {
    let mut faults = Vec::new();
    let user_defined = network != "default" && !network::predefined(network);
    if !user_defined && settings.aliases.as_ref().is_some_and(|a| !a.is_empty()) {
        faults.push("network-scoped aliases are only supported for user-defined networks".into());
    }
    if let Some(ipam) = &settings.ipam_config {
        let given = [&ipam.ipv4_address, &ipam.ipv6_address];
        if !user_defined && given.iter().any(|a| !a.is_empty()) {
            faults.push(
                "user-specified IP address is supported on user-defined networks only".into(),
            );
        }
        for (text, ipv6) in given.into_iter().zip([false, true]).filter(|(t, _)| !t.is_empty()) {
            if address(text, ipv6).is_none() {
                faults.push(format!("invalid IPv{} address: {text}", if ipv6 { 6 } else { 4 }));
            }
        }
        for text in ipam.link_local_ips.iter().flatten() {
            if text.parse::<IpAddr>().is_err() {
                faults.push(format!("invalid link-local IP address: {text}"));
            }
        }
    }
    let mac = &settings.mac_address;
    if !mac.is_empty() && mac.parse::<network::Mac>().is_err() {
        faults.push(format!("invalid MAC address: {mac}"));
    }
    if let Some(name) = interface_asked(settings)
        && !valid_interface(name)
    {
        faults.push(format!("invalid interface name {name:?}: want 1 to {NAME_BYTES} characters"));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "invalid config for network {network}: invalid endpoint settings: {}",
            faults.join("; ")
        ))),
    }
}

fn address(text: &str, ipv6: bool) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|a| a.is_ipv6() == ipv6 && !a.is_unspecified())
}

/// Docker's prefixes of link-local addresses.
fn link_local(ipam: &api::model::EndpointIpamConfig) -> Result<Vec<network::Subnet>> {
    let texts = ipam.link_local_ips.iter().flatten();
    texts
        .map(|text| {
            let bad = |_| Error::invalid(format!("invalid link-local IP address: {text}"));
            let address: IpAddr = text.parse().map_err(bad)?;
            network::Subnet::new(address, if address.is_ipv6() { 64 } else { 16 })
        })
        .collect()
}

fn interface_asked(settings: &EndpointSettings) -> Option<&str> {
    settings.driver_opts.as_ref()?.get(network::INTERFACE_OPTION).map(String::as_str)
}

fn valid_interface(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || !c.is_ascii_graphic();
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.contains(odd)
        && !matches!(name, "." | ".." | "lo")
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

/// What one endpoint of a container is wired with.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Name of the network.
    pub(crate) network: String,
    interface: String,
    mac: Option<network::Mac>,
    address: Option<IpAddr>,
    address6: Option<IpAddr>,
    link_local: Vec<network::Subnet>,
    pub(crate) gateway: bool,
    names: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Wish {
    /// The wish for `name`, beside interfaces that are there already. The default route is decided by the caller.
    ///
    /// # Errors
    /// `NotFound` for the network; `Invalid` for what cannot be read.
    pub(crate) fn of(
        record: &Record,
        name: &str,
        networks: &network::Networks,
        used: &[String],
    ) -> Result<Self> {
        let network = networks.find(name)?;
        let asked = record.endpoints.get(name).cloned().unwrap_or_default();
        let ipam = asked.ipam_config.clone().unwrap_or_default();
        let interface = match interface_asked(&asked) {
            Some(name) => name.to_owned(),
            None => {
                let prefix = network.spec.option(PREFIX).filter(|p| valid_interface(p));
                let prefix = prefix.unwrap_or("eth");
                let mut names = (0..).map(|n| format!("{prefix}{n}"));
                names.find(|name| !used.contains(name)).unwrap_or_default()
            }
        };
        // The old field of the configuration means the network of the mode.
        let own = match record.host.network_mode == name {
            true => record.config.mac_address.as_str(),
            false => "",
        };
        let mac = [asked.mac_address.as_str(), own].into_iter().find(|m| !m.is_empty());
        Ok(Self {
            network: network.name.clone(),
            interface,
            mac: mac.map(str::parse).transpose()?,
            address: address(&ipam.ipv4_address, false),
            address6: address(&ipam.ipv6_address, true),
            link_local: link_local(&ipam)?,
            gateway: false,
            names: record.dns_names(&network.name, &asked),
            options: asked.driver_opts.clone().unwrap_or_default(),
        })
    }

    /// All wishes of a container that starts, in the order in which they are wired.
    ///
    /// # Errors
    /// As [`Wish::of`].
    pub(crate) fn all(record: &Record, networks: &network::Networks) -> Result<Vec<Self>> {
        let names = record.own_networks();
        let gateway = record.gateway(networks, names.iter().copied())?;
        let mut used: Vec<String> =
            record.endpoints.values().filter_map(interface_asked).map(str::to_owned).collect();
        names
            .into_iter()
            .map(|name| {
                let mut wish = Self::of(record, name, networks, &used)?;
                wish.gateway = gateway == Some(name);
                used.push(wish.interface.clone());
                Ok(wish)
            })
            .collect()
    }

    /// Puts the container on the network.
    ///
    /// # Errors
    /// As [`network::Networks::attach`].
    pub(crate) fn attach(
        &self,
        record: &Record,
        networks: &network::Networks,
        netns: BorrowedFd<'_>,
        sandbox: &str,
        publish: &[network::Publish],
    ) -> Result<network::Endpoint> {
        let wish = network::Attach {
            container: &record.id,
            name: &record.name,
            netns: Some(netns),
            sandbox,
            interface: &self.interface,
            mac: self.mac,
            address: self.address,
            address6: self.address6,
            link_local: &self.link_local,
            gateway: self.gateway,
            publish: if self.gateway { publish } else { &[] },
            names: &self.names,
            options: &self.options,
        };
        networks.attach(&self.network, &wish)
    }
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
        if self.config.network_disabled || mode == "host" || mode.starts_with("container:") {
            return Vec::new();
        }
        self.network_names()
    }

    /// Its endpoint on a network, while it runs.
    pub(crate) fn attached_to(&self, network: &str) -> Option<&network::Endpoint> {
        self.attached.iter().find(|e| e.network_name == network)
    }

    /// Name and id of the networks that it is on; without an id until it was started.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.network_names().into_iter().map(|name| {
            let kept = self.endpoints.get(name).map_or("", |asked| asked.network_id.as_str());
            (name, self.attached_to(name).map_or(kept, |endpoint| endpoint.network.as_str()))
        })
    }

    /// The one of these networks that its default route leads to.
    ///
    /// # Errors
    /// `NotFound` for a network that is not there.
    pub(crate) fn gateway<'a>(
        &self,
        networks: &network::Networks,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Option<&'a str>> {
        let priority = |name: &str| self.endpoints.get(name).map_or(0, |asked| asked.gw_priority);
        networks.choose_gateway(names.map(|name| (name, priority(name))))
    }

    /// Names that others on a user-defined network find it by: its own, aliases, short id, host name.
    pub(crate) fn dns_names(&self, network: &str, asked: &EndpointSettings) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        if network::predefined(network) {
            return names;
        }
        let more = asked.aliases.iter().flatten().map(String::as_str);
        for name in more.chain([self.id.short(), &self.config.hostname]) {
            if !name.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// Notes what it was attached to: the ids of its networks are shown also when it has stopped.
    pub(crate) fn set_attached(&mut self, endpoints: &[network::Endpoint]) {
        for endpoint in endpoints {
            if let Some(asked) = self.endpoints.get_mut(&endpoint.network_name) {
                asked.network_id = endpoint.network.to_string();
            }
        }
        self.attached = endpoints.to_vec();
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
        .with("type", if endpoint.driver.is_empty() { "bridge" } else { &endpoint.driver })
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
    fn what_is_asked_on_a_network_is_checked_before_anything_is_made() {
        let told = |network: &str, settings: EndpointSettings| {
            check_endpoint(network, &settings).map_err(|e| e.to_string())
        };
        let with_alias = EndpointSettings { aliases: Some(vec!["a".into()]), ..Default::default() };
        assert!(
            told("bridge", with_alias.clone()).unwrap_err().contains("aliases are only supported")
        );
        assert_eq!(told("web", with_alias), Ok(()));
        let with_ip = |v4: &str, v6: &str| EndpointSettings {
            ipam_config: Some(api::model::EndpointIpamConfig {
                ipv4_address: v4.into(),
                ipv6_address: v6.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(
            told("default", with_ip("1.2.3.4", ""))
                .unwrap_err()
                .contains("user-defined networks only")
        );
        assert_eq!(told("web", with_ip("1.2.3.4", "fd00::2")), Ok(()));
        for (v4, v6) in [("x", ""), ("fd00::2", ""), ("", "1.2.3.4"), ("0.0.0.0", "")] {
            assert!(told("web", with_ip(v4, v6)).is_err(), "{v4} {v6}");
        }
        let named = |name: &str| EndpointSettings {
            driver_opts: Some(BTreeMap::from([(network::INTERFACE_OPTION.into(), name.into())])),
            ..Default::default()
        };
        assert_eq!(told("web", named("lan0")), Ok(()));
        for bad in ["", "lo", "a/b", "a b", "sixteen-letters-"] {
            assert!(told("web", named(bad)).is_err(), "{bad}");
        }
        let mac =
            EndpointSettings { mac_address: "01:00:00:00:00:00".into(), ..Default::default() };
        assert!(told("web", mac).is_err());
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

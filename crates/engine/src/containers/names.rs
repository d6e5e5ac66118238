//! The files that give a container its names: `hostname`, `hosts` and `resolv.conf`.
//!
//! Written at the start, and anew when a running container comes to a network or leaves one; in place, so that
//! a mounted file keeps its inode.
//! Not here: their text (crate `network`).

use super::{Places, Record};
use crate::Engine;
use base::{Error, Result};
use network::{Network, names};
use std::{net::IpAddr, path::Path};

fn write(places: &Places, name: &str, text: &str) -> Result<()> {
    let path = places.data.join(name);
    std::fs::write(&path, text)
        .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

fn shares(record: &Record) -> bool {
    record.host.network_mode.starts_with("container:")
}

impl Engine {
    /// Writes all three for a container that has no address yet.
    ///
    /// # Errors
    /// `Invalid` for options that make no sense; of the disk.
    pub(crate) fn write_names(&self, record: &Record, places: &Places) -> Result<()> {
        if shares(record) {
            return Ok(());
        }
        self.write_hosts(record, places, &[])?;
        write(places, "hostname", &names::hostname(&record.config.hostname))?;
        self.write_resolver(record, places)
    }

    /// Writes `hosts`.
    ///
    /// # Errors
    /// As [`Engine::write_names`].
    pub(crate) fn write_hosts(
        &self,
        record: &Record,
        places: &Places,
        endpoints: &[network::Endpoint],
    ) -> Result<()> {
        let (config, host) = (&record.config, &record.host);
        if shares(record) {
            return Ok(());
        }
        let own = endpoints.iter().find(|e| e.is_gateway).and_then(|e| e.gateway);
        let given = self.config.networks.host_gateways.iter().find_map(|ip| ip.parse().ok());
        let gateway = given.or(self.networks.bridge_address()).or(own);
        // Before the start there is no gateway yet; the file is written again with one.
        let gateway =
            gateway.or(endpoints.is_empty().then_some(std::net::Ipv4Addr::LOCALHOST.into()));
        let mut extra = host
            .extra_hosts
            .iter()
            .flatten()
            .map(|text| names::parse_extra_host(text, gateway))
            .collect::<Result<Vec<_>>>()?;
        match self.link_hosts(record) {
            Ok(links) => extra.extend(links),
            // Before the start it is an error; later the other one may have ended, and comes back.
            Err(err) if endpoints.is_empty() => return Err(err),
            Err(_) => {}
        }
        let addresses: Vec<IpAddr> =
            endpoints.iter().flat_map(|e| e.addresses().map(|a| a.address())).collect();
        let text = if host.network_mode == "host" {
            let file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            names::host_hosts(&file, &extra)
        } else {
            names::hosts(&names::Hosts {
                hostname: &config.hostname,
                domainname: &config.domainname,
                addresses: &addresses,
                extra: &extra,
                ipv6: true,
            })
        };
        write(places, "hosts", &text)
    }

    /// Writes `resolv.conf` and, for a container on user-defined networks, the settings of its server.
    ///
    /// # Errors
    /// As [`Engine::write_names`].
    pub(crate) fn write_resolver(&self, record: &Record, places: &Places) -> Result<()> {
        let host = &record.host;
        let pick = |own: &Option<Vec<String>>, daemon: &[String]| match own {
            Some(list) if !list.is_empty() => list.clone(),
            _ => daemon.to_vec(),
        };
        let (servers, search, options) = (
            pick(&host.dns, &self.config.dns),
            pick(&host.dns_search, &self.config.dns_search),
            pick(&host.dns_options, &self.config.dns_options),
        );
        let wish = names::Resolver { servers: &servers, search: &search, options: &options };
        let file = names::host_resolver_file(Path::new("/"));
        let networks = self.named_networks_of(record);
        let text = if host.network_mode == "host" {
            names::host_resolv_conf(&file, &wish)?
        } else if networks.iter().any(Network::has_names) {
            let outward = names::Outward {
                forwards: networks.iter().any(Network::has_gateway),
                ipv6: networks.iter().any(|n| n.spec.ipv6),
            };
            let (text, mut settings) = names::embedded_resolv_conf(&file, &wish, outward)?;
            settings.tables =
                networks.iter().filter_map(|n| self.networks.table_of(&n.id)).collect();
            settings.aliases = record.linked_names();
            let settings = serde_json::to_vec(&settings)
                .map_err(|e| Error::internal("cannot encode settings of names").caused_by(e))?;
            let path = places.exec.join(network::SETTINGS_FILE);
            let new = path.with_extension("new");
            std::fs::write(&new, settings)
                .and_then(|()| std::fs::rename(&new, &path))
                .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
            text
        } else {
            names::resolv_conf(&file, &wish)?
        };
        write(places, "resolv.conf", &text)
    }

    /// Those of a container's own networks that are there.
    fn named_networks_of(&self, record: &Record) -> Vec<Network> {
        let names = record.own_networks();
        names.into_iter().filter_map(|name| self.networks.find(name).ok()).collect()
    }

    /// Whether a container asks for names at a server of its own.
    pub(crate) fn has_names(&self, record: &Record) -> bool {
        self.named_networks_of(record).iter().any(Network::has_names)
    }
}

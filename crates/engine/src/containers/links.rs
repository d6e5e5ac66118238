//! `--link NAME:ALIAS`. On the default network, where there are no names otherwise: a line in `hosts` and
//! variables that tell the other's address, ports and environment. On user-defined networks: a name that this
//! container alone knows (`names.rs`).
//!
//! Source: Moby `daemon/links`, `daemon/container_operations.go` (behaviour and names of variables).

use super::{Record, Status};
use crate::Engine;
use base::{Error, Result};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A link, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The other container, by name or id.
    pub(crate) name: String,
    /// What it is called here.
    pub(crate) alias: String,
}

impl Link {
    /// Reads `NAME`, `NAME:ALIAS`, and what inspect shows, `/NAME:/OWN/ALIAS`.
    ///
    /// # Errors
    /// `Invalid` with docker's words.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("bad format for links: {text}"));
        let last = |part: &str| part.rsplit('/').next().unwrap_or_default().to_owned();
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        if alias.contains(':') {
            return Err(bad());
        }
        let link = Self { name: last(name), alias: last(alias) };
        if link.name.is_empty() || link.alias.is_empty() {
            return Err(bad());
        }
        Ok(link)
    }

    /// All links of a list.
    ///
    /// # Errors
    /// As [`Link::parse`].
    pub(crate) fn all(list: Option<&Vec<String>>) -> Result<Vec<Self>> {
        list.into_iter().flatten().map(|text| Self::parse(text)).collect()
    }
}

impl Record {
    /// Whether its links are lines in `hosts` rather than names of a network.
    fn has_old_links(&self) -> bool {
        self.host.network_mode == "bridge"
            && self.host.links.as_ref().is_some_and(|l| !l.is_empty())
    }

    /// Name or id of the container that it calls `alias` by a link of the default network.
    pub(crate) fn old_link(&self, alias: &str) -> Option<String> {
        self.old_links().into_iter().find(|link| link.alias == alias).map(|link| link.name)
    }

    fn old_links(&self) -> Vec<Link> {
        match self.has_old_links() {
            true => Link::all(self.host.links.as_ref()).unwrap_or_default(),
            false => Vec::new(),
        }
    }

    /// Names that it alone knows on its user-defined networks.
    pub(crate) fn linked_names(&self) -> BTreeMap<String, String> {
        let own = self.endpoints.values().flat_map(|asked| asked.links.iter().flatten());
        own.chain(self.host.links.iter().flatten())
            .filter_map(|text| Link::parse(text).ok())
            .map(|link| (link.alias, link.name))
            .collect()
    }
}

/// A container that another one is linked to, as it is now.
struct Linked {
    alias: String,
    record: Arc<Record>,
    address: IpAddr,
}

impl Engine {
    /// Checks at creation that the containers are there.
    ///
    /// # Errors
    /// `Invalid` when one is not: clients would take "not found" for a missing image.
    pub(crate) fn check_links(&self, host: &api::model::HostConfig) -> Result<()> {
        for link in Link::all(host.links.as_ref())? {
            let other = self.containers.find(&link.name).map_err(|e| {
                Error::invalid(format!("could not get container for {}", link.name)).caused_by(e)
            })?;
            if other.record().host.network_mode == "host" {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
        }
        Ok(())
    }

    /// What containers are called by those that are linked to them, `/PARENT/ALIAS`, by their ids.
    pub(crate) fn names_by_links(&self) -> BTreeMap<base::ContainerId, Vec<String>> {
        let mut names: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for parent in self.containers.all() {
            let parent = parent.record();
            for link in parent.old_links() {
                if let Ok(target) = self.containers.find(&link.name) {
                    let name = format!("/{}/{}", parent.name, link.alias);
                    names.entry(target.id().clone()).or_default().push(name);
                }
            }
        }
        names
    }

    fn linked(&self, record: &Record) -> Result<Vec<Linked>> {
        if !record.has_old_links() {
            return Ok(Vec::new());
        }
        let links = Link::all(record.host.links.as_ref())?;
        links
            .into_iter()
            .map(|link| {
                let other = self.containers.find(&link.name)?.record();
                let not_running = || {
                    Error::conflict(format!(
                        "Cannot link to a non running container: /{} AS /{}/{}",
                        other.name, record.name, link.alias
                    ))
                };
                let endpoint = other.attached_to("bridge").filter(|_| other.state.status.alive());
                let address = endpoint.and_then(|e| e.address).ok_or_else(not_running)?.address();
                Ok(Linked { alias: link.alias, record: Arc::clone(&other), address })
            })
            .collect()
    }

    /// Lines for `hosts`: alias, id and name of each linked container.
    ///
    /// # Errors
    /// `Conflict` when one does not run.
    pub(crate) fn link_hosts(&self, record: &Record) -> Result<Vec<(String, IpAddr)>> {
        let name = |linked: &Linked| {
            let mut names = vec![linked.alias.clone()];
            for other in [linked.record.config.hostname.as_str(), linked.record.name.as_str()] {
                if !names.iter().any(|n| n == other) {
                    names.push(other.to_owned());
                }
            }
            names.join(" ")
        };
        Ok(self.linked(record)?.iter().map(|linked| (name(linked), linked.address)).collect())
    }

    /// Variables that tell of each linked container.
    ///
    /// # Errors
    /// `Conflict` when one does not run.
    pub(crate) fn link_variables(&self, record: &Record) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for linked in self.linked(record)? {
            variables(&record.name, &linked, &mut all);
        }
        Ok(all)
    }

    /// Those that are linked to `record` find its new address.
    pub(crate) fn tell_linked(&self, record: &Record) {
        for other in self.containers.all() {
            let theirs = other.record();
            let alive = matches!(theirs.state.status, Status::Running | Status::Paused);
            let links = || Link::all(theirs.host.links.as_ref()).unwrap_or_default();
            if !alive
                || !theirs.has_old_links()
                || !links()
                    .iter()
                    .any(|l| l.name == record.name || record.id.as_str().starts_with(&l.name))
            {
                continue;
            }
            let places = super::Places::of(&self.config, &theirs.id);
            if let Err(err) = self.write_hosts(&theirs, &places, &theirs.attached) {
                tracing::warn!(
                    ctr = theirs.id.short(),
                    err = err.chain(),
                    "a linked container's new address was not told"
                );
            }
        }
    }
}

fn variables(own: &str, linked: &Linked, all: &mut Vec<String>) {
    let prefix = linked.alias.to_uppercase().replace('-', "_");
    let mut ports: Vec<(u16, String)> = linked.record.exposed().collect();
    ports.sort();
    all.push(format!("{prefix}_NAME=/{own}/{}", linked.alias));
    let url = |(port, protocol): &(u16, String)| format!("{protocol}://{}:{port}", linked.address);
    // The lowest TCP port stands for the container, if it has one.
    let first = ports.iter().find(|(_, protocol)| protocol == "tcp").or(ports.first());
    all.extend(first.map(|port| format!("{prefix}_PORT={}", url(port))));
    for port in &ports {
        let name = format!("{prefix}_PORT_{}_{}", port.0, port.1.to_uppercase());
        all.push(format!("{name}={}", url(port)));
        all.push(format!("{name}_ADDR={}", linked.address));
        all.push(format!("{name}_PORT={}", port.0));
        all.push(format!("{name}_PROTO={}", port.1));
    }
    for variable in linked.record.config.env.iter().flatten() {
        let Some((key, value)) = variable.split_once('=') else { continue };
        if !matches!(key, "HOME" | "PATH") {
            all.push(format!("{prefix}_ENV_{key}={value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_in_every_form() {
        let read = |text: &str| Link::parse(text).map(|l| (l.name, l.alias)).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read("db"), pair("db", "db"));
        assert_eq!(read("db:store"), pair("db", "store"));
        assert_eq!(read("/db:/web/store"), pair("db", "store"));
        for bad in ["", ":", "db:", ":x", "a:b:c"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

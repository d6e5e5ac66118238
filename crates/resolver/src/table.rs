//! What a server knows: tables of networks and settings of its container, as JSON files.
//!
//! Invariants: a file is replaced as a whole (written beside, renamed), so that a reader sees the old or the
//! new one; names are compared without regard to case.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// Where a container finds the server.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The file of a container's settings, in its run folder.
pub const SETTINGS_FILE: &str = "names.json";

/// Who is on a network: name to addresses, as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The network's name: `web.NETWORK` is `web` there.
    pub network: String,
    /// Names in small letters, each with the addresses of all that have it.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// The first name of whoever has an address.
    pub owners: BTreeMap<IpAddr, String>,
}

impl Table {
    /// Adds one endpoint under its names, the first of which is its own.
    pub fn add(&mut self, names: &[String], addresses: &[IpAddr]) {
        for name in names {
            let known = self.names.entry(name.to_lowercase()).or_default();
            known.extend(
                addresses.iter().filter(|a| !known.contains(a)).copied().collect::<Vec<_>>(),
            );
        }
        if let Some(own) = names.first() {
            self.owners.extend(addresses.iter().map(|address| (*address, own.clone())));
        }
    }
}

/// Where other names are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its address; the port is 53.
    pub address: IpAddr,
    /// Whether it is asked from the host's network rather than from the container's.
    pub from_host: bool,
}

/// What the server of one container is to do, as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Tables of the container's networks, in the order in which names are sought.
    pub tables: Vec<PathBuf>,
    /// Servers for other names; none where every network is internal.
    pub servers: Vec<Server>,
    /// Names that this container alone knows, and what they stand for (links).
    pub aliases: BTreeMap<String, String>,
    /// Whether the container said how many dots a name needs: then one without any is never forwarded.
    pub keep_single_labels: bool,
}

/// All that one server knows.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Of its container.
    pub settings: Settings,
    /// Of its networks, in order.
    pub tables: Vec<Table>,
    aliases: HashMap<String, String>,
}

impl Zone {
    /// Settings and the tables they name, as far as those could be read.
    pub fn new(settings: Settings, tables: Vec<Table>) -> Self {
        let aliases = settings
            .aliases
            .iter()
            .map(|(alias, name)| (alias.to_lowercase(), name.to_lowercase()))
            .collect();
        Self { settings, tables, aliases }
    }

    /// Addresses of a name in small letters; `None` when nobody here has it.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        let whole = self.tables.iter().find_map(|table| table.names.get(name));
        let found = whole.or_else(|| {
            // `web.net` is `web` on `net`; a network's name may hold dots itself.
            self.tables.iter().find_map(|table| {
                let own = table.network.to_lowercase();
                let rest = name.strip_suffix(&own)?.strip_suffix('.')?;
                table.names.get(rest)
            })
        });
        found.map(Vec::as_slice)
    }

    /// The full name of whoever has an address here.
    pub fn owner(&self, address: IpAddr) -> Option<String> {
        self.tables.iter().find_map(|table| {
            table.owners.get(&address).map(|name| format!("{name}.{}", table.network))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_their_network() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut one = Table { network: "front.net".into(), ..Table::default() };
        one.add(&["Web".into(), "www".into()], &[ip("10.0.0.2"), ip("fd00::2")]);
        one.add(&["web2".into(), "www".into()], &[ip("10.0.0.3")]);
        let mut two = Table { network: "back".into(), ..Table::default() };
        two.add(&["web".into(), "db".into()], &[ip("10.1.0.2")]);
        let aliases = BTreeMap::from([("Store".to_owned(), "db".to_owned())]);
        let zone = Zone::new(Settings { aliases, ..Settings::default() }, vec![one, two]);
        assert_eq!(zone.addresses("web").unwrap(), [ip("10.0.0.2"), ip("fd00::2")]);
        assert_eq!(zone.addresses("web.back").unwrap(), [ip("10.1.0.2")]);
        assert_eq!(zone.addresses("web.front.net").unwrap().len(), 2);
        assert_eq!(zone.addresses("www").unwrap().len(), 3);
        assert_eq!(zone.addresses("store").unwrap(), [ip("10.1.0.2")]);
        assert_eq!(zone.addresses("www.back"), None);
        assert_eq!(zone.addresses("back"), None);
        assert_eq!(zone.owner(ip("10.0.0.3")).unwrap(), "web2.front.net");
        assert_eq!(zone.owner(ip("10.9.0.3")), None);
    }
}

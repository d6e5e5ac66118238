//! The networks of one daemon and who is on them.

use crate::{
    Attach, Config, Endpoint, Leftovers, Repair, Subnet, drivers, instance::Claim, ports::Ports,
};
use base::{ContainerId, EndpointId, Error, NetworkId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use store::Store;
use sys::nft::Nft;

/// Names, drivers and presence of the predefined networks.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// How often links of former endpoints are looked after while there are any.
const RESTLESS: Duration = Duration::from_secs(1);
/// How often everything is looked after when nothing happens: elements that someone took one by one, say.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after a repair, doubled while others go on taking: between these two.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// After this long without a repair the next one is made at once.
const CALM: Duration = Duration::from_secs(10);

/// What is kept of a network in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    driver: String,
    created: Timestamp,
    /// The boot (its id) in which this network switched forwarding on.
    #[serde(default)]
    forwarding_since: Option<String>,
}

/// A network, as `network inspect` needs it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: &'static str,
    /// When it was first made here.
    pub created: Timestamp,
    /// Its subnet.
    pub subnet: Option<Subnet>,
    /// Its address on this machine.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet that addresses are taken from, if not all of it.
    pub range: Option<Subnet>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// Whether it is one of the three that always exist and cannot be removed.
    pub fn predefined(&self) -> bool {
        predefined(&self.name)
    }
}

/// Whether a network of this name is made by the daemon itself.
pub fn predefined(name: &str) -> bool {
    PREDEFINED.iter().any(|(n, _)| *n == name)
}

#[derive(Debug)]
struct Live {
    network: Network,
    plane: Box<dyn drivers::Plane>,
}

/// All networks of one daemon. Calls may come from several threads at once; those on one network wait for
/// each other only while addresses and ports are chosen.
#[derive(Debug)]
pub struct Networks {
    live: Vec<Live>,
    /// Keeps other daemons off our bridge and its table.
    _claim: Option<Claim>,
    endpoints: Mutex<HashMap<ContainerId, Vec<Endpoint>>>,
}

impl Networks {
    /// Opens the predefined networks, making in the kernel what is missing.
    ///
    /// # Errors
    /// `Invalid` for contradicting settings; `Conflict` when another daemon has the bridge; of the store and the kernel otherwise.
    pub fn open(config: &Config, store: &Store) -> Result<Self> {
        let claim = config.bridge.as_ref().map(|b| Claim::take(&b.name)).transpose()?;
        let (mut live, ports) = (Vec::new(), Ports::default());
        for (name, driver) in PREDEFINED {
            if driver == "bridge" && config.bridge.is_none() {
                continue;
            }
            let mut row = row(store, name, driver)?;
            let driver = drivers::named(driver)?;
            let mut config = config.clone();
            if let Some(bridge) = &mut config.bridge {
                let since = &row.doc.forwarding_since;
                bridge.forwarding_was_off |= since.is_some() && *since == boot();
            }
            let plane = driver.open(&config, &ports)?;
            if plane.switched_forwarding_on() {
                row.doc.forwarding_since = boot();
                store.write(|tx| tx.put_network(&row))?;
            }
            let network = Network {
                id: row.id,
                name: row.name,
                driver: driver.name(),
                created: row.doc.created,
                subnet: plane.subnet().map(Subnet::network),
                gateway: plane.gateway(),
                range: plane.range(),
                options: plane.options(),
            };
            live.push(Live { network, plane });
        }
        Ok(Self { live, _claim: claim, endpoints: Mutex::new(HashMap::new()) })
    }

    /// All networks, by name.
    pub fn list(&self) -> Vec<Network> {
        self.live.iter().map(|l| l.network.clone()).collect()
    }

    /// The network with this name, id, or unambiguous beginning of an id; `default` is the default one.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` (ambiguous), with Docker's words.
    pub fn find(&self, name: &str) -> Result<Network> {
        self.resolve(name).map(|l| l.network.clone())
    }

    /// The address of the default bridge, which `host-gateway` stands for.
    pub fn bridge_address(&self) -> Option<Ipv4Addr> {
        self.live.iter().find(|l| l.network.name == "bridge")?.plane.gateway()
    }

    /// Puts a container on the network of this name or id. On error nothing is left.
    ///
    /// # Errors
    /// `NotFound` for the network; `Conflict` when the container is on it already; otherwise as
    /// [`drivers::Plane::attach`].
    pub fn attach(&self, network: &str, wish: &Attach<'_>) -> Result<Endpoint> {
        let live = self.resolve(network)?;
        let taken = |e: &Endpoint| e.network == live.network.id;
        if self.endpoints().get(wish.container).is_some_and(|all| all.iter().any(taken)) {
            return Err(Error::new(
                base::Kind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    wish.name, live.network.name
                ),
            ));
        }
        let id = EndpointId::random();
        let wired = live.plane.attach(&id, wish)?;
        let endpoint = Endpoint {
            id,
            network: live.network.id.clone(),
            network_name: live.network.name.clone(),
            link: wired.link,
            address: wired.address,
            gateway: wired.gateway,
            mac: wired.mac,
            ports: wired.ports,
        };
        self.endpoints().entry(wish.container.clone()).or_default().push(endpoint.clone());
        Ok(endpoint)
    }

    /// Takes a container off all its networks; one that is on none changes nothing. Its ports and rules are
    /// free when this returns; its links go when its namespace does, or with the next [`Networks::mend`].
    ///
    /// # Errors
    /// The first error, after everything was tried.
    pub fn detach(&self, container: &ContainerId) -> Result<()> {
        let endpoints = self.endpoints().remove(container).unwrap_or_default();
        let mut result = Ok(());
        for endpoint in &endpoints {
            if let Some(live) = self.live.iter().find(|l| l.network.id == endpoint.network) {
                result = result.and(live.plane.detach(endpoint));
            }
        }
        result
    }

    /// Takes over the endpoints of containers that live, and removes what belongs neither to them nor to
    /// containers attached since [`Networks::open`]. To be called once after it.
    pub fn reconcile<'a>(
        &self,
        living: impl IntoIterator<Item = (&'a ContainerId, &'a Endpoint)>,
    ) -> Repair {
        let living: Vec<_> = living.into_iter().collect();
        let mut held = self.endpoints();
        for (container, endpoint) in &living {
            let all = held.entry((*container).clone()).or_default();
            if all.iter().all(|known| known.id != endpoint.id) {
                all.push((*endpoint).clone());
            }
        }
        drop(held);
        let mut repair = Repair::default();
        for live in &self.live {
            let own: Vec<_> =
                living.iter().copied().filter(|(_, e)| e.network == live.network.id).collect();
            repair.add(live.plane.reconcile(&own));
        }
        repair
    }

    /// Puts rules back that someone flushed and removes links that outlived their endpoints. Cheap; to be
    /// called now and then, and after [`Networks::detach`].
    pub fn mend(&self) -> Repair {
        let mut repair = Repair::default();
        for live in &self.live {
            repair.add(live.plane.mend());
        }
        repair
    }

    /// Watches over the packet filter and over links of former endpoints until `stop` is readable or closed:
    /// rules that someone flushed are back within a moment. Blocks; to be run on a thread of its own. What
    /// was mended is logged.
    ///
    /// # Errors
    /// Of the kernel, when watching itself fails.
    pub fn watch(&self, stop: BorrowedFd<'_>) -> Result<()> {
        let failed = |e: sys::netlink::Error| {
            Error::internal(e.to_string()).caused_by(std::io::Error::from(e.errno))
        };
        let tables: Vec<_> = self.live.iter().filter_map(|l| l.plane.table()).collect();
        let mut changes = Nft::watch().map_err(failed)?;
        let (mut mended, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            let restless = self.live.iter().any(|l| l.plane.restless());
            let patience = if restless { RESTLESS } else { IDLE };
            let wait = |patience| {
                sys::port::wait(stop, changes.socket(), patience).map_err(|errno| {
                    Error::io("cannot wait for changes of the packet filter", errno.into())
                })
            };
            let (stopped, changed) = wait(patience)?;
            if stopped {
                return Ok(());
            }
            let ours = changed && changes.wait_for_change(&tables).map_err(failed)?;
            if !ours && mended.elapsed() < patience {
                continue;
            }
            // Someone who takes our rules again and again gets them back slowly, or both would do nothing else.
            let rest = pause.saturating_sub(mended.elapsed());
            if ours && !rest.is_zero() && sys::port::wait(stop, stop, rest).is_ok_and(|(s, _)| s) {
                return Ok(());
            }
            let repair = self.mend();
            pause = match repair.firewall() {
                true => (pause * 2).clamp(PAUSE.0, PAUSE.1),
                false if mended.elapsed() > CALM => Duration::ZERO,
                false => pause,
            };
            repair.log();
            mended = Instant::now();
        }
    }

    /// What the kernel holds beyond the endpoints known here, over all networks.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn leftovers(&self) -> Result<Leftovers> {
        let mut all = Leftovers::default();
        for live in &self.live {
            let one = live.plane.leftovers()?;
            all.links.extend(one.links);
            all.ports += one.ports;
        }
        Ok(all)
    }

    /// Removes everything the networks made in the kernel, as when Gantry leaves this machine.
    ///
    /// # Errors
    /// The first error, after everything was tried.
    pub fn remove_all(&self) -> Result<()> {
        let mut result = Ok(());
        for live in &self.live {
            result = result.and(live.plane.remove());
        }
        result
    }

    /// A container's endpoints.
    pub fn endpoints_of(&self, container: &ContainerId) -> Vec<Endpoint> {
        self.endpoints().get(container).cloned().unwrap_or_default()
    }

    /// Who is on a network.
    pub fn members(&self, network: &NetworkId) -> Vec<(ContainerId, Endpoint)> {
        let held = self.endpoints();
        let all = held.iter().flat_map(|(id, list)| list.iter().map(move |e| (id, e)));
        all.filter(|(_, e)| e.network == *network).map(|(id, e)| (id.clone(), e.clone())).collect()
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<Endpoint>>> {
        // Every change of the map is one call, so it is sound even behind a poisoned lock.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, name: &str) -> Result<&Live> {
        let name = if name == "default" { "bridge" } else { name };
        if let Some(live) =
            self.live.iter().find(|l| l.network.name == name || l.network.id.as_str() == name)
        {
            return Ok(live);
        }
        let mut matching = self
            .live
            .iter()
            .filter(|l| !name.is_empty() && l.network.id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(live), None) => Ok(live),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {name} is ambiguous (matches found based on ID prefix)"
            ))),
            (None, _) => Err(Error::not_found(format!("network {name} not found"))),
        }
    }
}

/// This boot's id; a machine without one has it never remembered.
fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned())
}

fn row(store: &Store, name: &str, driver: &str) -> Result<store::Network<Record>> {
    let rows = store.read(|tx| tx.networks::<Record>())?;
    if let Some(row) = rows.into_iter().find(|r| r.name == name) {
        return Ok(row);
    }
    let doc =
        Record { driver: driver.to_owned(), created: Timestamp::now(), forwarding_since: None };
    let row = store::Network { id: NetworkId::random(), name: name.to_owned(), doc };
    store.write(|tx| tx.put_network(&row))?;
    Ok(row)
}

//! The networks of one daemon and who is on them.
//!
//! Flow: [`Networks::open`] makes the predefined networks and opens those of the store; `change.rs` makes and
//! removes user-defined ones; here containers come and go; `gateway.rs` leads their default routes;
//! `outside.rs` asks plugins and `settle.rs` tells them of ends; `tables.rs` tells their names; `watch.rs` keeps the kernel as it should be.
//! Invariants: a network is removed only when nobody is on it and nobody is coming; one that cannot be opened
//! (its bridge's name is another's, say) says so when it is used, and does not keep the daemon from starting.

mod change;
mod gateway;
mod outside;
mod settle;
mod tables;
mod watch;

pub use change::Made;

use crate::{
    Attach, Config, Endpoint, Leftovers, Repair, Spec,
    drivers::{Opening, Plane},
    instance::Claim,
    plugged,
    ports::Ports,
};
use base::{ContainerId, EndpointId, Error, NetworkId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};
use store::Store;

/// Names and drivers of the predefined networks.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// What is kept of a network in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    driver: String,
    created: Timestamp,
    /// The boot (its id) in which this network switched forwarding on.
    #[serde(default)]
    forwarding_since: Option<String>,
    /// What a user-defined one was asked for.
    #[serde(default)]
    spec: Option<Spec>,
    /// Its plugins are being told of its making or removal: if that breaks off, they are told that it is gone.
    #[serde(default)]
    unfinished: bool,
}

/// A network, as `network inspect` needs it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was first made here.
    pub created: Timestamp,
    /// What it is.
    pub spec: Spec,
}

impl Network {
    /// Whether it is one of the three that always exist and cannot be removed.
    pub fn predefined(&self) -> bool {
        predefined(&self.name)
    }

    /// Whether containers on it find each other by name.
    pub fn has_names(&self) -> bool {
        !self.predefined()
    }

    /// Whether it leads to the outside.
    pub fn has_gateway(&self) -> bool {
        !self.spec.internal && !matches!(self.spec.driver.as_str(), "null" | "host")
    }
}

/// Whether a network of this name is made by the daemon itself.
pub fn predefined(name: &str) -> bool {
    PREDEFINED.iter().any(|(n, _)| *n == name)
}

/// A network, opened when it is first needed if it could not be before.
#[derive(Debug)]
struct Live {
    network: Network,
    forwarding_was_off: bool,
    plane: Mutex<Option<Arc<dyn Plane>>>,
    /// Read while a container is put on it, written when it is removed; true when it is gone.
    gone: RwLock<bool>,
    /// Serialises writers of its table of names.
    table: Mutex<()>,
}

/// All networks of one daemon. Calls may come from several threads at once; those on one network wait for
/// each other only while addresses and ports are chosen.
#[derive(Debug)]
pub struct Networks {
    config: Config,
    ports: Ports,
    live: RwLock<Vec<Arc<Live>>>,
    /// Serialises making and removing.
    changing: Mutex<()>,
    /// Keeps other daemons off our bridge and its table.
    _claim: Option<Claim>,
    endpoints: Mutex<HashMap<ContainerId, Vec<Endpoint>>>,
    /// Networks whose end plugins still have to be told.
    unfinished: Mutex<Vec<settle::Unfinished>>,
    busy: settle::Busy,
}

impl Networks {
    /// Opens the predefined networks and those of the store, making in the kernel what is missing.
    ///
    /// # Errors
    /// `Invalid` for contradicting settings; `Conflict` when another daemon has the bridge; of the store and the kernel otherwise.
    pub fn open(config: &Config, store: &Store) -> Result<Self> {
        let claim = config.bridge.as_ref().map(|b| Claim::take(&b.name)).transpose()?;
        let rows = store.read(|tx| tx.networks::<Record>())?;
        let boot = sys::system::boot().map(str::to_owned);
        let since = |row: &store::Network<Record>| {
            row.doc.forwarding_since.is_some() && row.doc.forwarding_since == boot
        };
        let networks = Self {
            config: config.clone(),
            ports: Ports::default(),
            live: RwLock::default(),
            changing: Mutex::default(),
            _claim: claim,
            endpoints: Mutex::default(),
            unfinished: Mutex::default(),
            busy: settle::Busy::default(),
        };
        let mut was_off = rows.iter().any(since);
        for (name, driver) in PREDEFINED {
            if driver == "bridge" && config.bridge.is_none() {
                continue;
            }
            let mut row = predefined_row(store, &rows, name, driver)?;
            let spec = Spec { driver: driver.into(), ..Spec::default() };
            let mut live = Live::new(row.id.clone(), name, row.doc.created, spec, was_off);
            let plane = live.plane(&networks)?;
            plane.describe(&mut live.network.spec);
            if plane.switched_forwarding_on() {
                row.doc.forwarding_since.clone_from(&boot);
                store.write(|tx| tx.put_network(&row))?;
                was_off = true;
            }
            networks.add(&Arc::new(live));
        }
        for mut row in rows.into_iter().filter(|row| !predefined(&row.name)) {
            let Some(spec) = row.doc.spec.clone() else { continue };
            if row.doc.unfinished {
                networks.leave_unfinished(row.id, spec);
                continue;
            }
            let live = Live::new(row.id.clone(), &row.name, row.doc.created, spec, was_off);
            match live.plane(&networks) {
                Ok(plane) if plane.switched_forwarding_on() => {
                    row.doc.forwarding_since.clone_from(&boot);
                    store.write(|tx| tx.put_network(&row))?;
                    was_off = true;
                }
                Ok(_) => {}
                Err(err) => tracing::error!(
                    net = row.name,
                    err = err.chain(),
                    "a network cannot be opened; it is tried again when it is used"
                ),
            }
            networks.add(&Arc::new(live));
        }
        Ok(networks)
    }

    fn add(&self, live: &Arc<Live>) {
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(live));
        all.sort_by(|a, b| a.network.name.cmp(&b.network.name));
    }

    fn all(&self) -> Vec<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that are open.
    fn planes(&self) -> Vec<(Arc<Live>, Arc<dyn Plane>)> {
        self.all().into_iter().filter_map(|l| Some((Arc::clone(&l), l.opened()?))).collect()
    }

    /// All networks, by name.
    pub fn list(&self) -> Vec<Network> {
        self.all().iter().map(|l| l.network.clone()).collect()
    }

    /// The network with this name, id, or unambiguous beginning of an id; `default` is the default one.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` (ambiguous), with Docker's words.
    pub fn find(&self, name: &str) -> Result<Network> {
        self.resolve(name).map(|l| l.network.clone())
    }

    /// The address of the default bridge, which `host-gateway` stands for.
    pub fn bridge_address(&self) -> Option<IpAddr> {
        let live = self.all().into_iter().find(|l| l.network.name == "bridge")?;
        live.network.spec.pool(false)?.gateway
    }

    /// Puts a container on the network of this name or id. On error nothing is left.
    ///
    /// # Errors
    /// `NotFound` for the network; `Forbidden` when the container is on it already; otherwise as
    /// [`crate::drivers::Plane::attach`].
    pub fn attach(&self, network: &str, wish: &Attach<'_>) -> Result<Endpoint> {
        let live = self.resolve(network)?;
        let gone = live.gone.read().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Err(not_found(network));
        }
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
        live.check_wish(wish)?;
        let id = EndpointId::random();
        let plane = live.plane(self)?;
        // Until it is among the endpoints its note is nobody else's affair.
        let telling = self.busy.take(&id);
        let wired = match plugged::is_slow(&live.network.spec) {
            false => plane.attach(&id, wish),
            true => self.attach_plugged(&live.network, &*plane, &id, wish),
        };
        let wired = wired.map_err(|e| live.explain(e))?;
        let endpoint = Endpoint {
            id,
            network: live.network.id.clone(),
            network_name: live.network.name.clone(),
            driver: live.network.spec.driver.clone(),
            link: wired.link,
            interface: wired.interface.unwrap_or_else(|| wish.interface.to_owned()),
            address: wired.address,
            address6: wired.address6,
            gateway: wired.gateway,
            gateway6: wired.gateway6,
            is_gateway: wish.gateway,
            mac: wired.mac,
            names: wish.names.to_vec(),
            ports: wired.ports,
        };
        self.endpoints().entry(wish.container.clone()).or_default().push(endpoint.clone());
        drop(telling);
        if let Err(error) = self.write_table(&live) {
            drop(gone);
            if let Some(netns) = wish.netns {
                self.unplug(wish.container, &live.network.id, netns)?;
            }
            return Err(error);
        }
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
            result = result.and(self.forget_name(&endpoint.network));
            if let Some(plane) = self.plane_of(&endpoint.network) {
                result = result.and(plane.detach(endpoint));
            }
            result = result.and(self.tell_left(endpoint));
        }
        result
    }

    fn forget_name(&self, network: &NetworkId) -> Result<()> {
        match self.all().into_iter().find(|l| l.network.id == *network) {
            Some(live) => self.write_table(&live),
            None => Ok(()),
        }
    }

    /// Takes a running container off one network; its link is gone when this returns. Its default route is
    /// for [`Networks::lead`] to put right.
    ///
    /// # Errors
    /// `NotFound` when it is not on it; otherwise the first error, after everything was tried.
    pub fn unplug(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        netns: BorrowedFd<'_>,
    ) -> Result<Endpoint> {
        let endpoint = {
            let mut held = self.endpoints();
            let list = held.get_mut(container);
            let found = list.and_then(|all| {
                all.iter().position(|e| e.network == *network).map(|at| all.remove(at))
            });
            found.ok_or_else(|| {
                Error::not_found(format!(
                    "container {} is not connected to the network {}",
                    container.short(),
                    network.short()
                ))
            })?
        };
        let forgotten = self.forget_name(network);
        let mut outcome = forgotten;
        if let Some(plane) = self.plane_of(network) {
            outcome = outcome.and(plane.unplug(&endpoint, netns));
        }
        if let Err(err) = self.tell_left(&endpoint) {
            tracing::warn!(err = err.chain(), "a plugin is told of an endpoint's end later");
        }
        outcome.map(|()| endpoint)
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
        for (live, plane) in self.planes() {
            let own: Vec<_> =
                living.iter().copied().filter(|(_, e)| e.network == live.network.id).collect();
            repair.add(plane.reconcile(&own));
        }
        if let Err(error) = self.write_tables() {
            repair.failures.push(error.chain());
        }
        repair
    }

    /// Puts rules back that someone flushed and removes links that outlived their endpoints. Cheap; to be
    /// called now and then, and after [`Networks::detach`].
    pub fn mend(&self) -> Repair {
        let mut repair = Repair::default();
        for (_, plane) in self.planes() {
            repair.add(plane.mend());
        }
        repair
    }

    /// What the kernel holds beyond the endpoints known here, over all networks.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn leftovers(&self) -> Result<Leftovers> {
        let mut all = Leftovers::default();
        for (_, plane) in self.planes() {
            let one = plane.leftovers()?;
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
        for (_, plane) in self.planes() {
            result = result.and(plane.remove());
        }
        if let Some(dir) = &self.config.tables {
            // Nobody is left who would read them; one that stays says nothing.
            let _ = std::fs::remove_dir_all(dir);
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

    /// What the driver of an endpoint tells of it, for people. A plugin is asked.
    ///
    /// # Errors
    /// The plugin's.
    pub fn information(&self, endpoint: &Endpoint) -> Result<Map<String, Value>> {
        let plane = self.plane_of(&endpoint.network);
        plane.map_or_else(|| Ok(Map::new()), |plane| plane.information(endpoint))
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<Endpoint>>> {
        // Every change of the map is one call, so it is sound even behind a poisoned lock.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plane_of(&self, network: &NetworkId) -> Option<Arc<dyn Plane>> {
        self.all().into_iter().find(|l| l.network.id == *network)?.opened()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Live>> {
        let name = if name == "default" { "bridge" } else { name };
        let all = self.all();
        // A network may be called as another one's id: the id is the stronger.
        let by_id = all.iter().find(|l| l.network.id.as_str() == name);
        if let Some(live) = by_id.or_else(|| all.iter().find(|l| l.network.name == name)) {
            return Ok(Arc::clone(live));
        }
        let mut matching =
            all.iter().filter(|l| !name.is_empty() && l.network.id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(live), None) => Ok(Arc::clone(live)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {name} is ambiguous (matches found based on ID prefix)"
            ))),
            (None, _) => Err(not_found(name)),
        }
    }
}

fn not_found(name: &str) -> Error {
    Error::not_found(format!("network {name} not found"))
}

impl Live {
    fn new(
        id: NetworkId,
        name: &str,
        created: Timestamp,
        spec: Spec,
        forwarding_was_off: bool,
    ) -> Self {
        Self {
            network: Network { id, name: name.to_owned(), created, spec },
            forwarding_was_off,
            plane: Mutex::default(),
            gone: RwLock::new(false),
            table: Mutex::default(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<dyn Plane>>> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Option<Arc<dyn Plane>> {
        self.slot().clone()
    }

    /// The plane, opened now if it is not yet.
    fn plane(&self, networks: &Networks) -> Result<Arc<dyn Plane>> {
        let mut slot = self.slot();
        if let Some(plane) = &*slot {
            return Ok(Arc::clone(plane));
        }
        let spec = &self.network.spec;
        if spec.config_only {
            return Err(Error::new(
                base::Kind::Forbidden,
                format!("network {} is a configuration only network", self.network.name),
            ));
        }
        let opening = Opening {
            id: &self.network.id,
            name: &self.network.name,
            spec,
            config: &networks.config,
            forwarding_was_off: self.forwarding_was_off,
        };
        let plane: Arc<dyn Plane> =
            networks.driver(&spec.driver)?.open(&opening, &networks.ports)?.into();
        *slot = Some(Arc::clone(&plane));
        Ok(plane)
    }

    /// Addresses may be wished only where a subnet was.
    fn check_wish(&self, wish: &Attach<'_>) -> Result<()> {
        for (wished, ipv6) in [(wish.address, false), (wish.address6, true)] {
            let Some(address) = wished else { continue };
            let name = &self.network.name;
            match self.network.spec.pool(ipv6) {
                _ if self.network.predefined() => {
                    return Err(Error::invalid(
                        "user specified IP address is supported on user defined networks only",
                    ));
                }
                Some(pool) if pool.chosen => {
                    return Err(Error::invalid(
                        "user specified IP address is supported only when connecting to networks with user configured subnets",
                    ));
                }
                Some(_) => {}
                None => {
                    return Err(Error::invalid(format!(
                        "invalid address {address}: network {name} has no subnet of its family"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Names the network in errors that only speak of addresses.
    fn explain(&self, error: Error) -> Error {
        match error.kind() {
            base::Kind::Exhausted => Error::new(
                error.kind(),
                format!("{error}: {} ({})", self.network.name, self.network.id.short()),
            ),
            _ => error,
        }
    }
}

fn predefined_row(
    store: &Store,
    rows: &[store::Network<Record>],
    name: &str,
    driver: &str,
) -> Result<store::Network<Record>> {
    if let Some(row) = rows.iter().find(|r| r.name == name) {
        return Ok(row.clone());
    }
    let doc = Record {
        driver: driver.to_owned(),
        created: Timestamp::now(),
        forwarding_since: None,
        spec: None,
        unfinished: false,
    };
    let row = store::Network { id: NetworkId::random(), name: name.to_owned(), doc };
    store.write(|tx| tx.put_network(&row))?;
    Ok(row)
}

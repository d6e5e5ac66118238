//! Making and removing user-defined networks.
//!
//! Flow of making: check and choose subnets -> row -> kernel -> event. Of removing: kernel -> row and event.
//! So a daemon that dies in between leaves a row whose network the next start makes whole, never something
//! in the kernel that no row knows. Where plugins have a part the row is marked while they are told, and nobody
//! else waits for them; a marked row that the next start finds is a network whose end they have to be told.
//! Source: Moby `daemon/network.go` and `daemon/libnetwork/controller.go` (behaviour and words).

use super::{Live, Network, Networks, Record, not_found, predefined};
use crate::{
    Spec, Subnet,
    drivers::{self, bridge},
    ipam,
    plugged::{is_ipam_plugin, is_slow},
    spec::Pool,
};
use base::{Error, Kind, NetworkId, Result, Timestamp};
use std::sync::{Arc, MutexGuard, PoisonError};
use store::{Store, Tx};
use sys::netlink::Route;

/// A network that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// It.
    pub network: Network,
    /// What its maker should know.
    pub warning: String,
}

fn forbidden(text: String) -> Error {
    Error::new(Kind::Forbidden, text)
}

impl Networks {
    /// Makes a network; `with` adds to the transaction that announces it.
    ///
    /// # Errors
    /// `Conflict` for a taken name; `Forbidden` for a predefined one or a subnet that another network has;
    /// `NotFound` for an unknown driver; `Exhausted` without a free subnet; `Invalid` for contradictions.
    pub fn create(
        &self,
        store: &Store,
        name: &str,
        mut spec: Spec,
        with: impl FnOnce(&Tx<'_>, &Network) -> Result<()>,
    ) -> Result<Made> {
        if predefined(name) {
            return Err(forbidden(format!(
                "operation is not permitted on predefined {name} network"
            )));
        }
        let mut changing = self.changing();
        self.refuse_taken(name)?;
        self.inherit(&mut spec)?;
        let driver = self.driver(&spec.driver)?;
        if !driver.creatable() {
            return Err(forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                driver.name()
            )));
        }
        let slow = is_slow(&spec);
        if slow {
            // Plugins hold up nobody else.
            drop(changing);
            self.ask_plugins(&mut spec)?;
            changing = self.changing();
        }
        let (live, row, warning) = match self.prepare(store, name, &spec, slow) {
            Ok(prepared) => prepared,
            Err(err) => {
                drop(changing);
                self.give_pools_back(&spec);
                return Err(err);
            }
        };
        let network = live.network.clone();
        let changing = if slow {
            // It has its name and its subnets from here on, but nobody comes on it yet.
            self.add(&live);
            drop(changing);
            None
        } else {
            Some(changing)
        };
        let announced = self.bring_up(&live).and_then(|switched_on| {
            let mut row = row;
            store.write(|tx| {
                if switched_on || slow {
                    row.doc.forwarding_since =
                        sys::system::boot().filter(|_| switched_on).map(str::to_owned);
                    row.doc.unfinished = false;
                    tx.put_network(&row)?;
                }
                with(tx, &network)
            })
        });
        if let Err(error) = announced {
            self.drop_live(&live);
            self.undo(store, &live)?;
            return Err(error);
        }
        *live.gone.write().unwrap_or_else(PoisonError::into_inner) = false;
        if !slow {
            self.add(&live);
        }
        drop(changing);
        Ok(Made { network, warning })
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_taken(&self, name: &str) -> Result<()> {
        match self.all().iter().find(|l| l.network.name == name) {
            Some(_) => Err(Error::conflict(format!("network with name {name} already exists"))),
            None => Ok(()),
        }
    }

    /// Chooses subnets, checks, and writes the row; one that plugins are still to be told of is unfinished.
    fn prepare(
        &self,
        store: &Store,
        name: &str,
        spec: &Spec,
        slow: bool,
    ) -> Result<(Arc<Live>, store::Network<Record>, String)> {
        self.refuse_taken(name)?;
        let mut spec = spec.clone();
        let id = NetworkId::random();
        let mut warning = String::new();
        if !spec.config_only {
            let driver = self.driver(&spec.driver)?;
            warning = self.choose_subnets(&mut spec, driver.has_addresses())?;
            driver.check(&id, &spec, &self.config.common)?;
            self.refuse_shared_bridge(&id, &spec)?;
        }
        let created = Timestamp::now();
        let was_off = self.all().iter().any(|l| l.forwarding_was_off);
        let live = Live::new(id.clone(), name, created, spec.clone(), was_off);
        *live.gone.write().unwrap_or_else(PoisonError::into_inner) = true;
        let doc = Record {
            driver: spec.driver.clone(),
            created,
            forwarding_since: None,
            spec: Some(spec),
            unfinished: slow,
        };
        let row = store::Network { id, name: name.to_owned(), doc };
        store.write(|tx| tx.put_network(&row))?;
        Ok((Arc::new(live), row, warning))
    }

    /// Makes a network in the kernel and tells its plugin; whether that made a router of this machine.
    fn bring_up(&self, live: &Live) -> Result<bool> {
        let spec = &live.network.spec;
        if spec.config_only {
            return Ok(false);
        }
        let switched_on = live.plane(self)?.switched_forwarding_on();
        if let Some(driver) = self.driver_plugin(spec)? {
            driver.create_network(&live.network.id, spec)?;
        }
        Ok(switched_on)
    }

    /// Takes back a network that did not come to be. What cannot be removed, or plugins cannot be told, is seen to later:
    /// its row stays until then, so that the next start knows of it.
    fn undo(&self, store: &Store, live: &Live) -> Result<()> {
        let network = &live.network;
        let removed = live.opened().map_or(Ok(()), |plane| plane.remove());
        let told = removed.and_then(|()| match is_slow(&network.spec) {
            true => self.undo_network(&network.id, &network.spec),
            false => Ok(()),
        });
        if let Err(left) = told {
            tracing::warn!(
                net = network.name,
                err = left.chain(),
                "a failed network is wholly removed later"
            );
            self.leave_unfinished(network.id.clone(), network.spec.clone());
            return self.mark(store, network, true);
        }
        store.write(|tx| tx.delete_network(&network.id).map(drop))
    }

    fn drop_live(&self, live: &Arc<Live>) {
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|l| !Arc::ptr_eq(l, live));
    }

    /// Removes a network that nobody is on; `with` adds to the transaction that forgets it.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a predefined network, for one with endpoints, and for a template that
    /// others were made from; a plugin does not answer.
    pub fn remove(
        &self,
        store: &Store,
        name: &str,
        with: impl FnOnce(&Tx<'_>, &Network) -> Result<()>,
    ) -> Result<()> {
        let mut changing = Some(self.changing());
        let live = self.resolve(name)?;
        let network = &live.network;
        if network.predefined() {
            return Err(forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        if network.spec.config_only
            && self.all().iter().any(|l| l.network.spec.config_from == network.name)
        {
            return Err(forbidden(format!("configuration network \"{}\" is in use", network.name)));
        }
        let mut gone = live.gone.write().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Err(not_found(name));
        }
        self.refuse_members(network)?;
        // Whatever comes of it, the next use opens the network anew.
        let plane = live.slot().take();
        if let Some(plane) = plane {
            plane.remove()?;
        }
        if is_slow(&network.spec) {
            *gone = true;
            drop(gone);
            changing = None;
            let told = self.mark(store, network, true).and_then(|()| {
                self.undo_network(&network.id, &network.spec)
                    .inspect_err(|_| drop(self.mark(store, network, false)))
            });
            gone = live.gone.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(err) = told {
                *gone = false;
                return Err(err);
            }
        }
        let forgotten = store.write(|tx| {
            tx.delete_network(&network.id)?;
            with(tx, network)
        });
        *gone = forgotten.is_ok();
        forgotten?;
        self.drop_table(&live);
        self.drop_live(&live);
        drop(changing);
        Ok(())
    }

    fn refuse_members(&self, network: &Network) -> Result<()> {
        let members = self.members(&network.id);
        if members.is_empty() {
            return Ok(());
        }
        let told: Vec<_> = members
            .iter()
            .map(|(container, endpoint)| {
                let name = endpoint.names.first().map_or(container.short(), String::as_str);
                format!("name:\"{name}\" id:\"{}\"", endpoint.id.short())
            })
            .collect();
        Err(forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            network.name,
            told.join(", ")
        )))
    }

    /// Notes whether plugins are being told of a network.
    pub(super) fn mark(&self, store: &Store, network: &Network, unfinished: bool) -> Result<()> {
        store.write(|tx| {
            let rows = tx.networks::<Record>()?;
            match rows.into_iter().find(|row| row.id == network.id) {
                Some(mut row) => {
                    row.doc.unfinished = unfinished;
                    tx.put_network(&row)
                }
                None => Ok(()),
            }
        })
    }

    /// Takes over what a template says.
    fn inherit(&self, spec: &mut Spec) -> Result<()> {
        if spec.config_from.is_empty() {
            return Ok(());
        }
        if spec.config_only {
            return Err(forbidden(
                "a configuration network cannot depend on another configuration network".into(),
            ));
        }
        let template = self.find(&spec.config_from)?;
        if !template.spec.config_only {
            return Err(forbidden(format!("{} is not a configuration network", template.name)));
        }
        let own = &spec.ipam;
        if !own.pools.is_empty()
            || own.options.as_ref().is_some_and(|o| !o.is_empty())
            || !matches!(own.driver.as_str(), "" | "default")
        {
            return Err(forbidden("user specified configurations are not supported if the network depends on a configuration network".into()));
        }
        if !spec.options.is_empty() {
            return Err(forbidden("network driver options are not supported if the network depends on a configuration network".into()));
        }
        let from = template.spec;
        spec.config_from = template.name;
        spec.options = from.options;
        spec.ipam = from.ipam;
        spec.ipv4 = from.ipv4;
        spec.ipv6 = from.ipv6;
        for (key, value) in from.labels {
            spec.labels.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// Gives the network a subnet of each family that it has; returns a warning about shadowed routes.
    fn choose_subnets(&self, spec: &mut Spec, has_addresses: bool) -> Result<String> {
        if spec.ipam.driver == "null" || !has_addresses {
            if !spec.ipam.pools.is_empty() {
                return Err(Error::invalid(format!(
                    "invalid IPAM configuration: a network with the address driver {:?} and the driver {} takes no subnets",
                    spec.ipam.driver, spec.driver
                )));
            }
            return Ok(String::new());
        }
        if !spec.ipv4 && !spec.ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        let mut route = Route::open().map_err(bridge::kernel)?;
        let host = bridge::taken(&mut route)?;
        let own: Vec<(String, Subnet)> = self
            .all()
            .iter()
            .filter(|l| !l.network.spec.config_only)
            .flat_map(|l| {
                let pools = l.network.spec.ipam.pools.iter();
                pools.map(|p| (l.network.name.clone(), p.subnet)).collect::<Vec<_>>()
            })
            .collect();
        // Two networks of plugins may have the same addresses in different places.
        let foreign = is_ipam_plugin(&spec.ipam.driver) && !drivers::is_own(&spec.driver);
        let mut warnings = Vec::new();
        let mut pools = Vec::new();
        for (ipv6, wanted) in [(false, spec.ipv4), (true, spec.ipv6)] {
            if !wanted {
                continue;
            }
            let given: Vec<Pool> = spec
                .ipam
                .pools
                .iter()
                .filter(|pool| pool.subnet.is_ipv6() == ipv6)
                .cloned()
                .collect();
            if given.len() > 1 && spec.driver == "bridge" {
                return Err(forbidden(format!(
                    "bridge driver doesn't support multiple subnets: got {}",
                    given.iter().map(|p| p.subnet.to_string()).collect::<Vec<_>>().join(", ")
                )));
            }
            for pool in given.iter().filter(|_| !foreign) {
                if let Some((other, subnet)) = own.iter().find(|(_, s)| s.overlaps(pool.subnet)) {
                    return Err(forbidden(format!(
                        "invalid pool request: Pool overlaps with other one on this address space: {} meets {subnet} of network {other}",
                        pool.subnet
                    )));
                }
                if let Some(route) = host.iter().find(|s| s.overlaps(pool.subnet)) {
                    warnings.push(format!(
                        "subnet {} overlaps with {}, which this machine has an address in or a route to: that is no longer reached from here where they overlap",
                        pool.subnet,
                        route.network()
                    ));
                }
            }
            if given.is_empty() {
                let taken: Vec<_> =
                    host.iter().copied().chain(own.iter().map(|(_, subnet)| *subnet)).collect();
                let subnet = ipam::choose(&self.config.pools, ipv6, &taken)?;
                let mut pool = Pool::chosen(subnet);
                pool.gateway = pool.default_gateway();
                pools.push(pool);
            } else {
                pools.extend(given);
            }
        }
        for pool in &mut pools {
            // Every machine of the network leads to one gateway, whichever asks first.
            pool.gateway = pool.default_gateway();
        }
        spec.ipam.pools = pools;
        Ok(warnings.join("; "))
    }

    /// Two networks on one bridge would take each other's rules away.
    fn refuse_shared_bridge(&self, id: &NetworkId, spec: &Spec) -> Result<()> {
        if spec.driver != "bridge" {
            return Ok(());
        }
        let name = bridge::bridge_name(id, spec);
        let own = self.config.bridge.as_ref().filter(|bridge| bridge.name == name);
        let all = self.all();
        let other = all
            .iter()
            .filter(|l| l.network.spec.driver == "bridge" && !l.network.predefined())
            .find(|l| bridge::bridge_name(&l.network.id, &l.network.spec) == name);
        match (own.map(|_| "bridge"), other.map(|l| l.network.name.as_str())) {
            (Some(taken), _) | (None, Some(taken)) => Err(forbidden(format!(
                "cannot create network {id} ({name}): conflicts with network {taken}: networks have same bridge name"
            ))),
            (None, None) => Ok(()),
        }
    }
}

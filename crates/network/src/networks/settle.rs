//! What is still to be done: plugins are told of ends of endpoints, and networks that were not wholly made or removed go.

use super::{Live, Networks};
use crate::{
    Plugins, Spec, drivers,
    plugged::{Note, Plugin, is_ipam_plugin, is_slow},
};
use base::{EndpointId, Error, NetworkId, Result, Timestamp};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use store::Store;

/// Endpoints that somebody is telling plugins about just now.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<HashSet<EndpointId>>);

/// Ends the telling.
pub(super) struct Telling<'b>(&'b Busy, EndpointId);

impl Busy {
    /// `None` when somebody else does already.
    pub(super) fn take(&self, endpoint: &EndpointId) -> Option<Telling<'_>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(endpoint.clone()).then(|| Telling(self, endpoint.clone()))
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// A network whose making or removing broke off.
#[derive(Clone, Debug)]
pub(super) struct Unfinished {
    pub(super) id: NetworkId,
    pub(super) spec: Spec,
}

impl Networks {
    pub(super) fn plugins(&self) -> Result<&Arc<dyn Plugins>> {
        self.config.plugins.as_ref().ok_or_else(|| Error::internal("there are no plugins here"))
    }

    fn plugin(&self, name: &str) -> Result<Plugin> {
        Ok(Plugin { name: name.to_owned(), all: Arc::clone(self.plugins()?) })
    }

    /// The plugin that wires a network's endpoints, if one does.
    pub(super) fn driver_plugin(&self, spec: &Spec) -> Result<Option<Plugin>> {
        match spec.config_only || drivers::is_own(&spec.driver) {
            true => Ok(None),
            false => self.plugin(&spec.driver).map(Some),
        }
    }

    /// The plugin that gives a network's addresses, if one does.
    pub(super) fn ipam_plugin(&self, spec: &Spec) -> Result<Option<Plugin>> {
        match !spec.config_only && is_ipam_plugin(&spec.ipam.driver) {
            true => self.plugin(&spec.ipam.driver).map(Some),
            false => Ok(None),
        }
    }

    /// Whether to put a container on this network, or to take it off, may take long: a plugin is asked.
    pub fn is_slow(&self, network: &str) -> bool {
        self.find(network).is_ok_and(|n| is_slow(&n.spec))
    }

    /// Whether to take this container off its networks may take long.
    pub fn is_slow_to_leave(&self, container: &base::ContainerId) -> bool {
        self.endpoints_of(container).iter().any(|e| self.is_slow(e.network.as_str()))
    }

    /// Tells plugins of an endpoint's end; the note goes when they have been told.
    pub(super) fn give_back(&self, note: &Note) -> Result<()> {
        let Some(_telling) = self.busy.take(&note.endpoint) else { return Ok(()) };
        self.tell_end(note)
    }

    pub(super) fn tell_end(&self, note: &Note) -> Result<()> {
        if let Some(driver) = &note.driver {
            let driver = self.plugin(driver)?;
            let argument = json!({"NetworkID": note.network, "EndpointID": note.endpoint});
            for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"] {
                driver.tell(&format!("NetworkDriver.{method}"), &argument)?;
            }
        }
        if let Some(ipam) = &note.ipam {
            self.plugin(ipam)?.release_addresses(&note.addresses)?;
        }
        self.plugins()?.forget(note.endpoint.as_str())
    }

    pub(super) fn notes(&self) -> Result<Vec<Note>> {
        let Some(plugins) = &self.config.plugins else { return Ok(Vec::new()) };
        let read = |note| {
            serde_json::from_value(note)
                .map_err(|e| Error::internal("cannot read a note about an endpoint").caused_by(e))
        };
        plugins.notes()?.into_iter().map(read).collect()
    }

    /// Tells plugins what they still have to be told. Whether nothing is left; it may be asked again later, when they
    /// answer.
    ///
    /// # Errors
    /// Of the store.
    pub fn settle(&self, store: &Store) -> Result<bool> {
        let mut left = false;
        for note in self.notes()? {
            let Some(_telling) = self.busy.take(&note.endpoint) else { continue };
            let held = self.endpoints().values().flatten().any(|e| e.id == note.endpoint);
            if held {
                continue;
            }
            if let Err(err) = self.tell_end(&note) {
                tracing::debug!(err = err.chain(), "a plugin is told of an endpoint's end later");
                left = true;
            }
        }
        let unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for network in unfinished {
            let undone = self
                .take_down(&network)
                .and_then(|()| self.undo_network(&network.id, &network.spec));
            match undone {
                Ok(()) => {
                    store.write(|tx| tx.delete_network(&network.id).map(drop))?;
                    let mut all = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
                    all.retain(|other| other.id != network.id);
                }
                Err(err) => {
                    tracing::debug!(err = err.chain(), "a network's end is told later");
                    left = true;
                }
            }
        }
        Ok(!left)
    }

    /// Removes what our own drivers made of a network that did not come to be. How far that had come nobody knows any
    /// more, so it is made whole first.
    fn take_down(&self, network: &Unfinished) -> Result<()> {
        if network.spec.config_only || !drivers::is_own(&network.spec.driver) {
            return Ok(());
        }
        let Unfinished { id, spec } = network.clone();
        let live = Live::new(id.clone(), id.as_str(), Timestamp::now(), spec, false);
        live.plane(self)?.remove()
    }

    /// Tells plugins of a network's end.
    ///
    /// # Errors
    /// A plugin that is there does not answer. One that is gone has nothing any more.
    pub(super) fn undo_network(&self, id: &NetworkId, spec: &Spec) -> Result<()> {
        let gone = |outcome: Result<()>| match outcome {
            Err(err) if err.kind() == base::Kind::NotFound => {
                tracing::warn!(net = id.short(), err = err.chain(), "a network's plugin is gone");
                Ok(())
            }
            other => other,
        };
        if let Some(driver) = self.driver_plugin(spec)? {
            gone(driver.tell("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id})))?;
        }
        match self.ipam_plugin(spec)? {
            Some(ipam) => gone(ipam.release_pools(&spec.ipam)),
            None => Ok(()),
        }
    }

    /// After a start of the engine: plugins for addresses that forget hear again what is theirs. Failures are logged.
    pub fn replay(&self) {
        let mut held: HashMap<NetworkId, Vec<(String, IpAddr)>> = HashMap::new();
        match self.notes() {
            Ok(notes) => {
                for note in notes {
                    held.entry(note.network).or_default().extend(note.addresses);
                }
            }
            Err(err) => tracing::error!(err = err.chain(), "endpoints' notes cannot be read"),
        }
        for network in self.list() {
            let replayed = self.ipam_plugin(&network.spec).and_then(|plugin| match plugin {
                Some(plugin) => {
                    let held = held.get(&network.id).map_or(&[][..], Vec::as_slice);
                    plugin.replay(&network.spec.ipam, held)
                }
                None => Ok(()),
            });
            if let Err(err) = replayed {
                tracing::warn!(
                    net = network.name,
                    err = err.chain(),
                    "the plugin for a network's addresses was not told of them again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, drivers::bridge::bridge_name, networks::Record};
    use std::os::fd::AsFd as _;
    use sys::{netlink::Route, netns};

    #[test]
    fn a_network_whose_making_broke_off_goes_from_the_kernel_too() {
        let host = netns::create().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).unwrap();
        let story = || {
            let open = || Networks::open(&Config::with(None), &store).unwrap();
            let networks = open();
            let spec = Spec { driver: "bridge".into(), ipv4: true, ..Spec::default() };
            let made = networks.create(&store, "broken", spec, |_, _| Ok(())).unwrap().network;
            let bridge = bridge_name(&made.id, &made.spec);
            let there = || Route::open().unwrap().index(&bridge).unwrap().is_some();
            assert!(there());
            // As a daemon leaves it that dies before its plugins have answered.
            networks.mark(&store, &made, true).unwrap();
            drop(networks);
            let next = open();
            assert!(next.find("broken").is_err());
            assert!(next.settle(&store).unwrap());
            assert!(!there());
            let rows = store.read(|tx| tx.networks::<Record>()).unwrap();
            assert!(rows.iter().all(|row| row.name != "broken"));
        };
        netns::within(host.as_fd(), story).unwrap();
    }
}

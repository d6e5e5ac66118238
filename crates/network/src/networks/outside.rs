//! Containers on networks that plugins have a part in: their driver is one, or their addresses come from one.

use super::{Network, Networks, settle::Unfinished};
use crate::{
    Attach, Endpoint, Mac, Spec,
    drivers::{DRIVERS, Driver, Plane, Wired, remote::Remote},
    plugged::{Note, Plugin, is_slow},
};
use base::{EndpointId, Error, Kind, NetworkId, Result};
use std::{
    net::IpAddr,
    ops::Deref,
    sync::{Arc, PoisonError},
};

/// A driver, ours or a plugin's.
pub(super) enum Found {
    Own(&'static dyn Driver),
    Plugin(Remote),
}

impl Deref for Found {
    type Target = dyn Driver;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(driver) => *driver,
            Self::Plugin(remote) => remote,
        }
    }
}

impl Networks {
    /// The driver of this name; whether a plugin is there is found when it is asked.
    pub(super) fn driver(&self, name: &str) -> Result<Found> {
        if let Some(own) = DRIVERS.iter().copied().find(|driver| driver.name() == name) {
            return Ok(Found::Own(own));
        }
        match &self.config.plugins {
            Some(all) => {
                Ok(Found::Plugin(Remote(Plugin { name: name.to_owned(), all: Arc::clone(all) })))
            }
            None => Err(Error::not_found(format!("could not resolve driver {name} in registry"))),
        }
    }

    /// Asks what a new network's driver and addresses need to know: plugins that are not there say so here.
    pub(super) fn ask_plugins(&self, spec: &mut Spec) -> Result<()> {
        if let Some(driver) = self.driver_plugin(spec)? {
            let found = driver.all.check(&driver.name, crate::NETWORK);
            found.map_err(|err| {
                Error::wrap(format!("could not resolve driver {} in registry", driver.name), err)
            })?;
            spec.scope = driver.scope()?;
        }
        match self.ipam_plugin(spec)? {
            Some(ipam) => ipam.request_pools(spec),
            None => Ok(()),
        }
    }

    /// Gives back what [`Self::ask_plugins`] got for a network that does not come to be.
    pub(super) fn give_pools_back(&self, spec: &Spec) {
        let released = self.ipam_plugin(spec).and_then(|plugin| match plugin {
            Some(plugin) => plugin.release_pools(&spec.ipam),
            None => Ok(()),
        });
        if let Err(err) = released {
            tracing::warn!(plugin = spec.ipam.driver, err = err.chain(), "a subnet stays taken");
        }
    }

    /// Keeps in mind that plugins have to be told of a network's end.
    pub(super) fn leave_unfinished(&self, id: NetworkId, spec: Spec) {
        let mut all = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Unfinished { id, spec });
    }

    /// Puts a container on a network that plugins have a part in. On error nothing is left, or it is noted.
    pub(super) fn attach_plugged(
        &self,
        network: &Network,
        plane: &dyn Plane,
        endpoint: &EndpointId,
        wish: &Attach<'_>,
    ) -> Result<Wired> {
        let spec = &network.spec;
        let mut note = Note {
            endpoint: endpoint.clone(),
            network: network.id.clone(),
            driver: self.driver_plugin(spec)?.map(|p| p.name),
            ipam: None,
            addresses: Vec::new(),
        };
        let mut wish = *wish;
        if let Some(ipam) = self.ipam_plugin(spec)? {
            if ipam.wants_mac()? {
                wish.mac = Some(wish.mac.unwrap_or_else(|| Mac::from_id(endpoint.as_str())));
            }
            let wishes = [wish.address, wish.address6];
            let given = ipam.request_addresses(&spec.ipam, wishes, wish.mac)?;
            let of = |ipv6: bool| -> Option<IpAddr> {
                given.iter().map(|(_, a)| a.address()).find(|a| a.is_ipv6() == ipv6)
            };
            (wish.address, wish.address6) = (of(false), of(true));
            note.ipam = Some(ipam.name);
            note.addresses = given.into_iter().map(|(pool, a)| (pool, a.address())).collect();
        }
        let written = serde_json::to_value(&note)
            .map_err(|e| Error::internal("cannot write a note about an endpoint").caused_by(e))
            .and_then(|text| self.plugins()?.note(endpoint.as_str(), &text));
        let wired = written.and_then(|()| match plane.attach(endpoint, &wish) {
            // The link of the one that had the address before may take a moment to go.
            Err(err) if err.kind() == Kind::Forbidden && note.ipam.is_some() => {
                plane.mend();
                plane.attach(endpoint, &wish)
            }
            other => other,
        });
        wired.inspect_err(|_| {
            if let Err(err) = self.tell_end(&note) {
                tracing::warn!(
                    net = network.name,
                    err = err.chain(),
                    "a plugin is told of an endpoint's end later"
                );
            }
        })
    }

    /// Tells plugins that an endpoint has ended, if they have a part in its network.
    pub(super) fn tell_left(&self, endpoint: &Endpoint) -> Result<()> {
        let slow = self.find(endpoint.network.as_str()).is_ok_and(|n| is_slow(&n.spec));
        if !slow {
            return Ok(());
        }
        match self.notes()?.iter().find(|note| note.endpoint == endpoint.id) {
            Some(note) => self.give_back(note),
            None => Ok(()),
        }
    }
}

//! `POST /networks/{id}/connect` and `/disconnect`: a container that runs comes to a network or leaves it; one
//! that does not is noted to do so at its start.
//!
//! Flow of connecting: kernel -> record and event -> default route -> record. Of leaving: record and event ->
//! kernel -> default route -> record. So a daemon that dies in between leaves either an interface that no
//! record knows, which the next start removes, or a default route that leads nowhere, which it leads again.
//! Source: Moby `daemon/container_operations.go` (behaviour and words).

use crate::{
    Engine,
    containers::{
        Container, Places, Record, Status,
        networking::{self, Wish, network_event},
    },
};
use api::model;
use base::{Error, Kind, Principal, Result};
use std::{fs::File, os::fd::AsFd as _, sync::Arc};

fn forbidden(text: impl Into<String>) -> Error {
    Error::new(Kind::Forbidden, text.into())
}

impl Engine {
    /// Puts a container on a network.
    ///
    /// # Errors
    /// `NotFound` for network or container; `Forbidden` when it is on the network already or cannot be;
    /// `Invalid` for settings that make no sense.
    pub async fn network_connect(
        self: &Arc<Self>,
        name: &str,
        request: &model::NetworkConnect,
        by: &Principal,
    ) -> Result<()> {
        let network = self.networks.find(name)?;
        let container = self.containers.find(&request.container)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        refuse_connect(&record, &network)?;
        let asked = model::EndpointSettings {
            network_id: network.id.to_string(),
            ..wished(request.endpoint_config.clone().unwrap_or_default())
        };
        networking::check_endpoint(&network.name, &asked)?;
        if !record.state.status.alive() {
            container.change(
                &self.store,
                |r| drop(r.endpoints.insert(network.name.clone(), asked)),
                |_, _| Ok(()),
            )?;
            return Ok(());
        }
        let (engine, plugged) = (Arc::clone(self), Arc::clone(&container));
        let by = by.clone();
        super::blocking(move || engine.plug(&plugged, &network, asked, &by)).await?;
        self.serve_names(&container).await
    }

    /// Lets a running container ask for names, if it is on a network that has some.
    pub(crate) async fn serve_names(&self, container: &Container) -> Result<()> {
        match container.shim() {
            Some(shim) if self.has_names(&container.record()) => shim.serve_names().await,
            _ => Ok(()),
        }
    }

    fn plug(
        self: &Arc<Self>,
        container: &Arc<Container>,
        network: &network::Network,
        asked: model::EndpointSettings,
        by: &Principal,
    ) -> Result<()> {
        let mut next = Record::clone(&container.record());
        next.endpoints.insert(network.name.clone(), asked.clone());
        let used: Vec<_> = next.attached.iter().map(|e| e.interface.clone()).collect();
        let wish = Wish::of(&next, &network.name, &self.networks, &used)?;
        let netns = namespace(&next)?;
        let sandbox = namespace_path(&next);
        let attached = wish.attach(&next, &self.networks, netns.as_fd(), &sandbox, &[]);
        let endpoint = attached.inspect_err(|_| self.settle_networks_later())?;
        self.faults.step("connect-wired");
        let noted = container.change(
            &self.store,
            |r| {
                r.endpoints.insert(network.name.clone(), asked);
                r.attached.push(endpoint.clone());
            },
            |tx, r| {
                if !r.state.status.alive() {
                    return Err(Error::conflict(format!("container {} is not running", r.id)));
                }
                tx.emit(network_event("connect", r, &endpoint).by(by));
                Ok(())
            },
        );
        self.faults.step("connect-noted");
        let led = noted.and_then(|_| self.lead(container));
        self.faults.step("connect-led");
        let Err(err) = led else { return Ok(()) };
        // It is as if it had never been asked for.
        let gone = self.networks.unplug(container.id(), &network.id, netns.as_fd()).map(drop);
        let forgotten = container.change(
            &self.store,
            |r| {
                r.endpoints.remove(&network.name);
                r.attached.retain(|e| e.id != endpoint.id);
            },
            |tx, r| {
                tx.emit(network_event("disconnect", r, &endpoint).by(by));
                Ok(())
            },
        );
        if let Err(left) = gone.and(forgotten.map(drop)).and_then(|()| self.lead(container)) {
            tracing::error!(
                ctr = container.id().short(),
                err = left.chain(),
                "a failed connect was not wholly undone"
            );
        }
        Err(err)
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// `NotFound` for network or container; `Forbidden` when it is not on the network, or on the host's.
    pub async fn network_disconnect(
        self: &Arc<Self>,
        name: &str,
        request: &model::NetworkConnect,
        by: &Principal,
    ) -> Result<()> {
        let network = self.networks.find(name)?;
        let container = self.containers.find(&request.container)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        if network.name == "host" || record.host.network_mode == "host" {
            return Err(forbidden(
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        if !record.endpoints.contains_key(&network.name) {
            return Err(forbidden(format!(
                "container {} is not connected to the network {}",
                record.id, network.name
            )));
        }
        let endpoint = record.attached_to(&network.name).cloned();
        container.change(
            &self.store,
            |r| {
                r.endpoints.remove(&network.name);
                r.attached.retain(|e| e.network != network.id);
            },
            |tx, r| {
                if let Some(endpoint) = &endpoint {
                    tx.emit(network_event("disconnect", r, endpoint).by(by));
                }
                Ok(())
            },
        )?;
        if endpoint.is_none() {
            return Ok(());
        }
        self.faults.step("disconnect-noted");
        let (engine, container) = (Arc::clone(self), Arc::clone(&container));
        super::blocking(move || {
            let netns = namespace(&container.record())?;
            engine.networks.unplug(container.id(), &network.id, netns.as_fd())?;
            if engine.networks.is_slow(network.id.as_str()) {
                engine.settle_networks_later();
            }
            engine.faults.step("disconnect-unplugged");
            engine.lead(&container)
        })
        .await
    }

    /// Leads a running container's default route where it belongs now, with its published ports, and writes its
    /// names anew.
    pub(crate) fn lead(&self, container: &Container) -> Result<()> {
        let record = container.record();
        let attached = record.attached.iter().map(|e| e.network_name.as_str());
        let to = record.gateway(&self.networks, attached)?;
        let to = to.and_then(|name| record.attached_to(name)).map(|e| e.network.clone());
        let netns = namespace(&record)?;
        let publish = networking::published(&record)?;
        let led =
            self.networks.lead(&record.id, &record.name, netns.as_fd(), to.as_ref(), &publish);
        let endpoints =
            led.as_ref().map_or_else(|_| self.networks.endpoints_of(&record.id), Clone::clone);
        let record =
            container.change(&self.store, |r| r.set_attached(&endpoints), |_, _| Ok(()))?;
        led?;
        let places = Places::of(&self.config, &record.id);
        self.write_hosts(&record, &places, &record.attached)?;
        self.write_resolver(&record, &places)
    }

    /// After a start of the daemon: containers whose default route leads nowhere although it could lead
    /// somewhere, because the daemon died while it changed their networks.
    pub(crate) fn lead_the_lost(&self) {
        for container in self.containers.all() {
            let record = container.record();
            let alive = matches!(record.state.status, Status::Running | Status::Paused);
            if !alive || record.attached.is_empty() || record.attached.iter().any(|e| e.is_gateway)
            {
                continue;
            }
            let attached = record.attached.iter().map(|e| e.network_name.as_str());
            if !record.gateway(&self.networks, attached).is_ok_and(|to| to.is_some()) {
                continue;
            }
            if let Err(err) = self.lead(&container) {
                tracing::error!(
                    ctr = record.id.short(),
                    err = err.chain(),
                    "the default route of a container was not led again"
                );
            }
        }
    }
}

/// The network namespace of a running container.
fn namespace(record: &Record) -> Result<File> {
    let path = namespace_path(record);
    File::open(&path).map_err(|e| Error::io(format!("cannot open {path}"), e))
}

fn namespace_path(record: &Record) -> String {
    format!("/proc/{}/ns/net", record.state.pid)
}

/// What a client may ask for; what it saw elsewhere and sends back is passed over.
fn wished(given: model::EndpointSettings) -> model::EndpointSettings {
    model::EndpointSettings {
        ipam_config: given.ipam_config,
        links: given.links,
        aliases: given.aliases,
        mac_address: given.mac_address,
        driver_opts: given.driver_opts,
        gw_priority: given.gw_priority,
        ..model::EndpointSettings::default()
    }
}

fn refuse_connect(record: &Record, network: &network::Network) -> Result<()> {
    let mode = record.host.network_mode.as_str();
    if matches!(record.state.status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!(
            "container {} is marked for removal and cannot be connected or disconnected to the network {}",
            record.id, network.name
        )));
    }
    if record.endpoints.contains_key(&network.name) {
        return Err(forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    if mode == "host" || network.name == "host" {
        return Err(forbidden(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    if mode.starts_with("container:") {
        return Err(forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if record.endpoints.contains_key("none") || network.name == "none" {
        return Err(forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    if network.spec.config_only {
        return Err(forbidden(format!("network {} is a configuration only network", network.name)));
    }
    Ok(())
}

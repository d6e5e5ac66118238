//! Making, removing, connecting: what the predefined networks allow, and a clear word where user-defined
//! ones are asked for, which do not exist yet.

use crate::Engine;
use api::model;
use base::{Error, Kind, Result, filters::Filters};

const PRUNE: &[&str] = &["label", "label!", "until"];

fn forbidden(text: String) -> Error {
    Error::new(Kind::Forbidden, text)
}

impl Engine {
    /// `POST /networks/create`.
    ///
    /// # Errors
    /// `Invalid` without a name; `Forbidden` for a predefined one; `NotFound` for an unknown driver;
    /// otherwise `NotImplemented`.
    pub async fn network_create(&self, request: &model::NetworkCreate) -> Result<String> {
        let name = request.name.trim();
        if name.is_empty() {
            return Err(Error::invalid("invalid network name: name is empty"));
        }
        if network::predefined(name) {
            return Err(forbidden(format!(
                "operation is not permitted on predefined {name} network"
            )));
        }
        if !request.driver.is_empty() && request.driver != "default" {
            network::drivers::named(&request.driver)?;
        }
        Err(Error::not_implemented(format!(
            "cannot create network {name}: user-defined networks are not available yet"
        )))
    }

    /// `DELETE /networks/{id}`.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a predefined network, which all are as yet.
    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let network = self.networks.find(name)?;
        Err(forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)))
    }

    /// `POST /networks/{id}/connect`.
    ///
    /// # Errors
    /// `NotFound` for network or container; `Forbidden` when it is on the network or shares another's;
    /// otherwise `NotImplemented`.
    pub async fn network_connect(&self, name: &str, request: &model::NetworkConnect) -> Result<()> {
        let network = self.networks.find(name)?;
        let record = self.containers.find(&request.container)?.record();
        let mode = record.host.network_mode.as_str();
        if mode == network.name {
            return Err(forbidden(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        if mode == "host" || network.name == "host" {
            return Err(forbidden(
                "container cannot be disconnected from host network or connected to host network"
                    .into(),
            ));
        }
        if mode == "none" || network.name == "none" {
            return Err(forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .into(),
            ));
        }
        if mode.starts_with("container:") {
            return Err(forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other network"
                    .into(),
            ));
        }
        Err(Error::not_implemented("a container on several networks is not available yet"))
    }

    /// `POST /networks/{id}/disconnect`.
    ///
    /// # Errors
    /// `NotFound` for network or container; `Forbidden` when it is not on the network; otherwise
    /// `NotImplemented`.
    pub async fn network_disconnect(
        &self,
        name: &str,
        request: &model::NetworkConnect,
    ) -> Result<()> {
        let network = self.networks.find(name)?;
        let record = self.containers.find(&request.container)?.record();
        if record.host.network_mode != network.name {
            return Err(forbidden(format!(
                "container {} is not connected to the network {}",
                record.id, network.name
            )));
        }
        if network.name == "host" {
            return Err(forbidden(
                "container cannot be disconnected from host network or connected to host network"
                    .into(),
            ));
        }
        Err(Error::not_implemented(format!(
            "disconnecting a container from {} is not available yet",
            network.name
        )))
    }

    /// `POST /networks/prune`. Predefined networks are never pruned.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn networks_prune(&self, filters: &Filters) -> Result<model::NetworksPruned> {
        filters.only(PRUNE)?;
        Ok(model::NetworksPruned::default())
    }
}

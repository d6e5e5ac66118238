//! Networks and addresses that are plugins' business.
//!
//! Flow: the engine hands in [`Plugins`], by which plugins are asked. A network of a plugin is told to it when it is
//! made (`NetworkDriver.CreateNetwork`) and removed; its endpoints are told in `drivers/remote.rs`. A plugin for
//! addresses gives subnets when the network is made ([`ipam`]) and an address to each endpoint, whatever the driver.
//! Invariants: before a plugin is told of an endpoint a [`Note`] says what it will have to be told at its end; the note
//! goes when it has been. A daemon that died finds the notes of endpoints that nobody has ([`crate::Networks::settle`]).
//! Source: Moby `daemon/libnetwork/docs/{remote,ipam}.md`, `drivers/remote`, `ipams/remote` (documents, order, texts).
//! Not here: networks of clusters (`AllocateNetwork`, `FreeNetwork`), nodes that come and go (`DiscoverNew`,
//! `DiscoverDelete`): plugins hear of both from a cluster only.

mod ipam;

use crate::{Publish, Spec, drivers};
use base::{EndpointId, Error, Kind, NetworkId, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{fmt, net::IpAddr, sync::Arc};

/// What a plugin for networks says it implements.
pub const NETWORK: &str = "NetworkDriver";
/// What a plugin for addresses says it implements.
pub const IPAM: &str = "IpamDriver";

/// How plugins are asked, and where it is noted what they have to be told. Calls block.
pub trait Plugins: fmt::Debug + Send + Sync {
    /// Checks that a plugin is there and implements `kind`.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when it cannot be asked.
    fn check(&self, plugin: &str, kind: &str) -> Result<()>;

    /// Asks a plugin. `method` is whole: `NetworkDriver.Join`.
    ///
    /// # Errors
    /// `NotFound` when there is no such plugin; `Unavailable` when it cannot be asked; `NotImplemented` when it does not
    /// know the method; otherwise what it says.
    fn ask(&self, plugin: &str, method: &str, argument: &Value) -> Result<Value>;

    /// Keeps a note, also when the engine dies.
    ///
    /// # Errors
    /// Of the store.
    fn note(&self, id: &str, note: &Value) -> Result<()>;

    /// Drops a note.
    ///
    /// # Errors
    /// Of the store.
    fn forget(&self, id: &str) -> Result<()>;

    /// All notes.
    ///
    /// # Errors
    /// Of the store.
    fn notes(&self) -> Result<Vec<Value>>;
}

/// A driver's plugin, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) all: Arc<dyn Plugins>,
}

/// What has to be told at the end of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) endpoint: EndpointId,
    pub(crate) network: NetworkId,
    /// The plugin that wires it.
    pub(crate) driver: Option<String>,
    /// The plugin that gave its addresses, and which: of which pool.
    pub(crate) ipam: Option<String>,
    pub(crate) addresses: Vec<(String, IpAddr)>,
}

/// Whether a failure is the plugin's own word, and not that it could not be asked.
pub(crate) fn answered(err: &Error) -> bool {
    !matches!(err.kind(), Kind::Unavailable | Kind::NotFound)
}

/// Whether `driver` of addresses is a plugin.
pub(crate) fn is_ipam_plugin(driver: &str) -> bool {
    !matches!(driver, "" | "default" | "null")
}

/// Whether plugins have a part in a network, so that they are asked about its endpoints.
pub(crate) fn is_slow(spec: &Spec) -> bool {
    !spec.config_only && (!drivers::is_own(&spec.driver) || is_ipam_plugin(&spec.ipam.driver))
}

impl Plugin {
    /// Asks, and reads the answer.
    pub(crate) fn ask<A: DeserializeOwned>(&self, method: &str, argument: &Value) -> Result<A> {
        let answer = self.all.ask(&self.name, method, argument)?;
        if let Some(err) = answer["Err"].as_str().filter(|e| !e.is_empty()) {
            return Err(Error::internal(format!("{method}: {err}")));
        }
        serde_json::from_value(answer).map_err(|e| {
            Error::internal(format!("{method}: cannot read what plugin {} answers", self.name))
                .caused_by(e)
        })
    }

    /// Tells something whose refusal changes nothing.
    pub(crate) fn tell(&self, method: &str, argument: &Value) -> Result<()> {
        match self.ask::<Map<String, Value>>(method, argument) {
            Err(err) if !answered(&err) => Err(err),
            // Methods that older plugins do not know.
            Err(err) if err.kind() == Kind::NotImplemented => Ok(()),
            Err(err) => {
                tracing::warn!(plugin = self.name, err = err.chain(), "a plugin refuses");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Tells of a new network.
    ///
    /// # Errors
    /// The plugin's.
    pub(crate) fn create_network(&self, id: &NetworkId, spec: &Spec) -> Result<()> {
        let data = |ipv6: bool| -> Vec<Value> {
            let pools = spec.ipam.pools.iter().filter(|p| p.subnet.is_ipv6() == ipv6);
            pools
                .map(|pool| {
                    let cidr = |address: &IpAddr| pool.subnet.at(*address).to_string();
                    let auxiliary: Map<String, Value> =
                        pool.auxiliary.iter().map(|(k, v)| (k.clone(), cidr(v).into())).collect();
                    json!({
                        "AddressSpace": pool.space,
                        "Pool": pool.subnet.to_string(),
                        "Gateway": pool.gateway.as_ref().map(cidr).unwrap_or_default(),
                        "AuxAddresses": auxiliary,
                    })
                })
                .collect()
        };
        let mut options = json!({
            "com.docker.network.generic": spec.options,
            "com.docker.network.enable_ipv4": spec.ipv4,
            "com.docker.network.enable_ipv6": spec.ipv6,
        });
        if spec.internal {
            options["com.docker.network.internal"] = true.into();
        }
        let argument = json!({
            "NetworkID": id, "Options": options, "IPv4Data": data(false), "IPv6Data": data(true),
        });
        self.ask::<Map<String, Value>>("NetworkDriver.CreateNetwork", &argument).map(drop)
    }

    /// `local`, or `global` when all machines share its networks.
    ///
    /// # Errors
    /// The plugin's.
    pub(crate) fn scope(&self) -> Result<String> {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct Capabilities {
            scope: String,
        }
        let asked = self.ask::<Capabilities>("NetworkDriver.GetCapabilities", &json!({}));
        match asked {
            Ok(c) if c.scope.eq_ignore_ascii_case("global") => Ok("global".into()),
            Ok(c) if c.scope.is_empty() || c.scope.eq_ignore_ascii_case("local") => {
                Ok("local".into())
            }
            Ok(c) => Err(Error::internal(format!(
                "NetworkDriver.GetCapabilities: plugin {} has the unknown scope {:?}",
                self.name, c.scope
            ))),
            Err(err) if err.kind() == Kind::NotImplemented => Ok("local".into()),
            Err(err) => Err(err),
        }
    }
}

/// Published ports, as plugins are told of them.
pub(crate) fn port_map(publish: &[Publish]) -> Value {
    let one = |port: &Publish| {
        let host = port.host_ports.as_ref();
        json!({
            "Proto": port.protocol.number(),
            "IP": "",
            "Port": port.container_port,
            "HostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": host.map_or(0, |range| *range.start()),
            "HostPortEnd": host.map_or(0, |range| *range.end()),
        })
    };
    publish.iter().map(one).collect()
}

//! What a container does on a network: counters of its link, and who listens behind its published ports.

use crate::containers::interfaces;
use api::model;

/// A container on a network.
pub(super) struct Member {
    /// A process in its network.
    pub(super) pid: i32,
    /// All its processes.
    pub(super) pids: Vec<i32>,
    pub(super) endpoint: network::Endpoint,
}

impl Member {
    /// Looks; nothing when the container has just ended.
    pub(super) fn look(&self) -> Option<model::NetworkUse> {
        let counters = interfaces(self.pid).ok()?.remove(&self.endpoint.interface)?;
        let ports = self.endpoint.ports.iter().map(|port| {
            let (pid, process) =
                network::listener(self.pid, &self.pids, port.protocol, port.container_port)
                    .unwrap_or_default();
            model::PortUse {
                port: format!("{}/{}", port.container_port, port.protocol),
                host_ip: port.host_ip.to_string(),
                host_port: port.host_port.to_string(),
                pid,
                process,
            }
        });
        Some(model::NetworkUse {
            interface: self.endpoint.interface.clone(),
            counters,
            ports: ports.collect(),
            driver: serde_json::Map::new(),
        })
    }
}

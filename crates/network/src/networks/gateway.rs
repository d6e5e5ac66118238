//! Which of a container's networks its default route leads to, and where its ports are published.
//!
//! Source: Moby `daemon/libnetwork/endpoint.go` (order of endpoints): the highest priority; then networks that
//! have both families; then the name.

use super::Networks;
use crate::{Endpoint, Publish, drivers::inside};
use base::{ContainerId, Error, NetworkId, Result};
use std::os::fd::BorrowedFd;

impl Networks {
    /// The network, of those given with their priorities, that the default route leads to.
    ///
    /// # Errors
    /// `NotFound` for a network that is not there.
    pub fn choose_gateway<'a>(
        &self,
        networks: impl IntoIterator<Item = (&'a str, i64)>,
    ) -> Result<Option<&'a str>> {
        let mut candidates = Vec::new();
        for (name, priority) in networks {
            let network = self.find(name)?;
            if network.has_gateway() {
                let families = i64::from(network.spec.ipv4) + i64::from(network.spec.ipv6);
                candidates.push((-priority, -families, network.name, name));
            }
        }
        candidates.sort();
        Ok(candidates.into_iter().next().map(|(.., name)| name))
    }

    /// Leads the default route of a running container to one of its networks, or nowhere, and publishes its
    /// ports there. Nothing happens when it is so already. Returns all its endpoints.
    ///
    /// # Errors
    /// As [`crate::drivers::Plane::attach`]; then the ports and the route are where they were.
    pub fn lead(
        &self,
        container: &ContainerId,
        name: &str,
        netns: BorrowedFd<'_>,
        to: Option<&NetworkId>,
        publish: &[Publish],
    ) -> Result<Vec<Endpoint>> {
        let mut endpoints = self.endpoints_of(container);
        let old = endpoints.iter().position(|e| e.is_gateway);
        let new = to.and_then(|id| endpoints.iter().position(|e| e.network == *id));
        if old == new && (old.is_some() || to.is_none()) {
            return Ok(endpoints);
        }
        if let Some(at) = old {
            self.withdraw(&mut endpoints[at])?;
        }
        let done = match new {
            Some(at) => self
                .publish(&mut endpoints[at], name, publish)
                .and_then(|()| self.reroute(netns, Some(&endpoints[at]))),
            None => self.reroute(netns, None),
        };
        if let Err(error) = done {
            if let Some(at) = new {
                self.withdraw(&mut endpoints[at])?;
            }
            if let Some(at) = old {
                self.publish(&mut endpoints[at], name, publish)?;
                self.reroute(netns, Some(&endpoints[at]))?;
            }
            self.keep(container, &endpoints);
            return Err(error);
        }
        self.keep(container, &endpoints);
        Ok(endpoints)
    }

    fn keep(&self, container: &ContainerId, endpoints: &[Endpoint]) {
        if let Some(held) = self.endpoints().get_mut(container) {
            for endpoint in held {
                if let Some(new) = endpoints.iter().find(|e| e.id == endpoint.id) {
                    *endpoint = new.clone();
                }
            }
        }
    }

    fn withdraw(&self, endpoint: &mut Endpoint) -> Result<()> {
        endpoint.is_gateway = false;
        if let Some(plane) = self.plane_of(&endpoint.network) {
            plane.withdraw(endpoint)?;
        }
        endpoint.ports.clear();
        Ok(())
    }

    fn publish(&self, endpoint: &mut Endpoint, name: &str, publish: &[Publish]) -> Result<()> {
        let plane = self.plane_of(&endpoint.network).ok_or_else(|| {
            Error::internal(format!("network {} is not open", endpoint.network_name))
        })?;
        endpoint.ports = plane.publish(endpoint, name, publish)?;
        endpoint.is_gateway = true;
        Ok(())
    }

    fn reroute(&self, netns: BorrowedFd<'_>, to: Option<&Endpoint>) -> Result<()> {
        let by_link = to
            .and_then(|endpoint| self.plane_of(&endpoint.network))
            .map_or([false; 2], |plane| plane.routes_by_link());
        let gateways: Vec<_> =
            to.into_iter().flat_map(|e| e.gateway.into_iter().chain(e.gateway6)).collect();
        let to = to.map(|endpoint| (endpoint.interface.as_str(), &gateways[..], by_link));
        sys::netns::within(netns, || inside::reroute(to)).map_err(crate::drivers::bridge::kernel)?
    }
}

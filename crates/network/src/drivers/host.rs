//! The host's own network: nothing to make, nothing to wire.

use super::{Driver, Opening, Plane, Wired};
use crate::{Attach, Endpoint, Leftovers, Repair, ports::Ports};
use base::{ContainerId, EndpointId, Result};

/// The driver `host`.
#[derive(Debug)]
pub struct Host;

impl Driver for Host {
    fn name(&self) -> &str {
        "host"
    }

    fn creatable(&self) -> bool {
        false
    }

    fn open(&self, _: &Opening<'_>, _: &Ports) -> Result<Box<dyn Plane>> {
        Ok(Box::new(Host))
    }
}

impl Plane for Host {
    // Wished ports are dropped without a word, as Docker does (its CLI warns).
    fn attach(&self, _: &EndpointId, _: &Attach<'_>) -> Result<Wired> {
        Ok(Wired::default())
    }

    fn detach(&self, _: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn reconcile(&self, _: &[(&ContainerId, &Endpoint)]) -> Repair {
        Repair::default()
    }

    fn leftovers(&self) -> Result<Leftovers> {
        Ok(Leftovers::default())
    }
}

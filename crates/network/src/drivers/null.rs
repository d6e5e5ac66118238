//! A network of its own with nothing but loopback.

use super::{Driver, Plane, Wired};
use crate::{Attach, Config, Endpoint, Leftovers, Repair};
use base::{ContainerId, EndpointId, Result};

/// The driver `null`.
#[derive(Debug)]
pub struct Null;

impl Driver for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn open(&self, _: &Config) -> Result<Box<dyn Plane>> {
        Ok(Box::new(Null))
    }
}

impl Plane for Null {
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

//! A network of its own with nothing but loopback.

use super::{Driver, Plane, Wired};
use crate::{Attach, Config, Endpoint, Leftovers, Repair, ports::Ports};
use base::{ContainerId, EndpointId, Error, Result};
use sys::{
    netlink::{LOOPBACK, Request, Route},
    netns,
};

/// The driver `null`.
#[derive(Debug)]
pub struct Null;

impl Driver for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn open(&self, _: &Config, _: &Ports) -> Result<Box<dyn Plane>> {
        Ok(Box::new(Null))
    }
}

impl Plane for Null {
    // Wished ports are dropped without a word, as Docker does (its CLI warns).
    fn attach(&self, _: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid("the network none needs a network namespace of the container's own")
        })?;
        let done = netns::within(netns, || {
            super::settings_of_a_namespace();
            let mut route = Route::open()?;
            route.run(&[Request::set_up(LOOPBACK)])
        });
        done.and_then(|done| done)
            .map_err(|e| Error::internal(e.to_string()).caused_by(std::io::Error::from(e.errno)))?;
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

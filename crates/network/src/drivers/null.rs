//! A network of its own with nothing but loopback.

use super::{Driver, Opening, Plane, Wired};
use crate::{Attach, Endpoint, Leftovers, Repair, ports::Ports};
use base::{ContainerId, EndpointId, Error, Result};
use std::os::fd::BorrowedFd;
use sys::{
    netlink::{LOOPBACK, Request, Route},
    netns,
};

/// The driver `null`.
#[derive(Debug)]
pub struct Null;

impl Driver for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn creatable(&self) -> bool {
        false
    }

    fn open(&self, _: &Opening<'_>, _: &Ports) -> Result<Box<dyn Plane>> {
        Ok(Box::new(Null))
    }
}

impl Plane for Null {
    // Wished ports are dropped without a word, as Docker does (its CLI warns).
    fn attach(&self, _: &EndpointId, wish: &Attach<'_>) -> Result<Wired> {
        let netns = wish.netns.ok_or_else(|| {
            Error::invalid("the network none needs a network namespace of the container's own")
        })?;
        wire_loopback(netns)?;
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

/// Sets the loopback link of a namespace up: all the network that a container without one has.
///
/// # Errors
/// Of the kernel.
pub fn wire_loopback(netns: BorrowedFd<'_>) -> Result<()> {
    let done = netns::within(netns, || {
        super::settings_of_a_namespace();
        let mut route = Route::open()?;
        route.run(&[Request::set_up(LOOPBACK)])
    });
    done.and_then(|done| done)
        .map_err(|e| Error::internal(e.to_string()).caused_by(std::io::Error::from(e.errno)))
}

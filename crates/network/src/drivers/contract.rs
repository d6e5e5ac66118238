//! What every driver must do, run against every driver.

use super::*;
use crate::Config;
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
};
use sys::netlink::{Over, Request, Route};

/// A plane of the driver, as user-defined networks have it.
fn open(driver: &dyn Driver) -> Box<dyn Plane> {
    let mut spec = crate::Spec { driver: driver.name().into(), ..crate::Spec::default() };
    if driver.has_addresses() {
        let pool = crate::spec::Pool::parse("10.99.0.0/24", "", "", &Default::default()).unwrap();
        spec.ipam.pools.push(pool);
        spec.options.insert("parent".into(), "up0".into());
    }
    let config = Config::with(None);
    let id = "0".repeat(64).parse().unwrap();
    let opening =
        Opening { id: &id, name: "n", spec: &spec, config: &config, forwarding_was_off: false };
    driver.open(&opening, &Ports::default()).unwrap()
}

/// Runs `check` for each driver, in a network namespace of its own with a link that others can be over.
fn each(check: impl Fn(&dyn Driver) + Sync) {
    for driver in DRIVERS {
        let host = sys::netns::create().unwrap();
        let ready = sys::netns::within(host.as_fd(), || {
            let mut route = Route::open().unwrap();
            route.run(&[Request::add_bridge("up0", None, 0)]).unwrap();
            let up0 = route.index("up0").unwrap().unwrap();
            let probe = Request::add_over("probe0", up0, Over::Ipvlan(0, 0), None, None, 0);
            route.run(&[Request::set_up(up0)]).unwrap();
            // Links of the kind may be missing in this kernel; what is said then is tested elsewhere.
            driver.name() != "ipvlan" || route.run(&[probe]).is_ok()
        });
        if !ready.unwrap() {
            continue;
        }
        sys::netns::within(host.as_fd(), || check(*driver))
            .unwrap_or_else(|e| panic!("{}: {e}", driver.name()));
    }
}

struct Guest {
    id: ContainerId,
    netns: OwnedFd,
}

impl Guest {
    fn new() -> Self {
        Self { id: ContainerId::random(), netns: sys::netns::create().unwrap() }
    }

    fn join(&self, plane: &dyn Plane) -> Result<Endpoint> {
        let id = EndpointId::random();
        let wish = Attach {
            container: &self.id,
            name: "guest",
            netns: Some(self.netns.as_fd()),
            sandbox: "",
            link_local: &[],
            interface: "eth0",
            mac: None,
            address: None,
            address6: None,
            gateway: true,
            publish: &[],
            names: &[],
            options: &BTreeMap::new(),
        };
        let wired = plane.attach(&id, &wish)?;
        Ok(Endpoint {
            id,
            network: base::NetworkId::random(),
            network_name: "n".into(),
            driver: String::new(),
            link: wired.link,
            interface: "eth0".into(),
            address: wired.address,
            address6: wired.address6,
            gateway: wired.gateway,
            gateway6: wired.gateway6,
            is_gateway: true,
            mac: wired.mac,
            names: Vec::new(),
            ports: wired.ports,
        })
    }
}

#[test]
fn names_differ_and_are_found() {
    for driver in DRIVERS {
        assert!(is_own(driver.name()));
    }
    assert!(!is_own("nope"));
}

#[test]
fn opening_again_changes_nothing() {
    each(|driver| {
        let first = open(driver);
        drop(first);
        let second = open(driver);
        assert!(second.reconcile(&[]).is_empty());
        assert!(second.mend().is_empty());
    });
}

#[test]
fn every_guest_has_loopback_and_its_own_address() {
    each(|driver| {
        let plane = open(driver);
        let guests: Vec<_> = (0..3).map(|_| Guest::new()).collect();
        let endpoints: Vec<_> = guests.iter().map(|g| g.join(plane.as_ref()).unwrap()).collect();
        for (n, endpoint) in endpoints.iter().enumerate() {
            assert!(
                endpoints[..n].iter().all(|e| e.address.is_none() || e.address != endpoint.address)
            );
        }
        if driver.name() != "host" {
            for guest in &guests {
                let lo =
                    sys::netns::route(guest.netns.as_fd()).unwrap().link("lo").unwrap().unwrap();
                assert!(lo.up);
            }
        }
    });
}

#[test]
fn detaching_twice_or_a_stranger_changes_nothing() {
    each(|driver| {
        let plane = open(driver);
        let (here, stranger) = (Guest::new(), Guest::new());
        let endpoint = here.join(plane.as_ref()).unwrap();
        let mut unknown = stranger.join(plane.as_ref()).unwrap();
        plane.detach(&unknown).unwrap();
        unknown.id = EndpointId::random();
        unknown.link = unknown.link.map(|_| "veth00000000000".into());
        plane.detach(&unknown).unwrap();
        plane.detach(&endpoint).unwrap();
        plane.detach(&endpoint).unwrap();
        assert!(plane.leftovers().unwrap().is_empty());
    });
}

#[test]
fn the_living_are_taken_over_and_the_dead_removed() {
    each(|driver| {
        let plane = open(driver);
        let (live, dead) = (Guest::new(), Guest::new());
        let kept = live.join(plane.as_ref()).unwrap();
        let lost = dead.join(plane.as_ref()).unwrap();
        drop(plane);
        let plane = open(driver);
        let repair = plane.reconcile(&[(&live.id, &kept)]);
        assert_eq!(repair.failures, Vec::<String>::new());
        assert_eq!(repair.links_removed, lost.link.into_iter().collect::<Vec<_>>());
        assert!(plane.leftovers().unwrap().is_empty());
        assert!(plane.reconcile(&[(&live.id, &kept)]).is_empty());
        let next = Guest::new().join(plane.as_ref()).unwrap();
        assert!(next.address.is_none() || next.address != kept.address);
    });
}

use super::*;
use crate::{Config, spec};
use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use sys::netlink::Veth;

fn spec(options: &[(&str, &str)]) -> Spec {
    let pool = spec::Pool::parse("10.44.0.0/24", "", "10.44.0.1", &BTreeMap::new()).unwrap();
    Spec {
        driver: "macvlan".into(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ipam: spec::Ipam { pools: vec![pool], ..spec::Ipam::default() },
        ..Spec::default()
    }
}

/// A machine with a link to a neighbour, who has 10.44.0.1.
fn world() -> (OwnedFd, OwnedFd) {
    let (host, outside) = (netns::create().unwrap(), netns::create().unwrap());
    netns::within(host.as_fd(), || {
        let veth = Veth {
            host: "up0",
            peer: "up0",
            netns: outside.as_fd(),
            peer_mac: None,
            master: None,
            mtu: 0,
        };
        let mut route = Route::open().unwrap();
        route.run(&[Request::add_veth(&veth)]).unwrap();
        let up0 = route.index("up0").unwrap().unwrap();
        route.run(&[Request::set_up(up0)]).unwrap();
    })
    .unwrap();
    netns::within(outside.as_fd(), || {
        let mut route = Route::open().unwrap();
        let up0 = route.index("up0").unwrap().unwrap();
        let address: IpAddr = "10.44.0.1".parse().unwrap();
        route.run(&[Request::add_address(up0, address, 24), Request::set_up(up0)]).unwrap();
    })
    .unwrap();
    (host, outside)
}

fn open(host: &OwnedFd, kind: Lan, options: &[(&str, &str)]) -> Result<Box<dyn Plane>> {
    let (id, spec, config) = (NetworkId::random(), spec(options), Config::with(None));
    netns::within(host.as_fd(), || {
        kind.check(&id, &spec, &config.common)?;
        let opening =
            Opening { id: &id, name: "n", spec: &spec, config: &config, forwarding_was_off: false };
        kind.open(&opening, &Ports::default())
    })
    .unwrap()
}

fn join(host: &OwnedFd, plane: &dyn Plane, guest: &OwnedFd) -> Result<(EndpointId, Wired)> {
    let (id, container, options) = (EndpointId::random(), ContainerId::random(), BTreeMap::new());
    let wish = Attach {
        container: &container,
        name: "guest",
        netns: Some(guest.as_fd()),
        sandbox: "",
        link_local: &[],
        interface: "eth0",
        mac: None,
        address: None,
        address6: None,
        gateway: true,
        publish: &[],
        names: &[],
        options: &options,
    };
    netns::within(host.as_fd(), || plane.attach(&id, &wish)).unwrap().map(|wired| (id, wired))
}

#[test]
fn containers_are_machines_of_the_parents_network() {
    for mode in ["bridge", "private", "vepa", "passthru"] {
        let (host, outside) = world();
        let plane =
            open(&host, Lan::Macvlan, &[("parent", "up0"), ("macvlan_mode", mode)]).unwrap();
        let guest = netns::create().unwrap();
        let (_, wired) = join(&host, plane.as_ref(), &guest).unwrap();
        assert_eq!(wired.address.unwrap().to_string(), "10.44.0.2/24");
        let server =
            netns::within(outside.as_fd(), || TcpListener::bind("10.44.0.1:0").unwrap()).unwrap();
        let to = server.local_addr().unwrap();
        let reached = netns::within(guest.as_fd(), || {
            TcpStream::connect_timeout(&to, Duration::from_secs(5))
        });
        assert!(reached.unwrap().is_ok(), "{mode}");
        assert_eq!(server.accept().unwrap().1.ip(), wired.address.unwrap().address());
    }
}

#[test]
fn neighbours_meet_in_bridge_mode_and_not_in_private_mode() {
    for (mode, meets) in [("bridge", true), ("private", false)] {
        let (host, _outside) = world();
        let plane =
            open(&host, Lan::Macvlan, &[("parent", "up0"), ("macvlan_mode", mode)]).unwrap();
        let (one, two) = (netns::create().unwrap(), netns::create().unwrap());
        join(&host, plane.as_ref(), &one).unwrap();
        let (_, wired) = join(&host, plane.as_ref(), &two).unwrap();
        let address = wired.address.unwrap().address();
        assert_eq!(address.to_string(), "10.44.0.3");
        let server =
            netns::within(two.as_fd(), || TcpListener::bind((address, 0)).unwrap()).unwrap();
        let to = server.local_addr().unwrap();
        let patience = Duration::from_millis(if meets { 5000 } else { 300 });
        let reached = netns::within(one.as_fd(), || TcpStream::connect_timeout(&to, patience));
        assert_eq!(reached.unwrap().is_ok(), meets, "{mode}");
    }
}

#[test]
fn one_that_leaves_alive_has_no_link_any_more_and_its_address_is_free() {
    let (host, _outside) = world();
    let plane = open(&host, Lan::Macvlan, &[("parent", "up0")]).unwrap();
    let guest = netns::create().unwrap();
    let (id, wired) = join(&host, plane.as_ref(), &guest).unwrap();
    let endpoint = Endpoint {
        id,
        network: NetworkId::random(),
        network_name: "n".into(),
        driver: "macvlan".into(),
        link: None,
        interface: "eth0".into(),
        address: wired.address,
        address6: None,
        gateway: wired.gateway,
        gateway6: None,
        is_gateway: true,
        mac: wired.mac,
        names: Vec::new(),
        ports: Vec::new(),
    };
    plane.unplug(&endpoint, guest.as_fd()).unwrap();
    plane.unplug(&endpoint, guest.as_fd()).unwrap();
    assert_eq!(netns::route(guest.as_fd()).unwrap().index("eth0").unwrap(), None);
    let (_, again) = join(&host, plane.as_ref(), &guest).unwrap();
    assert_eq!(again.address, wired.address);
    // A later daemon takes over who is there.
    let later = open(&host, Lan::Macvlan, &[("parent", "up0")]).unwrap();
    assert!(later.reconcile(&[(&ContainerId::random(), &endpoint)]).is_empty());
    let other = netns::create().unwrap();
    let (_, next) = join(&host, later.as_ref(), &other).unwrap();
    assert_ne!(next.address, wired.address);
}

#[test]
fn what_the_kernel_lacks_is_said_clearly() {
    let (host, _outside) = world();
    for (kind, options, module) in [
        (Lan::Ipvlan, vec![("parent", "up0")], "ipvlan"),
        (Lan::Macvlan, vec![("parent", "up0.10")], "8021q"),
        (Lan::Macvlan, vec![], "dummy"),
    ] {
        match open(&host, kind, &options) {
            // This kernel has it: then it works, and goes with the network.
            Ok(plane) => {
                let guest = netns::create().unwrap();
                join(&host, plane.as_ref(), &guest).unwrap();
                netns::within(host.as_fd(), || plane.remove()).unwrap().unwrap();
                let links = netns::route(host.as_fd()).unwrap().links(None).unwrap();
                assert!(links.iter().all(|l| l.alias != MADE_HERE), "{links:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), base::Kind::Invalid);
                assert!(error.to_string().contains(&format!("module {module}")), "{error}");
            }
        }
        let links = netns::route(host.as_fd()).unwrap().links(None).unwrap();
        assert!(links.iter().all(|l| !l.name.starts_with("gprobe")), "{links:?}");
    }
}

#[test]
fn options_are_read_and_nonsense_refused() {
    let id = NetworkId::random();
    let read = |kind: Lan, options: &[(&str, &str)]| kind.settings(&id, &spec(options));
    let tagged = read(Lan::Macvlan, &[("parent", "eth0.42")]).unwrap();
    assert_eq!(tagged.make, Some(Make::Vlan("eth0".into(), 42)));
    assert_eq!(tagged.over, Over::Macvlan(4));
    let routed =
        read(Lan::Ipvlan, &[("parent", "eth0"), ("ipvlan_mode", "l3"), ("ipvlan_flag", "vepa")])
            .unwrap();
    assert_eq!((routed.over, routed.by_link), (Over::Ipvlan(1, 2), true));
    let alone = read(Lan::Macvlan, &[]).unwrap();
    assert!(alone.parent.starts_with("dm-") && alone.make == Some(Make::Nowhere));
    for (kind, options) in [
        (Lan::Macvlan, [("parent", "eth0.0"), ("a", "b")]),
        (Lan::Macvlan, [("parent", "eth0.4095"), ("a", "b")]),
        (Lan::Macvlan, [("parent", "eth0.x"), ("a", "b")]),
        (Lan::Macvlan, [("parent", "lo"), ("a", "b")]),
        (Lan::Macvlan, [("parent", "a-name-above-15-bytes"), ("a", "b")]),
        (Lan::Macvlan, [("parent", "eth0"), ("macvlan_mode", "odd")]),
        (Lan::Ipvlan, [("parent", "eth0"), ("ipvlan_mode", "l4")]),
        (Lan::Ipvlan, [("parent", "eth0"), ("ipvlan_flag", "odd")]),
    ] {
        assert!(read(kind, &options).is_err(), "{options:?}");
    }
    let (host, _outside) = world();
    let missing = open(&host, Lan::Macvlan, &[("parent", "nope0")]).unwrap_err();
    assert!(missing.to_string().contains("nope0"), "{missing}");
}

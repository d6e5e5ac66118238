use super::*;
use crate::{
    netlink::{Port, Veth},
    netns,
};
use std::os::fd::AsFd;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

#[test]
fn a_bridge_and_a_pair_into_another_namespace() {
    let (host, guest) = (netns::create().unwrap(), netns::create().unwrap());
    let mut here = netns::route(host.as_fd()).unwrap();
    let mut there = netns::route(guest.as_fd()).unwrap();
    let mac = [2, 0x42, 10, 77, 0, 2];
    here.run(&[Request::add_bridge("br-t", Some([2, 0x42, 10, 77, 0, 1]), 1400)]).unwrap();
    let bridge = here.link("br-t").unwrap().unwrap();
    assert_eq!((bridge.kind.as_str(), bridge.mtu, bridge.up), ("bridge", 1400, false));
    let veth = Veth {
        host: "veth-t",
        peer: "eth0",
        netns: guest.as_fd(),
        peer_mac: Some(mac),
        master: Some(bridge.index),
        mtu: 1400,
    };
    // The namespace's descriptor is taken from this process, wherever the socket lives.
    here.run(&[
        Request::set_up(bridge.index),
        Request::add_address(bridge.index, HOST, 24),
        Request::add_veth(&veth),
        Request::set_port_up("veth-t", Port { hairpin: true, isolated: false }),
    ])
    .unwrap();
    let inside = there.link("eth0").unwrap().unwrap();
    assert_eq!((inside.mac, inside.mtu, inside.kind.as_str()), (Some(mac), 1400, "veth"));
    there
        .run(&[
            Request::add_address(inside.index, GUEST, 24),
            Request::set_up(inside.index),
            Request::add_default_route(inside.index, HOST),
            Request::set_neighbour(inside.index, HOST, [2, 0x42, 10, 77, 0, 1]),
            Request::delete_neighbour(inside.index, HOST),
        ])
        .unwrap();
    assert!(there.addresses().unwrap().contains(&Address {
        link: inside.index,
        address: GUEST.into(),
        prefix: 24
    }));
    let routes = there.routes().unwrap();
    assert!(
        routes.iter().any(|r| r.prefix == 0
            && r.gateway == Some(HOST.into())
            && r.link == Some(inside.index))
    );
    assert!(routes.iter().any(|r| r.prefix == 24));
    let ports = here.links(Some(bridge.index)).unwrap();
    assert_eq!(ports.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["veth-t"]);
    assert!(ports[0].up);
    there.run(&[Request::delete_address(inside.index, GUEST, 24)]).unwrap();
    here.run(&[Request::delete_link("veth-t")]).unwrap();
    assert_eq!(there.link("eth0").unwrap(), None);
}

#[test]
fn each_request_has_its_own_answer_and_error_text() {
    let host = netns::create().unwrap();
    let mut here = netns::route(host.as_fd()).unwrap();
    let results = here
        .run_all(&[
            Request::add_bridge("br-t", None, 0),
            Request::add_bridge("br-t", None, 0),
            Request::delete_link("no-such"),
            Request::add_bridge("br-u", None, 0),
        ])
        .unwrap();
    let errnos: Vec<_> = results.iter().map(|r| r.as_ref().err().map(|e| e.errno)).collect();
    assert_eq!(errnos, [None, Some(Errno::EXIST), Some(Errno::NODEV), None]);
    assert_eq!(results[2].as_ref().unwrap_err().to_string(), "delete link no-such");
    assert_eq!(here.link("no-such").unwrap(), None);
    assert_eq!(here.index("no-such").unwrap(), None);
    assert_eq!(here.index("lo").unwrap(), Some(crate::netlink::LOOPBACK));
    assert_eq!(here.index("br-u").unwrap(), here.link("br-u").unwrap().map(|l| l.index));
    assert!(here.links(None).unwrap().iter().any(|l| l.name == "br-u"));
    // A name that is too long is the kernel's to refuse.
    assert!(here.run(&[Request::add_bridge("a-name-above-15-bytes", None, 0)]).is_err());
}

#[test]
fn more_requests_than_one_window_holds() {
    let host = netns::create().unwrap();
    let mut here = netns::route(host.as_fd()).unwrap();
    here.run(&[Request::add_bridge("br-t", None, 0)]).unwrap();
    let link = here.link("br-t").unwrap().unwrap().index;
    let all: Vec<_> = (0..500_u32)
        .map(|n| Request::add_address(link, Ipv4Addr::from_bits(0x0a4d_0001 + n), 16))
        .collect();
    here.run(&all).unwrap();
    let addresses = here.addresses().unwrap();
    assert_eq!(addresses.iter().filter(|a| a.link == link && a.address.is_ipv4()).count(), 500);
}

#[test]
fn ipv6_addresses_and_default_routes_come_and_go() {
    let host = netns::create().unwrap();
    let mut here = netns::route(host.as_fd()).unwrap();
    here.run(&[Request::add_bridge("br-t", None, 0)]).unwrap();
    let link = here.link("br-t").unwrap().unwrap().index;
    let (own, gateway): (Ipv6Addr, Ipv6Addr) =
        ("fd00:77::2".parse().unwrap(), "fd00:77::1".parse().unwrap());
    here.run(&[
        Request::add_address(link, own, 64),
        Request::set_up(link),
        Request::add_default_route(link, gateway),
    ])
    .unwrap();
    let expected = Address { link, address: own.into(), prefix: 64 };
    assert!(here.addresses().unwrap().contains(&expected));
    let default =
        |r: &NextHop| r.prefix == 0 && r.destination.is_ipv6() && r.gateway == Some(gateway.into());
    assert!(here.routes().unwrap().iter().any(default));
    here.run(&[Request::delete_default_route(true)]).unwrap();
    assert!(!here.routes().unwrap().iter().any(default));
    assert!(here.run(&[Request::delete_default_route(true)]).unwrap_err().is_missing());
}

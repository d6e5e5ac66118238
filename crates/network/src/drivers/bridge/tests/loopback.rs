//! `::1` of the machine and published ports.

use super::*;
use std::net::Ipv6Addr;

const PORT: u16 = 8086;

/// On a machine with a bridge of both families and a container that answers on port 81 of both; `work` gets the
/// container's name for the machine.
fn with_server(wish: &Publish, work: impl FnOnce(&World, &Guest, Ipv6Addr) + Send) {
    let world = World::new();
    world.on_host(|| {
        // Frames that meet the rules on the bridge already have their addresses back too early.
        let _ = netns::set_sysctl("bridge/bridge-nf-call-ip6tables", "0");
    });
    let subnet: Subnet = "fd00:9b::1/64".parse().unwrap();
    let daemon = world.networks(BridgeConfig { ipv6: true, address6: Some(subnet), ..config() });
    let guest = Guest::new();
    guest.join(&world, &daemon, std::slice::from_ref(wish)).unwrap();
    let listener = guest.inside(|| TcpListener::bind("[::]:81").unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = write!(stream, "{}", peer.ip());
        }
    });
    let IpAddr::V6(gateway) = subnet.address() else { panic!("{subnet}") };
    work(&world, &guest, gateway);
}

fn asked(to: Ipv6Addr, patience: Duration) -> Option<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&(to, PORT).into(), patience).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

#[test]
fn a_published_port_is_reached_by_the_machines_ipv6_loopback() {
    with_server(&publish("81/tcp", "", "8086"), |world, _, gateway| {
        assert_eq!(world.on_host(|| asked(Ipv6Addr::LOCALHOST, PATIENCE)), Some(gateway.into()));
        assert_eq!(world.on_host(|| asked(gateway, PATIENCE)), Some(gateway.into()));
        // What listens there itself still answers.
        world.on_host(|| {
            let own = TcpListener::bind("[::1]:7777").unwrap();
            TcpStream::connect_timeout(&own.local_addr().unwrap(), PATIENCE).unwrap();
        });
    });
}

#[test]
fn a_port_on_ipv6_loopback_is_for_the_host_alone() {
    with_server(&publish("81/tcp", "::1", "8086"), |world, guest, gateway| {
        assert_eq!(world.on_host(|| asked(Ipv6Addr::LOCALHOST, PATIENCE)), Some(gateway.into()));
        assert_eq!(world.on_host(|| asked(gateway, SILENCE)), None);
        assert_eq!(guest.inside(|| asked(gateway, SILENCE)), None);
    });
}

#[test]
fn a_guest_does_not_reach_the_machines_ipv6_loopback() {
    with_server(&publish("81/tcp", "::1", "8086"), |world, guest, gateway| {
        let secret = world.on_host(|| TcpListener::bind("[::1]:7777").unwrap());
        secret.set_nonblocking(true).unwrap();
        guest.inside(|| {
            let mut route = Route::open().unwrap();
            let lo = route.link("lo").unwrap().unwrap().index;
            let eth0 = route.link("eth0").unwrap().unwrap().index;
            route
                .run(&[
                    Request::delete_address(lo, Ipv6Addr::LOCALHOST, 128),
                    Request::add_route(eth0, Ipv6Addr::LOCALHOST.into(), 128, Some(gateway.into())),
                ])
                .unwrap();
            for port in [7777, PORT] {
                let to = (Ipv6Addr::LOCALHOST, port).into();
                assert!(TcpStream::connect_timeout(&to, SILENCE).is_err());
            }
        });
        assert_eq!(secret.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    });
}

mod loopback;

use super::*;
use crate::{Config, Network, Networks, Publish};
use base::Kind;
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use sys::{
    netlink::Veth,
    netns::{self, within},
    nft::{Batch, Nft},
};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const PATIENCE: Duration = Duration::from_secs(5);
/// For what must not happen: long enough on a loaded machine that what happens would have.
const SILENCE: Duration = Duration::from_millis(300);

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| vec!["web".to_owned()]);
static OPTIONS: BTreeMap<String, String> = BTreeMap::new();

/// A machine with one link to a neighbour, each in a namespace of its own.
struct World {
    host: OwnedFd,
    outside: OwnedFd,
}

impl World {
    fn new() -> Self {
        let (host, outside) = (netns::create().unwrap(), netns::create().unwrap());
        within(host.as_fd(), || {
            // A new namespace takes over what the machine happens to have.
            netns::set_sysctl("ipv4/ip_forward", "0").unwrap();
            let mut route = Route::open().unwrap();
            let veth = Veth {
                host: "eth0",
                peer: "eth0",
                netns: outside.as_fd(),
                peer_mac: None,
                master: None,
                mtu: 0,
            };
            route.run(&[Request::add_veth(&veth)]).unwrap();
            up(&mut route, HOST, None);
        })
        .unwrap();
        within(outside.as_fd(), || up(&mut Route::open().unwrap(), OUTSIDE, None)).unwrap();
        Self { host, outside }
    }

    /// Runs `work` on the machine.
    fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.host.as_fd(), work).unwrap()
    }

    fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.outside.as_fd(), work).unwrap()
    }

    fn networks(&self, config: BridgeConfig) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(&dir.path().join("db")).unwrap();
        let networks =
            self.on_host(|| Networks::open(&Config::with(Some(config)), &store)).unwrap();
        Daemon { networks, store, _dir: dir }
    }
}

struct Daemon {
    networks: Networks,
    store: store::Store,
    _dir: tempfile::TempDir,
}

fn up(route: &mut Route, address: Ipv4Addr, gateway: Option<Ipv4Addr>) {
    let eth0 = route.link("eth0").unwrap().unwrap().index;
    let lo = route.link("lo").unwrap().unwrap().index;
    route
        .run(&[Request::set_up(lo), Request::add_address(eth0, address, 24), Request::set_up(eth0)])
        .unwrap();
    if let Some(gateway) = gateway {
        route.run(&[Request::add_default_route(eth0, gateway)]).unwrap();
    }
}

/// A container: a namespace that answers on ports 80 (TCP) and 53 (UDP) with the address of who asks.
struct Guest {
    id: ContainerId,
    netns: OwnedFd,
}

impl Guest {
    fn new() -> Self {
        let netns = netns::create().unwrap();
        let (tcp, udp) = within(netns.as_fd(), || {
            (TcpListener::bind("0.0.0.0:80").unwrap(), UdpSocket::bind("0.0.0.0:53").unwrap())
        })
        .unwrap();
        // The threads end with the test's process; they hold nothing but their sockets.
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                if let Ok(peer) = stream.peer_addr() {
                    let _ = write!(stream, "{}", peer.ip());
                }
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
        Self { id: ContainerId::random(), netns }
    }

    fn join(&self, world: &World, daemon: &Daemon, publish: &[Publish]) -> Result<Endpoint> {
        world.on_host(|| daemon.networks.attach("bridge", &self.wish(publish)))
    }

    fn wish<'a>(&'a self, publish: &'a [Publish]) -> Attach<'a> {
        Attach {
            container: &self.id,
            name: "web",
            netns: Some(self.netns.as_fd()),
            sandbox: "",
            link_local: &[],
            interface: "eth0",
            mac: None,
            address: None,
            address6: None,
            gateway: true,
            publish,
            names: &NAMES,
            options: &OPTIONS,
        }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.netns.as_fd(), work).unwrap()
    }
}

fn tcp(to: Ipv4Addr, port: u16, patience: Duration) -> Option<IpAddr> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddrV4::new(to, port).into(), patience).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn udp(to: Ipv4Addr, port: u16, patience: Duration) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((to, port)).ok()?;
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(b"?").ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}

/// Asks port 8080 by TCP and 5353 by UDP.
fn ask(to: Ipv4Addr) -> [Option<IpAddr>; 2] {
    [tcp(to, 8080, PATIENCE), udp(to, 5353, PATIENCE)]
}

fn silent(to: Ipv4Addr, tcp_port: u16, udp_port: u16) {
    assert_eq!([tcp(to, tcp_port, SILENCE), udp(to, udp_port, SILENCE)], [None, None]);
}

fn both(address: Ipv4Addr) -> [Option<IpAddr>; 2] {
    [Some(address.into()); 2]
}

fn web() -> [Publish; 2] {
    [publish("80/tcp", "", "8080"), publish("53/udp", "", "5353")]
}

fn publish(key: &str, ip: &str, port: &str) -> Publish {
    Publish::parse(key, ip, port).unwrap()
}

fn config() -> BridgeConfig {
    BridgeConfig::named("gantry0")
}

fn address(endpoint: &Endpoint) -> Ipv4Addr {
    v4(endpoint.address.unwrap().address())
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address}"),
    }
}

#[test]
fn a_guest_has_dockers_addresses_and_the_outside_sees_the_hosts() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    let endpoint = guest.join(&world, &daemon, &[]).unwrap();
    assert_eq!(endpoint.address.unwrap().to_string(), "172.17.0.2/16");
    assert_eq!(endpoint.gateway.unwrap().to_string(), "172.17.0.1");
    assert_eq!(endpoint.mac.unwrap().to_string(), "02:42:ac:11:00:02");
    // The outside has no route back to the container, so it answers only what comes as the host.
    let server = world.outside(|| TcpListener::bind("0.0.0.0:99").unwrap());
    guest
        .inside(|| TcpStream::connect_timeout(&SocketAddrV4::new(OUTSIDE, 99).into(), PATIENCE))
        .unwrap();
    assert_eq!(server.accept().unwrap().1.ip(), IpAddr::from(HOST));
    let eth0 = netns::route(guest.netns.as_fd()).unwrap().link("eth0").unwrap().unwrap();
    assert_eq!(eth0.mac, endpoint.mac.map(|m| m.0));
    let ipv6 = guest
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default());
    assert!(!ipv6.contains("eth0"), "{ipv6}");
}

#[test]
fn published_ports_answer_from_everywhere() {
    let world = World::new();
    let daemon = world.networks(config());
    let (server, sibling) = (Guest::new(), Guest::new());
    let endpoint = server.join(&world, &daemon, &web()).unwrap();
    sibling.join(&world, &daemon, &[]).unwrap();
    let bridge = v4(endpoint.gateway.unwrap());
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE), "from outside, with its own address");
    assert_eq!(world.on_host(|| ask(HOST)), both(HOST), "from the host by its own address");
    assert_eq!(
        world.on_host(|| ask(Ipv4Addr::LOCALHOST)),
        both(bridge),
        "from the host by 127.0.0.1"
    );
    assert_eq!(
        world.on_host(|| ask(bridge)),
        both(bridge),
        "from the host by the bridge's address"
    );
    assert_eq!(sibling.inside(|| ask(HOST)), both(bridge), "from a sibling");
    assert_eq!(server.inside(|| ask(HOST)), both(bridge), "from itself");
    assert_eq!(server.inside(|| ask(bridge)), both(bridge), "from itself by the bridge's address");
    let inner = address(&endpoint);
    let direct = sibling.inside(|| [tcp(inner, 80, PATIENCE), udp(inner, 53, PATIENCE)]);
    assert_ne!(direct[0], None, "siblings reach each other directly");
    assert_ne!(direct[1], None);
}

#[test]
fn hairpin_works_whether_or_not_bridged_frames_meet_the_rules() {
    for nf in ["0", "1"] {
        let world = World::new();
        let set = world.on_host(|| netns::set_sysctl("bridge/bridge-nf-call-iptables", nf));
        // Without the module there is only one way.
        if set.is_err() {
            continue;
        }
        let daemon = world.networks(config());
        let (server, sibling) = (Guest::new(), Guest::new());
        server.join(&world, &daemon, &web()).unwrap();
        sibling.join(&world, &daemon, &[]).unwrap();
        for guest in [&server, &sibling] {
            assert!(guest.inside(|| ask(HOST)).iter().all(Option::is_some), "bridge-nf {nf}");
        }
    }
}

#[test]
fn a_port_on_loopback_is_for_the_host_alone() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    let wishes = [publish("80/tcp", "127.0.0.1", "8080"), publish("53/udp", "127.0.0.1", "5353")];
    let endpoint = guest.join(&world, &daemon, &wishes).unwrap();
    assert!(world.on_host(|| ask(Ipv4Addr::LOCALHOST)).iter().all(Option::is_some));
    world.on_host(|| silent(HOST, 8080, 5353));
    world.outside(|| silent(HOST, 8080, 5353));
    // A neighbour that sends 127.0.0.1 down the wire, and one that knows the way to the inner address.
    world.outside(|| {
        netns::set_sysctl("ipv4/conf/eth0/route_localnet", "1").unwrap();
        let mut route = Route::open().unwrap();
        let eth0 = route.link("eth0").unwrap().unwrap().index;
        let lo = route.link("lo").unwrap().unwrap().index;
        route
            .run(&[
                Request::delete_address(lo, Ipv4Addr::LOCALHOST, 8),
                Request::add_default_route(eth0, HOST),
            ])
            .unwrap();
        silent(Ipv4Addr::LOCALHOST, 8080, 5353);
        silent(address(&endpoint), 80, 53);
    });
}

#[test]
fn a_guest_cannot_reach_what_the_host_has_on_loopback() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    let endpoint = guest.join(&world, &daemon, &[]).unwrap();
    let secret = world.on_host(|| TcpListener::bind("127.0.0.1:7777").unwrap());
    secret.set_nonblocking(true).unwrap();
    guest.inside(|| {
        netns::set_sysctl("ipv4/conf/eth0/route_localnet", "1").unwrap();
        let mut route = Route::open().unwrap();
        let lo = route.link("lo").unwrap().unwrap().index;
        route.run(&[Request::delete_address(lo, Ipv4Addr::LOCALHOST, 8)]).unwrap();
        // The default route now leads 127.0.0.1 to the bridge.
        assert_eq!(tcp(Ipv4Addr::LOCALHOST, 7777, SILENCE), None);
    });
    assert_eq!(secret.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(endpoint.gateway.is_some());
}

#[test]
fn a_port_that_is_not_published_is_silent_to_the_outside_that_knows_the_way() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    let endpoint = guest.join(&world, &daemon, &[publish("81/tcp", "", "8081")]).unwrap();
    world.outside(|| {
        let mut route = Route::open().unwrap();
        let eth0 = route.link("eth0").unwrap().unwrap().index;
        route.run(&[Request::add_default_route(eth0, HOST)]).unwrap();
        silent(address(&endpoint), 80, 53);
    });
    assert!(world.on_host(|| tcp(address(&endpoint), 80, PATIENCE)).is_some(), "the host may");
}

#[test]
fn two_daemons_side_by_side_do_not_meet() {
    let world = World::new();
    let one = world.networks(config());
    let two = world.networks(BridgeConfig::named("gantry1"));
    let (a, b) = (Guest::new(), Guest::new());
    let first = a.join(&world, &one, &web()).unwrap();
    assert_eq!(
        b.join(&world, &two, &web()).unwrap_err().chain().split_once("): ").unwrap().1,
        format!(
            "listen tcp4 0.0.0.0:8080: bind: address already in use (by process {} with pid {})",
            std::fs::read_to_string("/proc/self/comm").unwrap().trim_end(),
            std::process::id()
        )
    );
    let second = b.join(&world, &two, &[publish("80/tcp", "", "9090")]).unwrap();
    assert_eq!(second.address.unwrap().to_string(), "172.18.0.2/16");
    assert_eq!(world.outside(|| tcp(HOST, 9090, PATIENCE)), Some(OUTSIDE.into()));
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    // Across bridges: directly never, by a published port always.
    a.inside(|| silent(address(&second), 80, 53));
    b.inside(|| silent(address(&first), 80, 53));
    assert!(a.inside(|| tcp(HOST, 9090, PATIENCE)).is_some());
    world.on_host(|| two.networks.remove_all()).unwrap();
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
}

#[test]
fn without_icc_siblings_meet_only_by_published_ports() {
    let world = World::new();
    // With it, a packet to a sibling's published port stays on the bridge, where isolation stops it.
    let _ = world.on_host(|| netns::set_sysctl("bridge/bridge-nf-call-iptables", "0"));
    let daemon = world.networks(BridgeConfig { icc: false, ..config() });
    let (server, sibling) = (Guest::new(), Guest::new());
    let endpoint = server.join(&world, &daemon, &web()).unwrap();
    sibling.join(&world, &daemon, &[]).unwrap();
    sibling.inside(|| silent(address(&endpoint), 80, 53));
    assert!(sibling.inside(|| ask(HOST)).iter().all(Option::is_some));
    assert!(world.on_host(|| ask(HOST)).iter().all(Option::is_some));
}

#[test]
fn the_machine_becomes_no_router_for_others() {
    let world = World::new();
    let daemon = world.networks(config());
    assert_eq!(
        world.on_host(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()),
        "1\n"
    );
    // A second neighbour on another link, without a bridge between.
    let other = netns::create().unwrap();
    let (near, far) = (Ipv4Addr::new(198, 18, 9, 1), Ipv4Addr::new(198, 18, 9, 2));
    world.on_host(|| {
        let mut route = Route::open().unwrap();
        let veth = Veth {
            host: "eth9",
            peer: "eth0",
            netns: other.as_fd(),
            peer_mac: None,
            master: None,
            mtu: 0,
        };
        route.run(&[Request::add_veth(&veth)]).unwrap();
        let eth9 = route.link("eth9").unwrap().unwrap().index;
        route.run(&[Request::add_address(eth9, near, 24), Request::set_up(eth9)]).unwrap();
    });
    let listener = within(other.as_fd(), || {
        up(&mut Route::open().unwrap(), far, Some(near));
        TcpListener::bind("0.0.0.0:80").unwrap()
    })
    .unwrap();
    let reach = || {
        world.outside(|| {
            TcpStream::connect_timeout(&SocketAddrV4::new(far, 80).into(), SILENCE).is_ok()
        })
    };
    world.outside(|| {
        let mut route = Route::open().unwrap();
        let eth0 = route.link("eth0").unwrap().unwrap().index;
        route.run(&[Request::add_default_route(eth0, HOST)]).unwrap();
    });
    assert!(!reach());
    // And it stays so when the daemon comes back and finds forwarding on, whether it died or left in order.
    let open = |store: &store::Store| {
        world.on_host(|| Networks::open(&Config::with(Some(config())), store)).unwrap()
    };
    let Daemon { networks, store, _dir } = daemon;
    drop(networks);
    let again = open(&store);
    assert!(!reach());
    world.on_host(|| again.remove_all()).unwrap();
    drop(again);
    let again = open(&store);
    assert!(!reach());
    // That the way itself is sound shows when the rules are gone.
    world.on_host(|| again.remove_all()).unwrap();
    assert!(reach());
    drop(listener);
}

#[test]
fn forwarding_stays_off_when_asked() {
    let world = World::new();
    let _daemon = world.networks(BridgeConfig {
        common: Common { ip_forward: false, ..Common::default() },
        ..config()
    });
    assert_eq!(
        world.on_host(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()),
        "0\n"
    );
}

#[test]
fn conflicts_read_as_dockers_and_leave_nothing() {
    let world = World::new();
    let daemon = world.networks(config());
    let (first, second) = (Guest::new(), Guest::new());
    first.join(&world, &daemon, &web()).unwrap();
    let error = second
        .join(&world, &daemon, &[publish("1/tcp", "", "9000"), publish("80/tcp", "", "8080")])
        .unwrap_err();
    let text = error.chain();
    assert!(
        text.starts_with("driver failed programming external connectivity on endpoint web ("),
        "{text}"
    );
    assert!(
        text.ends_with(
            "): Bind for 0.0.0.0:8080 failed: port is already allocated (by container web)"
        ),
        "{text}"
    );
    world.on_host(|| TcpListener::bind("0.0.0.0:9000")).unwrap();
    // The address was not lost either.
    assert_eq!(
        second.join(&world, &daemon, &[]).unwrap().address.unwrap().to_string(),
        "172.17.0.3/16"
    );
    let again = second.join(&world, &daemon, &[]).unwrap_err();
    assert_eq!(again.kind(), Kind::Forbidden);
    assert!(world.on_host(|| daemon.networks.leftovers()).unwrap().is_empty());
}

#[test]
fn a_namespace_that_cannot_be_wired_leaves_nothing() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    guest.join(&world, &daemon, &[]).unwrap();
    // The same namespace again, as another container: its eth0 is taken.
    let other = ContainerId::random();
    let wishes = web();
    let wish = Attach { container: &other, ..guest.wish(&wishes) };
    world.on_host(|| {
        assert!(daemon.networks.attach("bridge", &wish).is_err());
        assert!(daemon.networks.attach("bridge", &Attach { netns: None, ..wish }).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(
            daemon
                .networks
                .attach("bridge", &Attach { netns: Some(file.as_fd()), ..wish })
                .is_err()
        );
        assert!(daemon.networks.leftovers().unwrap().is_empty());
        TcpListener::bind("0.0.0.0:8080").unwrap();
    });
    assert_eq!(
        Guest::new().join(&world, &daemon, &[]).unwrap().address.unwrap().to_string(),
        "172.17.0.3/16"
    );
}

#[test]
fn a_flushed_table_comes_back_by_itself() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    guest.join(&world, &daemon, &web()).unwrap();
    let (stop, stopped) = std::os::unix::net::UnixStream::pair().unwrap();
    let told = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            world.on_host(|| {
                daemon.networks.watch(stopped.as_fd(), |_| told.store(true, Ordering::Relaxed))
            })
        });
        for _ in 0..3 {
            // The watcher may not listen yet, so what it must not miss is done until it is seen.
            let flushed = || {
                world.on_host(|| {
                    let mut batch = Batch::new(Family::Ipv4);
                    batch.renew_table("gantry-gantry0");
                    Nft::open(Family::Ipv4).unwrap().commit(&batch).unwrap();
                });
                (0..200).any(|_| {
                    world.on_host(|| {
                        Nft::open(Family::Ipv4).unwrap().rules("gantry-gantry0").unwrap().len() > 10
                    })
                })
            };
            assert!((0..50).any(|_| flushed()));
            assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
        }
        drop(stop);
        watcher.join().unwrap().unwrap();
    });
    assert!(told.load(Ordering::Relaxed));
}

#[test]
fn a_bridge_has_one_daemon() {
    let world = World::new();
    let first = world.networks(config());
    let dir = tempfile::tempdir().unwrap();
    let store = store::Store::open(&dir.path().join("db")).unwrap();
    let open = || world.on_host(|| Networks::open(&Config::with(Some(config())), &store).map(drop));
    assert_eq!(open().unwrap_err().kind(), Kind::Conflict);
    drop(first);
    open().unwrap();
}

#[test]
fn a_missing_table_is_no_obstacle_to_attach_and_detach() {
    let world = World::new();
    let daemon = world.networks(config());
    let flush = || {
        world.on_host(|| {
            let mut batch = Batch::new(Family::Ipv4);
            batch.delete_table("gantry-gantry0");
            Nft::open(Family::Ipv4).unwrap().commit(&batch).unwrap();
        });
    };
    let (first, second) = (Guest::new(), Guest::new());
    flush();
    first.join(&world, &daemon, &web()).unwrap();
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    second.join(&world, &daemon, &[publish("80/tcp", "", "9090")]).unwrap();
    flush();
    world.on_host(|| daemon.networks.detach(&second.id)).unwrap();
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    assert_eq!(world.outside(|| tcp(HOST, 9090, SILENCE)), None);
}

#[test]
fn a_daemon_that_died_at_any_step_is_followed_by_one_that_mends() {
    let world = World::new();
    let store_dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store::Store::open(&store_dir.path().join("db")).unwrap());
    let open = || world.on_host(|| Networks::open(&Config::with(Some(config())), &store)).unwrap();
    let (kept, lost) = (Guest::new(), Guest::new());
    let networks = open();
    let ids: Vec<_> = networks.list().into_iter().map(|n: Network| n.id).collect();
    let wishes = web();
    let living = world.on_host(|| networks.attach("bridge", &kept.wish(&wishes))).unwrap();
    let other = [publish("80/tcp", "", "9090")];
    let dead = world.on_host(|| networks.attach("bridge", &lost.wish(&other))).unwrap();
    drop(networks);
    // One died after its pair was made but not its rules, one before a pair came to the bridge, and
    // someone took the whole table.
    let table = |change: &(dyn Fn(&mut Batch) + Sync)| {
        world.on_host(|| {
            let mut batch = Batch::new(Family::Ipv4);
            change(&mut batch);
            Nft::open(Family::Ipv4).unwrap().commit(&batch).unwrap();
        });
    };
    for step in 0..4 {
        match step {
            1 => table(&|batch| batch.renew_table("gantry-gantry0")),
            2 => table(&|batch| batch.delete_table("gantry-gantry0")),
            3 => world.on_host(|| {
                Route::open()
                    .unwrap()
                    .run(&[Request::set_master(living.link.as_ref().unwrap(), 0)])
                    .unwrap();
            }),
            _ => {}
        }
        let networks = open();
        let repair = world.on_host(|| networks.reconcile([(&kept.id, &living)]));
        assert_eq!(repair.failures, Vec::<String>::new());
        match step {
            0 => {
                assert_eq!(repair.links_removed, [dead.link.clone().unwrap()]);
                assert_eq!((repair.ports_removed, repair.ports_added), (1, 0));
                assert!(!repair.table_made);
            }
            1 | 2 => assert_eq!(repair.ports_added, 2),
            // The strangers' namespaces live on, so their links are found each time.
            _ => assert!(
                repair.ports_added == 0
                    && !repair.links_removed.contains(living.link.as_ref().unwrap())
            ),
        }
        assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE), "step {step}");
        assert!(world.on_host(|| networks.leftovers()).unwrap().is_empty());
        assert_eq!(networks.list().into_iter().map(|n| n.id).collect::<Vec<_>>(), ids);
        // Its port is still taken, its address still its own.
        let stranger = Guest::new();
        assert!(world.on_host(|| networks.attach("bridge", &stranger.wish(&wishes))).is_err());
        let next = world.on_host(|| networks.attach("bridge", &stranger.wish(&[]))).unwrap();
        assert_ne!(address(&next), address(&living));
        world.on_host(|| networks.detach(&stranger.id)).unwrap();
    }
    // Someone removed the whole bridge.
    world.on_host(|| Route::open().unwrap().run(&[Request::delete_link("gantry0")])).unwrap();
    let networks = open();
    let repair = world.on_host(|| networks.reconcile([(&kept.id, &living)]));
    assert_eq!(repair.failures, Vec::<String>::new());
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    world.on_host(|| networks.detach(&kept.id)).unwrap();
    world.outside(|| silent(HOST, 8080, 5353));
}

#[test]
fn leases_and_ports_never_leak_and_an_address_waits_for_its_link() {
    let world = World::new();
    let small = BridgeConfig { address: Some("10.9.0.1/28".parse().unwrap()), ..config() };
    let daemon = world.networks(small);
    for _ in 0..5 {
        // Thirteen addresses; the namespaces live on, so the links must be removed for the next round.
        let guests: Vec<_> = (0..13).map(|_| Guest::new()).collect();
        for (n, guest) in guests.iter().enumerate() {
            let port = (9000 + n).to_string();
            guest.join(&world, &daemon, &[publish("80/tcp", "", &port)]).unwrap();
        }
        let error = Guest::new().join(&world, &daemon, &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        world.on_host(|| guests.iter().try_for_each(|g| daemon.networks.detach(&g.id))).unwrap();
    }
    assert!(world.on_host(|| daemon.networks.leftovers()).unwrap().is_empty());
}

#[test]
fn a_thousand_ports_come_and_go() {
    let world = World::new();
    let daemon = world.networks(config());
    let guest = Guest::new();
    let wishes: Vec<_> =
        (0..1000).map(|n| publish("80/tcp", "", &(20000 + n).to_string())).collect();
    for _ in 0..2 {
        let endpoint = guest.join(&world, &daemon, &wishes).unwrap();
        assert_eq!(endpoint.ports.len(), 1000);
        for port in [20000, 20500, 20999] {
            assert_eq!(world.outside(|| tcp(HOST, port, PATIENCE)), Some(OUTSIDE.into()));
        }
        world.on_host(|| daemon.networks.detach(&guest.id)).unwrap();
        // Another life of the same container, in a namespace whose old link is gone.
        world.on_host(|| {
            Route::open()
                .unwrap()
                .run(&[Request::delete_link(endpoint.link.as_ref().unwrap())])
                .unwrap();
        });
        assert_eq!(world.outside(|| tcp(HOST, 20500, SILENCE)), None);
    }
}

#[test]
fn many_at_once() {
    let world = World::new();
    let daemon = world.networks(config());
    let guests: Vec<_> = (0..24).map(|_| Guest::new()).collect();
    let endpoints: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = guests
            .iter()
            .map(|guest| {
                scope.spawn(|| guest.join(&world, &daemon, &[publish("80/tcp", "", "")]).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = endpoints.iter().map(address).collect();
    let mut ports: Vec<_> = endpoints.iter().map(|e| e.ports[0].host_port).collect();
    addresses.sort();
    addresses.dedup();
    ports.sort();
    ports.dedup();
    assert_eq!((addresses.len(), ports.len()), (24, 24));
    for endpoint in &endpoints {
        assert_eq!(
            world.outside(|| tcp(HOST, endpoint.ports[0].host_port, PATIENCE)),
            Some(OUTSIDE.into())
        );
    }
}

#[test]
fn the_bridge_follows_its_settings_and_refuses_contradictions() {
    let world = World::new();
    let open = |config: BridgeConfig| {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(&dir.path().join("db")).unwrap();
        world.on_host(|| Networks::open(&Config::with(Some(config)), &store)).map_err(|e| e.kind())
    };
    let bip = |text: &str| BridgeConfig {
        address: Some(text.parse().unwrap()),
        mtu_bytes: 1400,
        ..config()
    };
    let networks = open(bip("10.5.5.1/24")).unwrap();
    assert_eq!(networks.bridge_address().unwrap().to_string(), "10.5.5.1");
    drop(networks);
    // Without a wish the bridge keeps what it has; with another it changes.
    assert_eq!(open(config()).unwrap().bridge_address().unwrap().to_string(), "10.5.5.1");
    assert_eq!(open(bip("10.6.6.1/24")).unwrap().bridge_address().unwrap().to_string(), "10.6.6.1");
    for bad in ["10.5.5.0/24", "10.5.5.255/24", "10.5.5.1/31", "10.5.5.1/4", "127.0.0.1/8"] {
        assert_eq!(open(bip(bad)).unwrap_err(), Kind::Invalid, "{bad}");
    }
    for bad in ["", "a-name-above-15-bytes", "a/b", "a b", "..", "eth0", "lo"] {
        assert_eq!(open(BridgeConfig::named(bad)).unwrap_err(), Kind::Invalid, "{bad}");
    }
    let gateway =
        BridgeConfig { gateway: Some(Ipv4Addr::new(10, 9, 9, 9).into()), ..bip("10.6.6.1/24") };
    assert_eq!(open(gateway).unwrap_err(), Kind::Invalid);
}

#[test]
fn without_a_bridge_there_are_two_networks() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let store = store::Store::open(&dir.path().join("db")).unwrap();
    let networks = world.on_host(|| Networks::open(&Config::with(None), &store)).unwrap();
    assert_eq!(
        networks.list().iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        ["host", "none"]
    );
    assert_eq!(networks.find("bridge").unwrap_err().kind(), Kind::NotFound);
    let links = netns::route(world.host.as_fd()).unwrap().links(None).unwrap();
    assert!(links.iter().all(|l| l.kind != "bridge"));
}

#[test]
fn without_packet_filter_ports_are_refused_clearly() {
    let world = World::new();
    let daemon = world.networks(BridgeConfig {
        common: Common { packet_filter: false, ..Common::default() },
        ..config()
    });
    assert_eq!(Guest::new().join(&world, &daemon, &web()).unwrap_err().kind(), Kind::Invalid);
    assert!(world.on_host(|| Nft::open(Family::Ipv4).unwrap().tables().unwrap()).is_empty());
    Guest::new().join(&world, &daemon, &[]).unwrap();
}

#[test]
fn a_udp_client_that_keeps_sending_reaches_each_new_owner() {
    let world = World::new();
    let daemon = world.networks(config());
    let client = world.outside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = || {
        let mut buffer = [0; 64];
        client.send_to(b"?", (HOST, 5353)).unwrap();
        client.recv(&mut buffer).map(|n| std::str::from_utf8(&buffer[..n]).unwrap().to_owned())
    };
    // Before anyone answers, and while the way is remembered, the port gets an owner, then another.
    client.send_to(b"?", (HOST, 5353)).unwrap();
    for _ in 0..2 {
        let guest = Guest::new();
        guest.join(&world, &daemon, &web()).unwrap();
        assert_eq!(ask().unwrap(), OUTSIDE.to_string());
        world.on_host(|| daemon.networks.detach(&guest.id)).unwrap();
        client.send_to(b"?", (HOST, 5353)).unwrap();
    }
}

#[test]
fn reconciling_again_or_late_takes_nothing_from_the_living() {
    let world = World::new();
    let daemon = world.networks(config());
    let (early, kept) = (Guest::new(), Guest::new());
    early.join(&world, &daemon, &web()).unwrap();
    let other = [publish("80/tcp", "", "9090")];
    let endpoint = kept.join(&world, &daemon, &other).unwrap();
    for _ in 0..2 {
        assert!(world.on_host(|| daemon.networks.reconcile([(&kept.id, &endpoint)])).is_empty());
    }
    assert_eq!(daemon.networks.endpoints_of(&kept.id), [endpoint]);
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    assert_eq!(world.outside(|| tcp(HOST, 9090, PATIENCE)), Some(OUTSIDE.into()));
    world
        .on_host(|| daemon.networks.detach(&early.id).and(daemon.networks.detach(&kept.id)))
        .unwrap();
    // Each port was held once, so it is free now.
    world
        .on_host(|| TcpListener::bind("0.0.0.0:9090").and(TcpListener::bind("0.0.0.0:8080")))
        .unwrap();
}

#[test]
fn a_bridge_made_by_hand_is_adopted_and_never_removed() {
    let world = World::new();
    let links = || {
        let links = netns::route(world.host.as_fd()).unwrap().links(None).unwrap();
        links.into_iter().map(|l| l.name).collect::<Vec<_>>()
    };
    world.on_host(|| Route::open().unwrap().run(&[Request::add_bridge("br0", None, 0)])).unwrap();
    let by_hand = world.networks(BridgeConfig::named("br0"));
    let own = world.networks(config());
    let mac = || netns::route(world.host.as_fd()).unwrap().link("br0").unwrap().unwrap().mac;
    let before = mac();
    let guests: Vec<_> = (0..6).map(|_| Guest::new()).collect();
    guests.iter().for_each(|guest| drop(guest.join(&world, &by_hand, &[]).unwrap()));
    assert_eq!(mac(), before);
    world.on_host(|| by_hand.networks.remove_all().and(own.networks.remove_all())).unwrap();
    let left = links();
    assert!(left.contains(&"br0".to_owned()) && !left.contains(&"gantry0".to_owned()), "{left:?}");
    assert!(left.iter().all(|name| !name.starts_with("veth")), "{left:?}");
    assert!(world.on_host(|| Nft::open(Family::Ipv4).unwrap().tables().unwrap()).is_empty());
    // One found again is still known as made here.
    drop(own);
    drop(world.networks(config()));
    let again = world.networks(config());
    world.on_host(|| again.networks.remove_all()).unwrap();
    assert!(!links().contains(&"gantry0".to_owned()));
}

#[test]
fn machines_and_links_without_ipv6_serve_as_well() {
    let world = World::new();
    let off = || {
        // Where the kernel has no IPv6 at all there is nothing to switch off.
        let _ = netns::set_sysctl("ipv6/conf/all/disable_ipv6", "1");
        let _ = netns::set_sysctl("ipv6/conf/default/disable_ipv6", "1");
    };
    world.on_host(off);
    // Below 1280 bytes the kernel gives a link no IPv6 whatever the settings.
    let daemon = world.networks(BridgeConfig { mtu_bytes: 1200, ..config() });
    let guest = Guest::new();
    guest.inside(off);
    guest.join(&world, &daemon, &web()).unwrap();
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    assert!(world.on_host(|| ask(Ipv4Addr::LOCALHOST)).iter().all(Option::is_some));
    let eth0 = netns::route(guest.netns.as_fd()).unwrap().link("eth0").unwrap().unwrap();
    assert_eq!(eth0.mtu, 1200);
}

/// A firewall of the machine's owner that forwards nothing by default.
fn strict(world: &World) -> impl Fn(&str) + '_ {
    let nft = move |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let done =
            world.on_host(|| std::process::Command::new("nft").args(&words).status().unwrap());
        assert!(done.success(), "{line}");
    };
    nft("add table inet strict");
    nft("add chain inet strict forward { type filter hook forward priority 0 ; policy drop ; }");
    nft("add table ip older");
    nft("add chain ip older FORWARD { type filter hook forward priority 0 ; policy drop ; }");
    nft
}

#[test]
fn filters_of_others_let_containers_through_unless_they_are_to_be_obeyed() {
    let world = World::new();
    let nft = strict(&world);
    let daemon = world.networks(config());
    let guest = Guest::new();
    guest.join(&world, &daemon, &web()).unwrap();
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    // Their owner loads them anew: the ways are opened again.
    nft("flush chain inet strict forward");
    world.outside(|| silent(HOST, 8080, 5353));
    let repair = world.on_host(|| daemon.networks.mend());
    assert_eq!((repair.ways_opened, repair.failures), (1, vec![]));
    assert_eq!(world.outside(|| ask(HOST)), both(OUTSIDE));
    // What our own table drops stays dropped.
    world.outside(|| silent(HOST, 80, 53));
    world.on_host(|| daemon.networks.remove_all()).unwrap();
    let listed = world
        .on_host(|| std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap());
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("gantry"));
}

#[test]
fn in_the_mode_obey_the_owners_rules_decide() {
    let world = World::new();
    let nft = strict(&world);
    let common = Common { obey: true, ..Common::default() };
    let daemon = world.networks(BridgeConfig { common, ..config() });
    let guest = Guest::new();
    guest.join(&world, &daemon, &web()).unwrap();
    world.outside(|| silent(HOST, 8080, 5353));
    // By the port that was asked for, as its owner thinks of it.
    for chain in ["inet strict forward", "ip older FORWARD"] {
        nft(&format!("add rule {chain} ct state established,related accept"));
        nft(&format!(
            "add rule {chain} oifname gantry0 meta l4proto tcp ct original proto-dst 8080 accept"
        ));
    }
    assert_eq!(world.outside(|| tcp(HOST, 8080, PATIENCE)), Some(OUTSIDE.into()));
    assert_eq!(world.outside(|| udp(HOST, 5353, SILENCE)), None);
}

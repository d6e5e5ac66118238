//! What neighbours try over the network: hosts of the same segment, containers of other networks, and a container
//! that sends what a router or a name server would.

use serde_json::Value;
use std::{
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};
use testkit::{Cx, cases, command, cx::skip, probe, suite::Case};

pub const CASES: &[Case] = cases![
    ports_of_loopback_and_inner_addresses_are_closed_to_the_segment,
    routers_that_are_none_are_not_believed,
    ipv6_is_off_where_nobody_asked_for_it,
    networks_are_closed_to_each_other_by_every_way,
    a_flood_of_bent_queries_leaves_names_working,
];

fn address(cx: &Cx<'_>, container: &str, network: &str) -> String {
    let inspect = cx.inspect(container);
    let own = &inspect["NetworkSettings"]["Networks"][network];
    own["IPAddress"].as_str().unwrap().to_owned()
}

/// Serves a word on TCP port 80.
fn server(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let name =
        cx.start(part, options, &["sh", "-c", "while :; do echo served | nc -l -p 80; done"]);
    cx.until("the server listens", || {
        let open = cx.docker(&["exec", &name, "netstat", "-ltn"]);
        open.stdout.contains(":80 ").then_some(())
    });
    name
}

fn asks(cx: &Cx<'_>, container: &str, address: &str, port: u16) -> String {
    let port = port.to_string();
    cx.docker(&["exec", container, "nc", "-w", "2", address, &port]).stdout
}

/// A machine of the same segment: a container without a network and a cable of the test's own into this host.
struct Neighbour {
    name: String,
    link: String,
    /// Of this host on the cable.
    host: String,
}

impl Neighbour {
    fn new(cx: &Cx<'_>) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let name = cx.sleeper("neighbour", &["--network=none"]);
        let pid = cx.inspect(&name)["State"]["Pid"].as_i64().unwrap().to_string();
        let number = std::process::id() % 250;
        let link = format!("gtkl{number}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (host, own) = (format!("198.18.{number}.1"), format!("198.18.{number}.2/30"));
        let ip = |args: &[&str]| command::run(Command::new("ip").args(args), b"");
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "cable", "netns", &pid]).ok();
        ip(&["addr", "add", &format!("{host}/30"), "dev", &link]).ok();
        ip(&["link", "set", &link, "up"]).ok();
        let within = |args: &[&str]| {
            command::run(Command::new("nsenter").args(["-t", &pid, "-n"]).args(args), b"")
        };
        within(&["ip", "addr", "add", &own, "dev", "cable"]).ok();
        within(&["ip", "link", "set", "cable", "up"]).ok();
        within(&["ip", "route", "add", "default", "via", &host]).ok();
        // It sends to loopback addresses over the cable, which no honest machine does.
        within(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via $0 dev cable src $1; true", &host, own.trim_end_matches("/30")]).ok();
        Self { name, link, host }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        _ = Command::new("ip").args(["link", "del", &self.link]).output();
    }
}

fn ports_of_loopback_and_inner_addresses_are_closed_to_the_segment(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("20.10 opens inner addresses to the segment");
    }
    let network = cx.name("n");
    cx.docker(&["network", "create", &network]).ok();
    let neighbour = Neighbour::new(cx);
    let inner = server(cx, "inner", &["-p", "127.0.0.1::80"]);
    let open = server(cx, "open", &["-p", "80"]);
    let other = server(cx, "other", &["--network", &network, "-p", "127.0.0.1::80"]);
    let port = |name: &str| -> u16 {
        let text = cx.docker(&["port", name, "80/tcp"]).ok().to_owned();
        text.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    };
    cx.until("the open port serves the segment", || {
        (asks(cx, &neighbour.name, &neighbour.host, port(&open)) == "served\n").then_some(())
    });
    for name in [&inner, &other] {
        for place in ["127.0.0.1", "127.0.0.2", &neighbour.host] {
            let got = asks(cx, &neighbour.name, place, port(name));
            assert_eq!(got, "", "{name} at {place}");
        }
    }
    for (name, on) in [(&inner, "bridge"), (&other, network.as_str())] {
        let place = address(cx, name, on);
        assert_eq!(asks(cx, &neighbour.name, &place, 80), "", "{name} at {place}");
    }
    // Not even by way of an address that another publishes.
    let port = port(&inner).to_string();
    let got = cx.docker(&[
        "exec",
        &neighbour.name,
        "nc",
        "-w",
        "2",
        "-s",
        "198.18.0.9",
        &neighbour.host,
        &port,
    ]);
    assert!(!got.stdout.contains("served"), "{}", got.describe());
}

fn probed(cx: &Cx<'_>) -> String {
    let tag = format!("{}:latest", cx.name("probe"));
    let Some(archive) = probe::archive(&tag) else { skip("no C compiler for the probe") };
    cx.docker_with(&["load", "-q"], archive).ok();
    tag
}

fn routers_that_are_none_are_not_believed(cx: &Cx<'_>) {
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        skip("the kernel has no IPv6");
    }
    let image = probed(cx);
    for (part, options) in [("four", &[][..]), ("six", &["--ipv6"][..])] {
        let network = cx.name(part);
        cx.docker(&[&["network", "create"], options, &[&network]].concat()).ok();
        let neighbour = cx.sleeper(&format!("{part}-b"), &["--network", &network]);
        let attack = [
            "run",
            "--rm",
            "--network",
            &network,
            &image,
            "sh",
            "-c",
            "for i in 1 2 3; do probe advertise; done",
        ];
        cx.docker(&attack).ok();
        let shown = cx.docker(&["exec", &neighbour, "sh", "-c", "ip -6 addr; ip -6 route"]);
        assert!(!shown.stdout.contains("badd"), "{part}: {}", shown.describe());
        let host = command::run(Command::new("ip").args(["-6", "addr"]), b"");
        let routes = command::run(Command::new("ip").args(["-6", "route"]), b"");
        assert!(
            !host.stdout.contains("badd") && !routes.stdout.contains("badd"),
            "{}",
            routes.describe()
        );
        let default = cx.docker(&["exec", &neighbour, "ip", "-6", "route", "show", "default"]);
        assert!(!default.stdout.contains("fe80"), "{part}: {}", default.describe());
    }
}

fn ipv6_is_off_where_nobody_asked_for_it(cx: &Cx<'_>) {
    let network = cx.name("n");
    cx.docker(&["network", "create", &network]).ok();
    for options in [&[][..], &["--network", &network], &["--network", "none"]] {
        let text = cx.busybox(
            options,
            &["sh", "-c", "ip -6 addr show scope link; ip -6 addr show scope global"],
        );
        assert_eq!(text, "", "{options:?}");
    }
}

fn networks_are_closed_to_each_other_by_every_way(cx: &Cx<'_>) {
    let names: Vec<String> = ["a", "b", "inner", "quiet"].map(|p| cx.name(p)).to_vec();
    cx.docker(&["network", "create", &names[0]]).ok();
    cx.docker(&["network", "create", &names[1]]).ok();
    cx.docker(&["network", "create", "--internal", &names[2]]).ok();
    cx.docker(&[
        "network",
        "create",
        "-o",
        "com.docker.network.bridge.enable_icc=false",
        &names[3],
    ])
    .ok();
    let gateway = |network: &str| {
        let shown = cx.api().get(&format!("/networks/{network}")).expect(200);
        let Value::String(gateway) = shown["IPAM"]["Config"][0]["Gateway"].clone() else {
            panic!("{shown}")
        };
        gateway
    };
    let servers: Vec<(String, String, String)> = names
        .iter()
        .enumerate()
        .map(|(n, network)| {
            let name = server(cx, &format!("s{n}"), &["--network", network]);
            (network.clone(), address(cx, &name, network), name)
        })
        .collect();
    let on_bridge = server(cx, "s9", &[]);
    let on_bridge = ("bridge".to_owned(), address(cx, &on_bridge, "bridge"), on_bridge);
    for from in names.iter().map(String::as_str).chain(["bridge"]) {
        let asker = cx.sleeper(&format!("ask-{from}"), &["--network", from, "--cap-add=NET_ADMIN"]);
        for (network, address, server) in servers.iter().chain([&on_bridge]) {
            let got = asks(cx, &asker, address, 80);
            let neighbours = network == from && !network.ends_with("quiet");
            assert_eq!(got == "served\n", neighbours, "{from} to {server} at {address}: {got:?}");
            if network != from {
                // By a route of its own through the other network's gateway address.
                let by = if network == "bridge" { continue } else { gateway(network) };
                let script = format!(
                    "ip route add {by} dev eth0; ip route add {address} via {by} 2>/dev/null; nc -w 1 {address} 80"
                );
                let got = cx.docker(&["exec", &asker, "sh", "-c", &script]);
                assert_eq!(got.stdout, "", "{from} to {server} by {by}");
            }
        }
        cx.docker(&["rm", "-f", &asker]).ok();
    }
}

fn a_flood_of_bent_queries_leaves_names_working(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("how Gantry's servers of names take it");
    }
    let image = probed(cx);
    let network = cx.name("n");
    cx.docker(&["network", "create", &network]).ok();
    let other = cx.sleeper("other", &["--network", &network]);
    let name = cx.name("asks");
    let start = [
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        &network,
        "--dns",
        "127.0.0.9",
        &image,
        "sleep",
        "600",
    ];
    cx.docker(&start).ok();
    for _ in 0..3 {
        cx.docker(&["exec", &name, "probe", "dns", "127.0.0.11", "40000"]).ok();
        let wanted = address(cx, &other, &network);
        cx.until("the name is found", || {
            let found = cx.docker(&["exec", &name, "nslookup", &other, "127.0.0.11"]);
            found.stdout.contains(&wanted).then_some(())
        });
    }
    cx.docker(&["exec", &other, "true"]).ok();
}

//! IPv6 on user-defined networks and on the default bridge: addresses, routes, published ports, modes.

use serde_json::Value;
use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use testkit::{Cx, Daemon, cases, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    both_families_side_by_side,
    ports_are_published_on_both_families,
    ipv6_alone,
    routed_networks_open_ports_as_they_are,
    the_default_bridge_has_ipv6_when_asked,
];

fn needs_ipv6() {
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        skip("the kernel has no IPv6");
    }
}

fn made(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let name = cx.name(part);
    cx.docker(&[&["network", "create"], options, &[&name]].concat()).ok();
    name
}

fn endpoint(cx: &Cx<'_>, container: &str, network: &str) -> Value {
    cx.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Serves one word on TCP port 80 of both families.
fn server(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let name =
        cx.start(part, options, &["sh", "-c", "while :; do echo served | nc -l -p 80; done"]);
    cx.until("the server listens", || {
        let open = cx.docker(&["exec", &name, "netstat", "-ltn"]);
        open.stdout.contains(":80 ").then_some(())
    });
    name
}

fn fetch(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[track_caller]
fn served(cx: &Cx<'_>, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    cx.until(&format!("{address} serves"), || (fetch(address)? == "served\n").then_some(()));
}

fn pings(cx: &Cx<'_>, container: &str, address: &str) -> bool {
    cx.docker(&["exec", container, "ping", "-c", "1", "-W", "2", address]).code == Some(0)
}

fn both_families_side_by_side(cx: &Cx<'_>) {
    needs_ipv6();
    let name = made(cx, "n", &["--ipv6"]);
    let shown = cx.api().get(&format!("/networks/{name}")).expect(200);
    assert_eq!(shown["EnableIPv6"], true);
    let pools = shown["IPAM"]["Config"].as_array().unwrap();
    assert_eq!(pools.len(), 2);
    let (subnet, gateway) = (text(&pools[1]["Subnet"]), text(&pools[1]["Gateway"]));
    assert!(subnet.starts_with("fd") && subnet.ends_with("/64"), "a unique local one: {subnet}");
    let a = cx.sleeper("a", &["--network", &name]);
    let b = cx.sleeper("b", &["--network", &name]);
    let own = endpoint(cx, &a, &name);
    assert_eq!(text(&own["IPv6Gateway"]), gateway);
    assert_eq!(own["GlobalIPv6PrefixLen"], 64);
    let theirs = text(&endpoint(cx, &b, &name)["GlobalIPv6Address"]);
    assert!(pings(cx, &a, &theirs) && pings(cx, &a, &gateway));
    let routes = cx.docker(&["exec", &a, "ip", "-6", "route"]);
    assert!(routes.ok().contains(&format!("default via {gateway}")), "{}", routes.describe());
    // Names have both.
    let hosts = cx.docker(&["exec", &a, "cat", "/etc/hosts"]);
    assert!(hosts.ok().contains(&text(&own["GlobalIPv6Address"])), "{}", hosts.describe());
    let pinged = cx.docker(&["exec", &a, "ping", "-6", "-c", "1", "-W", "5", &b]);
    assert!(pinged.ok().contains(&theirs), "{}", pinged.describe());
    // Another network gets another subnet.
    let other = made(cx, "m", &["--ipv6"]);
    let shown = cx.api().get(&format!("/networks/{other}")).expect(200);
    assert_ne!(text(&shown["IPAM"]["Config"][1]["Subnet"]), subnet);
    let c = cx.sleeper("c", &["--network", &other]);
    assert!(!pings(cx, &c, &theirs), "networks are apart in IPv6 too");
}

fn ports_are_published_on_both_families(cx: &Cx<'_>) {
    needs_ipv6();
    let name = made(cx, "n", &["--ipv6", "--subnet", "fd00:9a:1::/64"]);
    let a = server(cx, "a", &["--network", &name, "--ip6", "fd00:9a:1::42", "-p", "80"]);
    assert_eq!(endpoint(cx, &a, &name)["GlobalIPv6Address"], "fd00:9a:1::42");
    let told = cx.docker(&["port", &a, "80"]);
    let lines: Vec<_> = told.ok().lines().collect();
    assert_eq!(lines.len(), 2, "{}", told.describe());
    let port = lines[0].strip_prefix("0.0.0.0:").unwrap();
    assert_eq!(lines[1], format!("[::]:{port}"));
    served(cx, &format!("127.0.0.1:{port}"));
    served(cx, &format!("[fd00:9a:1::1]:{port}"));
    served(cx, "[fd00:9a:1::42]:80");
    // From a neighbour by the host's address.
    let b = cx.sleeper("b", &["--network", &name]);
    cx.until("the neighbour is served", || {
        let got = cx.docker(&["exec", &b, "nc", "-w", "5", "fd00:9a:1::1", port]);
        (got.stdout == "served\n").then_some(())
    });
    // Both are taken.
    let refused = cx.run(&["--network", &name, "-p", &format!("[::]:{port}:80")], &["true"]);
    refused.fails_with(125, &["port is already allocated", &a]);
    cx.docker(&["rm", "-f", &a]).ok();
    assert_eq!(fetch(format!("[fd00:9a:1::1]:{port}").parse().unwrap()), None);
}

fn ipv6_alone(cx: &Cx<'_>) {
    needs_ipv6();
    let name = cx.name("n");
    let body = serde_json::json!({"Name": name, "EnableIPv4": false, "EnableIPv6": true});
    cx.api().post("/networks/create", &body).expect(201);
    let a = cx.sleeper("a", &["--network", &name]);
    let own = endpoint(cx, &a, &name);
    assert_eq!(own["IPAddress"], "");
    assert_ne!(own["GlobalIPv6Address"], "");
    let addresses = cx.docker(&["exec", &a, "ip", "-4", "addr", "show", "eth0"]);
    assert!(!addresses.ok().contains("inet "), "{}", addresses.describe());
    let body = serde_json::json!({"Name": cx.name("m"), "EnableIPv4": false});
    cx.api().post("/networks/create", &body).fails(400, &["IPv4 or IPv6"]);
}

fn routed_networks_open_ports_as_they_are(cx: &Cx<'_>) {
    needs_ipv6();
    let routed = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    let routed6 = "com.docker.network.bridge.gateway_mode_ipv6=routed";
    let name = made(cx, "n", &["--ipv6", "-o", routed, "-o", routed6]);
    let other = made(cx, "m", &["--ipv6", "-o", routed, "-o", routed6]);
    let a = server(cx, "a", &["--network", &name, "-p", "8080:80"]);
    let own = endpoint(cx, &a, &name);
    let (v4, v6) = (text(&own["IPAddress"]), text(&own["GlobalIPv6Address"]));
    served(cx, &format!("{v4}:80"));
    served(cx, &format!("[{v6}]:80"));
    // Nothing of the host's is taken.
    std::net::TcpListener::bind("0.0.0.0:8080").map(drop).unwrap();
    // A neighbour beyond the router reaches what is published, by its own address, and nothing else.
    let b = cx.sleeper("b", &["--network", &other]);
    for address in [&v4, &v6] {
        cx.until("the port is open", || {
            let got = cx.docker(&["exec", &b, "nc", "-w", "5", address, "80"]);
            (got.stdout == "served\n").then_some(())
        });
    }
    let closed = server(cx, "c", &["--network", &name]);
    let v4 = text(&endpoint(cx, &closed, &name)["IPAddress"]);
    let got = cx.docker(&["exec", &b, "nc", "-w", "1", &v4, "80"]);
    assert_eq!(got.stdout, "", "{}", got.describe());
}

fn the_default_bridge_has_ipv6_when_asked(_: &Cx<'_>) {
    needs_ipv6();
    let options = Options::new().args(&["--ipv6", "--fixed-cidr-v6", "fd00:9a:7::/64"]);
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    let cx = &Cx::new(&daemon, "six");
    let shown = cx.api().get("/networks/bridge").expect(200);
    assert_eq!(shown["EnableIPv6"], true);
    let a = cx.sleeper("a", &[]);
    let own = endpoint(cx, &a, "bridge");
    assert_eq!(own["GlobalIPv6Address"], "fd00:9a:7::2");
    assert!(pings(cx, &a, "fd00:9a:7::1"));
    cx.docker(&["rm", "-f", &a]).ok();
}

//! The default bridge: addresses, names' files, published ports.

use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};
use testkit::{Cx, cases, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    address_and_route,
    containers_reach_each_other,
    published_on_loopback_and_own_address,
    published_udp,
    ephemeral_ports_are_told,
    port_ranges,
    publish_all,
    a_taken_port_is_an_error,
    the_port_is_free_again,
    container_reaches_its_own_published_port,
    unpublished_ports_are_not_on_the_host,
    hosts_and_resolv_conf,
    inspect_ports,
    network_list_and_inspect,
    network_inspect_lists_containers,
    predefined_networks_are_protected,
    mac_address_is_from_the_ip,
    addresses_are_used_again,
    outside_is_reached_through_nat,
    bad_port_specs,
];

/// Serves one word on a TCP port of a new container.
fn server(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let script = "while :; do echo served | nc -l -p 80; done";
    let name = cx.start(part, options, &["sh", "-c", script]);
    // Listening is visible from inside before anybody outside asks.
    cx.until("the server listens", || {
        cx.docker(&["exec", &name, "sh", "-c", "netstat -ltn | grep ':80 '"])
            .stdout
            .contains(":80")
            .then_some(())
    });
    name
}

fn fetch(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The server of busybox serves one connection at a time: asks until an answer comes.
#[track_caller]
fn served(cx: &Cx<'_>, address: &str) {
    cx.until(&format!("{address} serves"), || (fetch(address)? == "served\n").then_some(()));
}

fn host_port(cx: &Cx<'_>, name: &str, port: &str) -> u16 {
    let text = cx.docker(&["port", name, port]).ok().to_owned();
    text.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

fn ip(cx: &Cx<'_>, name: &str) -> String {
    cx.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn address_and_route(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let n = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"].clone();
    let (address, gateway) = (n["IPAddress"].as_str().unwrap(), n["Gateway"].as_str().unwrap());
    if let Some(subnet) = cx.daemon.subnet() {
        assert!(address.starts_with(&subnet), "{address}");
        assert_eq!(gateway, format!("{subnet}1"));
        assert_eq!(n["IPPrefixLen"], 24);
    }
    let text = cx.docker(&[
        "exec",
        &name,
        "sh",
        "-c",
        "ip -4 addr show eth0; ip route; cat /sys/class/net/eth0/address; ip addr show lo",
    ]);
    for part in [
        &format!("inet {address}/"),
        &format!("default via {gateway} dev eth0"),
        n["MacAddress"].as_str().unwrap(),
        "inet 127.0.0.1/8",
    ] {
        assert!(text.ok().contains(part), "{part}\n{}", text.describe());
    }
    cx.docker(&["exec", &name, "ping", "-c", "1", "-W", "5", gateway]).ok();
}

fn containers_reach_each_other(cx: &Cx<'_>) {
    let name = server(cx, "a", &[]);
    let address = ip(cx, &name);
    cx.until("the neighbour answers", || {
        (cx.run(&[], &["nc", "-w", "5", &address, "80"]).stdout == "served\n").then_some(())
    });
}

fn published_on_loopback_and_own_address(cx: &Cx<'_>) {
    let name = server(cx, "a", &["-p", "80"]);
    let port = host_port(cx, &name, "80");
    served(cx, &format!("127.0.0.1:{port}"));
    let gateway = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    served(cx, &format!("{gateway}:{port}"));
    served(cx, &format!("{}:80", ip(cx, &name)));
    let bound = server(cx, "b", &["-p", "127.0.0.1::80"]);
    let port = host_port(cx, &bound, "80");
    served(cx, &format!("127.0.0.1:{port}"));
    assert_eq!(fetch(&format!("{gateway}:{port}")), None, "bound to loopback only");
}

/// A UDP socket at port 99 of a container's network: Debian's busybox has no program for that.
fn socket_in(cx: &Cx<'_>, container: &str) -> UdpSocket {
    let pid = cx.inspect(container)["State"]["Pid"].to_string();
    let bind = move || {
        let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
        UdpSocket::bind("0.0.0.0:99").unwrap()
    };
    // The namespace is the thread's, and goes with it.
    std::thread::spawn(bind).join().unwrap()
}

fn published_udp(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-p", "127.0.0.1::99/udp"]);
    let port = host_port(cx, &name, "99/udp");
    let inside = socket_in(cx, &name);
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [&inside, &outside] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    outside.send_to(b"ping", ("127.0.0.1", port)).unwrap();
    let mut buf = [0; 16];
    let (n, from) = inside.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"ping");
    inside.send_to(b"pong", from).unwrap();
    let (n, from) = outside.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..n], from.port()), (&b"pong"[..], port));
}

fn ephemeral_ports_are_told(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-p", "80", "-p", "127.0.0.1:0:81/udp"]);
    let text = cx.docker(&["port", &name]);
    assert!(text.ok().contains("80/tcp -> 0.0.0.0:"), "{}", text.describe());
    assert!(text.ok().contains("81/udp -> 127.0.0.1:"), "{}", text.describe());
    let first = host_port(cx, &name, "80");
    assert!(first > 1024);
    let ps = cx.docker(&["ps", "--format", "{{.Ports}}", "-f", &format!("name={name}")]);
    assert!(ps.ok().contains(&format!("0.0.0.0:{first}->80/tcp")), "{}", ps.describe());
    cx.docker(&["port", &name, "99"]).fails_with(1, &["o public port '99"]);
}

fn port_ranges(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-p", "127.0.0.1:28110-28112:80-82"]);
    assert_eq!(cx.docker(&["port", &name]).lines().len(), 3);
    assert_eq!(host_port(cx, &name, "81"), 28111);
    let b = cx.sleeper("b", &["-p", "127.0.0.1:28110-28115:80"]);
    assert_eq!(host_port(cx, &b, "80"), 28113, "the first free of the range");
}

fn publish_all(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-P", "--expose", "70", "--expose", "71/udp"]);
    let ports = cx.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert!(
        ports["70/tcp"][0]["HostPort"].is_string() && ports["71/udp"][0]["HostPort"].is_string(),
        "{ports}"
    );
    let exposed = cx.sleeper("b", &["--expose", "70"]);
    assert_eq!(cx.inspect(&exposed)["NetworkSettings"]["Ports"], json!({"70/tcp": null}));
}

fn a_taken_port_is_an_error(cx: &Cx<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mapping = format!("127.0.0.1:{port}:80");
    if cx.is_gantry() {
        // dockerd without its userland proxy does not notice a foreign listener.
        cx.run(&["-p", &mapping], &["true"]).fails_with(
            125,
            &[
                "driver failed programming external connectivity on endpoint",
                "address already in use",
            ],
        );
    }
    drop(listener);
    let a = cx.sleeper("a", &["-p", "127.0.0.1:28120:80"]);
    let name = cx.name("b");
    cx.docker(&["run", "-d", "--name", &name, "-p", "127.0.0.1:28120:80", "busybox", "true"])
        .fails_with(
            125,
            &[
                &format!("driver failed programming external connectivity on endpoint {name} ("),
                "Bind for 127.0.0.1:28120 failed: port is already allocated",
            ],
        );
    assert_eq!(cx.inspect(&name)["State"]["Status"], "created");
    cx.docker(&["rm", "-f", &a]).ok();
    cx.docker(&["start", &name]).ok();
}

fn the_port_is_free_again(cx: &Cx<'_>) {
    for n in 0..4 {
        let name = cx.sleeper(&format!("a{n}"), &["-p", "127.0.0.1:28130:80"]);
        cx.docker(&["rm", "-f", &name]).ok();
    }
    cx.until("the port can be bound", || TcpListener::bind("127.0.0.1:28130").ok());
}

fn container_reaches_its_own_published_port(cx: &Cx<'_>) {
    let name = server(cx, "a", &["-p", "28140:80"]);
    let gateway = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    cx.until("the hairpin answers", || {
        (cx.docker(&["exec", &name, "nc", "-w", "5", &gateway, "28140"]).stdout == "served\n")
            .then_some(())
    });
    cx.until("a neighbour reaches it too", || {
        (cx.run(&[], &["nc", "-w", "5", &gateway, "28140"]).stdout == "served\n").then_some(())
    });
}

fn unpublished_ports_are_not_on_the_host(cx: &Cx<'_>) {
    let name = server(cx, "a", &["-p", "127.0.0.1::80"]);
    let port = host_port(cx, &name, "80");
    cx.docker(&["rm", "-f", &name]).ok();
    assert_eq!(fetch(&format!("127.0.0.1:{port}")), None);
}

fn hosts_and_resolv_conf(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--hostname", "hosty"]);
    let hosts = cx.docker(&["exec", &name, "cat", "/etc/hosts"]).ok().to_owned();
    for line in [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "ff02::1\tip6-allnodes",
        &format!("{}\thosty", ip(cx, &name)),
    ] {
        assert!(hosts.lines().any(|l| l == line), "{line:?} in {hosts}");
    }
    assert!(cx.docker(&["exec", &name, "cat", "/etc/resolv.conf"]).ok().contains("nameserver "));
    for file in ["HostsPath", "ResolvConfPath", "HostnamePath"] {
        let path = cx.inspect(&name)[file].as_str().unwrap().to_owned();
        assert!(std::path::Path::new(&path).exists(), "{path}");
    }
    let gateway = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    let text =
        cx.busybox(&["--add-host", "outer:host-gateway"], &["grep", "-w", "outer", "/etc/hosts"]);
    assert_eq!(text, format!("{gateway}\touter"));
    assert_eq!(
        cx.busybox(&[], &["sh", "-c", "echo more >> /etc/hosts && tail -1 /etc/hosts"]),
        "more"
    );
}

fn inspect_ports(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-p", "127.0.0.1:28150:80", "--expose", "90"]);
    let ports = cx.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert_eq!(
        ports,
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "28150"}], "90/tcp": null})
    );
    assert_eq!(
        cx.inspect(&name)["HostConfig"]["PortBindings"],
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "28150"}]})
    );
}

fn network_list_and_inspect(cx: &Cx<'_>) {
    let mut names: Vec<_> = cx
        .docker(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])
        .lines()
        .iter()
        .map(|l| (*l).to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["bridge bridge local", "host host local", "none null local"]);
    let n = cx.api().get("/v1.41/networks/bridge").expect(200);
    assert_eq!(
        (
            &n["Name"],
            &n["Driver"],
            &n["Scope"],
            &n["EnableIPv6"],
            &n["Internal"],
            &n["Attachable"],
            &n["Ingress"]
        ),
        (
            &json!("bridge"),
            &json!("bridge"),
            &json!("local"),
            &json!(false),
            &json!(false),
            &json!(false),
            &json!(false)
        )
    );
    assert_eq!(n["Id"].as_str().unwrap().len(), 64);
    assert_eq!(n["IPAM"]["Driver"], "default");
    assert!(
        n["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().ends_with("/24") || !cx.daemon.is_own()
    );
    assert_eq!(n["Options"]["com.docker.network.bridge.default_bridge"], "true");
    assert_eq!(n["Labels"], json!({}));
    assert!(n["Containers"].is_object());
    assert_eq!(n["ConfigFrom"], json!({"Network": ""}));
    cx.docker(&["network", "inspect", "no-such-net"])
        .fails_with(1, &["network no-such-net not found"]);
}

fn network_inspect_lists_containers(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let id = cx.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let c = cx.api().get("/networks/bridge").expect(200)["Containers"][&id].clone();
    assert_eq!(c["Name"], name);
    assert_eq!(c["IPv4Address"].as_str().unwrap().split('/').next().unwrap(), ip(cx, &name));
    assert_eq!(c["IPv6Address"], "");
    assert_eq!(c["EndpointID"].as_str().unwrap().len(), 64);
}

fn predefined_networks_are_protected(cx: &Cx<'_>) {
    for name in ["bridge", "host", "none"] {
        let answer = cx.api().delete(&format!("/networks/{name}"));
        assert_eq!(answer.status(), 403, "{}", answer.text());
        assert!(
            answer.message().contains("is a pre-defined network and cannot be removed"),
            "{}",
            answer.text()
        );
    }
    let answer = cx.api().post("/networks/create", &json!({"Name": "host"}));
    assert_eq!(answer.status(), 403, "{}", answer.text());
}

fn mac_address_is_from_the_ip(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let mac = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["MacAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let bytes: Vec<String> =
        ip(cx, &name).split('.').map(|b| format!("{:02x}", b.parse::<u8>().unwrap())).collect();
    assert_eq!(mac, format!("02:42:{}", bytes.join(":")));
    if cx.is_gantry() {
        // The client refuses the flag when the server is older than 1.44.
        let given = cx.busybox(
            &["--mac-address", "02:42:ac:11:65:43"],
            &["cat", "/sys/class/net/eth0/address"],
        );
        assert_eq!(given, "02:42:ac:11:65:43");
    }
}

fn addresses_are_used_again(cx: &Cx<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let text = cx.busybox(&[], &["sh", "-c", "ip -4 addr show eth0 | grep inet"]);
        seen.insert(text);
    }
    assert!(!seen.is_empty());
    let a = cx.sleeper("a", &[]);
    let b = cx.sleeper("b", &[]);
    assert_ne!(ip(cx, &a), ip(cx, &b));
}

fn outside_is_reached_through_nat(cx: &Cx<'_>) {
    let route = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    if !route.lines().any(|l| l.split_whitespace().nth(1) == Some("00000000")) {
        skip("this machine has no default route");
    }
    // A listener on the machine's own outer address stands for the outside world.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("198.51.100.1:9").unwrap();
    let own = probe.local_addr().unwrap().ip();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"outside\n").unwrap();
    });
    let text = cx.run(&[], &["nc", "-w", "10", &own.to_string(), &port.to_string()]);
    assert_eq!(text.ok(), "outside");
    server.join().unwrap();
}

fn bad_port_specs(cx: &Cx<'_>) {
    for bad in ["99999:80", "80:abc", "1-2:3-5:tcp", "nonsense"] {
        cx.run(&["-p", bad], &["true"]).fails(125);
    }
    let body = json!({"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "nonsense"}]}}});
    let answer = cx.api().post(&format!("/containers/create?name={}", cx.name("a")), &body);
    assert!(matches!(answer.status(), 400 | 500), "{}", answer.text());
    assert_ne!(answer.json(), Value::Null);
}

//! User-defined networks: making, listing, removing; containers that come and go; what is between networks.

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    create_list_inspect_remove,
    containers_of_a_network_reach_each_other,
    networks_are_apart,
    connect_and_disconnect_a_running_container,
    connect_and_disconnect_a_stopped_container,
    several_networks_in_one_create,
    addresses_asked_for,
    what_cannot_be_is_refused,
    pools_that_overlap_are_refused,
    a_network_in_use_stays,
    prune_removes_what_nobody_uses,
    an_internal_network_has_no_way_out,
    without_icc_neighbours_are_strangers,
    bridge_options_are_obeyed,
    endpoint_options_are_obeyed,
    the_gateway_follows_priority_and_disconnect,
    templates_of_networks,
    macvlan_containers_are_machines_of_the_parents_network,
    networks_without_addresses,
    events_tell_of_networks,
    flushed_rules_come_back_and_an_event_says_so,
    networks_live_on_when_the_daemon_is_killed,
    inspect_tells_what_a_container_does_on_a_network,
    link_local_addresses_are_added,
];

fn made(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let name = cx.name(part);
    cx.docker(&[&["network", "create"], options, &[&name]].concat()).ok();
    name
}

fn network(cx: &Cx<'_>, name: &str) -> Value {
    cx.api().get(&format!("/networks/{name}")).expect(200)
}

fn subnet(cx: &Cx<'_>, name: &str) -> String {
    network(cx, name)["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned()
}

fn endpoint(cx: &Cx<'_>, container: &str, network: &str) -> Value {
    cx.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

fn ip(cx: &Cx<'_>, container: &str, network: &str) -> String {
    endpoint(cx, container, network)["IPAddress"].as_str().unwrap().to_owned()
}

fn exec(cx: &Cx<'_>, container: &str, script: &str) -> String {
    cx.docker(&["exec", container, "sh", "-c", script]).stdout.clone()
}

fn pings(cx: &Cx<'_>, container: &str, address: &str) -> bool {
    cx.docker(&["exec", container, "ping", "-c", "1", "-W", "1", address]).code == Some(0)
}

fn create_list_inspect_remove(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--label", "tier=web", "--label", "x"]);
    let shown = network(cx, &name);
    assert_eq!(
        (&shown["Driver"], &shown["Scope"], &shown["Internal"], &shown["EnableIPv6"]),
        (&json!("bridge"), &json!("local"), &json!(false), &json!(false))
    );
    assert_eq!(shown["Labels"], json!({"tier": "web", "x": ""}));
    assert_eq!(shown["Containers"], json!({}));
    assert_eq!(shown["ConfigFrom"], json!({"Network": ""}));
    let config = &shown["IPAM"]["Config"][0];
    let (subnet, gateway) =
        (config["Subnet"].as_str().unwrap(), config["Gateway"].as_str().unwrap());
    if let Some(pool) = cx.daemon.pool() {
        assert!(subnet.starts_with(&pool) && subnet.ends_with("/26"), "{subnet}");
    }
    let first: Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
    assert_eq!(gateway, Ipv4Addr::from_bits(first.to_bits() + 1).to_string());
    let id = shown["Id"].as_str().unwrap();
    for filters in [
        vec![format!("name={}", &name[1..])],
        vec![format!("id={}", &id[..10])],
        vec!["label=tier=web".to_owned(), format!("name={name}")],
    ] {
        let filters: Vec<_> = filters.iter().flat_map(|f| ["--filter", f]).collect();
        let listed =
            cx.docker(&[&["network", "ls", "--format", "{{.Name}}"], &filters[..]].concat());
        assert!(listed.ok().lines().any(|l| l == name), "{}", listed.describe());
    }
    let list = |filter: &str| {
        let listed = cx.docker(&["network", "ls", "-q", "--no-trunc", "--filter", filter]);
        listed.ok().lines().any(|l| l == id)
    };
    assert!(
        list("type=custom")
            && list("dangling=true")
            && list("driver=bridge")
            && list("scope=local")
    );
    assert!(
        !list("type=builtin")
            && !list("dangling=false")
            && !list("driver=null")
            && !list("label=tier=db")
    );
    // By name, full id and beginning of an id.
    for key in [&name, id, &id[..12]] {
        assert_eq!(network(cx, key)["Id"], id);
    }
    cx.docker(&["network", "rm", &name]).ok();
    cx.api().get(&format!("/networks/{name}")).fails(404, &["network", "not found"]);
    cx.api().delete(&format!("/networks/{name}")).fails(404, &["network", "not found"]);
}

fn containers_of_a_network_reach_each_other(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &["--network", &name]);
    let b = cx.sleeper("b", &["--network", &name]);
    assert!(pings(cx, &a, &ip(cx, &b, &name)));
    let members = network(cx, &name)["Containers"].clone();
    let names: Vec<_> = members.as_object().unwrap().values().map(|m| &m["Name"]).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&&json!(a)) && names.contains(&&json!(b)));
    let shown = endpoint(cx, &a, &name);
    assert_eq!(shown["NetworkID"], network(cx, &name)["Id"]);
    let id = cx.inspect(&a)["Id"].as_str().unwrap().to_owned();
    let short = &id[..12];
    assert_eq!(shown["DNSNames"], json!([a, short]));
    // The network's id stays when it stops: compose asks for it.
    cx.docker(&["stop", "-t", "0", &a]).ok();
    let shown = endpoint(cx, &a, &name);
    assert_eq!(shown["NetworkID"], network(cx, &name)["Id"]);
    assert_eq!((&shown["IPAddress"], &shown["EndpointID"]), (&json!(""), &json!("")));
}

fn networks_are_apart(cx: &Cx<'_>) {
    let (one, two) = (made(cx, "one", &[]), made(cx, "two", &[]));
    let a = cx.sleeper("a", &["--network", &one]);
    let b = cx.sleeper("b", &["--network", &two]);
    let c = cx.sleeper("c", &[]);
    assert!(!pings(cx, &a, &ip(cx, &b, &two)));
    assert!(!pings(cx, &a, &ip(cx, &c, "bridge")));
    assert!(!pings(cx, &c, &ip(cx, &a, &one)));
}

fn connect_and_disconnect_a_running_container(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &[]);
    let b = cx.sleeper("b", &["--network", &name]);
    assert!(!pings(cx, &a, &ip(cx, &b, &name)));
    cx.docker(&["network", "connect", "--alias", "other", &name, &a]).ok();
    assert!(pings(cx, &a, &ip(cx, &b, &name)));
    assert!(exec(cx, &a, "cat /etc/hosts").contains(&ip(cx, &a, &name)));
    let links = exec(cx, &a, "ls /sys/class/net");
    assert!(links.contains("eth0") && links.contains("eth1"), "{links}");
    assert_eq!(endpoint(cx, &a, &name)["Aliases"], json!(["other"]));
    cx.docker(&["network", "connect", &name, &a]).fails_with(1, &["already exists in network"]);
    cx.docker(&["network", "disconnect", &name, &a]).ok();
    assert!(!pings(cx, &a, &ip(cx, &b, &name)));
    assert!(!exec(cx, &a, "ls /sys/class/net").contains("eth1"));
    assert_eq!(endpoint(cx, &a, &name), Value::Null);
    cx.docker(&["network", "disconnect", &name, &a]).fails_with(1, &["is not connected to"]);
    // From its last network too, and back.
    cx.docker(&["network", "disconnect", "bridge", &a]).ok();
    assert_eq!(exec(cx, &a, "ip route").trim(), "");
    cx.docker(&["network", "connect", &name, &a]).ok();
    assert!(exec(cx, &a, "ip route").contains("default via"));
    assert!(pings(cx, &a, &ip(cx, &b, &name)));
}

fn connect_and_disconnect_a_stopped_container(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.name("a");
    cx.docker(&["create", "--name", &a, "busybox", "sleep", "600"]).ok();
    cx.docker(&["network", "connect", &name, &a]).ok();
    cx.docker(&["network", "disconnect", "bridge", &a]).ok();
    assert_eq!(endpoint(cx, &a, "bridge"), Value::Null);
    cx.docker(&["start", &a]).ok();
    assert_ne!(ip(cx, &a, &name), "");
    assert!(!exec(cx, &a, "ls /sys/class/net").contains("eth1"));
    cx.docker(&["kill", &a]).ok();
    cx.wait(&a);
    cx.docker(&["network", "disconnect", &name, &a]).ok();
    cx.docker(&["start", &a]).ok();
    assert!(exec(cx, &a, "ip addr show lo").contains("127.0.0.1/8"));
    assert_eq!(exec(cx, &a, "ls /sys/class/net").trim(), "lo");
}

fn several_networks_in_one_create(cx: &Cx<'_>) {
    let (one, two) = (made(cx, "one", &[]), made(cx, "two", &[]));
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "600"],
        "HostConfig": {"NetworkMode": two},
        "NetworkingConfig": {"EndpointsConfig": {one.clone(): {"Aliases": ["x"]}, two.clone(): {}}},
    });
    let a = cx.name("a");
    cx.api().post(&format!("/containers/create?name={a}"), &body).expect(201);
    assert_eq!(endpoint(cx, &a, &one)["NetworkID"], "");
    cx.docker(&["start", &a]).ok();
    let b = cx.sleeper("b", &["--network", &one]);
    let c = cx.sleeper("c", &["--network", &two]);
    assert!(pings(cx, &a, &ip(cx, &b, &one)) && pings(cx, &a, &ip(cx, &c, &two)));
    // The network of its mode is the first interface.
    assert!(exec(cx, &a, "ip addr show eth0").contains(&ip(cx, &a, &two)));
    let both = cx.docker(&[
        "run",
        "--rm",
        "--network",
        &one,
        "--network",
        &two,
        "busybox",
        "ls",
        "/sys/class/net",
    ]);
    assert!(both.ok().contains("eth1"), "{}", both.describe());
}

fn addresses_asked_for(cx: &Cx<'_>) {
    let pool = cx.daemon.pool().unwrap_or("10.107.".into());
    let range = format!("{pool}252.0/24");
    let name = made(
        cx,
        "n",
        &[
            "--subnet",
            &range,
            "--gateway",
            &format!("{pool}252.254"),
            "--ip-range",
            &format!("{pool}252.128/28"),
            "--aux-address",
            &format!("router={pool}252.129"),
        ],
    );
    let config = network(cx, &name)["IPAM"]["Config"][0].clone();
    assert_eq!(config["IPRange"], format!("{pool}252.128/28"));
    assert_eq!(config["AuxiliaryAddresses"], json!({"router": format!("{pool}252.129")}));
    let a = cx.sleeper("a", &["--network", &name]);
    // The first of the range, but for the one that is another's.
    assert_eq!(ip(cx, &a, &name), format!("{pool}252.128"));
    let b = cx.sleeper("b", &["--network", &name]);
    assert_eq!(ip(cx, &b, &name), format!("{pool}252.130"));
    let own = format!("{pool}252.7");
    let c =
        cx.sleeper("c", &["--network", &name, "--ip", &own, "--mac-address", "02:00:00:00:00:09"]);
    assert_eq!(ip(cx, &c, &name), own);
    assert_eq!(endpoint(cx, &c, &name)["MacAddress"], "02:00:00:00:00:09");
    assert_eq!(endpoint(cx, &c, &name)["IPAMConfig"], json!({"IPv4Address": own}));
    assert!(exec(cx, &c, "ip route").contains(&format!("default via {pool}252.254")));
    assert!(pings(cx, &a, &own));
    let taken = cx.run(&["--network", &name, "--ip", &own], &["true"]);
    taken.fails_with(125, &["Address already in use"]);
    let foreign = cx.run(&["--network", &name, "--ip", "192.0.2.9"], &["true"]);
    foreign.fails_with(125, &["no configured subnet or ip-range contain the IP address 192.0.2.9"]);
    // It keeps its address over a restart.
    cx.docker(&["restart", "-t", "0", &c]).ok();
    assert_eq!(ip(cx, &c, &name), own);
}

fn what_cannot_be_is_refused(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let api = cx.api();
    let create = |body: Value| api.post("/networks/create", &body);
    create(json!({})).fails(400, &["name"]);
    create(json!({"Name": name})).fails(409, &["already exists"]);
    create(json!({"Name": "bridge"})).fails(403, &["predefined"]);
    create(json!({"Name": cx.name("x"), "Driver": "nope"})).fails(404, &["nope"]);
    create(json!({"Name": cx.name("x"), "Driver": "host"})).fails(403, &["host"]);
    if cx.is_gantry() {
        create(json!({"Name": "not\ngood"})).fails(400, &["control characters"]);
    }
    for (config, word) in [
        (json!({"Subnet": "10.300.0.0/16"}), "10.300.0.0/16"),
        (json!({"Subnet": "10.107.0.1/16"}), "10.107.0.0/16"),
        (json!({"Subnet": "10.107.0.0/16", "Gateway": "10.108.0.1"}), "10.108.0.1"),
        (json!({"Subnet": "10.107.0.0/16", "IPRange": "10.108.0.0/24"}), "10.108.0.0/24"),
        (json!({"Gateway": "10.108.0.1"}), "subnet"),
    ] {
        create(json!({"Name": cx.name("x"), "IPAM": {"Config": [config]}})).fails(400, &[word]);
    }
    for (key, value) in [
        ("com.docker.network.bridge.enable_icc", "maybe"),
        ("com.docker.network.driver.mtu", "x"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "odd"),
    ] {
        create(json!({"Name": cx.name("x"), "Options": {key: value}})).fails(400, &[value]);
    }
    api.delete("/networks/bridge").fails(403, &["pre-defined"]);
    cx.run(&["--network", "no-such"], &["true"]).fails_with(125, &["network no-such not found"]);
    cx.run(&["--network", &name, "--ip", "10.1.1.1"], &["true"])
        .fails_with(125, &["only when connecting to networks with user configured subnets"]);
    cx.run(&["--ip", "10.1.1.1"], &["true"]).fails_with(125, &["user-defined networks only"]);
    cx.run(&["--network-alias", "x"], &["true"]).fails_with(125, &["aliases are only supported"]);
    let connect =
        |network: &str, body: Value| api.post(&format!("/networks/{network}/connect"), &body);
    connect("no-such", json!({"Container": "x"})).fails(404, &["network no-such"]);
    connect(&name, json!({"Container": "no-such"})).fails(404, &["no-such"]);
    let hosts = cx.sleeper("h", &["--network", "host"]);
    connect(&name, json!({"Container": hosts})).fails(403, &["host network"]);
    let alone = cx.sleeper("a", &["--network", "none"]);
    connect(&name, json!({"Container": alone})).fails(403, &["private (none)"]);
    connect("host", json!({"Container": alone})).fails(403, &["host network"]);
    let shared = cx.sleeper("s", &["--network", &format!("container:{alone}")]);
    connect(&name, json!({"Container": shared})).fails(403, &["sharing network namespace"]);
}

fn pools_that_overlap_are_refused(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let own = subnet(cx, &name);
    let body = json!({"Name": cx.name("m"), "IPAM": {"Config": [{"Subnet": own}]}});
    cx.api().post("/networks/create", &body).fails(403, &["Pool overlaps"]);
    let bridge = subnet(cx, "bridge");
    let body = json!({"Name": cx.name("m"), "IPAM": {"Config": [{"Subnet": bridge}]}});
    cx.api().post("/networks/create", &body).fails(403, &["Pool overlaps"]);
    assert_eq!(
        cx.api()
            .get("/networks?filters=%7B%22name%22%3A%5B%22overlap_are_refused-m%22%5D%7D")
            .json(),
        json!([])
    );
}

fn a_network_in_use_stays(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &["--network", &name]);
    let refused = cx.docker(&["network", "rm", &name]);
    refused.fails_with(1, &["has active endpoints"]);
    assert!(refused.stderr.contains(&a), "{}", refused.describe());
    // A stopped one is no obstacle, but then it cannot start.
    cx.docker(&["stop", "-t", "0", &a]).ok();
    cx.docker(&["network", "rm", &name]).ok();
    cx.docker(&["start", &a]).fails_with(1, &["not found"]);
    let again = made(cx, "n", &[]);
    cx.docker(&["start", &a]).ok();
    assert_eq!(endpoint(cx, &a, &again)["NetworkID"], network(cx, &again)["Id"]);
}

fn prune_removes_what_nobody_uses(cx: &Cx<'_>) {
    let label = cx.label();
    let (free, used) =
        (made(cx, "free", &["--label", &label]), made(cx, "used", &["--label", &label]));
    let a = cx.name("a");
    cx.docker(&["create", "--name", &a, "--network", &used, "busybox", "true"]).ok();
    let pruned = cx.docker(&["network", "prune", "-f", "--filter", &format!("label={label}")]);
    assert!(pruned.ok().contains(&free), "{}", pruned.describe());
    assert!(!pruned.stdout.contains(&used));
    cx.api().get(&format!("/networks/{free}")).expect(404);
    cx.api().get(&format!("/networks/{used}")).expect(200);
    cx.api()
        .post("/networks/prune?filters=%7B%22x%22%3A%5B%221%22%5D%7D", &Value::Null)
        .fails(400, &["x"]);
}

fn an_internal_network_has_no_way_out(cx: &Cx<'_>) {
    let (inner, outer) = (made(cx, "in", &["--internal"]), made(cx, "out", &[]));
    let a = cx.sleeper("a", &["--network", &inner, "-p", "80"]);
    let b = cx.sleeper("b", &["--network", &inner]);
    let c = cx.sleeper("c", &["--network", &outer]);
    assert!(!exec(cx, &a, "ip route").contains("default"));
    assert!(pings(cx, &a, &ip(cx, &b, &inner)));
    // Not even with a route of its own.
    exec(cx, &a, "true");
    let gateway = network(cx, &inner)["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    cx.docker(&["exec", "--privileged", &a, "ip", "route", "add", "default", "via", &gateway]).ok();
    assert!(!pings(cx, &a, &ip(cx, &c, &outer)));
    assert!(!pings(cx, &c, &ip(cx, &a, &inner)));
    assert_eq!(cx.docker(&["port", &a]).stdout, "");
    assert!(network(cx, &inner)["Internal"].as_bool().unwrap());
}

fn without_icc_neighbours_are_strangers(cx: &Cx<'_>) {
    let name = made(cx, "n", &["-o", "com.docker.network.bridge.enable_icc=false"]);
    let a = cx.sleeper("a", &["--network", &name]);
    let b = cx.sleeper("b", &["--network", &name]);
    assert!(!pings(cx, &a, &ip(cx, &b, &name)));
    let gateway = network(cx, &name)["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    assert!(pings(cx, &a, &gateway));
}

fn bridge_options_are_obeyed(cx: &Cx<'_>) {
    let link = format!("gto{}", std::process::id() % 100_000);
    let name = made(
        cx,
        "n",
        &[
            "-o",
            &format!("com.docker.network.bridge.name={link}"),
            "-o",
            "com.docker.network.driver.mtu=1400",
            "-o",
            "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
            "-o",
            "com.docker.network.container_iface_prefix=lan",
        ],
    );
    assert_eq!(network(cx, &name)["Options"]["com.docker.network.bridge.name"], link);
    assert!(std::path::Path::new("/sys/class/net").join(&link).exists());
    let a = cx.sleeper("a", &["--network", &name, "-p", "80"]);
    assert_eq!(exec(cx, &a, "cat /sys/class/net/lan0/mtu").trim(), "1400");
    let port = cx.docker(&["port", &a, "80"]);
    assert!(port.ok().starts_with("127.0.0.1:"), "{}", port.describe());
    let body = json!({"Name": cx.name("m"), "Options": {"com.docker.network.bridge.name": link}});
    cx.api().post("/networks/create", &body).fails(403, &["same bridge name"]);
    cx.docker(&["rm", "-f", &a]).ok();
    cx.docker(&["network", "rm", &name]).ok();
    assert!(!std::path::Path::new("/sys/class/net").join(&link).exists());
}

fn endpoint_options_are_obeyed(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let spec = format!(
        "name={name},driver-opt=com.docker.network.endpoint.ifname=lan7,\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1\""
    );
    let a = cx.sleeper("a", &["--network", &spec]);
    assert_eq!(exec(cx, &a, "cat /proc/sys/net/ipv4/conf/lan7/log_martians").trim(), "1");
    let bad =
        format!("name={name},driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1");
    cx.run(&["--network", &bad], &["true"]).fails_with(125, &["IFNAME"]);
}

fn the_gateway_follows_priority_and_disconnect(cx: &Cx<'_>) {
    let (one, two) = (made(cx, "one", &[]), made(cx, "two", &[]));
    let gateway =
        |name: &str| network(cx, name)["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let (first, second) = (gateway(&one), gateway(&two));
    let a = cx.sleeper(
        "a",
        &["--network", &one, "--network", &format!("name={two},gw-priority=1"), "-p", "8000"],
    );
    let default = || exec(cx, &a, "ip route | grep default");
    assert!(default().contains(&second), "{}", default());
    let port = || cx.docker(&["port", &a, "8000"]).ok().trim().to_owned();
    let before = port();
    assert!(before.starts_with("0.0.0.0:"), "{before}");
    cx.docker(&["network", "disconnect", &two, &a]).ok();
    assert!(default().contains(&first), "{}", default());
    assert!(port().starts_with("0.0.0.0:"));
    cx.docker(&["network", "connect", "--gw-priority", "5", &two, &a]).ok();
    assert!(default().contains(&second), "{}", default());
    assert_eq!(default().lines().count(), 1);
}

fn templates_of_networks(cx: &Cx<'_>) {
    let pool = cx.daemon.pool().unwrap_or("10.107.".into());
    let range = format!("{pool}251.0/24");
    let template = made(
        cx,
        "t",
        &["--config-only", "--subnet", &range, "-o", "com.docker.network.driver.mtu=1300"],
    );
    cx.run(&["--network", &template], &["true"]).fails_with(125, &["configuration only"]);
    let name = made(cx, "n", &["--config-from", &template]);
    assert_eq!(subnet(cx, &name), range);
    assert_eq!(network(cx, &name)["ConfigFrom"]["Network"], template);
    cx.docker(&["network", "rm", &template]).fails_with(1, &["in use"]);
    let mtu = cx.run(&["--network", &name], &["cat", "/sys/class/net/eth0/mtu"]);
    assert_eq!(mtu.ok().trim(), "1300");
    cx.docker(&["network", "rm", &name]).ok();
    cx.docker(&["network", "rm", &template]).ok();
}

fn macvlan_containers_are_machines_of_the_parents_network(cx: &Cx<'_>) {
    let Some(parent) = cx.daemon.bridge() else {
        testkit::cx::skip("the daemon has no bridge of its own")
    };
    // A bridge without ports has no carrier, and neither has what is over it.
    cx.sleeper("port", &[]);
    let pool = cx.daemon.pool().unwrap_or("10.107.".into());
    let range = format!("{pool}250.0/24");
    let name =
        made(cx, "n", &["-d", "macvlan", "--subnet", &range, "-o", &format!("parent={parent}")]);
    assert_eq!(network(cx, &name)["Driver"], "macvlan");
    let a = cx.sleeper("a", &["--network", &name, "-p", "80"]);
    let b = cx.sleeper("b", &["--network", &name, "--ip", &format!("{pool}250.77")]);
    assert_eq!(ip(cx, &b, &name), format!("{pool}250.77"));
    assert!(pings(cx, &a, &b), "by name");
    // There is nothing on the host's side: no port, no link on the bridge.
    assert_eq!(cx.docker(&["port", &a]).stdout, "");
    assert!(exec(cx, &a, "ip route").contains(&format!("default via {pool}250.1")));
    cx.docker(&["network", "disconnect", &name, &a]).ok();
    assert_eq!(exec(cx, &a, "ls /sys/class/net").trim(), "lo");
    cx.docker(&["network", "connect", &name, &a]).ok();
    assert!(pings(cx, &a, &format!("{pool}250.77")));
    let bad = |driver: &str, option: &str, word: &str| {
        let name = cx.name("x");
        let refused = cx.docker(&["network", "create", "-d", driver, "-o", option, &name]);
        refused.fails_with(1, &[word]);
    };
    bad("macvlan", "parent=no-such0", "no-such0");
    bad("macvlan", "macvlan_mode=odd", "odd");
    bad("ipvlan", "ipvlan_mode=l9", "l9");
    // Where the kernel has no ipvlan it is said which module is missing.
    let name = cx.name("i");
    let made =
        cx.docker(&["network", "create", "-d", "ipvlan", "-o", &format!("parent={parent}"), &name]);
    assert!(
        made.code == Some(0) || made.stderr.contains("load the module ipvlan"),
        "{}",
        made.describe()
    );
}

fn networks_without_addresses(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--ipam-driver", "null"]);
    assert_eq!(network(cx, &name)["IPAM"]["Driver"], "null");
    let a = cx.sleeper("a", &["--network", &name]);
    assert_eq!(ip(cx, &a, &name), "");
    let shown = exec(cx, &a, "ip addr show eth0");
    assert!(shown.contains("UP") && !shown.contains("inet "), "{shown}");
    let refused = cx.docker(&[
        "network",
        "create",
        "--ipam-driver",
        "null",
        "--subnet",
        "10.107.0.0/24",
        &cx.name("x"),
    ]);
    refused.fails_with(1, &["takes no subnets"]);
}

fn events_tell_of_networks(cx: &Cx<'_>) {
    let mut stream = cx.api().stream(
        "GET",
        "/events?filters=%7B%22type%22%3A%5B%22network%22%5D%7D",
        false,
        &Value::Null,
    );
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &[]);
    cx.docker(&["network", "connect", &name, &a]).ok();
    cx.docker(&["network", "disconnect", &name, &a]).ok();
    cx.docker(&["network", "rm", &name]).ok();
    let id = cx.inspect(&a)["Id"].clone();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "destroy") {
        let event: Value = serde_json::from_str(&stream.line().expect("events go on")).unwrap();
        let attributes = &event["Actor"]["Attributes"];
        if attributes["name"] != name.as_str() {
            continue;
        }
        assert_eq!(attributes["type"], "bridge");
        let action = event["Action"].as_str().unwrap().to_owned();
        if action.ends_with("connect") {
            assert_eq!(attributes["container"], id);
        }
        seen.push(action);
    }
    assert_eq!(seen, ["create", "connect", "disconnect", "destroy"]);
}

fn flushed_rules_come_back_and_an_event_says_so(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let id = network(cx, &name)["Id"].as_str().unwrap().to_owned();
    let table = format!("gantry-br-{}", &id[..12]);
    let rules = || {
        let listed =
            std::process::Command::new("nft").args(["list", "table", "ip", &table]).output();
        String::from_utf8_lossy(&listed.unwrap().stdout).into_owned()
    };
    let before = rules();
    assert!(before.contains("chain inward"), "{before}");
    let mut stream = cx.api().stream(
        "GET",
        "/events?filters=%7B%22event%22%3A%5B%22restore%22%5D%7D",
        false,
        &Value::Null,
    );
    std::process::Command::new("nft").args(["flush", "table", "ip", &table]).status().unwrap();
    let event: Value = serde_json::from_str(&stream.line().expect("an event")).unwrap();
    assert_eq!((&event["Type"], &event["Action"]), (&json!("network"), &json!("restore")));
    cx.until("the rules are as they were", || (rules() == before).then_some(()));
}

fn networks_live_on_when_the_daemon_is_killed(cx: &Cx<'_>) {
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "killed");
    let name = made(&own, "n", &["--label", "k=v"]);
    let a = own.sleeper("a", &["--network", &name, "-p", "80"]);
    let b = own.sleeper("b", &["--network", &name]);
    // Counters go on meanwhile.
    let settings = || {
        let mut network = network(&own, &name);
        for (_, endpoint) in network["Containers"].as_object_mut().unwrap() {
            endpoint["Gantry"].as_object_mut().unwrap().remove("Counters").unwrap();
        }
        network
    };
    let before = (settings(), ip(&own, &a, &name), ip(&own, &b, &name));
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    let after = (settings(), ip(&own, &a, &name), ip(&own, &b, &name));
    assert_eq!(before, after);
    assert!(pings(&own, &a, &after.2));
    // Its addresses are still taken.
    let c = own.sleeper("c", &["--network", &name]);
    let third = ip(&own, &c, &name);
    assert!(third != after.1 && third != after.2 && pings(&own, &c, &after.1));
    own.docker(&["rm", "-f", &a, &b, &c]).ok();
    own.docker(&["network", "rm", &name]).ok();
    let _ = cx;
}

fn inspect_tells_what_a_container_does_on_a_network(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("a key of Gantry's own");
    }
    let net = cx.name("net");
    cx.docker(&["network", "create", &net]).ok();
    let script = "httpd -f -p 80 & exec sleep 600";
    let with = ["--network", &net, "-p", "127.0.0.1::80", "-p", "127.0.0.1::81"];
    let web = cx.start("web", &with, &["sh", "-c", script]);
    let id = cx.inspect(&web)["Id"].as_str().unwrap().to_owned();
    let look = || {
        cx.api().get(&format!("/networks/{net}")).expect(200)["Containers"][&id]["Gantry"].clone()
    };
    let ports = |used: &Value| used["Ports"].as_array().cloned().unwrap_or_default();
    let used = cx.until("the server listens", || {
        let used = look();
        ports(&used).iter().any(|p| p["Pid"] != json!(0)).then_some(used)
    });
    assert_eq!(used["Interface"], json!("eth0"));
    let port =
        |number: &str| ports(&used).into_iter().find(|p| p["Port"] == json!(number)).unwrap();
    assert_eq!(
        (&port("80/tcp")["HostIp"], &port("81/tcp")["Pid"]),
        (&json!("127.0.0.1"), &json!(0))
    );
    let process = port("80/tcp")["Process"].as_str().unwrap().to_owned();
    assert!(process == "httpd" || process == "busybox", "{process}");
    let before = used["Counters"]["rx_packets"].as_u64().unwrap();
    cx.busybox(&["--network", &net], &["ping", "-c", "3", "-W", "5", &web]);
    let after = look()["Counters"]["rx_packets"].as_u64().unwrap();
    assert!(after >= before + 3, "{before} packets, then {after}");
    let listed = cx.api().get("/networks").expect(200);
    assert!(!listed.to_string().contains("Counters"), "lists are not slowed down by it");
}

fn link_local_addresses_are_added(cx: &Cx<'_>) {
    let net = cx.name("net");
    cx.docker(&["network", "create", &net]).ok();
    let with =
        ["--network", &net, "--link-local-ip", "169.254.7.7", "--link-local-ip", "fe80::7:7"];
    let shown = cx.busybox(&with, &["ip", "addr", "show", "eth0"]);
    assert!(shown.contains("169.254.7.7/16") && shown.contains("fe80::7:7/64"), "{shown}");
    let bad = ["--network", &net, "--link-local-ip", "elsewhere"];
    cx.run(&bad, &["true"]).fails(125);
}

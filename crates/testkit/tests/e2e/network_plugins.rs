//! Plugins for networks and addresses: what they are told, what containers get, and plugins that fail.

use crate::volume_plugins::daemon;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Deref,
    process::Command,
    sync::{Arc, Mutex},
};
use testkit::{
    Cx, cases, command,
    cx::skip,
    plugin::{Answer, Plugin, Program},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    a_plugin_s_network_wires_containers,
    a_running_container_comes_and_goes,
    a_plugin_gives_addresses_on_our_bridge,
    a_plugin_gives_addresses_on_its_own_network,
    failures_of_plugins_leave_nothing,
    plugins_that_hang_hold_up_no_other_network,
    the_daemon_s_death_leaves_no_endpoint,
    plugins_for_networks_written_in_go,
];

/// What a plugin has.
#[derive(Default)]
struct Has {
    /// Each with its gateway and prefix.
    networks: BTreeMap<String, String>,
    endpoints: BTreeSet<String>,
    pools: BTreeSet<String>,
    addresses: BTreeSet<String>,
    /// By method, how it is answered for once: what goes wrong.
    faults: BTreeMap<String, Answer>,
}

impl Has {
    fn nothing(&self) -> bool {
        self.networks.is_empty()
            && self.endpoints.is_empty()
            && self.pools.is_empty()
            && self.addresses.is_empty()
    }
}

type Shared = Arc<Mutex<Has>>;

fn ip(line: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    command::run(&mut command, b"").code == Some(0)
}

/// A plugin whose networks are bridges and whose endpoints are pairs of links. `mark` is in the names of its links, of
/// at most four letters.
fn plugin(cx: &Cx<'_>, name: &str, mark: &'static str, has: &Shared) -> Wires {
    let has = Arc::clone(has);
    let plugin = Plugin::start(cx.dir(), name, move |method, asked| {
        let mut has = has.lock().unwrap();
        if let Some(fault) = has.faults.remove(method) {
            return fault;
        }
        answer(&mut has, mark, method, asked).into()
    });
    Wires { plugin, mark }
}

/// A plugin that makes links, which go with it when a case fails.
struct Wires {
    plugin: Plugin,
    mark: &'static str,
}

impl Deref for Wires {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let Ok(links) = std::fs::read_dir("/sys/class/net") else { return };
        for link in links.flatten() {
            let name = link.file_name();
            let Some(name) = name.to_str() else { continue };
            let letter = name.strip_prefix(self.mark).map(|rest| &rest[..1.min(rest.len())]);
            if matches!(letter, Some("b" | "o" | "i")) {
                ip(&format!("link del {name}"));
            }
        }
    }
}

fn answer(has: &mut Has, mark: &str, method: &str, asked: &Value) -> Value {
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let short = |key: &str| text(key)[..7.min(text(key).len())].to_owned();
    let bridge = format!("{mark}b{}", short("NetworkID"));
    let outer = format!("{mark}o{}", short("EndpointID"));
    let inner = format!("{mark}i{}", short("EndpointID"));
    match method {
        "Plugin.Activate" => json!({"Implements": ["NetworkDriver", "IpamDriver"]}),
        "NetworkDriver.GetCapabilities" => json!({"Scope": "local", "ConnectivityScope": "local"}),
        "NetworkDriver.CreateNetwork" => {
            let gateway = asked["IPv4Data"][0]["Gateway"].as_str().unwrap_or_default();
            has.networks.insert(text("NetworkID"), gateway.to_owned());
            assert!(ip(&format!("link add {bridge} type bridge")));
            assert!(ip(&format!("addr add {gateway} dev {bridge}")));
            assert!(ip(&format!("link set {bridge} up")));
            json!({})
        }
        "NetworkDriver.DeleteNetwork" => {
            if has.networks.remove(&text("NetworkID")).is_none() {
                return json!({"Err": "no such network"});
            }
            assert!(ip(&format!("link del {bridge}")));
            json!({})
        }
        "NetworkDriver.CreateEndpoint" => {
            has.endpoints.insert(text("EndpointID"));
            json!({"Interface": {"MacAddress": ""}})
        }
        "NetworkDriver.Join" => {
            assert!(ip(&format!("link add {outer} type veth peer name {inner}")));
            assert!(ip(&format!("link set {outer} master {bridge}")));
            assert!(ip(&format!("link set {outer} up")));
            let gateway = has.networks[&text("NetworkID")].split('/').next().unwrap().to_owned();
            let mut joined = json!({"InterfaceName": {"SrcName": inner, "DstPrefix": "lan"}, "Gateway": gateway});
            if gateway == "10.213.7.1" {
                joined["StaticRoutes"] = json!([
                    {"Destination": "203.0.113.0/24", "RouteType": 0, "NextHop": "198.51.100.7"},
                    {"Destination": "198.51.100.0/24", "RouteType": 1},
                ]);
            }
            joined
        }
        "NetworkDriver.Leave" => {
            // Its other end may have gone with the container's namespace.
            ip(&format!("link del {outer}"));
            json!({})
        }
        "NetworkDriver.DeleteEndpoint" => {
            has.endpoints.remove(&text("EndpointID"));
            json!({})
        }
        "IpamDriver.GetCapabilities" => {
            json!({"RequiresMACAddress": true, "RequiresRequestReplay": true})
        }
        "IpamDriver.GetDefaultAddressSpaces" => {
            json!({"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "there"})
        }
        "IpamDriver.RequestPool" => {
            let pool = match text("Pool") {
                none if none.is_empty() => "10.213.9.0/29".to_owned(),
                given => given,
            };
            has.pools.insert(pool.clone());
            json!({"PoolID": format!("{}/{pool}", text("AddressSpace")), "Pool": pool})
        }
        "NetworkDriver.EndpointOperInfo" => {
            json!({"Value": {"endpoint": short("EndpointID"), "queue": 3}})
        }
        "IpamDriver.ReleasePool" => {
            has.pools.remove(text("PoolID").split_once('/').unwrap().1);
            json!({})
        }
        "IpamDriver.RequestAddress" => {
            let pool = text("PoolID");
            let (base, prefix) = pool
                .split('/')
                .skip(1)
                .collect::<Vec<_>>()
                .join("/")
                .split_once('/')
                .map(|(b, p)| (b.to_owned(), p.to_owned()))
                .unwrap();
            let first = u32::from(base.parse::<Ipv4Addr>().unwrap());
            let free = (1..7).map(|n| Ipv4Addr::from(first + n).to_string());
            let given = match text("Address") {
                none if none.is_empty() => free.into_iter().find(|a| !has.addresses.contains(a)),
                given => Some(given),
            };
            let Some(given) = given else { return json!({"Err": "no address is left"}) };
            has.addresses.insert(given.clone());
            json!({"Address": format!("{given}/{prefix}")})
        }
        "IpamDriver.ReleaseAddress" => {
            has.addresses.remove(&text("Address"));
            json!({})
        }
        _ => json!({}),
    }
}

/// What a plugin was asked about endpoints, in order.
fn deeds(plugin: &Plugin) -> Vec<String> {
    let all = plugin.asked().into_iter().map(|(method, _)| method);
    let of = [
        "CreateEndpoint",
        "Join",
        "ProgramExternalConnectivity",
        "RevokeExternalConnectivity",
        "Leave",
        "DeleteEndpoint",
    ];
    all.filter_map(|m| m.strip_prefix("NetworkDriver.").map(str::to_owned))
        .filter(|m| of.contains(&m.as_str()))
        .collect()
}

fn a_plugin_s_network_wires_containers(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "wires", "gpw", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let create = [
        "network",
        "create",
        "-d",
        "wires",
        "--subnet",
        "10.213.7.0/24",
        "--aux-address",
        "a=10.213.7.9",
        "-o",
        "colour=blue",
        "net",
    ];
    let id = own.docker(&create).ok().to_owned();
    let told = &plugin.asked_for("NetworkDriver.CreateNetwork")[0];
    assert_eq!(told["NetworkID"], json!(id));
    assert_eq!(told["Options"]["com.docker.network.generic"], json!({"colour": "blue"}));
    assert_eq!(
        told["IPv4Data"],
        json!([{"AddressSpace": "", "Pool": "10.213.7.0/24", "Gateway": "10.213.7.1/24", "AuxAddresses": {"a": "10.213.7.9/24"}}])
    );
    let drivers = own.docker(&["info", "-f", "{{json .Plugins.Network}}"]).ok().to_owned();
    assert!(drivers.contains("\"wires\""), "{drivers}");
    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net",
        "--ip",
        "10.213.7.20",
        "--mac-address",
        "02:42:00:00:00:09",
        "-p",
        "18080:80/tcp",
        "busybox",
        "sleep",
        "600",
    ];
    let web = own.docker(&run).ok().to_owned();
    own.docker(&["run", "-d", "--name", "db", "--network", "net", "busybox", "sleep", "600"]).ok();
    let inside =
        |name: &str, line: &str| own.docker(&["exec", name, "sh", "-c", line]).ok().to_owned();
    let shown = inside("web", "ip addr show lan0");
    assert!(shown.contains("10.213.7.20/24") && shown.contains("02:42:00:00:00:09"), "{shown}");
    let routes = inside("web", "ip route");
    for route in
        ["default via 10.213.7.1", "198.51.100.0/24 dev lan0", "203.0.113.0/24 via 198.51.100.7"]
    {
        assert!(routes.contains(route), "{routes}");
    }
    inside("db", "ping -c 1 -W 5 web");
    inside("web", "ping -c 1 -W 5 db.net");
    let told = &plugin.asked_for("NetworkDriver.CreateEndpoint")[0];
    assert_eq!(
        told["Interface"],
        json!({"Address": "10.213.7.20/24", "AddressIPv6": "", "MacAddress": "02:42:00:00:00:09"})
    );
    let told = &plugin.asked_for("NetworkDriver.Join")[0];
    assert!(told["SandboxKey"].as_str().unwrap().starts_with("/proc/"), "{told}");
    let told = &plugin.asked_for("NetworkDriver.ProgramExternalConnectivity")[0];
    let ports = &told["Options"]["com.docker.network.portmap"];
    assert_eq!(
        (&ports[0]["Proto"], &ports[0]["Port"], &ports[0]["HostPort"]),
        (&json!(6), &json!(80), &json!(18080))
    );
    let settings = &own.inspect(&web)["NetworkSettings"]["Networks"]["net"];
    assert_eq!(
        (&settings["IPAddress"], &settings["Gateway"], &settings["MacAddress"]),
        (&json!("10.213.7.20"), &json!("10.213.7.1"), &json!("02:42:00:00:00:09"))
    );
    let shown = own.api().get("/networks/net").expect(200);
    assert_eq!((&shown["Driver"], &shown["Scope"]), (&json!("wires"), &json!("local")));
    assert_eq!(shown["Containers"].as_object().unwrap().len(), 2);
    // What the plugin tells of an endpoint is shown, as long as it tells it.
    let endpoint = settings["EndpointID"].as_str().unwrap();
    let told = |shown: &Value| shown["Containers"][&web]["Gantry"]["Driver"].clone();
    assert_eq!(told(&shown), json!({"endpoint": endpoint[..7], "queue": 3}));
    let refusal = json!({"Err": "not today"});
    has.lock().unwrap().faults.insert("NetworkDriver.EndpointOperInfo".into(), refusal.into());
    let shown = own.api().get("/networks/net").expect(200);
    assert_eq!((told(&shown), &shown["Containers"][&web]["Name"]), (Value::Null, &json!("web")));
    own.docker(&["network", "rm", "net"]).fails_with(1, &["has active endpoints"]);
    own.docker(&["rm", "-f", "db"]).ok();
    assert_eq!(has.lock().unwrap().endpoints.len(), 1);
    own.docker(&["restart", "-t", "0", "web"]).ok();
    assert!(inside("web", "ip addr show lan0").contains("10.213.7.20/24"));
    own.docker(&["rm", "-f", "web"]).ok();
    assert!(has.lock().unwrap().endpoints.is_empty());
    let once = ["CreateEndpoint", "Join", "ProgramExternalConnectivity"];
    let end = ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"];
    assert_eq!(deeds(&plugin), [&once[..], &once, &end, &end, &once, &end].concat());
    own.docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
    own.docker(&["network", "create", "-d", "nowhere", "xx"]).fails_with(
        1,
        &["could not resolve driver nowhere in registry", "plugin \"nowhere\" not found"],
    );
}

fn a_running_container_comes_and_goes(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "wires", "gpg", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    for (name, subnet) in [("one", "10.213.7.0/24"), ("two", "10.213.8.0/24")] {
        own.docker(&["network", "create", "-d", "wires", "--subnet", subnet, name]).ok();
    }
    own.docker(&["run", "-d", "--name", "web", "--network", "one", "busybox", "sleep", "600"]).ok();
    own.docker(&[
        "network",
        "connect",
        "--driver-opt",
        "com.docker.network.endpoint.ifname=second",
        "two",
        "web",
    ])
    .ok();
    let links = || own.docker(&["exec", "web", "ls", "/sys/class/net"]).ok().to_owned();
    assert_eq!(links(), "lan0\nlo\nsecond");
    own.docker(&["network", "disconnect", "one", "web"]).ok();
    assert_eq!(links(), "lo\nsecond");
    assert_eq!(has.lock().unwrap().endpoints.len(), 1);
    own.docker(&["network", "connect", "one", "web"]).ok();
    assert_eq!(links(), "lan0\nlo\nsecond");
    own.docker(&["rm", "-f", "web"]).ok();
    own.docker(&["network", "rm", "one", "two"]).ok();
    assert!(has.lock().unwrap().nothing());
    drop(plugin);
}

fn a_plugin_gives_addresses_on_our_bridge(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "gives", "gpa", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let create = ["network", "create", "--ipam-driver", "gives", "--ipam-opt", "a=b", "net"];
    own.docker(&create).ok();
    let told = &plugin.asked_for("IpamDriver.RequestPool")[0];
    assert_eq!(
        told,
        &json!({"AddressSpace": "here", "Pool": "", "SubPool": "", "Options": {"a": "b"}, "V6": false})
    );
    let told = &plugin.asked_for("IpamDriver.RequestAddress")[0];
    assert_eq!(told["Options"], json!({"RequestAddressType": "com.docker.network.gateway"}));
    let shown = own.api().get("/networks/net").expect(200);
    assert_eq!(shown["IPAM"]["Driver"], json!("gives"));
    assert_eq!(
        shown["IPAM"]["Config"],
        json!([{"Subnet": "10.213.9.0/29", "Gateway": "10.213.9.1"}])
    );
    let run = |name: &str| {
        own.docker(&["run", "-d", "--name", name, "--network", "net", "busybox", "sleep", "600"])
    };
    run("ca").ok();
    let told = &plugin.asked_for("IpamDriver.RequestAddress")[1];
    let mac = told["Options"]["com.docker.network.endpoint.macaddress"].as_str().unwrap();
    let settings = &own.inspect("ca")["NetworkSettings"]["Networks"]["net"];
    assert_eq!(
        (&settings["IPAddress"], &settings["MacAddress"]),
        (&json!("10.213.9.2"), &json!(mac))
    );
    for name in ["cb", "cc", "cd", "ce"] {
        run(name).ok();
    }
    run("cf").fails_with(125, &["no address is left"]);
    own.docker(&["exec", "ca", "ping", "-c", "1", "-W", "5", "ce"]).ok();
    own.docker(&["restart", "-t", "0", "ca"]).ok();
    assert_eq!(
        own.inspect("ca")["NetworkSettings"]["Networks"]["net"]["IPAddress"],
        json!("10.213.9.2")
    );
    own.docker(&["rm", "-f", "ca", "cb", "cc", "cd", "ce", "cf"]).ok();
    own.docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
}

fn a_plugin_gives_addresses_on_its_own_network(cx: &Cx<'_>) {
    let has = Shared::default();
    let _plugin = plugin(cx, "both", "gpo", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let create = [
        "network",
        "create",
        "-d",
        "both",
        "--ipam-driver",
        "both",
        "--subnet",
        "10.213.7.0/24",
        "--gateway",
        "10.213.7.1",
        "net",
    ];
    own.docker(&create).ok();
    let run = [
        "run",
        "--rm",
        "--network",
        "net",
        "--ip",
        "10.213.7.77",
        "busybox",
        "ip",
        "addr",
        "show",
        "lan0",
    ];
    let shown = own.docker(&run).ok().to_owned();
    assert!(shown.contains("10.213.7.77/24"), "{shown}");
    assert_eq!(has.lock().unwrap().addresses.len(), 1, "the gateway's");
    own.docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
    // A plugin may give addresses by itself.
    own.docker(&["network", "create", "--ipam-driver", "nowhere", "xx"])
        .fails_with(1, &["plugin \"nowhere\" not found"]);
}

fn failures_of_plugins_leave_nothing(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "both", "gpf", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let fault = |method: &str, answer: Answer| {
        has.lock().unwrap().faults.insert(method.into(), answer);
    };
    let create = [
        "network",
        "create",
        "-d",
        "both",
        "--ipam-driver",
        "both",
        "--subnet",
        "10.213.7.0/24",
        "net",
    ];
    for (method, answer, told) in [
        ("NetworkDriver.CreateNetwork", json!({"Err": "not today"}), "not today"),
        (
            "IpamDriver.RequestPool",
            json!({"PoolID": "x/y", "Pool": "nonsense"}),
            "which is no subnet",
        ),
        (
            "IpamDriver.RequestAddress",
            json!({"Address": "10.1.1.1/24"}),
            "which is no address with prefix in 10.213.7.0/24",
        ),
        ("NetworkDriver.GetCapabilities", json!({"Scope": "lunar"}), "unknown scope"),
    ] {
        fault(method, answer.into());
        own.docker(&create).fails_with(1, &[told]);
        assert!(has.lock().unwrap().nothing(), "{method}");
    }
    assert_eq!(own.docker(&["network", "ls", "-q", "-f", "name=net"]).ok(), "");
    own.docker(&create).ok();
    let run = || own.docker(&["run", "--rm", "--network", "net", "busybox", "true"]);
    for (method, answer, told) in [
        ("NetworkDriver.CreateEndpoint", Answer::Good(json!({"Err": "no room"})), "no room"),
        (
            "NetworkDriver.CreateEndpoint",
            Answer::Good(json!({"Interface": {"Address": "10.9.9.9/24"}})),
            "Cannot be modified",
        ),
        (
            "NetworkDriver.Join",
            Answer::Good(json!({"InterfaceName": {"SrcName": "gpnone", "DstPrefix": "x"}})),
            "names the link gpnone, which is not on this machine",
        ),
        (
            "NetworkDriver.Join",
            Answer::Good(json!({"InterfaceName": {"SrcName": "../lo", "DstPrefix": "x"}})),
            "which no link is called",
        ),
        ("NetworkDriver.Join", Answer::Text("<html>".into()), "cannot read the answer"),
        (
            "NetworkDriver.ProgramExternalConnectivity",
            Answer::Good(json!({"Err": "closed"})),
            "closed",
        ),
        ("IpamDriver.RequestAddress", Answer::Good(json!({"Err": "none left"})), "none left"),
    ] {
        fault(method, answer);
        run().fails_with(125, &[told]);
        cx.until("the plugin knows that it is over", || {
            let has = has.lock().unwrap();
            (has.endpoints.is_empty() && has.addresses.len() == 1).then_some(())
        });
    }
    run().ok();
    // What a plugin refuses at the end changes nothing.
    for method in ["Leave", "DeleteEndpoint"] {
        fault(&format!("NetworkDriver.{method}"), json!({"Err": "never"}).into());
    }
    run().ok();
    has.lock().unwrap().endpoints.clear();
    own.docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
    let links = command::run(Command::new("ip").args(["-br", "link"]), b"").ok().to_owned();
    assert!(!links.contains("gpfo") && !links.contains("gpfb"), "{links}");
    // A network outlives its plugin, and can be removed without it.
    own.docker(&create).ok();
    drop(plugin);
    own.docker(&["network", "rm", "net"]).ok();
}

fn plugins_that_hang_hold_up_no_other_network(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "both", "gph", &has);
    let daemon = daemon(cx, cx.dir(), &["--plugin-timeout=2"]);
    let own = Cx::new(&daemon, "own");
    let fault = |method: &str| {
        has.lock().unwrap().faults.insert(method.into(), Answer::Never);
    };
    fault("NetworkDriver.CreateNetwork");
    let mut waiting = own.command();
    let create = ["network", "create", "-d", "both", "--subnet", "10.213.7.0/24", "net"];
    let waiting = waiting.args(create).stderr(std::process::Stdio::null()).spawn().unwrap();
    cx.until("it is asked", || {
        (!plugin.asked_for("NetworkDriver.CreateNetwork").is_empty()).then_some(())
    });
    own.docker(&create).fails_with(1, &["already exists"]);
    own.docker(&["run", "--rm", "--network", "net", "busybox", "true"])
        .fails_with(125, &["network net not found"]);
    own.docker(&["network", "create", "--internal", "other"]).ok();
    own.docker(&["network", "rm", "other"]).ok();
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(1));
    cx.until("it is told that there is none", || {
        plugin.asked_for("NetworkDriver.DeleteNetwork").first().map(|_| ())
    });
    own.docker(&create).ok();
    fault("NetworkDriver.Join");
    own.docker(&["run", "--rm", "--network", "net", "busybox", "true"])
        .fails_with(125, &["NetworkDriver.Join: no answer within 2 seconds"]);
    cx.until("it is told of the end", || has.lock().unwrap().endpoints.is_empty().then_some(()));
    // An end that it does not hear is told again.
    fault("NetworkDriver.Leave");
    own.docker(&["run", "--rm", "--network", "net", "busybox", "true"]).ok();
    cx.until("it is told of the end", || has.lock().unwrap().endpoints.is_empty().then_some(()));
    fault("NetworkDriver.DeleteNetwork");
    own.docker(&["network", "rm", "net"]).fails_with(1, &["no answer within 2 seconds"]);
    own.docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
}

fn the_daemon_s_death_leaves_no_endpoint(cx: &Cx<'_>) {
    let has = Shared::default();
    let plugin = plugin(cx, "both", "gpd", &has);
    let daemon = daemon(cx, cx.dir(), &[]);
    let docker = |args: &[&str]| command::run(daemon.docker().args(args), b"");
    docker(&[
        "network",
        "create",
        "-d",
        "both",
        "--ipam-driver",
        "both",
        "--subnet",
        "10.213.7.0/24",
        "net",
    ])
    .ok();
    for name in ["stays", "goes"] {
        docker(&["run", "-d", "--name", name, "--network", "net", "busybox", "sleep", "600"]).ok();
    }
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", "goes"]).ok().trim().to_owned();
    // The making of one network is under way when the daemon dies.
    has.lock().unwrap().faults.insert("NetworkDriver.CreateNetwork".into(), Answer::Never);
    let mut half = daemon.docker();
    half.args(["network", "create", "-d", "both", "--subnet", "10.213.8.0/24", "half"]);
    let mut half = half.stderr(std::process::Stdio::null()).spawn().unwrap();
    cx.until("it is asked", || {
        (plugin.asked_for("NetworkDriver.CreateNetwork").len() == 2).then_some(())
    });
    daemon.kill().unwrap();
    half.wait().unwrap();
    command::run(Command::new("kill").args(["-9", &pid]), b"").ok();
    daemon.start_again().unwrap();
    cx.until("the dead one's end is told", || {
        (has.lock().unwrap().endpoints.len() == 1).then_some(())
    });
    cx.until("the half-made network's end is told", || {
        plugin.asked_for("NetworkDriver.DeleteNetwork").first().map(|_| ())
    });
    assert_eq!(docker(&["network", "ls", "-q", "-f", "name=half"]).ok(), "");
    let replayed = plugin.asked_for("IpamDriver.RequestPool");
    assert_eq!(replayed.last().unwrap()["Pool"], json!("10.213.7.0/24"));
    docker(&["run", "--rm", "--network", "net", "busybox", "ping", "-c", "1", "-W", "5", "stays"])
        .ok();
    docker(&["rm", "-f", "stays", "goes"]).ok();
    docker(&["network", "rm", "net"]).ok();
    assert!(has.lock().unwrap().nothing());
}

fn plugins_for_networks_written_in_go(cx: &Cx<'_>) {
    let program = testkit::image::cache_dir().join("bin/plugins");
    if !program.exists() {
        skip("scripts/setup --tests builds the plugins where there is Go");
    }
    let start = |kind: &str, argument: &str| {
        let socket = cx.dir().join(format!("go{kind}.sock"));
        let started =
            Program::start(&program, &[kind.as_ref(), socket.as_os_str(), argument.as_ref()]);
        cx.until("it listens", || socket.exists().then_some(()));
        started
    };
    let _plugins = [start("network", "gpn"), start("ipam", "10.213.10.0/24")];
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["network", "create", "-d", "gonetwork", "--ipam-driver", "goipam", "net"]).ok();
    own.docker(&["run", "-d", "--name", "web", "--network", "net", "busybox", "sleep", "600"]).ok();
    let run = [
        "run",
        "--rm",
        "--network",
        "net",
        "busybox",
        "sh",
        "-c",
        "ping -c 1 -W 5 web >&2 && ip addr show go0",
    ];
    let shown = own.docker(&run).ok().to_owned();
    assert!(shown.contains("10.213.10."), "{shown}");
    own.docker(&["rm", "-f", "web"]).ok();
    own.docker(&["network", "rm", "net"]).ok();
    own.docker(&["network", "create", "-d", "gonetwork", "-o", "bad=yes", "net"])
        .fails_with(1, &["an option is bad"]);
}

//! More of everything than anyone needs at once: it works, it is answered, and the daemon's memory stays bounded.

use crate::attacks_bombs::peak;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon::Options,
    http::Stream,
    invariants::{census, remove_all_and_stop},
    suite::{Case, length},
};

pub const CASES: &[Case] = cases![
    alone:
    idle_and_half_spoken_connections_cost_little,
    slow_bodies_cost_what_came_of_them,
    many_readers_of_events_miss_nothing,
    readers_of_events_that_stop_cost_little,
    a_hundred_containers_go_at_once,
    hundreds_on_one_bridge_go_at_once,
    hundreds_without_a_network_go_at_once,
    a_bridge_without_free_ports_says_so,
    storms_of_execs_are_whole,
    statistics_for_many_readers,
];

const MIB: u64 = 1 << 20;

fn own(cx: &Cx<'_>) -> Daemon {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn rss(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// So many connections as descriptors allow, at most `most`; each has said `words`.
fn flood(daemon: &Daemon, most: usize, words: &[u8]) -> Vec<UnixStream> {
    let mut held = Vec::new();
    while held.len() < most {
        let Ok(mut stream) = UnixStream::connect(daemon.socket()) else { break };
        if stream.write_all(words).is_err() {
            break;
        }
        held.push(stream);
    }
    held
}

fn idle_and_half_spoken_connections_cost_little(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let before = rss(&daemon);
    let half = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    for words in [&b""[..], half, b"G"] {
        let held = flood(&daemon, 8000, words);
        assert!(held.len() >= 500, "{}", held.len());
        for _ in 0..20 {
            assert!(daemon.answers(), "beside {} connections", held.len());
        }
        own.docker(&["run", "--rm", "--network=none", "busybox", "true"]).ok();
        let grown = rss(&daemon).saturating_sub(before);
        assert!(grown < 150 * MIB, "{} MiB for {} connections", grown / MIB, held.len());
    }
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn slow_bodies_cost_what_came_of_them(cx: &Cx<'_>) {
    let daemon = own(cx);
    let before = rss(&daemon);
    let head = format!(
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{{\"Image\":",
        15 << 20
    );
    let held = flood(&daemon, 1000, head.as_bytes());
    let load =
        "POST /v1.41/images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc";
    let more = flood(&daemon, 500, load.as_bytes());
    for _ in 0..20 {
        assert!(daemon.answers(), "beside {} bodies", held.len() + more.len());
    }
    let own = Cx::new(&daemon, "own");
    own.docker(&["run", "--rm", "--network=none", "busybox", "true"]).ok();
    let grown = rss(&daemon).saturating_sub(before);
    assert!(grown < 150 * MIB, "{} MiB", grown / MIB);
    drop((held, more));
    own.docker(&["run", "--rm", "--network=none", "busybox", "true"]).ok();
    assert_eq!(
        std::fs::read_dir(daemon.path("root/tmp")).map_or(0, |d| d.count()),
        0,
        "loads that ended leave nothing"
    );
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn many_readers_of_events_miss_nothing(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let filters = "%7B%22event%22%3A%5B%22create%22%2C%22destroy%22%5D%2C%22type%22%3A%5B%22container%22%5D%7D";
    let path = format!("/v1.41/events?filters={filters}");
    let mut readers: Vec<Stream> =
        (0..200).map(|_| daemon.api().stream("GET", &path, false, &Value::Null)).collect();
    let before = peak(&daemon);
    for n in 0..30 {
        own.docker(&["create", "--name", &format!("e{n}"), "busybox"]).ok();
        own.docker(&["rm", &format!("e{n}")]).ok();
    }
    for (n, reader) in readers.iter_mut().enumerate() {
        let lines: Vec<Value> =
            (0..60).map(|_| serde_json::from_str(&reader.line().unwrap()).unwrap()).collect();
        let names: Vec<String> = lines
            .iter()
            .map(|e| {
                format!(
                    "{}{}",
                    e["Action"].as_str().unwrap(),
                    e["Actor"]["Attributes"]["name"].as_str().unwrap()
                )
            })
            .collect();
        let wanted: Vec<String> =
            (0..30).flat_map(|n| [format!("createe{n}"), format!("destroye{n}")]).collect();
        assert_eq!(names, wanted, "reader {n}");
    }
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    drop(readers);
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn readers_of_events_that_stop_cost_little(cx: &Cx<'_>) {
    let daemon = own(cx);
    let api = daemon.api();
    let tag = |n: usize| {
        let path = format!("/v1.41/images/busybox/tag?repo=tagged&tag={}", n % 7);
        assert_eq!(api.post(&path, &Value::Null).status(), 201);
    };
    (0..3000).for_each(tag);
    let before = peak(&daemon);
    // Half of them begin in the past.
    let mut readers: Vec<Stream> = ["/v1.41/events", "/v1.41/events?since=1"]
        .into_iter()
        .cycle()
        .take(100)
        .map(|path| api.stream("GET", path, false, &Value::Null))
        .collect();
    (0..3000).for_each(tag);
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 48 * MIB, "{} MiB for 100 readers", grown / MIB);
    // Who reads on has missed nothing.
    let mut last = readers.pop().unwrap();
    let tags = (0..6001).map(|_| last.line().unwrap()).filter(|l| l.contains("\"tag\"")).count();
    assert!(tags >= 5999, "{tags}");
    drop((readers, last));
    assert_eq!(daemon.stop().unwrap(), 0);
}

/// Does `what` for every number below `count` by `clients` threads.
fn by_many(clients: usize, count: usize, what: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    what(n);
                }
            });
        }
    });
}

fn a_hundred_containers_go_at_once(cx: &Cx<'_>) {
    let daemon = own(cx);
    let api = daemon.api();
    let body =
        json!({"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}});
    by_many(8, 100, |n| {
        let id = api.post(&format!("/v1.41/containers/create?name=m{n}"), &body).expect(201)["Id"]
            .clone();
        assert_eq!(
            api.post(&format!("/v1.41/containers/{}/start", id.as_str().unwrap()), &Value::Null)
                .status(),
            204
        );
    });
    assert_eq!(api.get("/v1.41/containers/json").expect(200).as_array().unwrap().len(), 100);
    // By eight clients that all want all of them gone.
    by_many(8, 400, |n| {
        let status = api.delete(&format!("/v1.41/containers/m{}?force=1", n % 100)).status();
        assert!(matches!(status, 204 | 404 | 409), "{status}");
    });
    assert_eq!(api.get("/v1.41/containers/json?all=1").expect(200), json!([]));
    assert_eq!(daemon.stop().unwrap(), 0);
    assert_eq!(std::fs::read_dir(daemon.path("exec/containers")).unwrap().count(), 0);
}

/// A network that has room for the 1,023 ports of its bridge, which is called `bridge`.
fn wide_network(daemon: &Daemon, bridge: &str) -> String {
    let api = daemon.api();
    let probe = api.post("/v1.41/networks/create", &json!({"Name": "probe"})).expect(201);
    let shown = api.get("/v1.41/networks/probe").expect(200);
    assert_eq!(api.delete("/v1.41/networks/probe").status(), 204, "{probe}");
    // The whole pool of this daemon: 4,096 addresses.
    let first = shown["IPAM"]["Config"][0]["Subnet"].as_str().unwrap();
    let numbers: Vec<u8> =
        first.split(['.', '/']).take(3).map(|number| number.parse().unwrap()).collect();
    let subnet = format!("{}.{}.{}.0/20", numbers[0], numbers[1], numbers[2] & 0xf0);
    let body = json!({
        "Name": "wide", "IPAM": {"Config": [{"Subnet": subnet}]},
        "Options": {"com.docker.network.bridge.name": bridge},
    });
    api.post("/v1.41/networks/create", &body).expect(201);
    "wide".to_owned()
}

/// Starts `count` containers by eight clients, and lets eight clients each remove all of them.
fn crowd(daemon: &Daemon, network: &str, count: usize) {
    let api = daemon.api();
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "9999"], "HostConfig": {"NetworkMode": network}});
    by_many(8, count, |n| {
        api.post(&format!("/v1.41/containers/create?name=m{n}"), &body).expect(201);
        let started = api.post(&format!("/v1.41/containers/m{n}/start"), &Value::Null);
        assert_eq!(started.status(), 204, "m{n}: {}", started.text());
    });
    let running = || api.get("/v1.41/containers/json").expect(200).as_array().unwrap().len();
    assert_eq!(running(), count);
    by_many(8, count * 8, |n| {
        let answer = api.delete(&format!("/v1.41/containers/m{}?force=1", n % count));
        assert!(matches!(answer.status(), 204 | 404 | 409), "{}", answer.text());
    });
    assert_eq!(api.get("/v1.41/containers/json?all=1").expect(200), json!([]));
}

/// R15: beyond what hangs Docker 20.10 (280). Ten times the length has them all but fill the bridge.
fn hundreds_on_one_bridge_go_at_once(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    let before = census(&daemon);
    daemon.load_busybox().unwrap();
    let network = wide_network(&daemon, &format!("{}w", daemon.bridge().unwrap()));
    crowd(&daemon, &network, (300 * length()).min(900));
    remove_all_and_stop(&daemon, &before).unwrap();
}

fn hundreds_without_a_network_go_at_once(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    let before = census(&daemon);
    daemon.load_busybox().unwrap();
    crowd(&daemon, "none", (400 * length()).min(2000));
    remove_all_and_stop(&daemon, &before).unwrap();
}

/// Pairs of links whose both ends are ports of one bridge; they go when this is dropped.
struct Ports {
    prefix: String,
    pairs: usize,
}

impl Ports {
    fn take(bridge: &str, prefix: &str, pairs: usize) -> Self {
        let ports = Self { prefix: prefix.to_owned(), pairs };
        let pair = |n: usize| {
            format!(
                "link add {prefix}{n}a type veth peer name {prefix}{n}b\nlink set {prefix}{n}a master {bridge}\nlink set {prefix}{n}b master {bridge}\n"
            )
        };
        ip_batch(&(0..pairs).map(pair).collect::<String>()).ok();
        ports
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        let prefix = &self.prefix;
        ip_batch(&(0..self.pairs).map(|n| format!("link del {prefix}{n}a\n")).collect::<String>());
    }
}

fn ip_batch(lines: &str) -> testkit::Output {
    command::run(Command::new("ip").args(["-batch", "-"]), lines.as_bytes())
}

/// The kernel gives a bridge 1,023 ports: the next container is refused in words, leaves nothing on the network, and starts
/// when another has gone.
fn a_bridge_without_free_ports_says_so(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    let before = census(&daemon);
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let bridge = format!("{}w", daemon.bridge().unwrap());
    let network = wide_network(&daemon, &bridge);
    let names: Vec<String> =
        (0..3).map(|n| own.sleeper(&format!("p{n}"), &["--network", &network])).collect();
    let ports = Ports::take(&bridge, &format!("{bridge}p"), 510);
    let last = own.name("last");
    let create = ["create", "--name", &last, "--network", &network, "busybox", "sleep", "9999"];
    own.docker(&create).ok();
    for _ in 0..3 {
        own.docker(&["start", &last]).fails_with(1, &["as many ports as the kernel allows"]);
        let shown = daemon.api().get("/v1.41/networks/wide").expect(200);
        assert_eq!(shown["Containers"].as_object().unwrap().len(), 3, "{shown}");
    }
    own.docker(&["rm", "-f", &names[0]]).ok();
    // Its link goes with its namespace, in the kernel's own time.
    own.until("a port is free", || (own.docker(&["start", &last]).code == Some(0)).then_some(()));
    let address =
        own.inspect(&names[1])["NetworkSettings"]["Networks"]["wide"]["IPAddress"].clone();
    own.docker(&["exec", &last, "ping", "-c", "1", "-W", "5", address.as_str().unwrap()]).ok();
    drop(ports);
    drop(own);
    remove_all_and_stop(&daemon, &before).unwrap();
}

fn storms_of_execs_are_whole(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let name = own.sleeper("a", &["--network=none"]);
    let api = daemon.api();
    by_many(16, 160, |n| {
        let body = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": ["sh", "-c", format!("echo out{n}; echo err{n} >&2; exit {}", n % 256)]});
        let id =
            api.post(&format!("/v1.41/containers/{name}/exec"), &body).expect(201)["Id"].clone();
        let id = id.as_str().unwrap();
        let (out, err) =
            api.stream("POST", &format!("/v1.41/exec/{id}/start"), true, &json!({})).frames();
        assert_eq!(
            (out, err),
            (format!("out{n}\n").into_bytes(), format!("err{n}\n").into_bytes())
        );
        let code = own.until("the exec has ended", || {
            api.get(&format!("/v1.41/exec/{id}/json")).expect(200)["ExitCode"].as_i64()
        });
        assert_eq!(code, n as i64 % 256);
    });
    daemon.empty_and_stop().unwrap();
}

fn statistics_for_many_readers(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let names: Vec<String> =
        (0..10).map(|n| own.sleeper(&format!("s{n}"), &["--network=none"])).collect();
    let api = daemon.api();
    let before = peak(&daemon);
    let mut streams: Vec<Stream> = (0..10)
        .flat_map(|_| {
            names
                .iter()
                .map(|n| {
                    api.stream(
                        "GET",
                        &format!("/v1.41/containers/{n}/stats?stream=1"),
                        false,
                        &Value::Null,
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid().unwrap())).unwrap().count();
    for stream in &mut streams {
        for _ in 0..2 {
            let sample: Value = serde_json::from_str(&stream.line().unwrap()).unwrap();
            assert!(sample["memory_stats"]["usage"].as_u64().unwrap_or(1) > 0, "{sample}");
        }
    }
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    let many = fds();
    drop(streams);
    own.until("the streams are closed", || (fds() + 90 < many).then_some(()));
    // A container's end ends its streams.
    let mut last = api.stream(
        "GET",
        &format!("/v1.41/containers/{}/stats?stream=1", names[0]),
        false,
        &Value::Null,
    );
    own.docker(&["rm", "-f", &names[0]]).ok();
    let mut rest = Vec::new();
    last.read_to_end(&mut rest).unwrap();
    daemon.empty_and_stop().unwrap();
}

//! Names on user-defined networks: the server at 127.0.0.11, asked by the container's programs and by bare
//! messages from inside its namespace.

use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    containers_find_each_other_by_every_name,
    the_resolver_file_says_what_it_should,
    names_go_and_come_with_their_containers,
    aliases_are_for_their_network_alone,
    addresses_have_names,
    types_that_are_not_there_are_answered_at_once,
    long_answers_come_over_tcp,
    other_names_are_forwarded_to_the_containers_servers,
    an_internal_network_forwards_nothing,
    what_is_no_query_breaks_nothing,
    a_container_may_have_a_server_of_its_own,
    connecting_brings_names,
    links_are_names,
    names_live_on_without_the_daemon,
    a_server_that_is_killed_comes_back,
];

fn made(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    let name = cx.name(part);
    cx.docker(&[&["network", "create"], options, &[&name]].concat()).ok();
    name
}

fn ip(cx: &Cx<'_>, container: &str, network: &str) -> String {
    let networks = cx.inspect(container)["NetworkSettings"]["Networks"].clone();
    networks[network]["IPAddress"].as_str().unwrap().to_owned()
}

/// Runs something inside a container's network namespace.
fn inside<T: Send + 'static>(
    cx: &Cx<'_>,
    container: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let pid = cx.inspect(container)["State"]["Pid"].to_string();
    let enter = move || {
        let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
        work()
    };
    // The namespace is the thread's, and goes with it.
    std::thread::spawn(enter).join().unwrap()
}

const A: u16 = 1;
const PTR: u16 = 12;
const MX: u16 = 15;
const AAAA: u16 = 28;

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// What a server said: code, whether it was cut short, and the last bytes of each record.
#[derive(Debug, PartialEq)]
struct Said {
    code: u8,
    cut: bool,
    records: Vec<Vec<u8>>,
}

impl Said {
    fn read(question: &[u8], bytes: &[u8]) -> Self {
        assert_eq!(bytes[..2], question[..2], "the id");
        let mut at = question.len();
        let mut records = Vec::new();
        for _ in 0..u16::from_be_bytes([bytes[6], bytes[7]]) {
            let length = usize::from(u16::from_be_bytes([bytes[at + 10], bytes[at + 11]]));
            records.push(bytes[at + 12..at + 12 + length].to_vec());
            at += 12 + length;
        }
        Self { code: bytes[3] & 15, cut: bytes[2] & 2 != 0, records }
    }

    fn addresses(&self) -> Vec<String> {
        let address = |bytes: &Vec<u8>| match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(&bytes[..]).unwrap()).to_string(),
            _ => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).unwrap()).to_string(),
        };
        self.records.iter().map(address).collect()
    }
}

fn udp(question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    socket.connect("127.0.0.11:53").ok()?;
    socket.send(question).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

fn tcp(question: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect("127.0.0.11:53").ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(&(question.len() as u16).to_be_bytes()).ok()?;
    stream.write_all(question).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// Asks from inside a container over UDP.
#[track_caller]
fn ask(cx: &Cx<'_>, container: &str, name: &str, kind: u16) -> Said {
    let question = query(name, kind);
    let sent = question.clone();
    let answer = inside(cx, container, move || udp(&sent)).expect("an answer");
    Said::read(&question, &answer)
}

fn containers_find_each_other_by_every_name(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &["--network", &name]);
    let b = cx.sleeper(
        "b",
        &[
            "--network",
            &name,
            "--network-alias",
            "db",
            "--network-alias",
            "Store",
            "--hostname",
            "ware",
        ],
    );
    let address = ip(cx, &b, &name);
    let id = cx.inspect(&b)["Id"].as_str().unwrap()[..12].to_owned();
    for asked in [
        b.as_str(),
        "db",
        "DB",
        "store",
        "ware",
        &id,
        &format!("{b}.{name}"),
        &format!("db.{name}"),
    ] {
        assert_eq!(ask(cx, &a, asked, A).addresses(), std::slice::from_ref(&address), "{asked}");
    }
    // As programs ask.
    let pinged = cx.docker(&["exec", &a, "ping", "-c", "1", "-W", "5", "db"]);
    assert!(pinged.ok().contains(&address), "{}", pinged.describe());
    // Several of one name take turns.
    let c = cx.sleeper("c", &["--network", &name, "--network-alias", "db"]);
    let both = [address, ip(cx, &c, &name)];
    let mut firsts: Vec<String> =
        (0..4).map(|_| ask(cx, &a, "db", A).addresses().remove(0)).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 2);
    assert!(both.iter().all(|one| firsts.contains(one)));
}

fn the_resolver_file_says_what_it_should(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let file = |options: &[&str]| {
        cx.busybox(&[&["--network", &name], options].concat(), &["cat", "/etc/resolv.conf"])
    };
    let text = file(&["--dns-search", "a.example"]);
    for line in ["nameserver 127.0.0.11", "search a.example", "options ndots:0"] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let text = file(&["--dns", "192.0.2.1", "--dns-option", "ndots:3", "--dns-option", "rotate"]);
    assert!(text.contains("nameserver 127.0.0.11") && !text.contains("192.0.2.1"), "{text}");
    assert!(text.contains("options ndots:3 rotate") && !text.contains("ndots:0"), "{text}");
    let text = cx.busybox(&["--dns", "192.0.2.1"], &["cat", "/etc/resolv.conf"]);
    assert!(text.contains("nameserver 192.0.2.1") && !text.contains("127.0.0.11"), "{text}");
}

fn names_go_and_come_with_their_containers(cx: &Cx<'_>) {
    // Nothing is forwarded, so that an unknown name is an answer at once.
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    let b = cx.sleeper("b", &["--network", &name]);
    assert_eq!(ask(cx, &a, &b, A).records.len(), 1);
    cx.docker(&["stop", "-t", "0", &b]).ok();
    assert_eq!(ask(cx, &a, &b, A).code, 3);
    cx.docker(&["start", &b]).ok();
    assert_eq!(ask(cx, &a, &b, A).addresses(), [ip(cx, &b, &name)]);
    let c = cx.name("c");
    cx.docker(&["rename", &b, &c]).ok();
    assert_eq!(ask(cx, &a, &b, A).code, 3);
    assert_eq!(ask(cx, &a, &c, A).addresses(), [ip(cx, &c, &name)]);
    cx.docker(&["network", "disconnect", &name, &c]).ok();
    assert_eq!(ask(cx, &a, &c, A).code, 3);
}

fn aliases_are_for_their_network_alone(cx: &Cx<'_>) {
    let (one, two) = (made(cx, "one", &["--internal"]), made(cx, "two", &["--internal"]));
    let a = cx.sleeper("a", &["--network", &one]);
    let b = cx.sleeper("b", &["--network", &two]);
    let both = cx.sleeper(
        "c",
        &[
            "--network",
            &format!("name={one},alias=first"),
            "--network",
            &format!("name={two},alias=second"),
        ],
    );
    assert_eq!(ask(cx, &a, "first", A).addresses(), [ip(cx, &both, &one)]);
    assert_eq!(ask(cx, &a, "second", A).code, 3);
    assert_eq!(ask(cx, &b, "second", A).addresses(), [ip(cx, &both, &two)]);
    // Who is on both knows both.
    assert_eq!(ask(cx, &both, &a, A).addresses(), [ip(cx, &a, &one)]);
    assert_eq!(ask(cx, &both, &b, A).addresses(), [ip(cx, &b, &two)]);
}

fn addresses_have_names(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    let address: std::net::Ipv4Addr = ip(cx, &a, &name).parse().unwrap();
    let [w, x, y, z] = address.octets();
    let said = ask(cx, &a, &format!("{z}.{y}.{x}.{w}.in-addr.arpa"), PTR);
    let text: String =
        said.records[0].iter().map(|b| if *b < 32 { '.' } else { char::from(*b) }).collect();
    let full = format!("{a}.{name}");
    // Each part is preceded by its length, some of which are letters.
    assert_eq!(text.len(), full.len() + 2);
    assert!(text.contains(&a) && text.contains(&name), "{text}");
    assert_eq!(ask(cx, &a, "9.2.0.192.in-addr.arpa", PTR).code, 3);
}

fn types_that_are_not_there_are_answered_at_once(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    // A server that never answers: whoever waited for it would wait for long.
    let a = cx.sleeper("a", &["--network", &name, "--dns", "192.0.2.1"]);
    for kind in [AAAA, MX] {
        assert_eq!(ask(cx, &a, &a, kind), Said { code: 0, cut: false, records: vec![] });
    }
}

fn long_answers_come_over_tcp(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    // More than 512 bytes of addresses: written as the daemon does, because forty containers take their time.
    let id = cx.api().get(&format!("/networks/{name}")).json()["Id"].as_str().unwrap().to_owned();
    let table = cx.daemon.path("exec").join(format!("networks/{id}.json"));
    let many: Vec<String> = (0..60).map(|n| format!("10.9.9.{n}")).collect();
    let text = json!({"network": name, "names": {"many": many}, "owners": {}}).to_string();
    std::fs::write(table.with_extension("new"), text).unwrap();
    std::fs::rename(table.with_extension("new"), &table).unwrap();
    let said = ask(cx, &a, "many", A);
    assert!(
        said.cut && said.records.len() < 40 && said.records.len() > 20,
        "{}",
        said.records.len()
    );
    let question = query("many", A);
    let sent = question.clone();
    let whole = inside(cx, &a, move || tcp(&sent)).unwrap();
    assert_eq!(Said::read(&question, &whole).records.len(), 60);
}

/// A server of other names in a container's namespace, at all its addresses: knows `known.example`, counts
/// questions, and says that it failed for the first `fails`.
fn upstream(cx: &Cx<'_>, container: &str, fails: u32) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let (udp, tcp) = inside(cx, container, || {
        (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap())
    });
    let reply = move |question: &[u8], count: &AtomicU32| {
        let asked = count.fetch_add(1, Ordering::Relaxed);
        let mut out = question.to_vec();
        out[2] |= 0x80;
        let known = question.windows(5).any(|w| w == b"known");
        out[3] = match (asked < fails, known) {
            (true, _) => 2,
            (_, true) => 0,
            (_, false) => 3,
        };
        if out[3] == 0 {
            out[7] = 1;
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 7]);
        }
        out
    };
    // The threads end with the test's process; they hold nothing but their sockets.
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&reply(&buffer[..length], &counted), from);
        }
    });
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_ok() {
                let answer = reply(&question, &counted);
                let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                let _ = stream.write_all(&answer);
            }
        }
    });
    count
}

fn other_names_are_forwarded_to_the_containers_servers(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let (one, two) =
        (cx.sleeper("s1", &["--network", &name]), cx.sleeper("s2", &["--network", &name]));
    let failing = upstream(cx, &one, u32::MAX);
    upstream(cx, &two, 0);
    // The first one answers nothing, the second one with a failure, the third one with an answer.
    let a = cx.sleeper(
        "a",
        &[
            "--network",
            &name,
            "--dns",
            "192.0.2.1",
            "--dns",
            &ip(cx, &one, &name),
            "--dns",
            &ip(cx, &two, &name),
        ],
    );
    assert_eq!(ask(cx, &a, "known.example", A).addresses(), ["203.0.113.7"]);
    assert!(failing.load(Ordering::Relaxed) > 0);
    assert_eq!(ask(cx, &a, "other.example", A).code, 3);
    let direct = cx.sleeper("b", &["--network", &name, "--dns", &ip(cx, &two, &name)]);
    let question = query("known.example", A);
    let sent = question.clone();
    let answer = inside(cx, &direct, move || tcp(&sent)).unwrap();
    assert_eq!(Said::read(&question, &answer).addresses(), ["203.0.113.7"]);
    // Own names while others are on their way.
    let waiting = query("slow.example", A);
    inside(cx, &a, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..50 {
            socket.send_to(&waiting, "127.0.0.11:53").unwrap();
        }
    });
    assert_eq!(ask(cx, &a, &one, A).addresses(), [ip(cx, &one, &name)]);
    // With ndots a name without dots is not for the world.
    let count = upstream_questions(cx, &name, &two);
    assert_eq!(count, 0);
}

/// How many questions for a name without dots reach a server when the container said how many dots it wants.
fn upstream_questions(cx: &Cx<'_>, name: &str, server: &str) -> u8 {
    let c = cx.sleeper(
        "c",
        &["--network", name, "--dns", &ip(cx, server, name), "--dns-option", "ndots:1"],
    );
    let said = ask(cx, &c, "known", A);
    u8::from(said.code != 3)
}

fn an_internal_network_forwards_nothing(cx: &Cx<'_>) {
    let (inner, outer) = (made(cx, "in", &["--internal"]), made(cx, "out", &[]));
    let server = cx.sleeper("s", &["--network", &outer]);
    let count = upstream(cx, &server, 0);
    let address = ip(cx, &server, &outer);
    let a = cx.sleeper("a", &["--network", &inner, "--dns", &address]);
    assert_eq!(ask(cx, &a, "known.example", A).code, 3);
    assert_eq!(count.load(Ordering::Relaxed), 0);
    // With a way out there is somebody to ask.
    cx.docker(&["network", "connect", &outer, &a]).ok();
    assert_eq!(ask(cx, &a, "known.example", A).addresses(), ["203.0.113.7"]);
}

fn what_is_no_query_breaks_nothing(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    inside(cx, &a, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        for length in [0, 1, 11, 12, 13, 512, 4096] {
            socket.send_to(&bytes[..length], "127.0.0.11:53").unwrap();
            bytes.rotate_left(7);
        }
        for n in 0..2000_u32 {
            let mut odd = query("a.b", A);
            let at = n as usize % odd.len();
            odd[at] ^= (n % 251) as u8;
            socket.send_to(&odd, "127.0.0.11:53").unwrap();
        }
        // Connections that say nothing, half of something, or too much.
        let mut held: Vec<_> =
            (0..80).filter_map(|_| TcpStream::connect("127.0.0.11:53").ok()).collect();
        for stream in &mut held {
            let _ = stream.write_all(&[0xff, 0xff, 1, 2, 3]);
        }
    });
    assert_eq!(ask(cx, &a, &a, A).addresses(), [ip(cx, &a, &name)]);
    // The one that holds the streams noticed nothing.
    cx.docker(&["exec", &a, "true"]).ok();
}

fn a_container_may_have_a_server_of_its_own(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    inside(cx, &a, || {
        UdpSocket::bind("0.0.0.0:53").unwrap();
        TcpListener::bind("0.0.0.0:53").unwrap();
    });
    assert_eq!(ask(cx, &a, &a, A).records.len(), 1);
}

fn connecting_brings_names(cx: &Cx<'_>) {
    let name = made(cx, "n", &[]);
    let a = cx.sleeper("a", &[]);
    let b = cx.sleeper("b", &["--network", &name]);
    let file = || cx.docker(&["exec", &a, "cat", "/etc/resolv.conf"]).stdout;
    assert!(!file().contains("127.0.0.11"));
    cx.docker(&["network", "connect", "--alias", "late", &name, &a]).ok();
    assert!(file().contains("127.0.0.11"));
    assert_eq!(ask(cx, &a, &b, A).addresses(), [ip(cx, &b, &name)]);
    assert_eq!(ask(cx, &b, "late", A).addresses(), [ip(cx, &a, &name)]);
    cx.docker(&["network", "disconnect", &name, &a]).ok();
    assert!(!file().contains("127.0.0.11"));
}

fn links_are_names(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let b = cx.sleeper("b", &["--network", &name]);
    let a = cx.sleeper("a", &["--network", &name, "--link", &format!("{b}:store")]);
    assert_eq!(ask(cx, &a, "store", A).addresses(), [ip(cx, &b, &name)]);
    assert_eq!(ask(cx, &b, "store", A).code, 3);
}

fn own(name: &str) -> Daemon {
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    let _ = name;
    daemon
}

fn names_live_on_without_the_daemon(_: &Cx<'_>) {
    let daemon = own("gone");
    let cx = &Cx::new(&daemon, "gone");
    let name = made(cx, "n", &["--internal"]);
    let (a, b) = (cx.sleeper("a", &["--network", &name]), cx.sleeper("b", &["--network", &name]));
    let (address, pid) = (ip(cx, &b, &name), cx.inspect(&a)["State"]["Pid"].to_string());
    daemon.kill().unwrap();
    let question = query(&b, A);
    let sent = question.clone();
    let asked = std::thread::spawn(move || {
        let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
        udp(&sent)
    });
    let answer = asked.join().unwrap().expect("an answer without the daemon");
    assert_eq!(Said::read(&question, &answer).addresses(), [address]);
    daemon.start_again().unwrap();
    let c = cx.sleeper("c", &["--network", &name]);
    assert_eq!(ask(cx, &a, &c, A).addresses(), [ip(cx, &c, &name)]);
    cx.docker(&["rm", "-f", &b]).ok();
    assert_eq!(ask(cx, &a, &b, A).code, 3);
    cx.docker(&["rm", "-f", &a, &c]).ok();
    cx.docker(&["network", "rm", &name]).ok();
}

/// Pids of the servers of names whose shim belongs to a container.
fn servers(id: &str) -> Vec<u32> {
    let read = |pid: u32, name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| read(*pid, "comm") == "gantry-names\n" && read(*pid, "cmdline").contains(id))
        .collect()
}

fn a_server_that_is_killed_comes_back(cx: &Cx<'_>) {
    let name = made(cx, "n", &["--internal"]);
    let a = cx.sleeper("a", &["--network", &name]);
    let id = cx.inspect(&a)["Id"].as_str().unwrap().to_owned();
    let first = servers(&id);
    assert_eq!(first.len(), 1);
    // It is started again only if it lived for a second: one that cannot live is left alone.
    let age = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ticks: f64 =
            stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
        let up = std::fs::read_to_string("/proc/uptime").unwrap();
        up.split(' ').next().unwrap().parse::<f64>().unwrap() - ticks / 100.0
    };
    cx.until("it lived for a while", || (age(first[0]) > 1.2).then_some(()));
    let pid = rustix::process::Pid::from_raw(first[0] as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    cx.until("another serves", || {
        let now = servers(&id);
        (now.len() == 1 && now != first).then_some(())
    });
    let asked = || {
        let question = query(&cx.name("a"), A);
        inside(cx, &a, move || udp(&question)).is_some()
    };
    cx.until("names are there again", || asked().then_some(()));
    // With its container it goes.
    cx.docker(&["rm", "-f", &a]).ok();
    cx.until("it went", || servers(&id).is_empty().then_some(()));
}

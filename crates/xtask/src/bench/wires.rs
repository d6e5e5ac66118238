//! `cargo xtask bench networks`: how fast bytes go over networks, and whether the two hundredth container of a network starts as
//! fast as the first.
//!
//! Throughput: one TCP connection between two threads, each in a network namespace, that write and read pieces of 128 KiB as iperf3
//! does. Right before each measurement the same is done over a bare veth pair; medians of the rates and of their shares of the pair's rate
//! are told, because what else the machine does hits both. Options: `--rounds N`, `--milliseconds N`, `--containers N`, and those
//! of `bench` for peers.

use super::{
    contestant::{Contestant, milliseconds},
    report::median,
};
use crate::shell::{number, say};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

const NETWORK: &str = "bench-wires";
const PORT: u16 = 5201;
const PIECE: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the bare pair, the host's end and the other.
const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);
/// Starts around a mark of the curve, of which the median counts.
const AROUND: usize = 9;

pub(super) fn run(args: &[String]) -> Result<()> {
    let rounds = number(args, "--rounds", 9)?;
    let time = Duration::from_millis(number(args, "--milliseconds", 500)?);
    let count = usize::try_from(number(args, "--containers", 200)?)?;
    let contestants = super::contestants(args)?;
    throughput(&contestants, rounds, time)?;
    for (n, contestant) in contestants.iter().enumerate() {
        curve(contestant, n, count)?;
    }
    Ok(())
}

/// A namespace that one veth pair leads to: somebody outside, and the measure of all wires.
struct Outside {
    name: String,
    netns: File,
}

impl Outside {
    fn new() -> Result<Self> {
        let name = format!("gtkbench{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let netns = File::open(format!("/run/netns/{name}")).context("open the namespace")?;
        let outside = Self { name, netns };
        let name = &outside.name;
        ip(&["link", "add", "gtkbench0", "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["addr", "add", &format!("{HERE}/24"), "dev", "gtkbench0"])?;
        ip(&["link", "set", "gtkbench0", "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{THERE}/24"), "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(outside)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", "gtkbench0"]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("run ip")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), told.trim());
    Ok(())
}

/// Two containers on a network of their own.
struct Pair {
    netns: [File; 2],
    addresses: [Ipv4Addr; 2],
    /// Where the second one's port is published.
    published: u16,
}

impl Pair {
    fn new(c: &Contestant) -> Result<Self> {
        c.docker(&["network", "create", NETWORK])?;
        let publish = format!("{HERE}::{PORT}");
        for (name, extra) in [("bench-a", &[][..]), ("bench-b", &["-p", &publish])] {
            let run = ["run", "-d", "--name", name, "--network", NETWORK];
            c.docker(&[&run, extra, &["busybox", "sleep", "3600"]].concat())?;
        }
        let shown = ["bench-a", "bench-b"]
            .map(|name| c.api().get(&format!("/v1.41/containers/{name}/json")).json());
        let [a, b] = &shown;
        let published =
            b["NetworkSettings"]["Ports"][format!("{PORT}/tcp")][0]["HostPort"].as_str();
        Ok(Self {
            netns: [netns(a)?, netns(b)?],
            addresses: [address(a)?, address(b)?],
            published: published.context("a published port")?.parse()?,
        })
    }
}

fn netns(shown: &Value) -> Result<File> {
    let pid = shown["State"]["Pid"].as_u64().context("the container runs")?;
    File::open(format!("/proc/{pid}/ns/net")).context("open a container's network namespace")
}

fn address(shown: &Value) -> Result<Ipv4Addr> {
    let text = shown["NetworkSettings"]["Networks"][NETWORK]["IPAddress"].as_str();
    text.context("an address")?.parse().context("read an address")
}

/// Bytes per second from a thread in `from`, which connects to `to`, to one in `receiver`; none is the host.
fn blast(from: Option<&File>, receiver: &File, to: SocketAddr, time: Duration) -> Result<f64> {
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let receiving = scope.spawn(move || -> Result<f64> {
            enter(receiver)?;
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            ready.send(()).context("say that we listen")?;
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let (began, mut bytes, mut piece) = (Instant::now(), 0, vec![0; PIECE]);
            loop {
                match stream.read(&mut piece)? {
                    0 => return Ok(bytes as f64 / began.elapsed().as_secs_f64()),
                    count => bytes += count,
                }
            }
        });
        // When it cannot listen its own error says why.
        if is_ready.recv().is_err() {
            return receiving.join().unwrap_or_else(|_| bail!("receiving broke"));
        }
        let sending = scope.spawn(move || -> Result<()> {
            from.map_or(Ok(()), enter)?;
            let sent = TcpStream::connect_timeout(&to, PATIENCE).map(|mut stream| {
                let (began, piece) = (Instant::now(), vec![7; PIECE]);
                while began.elapsed() < time && stream.write_all(&piece).is_ok() {}
            });
            sent.with_context(|| format!("connect to {to}"))
        });
        match sending.join() {
            Ok(Ok(())) => receiving.join().unwrap_or_else(|_| bail!("receiving broke")),
            // The receiver waits for somebody.
            failed => {
                scope.spawn(|| -> Result<()> {
                    enter(receiver)?;
                    TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).map(drop).map_err(Into::into)
                });
                failed.unwrap_or_else(|_| bail!("sending broke")).map(|()| 0.0)
            }
        }
    })
}

/// The namespace is the thread's, and goes with it.
fn enter(netns: &File) -> Result<()> {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(netns.as_fd(), kind).context("enter a namespace")
}

/// A way that bytes go, from and to.
type Way = (&'static str, fn(&Outside, &Pair, Duration) -> Result<f64>);

static WAYS: &[Way] = &[
    ("host to container", |_, pair, time| {
        blast(None, &pair.netns[1], (pair.addresses[1], PORT).into(), time)
    }),
    ("container to container", |_, pair, time| {
        blast(Some(&pair.netns[0]), &pair.netns[1], (pair.addresses[1], PORT).into(), time)
    }),
    ("outside to a published port", |outside, pair, time| {
        blast(Some(&outside.netns), &pair.netns[1], (HERE, pair.published).into(), time)
    }),
];

fn throughput(contestants: &[Contestant], rounds: u64, time: Duration) -> Result<()> {
    let outside = Outside::new()?;
    let measured = throughput_of(contestants, &outside, rounds, time);
    for contestant in contestants {
        contestant.clear();
        let _ = contestant.docker(&["network", "rm", NETWORK]);
    }
    measured
}

fn throughput_of(
    contestants: &[Contestant],
    outside: &Outside,
    rounds: u64,
    time: Duration,
) -> Result<()> {
    let pairs: Vec<Pair> = contestants.iter().map(Pair::new).collect::<Result<_>>()?;
    let mut head = "| one TCP connection | a bare veth pair |".to_owned();
    contestants.iter().for_each(|c| head += &format!(" {} |", c.name));
    say(&format!("{head}\n|---|---:|{}", "---:|".repeat(contestants.len())));
    for (name, way) in WAYS {
        let mut bare = Vec::new();
        let mut samples = vec![(Vec::new(), Vec::new()); contestants.len()];
        for round in 0..rounds {
            for n in 0..contestants.len() {
                let n = (n + usize::try_from(round)?) % contestants.len();
                let beside = blast(None, &outside.netns, (THERE, PORT).into(), time)?;
                let rate = way(outside, &pairs[n], time)
                    .with_context(|| format!("{name}: {}", contestants[n].name))?;
                bare.push(Some(beside));
                samples[n].0.push(Some(rate));
                samples[n].1.push(Some(rate / beside));
            }
        }
        let of = |samples| median(samples).unwrap_or_default();
        let mut line = format!("| {name} | {:.2} GB/s |", of(&bare) / 1e9);
        for (rates, shares) in &samples {
            line += &format!(" {:.2} GB/s ({:.0} %) |", of(rates) / 1e9, of(shares) * 100.0);
        }
        say(&line);
    }
    Ok(())
}

/// Starts many containers on one network, one after the other, and removes them.
fn curve(c: &Contestant, number: usize, count: usize) -> Result<()> {
    let subnet = format!("10.254.{}.0/22", number * 4);
    c.docker(&["network", "create", "--subnet", &subnet, NETWORK])?;
    let measured = curve_of(c, count);
    c.clear();
    c.docker(&["network", "rm", NETWORK])?;
    let [started, removed] = measured?;
    let marks = [1, count / 4, count / 2, count].map(|mark| mark.max(1));
    for (what, times) in [("start", started), ("stop and remove", removed)] {
        let mut line = format!("{}: {what} with as many on the network:", c.name);
        for mark in marks {
            let first = (mark - 1).saturating_sub(AROUND / 2).min(count.saturating_sub(AROUND));
            let near: Vec<_> = times[first..].iter().take(AROUND).copied().map(Some).collect();
            let value = median(&near).unwrap_or_default();
            line += &format!(" {mark}: {value:.1} ms;");
        }
        say(line.trim_end_matches(';'));
    }
    Ok(())
}

/// Milliseconds of every start and of every removal, both by how many there are.
fn curve_of(c: &Contestant, count: usize) -> Result<[Vec<f64>; 2]> {
    let wish = json!({
        "Image": "busybox", "Cmd": ["sleep", "3600"], "HostConfig": {"NetworkMode": NETWORK},
    });
    let (mut ids, mut started, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let created = c.api().post("/v1.41/containers/create", &wish);
        let id = created.json()["Id"].as_str().context("a container's id")?.to_owned();
        let began = Instant::now();
        let start = c.api().post(&format!("/v1.41/containers/{id}/start"), &Value::Null);
        started.push(milliseconds(began));
        ensure!(start.status() == 204, "start answered {}: {}", start.status(), start.message());
        ids.push(id);
    }
    while let Some(id) = ids.pop() {
        let began = Instant::now();
        let gone = c.api().delete(&format!("/v1.41/containers/{id}?force=1"));
        removed.push(milliseconds(began));
        ensure!(gone.status() == 204, "remove answered {}", gone.status());
    }
    removed.reverse();
    Ok([started, removed])
}

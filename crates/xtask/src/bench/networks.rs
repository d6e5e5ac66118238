//! Rows about networks: a user-defined one with ports, many ports at once, the time that a name takes.

use super::contestant::{Contestant, milliseconds};
use anyhow::{Context as _, Result, bail};
use std::{
    fs::File,
    net::UdpSocket,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

const NETWORK: &str = "bench-net";
/// Questions of which the median counts.
const QUESTIONS: usize = 500;

pub(super) fn make(c: &mut Contestant) -> Result<()> {
    c.docker(&["network", "create", NETWORK]).map(drop)
}

pub(super) fn run(c: &mut Contestant) -> Result<f64> {
    let ports = ["-p", "127.0.0.1::80", "-p", "127.0.0.1::81", "-p", "127.0.0.1::82"];
    c.docker(&[&["run", "--rm", "--network", NETWORK], &ports[..], &["busybox", "true"]].concat())
}

pub(super) fn remove(c: &mut Contestant) {
    c.clear();
    let _ = c.docker(&["network", "rm", NETWORK]);
}

/// Only the start counts: reading the options is the client's affair. With a thousand ports dockerd 20.10 does not
/// always answer within a minute.
pub(super) fn many_ports(c: &mut Contestant) -> Result<f64> {
    let ports = "20000-20099:20000-20099";
    c.docker(&["create", "--name", "bench-ports", "-p", ports, "busybox", "sleep", "600"])?;
    let began = Instant::now();
    let started = c.api().post("/containers/bench-ports/start", &serde_json::Value::Null);
    let took = milliseconds(began);
    c.docker(&["rm", "-f", "bench-ports"])?;
    match started.status() {
        204 => Ok(took),
        status => bail!("start answered {status}: {}", started.message()),
    }
}

pub(super) fn neighbours(c: &mut Contestant) -> Result<()> {
    make(c)?;
    for name in ["bench", "bench-other"] {
        c.docker(&["run", "-d", "--name", name, "--network", NETWORK, "busybox", "sleep", "600"])?;
    }
    Ok(())
}

pub(super) fn ask(c: &mut Contestant) -> Result<f64> {
    let shown = c.api().get("/containers/bench/json").json();
    let pid = shown["State"]["Pid"].as_u64().context("the container runs")?;
    let netns = File::open(format!("/proc/{pid}/ns/net")).context("open its network namespace")?;
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11];
    question.extend(b"bench-other\0\0\x01\0\x01");
    // The namespace is the thread's, and goes with it.
    let asking = thread::spawn(move || -> Result<f64> {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("127.0.0.11:53")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut times = Vec::with_capacity(QUESTIONS);
        let mut buffer = [0; 512];
        for _ in 0..QUESTIONS {
            let began = Instant::now();
            socket.send(&question)?;
            let length = socket.recv(&mut buffer)?;
            times.push(milliseconds(began));
            if length < 12 || buffer[7] != 1 {
                bail!("the name was not known");
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[QUESTIONS / 2])
    });
    asking.join().unwrap_or_else(|_| bail!("asking broke"))
}

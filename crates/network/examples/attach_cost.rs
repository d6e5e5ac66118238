//! Measures what wiring a container costs, in network namespaces of its own: `attach`, `detach`, and both with
//! published ports. Run as root: `cargo run -p gantry-network --example attach_cost`.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use base::{ContainerId, Error, Result};
use gantry_network::{Attach, BridgeConfig, Config, Networks, Publish};
use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};
use sys::netns;

const ROUNDS: usize = 200;
static NO_OPTIONS: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();

fn main() -> Result<()> {
    let inner = |e: sys::netlink::Error| Error::internal(e.to_string());
    let host = netns::create().map_err(inner)?;
    netns::within(host.as_fd(), measure).map_err(inner)?
}

fn measure() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("attach-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| Error::io("cannot make a folder", e))?;
    let store = store::Store::open(&dir.join("db"))?;
    let began = Instant::now();
    let networks = Networks::open(&Config::with(Some(BridgeConfig::named("gantry0"))), &store)?;
    println!("open: {:?}", began.elapsed());
    let began = Instant::now();
    networks.reconcile([]);
    println!("reconcile: {:?}", began.elapsed());
    let one = [Publish::parse("80/tcp", "", "")?];
    let thousand = (0..1000)
        .map(|n| Publish::parse("80/tcp", "", &(10000 + n).to_string()))
        .collect::<Result<Vec<_>>>()?;
    rounds("no port", &networks, &[], ROUNDS)?;
    rounds("one port", &networks, &one, ROUNDS)?;
    rounds("1000 ports", &networks, &thousand, 10)?;
    let began = Instant::now();
    networks.mend();
    println!("mend: {:?}", began.elapsed());
    networks.remove_all()?;
    std::fs::remove_dir_all(&dir).map_err(|e| Error::io("cannot remove the folder", e))
}

fn rounds(what: &str, networks: &Networks, publish: &[Publish], count: usize) -> Result<()> {
    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let guest = netns::create().map_err(|e| Error::internal(e.to_string()))?;
        let id = ContainerId::random();
        let began = Instant::now();
        networks.attach("bridge", &wish(&id, guest.as_fd(), publish))?;
        attached.push(began.elapsed());
        drop(guest);
        let began = Instant::now();
        networks.detach(&id)?;
        detached.push(began.elapsed());
    }
    println!("{what}: attach {}, detach {}", quantiles(attached), quantiles(detached));
    Ok(())
}

fn wish<'a>(
    container: &'a ContainerId,
    netns: BorrowedFd<'a>,
    publish: &'a [Publish],
) -> Attach<'a> {
    let netns = Some(netns);
    Attach {
        container,
        name: "guest",
        netns,
        sandbox: "",
        link_local: &[],
        interface: "eth0",
        mac: None,
        address: None,
        address6: None,
        gateway: true,
        publish,
        names: &[],
        options: &NO_OPTIONS,
    }
}

fn quantiles(mut all: Vec<Duration>) -> String {
    all.sort();
    format!(
        "p50 {:?} p95 {:?} max {:?}",
        all[all.len() / 2],
        all[all.len() * 95 / 100],
        all[all.len() - 1]
    )
}

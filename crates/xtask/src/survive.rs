//! `cargo xtask survive`: the daemon is killed at random moments under load, and started again. Other modes
//! ([`MODES`]) are cases of the end-to-end suite in their long form.
//!
//! After every kill: the API answers soon (I6); containers that ran still run with the same pid and
//! start time (I3); their numbered log lines are neither lost nor doubled (I4); every image listed can
//! be run (I1, I2); a named volume holds what it held (I8); what failed works when tried again (I7). At
//! the end everything is removed, the daemon stops, and the census finds nothing (I5).

use crate::shell::{number, say, target, value};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use testkit::{
    Daemon, Dice,
    daemon::Options,
    image::docker_archive,
    invariants::{self, Invariants, census, docker, docker_with},
    tarball::Tarball,
};

/// Other faults than a daemon killed at random: cases of the end-to-end suite in their long form.
static MODES: &[(&str, &str)] = &[
    ("races", "races::"),
    ("steps", "crash_points::the_daemon"),
    ("shims", "crash_points::shims"),
    ("disk", "disk_faults::"),
    ("registry", "registry_faults::"),
    ("load", "load::"),
];

/// Runs the case of `mode`, `length` times as long as in every run of the suite.
fn case(mode: &str, length: u64, seed: u64) -> Result<()> {
    let names: Vec<&str> = MODES.iter().map(|m| m.0).collect();
    let Some((_, case)) = MODES.iter().find(|m| m.0 == mode) else {
        bail!("there is no mode {mode}: use one of kill, {}", names.join(", "));
    };
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["test", "--quiet", "--workspace", "--test", "e2e", "--", case]);
    let status = cargo
        .env("GANTRY_TEST_LONG", length.to_string())
        .env("GANTRY_TEST_SEED", seed.to_string())
        .status()?;
    ensure!(status.success(), "survive: mode {mode} failed");
    Ok(())
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let seed = number(args, "--seed", now)?;
    if let Some(mode) = value(args, "--mode").filter(|m| *m != "kill") {
        return case(mode, number(args, "--rounds", 11)?, seed);
    }
    let rounds = number(args, "--rounds", 50)?;
    let mut dice = Dice::new(seed);
    say(&format!("survive: {rounds} rounds, seed {seed}"));
    let debug = target().join("debug/gantry");
    let release = target().join("release/gantry");
    let binary = std::env::var_os("GANTRY_TEST_DAEMON")
        .map(Into::into)
        .unwrap_or_else(|| if args.iter().any(|a| a == "--release") { release } else { debug });
    let mut options = Options::new();
    options.binary = Some(binary);
    let daemon = Daemon::start(options)?;
    // With the daemon's own folders, link and rules, which stay or go with it.
    let before = census(&daemon);
    daemon.load_busybox()?;
    let outcome = survive(&daemon, rounds, &mut dice);
    if outcome.is_err() {
        say(&daemon.log_tail());
    }
    outcome?;
    invariants::remove_all_and_stop(&daemon, &before)?;
    say("survive: all invariants held, nothing is left behind");
    Ok(())
}

fn survive(daemon: &Daemon, rounds: u64, dice: &mut Dice) -> Result<()> {
    let invariants = Invariants::prepare(daemon, &["bridge", "none"])?;
    let (mut done, mut slowest) = (0, Duration::ZERO);
    for round in 1..=rounds {
        let stop = AtomicBool::new(false);
        let count = AtomicUsize::new(0);
        let patience = Duration::from_millis(200 + dice.below(2800));
        let killed: Result<()> = thread::scope(|scope| {
            for load in LOADS {
                let (stop, count) = (&stop, &count);
                scope.spawn(move || {
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        // Failures are expected: the daemon dies in the middle.
                        if load(daemon, &format!("{round}-{n}")).is_ok() {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            thread::sleep(patience);
            let killed = daemon.kill();
            stop.store(true, Ordering::Relaxed);
            killed
        });
        killed.context("kill the daemon")?;
        let began = Instant::now();
        daemon.start_again().with_context(|| format!("round {round}: start again (I6)"))?;
        let took = began.elapsed();
        slowest = slowest.max(took);
        ensure!(took < Duration::from_secs(10), "round {round}: answered after {took:?} (I6)");
        done += count.into_inner();
        invariants
            .check(daemon)
            .with_context(|| format!("round {round}, killed after {patience:?}"))?;
    }
    say(&format!("survive: {done} operations done in between, slowest start {slowest:?}"));
    Ok(())
}

/// What the daemon is busy with when it dies. Each leaves nothing behind when it is let to end.
static LOADS: &[fn(&Daemon, &str) -> Result<()>] = &[
    |d, _| docker(d, &["run", "--rm", "busybox", "true"]).map(drop),
    |d, n| {
        let name = format!("load-{n}");
        docker(
            d,
            &["run", "-d", "--name", &name, "-p", "80", "-v", "/data", "busybox", "sleep", "600"],
        )?;
        docker(d, &["exec", &name, "true"])?;
        docker(d, &["rm", "-fv", &name]).map(drop)
    },
    |d, n| {
        let file = format!("FROM busybox\nRUN echo {n} > /n && sleep 0.05\nENV N={n}\n");
        let tag = format!("built:{n}");
        docker_with(d, &["build", "-q", "-t", &tag, "-"], file.as_bytes())?;
        docker(d, &["rmi", "-f", &tag]).map(drop)
    },
    |d, n| {
        let tag = format!("loaded:{n}");
        let mut layer = Tarball::new();
        layer.file("f", 0o644, n).file("big", 0o644, vec![7; 300_000]);
        let archive = docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer.finish()]);
        docker_with(d, &["load", "-q"], &archive)?;
        docker(d, &["rmi", &tag]).map(drop)
    },
];

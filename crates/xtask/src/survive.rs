//! `cargo xtask survive`: the daemon is killed at random moments under load, and started again. Other modes
//! ([`MODES`]) are cases of the end-to-end suite in their long form.
//!
//! After every kill: the API answers soon (I6); containers that ran still run with the same pid and
//! start time (I3); their numbered log lines are neither lost nor doubled (I4); every image listed can
//! be run (I1, I2); a named volume holds what it held (I8); what failed works when tried again (I7). At
//! the end everything is removed, the daemon stops, and the census finds nothing (I5).

use crate::shell::{number, say, target, value};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use testkit::{Census, Daemon, command, daemon::Options, image::docker_archive, tarball::Tarball};

/// Other faults than a daemon killed at random: cases of the end-to-end suite in their long form.
static MODES: &[(&str, &str)] = &[("races", "races::")];

/// Runs the case of `mode`, `length` times as long as in every run of the suite.
fn case(mode: &str, length: u64) -> Result<()> {
    let names: Vec<&str> = MODES.iter().map(|m| m.0).collect();
    let Some((_, case)) = MODES.iter().find(|m| m.0 == mode) else {
        bail!("there is no mode {mode}: use one of kill, {}", names.join(", "));
    };
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["test", "--quiet", "--package", "gantry-testkit", "--test", "e2e", "--", case]);
    let status = cargo.env("GANTRY_TEST_LONG", length.to_string()).status()?;
    ensure!(status.success(), "survive: mode {mode} failed");
    Ok(())
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(mode) = value(args, "--mode").filter(|m| *m != "kill") {
        return case(mode, number(args, "--rounds", 11)?);
    }
    let rounds = number(args, "--rounds", 50)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let mut dice = Dice(number(args, "--seed", now)?.max(1));
    say(&format!("survive: {rounds} rounds, seed {}", dice.0));
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
    let witnesses = outcome?;
    end(&daemon, &before, &witnesses)
}

/// A container that runs through all rounds, and what must stay as it is.
struct Witness {
    id: String,
    pid: Value,
    started: Value,
}

fn survive(daemon: &Daemon, rounds: u64, dice: &mut Dice) -> Result<Vec<Witness>> {
    let script = "i=0; while :; do i=$((i+1)); echo $i; usleep 5000; done";
    let volume = "survive-volume";
    docker(
        daemon,
        &[
            "run",
            "--rm",
            "-v",
            &format!("{volume}:/v"),
            "busybox",
            "sh",
            "-c",
            "seq 1 20000 > /v/f",
        ],
    )?;
    let sum = docker(
        daemon,
        &["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "md5sum", "/v/f"],
    )?;
    let mut witnesses = Vec::new();
    for network in ["bridge", "none"] {
        let id =
            docker(daemon, &["run", "-d", "--network", network, "busybox", "sh", "-c", script])?;
        let state = daemon.api().get(&format!("/containers/{id}/json")).json()["State"].clone();
        witnesses.push(Witness {
            id,
            pid: state["Pid"].clone(),
            started: state["StartedAt"].clone(),
        });
    }
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
        check(daemon, &witnesses, volume, &sum)
            .with_context(|| format!("round {round}, killed after {patience:?}"))?;
    }
    say(&format!("survive: {done} operations done in between, slowest start {slowest:?}"));
    Ok(witnesses)
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
        let mut command = d.docker();
        let output = command::run(command.args(["build", "-q", "-t", &tag, "-"]), file.as_bytes());
        ensure!(output.code == Some(0), "{}", output.describe());
        docker(d, &["rmi", "-f", &tag]).map(drop)
    },
    |d, n| {
        let tag = format!("loaded:{n}");
        let mut layer = Tarball::new();
        layer.file("f", 0o644, n).file("big", 0o644, vec![7; 300_000]);
        let archive = docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer.finish()]);
        let mut command = d.docker();
        let output = command::run(command.args(["load", "-q"]), &archive);
        ensure!(output.code == Some(0), "{}", output.describe());
        docker(d, &["rmi", &tag]).map(drop)
    },
];

fn check(daemon: &Daemon, witnesses: &[Witness], volume: &str, sum: &str) -> Result<()> {
    let api = daemon.api();
    for witness in witnesses {
        let state = api.get(&format!("/containers/{}/json", witness.id)).json()["State"].clone();
        ensure!(
            state["Pid"] == witness.pid
                && state["StartedAt"] == witness.started
                && state["Running"] == true,
            "a container did not live on (I3): {state}"
        );
        let logs = docker(daemon, &["logs", &witness.id])?;
        for (n, line) in logs.lines().enumerate() {
            ensure!(line.parse() == Ok(n + 1), "log line {} is {line:?} (I4)", n + 1);
        }
    }
    for image in api.get("/images/json").json().as_array().into_iter().flatten() {
        let tags = image["RepoTags"].as_array().into_iter().flatten();
        for tag in tags.filter_map(Value::as_str).filter(|t| *t != "<none>:<none>") {
            if tag.starts_with("loaded:") {
                docker(daemon, &["save", tag]).with_context(|| format!("save {tag} (I1)"))?;
            } else {
                docker(daemon, &["run", "--rm", tag, "true"])
                    .with_context(|| format!("run {tag} (I1, I2)"))?;
            }
        }
    }
    let now = docker(
        daemon,
        &["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "md5sum", "/v/f"],
    )?;
    ensure!(now == sum, "the volume holds {now}, not {sum} (I8)");
    Ok(())
}

/// Removes everything, stops the daemon, and takes the census.
fn end(daemon: &Daemon, before: &Census, witnesses: &[Witness]) -> Result<()> {
    let mut marks = daemon.container_ids();
    marks.extend(witnesses.iter().map(|w| w.id.clone()));
    marks.push(daemon.path("").display().to_string().trim_end_matches('/').to_owned());
    marks.extend(daemon.bridge());
    let api = daemon.api();
    for container in api.get("/containers/json?all=1").json().as_array().into_iter().flatten() {
        let id = container["Id"].as_str().unwrap_or_default();
        let answer = api.delete(&format!("/containers/{id}?force=1&v=1"));
        ensure!(answer.status() == 204, "remove {id}: {}", answer.text());
    }
    docker(daemon, &["system", "prune", "-af", "--volumes"])?;
    docker(daemon, &["volume", "prune", "-af"])?;
    let left = api.get("/images/json?all=1").json();
    ensure!(left.as_array().is_some_and(Vec::is_empty), "images are left: {left}");
    // Deleted in the background; what a stop leaves of it the next start takes up.
    let trash = daemon.path("root/trash");
    let began = Instant::now();
    while std::fs::read_dir(&trash).is_ok_and(|mut dir| dir.next().is_some()) {
        ensure!(began.elapsed() < Duration::from_secs(60), "{} is not emptied", trash.display());
        thread::sleep(Duration::from_millis(20));
    }
    daemon.stop()?;
    let shared = std::env::var_os("GANTRY_TEST_SHARED_HOST").is_some();
    let left = census(daemon).leftovers(before, shared.then_some(&marks));
    if !left.is_empty() {
        bail!("left behind (I5):\n  {}", left.join("\n  "));
    }
    say("survive: all invariants held, nothing is left behind");
    Ok(())
}

/// The machine, and the daemon's folders without its database.
fn census(daemon: &Daemon) -> Census {
    let dirs = [
        "exec/containers",
        "root/builds",
        "root/containers",
        "root/content",
        "root/layers",
        "root/tmp",
        "root/trash",
        "root/volumes",
    ];
    let dirs = dirs.map(|d| daemon.path(d));
    Census::take(&dirs.each_ref().map(std::path::PathBuf::as_path))
}

fn docker(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = command::run(daemon.docker().args(args), b"");
    ensure!(output.code == Some(0), "{}", output.describe());
    Ok(output.stdout.trim_end().to_owned())
}

/// Marsaglia's xorshift: enough to choose moments, and the same again for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

//! The machine's clock jumps under a daemon: a day back, past 2038, ten years on, and back again. What is timed goes on.
//!
//! libfaketime gives the daemon alone another clock, read from a file; that of durations stays true. Containers' shims are
//! static and keep the machine's: their times then lie before and after the daemon's, which is the harder case.

use std::{fs, path::Path};
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon::Options,
    invariants::{Invariants, docker, docker_with},
    suite::Case,
};

pub const CASES: &[Case] = cases![alone: jumps_of_the_clock_stop_nothing];

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// In order. An offset from the machine's clock, or a moment.
const JUMPS: &[&str] = &[
    "-1d",
    "+0",
    // The second before 32 bits run out.
    "@2038-01-19 03:14:06",
    "+3650d",
    // A leap second's day.
    "@2016-12-31 23:59:58",
    "+0",
];

fn set(file: &Path, clock: &str) {
    // In one step: who reads while it is written sees either.
    let new = file.with_extension("new");
    fs::write(&new, clock).unwrap();
    fs::rename(new, file).unwrap();
}

fn jumps_of_the_clock_stop_nothing(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    if !Path::new(LIBRARY).exists() {
        skip("libfaketime is not installed");
    }
    let clock = cx.dir().join("clock");
    set(&clock, "+0");
    let mut options = Options::new();
    for (name, value) in [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ] {
        options.env.push((name.to_owned(), value.to_owned()));
    }
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    let d = &daemon;
    let own = Cx::new(d, "own");
    let invariants = Invariants::prepare(d, &["bridge"]).unwrap();
    let options =
        ["--health-cmd=echo probed >> /probes", "--health-interval=200ms", "--health-retries=3"];
    let sleep = ["busybox", "sleep", "600"];
    docker(d, &[&["run", "-d", "--name", "healthy"], &options[..], &sleep].concat()).unwrap();
    docker(d, &["run", "-d", "--name", "again", "--restart=always", "busybox", "sleep", "0.3"])
        .unwrap();
    let probed = || {
        let text = docker(d, &["exec", "healthy", "wc", "-l", "/probes"]);
        text.ok().and_then(|t| t.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let restarts = || own.inspect("again")["RestartCount"].as_u64().unwrap();
    for jump in JUMPS {
        let (before, counted) = (probed(), restarts());
        set(&clock, jump);
        own.until(&format!("{jump}: probes go on"), || (probed() > before + 3).then_some(()));
        own.until(&format!("{jump}: restarts go on"), || (restarts() > counted).then_some(()));
        let state = own.inspect("healthy")["State"].clone();
        assert_eq!(state["Health"]["Status"], "healthy", "{jump}: {state}");
        // Commands that know of times: lists, events of a span, logs since, a build that makes times, a wait.
        docker(d, &["ps", "-a"]).unwrap();
        docker(d, &["images"]).unwrap();
        assert_eq!(docker(d, &["run", "--rm", "busybox", "echo", "runs"]).unwrap(), "runs");
        let file = format!("FROM busybox\nRUN echo '{jump}' > /f\n");
        docker_with(d, &["build", "-q", "-"], file.as_bytes()).unwrap();
        let name = "ended";
        docker(d, &["run", "--name", name, "busybox", "true"]).unwrap();
        let ended = own.inspect(name)["State"].clone();
        assert_eq!((&ended["Status"], &ended["ExitCode"]), (&"exited".into(), &0.into()), "{jump}");
        docker(d, &["rm", name]).unwrap();
        docker(d, &["stop", "-t", "0", "healthy"]).unwrap();
        docker(d, &["start", "healthy"]).unwrap();
        invariants.check(d).unwrap();
        let log = fs::read_to_string(d.path("daemon.log")).unwrap();
        assert!(!log.contains("panicked"), "{jump}: {log}");
    }
    // A daemon that starts when the clock is wrong takes over what runs.
    for jump in ["-1d", "+3650d", "+0"] {
        d.kill().unwrap();
        set(&clock, jump);
        d.start_again().unwrap();
        invariants.check(d).unwrap();
        let counted = restarts();
        own.until(&format!("{jump}: restarts go on"), || (restarts() > counted).then_some(()));
    }
    let output = command::run(d.docker().args(["stop", "-t", "0", "again", "healthy"]), b"");
    assert_eq!(output.code, Some(0), "{}", output.describe());
}

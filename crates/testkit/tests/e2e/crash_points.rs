//! The daemon, a shim or a first process killed at each step of one operation: nothing lost, nothing left.
//!
//! Each operation runs once to count its steps, then once per step that is broken: some of them in every run, in each
//! others by the seed that it tells, all of them in the long form (`cargo xtask survive --mode steps --rounds N`,
//! `--mode shims`). After each the daemon is started again, the invariants are checked, the operation is tried again and undone, and the census is as before.

use serde_json::json;
use testkit::{
    Census, Cx, Daemon, Dice, cases, command,
    cx::skip,
    daemon::Options,
    evilreg::{Content, Evil},
    image::docker_archive,
    invariants::{self, Invariants, NO_PROGRAM, census, docker, docker_with},
    steps::{self, Seen, Steps, Whose},
    suite::{Case, length, seed},
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    alone:
    the_daemon_dies_at_any_step,
    shims_and_first_processes_die_at_any_step,
];

/// One operation: what must be there before, itself, and what takes all of it away, which may find nothing to do.
pub struct Operation {
    pub name: &'static str,
    pub before: fn(&Daemon),
    pub act: fn(&Daemon, &Evil) -> anyhow::Result<()>,
    pub after: fn(&Daemon),
}

const NAME: &str = "broken";

fn nothing(_: &Daemon) {}

/// Runs the command line for what may fail.
fn may(daemon: &Daemon, args: &[&str]) {
    _ = command::run(daemon.docker().args(args), b"");
}

fn must(daemon: &Daemon, args: &[&str]) {
    docker(daemon, args).unwrap();
}

fn created(d: &Daemon) {
    must(d, &["create", "--name", NAME, "-p", "80", "-v", "/data", "busybox", "sleep", "600"]);
}

fn started(d: &Daemon) {
    created(d);
    must(d, &["start", NAME]);
}

fn no_container(d: &Daemon) {
    may(d, &["rm", "-fv", NAME]);
}

fn no_image(d: &Daemon) {
    may(d, &["rmi", "-f", NAME]);
    may(d, &["builder", "prune", "-af"]);
    may(d, &["image", "prune", "-f"]);
}

fn layer() -> Vec<u8> {
    let mut layer = Tarball::new();
    layer.dir("d").file("d/f", 0o644, "small").file("big", 0o644, vec![7; 300_000]);
    layer.finish()
}

pub static OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        before: nothing,
        act: |d, _| {
            docker(d, &["create", "--name", NAME, "-v", "/data", "busybox", "true"]).map(drop)
        },
        after: no_container,
    },
    Operation {
        name: "start",
        before: created,
        act: |d, _| docker(d, &["start", NAME]).map(drop),
        after: no_container,
    },
    Operation {
        name: "stop",
        before: started,
        act: |d, _| docker(d, &["stop", "-t", "0", NAME]).map(drop),
        after: no_container,
    },
    Operation {
        name: "rm",
        before: started,
        act: |d, _| docker(d, &["rm", "-fv", NAME]).map(drop),
        after: no_container,
    },
    Operation {
        name: "exec",
        before: started,
        act: |d, _| docker(d, &["exec", NAME, "true"]).map(drop),
        after: no_container,
    },
    Operation {
        name: "cp",
        before: created,
        act: |d, _| {
            let mut tar = Tarball::new();
            tar.file("f", 0o644, vec![1; 100_000]);
            docker_with(d, &["cp", "-", &format!("{NAME}:/tmp")], &tar.finish()).map(drop)
        },
        after: no_container,
    },
    Operation {
        name: "commit",
        before: created,
        act: |d, _| docker(d, &["commit", NAME, NAME]).map(drop),
        after: |d| {
            no_container(d);
            no_image(d);
        },
    },
    Operation {
        name: "pull",
        before: nothing,
        act: |d, evil| {
            docker(d, &["pull", "-q", &format!("{}/{NO_PROGRAM}1", evil.host())]).map(drop)
        },
        after: |d| {
            let all = docker(d, &["images", "-q", "--filter", "reference=*/loaded"]).unwrap();
            all.lines().for_each(|id| may(d, &["rmi", "-f", id]));
            no_image(d);
        },
    },
    Operation {
        name: "load",
        before: nothing,
        act: |d, _| {
            let tag = format!("{NO_PROGRAM}1");
            let archive = docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer()]);
            docker_with(d, &["load", "-q"], &archive).map(drop)
        },
        after: |d| may(d, &["rmi", "-f", &format!("{NO_PROGRAM}1")]),
    },
    Operation {
        name: "rmi",
        before: |d| {
            let tag = format!("{NO_PROGRAM}1");
            let archive = docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer()]);
            docker_with(d, &["load", "-q"], &archive).unwrap();
        },
        act: |d, _| docker(d, &["rmi", &format!("{NO_PROGRAM}1")]).map(drop),
        after: |d| may(d, &["rmi", "-f", &format!("{NO_PROGRAM}1")]),
    },
    Operation {
        name: "build",
        before: nothing,
        act: |d, _| {
            let file = "FROM busybox\nRUN echo built > /f\nENV A=b\n";
            docker_with(d, &["build", "-q", "-t", NAME, "-"], file.as_bytes()).map(drop)
        },
        after: |d| {
            // As in Docker the container of a step that failed stays.
            may(d, &["container", "prune", "-f"]);
            no_image(d);
        },
    },
    Operation {
        name: "network create",
        before: nothing,
        act: |d, _| docker(d, &["network", "create", NAME]).map(drop),
        after: |d| may(d, &["network", "rm", NAME]),
    },
    Operation {
        name: "network connect",
        before: |d| {
            started(d);
            must(d, &["network", "create", NAME]);
        },
        act: |d, _| docker(d, &["network", "connect", NAME, NAME]).map(drop),
        after: |d| {
            no_container(d);
            may(d, &["network", "rm", NAME]);
        },
    },
    Operation {
        name: "volume create",
        before: nothing,
        act: |d, _| docker(d, &["volume", "create", NAME]).map(drop),
        after: |d| may(d, &["volume", "rm", NAME]),
    },
];

/// What all points of a case share.
pub struct Bench {
    pub daemon: Daemon,
    pub evil: Evil,
    invariants: Invariants,
    before: Census,
}

impl Bench {
    pub fn new(cx: &Cx<'_>) -> Self {
        Self::on(cx, Options::new())
    }

    /// Lines of logs may be lost in order.
    #[must_use]
    pub fn losing_lines(mut self) -> Self {
        self.invariants = self.invariants.losing_lines();
        self
    }

    /// With a daemon of these options.
    pub fn on(cx: &Cx<'_>, options: Options) -> Self {
        if !cx.is_gantry() || !cx.daemon.is_own() {
            skip("needs a daemon of its own");
        }
        if !steps::available() {
            skip("strace is not installed");
        }
        let daemon = Daemon::start(options).unwrap();
        daemon.load_busybox().unwrap();
        let mut content = Content::default();
        content.image("loaded", &["1"], "linux/amd64", &[layer()]);
        let evil = Evil::start(content, |_, _| None);
        let invariants = Invariants::prepare(&daemon, &["bridge", "none"]).unwrap();
        // What stays from the first network and the first build is no leftover of a fault.
        docker(&daemon, &["run", "--rm", "-p", "80", "busybox", "true"]).unwrap();
        let before = census(&daemon);
        Self { daemon, evil, invariants, before }
    }

    /// Runs an operation, killing at a step.
    fn once(&self, operation: &Operation, kill: Option<(Whose, usize)>) -> Seen {
        let d = &self.daemon;
        (operation.before)(d);
        let steps = Steps::watch(d.pid().unwrap(), kill).unwrap();
        let outcome = (operation.act)(d, &self.evil);
        let seen = steps.end();
        if kill.is_none() {
            outcome.unwrap();
        }
        seen
    }

    /// The operation works, and can be taken back so that nothing stays.
    pub fn works_again(&self, operation: &Operation, what: &str) {
        let d = &self.daemon;
        (operation.after)(d);
        (operation.before)(d);
        if let Err(e) = (operation.act)(d, &self.evil) {
            panic!("{what}: tried again (I7): {e:#}\n{}", d.log_tail());
        }
        (operation.after)(d);
        self.nothing_left(what);
    }

    fn nothing_left(&self, what: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let left = self.invariants.leftovers(&self.daemon, &self.before);
            if left.is_empty() {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{what}: left behind (I5):\n  {}\n{}",
                left.join("\n  "),
                self.daemon.log_tail()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Removes all, stops the daemon, takes the census.
    pub fn end(&self) {
        invariants::remove_all_and_stop(&self.daemon, &self.before).unwrap();
    }

    pub fn holds(&self, what: &str) {
        if let Err(e) = self.invariants.check(&self.daemon) {
            panic!("{what}: {e:#}\n{}", self.daemon.log_tail());
        }
        let log = std::fs::read_to_string(self.daemon.path("daemon.log")).unwrap();
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
}

/// The steps of `total` that are broken: with each seed others.
fn points(total: usize, each: usize, dice: &mut Dice) -> impl Iterator<Item = usize> + use<> {
    let stride = (total / (each * length()).max(1)).max(1);
    (1 + dice.one_of(stride)..=total).step_by(stride)
}

fn the_daemon_dies_at_any_step(cx: &Cx<'_>) {
    let bench = Bench::new(cx);
    let seed = seed();
    let d = &bench.daemon;
    let mut broken = 0;
    for (part, operation) in OPERATIONS.iter().enumerate() {
        let total = bench.once(operation, None).own;
        assert!(total > 0, "{} takes no steps", operation.name);
        (operation.after)(d);
        for point in points(total, 3, &mut Dice::of_part(seed, part)) {
            let seen = bench.once(operation, Some((Whose::Own, point)));
            let call = seen.killed.as_deref().unwrap_or("nothing");
            let what = format!(
                "seed {seed}: {}, killed at step {point} of {total}, {call}",
                operation.name
            );
            if seen.killed.is_some() {
                broken += 1;
                d.wait().unwrap();
                d.start_again().unwrap();
            }
            bench.holds(&what);
            bench.works_again(operation, &what);
        }
    }
    println!("         {broken} crash points of {} operations", OPERATIONS.len());
    assert!(broken > OPERATIONS.len(), "only {broken} points were reached");
    bench.end();
}

fn shims_and_first_processes_die_at_any_step(cx: &Cx<'_>) {
    let bench = Bench::new(cx);
    let seed = seed();
    let d = &bench.daemon;
    let mut broken = 0;
    let mortal = ["start", "stop", "rm", "exec", "build", "network connect"];
    for (part, operation) in OPERATIONS.iter().enumerate().filter(|(_, o)| mortal.contains(&o.name))
    {
        let total = bench.once(operation, None).children;
        (operation.after)(d);
        for point in points(total, 4, &mut Dice::of_part(seed, part)) {
            let seen = bench.once(operation, Some((Whose::Children, point)));
            let call = seen.killed.as_deref().unwrap_or("nothing");
            let what = format!(
                "seed {seed}: {}, child killed at {point} of {total}, {call}",
                operation.name
            );
            broken += usize::from(seen.killed.is_some());
            assert!(d.answers(), "{what}");
            bench.holds(&what);
            bench.works_again(operation, &what);
        }
    }
    println!("         {broken} kills of shims and first processes");
    assert!(broken > mortal.len(), "only {broken} points were reached");
    bench.end();
}

//! The disk under the daemon's data: full, without inodes, failing, without power. What fails says so and leaves nothing;
//! what was acknowledged is there; containers go on.
//!
//! What is scarce, which calls fail and when the power goes differs with each run by the seed that it tells. The long
//! form is `cargo xtask survive --mode disk --rounds N`.

use crate::crash_points::{Bench, OPERATIONS, Operation};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use testkit::{
    Cx, Daemon, Dice, cases, command,
    cx::skip,
    daemon::Options,
    disk::Disk,
    image::docker_archive,
    invariants::{Invariants, NO_PROGRAM, docker, docker_with, images_are_whole},
    steps::Failing,
    suite::{Case, length, seed},
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    alone:
    a_full_disk_is_told_and_leaves_nothing,
    missing_inodes_are_told_and_leave_nothing,
    failing_calls_are_told_and_leave_nothing,
    without_power_nothing_acknowledged_is_lost,
];

/// Gives space back when it is dropped.
struct Space<'d>(&'d Disk);

impl Drop for Space<'_> {
    fn drop(&mut self) {
        _ = self.0.free();
    }
}

/// How many degrees of scarcity there are.
const LEVELS: usize = 5;

/// Runs every operation while `scarce` leaves it so little, from nothing to plenty.
fn sweep(cx: &Cx<'_>, disk: &Disk, scarce: impl Fn(&Disk, usize), steps: usize) {
    let seed = seed();
    let bench = Bench::on(cx, Options::new().data_root(&disk.root().join("data")));
    let bench = bench.losing_lines();
    // Dropped first, so that the daemon can be taken down when a step fails.
    let _space = Space(disk);
    let d = &bench.daemon;
    let mut refused = 0;
    for (part, operation) in OPERATIONS.iter().enumerate() {
        let first = Dice::of_part(seed, part).one_of(LEVELS);
        for step in first..first + steps * length() {
            (operation.before)(d);
            scarce(disk, step);
            let outcome = (operation.act)(d, &bench.evil);
            let what = format!("seed {seed}: {} with little of {}", operation.name, step % LEVELS);
            if let Err(e) = outcome {
                refused += 1;
                let text = format!("{e:#}");
                // The last is the client's word for a path that it could not ask about.
                let told = [
                    "no space left",
                    "must be a directory",
                    "disk is full",
                    "disk full",
                    "enough space",
                ];
                assert!(
                    told.iter().any(|t| text.to_lowercase().contains(t)),
                    "{what}: does not say why: {text}\n{}",
                    d.log_tail()
                );
            }
            assert!(d.answers(), "{what}: {}", d.log_tail());
            disk.free().unwrap();
            bench.holds(&what);
            bench.works_again(operation, &what);
        }
    }
    println!("         {refused} operations were refused for want of space");
    assert!(refused > 0, "nothing was refused");
    bench.end();
}

fn a_full_disk_is_told_and_leaves_nothing(cx: &Cx<'_>) {
    let Ok(disk) = Disk::ext4(96) else { skip("no loop device is left") };
    let leave =
        |disk: &Disk, step: usize| disk.fill([0, 24, 200, 400, 4000][step % LEVELS]).unwrap();
    sweep(cx, &disk, leave, 2);
}

fn missing_inodes_are_told_and_leave_nothing(cx: &Cx<'_>) {
    let Ok(disk) = Disk::memory(96, 4000) else { skip("no memory disk is to be had") };
    sweep(cx, &disk, |disk, step| disk.use_inodes([0, 1, 3, 8, 20][step % LEVELS]).unwrap(), 1);
}

/// Calls that fail, and how.
const FAILURES: &[(&str, &str)] = &[
    ("fsync,fdatasync,syncfs", "EIO"),
    ("pwrite64", "EIO"),
    ("rename,renameat,renameat2", "EIO"),
    ("mkdir,mkdirat", "ENOSPC"),
    ("openat,openat2", "EMFILE"),
    ("socket,socketpair,pipe2", "EMFILE"),
    ("clone3,clone,vfork", "EAGAIN"),
    ("sendto,sendmsg", "ENOBUFS"),
];

fn failing_calls_are_told_and_leave_nothing(cx: &Cx<'_>) {
    let bench = Bench::new(cx);
    let d = &bench.daemon;
    let seed = seed();
    let mut failed = 0;
    for (part, operation) in OPERATIONS.iter().enumerate() {
        let mut dice = Dice::of_part(seed, part);
        for _ in 0..2 * length() {
            let (calls, error) = FAILURES[dice.one_of(FAILURES.len())];
            let what = format!("seed {seed}: {}", operation.name);
            failed += fail_once(&bench, operation, &what, (calls, error, 1 + dice.one_of(6)));
        }
    }
    println!("         {failed} calls failed");
    assert!(failed > 0, "no call failed");
    assert!(d.answers());
    bench.end();
}

/// One operation with failing calls: it ends, the daemon lives, or was told to end by what it cannot do without.
fn fail_once(
    bench: &Bench,
    operation: &Operation,
    what: &str,
    (calls, error, nth): (&str, &str, usize),
) -> usize {
    let d = &bench.daemon;
    (operation.before)(d);
    let failing = Failing::inject(d.pid().unwrap(), calls, error, nth).unwrap();
    let outcome = (operation.act)(d, &bench.evil);
    let failed = failing.end();
    let what = format!("{what}, {error} at {nth} of {calls}: {outcome:?}");
    assert!(d.answers(), "{what}: {}", d.log_tail());
    bench.holds(&what);
    bench.works_again(operation, &what);
    failed
}

/// What the daemon said yes to, which a power cut must not take.
#[derive(Default)]
struct Acknowledged {
    images: Mutex<BTreeSet<String>>,
}

/// Loads and tags images and writes volumes until told to stop; notes what was acknowledged.
fn busy(d: &Daemon, acknowledged: &Acknowledged, round: usize, stop: &AtomicBool) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let tag = format!("{NO_PROGRAM}{round}-{n}");
        let mut layer = Tarball::new();
        layer.file("f", 0o644, &tag).file("big", 0o644, vec![(n % 251) as u8; 200_000]);
        let archive = docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer.finish()]);
        let load = command::run(d.docker().args(["load", "-q"]), &archive);
        if load.code == Some(0) {
            acknowledged.images.lock().unwrap().insert(tag.clone());
        }
        _ = command::run(
            d.docker().args(["create", "--name", &format!("c{round}-{n}"), "-v", "/v", "busybox"]),
            b"",
        );
        let file = format!("FROM busybox\nRUN echo {tag} > /f\n");
        let built = format!("built:{round}-{n}");
        let build =
            command::run(d.docker().args(["build", "-q", "-t", &built, "-"]), file.as_bytes());
        if build.code == Some(0) {
            acknowledged.images.lock().unwrap().insert(built);
        }
    }
}

/// Waits until there is more to lose.
fn some_more(acknowledged: &Acknowledged) {
    let count = || acknowledged.images.lock().unwrap().len();
    let (before, deadline) = (count(), Instant::now() + Duration::from_secs(60));
    while count() < before + 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills all processes of the daemon and its containers, as a power cut does.
fn kill_all(d: &Daemon) {
    d.kill().unwrap();
    d.kill_processes();
    // A machine that starts again has an empty folder for what runs.
    _ = std::fs::remove_dir_all(d.path("exec"));
}

fn without_power_nothing_acknowledged_is_lost(cx: &Cx<'_>) {
    if !cx.is_gantry() || !cx.daemon.is_own() {
        skip("needs a daemon of its own");
    }
    let Ok(mut disk) = Disk::ext4(400) else { skip("no loop device is left") };
    let d = Daemon::start(Options::new().data_root(&disk.root().join("data"))).unwrap();
    d.load_busybox().unwrap();
    let before = testkit::invariants::census(&d);
    let invariants = Invariants::prepare(&d, &[]).unwrap();
    docker(&d, &["network", "create", "kept"]).unwrap();
    let acknowledged = Acknowledged::default();
    let seed = seed();
    let mut dice = Dice::new(seed);
    for round in 1..=2 * length() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for lane in 0..2 {
                let (d, acknowledged, stop) = (&d, &acknowledged, &stop);
                scope.spawn(move || busy(d, acknowledged, round * 2 + lane, stop));
            }
            some_more(&acknowledged);
            std::thread::sleep(Duration::from_millis(dice.below(2000)));
            disk.cut().unwrap();
            stop.store(true, Ordering::Relaxed);
            kill_all(&d);
        });
        disk.after_cut().unwrap();
        d.start_again().with_context(|| format!("seed {seed}, round {round} (I6)")).unwrap();
        invariants.check_after_power_cut(&d).unwrap();
        images_are_there(&d, &acknowledged, round);
        for container in d.api().get("/containers/json?all=1").expect(200).as_array().unwrap() {
            let id = container["Id"].as_str().unwrap();
            docker(&d, &["start", id]).with_context(|| format!("round {round} (I9)")).unwrap();
            assert_eq!(d.api().delete(&format!("/containers/{id}?force=1&v=1")).status(), 204);
        }
        // What was under way works now.
        docker_with(&d, &["build", "-q", "-"], b"FROM busybox\nRUN echo again > /again\n").unwrap();
        docker(&d, &["run", "--rm", "--network", "kept", "busybox", "true"]).unwrap();
    }
    docker(&d, &["network", "rm", "kept"]).unwrap();
    let all = acknowledged.images.lock().unwrap().len();
    println!("         {} power cuts, {all} acknowledged images", 2 * length());
    assert!(all > 2, "only {all} images were acknowledged");
    testkit::invariants::remove_all_and_stop(&d, &before).unwrap();
}

fn images_are_there(d: &Daemon, acknowledged: &Acknowledged, round: usize) {
    let images: Value = d.api().get("/images/json").expect(200);
    let listed: BTreeSet<String> = images
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|i| i["RepoTags"].as_array().cloned().unwrap_or_default())
        .filter_map(|t| t.as_str().map(str::to_owned))
        .collect();
    let wanted = acknowledged.images.lock().unwrap();
    let lost: Vec<_> = wanted.difference(&listed).collect();
    assert!(lost.is_empty(), "round {round}: acknowledged and lost (I9): {lost:?}");
    images_are_whole(d).unwrap();
}

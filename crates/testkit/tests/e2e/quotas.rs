//! Bounds of writable layers and volumes, by project quotas of the data root's file system.

use serde_json::{Value, json};
use testkit::{Cx, Daemon, cases, command, cx::skip, daemon::Options, disk::Disk, suite::Case};

pub const CASES: &[Case] = cases![
    bounds_hold_on_xfs,
    bounds_hold_on_ext4,
    the_daemons_default_bounds_layers,
    where_there_are_no_projects_bounds_are_refused,
];

const MIB: u64 = 1 << 20;

/// A disk with projects, or the case is skipped: kernels may be built without them.
fn disk(cx: &Cx<'_>, kind: &str) -> Disk {
    if !cx.is_gantry() {
        skip("dockerd has bounds on xfs alone");
    }
    match Disk::with_projects(kind, 400) {
        Ok(disk) => disk,
        Err(why) => skip(&format!("no {kind} with project quotas here: {why:#}")),
    }
}

fn daemon(disk: &Disk, args: &[&str]) -> Daemon {
    let options = Options::new().without_bridge().data_root(&disk.root()).args(args);
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn docker(daemon: &Daemon, args: &[&str]) -> command::Output {
    command::run(daemon.docker().args(args), b"")
}

/// Writes as much as goes into `/at/big`, up to `most` MiB; the MiB that went.
fn fill(daemon: &Daemon, options: &[&str], at: &str, most: u64) -> u64 {
    let script = format!(
        "dd if=/dev/zero of={at}/big bs=64k count={} conv=fsync 2>&1 | tail -1 >&2; stat -c %s {at}/big; rm {at}/big",
        most * 16
    );
    let args =
        [&["run", "--rm", "--net=none"], options, &["busybox", "sh", "-c", &script]].concat();
    docker(daemon, &args).ok().parse::<u64>().unwrap() / MIB
}

fn bounds_hold_on_xfs(cx: &Cx<'_>) {
    bounds_hold(&disk(cx, "xfs"));
}

fn bounds_hold_on_ext4(cx: &Cx<'_>) {
    bounds_hold(&disk(cx, "ext4"));
}

fn bounds_hold(disk: &Disk) {
    let daemon = daemon(disk, &[]);
    // A layer: what is written counts, what the image has does not.
    let bound = ["--storage-opt", "size=10m"];
    let got = fill(&daemon, &bound, "/tmp", 40);
    assert!((8..=10).contains(&got), "{got} MiB");
    assert_eq!(fill(&daemon, &[], "/tmp", 40), 40);
    let args = [&["create", "--name", "kept", "--net=none"], &bound[..], &["busybox"]].concat();
    docker(&daemon, &args).ok();
    let kept: Value = docker(&daemon, &["inspect", "kept"]).json();
    assert_eq!(kept[0]["HostConfig"]["StorageOpt"], json!({"size": "10m"}));

    // A volume: filled from the image, shared, and after a restart of the daemon.
    docker(&daemon, &["volume", "create", "-o", "size=10m", "small"]).ok();
    docker(&daemon, &["run", "--rm", "--net=none", "-v", "small:/etc", "busybox", "true"]).ok();
    let names =
        docker(&daemon, &["run", "--rm", "--net=none", "-v", "small:/v", "busybox", "ls", "/v"]);
    assert!(names.ok().contains("passwd"), "{}", names.describe());
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    let got = fill(&daemon, &["-v", "small:/v"], "/v", 40);
    assert!((8..=10).contains(&got), "{got} MiB");
    let other = ["volume", "create", "-o", "size=20m", "other"];
    docker(&daemon, &other).ok();
    let got = fill(&daemon, &["-v", "other:/v"], "/v", 40);
    assert!((18..=20).contains(&got), "{got} MiB");
    let script = "dd if=/dev/zero of=/v/f bs=1M count=3 2>/dev/null";
    docker(
        &daemon,
        &["run", "--rm", "--net=none", "-v", "other:/v", "busybox", "sh", "-c", script],
    )
    .ok();
    let usage = daemon.api().get("/system/df?type=volume").json();
    let of = |name: &str| {
        let all = usage["Volumes"].as_array().unwrap();
        all.iter().find(|v| v["Name"] == name).unwrap()["UsageData"]["Size"].as_u64().unwrap()
    };
    assert_eq!(of("other"), 3 * MIB);
    // A copy has the bound of what it is a copy of.
    let body = json!({"Name": "copy"});
    assert_eq!(daemon.api().post("/volumes/other/clone", &body).status(), 201);
    let got = fill(&daemon, &["-v", "copy:/v"], "/v", 40);
    assert!((15..=17).contains(&got), "{got} MiB");

    for options in [&["--storage-opt", "size=x"][..], &["--storage-opt", "bogus=1"]] {
        let args = [&["create"], options, &["busybox"]].concat();
        assert_eq!(docker(&daemon, &args).code, Some(1));
    }
    docker(&daemon, &["rm", "kept"]).ok();
    docker(&daemon, &["volume", "rm", "small", "other", "copy"]).ok();
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn the_daemons_default_bounds_layers(cx: &Cx<'_>) {
    let disk = disk(cx, "ext4");
    let daemon = daemon(&disk, &["--storage-opt", "overlay2.size=10m"]);
    let got = fill(&daemon, &[], "/tmp", 40);
    assert!((8..=10).contains(&got), "{got} MiB");
    let got = fill(&daemon, &["--storage-opt", "size=20m"], "/tmp", 40);
    assert!((18..=20).contains(&got), "{got} MiB");
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn where_there_are_no_projects_bounds_are_refused(cx: &Cx<'_>) {
    let disk = Disk::memory(200, 20_000).unwrap();
    let daemon = daemon(&disk, &[]);
    docker(&daemon, &["create", "--storage-opt", "size=10m", "busybox"]).fails_with(
        1,
        &["--storage-opt is supported only for overlay over xfs with 'pquota' mount option"],
    );
    docker(&daemon, &["volume", "create", "-o", "size=10m", "bounded"])
        .fails_with(1, &["quota size requested but no quota support"]);
    assert_eq!(docker(&daemon, &["volume", "ls", "-q"]).ok(), "");
    assert_eq!(daemon.stop().unwrap(), 0);
    if cx.is_gantry() {
        let mut command = daemon.command().unwrap();
        command.args(["--storage-opt", "overlay2.size=10m"]);
        command::run(&mut command, b"")
            .fails_with(1, &["Storage option overlay2.size not supported"]);
    }
}

//! podman with the shim as its runtime.

use crate::oci_runtime::{Rig, SLEEPER, shim};
use std::{path::Path, process::Command};
use testkit::{Cx, Output, cases, cx::skip, host, suite::Case};

// Each takes away the control groups that all podmans share.
pub const CASES: &[Case] = cases![alone: podman_uses_it, podman_maps_users];

/// What podman puts its control groups into.
const GROUPS: &str = "libpod_parent";

/// The limits that podman asks for by itself are more than every machine gives.
const RUN: [&str; 7] =
    ["run", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=4000:4000", "--network", "none"];

/// A podman with a storage of the case's own and the image `box`.
struct Podman<'c, 'd> {
    cx: &'c Cx<'d>,
    /// Another podman has control groups here, which stay.
    others: bool,
}

impl<'c, 'd> Podman<'c, 'd> {
    fn new(cx: &'c Cx<'d>) -> Self {
        if !cx.is_gantry() {
            skip("it is Gantry's runtime that is under test");
        }
        if !Path::new("/usr/bin/podman").exists() {
            skip("podman is not installed");
        }
        let others = !host::control_groups(GROUPS).is_empty();
        let this = Self { cx, others };
        let rig = Rig::new(cx, "true");
        let tar = cx.dir().join("root.tar").display().to_string();
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(cx.dir().join("bundle/rootfs")).args(["-cf", &tar, "."]);
        testkit::command::run(&mut pack, b"").ok();
        drop(rig);
        this.call(&["import", "-q", &tar, "box"]).ok();
        this
    }

    fn call(&self, args: &[&str]) -> Output {
        let dir = self.cx.dir();
        let mut command = Command::new("/usr/bin/podman");
        command.arg("--root").arg(dir.join("podman")).arg("--runroot").arg(dir.join("run"));
        command.arg("--runtime").arg(shim()).args(["--storage-driver", "vfs"]);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(dir.join("tmp")).args(args);
        testkit::command::run(&mut command, b"")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.call(&[&RUN[..], args].concat())
    }

    /// podman's own clean-up after a stop may still hold the container's mounts, whatever the runtime.
    fn remove(&self, name: &str) {
        let removed = || self.call(&["rm", "-f", name]).code == Some(0);
        self.cx.until("it is removed", || removed().then_some(()));
    }

    /// It leaves the folder of its groups to the next container.
    fn end(self) {
        self.call(&["rmi", "-f", "box"]).ok();
        if !self.others {
            self.cx.until("podman's control groups are gone", || {
                host::remove_control_groups(GROUPS);
                host::control_groups(GROUPS).is_empty().then_some(())
            });
        }
    }
}

fn podman_uses_it(cx: &Cx<'_>) {
    let podman = Podman::new(cx);
    let once = podman.run(&["--rm", "box", "sh", "-c", "cat /proc/1/comm; exit 3"]);
    assert_eq!(once.code(3), "sh");
    podman.run(&["-d", "--name", "a", "box", "sh", "-c", SLEEPER]).ok();
    podman.call(&["exec", "a", "sh", "-c", "exit 6"]).code(6);
    assert_eq!(podman.call(&["exec", "-u", "7:8", "a", "id", "-u"]).ok(), "7");
    podman.call(&["pause", "a"]).ok();
    podman.call(&["unpause", "a"]).ok();
    assert!(podman.call(&["top", "a"]).ok().contains("trap 'exit 4'"));
    let logged = || podman.call(&["logs", "a"]).ok().contains("up");
    cx.until("its output is logged", || logged().then_some(()));
    podman.call(&["stop", "-t", "20", "a"]).ok();
    assert_eq!(podman.call(&["inspect", "a", "--format", "{{.State.ExitCode}}"]).ok(), "4");
    podman.remove("a");
    podman.run(&["--rm", "box", "no-such"]).code(127);
    let copied = podman.run(&["--rm", "--tmpfs", "/bin:exec", "box", "sh", "-c", "echo copied"]);
    assert_eq!(copied.ok(), "copied");
    podman.end();
}

fn podman_maps_users(cx: &Cx<'_>) {
    let podman = Podman::new(cx);
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"];
    let look = "cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u:%g /bin /dev/null; touch /new && stat -c %u:%g /new";
    let mapped = |options: &[&str], script: &str| {
        podman.run(&[&["--rm"], options, &["box", "sh", "-c", script]].concat())
    };
    let once = mapped(&maps, look);
    let words: Vec<&str> = once.ok().split_whitespace().collect();
    let (ids, owners) = words.split_at(6);
    assert_eq!(ids, ["0", "100000", "65536", "0", "200000", "65536"], "{}", once.describe());
    assert_eq!(owners, ["0", "0:0", "0:0", "0:0"], "{}", once.describe());
    podman.run(&[&maps[..], &["-d", "--name", "a", "box", "sh", "-c", SLEEPER]].concat()).ok();
    let pid = podman.call(&["inspect", "a", "--format", "{{.State.Pid}}"]).ok().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");
    let exec = podman.call(&[
        "exec",
        "-u",
        "7:8",
        "a",
        "sh",
        "-c",
        "id -u; id -g; cat /proc/self/uid_map",
    ]);
    assert!(exec.ok().starts_with("7\n8\n"), "{}", exec.describe());
    assert!(exec.ok().contains("100000"), "{}", exec.describe());
    let terminal = podman.call(&["exec", "-t", "a", "sh", "-c", "stat -c %u:%g /dev/pts/0"]);
    assert!(terminal.ok().starts_with("0:5"), "{}", terminal.describe());
    // Another in the same namespace: podman gives its path.
    let user = "readlink /proc/self/ns/user";
    let shared = mapped(&["--userns", "container:a", "--pid", "container:a"], user);
    assert_eq!(shared.ok(), podman.call(&["exec", "a", "sh", "-c", user]).ok());
    let volume = cx.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let bind = format!("{}:/v:idmap", volume.display());
    let shown = mapped(&[&maps[..], &["-v", &bind]].concat(), "stat -c %u:%g /v");
    if !shown.stderr.contains("cannot map owners") {
        assert_eq!(shown.ok(), "0:0");
    }
    podman.call(&["stop", "-t", "20", "a"]).ok();
    assert_eq!(podman.call(&["inspect", "a", "--format", "{{.State.ExitCode}}"]).ok(), "4");
    podman.remove("a");
    podman.end();
}

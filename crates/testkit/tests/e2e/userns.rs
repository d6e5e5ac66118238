//! `--userns-remap`: containers whose root is nobody on the host.

use serde_json::json;
use std::{fs, os::unix::fs::MetadataExt as _};
use testkit::{Cx, Daemon, cases, command, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    root_inside_is_nobody_outside,
    files_keep_their_owners_in_layers_and_volumes,
    copies_in_and_out_have_the_owners_of_the_inside,
    further_processes_are_mapped_too_also_after_a_kill,
    what_needs_the_hosts_users_is_refused,
    namespaces_are_shared_among_mapped_containers,
    builds_are_mapped_and_give_the_same_images,
];

/// A daemon of the case's own whose containers are remapped, and the first user that they are.
fn remapped(cx: &Cx<'_>, options: Options) -> (Daemon, u32) {
    if !cx.is_gantry() {
        testkit::cx::skip("dockerd makes users and folders of its own for it");
    }
    let daemon = Daemon::start(options.args(&["--userns-remap", "default"])).unwrap();
    daemon.load_busybox().unwrap();
    let output =
        docker(&daemon, &["run", "--rm", "--net=none", "busybox", "cat", "/proc/self/uid_map"]);
    if output.stderr.contains("its file system cannot map owners") {
        testkit::cx::skip(
            "the folder for temporary files is on a file system that cannot map owners",
        );
    }
    let mut words = output.ok().split_whitespace().map(|w| w.parse::<u32>().unwrap());
    let (inside, outside, size) =
        (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    assert!(inside == 0 && outside >= 100_000 && size >= 65_536, "{outside} {size}");
    (daemon, outside)
}

fn alone(cx: &Cx<'_>) -> (Daemon, u32) {
    remapped(cx, Options::new().without_bridge())
}

fn docker(daemon: &Daemon, args: &[&str]) -> command::Output {
    command::run(daemon.docker().args(args), b"")
}

fn run(daemon: &Daemon, options: &[&str], script: &str) -> String {
    let args = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
    docker(daemon, &args).ok().to_owned()
}

/// User and group of a process, as the host sees them.
fn owner_of(daemon: &Daemon, name: &str) -> (u32, u32) {
    let pid = docker(daemon, &["inspect", "-f", "{{.State.Pid}}", name]).ok().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("Uid:"), of("Gid:"))
}

fn root_inside_is_nobody_outside(cx: &Cx<'_>) {
    let (daemon, first) = remapped(cx, Options::new());
    docker(&daemon, &["run", "-d", "--name", "root", "busybox", "sleep", "1000"]).ok();
    docker(&daemon, &["run", "-d", "--name", "user", "-u", "7:8", "busybox", "sleep", "1000"]).ok();
    assert_eq!(owner_of(&daemon, "root"), (first, first));
    assert_eq!(owner_of(&daemon, "user"), (first + 7, first + 8));
    assert_eq!(docker(&daemon, &["exec", "user", "id", "-u"]).ok(), "7");
    // What belongs to it: devices, streams, message queues, memory, its own network; limits can be raised.
    let own = run(
        &daemon,
        &["--ulimit", "nofile=4096:8192", "--cap-add", "NET_ADMIN", "--tmpfs", "/t:uid=5,gid=6"],
        "for f in /dev /dev/null /dev/shm /dev/mqueue /t /etc/hosts; do stat -c '%n %u:%g' $f; done
         echo to-stdout > /dev/stdout; echo x > /dev/null; touch /dev/shm/x; ulimit -Hn
         ip link add dummy7 type dummy 2>/dev/null || ip addr add 10.9.9.9/32 dev lo && echo network
         nc -l -p 80 -w 1 </dev/null >/dev/null 2>&1; hostname",
    );
    let lines: Vec<&str> = own.lines().collect();
    assert_eq!(
        lines[..8],
        [
            "/dev 0:0",
            "/dev/null 0:0",
            "/dev/shm 0:0",
            "/dev/mqueue 0:0",
            "/t 5:6",
            "/etc/hosts 0:0",
            "to-stdout",
            "8192"
        ],
        "{own}"
    );
    assert_eq!(lines[8], "network", "{own}");
    // What is the host's stays so.
    let host = run(
        &daemon,
        &["-v", "/etc:/host", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"],
        "stat -c '%u' /host/passwd; cat /host/shadow 2>&1 >/dev/null | grep -c denied
         touch /host/x 2>/dev/null || echo no; echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo no
         umount /proc/sys 2>/dev/null || echo locked; mount -t tmpfs t /tmp && echo mounted",
    );
    assert_eq!(host, "65534\n1\nno\nno\nlocked\nmounted");
    let info = docker(&daemon, &["info", "-f", "{{.SecurityOptions}}"]);
    assert!(info.ok().contains("name=userns"), "{}", info.describe());
    docker(&daemon, &["rm", "-f", "root", "user"]).ok();
}

fn files_keep_their_owners_in_layers_and_volumes(cx: &Cx<'_>) {
    let (daemon, _) = alone(cx);
    let net = "--net=none";
    docker(
        &daemon,
        &[
            "run",
            "--name",
            "made",
            net,
            "-v",
            "data:/data",
            "busybox",
            "sh",
            "-c",
            "touch /f /data/g; chown 3:4 /f /data/g; mkdir /d; chmod 4755 /f",
        ],
    )
    .ok();
    // They are stored as the container sees them, so that others without a mapping see the same.
    let volume = daemon.path("root").join("volumes");
    let found = fs::read_dir(&volume)
        .unwrap()
        .flatten()
        .find_map(|e| ["_data/g", "g"].iter().find_map(|f| fs::metadata(e.path().join(f)).ok()));
    let stored = found.unwrap();
    assert_eq!((stored.uid(), stored.gid()), (3, 4));
    let look = "stat -c '%u:%g %a' /f /d /data/g 2>/dev/null; stat -c %u:%g /data/g";
    docker(&daemon, &["commit", "made", "image"]).ok();
    let changes = docker(&daemon, &["diff", "made"]);
    assert!(changes.ok().contains("A /f"), "{}", changes.describe());
    for userns in ["", "host"] {
        let userns = format!("--userns={userns}");
        let args = ["run", "--rm", net, &userns, "-v", "data:/data", "image", "sh", "-c", look];
        assert_eq!(docker(&daemon, &args).ok(), "3:4 4755\n0:0 755\n3:4 644\n3:4", "{userns}");
    }
    let mapped = docker(
        &daemon,
        &["run", "--rm", net, "--userns=host", "busybox", "cat", "/proc/self/uid_map"],
    );
    assert!(mapped.ok().split_whitespace().eq(["0", "0", "4294967295"]), "{}", mapped.describe());
    docker(&daemon, &["rm", "-v", "made"]).ok();
    docker(&daemon, &["volume", "rm", "data"]).ok();
}

fn copies_in_and_out_have_the_owners_of_the_inside(cx: &Cx<'_>) {
    let (daemon, _) = alone(cx);
    docker(
        &daemon,
        &[
            "run",
            "-d",
            "--name",
            "cc",
            "--net=none",
            "-u",
            "9:9",
            "busybox",
            "sh",
            "-c",
            "mkdir /tmp/own && touch /tmp/own/f && sleep 1000",
        ],
    )
    .ok();
    let there = || docker(&daemon, &["exec", "cc", "ls", "/tmp/own/f"]).code == Some(0);
    cx.until("the file is there", || there().then_some(()));
    let owners = |args: &[&str]| {
        let tar = docker(&daemon, args);
        tar.ok();
        let dir = cx.dir().join("list.tar");
        fs::write(&dir, &tar.bytes).unwrap();
        let list = command::run(
            std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(dir),
            b"",
        );
        list.ok().to_owned()
    };
    let line = |list: &str, name: &str| {
        list.lines()
            .find(|l| l.ends_with(name))
            .unwrap_or_else(|| panic!("no {name} in {list}"))
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(line(&owners(&["cp", "cc:/tmp/own", "-"]), "own/f"), "9/9");
    let whole = owners(&["export", "cc"]);
    assert_eq!(
        (line(&whole, "tmp/own/f"), line(&whole, "etc/passwd")),
        ("9/9".into(), "0/0".into())
    );
    let file = cx.write("in", "text");
    std::os::unix::fs::chown(&file, Some(11), Some(12)).unwrap();
    let path = file.display().to_string();
    docker(&daemon, &["cp", &path, "cc:/tmp/own/plain"]).ok();
    docker(&daemon, &["cp", "-a", &path, "cc:/tmp/own/kept"]).ok();
    let inside =
        docker(&daemon, &["exec", "cc", "stat", "-c", "%u:%g", "/tmp/own/plain", "/tmp/own/kept"]);
    assert_eq!(inside.ok(), "11:12\n9:9");
    docker(&daemon, &["stop", "-t", "0", "cc"]).ok();
    docker(&daemon, &["cp", &path, "cc:/tmp/own/still"]).ok();
    assert_eq!(line(&owners(&["cp", "cc:/tmp/own", "-"]), "own/still"), "11/12");
    docker(&daemon, &["rm", "cc"]).ok();
}

fn further_processes_are_mapped_too_also_after_a_kill(cx: &Cx<'_>) {
    let (daemon, first) = alone(cx);
    docker(
        &daemon,
        &["run", "-d", "--name", "cc", "--net=none", "--init", "busybox", "sleep", "1000"],
    )
    .ok();
    let check = || {
        let script = "cat /proc/self/uid_map; id -u; touch /exec-was-here && stat -c %u /exec-was-here; echo out > /dev/stdout";
        let told = docker(&daemon, &["exec", "cc", "sh", "-c", script]);
        let words: Vec<&str> = told.ok().split_whitespace().collect();
        assert_eq!(words[1], first.to_string(), "{}", told.describe());
        assert_eq!(words[3..], ["0", "0", "out"], "{}", told.describe());
        let as_user =
            docker(&daemon, &["exec", "-u", "5", "cc", "sh", "-c", "id -u; echo x >/dev/stderr"]);
        assert_eq!(as_user.ok(), "5");
        let on_terminal = docker(
            &daemon,
            &["exec", "-t", "cc", "sh", "-c", "stat -L -c %u:%g /proc/self/fd/0; tty"],
        );
        assert!(on_terminal.ok().starts_with("0:5"), "{}", on_terminal.describe());
    };
    check();
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    check();
    docker(&daemon, &["restart", "-t", "0", "cc"]).ok();
    check();
    docker(&daemon, &["rm", "-f", "cc"]).ok();
}

fn what_needs_the_hosts_users_is_refused(cx: &Cx<'_>) {
    let (daemon, _) = remapped(cx, Options::new());
    for (options, words) in [
        (&["--privileged"][..], "privileged mode is incompatible with user namespaces"),
        (&["--network=host"], "cannot share the host's network namespace"),
        (&["--pid=host"], "cannot share the host PID namespace"),
    ] {
        let args = [&["run", "--rm"], options, &["busybox", "true"]].concat();
        docker(&daemon, &args).fails_with(125, &[words]);
        let args = [&["run", "--rm", "--userns=host"], options, &["busybox", "true"]].concat();
        docker(&daemon, &args).ok();
    }
    docker(&daemon, &["run", "--rm", "--net=none", "-u", "4000000", "busybox", "true"])
        .fails_with(125, &["unable to become user 4000000"]);
}

fn namespaces_are_shared_among_mapped_containers(cx: &Cx<'_>) {
    let (daemon, first) = alone(cx);
    docker(
        &daemon,
        &["run", "-d", "--name", "aa", "--net=none", "--ipc=shareable", "busybox", "sleep", "1000"],
    )
    .ok();
    let link = |script: &str| {
        run(
            &daemon,
            &[
                "--net=container:aa",
                "--ipc=container:aa",
                "--pid=container:aa",
                "--cap-add=NET_ADMIN",
            ],
            script,
        )
    };
    let own = docker(&daemon, &["exec", "aa", "readlink", "/proc/self/ns/user"]).ok().to_owned();
    let told = link(
        "readlink /proc/self/ns/user; awk '{print $2}' /proc/self/uid_map; ip addr add 10.9.9.9/32 dev lo && echo network; touch /dev/shm/shared; kill -0 1 && echo sees",
    );
    assert_eq!(told, format!("{own}\n{first}\nnetwork\nsees"));
    assert_eq!(docker(&daemon, &["exec", "aa", "ls", "/dev/shm"]).ok(), "shared");
    docker(&daemon, &["rm", "-f", "aa"]).ok();
}

fn builds_are_mapped_and_give_the_same_images(cx: &Cx<'_>) {
    let (daemon, first) = alone(cx);
    let dir = cx.dir();
    fs::write(
        dir.join("Dockerfile"),
        "FROM busybox\nCOPY --chown=3:4 f /f\nRUN cat /proc/self/uid_map > /map; touch /r; chown 5:6 /r\nUSER 7\nRUN id -u > /tmp/u\n",
    )
    .unwrap();
    fs::write(dir.join("f"), "x").unwrap();
    let folder = dir.display().to_string();
    let built = command::run(
        daemon.docker().env("DOCKER_BUILDKIT", "0").args([
            "build",
            "--network=none",
            "-t",
            "built",
            &folder,
        ]),
        b"",
    );
    built.ok();
    for userns in ["--userns=", "--userns=host"] {
        let look = "stat -c '%u:%g' /f /r /tmp/u; awk '{print $2}' /map";
        let args = ["run", "--rm", "--net=none", userns, "-u", "0", "built", "sh", "-c", look];
        assert_eq!(docker(&daemon, &args).ok(), format!("3:4\n5:6\n7:0\n{first}"), "{userns}");
    }
    let inspect = docker(&daemon, &["inspect", "built"]).json();
    assert_eq!(inspect[0]["Config"]["User"], json!("7"));
}

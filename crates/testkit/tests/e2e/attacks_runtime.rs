//! What a container's processes try against the machine, through every door that starts one: `run`, `exec`,
//! the health check and `RUN` of a build.
//!
//! Most cases ask a static program of the test's own (`testkit::probe`) and compare its answers with a table.

use serde_json::json;
use std::{collections::BTreeSet, fs, path::PathBuf};
use testkit::{
    Cx, cases,
    cx::skip,
    probe,
    suite::Case,
    tarball::{Entry, Tarball},
};

pub const CASES: &[Case] = cases![
    nothing_but_standard_streams_is_inherited,
    no_door_begins_in_a_folder_of_proc,
    system_calls_are_judged_the_same_by_every_number,
    who_traces_a_joining_process_finds_nothing_of_the_engine,
    capabilities_of_files_stay_within_the_bounding_set,
    nothing_below_proc_and_sys_opens_for_writing,
    images_that_replace_the_kernels_folders,
    links_in_place_of_what_the_engine_writes,
    null_devices_that_move_mask_nothing_of_the_host,
    control_groups_give_no_way_out,
    every_container_has_a_keyring_of_its_own,
    devices_stay_guarded_when_the_daemon_comes_back,
];

/// The image with the probe.
fn probed(cx: &Cx<'_>) -> String {
    let tag = format!("{}:latest", cx.name("probe"));
    let Some(archive) = probe::archive(&tag) else { skip("no C compiler for the probe") };
    cx.docker_with(&["load", "-q"], archive).ok();
    tag
}

pub fn load(cx: &Cx<'_>, part: &str, layer: &Tarball) -> String {
    let tag = format!("{}:latest", cx.name(part));
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    cx.docker_with(&["load", "-q"], probe::on_busybox(&tag, &config, &[layer.finish()])).ok();
    tag
}

/// What `script` prints in a container of `image`, by the door it came in through.
fn through_every_door(cx: &Cx<'_>, image: &str, script: &str) -> Vec<(&'static str, String)> {
    let run = cx.docker(&["run", "--rm", "--network", "none", image, "sh", "-c", script]);
    let name = cx.name("doors");
    let health = ["--health-cmd", script, "--health-interval", "1s", "--health-timeout", "30s"];
    let sleep = [image, "sleep", "600"];
    let start = ["run", "-d", "--network", "none", "--name", &name];
    cx.docker(&[&start[..], &health, &sleep].concat()).ok();
    let exec = cx.docker(&["exec", &name, "sh", "-c", script]);
    let health = cx.until("the first check is done", || {
        let log = cx.inspect(&name)["State"]["Health"]["Log"].clone();
        log[0]["Output"].as_str().map(str::to_owned)
    });
    cx.docker(&["rm", "-f", &name]).ok();
    let file = format!("FROM {image}\nRUN echo =begin=; ({script}) 2>&1; echo =end=\n");
    let build = cx.docker_with(&["build", "--no-cache", "--network", "none", "-"], file);
    let built = build.stdout.split("\n=begin=\n").nth(1).unwrap_or_default();
    let built = built.split("=end=").next().unwrap_or_default().to_owned();
    assert_eq!(build.code, Some(0), "{}", build.describe());
    vec![
        ("run", run.stdout + &run.stderr),
        ("exec", exec.stdout + &exec.stderr),
        ("health", health),
        ("build", built),
    ]
}

fn nothing_but_standard_streams_is_inherited(cx: &Cx<'_>) {
    let image = probed(cx);
    for (door, text) in through_every_door(cx, &image, "probe fds") {
        let mut numbers: BTreeSet<&str> =
            text.lines().filter_map(|l| l.split_once(' ')).map(|l| l.0).collect();
        numbers.remove("");
        assert_eq!(numbers, BTreeSet::from(["0", "1", "2"]), "{door}: {text}");
        for outside in ["gantry", "docker", "/tmp/gtk", "socket:"] {
            assert!(!text.contains(outside), "{door}: {text}");
        }
    }
}

fn no_door_begins_in_a_folder_of_proc(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer.symlink("fd9", "/proc/self/fd/9").symlink("root1", "/proc/1/root");
    let image = load(cx, "img", &layer);
    let name = cx.name("a");
    cx.docker(&["run", "-d", "--network", "none", "--name", &name, &image, "sleep", "600"]).ok();
    let secret = cx.write("canary", "host-secret");
    let script = format!("cd ../../../../../.. 2>/dev/null; cat .{} 2>&1; ls", secret.display());
    let script = script.as_str();
    let mut places: Vec<String> = (0..24).map(|n| format!("/proc/self/fd/{n}")).collect();
    places.extend((3..12).map(|n| format!("/proc/thread-self/fd/{n}")));
    places.extend((3..12).map(|n| format!("/proc/1/fd/{n}/..")));
    places.extend(["/fd9".to_owned(), "/root1/../..".to_owned()]);
    for place in &places {
        let outputs = [
            cx.docker(&["run", "--rm", "--network=none", "-w", place, &image, "sh", "-c", script]),
            cx.docker(&["exec", "-w", place, &name, "sh", "-c", script]),
        ];
        for output in outputs {
            assert!(!output.stdout.contains("host-secret"), "{place}: {}", output.describe());
            // It did not begin, or began below the container's own root.
            assert!(
                output.code != Some(0) || output.stdout.contains("fd9"),
                "{place}: {}",
                output.describe()
            );
        }
    }
    for place in ["/proc/self/fd/7", "/proc/self/fd/9", "/fd9", "/proc/self/cwd"] {
        let file = format!("FROM {image}\nWORKDIR {place}\nRUN {script}\n");
        let build = cx.docker_with(&["build", "--no-cache", "--network=none", "-"], file);
        assert!(!build.stdout.contains("host-secret"), "{}", build.describe());
    }
}

/// What the default profile says; the kernel may also lack what is asked for.
const VERDICTS: &[(&str, &[&str])] = &[
    ("socket-alg", &["EPERM"]),
    ("socket-vsock", &["EPERM"]),
    ("socket-unix", &["allowed"]),
    ("clone-newuser", &["EPERM"]),
    ("clone-newnet", &["EPERM"]),
    ("clone3", &["ENOSYS"]),
    ("getpid", &["allowed"]),
    ("personality-ask", &["allowed"]),
    ("personality-norandom", &["EPERM"]),
    ("unknown", &["ENOSYS", "EPERM"]),
];

fn system_calls_are_judged_the_same_by_every_number(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("20.10 has an older profile");
    }
    let image = probed(cx);
    for (door, text) in through_every_door(cx, &image, "probe calls") {
        let mut seen = 0;
        for line in text.lines() {
            let Some((abi, (call, verdict))) = line
                .split_once(' ')
                .and_then(|(abi, rest)| Some((abi, rest.split_once(' ')?)))
                .filter(|l| ["64", "32", "x32"].contains(&l.0))
            else {
                continue;
            };
            seen += 1;
            let wanted = VERDICTS.iter().find(|v| v.0 == call).map_or(&["EPERM"][..], |v| v.1);
            // A kernel without the other numbers knows none of them.
            let fits = wanted.contains(&verdict) || (abi == "x32" && verdict == "ENOSYS");
            assert!(fits, "{door}: {line}, wanted {wanted:?}");
        }
        // The log of a health check holds 4,096 bytes.
        assert!(seen > 40, "{door}: {text}");
    }
}

fn who_traces_a_joining_process_finds_nothing_of_the_engine(cx: &Cx<'_>) {
    let image = probed(cx);
    let name = cx.name("a");
    let options = ["run", "-d", "--network=none", "--cap-add=SYS_PTRACE", "--name", &name];
    cx.docker(&[&options[..], &["-e", "INNER=1", &image, "probe", "watch"]].concat()).ok();
    for n in 0..30 {
        let _ = cx.docker(&["exec", "-e", &format!("RUN={n}"), &name, "true"]);
    }
    let text = cx.docker(&["logs", &name]).stdout;
    assert!(text.lines().any(|l| l.starts_with("exe ")), "it saw processes: {text}");
    for line in text.lines() {
        let bad = match line.split(' ').next() {
            // Before it is the program it is one of the host, whose name is out of reach.
            Some("exe") => {
                !line.ends_with(" /")
                    && !line.ends_with("/bin/true")
                    && !line.contains("/bin/busybox")
            }
            Some("fd") => {
                let target = line.rsplit(' ').next().unwrap_or_default();
                !["pipe:", "/dev/null", "/dev/pts"].iter().any(|t| target.starts_with(t))
                    // The socket that tells the shim of a failed start, until the program runs.
                    && !target.starts_with("socket:")
                // The program's own, while it looks around.
                    && !target.starts_with("/bin") && !target.starts_with("/proc")
            }
            Some("environ") => line.contains("GANTRY") || line.contains("NOTIFY_SOCKET"),
            Some("writable") => true,
            _ => false,
        };
        assert!(!bad, "{line}\n{text}");
    }
}

fn capabilities_of_files_stay_within_the_bounding_set(cx: &Cx<'_>) {
    // Revision 2, effective, net_bind_service and sys_admin permitted.
    let bits: u32 = 1 << 10 | 1 << 21;
    let value =
        [0x0200_0001_u32.to_le_bytes(), bits.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    let own: u32 = 1 << 10;
    let small = [0x0200_0001_u32.to_le_bytes(), own.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    let mut layer = Tarball::new();
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).unwrap();
    layer.pax(&[("SCHILY.xattr.security.capability", &value)]).file("much/cat", 0o755, &busybox);
    layer.pax(&[("SCHILY.xattr.security.capability", &small)]).file("some/cat", 0o755, &busybox);
    let image = load(cx, "img", &layer);
    let status = |options: &[&str], program: &str| {
        let head = ["run", "--rm", "--network=none"];
        cx.docker(&[&head[..], options, &[&image, program, "/proc/self/status"]].concat())
    };
    let line = |text: &str, key: &str| {
        text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    };
    for options in [
        &["-u", "1000"][..],
        &["-u", "1000", "--cap-add=NET_ADMIN"],
        &["-u", "1000:1000", "--init"],
    ] {
        let plain = status(options, "cat").ok().to_owned();
        for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            let none = key == "CapInh:" && !cx.is_gantry();
            assert!(none || line(&plain, key) == "0000000000000000", "{options:?} {key} {plain}");
        }
        // A file gives what the container may have; what asks for more is not run.
        let some = status(options, "/some/cat").ok().to_owned();
        assert_eq!(line(&some, "CapEff:"), "0000000000000400", "{options:?}");
        assert_ne!(status(options, "/much/cat").code, Some(0), "{options:?}");
    }
    let denied = ["-u", "1000", "--security-opt=no-new-privileges"];
    assert_eq!(line(status(&denied, "/some/cat").ok(), "CapEff:"), "0000000000000000");
    let dropped = ["-u", "1000", "--cap-drop=ALL"];
    assert_ne!(status(&dropped, "/some/cat").code, Some(0));
    let name = cx.name("a");
    cx.docker(&["run", "-d", "--network=none", "--name", &name, &image, "sleep", "600"]).ok();
    let exec = cx.docker(&["exec", "-u", "1000", &name, "cat", "/proc/self/status"]);
    for key in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(line(exec.ok(), key), "0000000000000000", "exec {key}");
    }
    assert_ne!(cx.docker(&["exec", "-u", "1000", &name, "/much/cat", "/dev/null"]).code, Some(0));
}

/// What root of a container may open for writing: its own processes, and itself.
fn harmless(path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some("proc"), Some(pid)) => {
            pid == "self" || pid == "thread-self" || pid.parse::<u32>().is_ok()
        }
        _ => false,
    }
}

fn nothing_below_proc_and_sys_opens_for_writing(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd 20.10 leaves the root of the cgroup tree writable here");
    }
    let image = probed(cx);
    for (door, text) in
        through_every_door(cx, &image, "probe open /proc /sys | grep -v ^/proc/[0-9]; echo done")
    {
        let bad: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with('/') && !harmless(l))
            // Notices of its own processes' pressure, which end with the descriptor.
            .filter(|l| !l.starts_with("/proc/pressure/"))
            .collect();
        assert!(bad.is_empty(), "{door}: {bad:#?}");
        assert!(text.contains("done"), "{door}: {text}");
    }
}

/// A folder of the host that must stay as it is, unread.
pub fn canary(cx: &Cx<'_>) -> PathBuf {
    let path = cx.dir().join("canary");
    for folder in ["pts", "shm", "sys", "self"] {
        fs::create_dir_all(path.join(folder)).unwrap();
    }
    fs::write(path.join("secret"), "host-secret").unwrap();
    fs::write(path.join("null"), "host-null").unwrap();
    path
}

pub fn untouched(path: &std::path::Path) {
    let mut seen: Vec<String> = Vec::new();
    let mut queue = vec![path.to_owned()];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let meta = entry.path().symlink_metadata().unwrap();
            use std::os::unix::fs::MetadataExt as _;
            seen.push(format!(
                "{} {:o} {}",
                entry.file_name().to_string_lossy(),
                meta.mode(),
                meta.uid()
            ));
            if meta.is_dir() {
                queue.push(entry.path());
            }
        }
    }
    seen.sort();
    let wanted = [
        "null 100644 0",
        "pts 40755 0",
        "secret 100644 0",
        "self 40755 0",
        "shm 40755 0",
        "sys 40755 0",
    ];
    assert_eq!(seen, wanted);
    assert_eq!(fs::read_to_string(path.join("secret")).unwrap(), "host-secret");
    assert_eq!(fs::read_to_string(path.join("null")).unwrap(), "host-null");
}

fn images_that_replace_the_kernels_folders(cx: &Cx<'_>) {
    let host = canary(cx);
    let outside = host.to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(12));
    type Shape<'a> = (&'a str, &'a dyn Fn(&mut Tarball));
    let shapes: &[Shape<'_>] = &[
        ("proc-link", &|t| _ = t.symlink("proc", outside)),
        ("proc-up", &|t| _ = t.symlink("proc", &up)),
        ("proc-file", &|t| _ = t.file("proc", 0o644, "x")),
        ("proc-full", &|t| {
            _ = t.file("proc/self/attr/exec", 0o644, "x").file("proc/sys/x", 0o644, "")
        }),
        ("sys-link", &|t| _ = t.symlink("sys", outside)),
        ("sys-file", &|t| _ = t.file("sys", 0o644, "x")),
        ("cgroup-link", &|t| _ = t.symlink("sys/fs/cgroup", outside)),
        ("dev-link", &|t| _ = t.symlink("dev", outside)),
        ("dev-file", &|t| _ = t.file("dev", 0o644, "x")),
        ("pts-link", &|t| {
            _ = t.symlink("dev/pts", outside).symlink("dev/null", &format!("{outside}/null"))
        }),
        ("shm-link", &|t| _ = t.symlink("dev/shm", outside).symlink("dev/mqueue", outside)),
        ("null-fifo", &|t| {
            _ = t.entry(&Entry { name: b"dev/null", kind: b'6', ..Entry::default() }, b"");
        }),
    ];
    let script = "cat /proc/secret /sys/secret /dev/secret /dev/pts/secret 2>/dev/null; \
        readlink /proc/self/ns/pid > /dev/null && grep -q ^Name: /proc/self/status && echo real; \
        echo x > /dev/null; cat /dev/null; touch /proc/made /sys/made /dev/made 2>/dev/null; true";
    for (part, shape) in shapes {
        let mut layer = Tarball::new();
        shape(&mut layer);
        let tag = load(cx, part, &layer);
        let run = cx.docker(&["run", "--rm", "--network=none", &tag, "sh", "-c", script]);
        assert!(!run.stdout.contains("host-"), "{part}: {}", run.describe());
        // Refused, or the true folders are there in spite of the image.
        assert!(run.code != Some(0) || run.stdout.trim() == "real", "{part}: {}", run.describe());
        let name = cx.name(&format!("{part}-c"));
        let start = ["run", "-d", "--network=none", "--name", &name, &tag, "sleep", "600"];
        if cx.docker(&start).code == Some(0) {
            let exec = cx.docker(&["exec", &name, "sh", "-c", script]);
            assert_eq!(exec.stdout.trim(), "real", "{part}: {}", exec.describe());
        }
        cx.docker(&["rm", "-f", &name]).ok();
        let file = format!("FROM {tag}\nRUN {script}\n");
        let build = cx.docker_with(&["build", "--no-cache", "--network=none", "-"], file);
        assert!(!build.stdout.contains("host-"), "{part}: {}", build.describe());
        untouched(&host);
    }
    for option in [
        "--tmpfs=/proc/self",
        "--tmpfs=/proc",
        "--volume=/proc",
        "--tmpfs=/proc/sys",
        "--volume=/proc/self/attr",
    ] {
        let run = cx.run(&["--network=none", option], &["true"]);
        assert_ne!(run.code, Some(0), "{option}: {}", run.describe());
    }
    let volume = format!("{}:/proc/self", cx.name("v"));
    assert_ne!(cx.run(&["--network=none", "-v", &volume], &["true"]).code, Some(0));
}

fn links_in_place_of_what_the_engine_writes(cx: &Cx<'_>) {
    let host = canary(cx);
    let outside = host.to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(12));
    for (part, target) in [("abs", outside), ("up", &up)] {
        let mut layer = Tarball::new();
        layer
            .symlink("etc/hosts", &format!("{target}/secret"))
            .symlink("etc/hostname", &format!("{target}/new"))
            .symlink("etc/resolv.conf", &format!("{target}/null"))
            .symlink("work", target)
            .symlink("data", target)
            .symlink("etc/mtab", &format!("{target}/mtab"))
            .symlink(".dockerenv", &format!("{target}/env"));
        let tag = load(cx, part, &layer);
        let volume = format!("{}:/data/deep", cx.name("v"));
        let tries: &[&[&str]] = &[
            &[],
            &["-w", "/work/made"],
            &["-v", "/data/made"],
            &["-v", &volume],
            &["--tmpfs", "/data/tmp"],
            &["--mount", "type=bind,src=/etc/hostname,dst=/data/file"],
            &["--read-only"],
        ];
        for options in tries {
            let script =
                ["sh", "-c", "cat /etc/hosts /etc/resolv.conf /work/secret 2>/dev/null; true"];
            let run = cx.docker(&[&["run", "--rm"], *options, &[&tag], &script].concat());
            assert!(!run.stdout.contains("host-"), "{options:?}: {}", run.describe());
            untouched(&host);
        }
        let file = format!(
            "FROM {tag}\nWORKDIR /work/x\nVOLUME /data/y\nCOPY Dockerfile /data/\nADD Dockerfile /work/a/b\nRUN cat /etc/hosts; touch /work/z; true\n"
        );
        let build = cx.docker_with(&["build", "--no-cache", "--network=none", "-"], file);
        assert!(!build.stdout.contains("host-"), "{}", build.describe());
        untouched(&host);
    }
}

fn null_devices_that_move_mask_nothing_of_the_host(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("the volumes are not on this machine");
    }
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let volume = cx.name("dev");
    cx.docker(&["volume", "create", &volume]).ok();
    let path = cx.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let path = PathBuf::from(path.ok());
    std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", path.join("other")).unwrap();
    fs::write(path.join("null"), "").unwrap();
    let racer = super::attacks::Racer::start(path.join("null"), path.join("other"));
    let mount = format!("{volume}:/dev");
    for _ in 0..20 {
        let script = "wc -c < /proc/timer_list; (echo evil > /proc/kcore) 2>/dev/null; (echo '|evil' > /dev/null) 2>/dev/null; true";
        let run = cx.run(&["--network=none", "-v", &mount], &["sh", "-c", script]);
        assert!(
            run.code != Some(0) || run.stdout.trim().is_empty() || run.stdout.trim() == "0",
            "{}",
            run.describe()
        );
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
    drop(racer);
}

fn control_groups_give_no_way_out(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd 20.10 leaves the root of the cgroup tree writable here");
    }
    let script = "unshare -UrmC true 2>&1; unshare -Ur true 2>&1; unshare -C true 2>&1; \
        mkdir /m; for c in memory rdma cpu misc; do mount -t cgroup -o $c x /m 2>&1 && echo mounted; done; \
        mount -t cgroup2 x /m 2>&1 && echo mounted; \
        for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs); do (echo 0 > $f) 2>/dev/null && echo wrote $f; done; true";
    for (door, text) in through_every_door(cx, "busybox", script) {
        assert!(!text.contains("mounted") && !text.contains("wrote"), "{door}: {text}");
    }
}

fn every_container_has_a_keyring_of_its_own(cx: &Cx<'_>) {
    let image = probed(cx);
    let options = [
        "run",
        "--rm",
        "--network=none",
        "--security-opt=seccomp=unconfined",
        &image,
        "probe",
        "keys",
    ];
    let keys: BTreeSet<String> = (0..3).map(|_| cx.docker(&options).ok().to_owned()).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let name = cx.name("a");
    let start = [
        "run",
        "-d",
        "--network=none",
        "--security-opt=seccomp=unconfined",
        "--name",
        &name,
        &image,
        "sleep",
        "600",
    ];
    cx.docker(&start).ok();
    let ring = |_| cx.docker(&["exec", &name, "probe", "keys"]).ok().to_owned();
    let host = fs::read_to_string("/proc/keys").unwrap_or_default();
    for serial in (0..2).map(ring) {
        let number: i64 = serial.trim().parse().unwrap();
        let ours =
            host.lines().any(|l| l.starts_with(&format!("{number:08x}")) && l.contains("_ses.0"));
        assert!(!ours, "the host's session keyring: {serial}");
    }
}

fn devices_stay_guarded_when_the_daemon_comes_back(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon that is killed");
    }
    let daemon = testkit::Daemon::start(testkit::daemon::Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let name = own.sleeper("a", &["--network=none"]);
    let probe = "rm -f /d; mknod /d c 1 1 && (head -c 1 /d > /dev/null) 2>&1; mknod /b b 7 0; (head -c 1 /b) 2>&1; rm -f /d /b";
    let tried = |when: &str| {
        let text = own.docker(&["exec", &name, "sh", "-c", probe]).stdout;
        assert_eq!(text.matches("not permitted").count(), 2, "{when}: {text}");
    };
    tried("at first");
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    tried("after a kill");
    daemon.stop().unwrap();
    daemon.start_again().unwrap();
    own.docker(&["update", "--memory=64m", "--memory-swap=64m", &name]).ok();
    tried("after a stop and an update");
    own.docker(&["rm", "-f", &name]).ok();
}

//! What hostile images and containers try against the engine: programs rewritten, links swapped while they are
//! followed, files that never end, numbers that wrap. Nothing outside changes, and the daemon lives on.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};
use testkit::{
    Cx, cases, command,
    cx::skip,
    image::{busybox, docker_archive, sha256},
    suite::Case,
    tarball::{self, Entry, Tarball},
};

pub const CASES: &[Case] = cases![
    programs_of_the_engine_cannot_be_rewritten,
    mount_targets_that_move_stay_inside,
    copies_through_moving_links_stay_inside,
    long_environments_and_many_mounts,
    kernel_parameters_carry_one_value,
    users_are_never_root_by_accident,
    passwd_files_that_are_none,
    no_socket_of_the_engine_is_in_reach,
    other_users_see_nothing_of_the_store,
    devices_stay_guarded_through_changes,
    dropped_attaches_leave_no_descriptor,
    images_with_too_much_configuration,
];

/// Exchanges two names for as long as it lives.
pub struct Racer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    pub fn start(a: PathBuf, b: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !own.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A folder of the host that must stay as it is, unread.
struct Canary {
    path: PathBuf,
}

impl Canary {
    fn new(cx: &Cx<'_>) -> Self {
        let path = cx.dir().join("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("secret"), "host-secret").unwrap();
        Self { path }
    }

    #[track_caller]
    fn check(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.path.join("secret")).unwrap(), "host-secret");
    }
}

/// The volume's folder on this machine.
fn volume(cx: &Cx<'_>, part: &str) -> (String, PathBuf) {
    let name = cx.name(part);
    cx.docker(&["volume", "create", &name]).ok();
    let path = cx.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &name]);
    let path = PathBuf::from(path.ok());
    (name, path)
}

/// An image of busybox with one more layer.
fn image(cx: &Cx<'_>, part: &str, layer: &Tarball) -> String {
    let tag = cx.name(part);
    let members = tarball::members(busybox());
    let base = members.iter().find(|m| m.0.ends_with("layer.tar")).unwrap();
    let base = tarball::member(busybox(), &base.0).unwrap().to_vec();
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    cx.docker_with(
        &["load", "-q"],
        docker_archive(&format!("{tag}:latest"), &config, &[base, layer.finish()]),
    )
    .ok();
    tag
}

fn programs_of_the_engine_cannot_be_rewritten(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    cx.docker(&["exec", &name, "sh", "-c", "echo '#!/proc/self/exe' > /s; chmod +x /s"]).ok();
    let watch = "while :; do for p in /proc/[0-9]*/exe; do (: >> $p) 2>/dev/null && echo $(readlink $p) >> /opened; done; done";
    cx.docker(&["exec", "-d", &name, "sh", "-c", watch]).ok();
    let shim = testkit::daemon::built("gantry").unwrap();
    let shim = shim.parent().unwrap().with_file_name("libexec").join("gantry-shim");
    let sum = |path: &Path| fs::read(path).map(|bytes| sha256(&bytes)).unwrap_or_default();
    let before = sum(&shim);
    for _ in 0..30 {
        let _ = cx.docker(&["exec", &name, "/s"]);
    }
    assert_eq!(cx.docker(&["exec", &name, "sh", "-c", "cat /opened 2>/dev/null || true"]).ok(), "");
    assert_eq!(sum(&shim), before);
}

fn mount_targets_that_move_stay_inside(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("the volumes are not on this machine");
    }
    let canary = Canary::new(cx);
    let (shared, path) = volume(cx, "shared");
    let (other, _) = volume(cx, "other");
    fs::create_dir(path.join("x")).unwrap();
    symlink(&canary.path, path.join("y")).unwrap();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = mounts();
    let racer = Racer::start(path.join("x"), path.join("y"));
    let (at, below) = (format!("{shared}:/v"), format!("{other}:/v/x"));
    for _ in 0..25 {
        // It may fail; it may not reach the host.
        let output = cx.run(
            &["--network", "none", "-v", &at, "-v", &below],
            &["sh", "-c", "touch /v/x/f; cat /v/x/secret /v/y/secret 2>/dev/null; true"],
        );
        assert!(!output.stdout.contains("host-secret"), "{}", output.describe());
        canary.check();
    }
    drop(racer);
    assert_eq!(mounts(), before);
}

fn copies_through_moving_links_stay_inside(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("the volumes are not on this machine");
    }
    let canary = Canary::new(cx);
    let (shared, path) = volume(cx, "shared");
    fs::create_dir(path.join("d")).unwrap();
    fs::write(path.join("d/secret"), "own").unwrap();
    symlink(&canary.path, path.join("l")).unwrap();
    let name = cx.sleeper("a", &["-v", &format!("{shared}:/v")]);
    let file = cx.write("planted", "planted");
    let (file, out) = (file.to_str().unwrap().to_owned(), cx.dir().join("out"));
    let racer = Racer::start(path.join("d"), path.join("l"));
    for _ in 0..20 {
        let _ = cx.docker(&["cp", &file, &format!("{name}:/v/d/planted")]);
        let _ = fs::remove_file(&out);
        let from = format!("{name}:/v/d/secret");
        if cx.docker(&["cp", "-L", &from, out.to_str().unwrap()]).code == Some(0) {
            assert_ne!(fs::read_to_string(&out).unwrap_or_default(), "host-secret");
        }
        canary.check();
    }
    drop(racer);
    // Links that stay inside work.
    cx.docker(&["exec", &name, "sh", "-c", "mkdir -p /run; ln -sfn /run /var-run"]).ok();
    cx.docker(&["cp", &file, &format!("{name}:/var-run/planted")]).ok();
    assert_eq!(cx.docker(&["exec", &name, "cat", "/run/planted"]).ok(), "planted");
}

fn long_environments_and_many_mounts(cx: &Cx<'_>) {
    let long = format!("LONG={}", "x".repeat(64 << 10));
    assert_eq!(cx.busybox(&["-e", &long], &["sh", "-c", "echo ${#LONG}"]), "65536");
    let env: Vec<String> =
        (0..200_000).map(|n| format!("VARIABLE_NUMBER_{n}=value of {n}")).collect();
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Env": env});
    let api = cx.api();
    let name = cx.name("env");
    let made = api.post(&format!("/v1.41/containers/create?name={name}"), &body);
    if made.status() == 201 {
        // The kernel has a limit for what a program is given; it is told, and soon.
        let started = api.post(&format!("/v1.41/containers/{name}/start"), &json!(null));
        assert!([204, 400, 500].contains(&started.status()), "{}", started.text());
    } else {
        made.fails(400, &[]);
    }
    let mounts: Vec<_> = (0..500).map(|n| (format!("/mnt/{n}"), json!("size=4k"))).collect();
    let mounts: serde_json::Map<_, _> = mounts.into_iter().collect();
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "grep -c /mnt/ /proc/mounts"],
        "HostConfig": {"Tmpfs": mounts}});
    let name = cx.name("mounts");
    api.post(&format!("/v1.41/containers/create?name={name}"), &body).expect(201);
    assert_eq!(cx.docker(&["start", "-a", &name]).ok(), "500");
}

fn kernel_parameters_carry_one_value(cx: &Cx<'_>) {
    let host = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let before = (host("kernel/core_pattern"), host("kernel/msgmax"));
    for bad in [
        "kernel.shm_rmid_forced=1+kernel.core_pattern=|/evil",
        "kernel.shm_rmid_forced=1\nkernel.core_pattern=|/evil",
        "kernel.core_pattern=|/evil",
        "kernel.msgmax/../core_pattern=|/evil",
        "kernel/core_pattern=|/evil",
        "net.ipv4.ip_forward/../../../kernel/core_pattern=|/evil",
    ] {
        let output = cx.run(&["--sysctl", bad], &["true"]);
        assert_ne!(output.code, Some(0), "{}", output.describe());
    }
    let output = cx.run(&["--ipc", "host", "--sysctl", "kernel.msgmax=4096"], &["true"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    let output = cx.run(&["--network", "host", "--sysctl", "net.ipv4.ip_forward=0"], &["true"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    assert_eq!((host("kernel/core_pattern"), host("kernel/msgmax")), before);
    let set = cx.busybox(&["--sysctl", "kernel.msgmax=4096"], &["cat", "/proc/sys/kernel/msgmax"]);
    assert_eq!(set, "4096", "it is set where it is asked for");
    assert_eq!(host("kernel/msgmax"), before.1);
}

fn users_are_never_root_by_accident(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n1234:x:0:0::/:/bin/sh\n2147483648:x:0:0::/:/bin/sh\n\
         4294967296:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\nwide:x:4294967296:0::/:/bin/sh\n\
         minus:x:-1:0::/:/bin/sh\nempty:x::0::/:/bin/sh\n",
    );
    let tag = image(cx, "users", &layer);
    let id =
        |user: &str| cx.docker(&["run", "--rm", "--network", "none", "-u", user, &tag, "id", "-u"]);
    assert_eq!(id("1234").ok(), "1234", "a number is a number, whatever passwd calls so");
    for user in [
        "2147483648",
        "4294967296",
        "-1",
        "wide",
        "minus",
        "empty",
        "0x0",
        "\u{ff14}",
        "1 ",
        "18446744073709551616",
    ] {
        let output = id(user);
        assert!(
            output.code != Some(0) || output.stdout.trim() != "0",
            "{user:?}: {}",
            output.describe()
        );
    }
    assert_eq!(id("00").ok(), "0");
}

fn passwd_files_that_are_none(cx: &Cx<'_>) {
    let canary = Canary::new(cx);
    let host = canary.path.join("secret");
    let link = |target: &str| {
        let mut layer = Tarball::new();
        layer.symlink("etc/passwd", target).symlink("etc/group", target);
        layer
    };
    let mut fifo = Tarball::new();
    for name in [&b"etc/passwd"[..], b"etc/group"] {
        fifo.entry(&Entry { name, kind: b'6', ..Entry::default() }, b"");
    }
    let mut huge = Tarball::new();
    huge.file("etc/passwd", 0o644, "x".repeat(24 << 20));
    let cases = [
        ("fifo", fifo),
        ("zero", link("/dev/zero")),
        ("outside", link(&format!("../../../../../../..{}", host.display()))),
        ("itself", link("passwd")),
        ("huge", huge),
    ];
    for (part, layer) in cases {
        let tag = image(cx, part, &layer);
        // Nothing is known of a name then; a number needs no file. Neither hangs.
        let named =
            cx.docker(&["run", "--rm", "--network", "none", "-u", "alice", &tag, "id", "-u"]);
        assert_ne!(named.code, Some(0), "{part}: {}", named.describe());
        assert!(!named.stderr.contains("host-secret"));
        let number = cx.docker(&["run", "--rm", "--network", "none", "-u", "7", &tag, "id", "-u"]);
        assert!(number.code != Some(0) || number.stdout.trim() == "7", "{}", number.describe());
        let name = cx.name(&format!("{part}-c"));
        cx.docker(&["create", "--name", &name, &tag]).ok();
        let _ = cx.docker(&["cp", cx.write("f", "x").to_str().unwrap(), &format!("{name}:/tmp/f")]);
        cx.docker(&["rm", &name]).ok();
        cx.docker(&["rmi", "-f", &tag]).ok();
    }
    canary.check();
}

fn no_socket_of_the_engine_is_in_reach(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("of Gantry's own making");
    }
    let sockets = cx.busybox(&["--network", "host"], &["cat", "/proc/net/unix"]);
    // The name of a bridge is claimed by a socket that is never accepted from nor read: it opens nothing.
    let abstract_ones: Vec<&str> = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|name| name.starts_with('@') && name.contains("gantry"))
        .filter(|name| !name.starts_with("@gantry/network/"))
        .collect();
    assert!(abstract_ones.is_empty(), "{abstract_ones:?}");
}

fn other_users_see_nothing_of_the_store(cx: &Cx<'_>) {
    if !cx.is_gantry() || !cx.daemon.is_own() {
        skip("of Gantry's own making");
    }
    let (_, path) = volume(cx, "v");
    fs::write(path.join("f"), "x").unwrap();
    let root = path.ancestors().nth(3).unwrap();
    let exec = cx.daemon.path("exec");
    for dir in [root, &exec] {
        // Ways into it that a user has without rights to the folders above are what counts.
        let find = ["--reuid=65534", "--regid=65534", "--clear-groups", "find"];
        let mut command = Command::new("setpriv");
        command.args(find).arg(dir).args(["-mindepth", "1", "-print", "-quit"]);
        let seen = command::run(&mut command, b"");
        assert_eq!(seen.stdout, "", "{}", seen.describe());
    }
}

fn devices_stay_guarded_through_changes(cx: &Cx<'_>) {
    // A block device of this machine, by its number.
    let disks = fs::read_to_string("/proc/partitions").unwrap();
    let Some((major, minor)) = disks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number = (words.next()?.parse::<u32>().ok()?, words.next()?.parse::<u32>().ok()?);
        Some(number)
    }) else {
        skip("this machine has no block device");
    };
    let name = cx.sleeper("a", &[]);
    let probe = format!(
        "rm -f /tmp/disk; mknod /tmp/disk b {major} {minor} && head -c 1 /tmp/disk > /dev/null 2>&1 && echo open || echo shut"
    );
    let tried = |when: &str| {
        let output = cx.docker(&["exec", &name, "sh", "-c", &probe]);
        assert_eq!(output.stdout.trim(), "shut", "{when}: {}", output.describe());
    };
    tried("at first");
    cx.docker(&["update", "--memory", "64m", "--memory-swap", "64m", &name]).ok();
    tried("after an update");
    cx.docker(&["restart", "-t", "0", &name]).ok();
    tried("after a restart");
    cx.docker(&["pause", &name]).ok();
    cx.docker(&["unpause", &name]).ok();
    tried("after a pause");
}

fn dropped_attaches_leave_no_descriptor(cx: &Cx<'_>) {
    let Some(pid) = cx.daemon.pid() else { skip("the daemon is another's") };
    let count = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let name = cx.sleeper("a", &["-i"]);
    let target = format!("/v1.41/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let drop_many = || {
        use std::io::{Read as _, Write as _};
        for _ in 0..200 {
            let mut stream = std::os::unix::net::UnixStream::connect(cx.daemon.socket()).unwrap();
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
        }
    };
    let before = count();
    drop_many();
    // Other cases open and close connections at the same time.
    cx.until("the descriptors are closed", || (count() < before + 100).then_some(()));
    assert_eq!(cx.docker(&["exec", &name, "echo", "alive"]).ok(), "alive");
}

fn images_with_too_much_configuration(cx: &Cx<'_>) {
    let layer = {
        let mut layer = Tarball::new();
        layer.file("f", 0o644, "x");
        layer.finish()
    };
    let ports: serde_json::Map<_, _> =
        (1..65_536).map(|p| (format!("{p}/tcp"), json!({}))).collect();
    let volumes: serde_json::Map<_, _> =
        (0..5_000).map(|v| (format!("/v/{v}"), json!({}))).collect();
    let config = json!({
        "Cmd": ["x"], "ExposedPorts": ports, "Volumes": volumes,
        "Labels": {"com.docker.volume.anonymous": "", "gantry.unhealthy": "restart"},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1, "Timeout": 1},
    });
    let tag = format!("{}:latest", cx.name("much"));
    let loaded = cx.docker_with(&["load", "-q"], docker_archive(&tag, &config, &[layer]));
    if loaded.code == Some(0) {
        let name = cx.name("c");
        let made = cx.docker(&["create", "--name", &name, &tag]);
        if made.code == Some(0) {
            cx.docker(&["rm", "-v", &name]).ok();
        }
        cx.docker(&["rmi", "-f", &tag]).ok();
    }
    cx.docker(&["version"]).ok();
}

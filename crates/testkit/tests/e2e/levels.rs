//! Levels of defaults: what `--security-level` takes away, what it refuses, and what allows it.

use std::{fs, net::TcpListener, path::Path, process::Command};
use testkit::{Cx, Daemon, cases, command, daemon::Options, registry::Registry, suite::Case};

pub const CASES: &[Case] = cases![
    compat_is_the_default_and_docker_s,
    secure_takes_away_what_few_need_and_gives_it_back,
    strict_refuses_what_reaches_the_host,
    strict_keeps_paths_of_the_host_out_by_every_door,
    strict_reaches_listed_registries_only,
    sockets_follow_the_level,
    words_that_nobody_knows_end_the_start,
];

fn daemon(cx: &Cx<'_>, options: Options, level: &str, more: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        testkit::cx::skip("levels are Gantry's own");
    }
    let level = format!("--security-level={level}");
    let daemon = Daemon::start(options.args(&[level.as_str()]).args(more)).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn docker(daemon: &Daemon, args: &[&str]) -> command::Output {
    command::run(daemon.docker().args(args), b"")
}

fn run(daemon: &Daemon, options: &[&str], script: &str) -> String {
    let args = [&["run", "--rm", "--net=none"], options, &["busybox", "sh", "-c", script]].concat();
    docker(daemon, &args).ok().to_owned()
}

/// Bounding set and NoNewPrivs of a container's process.
const STATUS: &str =
    "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status | tr -d ' \\t' | tr '\\n' ' '";

fn shown(daemon: &Daemon) -> String {
    docker(daemon, &["info", "-f", "{{json .SecurityOptions}}"]).ok().to_owned()
}

/// Refused with 403's text, naming `switch`; nothing was made.
fn refused(daemon: &Daemon, args: &[&str], switch: &str) {
    let output = docker(daemon, args);
    assert!(output.code != Some(0), "{args:?}: {}", output.stdout);
    assert!(output.stderr.contains(switch), "{args:?}: {}", output.stderr);
    assert_eq!(docker(daemon, &["ps", "-aq"]).ok(), "", "{args:?} left a container");
}

fn compat_is_the_default_and_docker_s(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("levels are Gantry's own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    assert!(shown(&daemon).contains("name=level,profile=compat"), "{}", shown(&daemon));
    assert_eq!(run(&daemon, &[], STATUS), "CapBnd:00000000a80425fb NoNewPrivs:0");
    docker(&daemon, &["create", "--name", "plain", "busybox"]).ok();
    let format = "{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.PidsLimit}} {{len .HostConfig.Ulimits}}";
    assert_eq!(docker(&daemon, &["inspect", "-f", format, "plain"]).ok(), "[] [] <nil> 0");
}

fn secure_takes_away_what_few_need_and_gives_it_back(cx: &Cx<'_>) {
    let daemon = daemon(cx, Options::new().without_bridge(), "secure", &[]);
    assert!(shown(&daemon).contains("name=level,profile=secure"), "{}", shown(&daemon));
    // Without AUDIT_WRITE, MKNOD, NET_RAW, SETFCAP.
    assert_eq!(run(&daemon, &[], STATUS), "CapBnd:00000000000405fb NoNewPrivs:1");
    // No more than the daemon itself may have.
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = own.map_or(65_536, |own| own.min(65_536));
    assert_eq!(run(&daemon, &[], "ulimit -n"), most.to_string());
    assert_eq!(run(&daemon, &[], "wc -c < /proc/cmdline; ls /sys/kernel/security | wc -l"), "0\n0");
    // Who asks gets it.
    let asked = ["--cap-add=mknod", "--security-opt=no-new-privileges=false", "--ulimit=nofile=99"];
    assert_eq!(run(&daemon, &asked, STATUS), "CapBnd:00000000080405fb NoNewPrivs:0");
    assert_eq!(run(&daemon, &asked, "ulimit -n"), "99");
    let all = run(&daemon, &["--cap-add=ALL"], STATUS);
    // What this process may hand on is all that there is.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    assert!(all.contains(&format!("CapBnd:{own} ")), "{all}");
    assert_eq!(run(&daemon, &["--cap-drop=ALL"], STATUS), "CapBnd:0000000000000000 NoNewPrivs:1");
    assert!(run(&daemon, &["--privileged"], STATUS).contains("NoNewPrivs:0"));
    // What was decided is seen, and stays when the daemon comes back with another level.
    docker(&daemon, &["create", "--name", "kept", "busybox"]).ok();
    let format = "{{.HostConfig.PidsLimit}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}";
    assert_eq!(
        docker(&daemon, &["inspect", "-f", format, "kept"]).ok(),
        "4096 [AUDIT_WRITE MKNOD NET_RAW SETFCAP] [no-new-privileges=true]"
    );
    let unlimited = "{{.HostConfig.PidsLimit}}";
    docker(&daemon, &["create", "--name", "open", "--pids-limit=-1", "busybox"]).ok();
    assert_eq!(docker(&daemon, &["inspect", "-f", unlimited, "open"]).ok(), "<nil>");
    // Steps of builds are Docker's: images set capabilities of files and change users.
    fs::write(cx.dir().join("Dockerfile"), format!("FROM busybox\nRUN {STATUS} > /said\n"))
        .unwrap();
    let context = cx.dir().to_str().unwrap().to_owned();
    command::run(
        daemon.docker().env("DOCKER_BUILDKIT", "0").args([
            "build",
            "--network=none",
            "-q",
            "-t",
            "built",
            &context,
        ]),
        b"",
    )
    .ok();
    let said =
        docker(&daemon, &["run", "--rm", "--net=none", "built", "cat", "/said"]).ok().to_owned();
    assert_eq!(said, "CapBnd:00000000a80425fb NoNewPrivs:0");
}

fn strict_refuses_what_reaches_the_host(cx: &Cx<'_>) {
    let daemon = daemon(cx, Options::new().without_bridge(), "strict", &["--userns-remap="]);
    assert!(shown(&daemon).contains("name=level,profile=strict"), "{}", shown(&daemon));
    // CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, NET_BIND_SERVICE.
    assert_eq!(run(&daemon, &[], STATUS), "CapBnd:00000000000004cb NoNewPrivs:1");
    let limits = "{{json .HostConfig.Memory}} {{json .HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.CgroupnsMode}}";
    docker(&daemon, &["create", "--name", "bound", "busybox"]).ok();
    let shown = docker(&daemon, &["inspect", "-f", limits, "bound"]).ok().to_owned();
    let words: Vec<&str> = shown.split(' ').collect();
    assert!(words[..2].iter().all(|n| n.parse::<u64>().is_ok_and(|n| n > 0)), "{shown}");
    assert_eq!(words[2..], ["4096", "private"]);
    docker(&daemon, &["rm", "bound"]).ok();
    for (option, switch) in [
        ("--privileged", "privileged"),
        ("--net=host", "host-network"),
        ("--pid=host", "host-namespaces"),
        ("--ipc=host", "host-namespaces"),
        ("--uts=host", "host-namespaces"),
        ("--userns=host", "host-namespaces"),
        ("--cgroupns=host", "host-namespaces"),
        ("--device=/dev/null", "devices"),
        ("--device-cgroup-rule=c 1:3 rwm", "devices"),
        ("--cap-add=SYS_ADMIN", "capabilities"),
        ("--cap-add=all", "capabilities"),
        ("--security-opt=seccomp=unconfined", "unconfined"),
        ("--security-opt=apparmor=unconfined", "unconfined"),
        ("--security-opt=label=disable", "unconfined"),
        ("--security-opt=systempaths=unconfined", "unconfined"),
        ("--security-opt=no-new-privileges=false", "new-privileges"),
    ] {
        let args = ["create", option, "busybox"];
        refused(&daemon, &args, &format!("--security-allow={switch}"));
    }
    // What Docker gives by default may be asked for.
    docker(&daemon, &["run", "--rm", "--net=none", "--cap-add=NET_RAW", "busybox", "true"]).ok();
    docker(&daemon, &["run", "-d", "--net=none", "--name", "runs", "busybox", "sleep", "600"]).ok();
    let exec = docker(&daemon, &["exec", "--privileged", "runs", "true"]);
    assert!(exec.stderr.contains("--security-allow=privileged"), "{}", exec.stderr);
    docker(&daemon, &["exec", "runs", "true"]).ok();
    docker(&daemon, &["rm", "-f", "runs"]).ok();
    // Allowed by name, and nothing else with it.
    drop(daemon);
    let more = ["--userns-remap=", "--security-allow=host-network"];
    let daemon = self::daemon(cx, Options::new().without_bridge(), "strict", &more);
    docker(&daemon, &["run", "--rm", "--net=host", "busybox", "true"]).ok();
    refused(&daemon, &["create", "--pid=host", "busybox"], "--security-allow=host-namespaces");
}

fn strict_keeps_paths_of_the_host_out_by_every_door(cx: &Cx<'_>) {
    let daemon = daemon(cx, Options::new().without_bridge(), "strict", &["--userns-remap="]);
    let outside = cx.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    let path = outside.to_str().unwrap();
    let fresh = cx.dir().join("fresh");
    let switch = "--security-allow=host-paths";
    refused(&daemon, &["create", "-v", &format!("{path}:/x"), "busybox"], switch);
    refused(&daemon, &["create", "-v", &format!("{}:/x", fresh.display()), "busybox"], switch);
    assert!(!fresh.exists(), "the source of a refused mount was made");
    let mount = format!("--mount=type=bind,source={path},target=/x");
    refused(&daemon, &["create", &mount, "busybox"], switch);
    let hidden = format!(
        "--mount=type=volume,target=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={path}"
    );
    refused(&daemon, &["create", &hidden, "busybox"], switch);
    let device = format!("device={path}");
    refused(
        &daemon,
        &["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "vol"],
        switch,
    );
    let layers = format!("o=lowerdir={path}:/");
    refused(
        &daemon,
        &["volume", "create", "-o", "type=overlay", "-o", "device=overlay", "-o", &layers, "vol"],
        switch,
    );
    assert_eq!(docker(&daemon, &["volume", "ls", "-q"]).ok(), "");
    // Volumes, memory and tmpfs are the containers' own.
    let tmpfs = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"];
    docker(&daemon, &tmpfs).ok();
    let args = ["-v", "memory:/m", "-v", "own:/o", "--tmpfs=/t"];
    run(&daemon, &args, "touch /m/a /o/b /t/c");
    docker(&daemon, &["volume", "rm", "memory", "own"]).ok();
}

fn strict_reaches_listed_registries_only(cx: &Cx<'_>) {
    let registry = Registry::gantry(testkit::registry::Options::default()).unwrap();
    let host = registry.host();
    let remote = format!("{host}/team/app:1");
    let first = ["--userns-remap="];
    let daemon = daemon(cx, Options::new().without_bridge(), "strict", &first);
    docker(&daemon, &["tag", "busybox", &remote]).ok();
    for args in [["push", &remote], ["pull", &remote]] {
        let output = docker(&daemon, &args);
        assert!(output.code != Some(0));
        let switch = format!("--registry-allow={host}");
        assert!(output.stderr.contains(&switch), "{args:?}: {}", output.stderr);
    }
    drop(daemon);
    let listed = format!("--registry-allow={host}/team");
    let daemon =
        self::daemon(cx, Options::new().without_bridge(), "strict", &["--userns-remap=", &listed]);
    docker(&daemon, &["tag", "busybox", &remote]).ok();
    docker(&daemon, &["push", "-q", &remote]).ok();
    docker(&daemon, &["rmi", &remote]).ok();
    docker(&daemon, &["pull", "-q", &remote]).ok();
    for other in ["teams/app:1", "other:1"] {
        let output = docker(&daemon, &["pull", &format!("{host}/{other}")]);
        assert!(output.stderr.contains("--registry-allow"), "{}", output.stderr);
    }
}

/// What the daemon says when it does not start.
fn start_fails(cx: &Cx<'_>, args: &[&str]) -> String {
    if !cx.is_gantry() {
        testkit::cx::skip("levels are Gantry's own");
    }
    let root = cx.dir().join("failing");
    fs::create_dir_all(&root).unwrap();
    let place =
        |flag: &str, name: &str| format!("--{flag}={}", Path::new(&root).join(name).display());
    let mut command = Command::new(testkit::daemon::binary().unwrap());
    command.arg("daemon").args([
        place("data-root", "data"),
        place("exec-root", "exec"),
        place("pidfile", "pid"),
        "--bridge=none".into(),
        "--iptables=false".into(),
    ]);
    let output = command::run(command.args(args), b"");
    assert!(output.code != Some(0), "started with {args:?}");
    output.stderr
}

fn sockets_follow_the_level(cx: &Cx<'_>) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (everywhere, own) = (format!("tcp://0.0.0.0:{port}"), format!("tcp://127.0.0.1:{port}"));
    let said = start_fails(cx, &["-H", &everywhere, "--tls=false", "--security-level=secure"]);
    assert!(said.contains("--security-allow=tcp") && said.contains("--tlsverify"), "{said}");
    let said =
        start_fails(cx, &["-H", &own, "--tls=false", "--security-level=strict", "--userns-remap="]);
    assert!(said.contains("--security-allow=tcp"), "{said}");
    // This host's own address may be open at `secure` when it was asked for.
    let daemon =
        daemon(cx, Options::new().without_bridge(), "secure", &["-H", &own, "--tls=false"]);
    let answer = command::run(
        Command::new("docker").env_remove("DOCKER_HOST").args(["-H", &own, "version"]),
        b"",
    );
    answer.ok();
    drop(daemon);
}

fn words_that_nobody_knows_end_the_start(cx: &Cx<'_>) {
    let said = start_fails(cx, &["--security-level=paranoid"]);
    assert!(said.contains("compat, secure, strict"), "{said}");
    let said = start_fails(cx, &["--security-level=strict", "--security-allow=everything"]);
    assert!(said.contains("host-paths"), "{said}");
}

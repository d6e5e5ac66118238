//! Containers that other OCI runtimes carry out: `--runtime`, `runtimes`, `default-runtime`.
//!
//! Debian's runc and crun are the runtimes, and the shim called as one; what a container sees under them is compared with what it sees
//! under the own one.

use serde_json::{Value, json};
use testkit::{Census, Cx, Daemon, cases, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    alone:
    containers_see_what_they_see_under_the_own_runtime,
    options_reach_them,
    streams_and_exit_codes,
    terminals,
    programs_that_cannot_be_run,
    exec_in_all_forms,
    signals_stop_and_pause,
    stats_top_copies_and_updates,
    networks_and_names,
    restart_policies_and_health_checks,
    containers_outlive_the_daemon,
    exits_while_the_daemon_is_away,
    a_killed_shim_leaves_nothing,
    nothing_is_left,
    unknown_and_missing_runtimes,
    the_default_runtime_and_its_reload,
    arguments_of_a_runtime,
    builds_work_under_another_default_runtime,
];

/// Names of the runtimes under test.
const OTHERS: [&str; 3] = ["other-runc", "crun", "own-oci"];

/// Where crun is. It refuses a hybrid hierarchy with controllers in its second half: there a script shows it
/// the first half alone.
fn crun() -> String {
    let second = std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
    if second.is_ok_and(|controllers| controllers.trim().is_empty()) {
        return "/usr/bin/crun".to_owned();
    }
    if !std::path::Path::new("/sys/fs/cgroup/unified").exists() {
        return "/usr/bin/crun".to_owned();
    }
    let script = "#!/bin/sh\nexec unshare --mount sh -c 'umount /sys/fs/cgroup/unified && exec crun \"$@\"' crun \"$@\"\n";
    let folder = testkit::image::cache_dir().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let (new, program) = (folder.join("crun-on-v1.new"), folder.join("crun-on-v1"));
    write_program(&new, script);
    std::fs::rename(&new, &program).unwrap();
    program.display().to_string()
}

fn write_program(path: &std::path::Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

fn options() -> Options {
    let runtimes = json!({"other-runc": {"path": "runc"}, "crun": {"path": crun()},
        "own-oci": {"path": crate::oci_runtime::shim()}});
    Options { config: json!({ "runtimes": runtimes }).to_string(), ..Options::new() }
}

fn daemon_with(cx: &Cx<'_>, options: Options) -> Daemon {
    if !cx.daemon.is_own() || !cx.is_gantry() {
        skip("runtimes are set up for a daemon of Gantry's");
    }
    let found = |name: &str| {
        ["/usr/sbin", "/usr/bin"].iter().any(|dir| std::path::Path::new(dir).join(name).exists())
    };
    if !found("runc") || !found("crun") {
        skip("runc and crun are not installed");
    }
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn daemon(cx: &Cx<'_>) -> Daemon {
    daemon_with(cx, options())
}

/// Does the same under each of the other runtimes.
fn each(cx: &Cx<'_>, case: impl Fn(&Cx<'_>, &str)) {
    let daemon = daemon(cx);
    for runtime in OTHERS {
        let cx = Cx::new(&daemon, runtime);
        case(&cx, runtime);
        cx.clean();
    }
}

fn sleeper(cx: &Cx<'_>, part: &str, runtime: &str, options: &[&str]) -> String {
    cx.sleeper(part, &[&["--runtime", runtime], options].concat())
}

/// What a process can tell of its surroundings. Not the owners in `/dev` and its link to kcore: crun's are others.
const PROBE: &str = "id; pwd; hostname; env | grep -v HOSTNAME | sort; ulimit -n; cat /proc/self/oom_score_adj; \
    grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; ls -l /dev | awk '{print $1, $NF}' | grep -v kcore | sort; \
    cut -d' ' -f5 /proc/self/mountinfo | grep -v -E '^/(proc|sys)/' | sort; cat /proc/sys/net/ipv4/ping_group_range; \
    ls /proc/acpi /sys/firmware /proc/scsi 2>&1; touch /proc/sys/kernel/x /sys/x 2>&1; ls /sys/class/net; umask; echo $$; \
    unshare -m true 2>&1; mount -t tmpfs x /mnt 2>&1; cat /etc/resolv.conf; readlink /proc/self/fd/0; id -Gn; true";

fn containers_see_what_they_see_under_the_own_runtime(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "probe");
    let rich: &[&str] = &[
        "-u",
        "alice:daemon",
        "--group-add",
        "77",
        "-w",
        "/new/folder",
        "-e",
        "A=b",
        "--ulimit",
        "nofile=100:200",
        "--oom-score-adj",
        "300",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--security-opt",
        "no-new-privileges",
        "--tmpfs",
        "/scratch:size=1m,mode=1770",
        "--sysctl",
        "net.ipv4.ip_forward=0",
        "--device",
        "/dev/zero:/dev/nought",
    ];
    for options in [&[][..], &["--read-only"], &["--privileged"], rich] {
        let run = |runtime: &str| {
            let fixed = ["--runtime", runtime, "-h", "fixed"];
            cx.run(&[&fixed, options].concat(), &["sh", "-c", PROBE]).ok().to_owned()
        };
        let own = run("runc");
        for runtime in OTHERS {
            let other = run(runtime);
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&own), lines(&other), "{runtime} {options:?}");
        }
    }
}

fn options_reach_them(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let run = |options: &[&str], script: &str| {
            cx.busybox(&[&["--runtime", runtime], options].concat(), &["sh", "-c", script])
        };
        cx.write("data/sub/f", "bound\n");
        let bind = format!("{}:/d:ro", cx.dir().join("data").display());
        assert_eq!(
            run(&["-v", &bind], "cat /d/sub/f; touch /d/x 2>&1; true"),
            "bound\ntouch: /d/x: Read-only file system"
        );
        let file = format!("{}:/etc/f", cx.dir().join("data/sub/f").display());
        assert_eq!(run(&["-v", &file], "cat /etc/f"), "bound");
        let volume = cx.name("v");
        run(&["-v", &format!("{volume}:/v")], "mkdir /v/sub; echo part > /v/sub/f");
        let part = format!("type=volume,src={volume},dst=/p,volume-subpath=sub");
        assert_eq!(run(&["--mount", &part], "cat /p/f"), "part");
        assert_eq!(
            run(
                &["--mount", "type=image,src=busybox,dst=/i"],
                "test -x /i/bin/busybox && echo image"
            ),
            "image"
        );
        assert_eq!(run(&["--init"], "cat /proc/1/comm"), "docker-init");
        assert_eq!(run(&["--network", "none"], "ls /sys/class/net"), "lo");
        assert_eq!(run(&["--shm-size", "3m"], "df -m /dev/shm | awk 'NR==2{print $2}'"), "3");
        assert_eq!(run(&["--pid", "host"], "test $$ -gt 1 && echo host"), "host");
        let denied = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        let profile = cx.write("profile.json", denied);
        let option = format!("seccomp={}", profile.display());
        assert!(run(&["--security-opt", &option], "mkdir /x 2>&1; true").contains("not permitted"));
        let a = sleeper(cx, "a", runtime, &["--ipc", "shareable"]);
        let joined = format!("container:{a}");
        let own = "readlink /proc/1/ns/net; readlink /proc/1/ns/ipc";
        let net = cx.docker(&["exec", &a, "sh", "-c", own]).ok().to_owned();
        let both = ["--network", &joined, "--ipc", &joined, "--pid", &joined];
        assert_eq!(run(&both, "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc"), net);
        // It shares the pids of another container: all of it ends with its first process.
        let b = sleeper(cx, "b", runtime, &["--pid", &joined]);
        cx.docker(&["exec", "-d", &b, "sleep", "4711"]).ok();
        cx.docker(&["kill", &b]).ok();
        let left = cx.docker(&["exec", &a, "ps"]).ok().to_owned();
        assert!(!left.contains("4711"), "{left}");
    });
}

fn streams_and_exit_codes(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let head = ["--runtime", runtime];
        let output = cx.run(&head, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
        output.code(7);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        let piped = cx.docker_with(
            &["run", "--rm", "-i", "--runtime", runtime, "busybox", "sh", "-c", "cat; echo end"],
            "piped\n",
        );
        assert_eq!(piped.ok(), "piped\nend");
        let name = cx.start("a", &head, &["sh", "-c", "seq 1 20000; echo done >&2; exit 3"]);
        assert_eq!(cx.wait(&name), 3);
        let logs = cx.docker(&["logs", &name]);
        assert_eq!((logs.lines().len(), logs.stderr.as_str()), (20_000, "done\n"));
        // Again, with the same writable tree.
        cx.docker(&["start", "-a", &name]).code(3);
        assert_eq!(cx.inspect(&name)["HostConfig"]["Runtime"], runtime);
        cx.docker(&["rm", &name]).ok();
    });
}

fn terminals(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let name = cx.name("a");
        let mut pty =
            cx.terminal(&["run", "-it", "--runtime", runtime, "--name", &name, "busybox", "sh"]);
        pty.expect("/ # ");
        pty.send("test -t 0 -a -t 1 -a -t 2 && echo is-a-$((1+1))-tty; ls -l /dev/console\n");
        pty.expect("is-a-2-tty");
        pty.send("until [ \"$(stty size)\" = '24 80' ]; do sleep 0.1; done; echo first-$((1+1))\n");
        pty.expect("first-2");
        pty.resize(50, 132);
        pty.send("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo then-$((1+1))\n");
        pty.expect("then-2");
        let mut exec = cx.terminal(&["exec", "-it", &name, "sh"]);
        exec.expect("/ # ");
        exec.send("echo $((40+2)) $TERM; tty\n");
        exec.expect("42 xterm");
        exec.send("exit 3\n");
        assert_eq!(exec.wait().0, 3);
        pty.send("exit 5\n");
        assert_eq!(pty.wait().0, 5);
        assert!(cx.docker(&["logs", &name]).ok().contains("is-a-2-tty"));
    });
}

fn programs_that_cannot_be_run(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        // The command line goes by runc's own words; the code on record is the daemon's.
        let refused = |part: &str, options: &[&str], program: &str, code: i64, words: &[&str]| {
            let name = cx.name(part);
            let head = ["create", "--runtime", runtime, "--name", &name];
            cx.docker(&[&head, options, &["busybox", program]].concat()).ok();
            cx.docker(&["start", &name]).fails_with(1, words);
            assert_eq!(cx.inspect(&name)["State"]["ExitCode"], code, "{part}");
            cx.docker(&["rm", &name]).ok();
        };
        let create = "OCI runtime create failed";
        refused(
            "a",
            &[],
            "no-such-program",
            127,
            &[create, "no-such-program", "not found in $PATH"],
        );
        refused("b", &[], "/etc/passwd", 126, &[create, "ermission denied"]);
        refused("c", &["-u", "no-such-user"], "true", 128, &["unable to find user no-such-user"]);
        refused("d", &["-w", "/etc/passwd"], "true", 127, &["ot a directory"]);
        // The same container starts once its program is there.
        let name = cx.name("later");
        cx.docker(&["create", "--runtime", runtime, "--name", &name, "busybox", "/later"]).ok();
        cx.docker(&["start", &name]).fails_with(1, &["OCI runtime create failed"]);
        assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 127);
        let program = cx.dir().join("later");
        write_program(&program, "#!/bin/sh\necho ran\n");
        cx.docker(&["cp", &program.display().to_string(), &format!("{name}:/later")]).ok();
        assert_eq!(cx.docker(&["start", "-a", &name]).ok(), "ran");
    });
}

fn exec_in_all_forms(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let name = sleeper(cx, "a", runtime, &["-e", "A=container", "-w", "/var"]);
        let exec = |options: &[&str], args: &[&str]| {
            cx.docker(&[&["exec"], options, &[&name], args].concat())
        };
        let sh =
            |options: &[&str], script: &str| exec(options, &["sh", "-c", script]).ok().to_owned();
        assert_eq!(sh(&[], "echo $A; pwd; id -u"), "container\n/var\n0");
        let user = ["-u", "alice", "-e", "A=exec", "-w", "/etc"];
        assert_eq!(sh(&user, "echo $A; pwd; id -u; echo $HOME"), "exec\n/etc\n1234\n/home");
        exec(&[], &["sh", "-c", "exit 9"]).code(9);
        exec(&[], &["sh", "-c", "kill -9 $$"]).code(137);
        let output = exec(&[], &["sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        let piped = cx.docker_with(&["exec", "-i", &name, "sh", "-c", "cat; echo end"], "piped\n");
        assert_eq!(piped.ok(), "piped\nend");
        let caps = |options: &[&str]| {
            exec(options, &["grep", "CapEff", "/proc/self/status"]).ok().to_owned()
        };
        assert_eq!(caps(&[]), "CapEff:\t00000000a80425fb");
        assert_eq!(caps(&["-u", "alice"]), "CapEff:\t0000000000000000");
        let missing = exec(&[], &["no-such-program"]);
        missing.code(127);
        let text = format!("{}{}", missing.stdout, missing.stderr);
        assert!(
            text.contains("OCI runtime exec failed") && text.contains("no-such-program"),
            "{text}"
        );
        exec(&[], &["/etc/passwd"]).code(126);
        exec(&["-u", "nobody-at-all"], &["true"]).code(126);
        // Orphans of an exec are reaped; many at once meet nobody else's.
        sh(&[], "for n in 1 2 3; do (sleep 0.01 &) ; done; true");
        let execs: Vec<_> = (0..8)
            .map(|n| {
                let mut command = cx.command();
                command.args(["exec", &name, "sh", "-c", &format!("exit {n}")]);
                command.spawn().unwrap()
            })
            .collect();
        for (n, mut child) in execs.into_iter().enumerate() {
            assert_eq!(child.wait().unwrap().code(), Some(i32::try_from(n).unwrap()));
        }
        exec(&["-d"], &["sh", "-c", "echo x > /made"]).ok();
        cx.until("the detached exec has run", || {
            (exec(&[], &["cat", "/made"]).stdout == "x\n").then_some(())
        });
    });
}

fn signals_stop_and_pause(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let script = "trap 'echo got-usr1' USR1; trap 'exit 4' TERM; echo ready; while :; do sleep 600 & wait; done";
        let name = cx.start("a", &["--runtime", runtime], &["sh", "-c", script]);
        cx.wait_for_log(&name, "ready");
        cx.docker(&["kill", "-s", "USR1", &name]).ok();
        cx.wait_for_log(&name, "got-usr1");
        cx.docker(&["pause", &name]).ok();
        assert_eq!(cx.inspect(&name)["State"]["Status"], "paused");
        cx.docker(&["kill", "-s", "USR1", &name]).ok();
        cx.docker(&["pause", &name]).fails_with(1, &["already paused"]);
        cx.docker(&["unpause", &name]).ok();
        cx.until("the signal has arrived after the pause", || {
            let logs = cx.docker(&["logs", &name]).stdout;
            (logs.matches("got-usr1").count() == 2).then_some(())
        });
        cx.docker(&["stop", "-t", "20", &name]).ok();
        assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 4);
        cx.docker(&["kill", &name]).fails_with(1, &["is not running"]);
        cx.docker(&["restart", &name]).ok();
        cx.docker(&["pause", &name]).ok();
        cx.docker(&["kill", &name]).ok();
        assert_eq!(cx.wait(&name), 137);
        cx.docker(&["start", &name]).ok();
        cx.docker(&["pause", &name]).ok();
        cx.docker(&["stop", "-t", "20", &name]).ok();
        // One that does not listen is killed.
        let deaf = cx.start(
            "b",
            &["--runtime", runtime],
            &["sh", "-c", "trap '' TERM; echo ready; sleep 600"],
        );
        cx.wait_for_log(&deaf, "ready");
        cx.docker(&["stop", "-t", "0", &deaf]).ok();
        assert_eq!(cx.inspect(&deaf)["State"]["ExitCode"], 137);
        let removed = sleeper(cx, "c", runtime, &[]);
        cx.docker(&["pause", &removed]).ok();
        cx.docker(&["rm", "-f", &removed]).ok();
    });
}

fn stats_top_copies_and_updates(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let name = sleeper(cx, "a", runtime, &["--memory", "64m", "--pids-limit", "50"]);
        let stats = cx.api().get(&format!("/containers/{name}/stats?stream=false")).expect(200);
        assert!(stats["memory_stats"]["usage"].as_u64().unwrap() > 0, "{stats}");
        assert_eq!(stats["memory_stats"]["limit"], 64 << 20);
        assert_eq!(stats["pids_stats"]["limit"], 50);
        assert!(stats["networks"]["eth0"].is_object(), "{stats}");
        assert!(cx.docker(&["top", &name]).ok().contains("sleep 600"));
        let file = cx.write("f", "copied\n").display().to_string();
        cx.docker(&["cp", &file, &format!("{name}:/tmp/f")]).ok();
        assert_eq!(cx.docker(&["exec", &name, "cat", "/tmp/f"]).ok(), "copied");
        cx.docker(&["exec", &name, "sh", "-c", "echo out > /tmp/g"]).ok();
        cx.docker(&["cp", &format!("{name}:/tmp/g"), "g"]).ok();
        assert_eq!(std::fs::read_to_string(cx.dir().join("g")).unwrap(), "out\n");
        let diff = cx.docker(&["diff", &name]).ok().to_owned();
        assert!(diff.contains("A /tmp/f"), "{diff}");
        cx.docker(&["update", "--memory", "128m", "--memory-swap", "256m", &name]).ok();
        let stats = cx.api().get(&format!("/containers/{name}/stats?stream=false")).expect(200);
        assert_eq!(stats["memory_stats"]["limit"], 128 << 20);
        let oom = cx.start(
            "b",
            &["--runtime", runtime, "--memory", "16m", "--memory-swap", "16m"],
            &["sh", "-c", "x=a; while :; do x=$x$x; done"],
        );
        assert_ne!(cx.wait(&oom), 0);
        assert_eq!(cx.inspect(&oom)["State"]["OOMKilled"], true);
        cx.docker(&["commit", &name, &cx.name("image")]).ok();
        assert_eq!(cx.docker(&["run", "--rm", &cx.name("image"), "cat", "/tmp/g"]).ok(), "out");
    });
}

fn networks_and_names(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let net = cx.name("net");
        cx.docker(&["network", "create", &net]).ok();
        let one = sleeper(cx, "a", runtime, &["--network", &net]);
        let two = cx.sleeper("b", &["--network", &net]);
        for (from, to) in [(&one, &two), (&two, &one)] {
            cx.docker(&["exec", from, "ping", "-c", "1", "-W", "5", to]).ok();
        }
        cx.docker(&["network", "disconnect", &net, &one]).ok();
        assert_eq!(cx.docker(&["exec", &one, "ls", "/sys/class/net"]).ok(), "lo");
        cx.docker(&["network", "connect", "bridge", &one]).ok();
        assert!(cx.docker(&["exec", &one, "ls", "/sys/class/net"]).ok().contains("eth"));
    });
}

fn restart_policies_and_health_checks(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let name = cx.start(
            "a",
            &["--runtime", runtime, "--restart", "on-failure:3"],
            &["sh", "-c", "echo run; exit 1"],
        );
        cx.until("the policy has given up", || {
            let state = cx.inspect(&name);
            (state["RestartCount"] == 3 && state["State"]["Status"] == "exited").then_some(())
        });
        assert_eq!(cx.docker(&["logs", &name]).ok(), "run\nrun\nrun\nrun");
        let check = ["--health-cmd", "test ! -e /bad", "--health-interval", "100ms"];
        let checked = sleeper(cx, "b", runtime, &check);
        let becomes = |status: &str| {
            cx.until(&format!("{checked} is {status}"), || {
                (cx.inspect(&checked)["State"]["Health"]["Status"] == status).then_some(())
            });
        };
        becomes("healthy");
        cx.docker(&["exec", &checked, "touch", "/bad"]).ok();
        becomes("unhealthy");
    });
}

fn containers_outlive_the_daemon(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    for runtime in OTHERS {
        let cx = Cx::new(&daemon, &format!("outlive-{runtime}"));
        let name = cx.start("a", &["-i", "--runtime", runtime], &["cat"]);
        let paused = sleeper(&cx, "b", runtime, &[]);
        cx.docker(&["pause", &paused]).ok();
        let before = cx.inspect(&name);
        daemon.kill().unwrap();
        daemon.start_again().unwrap();
        let after = cx.inspect(&name);
        for key in ["Pid", "StartedAt", "Status", "Running"] {
            assert_eq!(before["State"][key], after["State"][key], "{key}");
        }
        cx.docker(&["exec", &name, "sh", "-c", "exit 7"]).code(7);
        let mut stream = cx.api().stream(
            "POST",
            &format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1"),
            true,
            &Value::Null,
        );
        stream.send(b"after the restart\n").unwrap();
        assert_eq!(stream.frame(), Some((1, b"after the restart\n".to_vec())));
        cx.docker(&["unpause", &paused]).ok();
        cx.docker(&["stop", "-t", "20", &paused]).ok();
        assert_eq!(cx.inspect(&paused)["State"]["ExitCode"], 0);
        cx.docker(&["rm", "-f", &name, &paused]).ok();
    }
}

fn exits_while_the_daemon_is_away(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    for runtime in OTHERS {
        let cx = Cx::new(&daemon, &format!("exits-{runtime}"));
        let folder = cx.dir().join("go");
        std::fs::create_dir(&folder).unwrap();
        let mount = format!("{}:/go", folder.display());
        let script = "echo ready; until [ -e /go/now ]; do sleep 0.05; done; exit 23";
        let options = ["--runtime", runtime, "-v", &mount];
        let name = cx.start("a", &options, &["sh", "-c", script]);
        let vanishing = cx.start("b", &[&["--rm"], &options[..]].concat(), &["sh", "-c", script]);
        cx.wait_for_log(&name, "ready");
        let pid = cx.inspect(&name)["State"]["Pid"].to_string();
        daemon.kill().unwrap();
        std::fs::write(folder.join("now"), "").unwrap();
        cx.until("the process has ended", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
        daemon.start_again().unwrap();
        assert_eq!(cx.wait(&name), 23);
        assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 23);
        cx.until("a container of --rm is gone", || {
            (cx.api().get(&format!("/containers/{vanishing}/json")).status() == 404).then_some(())
        });
    }
}

/// Pid of the shim of a process: its parent.
fn parent(pid: &Value) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("PPid:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn a_killed_shim_leaves_nothing(cx: &Cx<'_>) {
    each(cx, |cx, runtime| {
        let name = sleeper(cx, "a", runtime, &[]);
        let state = cx.inspect(&name);
        let pid = state["State"]["Pid"].clone();
        let shim = rustix::process::Pid::from_raw(parent(&pid)).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        assert_eq!(cx.wait(&name), 137);
        cx.until("its processes are gone", || {
            (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        cx.docker(&["start", &name]).ok();
        cx.docker(&["exec", &name, "true"]).ok();
        cx.docker(&["rm", "-f", &name]).ok();
    });
}

fn nothing_is_left(cx: &Cx<'_>) {
    let before = Census::take(&[]);
    let daemon = daemon(cx);
    let mut marks = vec![daemon.path("").display().to_string(), daemon.bridge().unwrap()];
    for runtime in OTHERS {
        let cx = Cx::new(&daemon, runtime);
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for n in 0..3 {
            let options = ["-v", "/v", "--memory", "64m"];
            let name = sleeper(&cx, &format!("a{n}"), runtime, &options);
            marks.push(cx.inspect(&name)["Id"].as_str().unwrap().to_owned());
        }
        let own = daemon.path("").display().to_string();
        assert!(!mounts().contains(&own), "the host sees no mount of a container");
        assert_ne!(cx.run(&["--runtime", runtime], &["no-such-program"]).code, Some(0));
        cx.run(&["--runtime", runtime], &["true"]).ok();
        daemon.kill().unwrap();
        daemon.start_again().unwrap();
        let ended = cx.start("b", &["--runtime", runtime], &["true"]);
        cx.wait(&ended);
        let id = cx.inspect(&ended)["Id"].as_str().unwrap().to_owned();
        cx.until("its run folder is gone", || {
            (!daemon.path("exec/containers").join(&id).exists()).then_some(())
        });
    }
    daemon.empty_and_stop().unwrap();
    let dirs = [daemon.path("exec"), daemon.path("root/containers"), daemon.path("root/tmp")];
    let after = Census::take(&dirs.each_ref().map(std::path::PathBuf::as_path));
    let mut left = after.leftovers(&before, Some(&marks));
    left.retain(|l| !l.starts_with(&format!("link: {} ", daemon.bridge().unwrap())));
    left.retain(|l| !matches!(l.rsplit('/').next(), Some("containers" | "lock")));
    assert!(left.is_empty(), "{}", left.join("\n"));
}

fn unknown_and_missing_runtimes(cx: &Cx<'_>) {
    let mut options = options();
    options.config = json!({"runtimes": {"gone": {"path": "/no/such/runtime"}, "name": {"path": "no-such-runtime"}}})
        .to_string();
    let daemon = daemon_with(cx, options);
    let cx = Cx::new(&daemon, "unknown");
    let run = |runtime: &str| cx.run(&["--runtime", runtime], &["true"]);
    for unknown in ["none-such", "io.containerd.kata.v2", "../runc"] {
        run(unknown).fails_with(125, &[&format!("unknown or invalid runtime name: {unknown}")]);
    }
    run("gone").fails_with(127, &["no such file or directory"]);
    run("name").fails_with(127, &["exec: \"no-such-runtime\": executable file not found in $PATH"]);
    run("/etc/passwd").fails_with(126, &["permission denied"]);
    // A program that is no runtime: it ends, and says nothing.
    run("/bin/false").fails_with(125, &["/bin/false ended with code 1 and said nothing"]);
    run("/bin/true").fails_with(127, &["pid file"]);
    assert_eq!(cx.busybox(&["--runtime", &crun()], &["echo", "by path"]), "by path");
    assert_eq!(cx.docker(&["ps", "-aq"]).ok(), "");
}

fn the_default_runtime_and_its_reload(cx: &Cx<'_>) {
    let daemon = daemon_with(cx, options().args(&["--default-runtime", "crun"]));
    let cx = Cx::new(&daemon, "default");
    let info = cx.api().get("/info").expect(200);
    assert_eq!(info["DefaultRuntime"], "crun");
    assert_eq!(info["Runtimes"]["crun"]["path"], crun());
    assert!(info["Runtimes"]["runc"]["path"].as_str().unwrap().ends_with("gantry-shim"));
    assert!(cx.docker(&["info"]).ok().contains("Default Runtime: crun"));
    let name = cx.sleeper("a", &[]);
    assert_eq!(cx.inspect(&name)["HostConfig"]["Runtime"], "crun");
    let exec = daemon.path("exec/containers");
    let id = cx.inspect(&name)["Id"].as_str().unwrap().to_owned();
    assert!(exec.join(&id).join("runtime").exists(), "crun keeps its state there");
    // Another set of runtimes, while a container of the old one runs.
    let file = json!({"runtimes": {"crun": {"path": crun()}, "new": {"path": "runc"}}});
    std::fs::write(daemon.path("daemon.json"), file.to_string()).unwrap();
    daemon.signal(rustix::process::Signal::HUP).unwrap();
    cx.until("the new runtime is known", || {
        cx.api().get("/info").expect(200)["Runtimes"]["new"].is_object().then_some(())
    });
    cx.run(&["--runtime", "other-runc"], &["true"])
        .fails_with(125, &["unknown or invalid runtime name: other-runc"]);
    assert_eq!(cx.busybox(&["--runtime", "new"], &["echo", "new"]), "new");
    cx.docker(&["exec", &name, "true"]).ok();
    cx.docker(&["rm", "-f", &name]).ok();
}

fn arguments_of_a_runtime(cx: &Cx<'_>) {
    let folder = tempfile::Builder::new().prefix("gtk-runtime-").tempdir().unwrap();
    let program = folder.path().join("noted-crun");
    let notes = folder.path().join("notes");
    let script =
        format!("#!/bin/sh\necho \"$@\" >> {}\nshift 1\nexec {} \"$@\"\n", notes.display(), crun());
    write_program(&program, &script);
    let mut options = options();
    options.config =
        json!({"runtimes": {"noted": {"path": program, "runtimeArgs": ["--first"]}}}).to_string();
    let daemon = daemon_with(cx, options);
    let cx = Cx::new(&daemon, "arguments");
    assert_eq!(cx.busybox(&["--runtime", "noted", "--annotation", "a.b=c"], &["echo", "x"]), "x");
    let notes = std::fs::read_to_string(notes).unwrap();
    let calls: Vec<&str> = notes.lines().collect();
    assert!(calls.iter().all(|c| c.starts_with("--first --root ")), "{notes}");
    for (call, word) in calls.iter().zip(["create", "start", "delete"]) {
        assert!(call.contains(&format!(" {word} ")), "{notes}");
    }
    assert_eq!(calls.len(), 3, "{notes}");
}

fn builds_work_under_another_default_runtime(cx: &Cx<'_>) {
    let daemon = daemon_with(cx, options().args(&["--default-runtime", "crun"]));
    let cx = Cx::new(&daemon, "builds");
    let file = "FROM busybox\nRUN echo built > /f\n";
    cx.docker_with(&["build", "-q", "-t", &cx.name("i"), "-"], file).ok();
    assert_eq!(cx.docker(&["run", "--rm", &cx.name("i"), "cat", "/f"]).ok(), "built");
}

//! `kill -9` of the daemon: containers go on, and the next start finds everything.

use serde_json::{Value, json};
use testkit::{Cx, Daemon, cases, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    alone:
    containers_outlive_the_daemon,
    logs_are_whole,
    exits_meanwhile_are_recorded,
    exec_and_attach_work_again,
    published_ports_go_on,
    stop_and_remove_work_again,
    created_and_stopped_survive,
    images_and_volumes_survive,
    restart_policy_acts_on_start,
    health_checks_go_on,
    ordered_stop_leaves_nothing,
    names_and_addresses_stay_taken,
    kill_during_builds_leaves_nothing,
    kill_during_builds_of_buildkit_loses_that_build_alone,
];

fn daemon(cx: &Cx<'_>) -> Daemon {
    if !cx.daemon.is_own() {
        skip("the daemon is not ours to kill");
    }
    if !cx.is_gantry() {
        skip("dockerd does not start again before its containerd has ended");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn again(daemon: &Daemon) {
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
}

fn containers_outlive_the_daemon(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "outlive");
    let name = cx.sleeper("a", &[]);
    let paused = cx.sleeper("b", &[]);
    cx.docker(&["pause", &paused]).ok();
    let before = cx.inspect(&name);
    again(&daemon);
    let after = cx.inspect(&name);
    for key in ["Pid", "StartedAt", "Status", "Running"] {
        assert_eq!(before["State"][key], after["State"][key], "{key}");
    }
    assert_eq!(
        before["NetworkSettings"]["Networks"]["bridge"]["IPAddress"],
        after["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    );
    assert!(std::path::Path::new(&format!("/proc/{}", after["State"]["Pid"])).exists());
    assert_eq!(cx.inspect(&paused)["State"]["Status"], "paused");
    cx.docker(&["unpause", &paused]).ok();
}

fn logs_are_whole(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "logs");
    let name = cx.start(
        "a",
        &[],
        &[
            "sh",
            "-c",
            "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; usleep 500; done; echo done",
        ],
    );
    cx.wait_for_log(&name, "100\n");
    daemon.kill().unwrap();
    let path =
        std::fs::read_dir(daemon.path("root/containers")).unwrap().flatten().next().unwrap().path();
    let log = std::fs::read_dir(&path)
        .unwrap()
        .flatten()
        .find(|e| e.file_name().to_string_lossy().ends_with("-json.log"))
        .unwrap()
        .path();
    let size = log.metadata().unwrap().len();
    cx.until("the log grows without a daemon", || {
        (log.metadata().unwrap().len() > size).then_some(())
    });
    daemon.start_again().unwrap();
    let output = cx.docker(&["logs", "-f", &name]);
    let lines = output.lines();
    assert_eq!(lines.len(), 3001, "none lost, none doubled");
    assert!(lines[..3000].iter().enumerate().all(|(n, l)| *l == (n + 1).to_string()));
    assert_eq!(cx.wait(&name), 0);
}

fn exits_meanwhile_are_recorded(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "exits");
    let fifo = cx.dir().join("go");
    std::fs::create_dir(&fifo).unwrap();
    let mount = format!("{}:/go", fifo.display());
    let script = "echo ready; until [ -e /go/now ]; do sleep 0.05; done; exit 23";
    let name = cx.start("a", &["-v", &mount], &["sh", "-c", script]);
    let vanishing = cx.start("b", &["--rm", "-v", &mount], &["sh", "-c", script]);
    cx.wait_for_log(&name, "ready");
    let pid = cx.inspect(&name)["State"]["Pid"].to_string();
    daemon.kill().unwrap();
    std::fs::write(fifo.join("now"), "").unwrap();
    cx.until("the process has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    daemon.start_again().unwrap();
    assert_eq!(cx.wait(&name), 23);
    let state = cx.inspect(&name)["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(23)));
    cx.until("a container of --rm is gone", || {
        (cx.api().get(&format!("/containers/{vanishing}/json")).status() == 404).then_some(())
    });
}

fn exec_and_attach_work_again(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "exec");
    let name = cx.start("a", &["-i"], &["cat"]);
    again(&daemon);
    cx.docker(&["exec", &name, "sh", "-c", "exit 7"]).code(7);
    let mut stream = cx.api().stream(
        "POST",
        &format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1"),
        true,
        &Value::Null,
    );
    stream.send(b"after the restart\n").unwrap();
    assert_eq!(stream.frame(), Some((1, b"after the restart\n".to_vec())));
    let mut next =
        cx.api().stream("POST", &format!("/containers/{name}/wait"), false, &Value::Null);
    cx.docker(&["kill", &name]).ok();
    assert!(next.line().unwrap().contains("137"));
}

fn published_ports_go_on(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "ports");
    let name = cx.start(
        "a",
        &["-p", "127.0.0.1:28160:80"],
        &["sh", "-c", "while :; do echo served | nc -l -p 80; done"],
    );
    let fetch = || {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect_timeout(
            &"127.0.0.1:28160".parse().unwrap(),
            std::time::Duration::from_secs(2),
        )
        .ok()?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (text == "served\n").then_some(())
    };
    cx.until("it serves", fetch);
    daemon.kill().unwrap();
    cx.until("it serves without a daemon", fetch);
    daemon.start_again().unwrap();
    cx.until("it serves afterwards", fetch);
    let taken = cx.docker(&[
        "run",
        "-d",
        "--name",
        &cx.name("b"),
        "-p",
        "127.0.0.1:28160:80",
        "busybox",
        "true",
    ]);
    taken.fails_with(125, &["port is already allocated"]);
    cx.docker(&["rm", "-f", &name]).ok();
    cx.docker(&["start", &cx.name("b")]).ok();
}

fn stop_and_remove_work_again(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "stop");
    let names: Vec<_> = (0..4).map(|n| cx.sleeper(&format!("a{n}"), &[])).collect();
    again(&daemon);
    cx.docker(&["stop", "-t", "5", &names[0]]).ok();
    assert_eq!(cx.inspect(&names[0])["State"]["ExitCode"], 0);
    cx.docker(&["restart", "-t", "5", &names[1]]).ok();
    cx.docker(&["pause", &names[2]]).ok();
    cx.docker(&[&["rm", "-f"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())
        .ok();
    assert_eq!(cx.docker(&["ps", "-aq"]).ok(), "");
}

fn created_and_stopped_survive(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "stopped");
    let created = cx.name("created");
    cx.docker(&["create", "--name", &created, "-e", "A=b", "busybox", "sh", "-c", "echo $A"]).ok();
    let stopped = cx.start("stopped", &[], &["sh", "-c", "echo data > /f; exit 3"]);
    cx.wait(&stopped);
    again(&daemon);
    assert_eq!(cx.docker(&["start", "-a", &created]).ok(), "b");
    assert_eq!(cx.inspect(&stopped)["State"]["ExitCode"], 3);
    cx.docker(&["rm", &created, &stopped]).ok();
}

fn images_and_volumes_survive(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "images");
    cx.docker_with(&["build", "-q", "-t", "kept", "-"], "FROM busybox\nRUN echo built > /f\n").ok();
    cx.busybox(&["-v", "kept:/v"], &["sh", "-c", "echo volume > /v/f"]);
    again(&daemon);
    assert_eq!(cx.docker(&["run", "--rm", "kept", "cat", "/f"]).ok(), "built");
    assert_eq!(cx.busybox(&["-v", "kept:/v"], &["cat", "/v/f"]), "volume");
    let output =
        cx.docker_with(&["build", "-t", "kept", "-"], "FROM busybox\nRUN echo built > /f\n");
    assert!(output.ok().contains("Using cache"), "{}", output.describe());
}

fn restart_policy_acts_on_start(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "policy");
    let always = cx.sleeper("a", &["--restart", "always"]);
    let pid = cx.inspect(&always)["State"]["Pid"].as_i64().unwrap();
    daemon.kill().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    cx.until("it is dead", || rustix::process::test_kill_process(pid).is_err().then_some(()));
    daemon.start_again().unwrap();
    cx.until("the policy has started it again", || {
        (cx.inspect(&always)["State"]["Running"] == true).then_some(())
    });
    cx.docker(&["rm", "-f", &always]).ok();
}

fn ordered_stop_leaves_nothing(cx: &Cx<'_>) {
    let before = testkit::Census::take(&[]);
    let daemon = daemon(cx);
    let mut marks = vec![daemon.path("").display().to_string(), daemon.bridge().unwrap()];
    {
        let cx = Cx::new(&daemon, "nothing");
        for n in 0..3 {
            let id = cx.sleeper(&format!("a{n}"), &["-p", "80", "-v", "/v", "--memory", "64m"]);
            marks.push(cx.inspect(&id)["Id"].as_str().unwrap().to_owned());
        }
        again(&daemon);
        cx.run(&[], &["true"]).ok();
    }
    daemon.empty_and_stop().unwrap();
    let dirs = [daemon.path("exec"), daemon.path("root/containers"), daemon.path("root/tmp")];
    let after = testkit::Census::take(&dirs.each_ref().map(std::path::PathBuf::as_path));
    let mut left = after.leftovers(&before, Some(&marks));
    left.retain(|l| !l.starts_with(&format!("link: {} ", daemon.bridge().unwrap())));
    left.retain(|l| !matches!(l.rsplit('/').next(), Some("containers" | "lock")));
    assert!(left.is_empty(), "{}", left.join("\n"));
}

fn names_and_addresses_stay_taken(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "taken");
    let name = cx.sleeper("a", &[]);
    let ip =
        |name: &str| cx.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
    let first = ip(&name);
    again(&daemon);
    cx.docker(&["create", "--name", &name, "busybox"])
        .fails_with(1, &["is already in use by container"]);
    let second = cx.sleeper("b", &[]);
    assert_ne!(ip(&second), first);
}

fn kill_during_builds_leaves_nothing(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "building");
    cx.write("Dockerfile", "FROM busybox\nRUN echo started; sleep 600; true\n");
    let mut build = cx.command();
    build
        .args(["build", "."])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut build = build.spawn().unwrap();
    let sleeping = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|e| {
            let cgroup = std::fs::read_to_string(e.path().join("cmdline")).unwrap_or_default();
            cgroup.contains("echo started; sleep 600") && !cgroup.contains("build")
        })
    };
    cx.until("the step runs", || sleeping().then_some(()));
    again(&daemon);
    _ = build.wait();
    cx.until("the step's process is gone", || (!sleeping()).then_some(()));
    assert_eq!(cx.docker(&["ps", "-aq"]).ok(), "");
    cx.run(&[], &["true"]).ok();
}

fn kill_during_builds_of_buildkit_loses_that_build_alone(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "bk");
    cx.write("secret", "hidden");
    let file = |end: &str| {
        format!(
            "FROM busybox\nRUN echo kept > /f\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c {end}\n"
        )
    };
    cx.write("context/Dockerfile", file("touch /c/x; echo step $((1 + 1)) runs; sleep 1259"));
    let log = cx.dir().join("log");
    let mut build = cx.gantry_build();
    build
        .args(["--secret", "id=s,src=secret", "context"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut build = build.spawn().unwrap();
    cx.until("the step runs", || {
        std::fs::read_to_string(&log).is_ok_and(|l| l.contains(" step 2 runs")).then_some(())
    });
    again(&daemon);
    assert!(!build.wait().unwrap().success());
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("ERROR: failed to build"), "{told}");
    let sleeping = || {
        let pgrep = ["-f", "^sleep 1259$"];
        testkit::command::run(std::process::Command::new("pgrep").args(pgrep), b"").code == Some(0)
    };
    cx.until("the step's process is gone", || (!sleeping()).then_some(()));
    assert_eq!(cx.docker(&["ps", "-aq"]).ok(), "");
    let entries = |path: &str| std::fs::read_dir(daemon.path(path)).map_or(0, Iterator::count);
    cx.until("nothing of the build is left", || {
        let all = ["root/builds", "root/containers", "exec/buildkit"];
        all.iter().all(|p| entries(p) == 0).then_some(())
    });
    // What was done before is still known, and so is the cache mount.
    cx.write("context/Dockerfile", file("test -e /c/x"));
    let mut after = cx.gantry_build();
    let after = testkit::command::run(after.args(["--secret", "id=s,src=secret", "context"]), b"");
    after.ok();
    assert!(after.stderr.contains(" CACHED\n"), "{}", after.describe());
}

fn health_checks_go_on(cx: &Cx<'_>) {
    let daemon = daemon(cx);
    let cx = Cx::new(&daemon, "health");
    let check = ["--health-cmd", "test ! -e /bad", "--health-interval", "100ms"];
    let name = cx.sleeper("a", &check);
    let becomes = |status: &str| {
        cx.until(&format!("{name} is {status}"), || {
            (cx.inspect(&name)["State"]["Health"]["Status"] == status).then_some(())
        });
    };
    becomes("healthy");
    again(&daemon);
    assert_eq!(cx.inspect(&name)["State"]["Health"]["Status"], "healthy");
    cx.docker(&["exec", &name, "touch", "/bad"]).ok();
    becomes("unhealthy");
}

//! Settings of the daemon that containers and clients see.

use serde_json::{Value, json};
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    defaults_hold_for_containers,
    an_own_seccomp_profile_is_the_default,
    older_versions_are_refused_when_asked,
    a_reload_tells_what_it_changed,
    a_signal_writes_what_the_daemon_holds,
    its_own_log_is_json_when_asked,
];

fn daemon(cx: &Cx<'_>, args: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    Daemon::start(Options::new().without_bridge().args(args)).unwrap()
}

fn defaults_hold_for_containers(cx: &Cx<'_>) {
    let args = ["--default-ipc-mode=shareable", "--default-stop-timeout=0", "--no-new-privileges"];
    let daemon = daemon(cx, &args);
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let name = own.start(
        "a",
        &["--network=none"],
        &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
    );
    assert_eq!(own.inspect(&name)["HostConfig"]["IpcMode"], "shareable");
    own.docker(&["stop", &name]).ok();
    assert_eq!(own.inspect(&name)["State"]["ExitCode"], 137, "no time to stop by itself");
    let status = own.busybox(&["--network=none"], &["grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(status.split_whitespace().last(), Some("1"));
    let info = own.api().get("/info").expect(200);
    assert!(info["SecurityOptions"].to_string().contains("name=no-new-privileges"), "{info}");
}

fn an_own_seccomp_profile_is_the_default(cx: &Cx<'_>) {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let path = cx.write("profile.json", profile.to_string());
    let flag = format!("--seccomp-profile={}", path.display());
    let daemon = daemon(cx, &[&flag]);
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    own.run(&["--network=none"], &["mkdir", "/x"]).fails_with(1, &["Operation not permitted"]);
    own.run(&["--network=none", "--security-opt=seccomp=builtin"], &["mkdir", "/x"]).ok();
    own.run(&["--network=none", "--security-opt=seccomp=unconfined"], &["mkdir", "/x"]).ok();
    let options = own.api().get("/info").expect(200)["SecurityOptions"].to_string();
    assert!(options.contains(&format!("name=seccomp,profile={}", path.display())), "{options}");
    let bad = cx.write("bad.json", "{}}");
    let flag = format!("--seccomp-profile={}", bad.display());
    let text =
        format!("{:#}", Daemon::start(Options::new().without_bridge().args(&[&flag])).unwrap_err());
    assert!(text.contains("is no seccomp profile"), "{text}");
}

fn older_versions_are_refused_when_asked(cx: &Cx<'_>) {
    let daemon = daemon(cx, &["--min-api-version=1.44"]);
    let api = daemon.api();
    let refused = api.get("/v1.43/info");
    assert_eq!(refused.status(), 400);
    assert!(refused.message().contains("Minimum supported API version is 1.44"));
    api.get("/v1.44/info").expect(200);
    assert_eq!(api.get("/version").expect(200)["MinAPIVersion"], "1.44");
    let text = format!(
        "{:#}",
        Daemon::start(Options::new().without_bridge().args(&["--min-api-version=1.2"]))
            .unwrap_err()
    );
    assert!(text.contains("1.2 cannot be the oldest"), "{text}");
}

fn a_reload_tells_what_it_changed(cx: &Cx<'_>) {
    let daemon = daemon(cx, &[]);
    let mut events = daemon.api().stream("GET", "/v1.41/events", false, &Value::Null);
    let file = json!({
        "debug": true,
        "max-concurrent-downloads": 2,
        "max-concurrent-uploads": 3,
        "labels": ["a=b"],
    });
    std::fs::write(daemon.path("daemon.json"), file.to_string()).unwrap();
    daemon.signal(rustix::process::Signal::HUP).unwrap();
    let event: Value = serde_json::from_str(&events.line().unwrap()).unwrap();
    assert_eq!((&event["Type"], &event["Action"]), (&"daemon".into(), &"reload".into()));
    let told = &event["Actor"]["Attributes"];
    for (key, want) in [
        ("debug", "true"),
        ("labels", "[\"a=b\"]"),
        ("max-concurrent-downloads", "2"),
        ("max-concurrent-uploads", "3"),
        ("default-ipc-mode", "private"),
        ("default-shm-size", "67108864"),
    ] {
        assert_eq!(told[key], want, "{key}");
    }
}

fn a_signal_writes_what_the_daemon_holds(cx: &Cx<'_>) {
    let daemon = daemon(cx, &[]);
    daemon.signal(rustix::process::Signal::USR1).unwrap();
    let dump = cx.until("the dump is written", || {
        let entries = std::fs::read_dir(daemon.path("exec")).ok()?;
        let is_dump = |name: &str| name.starts_with("dump-") && name.ends_with(".txt");
        let mut all = entries.flatten().filter(|e| is_dump(&e.file_name().to_string_lossy()));
        // Its last lines are those of the threads.
        let text = std::fs::read_to_string(all.next()?.path()).ok()?;
        text.contains("\nthread ").then_some(text)
    });
    assert!(dump.contains("VmRSS:") && dump.contains("open descriptors: "), "{dump}");
    assert!(dump.contains(&format!("thread {} ", daemon.pid().unwrap())), "{dump}");
    assert!(daemon.answers(), "the signal ends nothing");
}

fn its_own_log_is_json_when_asked(cx: &Cx<'_>) {
    let daemon = daemon(cx, &["--log-format", "json", "--debug"]);
    daemon.api().get("/containers/no\"quote/json").expect(404);
    assert_eq!(daemon.stop().unwrap(), 0);
    let log = std::fs::read_to_string(daemon.path("daemon.log")).unwrap();
    assert!(log.lines().count() > 1, "{log}");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["time", "level", "msg"] {
            assert!(entry[key].is_string(), "{key} in {line}");
        }
    }
}

//! The life of containers: create, start, stop, kill, wait, restart, pause, rename, rm, ps, inspect, top.

use serde_json::{Value, json};
use testkit::{Cx, Daemon, cases, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    exit_codes_of_run,
    exit_codes_126_127_125,
    failed_start_leaves_a_created_container,
    create_start_wait,
    start_and_stop_are_idempotent,
    stop_sends_the_stop_signal,
    stop_kills_after_the_grace_period,
    kill_with_signals,
    restart_gives_a_new_process,
    pause_and_unpause,
    rename_rules,
    names_are_unique_and_checked,
    remove_rules,
    remove_takes_anonymous_volumes,
    ps_shape,
    ps_filters,
    ps_status_words,
    inspect_shape,
    inspect_of_the_ended,
    ids_and_prefixes_name_containers,
    top_lists_processes,
    wait_conditions,
    restart_policies,
    auto_remove_publishes_destroy,
    oom_is_told,
    generated_names_are_two_words,
    created_by_the_api_with_lenient_json,
    update_of_a_missing_container;
    alone: prune_removes_the_stopped,
];

fn exit_codes_of_run(cx: &Cx<'_>) {
    cx.run(&[], &["true"]).code(0);
    cx.run(&[], &["sh", "-c", "exit 42"]).code(42);
    cx.run(&["--init"], &["sh", "-c", "kill -9 $$"]).code(137);
    cx.run(&[], &["sh", "-c", "echo out; echo err >&2"]).ok();
    let output = cx.run(&[], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

fn exit_codes_126_127_125(cx: &Cx<'_>) {
    cx.run(&[], &["no-such-program"])
        .fails_with(127, &["exec: \"no-such-program\": executable file not found in $PATH"]);
    cx.run(&[], &["/no/such/file"])
        .fails_with(127, &["/no/such/file", "no such file or directory"]);
    cx.run(&[], &["/etc/passwd"]).fails_with(126, &["/etc/passwd", "permission denied"]);
    cx.run(&[], &["/etc"]).fails(126);
    cx.run(&["--no-such-flag"], &["true"]).fails(125);
    cx.run(&["-w", "relative"], &["true"])
        .fails_with(125, &["is invalid, it needs to be an absolute path"]);
    cx.docker(&["run", "--rm", "localhost:1/no-such-image", "true"]).fails(125);
}

fn failed_start_leaves_a_created_container(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["run", "--name", &name, "busybox", "/nope"]).fails(127);
    let i = cx.inspect(&name);
    assert_eq!(i["State"]["Status"], "created");
    assert_eq!(i["State"]["ExitCode"], 127);
    assert!(
        i["State"]["Error"].as_str().unwrap().contains("no such file or directory"),
        "{}",
        i["State"]
    );
    cx.api()
        .post(&format!("/containers/{name}/start"), &Value::Null)
        .fails(400, &["OCI runtime create failed"]);
}

fn create_start_wait(cx: &Cx<'_>) {
    let name = cx.name("a");
    let id =
        cx.docker(&["create", "--name", &name, "busybox", "sh", "-c", "exit 5"]).ok().to_owned();
    assert_eq!(id.len(), 64);
    assert_eq!(cx.inspect(&name)["State"]["Status"], "created");
    assert_eq!(cx.docker(&["start", &name]).ok(), name);
    assert_eq!(cx.docker(&["wait", &name]).ok(), "5");
    let state = cx.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Status"], &state["ExitCode"], &state["Running"], &state["Pid"]),
        (&json!("exited"), &json!(5), &json!(false), &json!(0))
    );
    cx.docker(&["start", "-a", &name]).code(5);
}

fn start_and_stop_are_idempotent(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let post = |what: &str| api.post(&format!("/containers/{name}/{what}"), &Value::Null);
    let started = post("start");
    assert_eq!((started.status(), started.body.len()), (304, 0));
    assert_eq!(post("stop").status(), 204);
    assert_eq!(post("stop").status(), 304);
    assert_eq!(post("start").status(), 204);
}

fn stop_sends_the_stop_signal(cx: &Cx<'_>) {
    let script = "trap 'echo term; exit 3' TERM; trap 'echo usr1; exit 4' USR1; echo ready; while :; do sleep 600 & wait; done";
    let name = cx.start("a", &[], &["sh", "-c", script]);
    cx.wait_for_log(&name, "ready");
    assert_eq!(cx.docker(&["stop", &name]).ok(), name);
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 3);
    let name = cx.start("b", &["--stop-signal", "USR1"], &["sh", "-c", script]);
    cx.wait_for_log(&name, "ready");
    cx.docker(&["stop", &name]).ok();
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 4);
    assert_eq!(cx.inspect(&name)["Config"]["StopSignal"], "USR1");
}

fn stop_kills_after_the_grace_period(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["--stop-timeout", "1"],
        &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
    );
    cx.wait_for_log(&name, "ready");
    cx.docker(&["stop", &name]).ok();
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 137);
    assert_eq!(cx.inspect(&name)["State"]["OOMKilled"], false);
    cx.docker(&["start", &name]).ok();
    cx.docker(&["stop", "-t", "0", &name]).ok();
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 137);
}

fn kill_with_signals(cx: &Cx<'_>) {
    let script = "trap 'echo got-hup' HUP; echo ready; while :; do sleep 600 & wait; done";
    let name = cx.start("a", &[], &["sh", "-c", script]);
    cx.wait_for_log(&name, "ready");
    cx.docker(&["kill", "-s", "HUP", &name]).ok();
    cx.wait_for_log(&name, "got-hup");
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
    let api = cx.api();
    let kill =
        |signal: &str| api.post(&format!("/containers/{name}/kill?signal={signal}"), &Value::Null);
    kill("NONSENSE").fails(400, &["nvalid signal: NONSENSE"]);
    assert_eq!(kill("SIGKILL").status(), 204);
    assert_eq!(cx.wait(&name), 137);
    kill("9").fails(409, &["is not running"]);
    cx.docker(&["kill", &name]).fails_with(1, &["is not running"]);
}

fn restart_gives_a_new_process(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let first = cx.inspect(&name)["State"].clone();
    assert_eq!(cx.docker(&["restart", "-t", "5", &name]).ok(), name);
    let second = cx.inspect(&name)["State"].clone();
    assert_ne!(first["Pid"], second["Pid"]);
    assert_ne!(first["StartedAt"], second["StartedAt"]);
    assert_eq!(second["Running"], true);
    cx.docker(&["stop", &name]).ok();
    cx.docker(&["restart", &name]).ok();
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
}

fn pause_and_unpause(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let post = |what: &str| api.post(&format!("/containers/{name}/{what}"), &Value::Null);
    assert_eq!(post("pause").status(), 204);
    let state = cx.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Running"], &state["Paused"]),
        (&json!("paused"), &json!(true), &json!(true))
    );
    assert!(
        cx.docker(&["ps", "--format", "{{.Names}} {{.Status}}"])
            .ok()
            .lines()
            .any(|l| l.starts_with(&name) && l.ends_with("(Paused)"))
    );
    post("pause").fails(409, &["is already paused"]);
    post("start").fails(409, &["cannot start a paused container, try unpause instead"]);
    cx.docker(&["exec", &name, "true"])
        .fails_with(1, &["is paused, unpause the container before exec"]);
    assert_eq!(post("unpause").status(), 204);
    assert_eq!(cx.inspect(&name)["State"]["Status"], "running");
    let again = post("unpause");
    assert!(matches!(again.status(), 500 | 409), "{}", again.status());
    assert!(again.message().contains("is not paused"), "{}", again.message());
    post("pause");
    cx.docker(&["rm", "-f", &name]).ok();
}

fn rename_rules(cx: &Cx<'_>) {
    let (a, b) = (cx.sleeper("a", &[]), cx.name("b"));
    cx.docker(&["rename", &a, &b]).ok();
    assert_eq!(cx.inspect(&b)["Name"], format!("/{b}"));
    let c = cx.sleeper("c", &[]);
    cx.docker(&["rename", &b, &c])
        .fails_with(1, &["Conflict. The container name", "is already in use by container"]);
    let api = cx.api();
    api.post(&format!("/containers/{b}/rename?name="), &Value::Null).expect(400);
    api.post(&format!("/containers/{b}/rename?name={b}"), &Value::Null).expect(400);
    let bad = api.post(&format!("/containers/{b}/rename?name=a%2Fb"), &Value::Null);
    assert!(matches!(bad.status(), 400 | 500), "{}", bad.text());
    cx.docker(&["rename", "no-such-container", &a])
        .fails_with(1, &["No such container: no-such-container"]);
}

fn names_are_unique_and_checked(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox"]).ok();
    cx.docker(&["create", "--name", &name, "busybox"]).fails_with(
        1,
        &[
            &format!("Conflict. The container name \"/{name}\" is already in use by container \""),
            "You have to remove (or rename) that container to be able to reuse that name.",
        ],
    );
    let body = json!({"Image": "busybox"});
    let api = cx.api();
    for bad in ["a", "-a", "a%20b", "a%2Fb", "%C3%A4%C3%B6"] {
        api.post(&format!("/containers/create?name={bad}"), &body)
            .fails(400, &["Invalid container name", "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"]);
    }
    let clash = api.post(&format!("/containers/create?name={name}"), &body);
    assert_eq!(clash.status(), 409);
}

fn remove_rules(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let refused = api.delete(&format!("/containers/{name}"));
    assert_eq!(refused.status(), 409);
    let message = refused.message();
    assert!(
        message.contains("ou cannot remove a running container")
            || message.contains("container is running"),
        "{message}"
    );
    assert_eq!(api.delete(&format!("/containers/{name}?force=1")).status(), 204);
    api.delete(&format!("/containers/{name}")).fails(404, &["No such container"]);
    cx.docker(&["rm", &name]).fails_with(1, &["No such container"]);
}

fn remove_takes_anonymous_volumes(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-v", "/data", "-v", &format!("{}:/named", cx.name("vol"))]);
    let mounts = cx.inspect(&name)["Mounts"].clone();
    let anonymous =
        mounts.as_array().unwrap().iter().find(|m| m["Destination"] == "/data").unwrap()["Name"]
            .as_str()
            .unwrap()
            .to_owned();
    assert_eq!(anonymous.len(), 64);
    cx.docker(&["rm", "-fv", &name]).ok();
    cx.docker(&["volume", "inspect", &anonymous]).code(1);
    cx.docker(&["volume", "inspect", &cx.name("vol")]).ok();
}

fn ps_shape(cx: &Cx<'_>) {
    let name =
        cx.start("a", &["-l", "k=v", "-p", "127.0.0.1::80", "-v", "/data"], &["sleep", "600"]);
    let list = cx.api().get("/v1.41/containers/json?size=1").expect(200);
    let c = list.as_array().unwrap().iter().find(|c| c["Names"][0] == format!("/{name}")).unwrap();
    assert_eq!(c["Image"], "busybox");
    assert!(c["ImageID"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(c["Command"], "sleep 600");
    assert_eq!(c["State"], "running");
    assert!(c["Status"].as_str().unwrap().starts_with("Up "));
    assert_eq!(c["Labels"], json!({"k": "v"}));
    assert!(c["Created"].is_u64());
    assert_eq!(c["Ports"][0]["PrivatePort"], 80);
    assert_eq!(c["Ports"][0]["Type"], "tcp");
    assert_eq!(c["Ports"][0]["IP"], "127.0.0.1");
    assert!(c["Ports"][0]["PublicPort"].as_u64() > Some(1000));
    assert!(c["SizeRootFs"].as_u64() > Some(1_000_000));
    assert!(c["HostConfig"]["NetworkMode"].is_string());
    assert!(c["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].is_string());
    assert_eq!(c["Mounts"][0]["Type"], "volume");
    assert_eq!(c["Mounts"][0]["Destination"], "/data");
}

fn ps_filters(cx: &Cx<'_>) {
    let a = cx.sleeper("a", &["-l", "case2=filters", "-l", "which=a"]);
    let b = cx.name("b");
    cx.docker(&["create", "--name", &b, "-l", "case2=filters", "busybox", "true"]).ok();
    let c = cx.start("c", &["-l", "case2=filters"], &["sh", "-c", "exit 9"]);
    cx.wait(&c);
    let ps = |filters: &[&str]| {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}", "-f", "label=case2=filters"];
        for f in filters {
            args.extend(["-f", f]);
        }
        let output = cx.docker(&args);
        output.lines().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ps(&[]), [&c[..], &b, &a], "newest first");
    assert_eq!(ps(&["status=running"]), [&a[..]]);
    assert_eq!(ps(&["status=created", "status=exited"]), [&c[..], &b]);
    assert_eq!(ps(&["exited=9"]), [&c[..]]);
    assert_eq!(ps(&["label=which=a"]), [&a[..]]);
    assert_eq!(ps(&[&format!("name=^/{b}$")]), [&b[..]]);
    assert_eq!(ps(&["name=ps_filters-[ab]"]), [&b[..], &a]);
    assert_eq!(ps(&["ancestor=busybox"]), [&c[..], &b, &a]);
    assert_eq!(ps(&[&format!("before={b}")]), [&a[..]]);
    assert_eq!(ps(&[&format!("since={b}")]), [&c[..]]);
    let id = cx.inspect(&a)["Id"].as_str().unwrap().to_owned();
    assert_eq!(ps(&[&format!("id={}", &id[..12])]), [&a[..]]);
    assert_eq!(ps(&["network=bridge", "status=running"]), [&a[..]]);
    cx.docker(&["ps", "-f", "status=nonsense"]).fails_with(1, &["nvalid filter 'status=nonsense'"]);
    cx.docker(&["ps", "-f", "nonsense=x"]).fails_with(1, &["nvalid filter 'nonsense"]);
    let quiet = cx.docker(&["ps", "-q", "--no-trunc", "-f", "label=which=a"]);
    assert_eq!(quiet.ok(), id);
    assert_eq!(cx.docker(&["ps", "-n", "1", "-aq"]).lines().len(), 1);
}

fn ps_status_words(cx: &Cx<'_>) {
    let created = cx.name("created");
    cx.docker(&["create", "--name", &created, "busybox"]).ok();
    let exited = cx.start("exited", &[], &["sh", "-c", "exit 2"]);
    cx.wait(&exited);
    let status = |name: &str| {
        cx.docker(&[
            "ps",
            "-a",
            "-f",
            &format!("name=^/{name}$"),
            "--format",
            "{{.Status}}|{{.State}}",
        ])
        .ok()
        .to_owned()
    };
    assert_eq!(status(&created), "Created|created");
    let text = status(&exited);
    assert!(text.starts_with("Exited (2) ") && text.ends_with("ago|exited"), "{text}");
}

fn inspect_shape(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-e", "A=b", "--hostname", "hosty", "-w", "/tmp"]);
    let i = cx.inspect(&name);
    assert_eq!(i["Path"], "sh");
    assert_eq!(i["Args"][0], "-c");
    let s = &i["State"];
    for (key, value) in [
        ("Status", json!("running")),
        ("Running", json!(true)),
        ("Paused", json!(false)),
        ("Restarting", json!(false)),
        ("OOMKilled", json!(false)),
        ("Dead", json!(false)),
        ("ExitCode", json!(0)),
        ("Error", json!("")),
        ("FinishedAt", json!("0001-01-01T00:00:00Z")),
    ] {
        assert_eq!(s[key], value, "State.{key}");
    }
    assert!(s["Pid"].as_u64() > Some(1));
    assert!(s.get("Health").is_none());
    assert_eq!(i["Config"]["Hostname"], "hosty");
    assert_eq!(i["Config"]["WorkingDir"], "/tmp");
    assert_eq!(i["Config"]["Env"][0], "A=b");
    assert_eq!(i["Config"]["Image"], "busybox");
    assert_eq!(i["Config"]["Labels"], json!({}));
    assert!(i["Config"]["Entrypoint"].is_null() && i["Config"]["Volumes"].is_null());
    let h = &i["HostConfig"];
    assert!(h["Binds"].is_null() && h["CapAdd"].is_null());
    assert_eq!(h["LogConfig"]["Type"], "json-file");
    assert_eq!(h["RestartPolicy"], json!({"Name": "no", "MaximumRetryCount": 0}));
    assert_eq!(h["ShmSize"], 67_108_864);
    assert_eq!(h["IpcMode"], "private");
    assert_eq!(h["Runtime"], "runc");
    assert!(h["MaskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    assert!(h["ReadonlyPaths"].as_array().unwrap().contains(&json!("/proc/sys")));
    assert_eq!(i["Driver"], "overlay2");
    assert_eq!(i["Platform"], "linux");
    assert_eq!(i["RestartCount"], 0);
    assert_eq!(i["Mounts"], json!([]));
    assert!(i["ExecIDs"].is_null());
    let n = &i["NetworkSettings"]["Networks"]["bridge"];
    assert!(n["IPAddress"].as_str().is_some_and(|a| !a.is_empty()));
    assert!(n["MacAddress"].as_str().is_some_and(|a| a.len() == 17));
    assert_eq!(i["NetworkSettings"]["Ports"], json!({}));
    let lines = cx.docker(&[
        "inspect",
        "-f",
        "{{.State.Status}} {{.Name}} {{len .Mounts}} {{json .Config.Env}}",
        &name,
    ]);
    assert!(lines.ok().starts_with(&format!("running /{name} 0 [\"A=b\"")), "{}", lines.describe());
    cx.docker(&["inspect", "no-such"]).fails_with(1, &["No such object: no-such"]);
}

fn inspect_of_the_ended(cx: &Cx<'_>) {
    let name = cx.start("a", &["-p", "127.0.0.1::80"], &["true"]);
    cx.wait(&name);
    let i = cx.inspect(&name);
    assert_eq!(i["NetworkSettings"]["Ports"], json!({}));
    assert_eq!(i["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "");
    assert_eq!(
        i["NetworkSettings"]["SandboxKey"].as_str().map(|s| s.is_empty() || s.starts_with('/')),
        Some(true)
    );
    assert_eq!(i["State"]["Pid"], 0);
    assert_ne!(i["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(
        i["HostConfig"]["PortBindings"],
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
    );
}

fn ids_and_prefixes_name_containers(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let id = cx.inspect(&name)["Id"].as_str().unwrap().to_owned();
    for n in [&id[..], &id[..12], &id[..5], &name, &format!("/{name}")] {
        assert_eq!(cx.docker(&["inspect", "-f", "{{.Id}}", n]).ok(), id, "{n}");
    }
}

fn top_lists_processes(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let top = cx.api().get(&format!("/containers/{name}/top")).expect(200);
    assert_eq!(top["Titles"], json!(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]));
    assert!(!top["Processes"].as_array().unwrap().is_empty());
    let text = cx.docker(&["top", &name, "-o", "pid,comm"]);
    assert!(text.ok().contains("PID") && text.ok().contains("sh"), "{}", text.describe());
    cx.docker(&["kill", &name]).ok();
    cx.wait(&name);
    cx.api().get(&format!("/containers/{name}/top")).fails(409, &["is not running"]);
}

fn wait_conditions(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    if cx.is_gantry() {
        // dockerd 20.10 takes an unknown condition for the default one.
        api.post(&format!("/v1.41/containers/{name}/wait?condition=nonsense"), &Value::Null)
            .expect(400);
    }
    let mut next = api.stream(
        "POST",
        &format!("/v1.41/containers/{name}/wait?condition=next-exit"),
        false,
        &Value::Null,
    );
    let mut removed = api.stream(
        "POST",
        &format!("/v1.41/containers/{name}/wait?condition=removed"),
        false,
        &Value::Null,
    );
    assert_eq!((next.head.status, removed.head.status), (200, 200), "headers come before the end");
    cx.docker(&["kill", &name]).ok();
    assert!(next.line().unwrap().contains(r#""StatusCode":137"#));
    assert_eq!(cx.wait(&name), 137);
    cx.docker(&["rm", &name]).ok();
    let line = removed.line().unwrap();
    assert!(line.contains(r#""StatusCode":137"#), "{line}");
    api.post("/v1.41/containers/no-such/wait", &Value::Null).expect(404);
}

fn restart_policies(cx: &Cx<'_>) {
    let name = cx.start("a", &["--restart", "on-failure:2"], &["sh", "-c", "exit 1"]);
    cx.until("the policy gives up", || {
        let i = cx.inspect(&name);
        (i["RestartCount"] == 2 && i["State"]["Status"] == "exited").then_some(())
    });
    let always = cx.start("b", &["--restart", "always"], &["sh", "-c", "sleep 0.2"]);
    cx.until("it was started again", || {
        (cx.inspect(&always)["RestartCount"].as_u64() >= Some(1)).then_some(())
    });
    cx.docker(&["stop", &always]).ok();
    assert_eq!(cx.inspect(&always)["State"]["Running"], false);
    cx.docker(&["create", "--rm", "--restart", "always", "busybox"]).fails(125);
}

fn auto_remove_publishes_destroy(cx: &Cx<'_>) {
    let name = cx.start("a", &["--rm"], &["true"]);
    cx.until("it is gone", || {
        (cx.api().get(&format!("/containers/{name}/json")).status() == 404).then_some(())
    });
}

fn oom_is_told(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["--memory", "16m", "--memory-swap", "16m"],
        &["sh", "-c", "x=a; while :; do x=$x$x; done"],
    );
    assert_eq!(cx.wait(&name), 137);
    assert_eq!(cx.inspect(&name)["State"]["OOMKilled"], true);
}

fn generated_names_are_two_words(cx: &Cx<'_>) {
    let id = cx.docker(&["create", "-l", &cx.label(), "busybox"]).ok().to_owned();
    let name = cx.docker(&["inspect", "-f", "{{.Name}}", &id]).ok().to_owned();
    let words: Vec<_> = name.trim_start_matches('/').split('_').collect();
    assert!(words.len() == 2 && words.iter().all(|w| w.len() >= 2), "{name}");
}

fn created_by_the_api_with_lenient_json(cx: &Cx<'_>) {
    let name = cx.name("a");
    let body = json!({"image": "busybox", "cmd": ["true"], "Unknown": {"x": 1}, "hostconfig": {"lxcconf": null, "Binds": null, "PortBindings": {}}, "Env": null, "Labels": null});
    let answer = cx.api().post(&format!("/v1.41/containers/create?name={name}"), &body).expect(201);
    assert_eq!(answer["Warnings"], json!([]));
    assert_eq!(answer["Id"].as_str().unwrap().len(), 64);
    assert_eq!(cx.inspect(&name)["Config"]["Cmd"], json!(["true"]));
    cx.api()
        .post("/v1.41/containers/create", &json!({"Image": "no-such-image:x"}))
        .fails(404, &["No such image: no-such-image:x"]);
}

fn update_of_a_missing_container(cx: &Cx<'_>) {
    cx.api()
        .post("/containers/no-such/update", &json!({}))
        .fails(404, &["No such container: no-such"]);
}

fn prune_removes_the_stopped(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("would prune a daemon that is not ours");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "prune");
    let running = own.sleeper("a", &["--network", "none"]);
    let stopped = own.start("b", &["--network", "none"], &["sh", "-c", "echo x > /f"]);
    own.wait(&stopped);
    own.docker(&["create", "--name", &own.name("c"), "-l", "keep=me", "busybox"]).ok();
    let output = own.docker(&["container", "prune", "-f", "--filter", "label!=keep"]);
    assert!(output.ok().contains("Deleted Containers:"), "{}", output.describe());
    assert!(own.docker(&["ps", "-aq"]).lines().len() == 2, "{}", output.describe());
    own.inspect(&running);
    own.docker(&["rm", "-f", &running]).ok();
}

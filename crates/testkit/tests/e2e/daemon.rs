//! The daemon itself: flags, sockets, versions, signals, info.

use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, process::Command};
use testkit::{Cx, Daemon, cases, command, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    ping_negotiates,
    version_names_engine_and_components,
    info_holds_what_clients_read,
    every_version_prefix_answers,
    too_old_and_too_new_versions_are_refused,
    unknown_paths_are_404,
    errors_are_json_with_exact_content_type,
    docker_version_and_info_render,
    socket_is_closed_to_others,
    several_hosts_are_served,
    unknown_flag_is_an_error,
    unknown_storage_driver_is_an_error,
    flag_and_file_conflict_is_an_error,
    unknown_key_in_file_is_an_error,
    validate_checks_the_file,
    pidfile_is_written_and_removed,
    hangup_reloads,
    bridge_none_gives_loopback_only,
    a_second_daemon_on_the_same_root_is_refused,
    system_df_lists_all_kinds,
    events_tell_the_life_of_a_container,
    events_filter_and_replay,
];

fn ping_negotiates(cx: &Cx<'_>) {
    for method in ["HEAD", "GET"] {
        let answer = cx.api().request(method, "/_ping", &[], b"");
        answer.expect(200);
        let header = |name: &str| answer.head.header(name).unwrap_or_default().to_owned();
        assert_eq!(header("Ostype"), "linux");
        assert_eq!(header("Cache-Control"), "no-cache, no-store, must-revalidate");
        assert_eq!(header("Pragma"), "no-cache");
        assert!(header("Server").starts_with("Docker/"), "Server: {}", header("Server"));
        assert!(header("Server").ends_with("(linux)"), "Server: {}", header("Server"));
        assert!(!header("Builder-Version").is_empty() || !cx.is_gantry());
        let version = header("Api-Version");
        assert_eq!(version, if cx.is_gantry() { "1.51" } else { "1.41" });
        assert_eq!(answer.text(), if method == "GET" { "OK" } else { "" });
    }
}

fn version_names_engine_and_components(cx: &Cx<'_>) {
    let v = cx.api().get("/version").expect(200);
    assert_eq!(v["Os"], "linux");
    assert_eq!(v["Arch"], "amd64");
    for key in [
        "Version",
        "ApiVersion",
        "MinAPIVersion",
        "GitCommit",
        "GoVersion",
        "KernelVersion",
        "BuildTime",
    ] {
        assert!(v[key].is_string(), "{key} in {v}");
    }
    let engine = &v["Components"][0];
    assert_eq!(engine["Name"], "Engine");
    assert_eq!(engine["Version"], v["Version"]);
    // testcontainers for Java refuses anything below 1.6.
    let major = v["Version"].as_str().unwrap().split('.').next().unwrap();
    assert!(major.parse::<u32>().unwrap() >= 20, "{v}");
    assert_eq!(engine["Details"]["Os"], "linux");
    for key in ["ApiVersion", "Arch", "Experimental", "KernelVersion", "MinAPIVersion"] {
        assert!(engine["Details"][key].is_string(), "Details.{key} in {v}");
    }
    if cx.is_gantry() {
        assert_eq!(v["MinAPIVersion"], "1.24");
    }
}

fn info_holds_what_clients_read(cx: &Cx<'_>) {
    let i = cx.api().get("/info").expect(200);
    assert_eq!(i["OSType"], "linux");
    assert_eq!(i["Architecture"], "x86_64");
    assert_eq!(i["Driver"], "overlay2");
    assert!(i["Containers"].is_number() && i["Images"].as_u64() >= Some(1), "{i}");
    assert!(i["ID"].as_str().is_some_and(|s| !s.is_empty()));
    assert!(i["DockerRootDir"].as_str().is_some_and(|s| s.starts_with('/')));
    assert!(matches!(i["CgroupVersion"].as_str(), Some("1" | "2")));
    assert_eq!(i["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(i["DefaultRuntime"], "runc");
    assert!(i["Runtimes"]["runc"].is_object());
    assert!(i["RegistryConfig"]["IndexConfigs"]["docker.io"].is_object(), "{i}");
    assert!(i["Plugins"]["Network"].as_array().is_some_and(|n| n.contains(&json!("bridge"))));
    assert!(i["Plugins"]["Volume"].as_array().is_some_and(|n| n.contains(&json!("local"))));
    assert!(i["Plugins"]["Log"].as_array().is_some_and(|n| n.contains(&json!("json-file"))));
    let security = i["SecurityOptions"].to_string();
    assert!(security.contains("name=seccomp,profile="), "{security}");
    assert!(i["MemTotal"].as_u64() > Some(1 << 20) && i["NCPU"].as_u64() >= Some(1));
    assert_eq!(i["LoggingDriver"], "json-file");
    for key in ["Labels", "SystemTime", "KernelVersion", "OperatingSystem", "ServerVersion", "Name"]
    {
        assert!(i.get(key).is_some(), "{key}");
    }
}

fn every_version_prefix_answers(cx: &Cx<'_>) {
    let newest = if cx.is_gantry() { 51 } else { 41 };
    for minor in 24..=newest {
        let answer = cx.api().get(&format!("/v1.{minor}/containers/json?limit=1"));
        assert!(answer.expect(200).is_array(), "1.{minor}: {}", answer.text());
    }
    assert!(cx.api().get("/containers/json").expect(200).is_array());
}

fn too_old_and_too_new_versions_are_refused(cx: &Cx<'_>) {
    let new = cx.api().get("/v1.99/info");
    new.fails(400, &["client version 1.99 is too new. Maximum supported API version is"]);
    let old = cx.api().get("/v1.11/info");
    assert_eq!(old.status(), 400);
    let text = old.text();
    assert!(
        text.contains("client version 1.11 is too old. Minimum supported API version is"),
        "{text}"
    );
}

fn unknown_paths_are_404(cx: &Cx<'_>) {
    cx.api().get("/v1.41/nothing/here").fails(404, &["page not found"]);
    cx.api().request("PATCH", "/v1.41/info", &[], b"").fails(404, &["page not found"]);
}

fn errors_are_json_with_exact_content_type(cx: &Cx<'_>) {
    let answer = cx.api().get("/v1.41/containers/no-such-thing/json");
    answer.fails(404, &["No such container: no-such-thing"]);
    assert_eq!(answer.head.header("Content-Type"), Some("application/json"));
    assert!(answer.head.header("Api-Version").is_some());
    assert!(answer.text().ends_with('\n'), "{:?}", answer.text());
}

fn docker_version_and_info_render(cx: &Cx<'_>) {
    let version = cx.docker(&["version"]);
    assert!(version.ok().contains("Server:"), "{}", version.describe());
    assert!(cx.docker(&["version", "-f", "{{.Server.Os}}"]).ok() == "linux");
    let info = cx.docker(&["info"]);
    for part in ["Storage Driver: overlay2", "Logging Driver: json-file", "Swarm: inactive"] {
        assert!(info.ok().contains(part), "{}", info.describe());
    }
}

fn socket_is_closed_to_others(cx: &Cx<'_>) {
    let mode = cx.daemon.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

fn own(cx: &Cx<'_>, options: Options) -> Daemon {
    if !cx.daemon.is_own() {
        skip("the daemon is not ours to start");
    }
    Daemon::start(options).unwrap()
}

/// Starts the daemon with flags it must refuse; what it printed.
fn refused(cx: &Cx<'_>, args: &[&str], config: &str) -> String {
    if !cx.daemon.is_own() {
        skip("the daemon is not ours to start");
    }
    let mut command = cx.daemon.command().unwrap();
    let file = cx.write("daemon.json", config);
    let program = command.get_program().to_owned();
    command = Command::new(program);
    if cx.is_gantry() {
        command.arg("daemon");
    }
    let dir = cx.dir().display();
    command.args([format!("--data-root={dir}/root"), format!("--exec-root={dir}/exec")]);
    command.args([format!("--pidfile={dir}/pid"), format!("--config-file={}", file.display())]);
    command.args(["--bridge=none"]).args(args);
    if !args.iter().any(|a| a.starts_with("-H")) {
        command.arg(format!("-H=unix://{dir}/refused.sock"));
    }
    let output = command::run(&mut command, b"");
    assert!(!matches!(output.code, Some(0) | None), "{}", output.describe());
    format!("{}{}", output.stdout, output.stderr)
}

fn several_hosts_are_served(cx: &Cx<'_>) {
    let second = cx.dir().join("second.sock");
    let host = format!("unix://{}", second.display());
    let daemon = own(
        cx,
        Options::new().without_bridge().args(&[
            "-H",
            &host,
            "-H",
            "tcp://127.0.0.1:0",
            "--tls=false",
        ]),
    );
    assert_eq!(testkit::http::Client::new(&second).get("/_ping").text(), "OK");
    assert_eq!(daemon.api().get("/_ping").text(), "OK");
}

fn unknown_flag_is_an_error(cx: &Cx<'_>) {
    let text = refused(cx, &["--no-such-flag"], "{}");
    assert!(text.contains("no-such-flag"), "{text}");
}

fn unknown_storage_driver_is_an_error(cx: &Cx<'_>) {
    let text = refused(cx, &["--storage-driver=tape"], "{}");
    assert!(text.contains("tape"), "{text}");
}

fn flag_and_file_conflict_is_an_error(cx: &Cx<'_>) {
    let text = refused(cx, &["--log-level=info"], r#"{"log-level": "debug"}"#);
    assert!(
        text.contains("directives are specified both as a flag and in the configuration file")
            && text.contains("log-level"),
        "{text}"
    );
}

fn unknown_key_in_file_is_an_error(cx: &Cx<'_>) {
    let text = refused(cx, &[], r#"{"no-such-key": true}"#);
    assert!(
        text.contains("don't match any configuration option") && text.contains("no-such-key"),
        "{text}"
    );
}

fn validate_checks_the_file(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd 20.10 has no --validate");
    }
    let mut command = cx.daemon.command().unwrap();
    let ok = command::run(command.arg("--validate"), b"");
    ok.code(0);
    assert!(
        format!("{}{}", ok.stdout, ok.stderr).contains("configuration OK"),
        "{}",
        ok.describe()
    );
    refused(cx, &["--validate"], r#"{"hosts": 7}"#);
}

fn pidfile_is_written_and_removed(cx: &Cx<'_>) {
    let daemon = own(cx, Options::new().without_bridge());
    let pid = std::fs::read_to_string(daemon.path("pid")).unwrap();
    assert_eq!(pid.trim().parse::<i32>().ok(), daemon.pid());
    assert_eq!(daemon.stop().unwrap(), 0, "{}", daemon.log_tail());
    assert!(!daemon.path("pid").exists());
    assert!(!daemon.socket().exists(), "the socket goes with the daemon");
}

fn hangup_reloads(cx: &Cx<'_>) {
    let daemon = own(cx, Options::new().without_bridge());
    assert_eq!(daemon.api().get("/info").json()["Debug"], false);
    std::fs::write(daemon.path("daemon.json"), r#"{"debug": true, "labels": ["a=b"]}"#).unwrap();
    daemon.signal(rustix::process::Signal::HUP).unwrap();
    cx.until("the daemon has reloaded", || {
        let info = daemon.api().get("/info").json();
        (info["Debug"] == true && info["Labels"] == json!(["a=b"])).then_some(())
    });
}

fn bridge_none_gives_loopback_only(cx: &Cx<'_>) {
    let daemon = own(cx, Options::new().without_bridge());
    daemon.load_busybox().unwrap();
    let cx = Cx::new(&daemon, "bridge_none");
    assert_eq!(cx.busybox(&["--network", "none"], &["ls", "/sys/class/net"]), "lo");
}

fn a_second_daemon_on_the_same_root_is_refused(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd guards its pid file only");
    }
    let root = cx.daemon.path("root");
    let text = refused(cx, &[&format!("--data-root={}", root.display())], "{}");
    assert!(text.contains(&root.display().to_string()), "{text}");
    assert!(cx.daemon.answers());
}

fn system_df_lists_all_kinds(cx: &Cx<'_>) {
    let df = cx.api().get("/v1.41/system/df").expect(200);
    assert!(df["LayersSize"].as_u64() > Some(1_000_000), "{df}");
    for key in ["Images", "Containers", "Volumes"] {
        assert!(df[key].is_array(), "{key} in {df}");
    }
    assert!(df["BuildCache"].is_array() || !cx.is_gantry(), "{df}");
    let lines = cx.docker(&["system", "df", "--format", "{{.Type}}"]);
    assert_eq!(lines.lines(), ["Images", "Containers", "Local Volumes", "Build Cache"]);
}

fn actions(events: &str, id: &str) -> Vec<String> {
    events
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|e| e["Actor"]["ID"] == id || e["Actor"]["Attributes"]["container"] == id)
        .map(|e| format!("{} {}", e["Type"].as_str().unwrap(), e["Action"].as_str().unwrap()))
        .collect()
}

fn events_tell_the_life_of_a_container(cx: &Cx<'_>) {
    let mut stream = cx.api().stream("GET", "/v1.41/events", false, &Value::Null);
    let name = cx.name("a");
    cx.docker(&["run", "--rm", "--name", &name, "--label", "x=y", "busybox", "sh", "-c", "exit 3"])
        .code(3);
    let mut text = String::new();
    let mut id = String::new();
    loop {
        let line = stream.line().expect("events go on until destroy");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["Actor"]["Attributes"]["name"] == name {
            id = event["Actor"]["ID"].as_str().unwrap().to_owned();
            if event["Action"] == "create" {
                assert_eq!(event["Actor"]["Attributes"]["image"], "busybox");
                assert_eq!(event["Actor"]["Attributes"]["x"], "y");
                assert_eq!(event["scope"], "local");
                assert_eq!(event["status"], "create");
                assert_eq!(event["from"], "busybox");
                assert_eq!(event["id"], event["Actor"]["ID"]);
                assert!(event["time"].is_u64() && event["timeNano"].is_u64());
            }
            if event["Action"] == "die" {
                assert_eq!(event["Actor"]["Attributes"]["exitCode"], "3");
            }
        }
        text.push_str(&line);
        text.push('\n');
        if !id.is_empty() && event["Actor"]["ID"] == id.as_str() && event["Action"] == "destroy" {
            break;
        }
    }
    let mut seen = actions(&text, &id);
    seen.sort(); // dockerd 20.10 tells of die before disconnect, later ones after it
    assert_eq!(
        seen,
        [
            "container attach",
            "container create",
            "container destroy",
            "container die",
            "container start",
            "network connect",
            "network disconnect",
        ]
    );
}

fn events_filter_and_replay(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox"]).ok();
    cx.docker(&["rm", &name]).ok();
    let container = format!("container={name}");
    let told = cx.events(&[&container, "event=create"], "{{.Action}} {{.Type}}");
    assert_eq!(told.lines(), ["create container"]);
    let answer =
        cx.api().get("/events?since=0&until=1&filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D");
    if cx.is_gantry() {
        answer.fails(400, &["invalid filter"]);
    }
}

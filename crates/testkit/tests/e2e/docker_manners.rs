//! Answers that Docker's own integration suite, and the clients written against it, look for: status codes, texts, and
//! shapes by version that no other area owns.

use serde_json::{Value, json};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    a_host_in_no_swarm_says_so,
    a_host_without_managed_plugins_says_so,
    sizes_of_terminals_are_checked,
    an_exec_is_framed_as_its_start_says,
    links_are_names_too,
    namespaces_are_joined_by_id,
    the_root_s_content_is_copied_by_a_dot,
    old_versions_see_what_they_know,
    a_limit_of_processes_is_taken_away,
    paths_are_masked_as_asked,
    an_id_is_stronger_than_a_name,
    a_network_s_name_may_be_anything,
    platforms_that_are_none_are_refused,
    malformed_bodies_are_told_in_go_s_words,
    restarts_follow_each_other_at_once,
];

fn a_host_in_no_swarm_says_so(cx: &Cx<'_>) {
    let api = cx.api();
    for path in [
        "/swarm",
        "/nodes",
        "/services",
        "/tasks",
        "/secrets",
        "/configs",
        "/services/x",
        "/nodes/x",
    ] {
        api.get(path).fails(503, &["This node is not a swarm manager", "docker swarm init"]);
    }
    api.post("/services/create", &json!({"Name": "x"})).fails(503, &["not a swarm manager"]);
    api.post("/swarm/leave", &Value::Null).fails(503, &["This node is not part of a swarm"]);
    cx.docker(&["node", "ls"]).fails_with(1, &["This node is not a swarm manager"]);
    if cx.is_gantry() {
        api.post("/swarm/init", &json!({})).fails(503, &["no swarm mode"]);
    }
}

fn a_host_without_managed_plugins_says_so(cx: &Cx<'_>) {
    assert_eq!(cx.api().get("/plugins").expect(200), json!([]));
    cx.api()
        .get("/plugins?filters=%7B%22nonsense%22:%5B%22x%22%5D%7D")
        .fails(400, &["nvalid filter"]);
    cx.api().get("/plugins/none/json").fails(404, &["plugin \"none\" not found"]);
    assert_eq!(cx.docker(&["plugin", "ls", "-q"]).ok(), "");
}

fn sizes_of_terminals_are_checked(cx: &Cx<'_>) {
    let (name, api) = (cx.sleeper("c", &["-t"]), cx.api());
    for (query, why) in [
        ("w=80", "invalid resize height \"\": invalid syntax"),
        ("h=x&w=80", "invalid resize height \"x\": invalid syntax"),
        ("h=24&w=-1", "invalid resize width \"-1\": value out of range"),
        ("h=24&w=4294967296", "invalid resize width \"4294967296\": value out of range"),
    ] {
        let path = format!("/containers/{name}/resize?{query}");
        let answer = api.post(&path, &Value::Null);
        if cx.is_gantry() {
            answer.fails(400, &[why]);
        } else {
            answer.fails(400, &[]);
        };
    }
    api.post(&format!("/containers/{name}/resize?h=24&w=80"), &Value::Null).expect(200);
}

fn an_exec_is_framed_as_its_start_says(cx: &Cx<'_>) {
    let (name, api) = (cx.sleeper("c", &[]), cx.api());
    let exec = |tty: bool| {
        let body = json!({"Cmd": ["echo", "hi"], "AttachStdout": true, "Tty": tty});
        let made = api.post(&format!("/containers/{name}/exec"), &body).expect(201);
        format!("/exec/{}/start", made["Id"].as_str().unwrap())
    };
    let mut framed = api.stream("POST", &exec(true), true, &json!({"Tty": false}));
    assert_eq!(
        framed.head.header("Content-Type"),
        Some("application/vnd.docker.multiplexed-stream")
    );
    assert_eq!(framed.frames(), (b"hi\r\n".to_vec(), vec![]));
    let mut bare = api.stream("POST", &exec(false), true, &json!({"Tty": true}));
    assert_eq!(bare.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(bare.line().as_deref(), Some("hi"));
}

fn links_are_names_too(cx: &Cx<'_>) {
    let db = cx.sleeper("db", &[]);
    let web = cx.sleeper("web", &["--link", &format!("{db}:store")]);
    let rows = cx
        .api()
        .get(&format!("/containers/json?filters=%7B%22name%22:%5B%22{db}%22%5D%7D"))
        .expect(200);
    assert_eq!(rows[0]["Names"], json!([format!("/{db}"), format!("/{web}/store")]));
    let other = cx.name("renamed");
    cx.docker(&["rename", &web, &other]).ok();
    assert_eq!(cx.inspect(&format!("{other}/store"))["Id"], cx.inspect(&db)["Id"]);
    cx.api().get(&format!("/containers/{other}/none/json")).fails(404, &["No such container"]);
}

fn namespaces_are_joined_by_id(cx: &Cx<'_>) {
    let first = cx.sleeper("first", &["--ipc", "shareable"]);
    let id = cx.inspect(&first)["Id"].as_str().unwrap().to_owned();
    let joined = format!("container:{first}");
    let second = cx.name("second");
    let options = ["--pid", &joined, "--ipc", &joined, "--network", &joined];
    cx.docker(
        &[&["create", "--name", &second], &options[..], &["busybox", "sleep", "600"]].concat(),
    )
    .ok();
    cx.docker(&["rename", &first, &cx.name("renamed")]).ok();
    let host = cx.inspect(&second)["HostConfig"].clone();
    for mode in ["PidMode", "IpcMode", "NetworkMode"] {
        assert_eq!(host[mode], format!("container:{id}"), "{mode}");
    }
    cx.docker(&["start", &second]).ok();
    cx.docker(&["rm", "-f", &second]).ok();
    let body = json!({"Image": "busybox", "HostConfig": {"PidMode": "container:none"}});
    cx.api().post("/containers/create", &body).fails(400, &["No such container: none"]);
    cx.docker(&["kill", &id]).ok();
    cx.wait(&id);
    let third = cx.name("third");
    cx.docker(&[
        "create",
        "--name",
        &third,
        "--pid",
        &format!("container:{id}"),
        "busybox",
        "true",
    ])
    .ok();
    let start = cx.api().post(&format!("/containers/{third}/start"), &Value::Null);
    if cx.is_gantry() {
        start.fails(500, &["failed to join PID namespace", &format!("{id} is not running")]);
    }
}

fn the_root_s_content_is_copied_by_a_dot(cx: &Cx<'_>) {
    let name = cx.sleeper("c", &[]);
    for path in [".", "/.", "./", "/./"] {
        let listed = cx.api().get(&format!("/containers/{name}/archive?path={path}"));
        assert_eq!(listed.status(), 200, "{path}");
        assert_eq!(first_entry(&listed.body), "./", "{path}");
    }
    let whole = cx.api().get(&format!("/containers/{name}/archive?path=/"));
    assert_eq!(first_entry(&whole.body), "/");
}

/// The name of a tar's first entry that is no extended header.
fn first_entry(tar: &[u8]) -> String {
    let extended = |at: usize| matches!(tar[at + 156], b'x' | b'g');
    let at = (0..tar.len() - 512).step_by(1024).find(|at| !extended(*at)).unwrap();
    let name = tar[at..at + 100].split(|byte| *byte == 0).next().unwrap();
    String::from_utf8_lossy(name).into_owned()
}

fn old_versions_see_what_they_know(cx: &Cx<'_>) {
    let (name, api) = (cx.sleeper("c", &["--annotation", "a=b"]), cx.api());
    let annotations = |version: &str| {
        let path =
            format!("/v{version}/containers/json?filters=%7B%22name%22:%5B%22{name}%22%5D%7D");
        api.get(&path).expect(200)[0]["HostConfig"]["Annotations"]["a"].clone()
    };
    if cx.is_gantry() {
        assert_eq!(annotations("1.45"), Value::Null);
        assert_eq!(annotations("1.46"), "b");
    }
    let body = json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"one": {}, "two": {}}}});
    api.post("/v1.43/containers/create", &body)
        .fails(400, &["Container cannot be created with multiple network endpoints"]);
    // Below 1.40 an update knew no limit of processes.
    let limit = json!({"PidsLimit": 20});
    api.post(&format!("/v1.39/containers/{name}/update"), &limit).expect(200);
    assert_ne!(cx.inspect(&name)["HostConfig"]["PidsLimit"], 20);
}

fn a_limit_of_processes_is_taken_away(cx: &Cx<'_>) {
    let (name, api) = (cx.sleeper("c", &["--pids-limit", "32"]), cx.api());
    for off in [0, -1] {
        let update = |limit: i64| {
            let path = format!("/containers/{name}/update");
            api.post(&path, &json!({"PidsLimit": limit})).expect(200);
            cx.inspect(&name)["HostConfig"]["PidsLimit"].clone()
        };
        assert_eq!(update(32), 32);
        assert_eq!(update(off), 0);
    }
    let path = "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max";
    let read = format!("cat {path} 2>/dev/null; true");
    assert_eq!(cx.docker(&["exec", &name, "sh", "-c", &read]).ok().trim(), "max");
    let fleeting = cx.sleeper("rm", &["--rm"]);
    let policy = json!({"RestartPolicy": {"Name": "always"}});
    api.post(&format!("/containers/{fleeting}/update"), &policy)
        .fails(409, &["Restart policy cannot be updated because AutoRemove is enabled"]);
    cx.docker(&["rm", "-f", &fleeting]).ok();
}

fn paths_are_masked_as_asked(cx: &Cx<'_>) {
    let create = |part: &str, host: Value| {
        let name = cx.name(part);
        let body = json!({"Image": "busybox", "WorkingDir": "/tmp/", "HostConfig": host});
        cx.api().post(&format!("/containers/create?name={name}"), &body).expect(201);
        cx.inspect(&name)
    };
    let asked = create("a", json!({"ReadonlyPaths": [], "MaskedPaths": null}));
    assert_eq!(asked["HostConfig"]["ReadonlyPaths"], json!([]));
    assert_eq!(asked["Config"]["WorkingDir"], if cx.is_gantry() { "/tmp" } else { "/tmp/" });
    let masked = asked["HostConfig"]["MaskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/proc/kcore")), "{masked:?}");
    let other = create("b", json!({"MaskedPaths": ["/proc/keys"]}));
    assert_eq!(other["HostConfig"]["MaskedPaths"], json!(["/proc/keys"]));
    assert!(!other["HostConfig"]["ReadonlyPaths"].as_array().unwrap().is_empty());
}

fn malformed_bodies_are_told_in_go_s_words(cx: &Cx<'_>) {
    let body = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 8\r\n\r\n{invalid";
    let answer = cx.api().raw(body).unwrap();
    answer.fails(400, &["invalid character 'i' looking for beginning of object key string"]);
}

/// What ends one run must not take what the next one has made.
fn restarts_follow_each_other_at_once(cx: &Cx<'_>) {
    let name = cx.sleeper("c", &[]);
    for _ in 0..20 {
        cx.api().post(&format!("/containers/{name}/restart?t=10"), &Value::Null).expect(204);
    }
    assert_eq!(cx.docker(&["exec", &name, "echo", "in"]).ok(), "in");
}

fn an_id_is_stronger_than_a_name(cx: &Cx<'_>) {
    let first = cx.name("n");
    let id = cx.docker(&["network", "create", &first]).ok().to_owned();
    let second = cx.docker(&["network", "create", &id]).ok().to_owned();
    cx.docker(&["network", "rm", &id]).ok();
    let left = cx.api().get(&format!("/networks/{second}")).expect(200);
    assert_eq!((&left["Name"], &left["Id"]), (&json!(id), &json!(second)));
    cx.api().get(&format!("/networks/{first}")).fails(404, &["not found"]);
    cx.docker(&["network", "rm", &id]).ok();
}

fn platforms_that_are_none_are_refused(cx: &Cx<'_>) {
    let pull = "/images/create?fromImage=127.0.0.1:1/none&tag=1&platform=nintendo64";
    for path in [pull, "/build?platform=nintendo64"] {
        cx.api()
            .post(path, &Value::Null)
            .fails(400, &["nintendo64", "unknown operating system or architecture"]);
    }
    let import = "/images/create?fromSrc=-&repo=x&platform=";
    cx.api()
        .post(&format!("{import}%2F"), &Value::Null)
        .fails(400, &["is an invalid OS component"]);
    cx.api()
        .post(&format!("{import}macos"), &Value::Null)
        .fails(400, &["operating system is not supported"]);
}

fn a_network_s_name_may_be_anything(cx: &Cx<'_>) {
    for name in [cx.name("my net"), cx.name("é@1"), cx.name("x/y")] {
        let id = cx.docker(&["network", "create", &name]).ok().to_owned();
        cx.busybox(&["--network", &name], &["true"]);
        assert_eq!(cx.docker(&["network", "inspect", "-f", "{{.Name}}", &id]).ok(), name);
        cx.docker(&["network", "rm", &name]).ok();
    }
    let long = "x".repeat(256);
    if cx.is_gantry() {
        cx.docker(&["network", "create", &long]).fails_with(1, &["more than 255 bytes"]);
    }
}

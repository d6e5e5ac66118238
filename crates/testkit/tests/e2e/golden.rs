//! Answers recorded from a real dockerd, compared field by field.
//!
//! `GANTRY_GOLDEN_RECORD=1 GANTRY_TEST_DAEMON=/usr/sbin/dockerd` records; every other run compares. What
//! differs on purpose stands in `golden/differences.txt`: the answer's name, the path (`*` at the end of either for
//! all that begin so), and why. A line there that nothing needs any more is a failure too.

use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};
use testkit::{
    Cx, cases,
    cx::skip,
    golden::{differences, normalise},
    image::docker_archive,
    suite::Case,
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    version_and_info,
    inspect_of_a_plain_container,
    inspect_of_a_furnished_container,
    inspect_of_a_created_container,
    lists,
    images,
    errors,
    networks_and_volumes,
    events,
    execs,
];

static USED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

pub(crate) fn recording() -> bool {
    std::env::var_os("GANTRY_GOLDEN_RECORD").is_some()
}

/// Compares an answer with the recorded one of this name, or records it.
#[track_caller]
fn check(cx: &Cx<'_>, name: &str, mut answer: Value) {
    normalise(&mut answer);
    let path = folder().join(format!("{name}.json"));
    if recording() {
        assert!(!cx.is_gantry(), "only dockerd is recorded");
        let text = serde_json::to_string_pretty(&answer).unwrap();
        std::fs::write(path, text + "\n").unwrap();
        return;
    }
    let recorded =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut recorded: Value = serde_json::from_str(&recorded).unwrap();
    normalise(&mut recorded);
    let found: Vec<_> =
        differences(&recorded, &answer).into_iter().filter(|d| !is_deliberate(name, d)).collect();
    // Another dockerd may differ in what the machine decides; only ours is held to it.
    if cx.is_gantry() {
        assert!(found.is_empty(), "{name} differs from dockerd:\n  {}", found.join("\n  "));
    }
}

fn list() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("differences.txt")).unwrap_or_default();
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|l| {
            let mut words = l.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

pub(crate) fn is_deliberate(name: &str, difference: &str) -> bool {
    let path = difference.split(": ").next().unwrap_or_default();
    list().into_iter().any(|(of, pattern)| {
        let fits = |text: &str, pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        };
        let hit = fits(name, &of) && fits(path, &pattern);
        if hit {
            USED.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{of} {pattern}"));
        }
        hit
    })
}

pub(crate) fn the_list_of_differences_is_needed(cx: &Cx<'_>) {
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let of_versions = |line: &String| line.starts_with("api-") || line.starts_with("* ");
    if !cx.is_gantry() || !used.iter().any(of_versions) || used.iter().all(of_versions) {
        skip("only after a whole comparison with Gantry");
    }
    let idle: Vec<_> = list()
        .into_iter()
        .map(|(of, pattern)| format!("{of} {pattern}"))
        .filter(|line| !used.contains(line))
        .collect();
    assert!(idle.is_empty(), "nothing differs here any more:\n  {}", idle.join("\n  "));
}

fn version_and_info(cx: &Cx<'_>) {
    let api = cx.api();
    // Values are the machine's or the engine's: shape only.
    check(cx, "version", shape(&api.get("/v1.41/version").json()));
    check(cx, "info", shape(&api.get("/v1.41/info").json()));
}

/// Every value replaced by the name of its type; `null`, `[]` and `{}` stay.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), shape(v))).collect(),
        Value::Array(list) => list.first().map_or(json!([]), |v| json!([shape(v)])),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}

fn inspect(cx: &Cx<'_>, name: &str) -> Value {
    let mut answer = cx.api().get(&format!("/v1.41/containers/{name}/json")).expect(200);
    answer["Id"] = json!("<id>");
    answer
}

fn inspect_of_a_plain_container(cx: &Cx<'_>) {
    let name = cx.start("a", &[], &["sleep", "600"]);
    check(cx, "inspect-running", inspect(cx, &name));
    cx.docker(&["kill", &name]).ok();
    cx.wait(&name);
    check(cx, "inspect-exited", inspect(cx, &name));
}

fn inspect_of_a_furnished_container(cx: &Cx<'_>) {
    let options = [
        "--hostname",
        "hosty",
        "--domainname",
        "example.org",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "alice",
        "-l",
        "k=v",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "99",
        "--ulimit",
        "nofile=100:200",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--read-only",
        "--tmpfs",
        "/t",
        "-v",
        "inspect_of_a_furnished_container-v:/v:ro",
        "-v",
        "/tmp:/host-tmp",
        "-p",
        "127.0.0.1:28170:80",
        "--expose",
        "90",
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "3",
        "--init",
        "--dns",
        "9.9.9.9",
        "--add-host",
        "db:10.9.8.7",
        "--restart",
        "on-failure:3",
        "--security-opt",
        "no-new-privileges",
        "--log-opt",
        "max-size=1m",
        "--group-add",
        "staff",
        "--shm-size",
        "1m",
        "--sysctl",
        "net.ipv4.ip_forward=0",
        "--oom-score-adj",
        "100",
        "--device",
        "/dev/null:/dev/mine",
        "--entrypoint",
        "sleep",
        "-t",
        "-i",
        "--network",
        "bridge",
    ];
    let name = cx.start("a", &options, &["600"]);
    check(cx, "inspect-furnished", inspect(cx, &name));
}

fn inspect_of_a_created_container(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "--network", "none", "busybox"]).ok();
    check(cx, "inspect-created", inspect(cx, &name));
}

fn lists(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["-p", "127.0.0.1:28171:80", "--expose", "90", "-l", "k=v", "-v", "/data"],
        &["sleep", "600"],
    );
    let query = format!("/v1.41/containers/json?filters=%7B%22name%22%3A%5B%22{name}%22%5D%7D");
    let list = cx.api().get(&query).expect(200);
    let mut mount = list.clone();
    mount[0]["Id"] = json!("<id>");
    check(cx, "list", mount);
    check(cx, "top", shape(&cx.api().get(&format!("/v1.41/containers/{name}/top")).expect(200)));
}

fn images(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("img"));
    let mut layer = Tarball::new();
    layer.file("hello", 0o644, "hello");
    let config = json!({"Cmd": ["/hello"], "Env": ["A=b"], "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}}});
    cx.docker_with(&["load", "-q"], docker_archive(&tag, &config, &[layer.finish()])).ok();
    check(cx, "image-inspect", cx.api().get(&format!("/v1.41/images/{tag}/json")).expect(200));
    check(cx, "image-history", cx.api().get(&format!("/v1.41/images/{tag}/history")).expect(200));
    let query = "/v1.41/images/json?filters=%7B%22reference%22%3A%5B%22images-img%22%5D%7D";
    check(cx, "image-list", cx.api().get(query).expect(200));
    let built = cx.name("built");
    cx.docker_with(
        &["build", "-q", "-t", &built, "-"],
        "FROM busybox\nRUN echo x > /x\nENV A=b\nCMD [\"y\"]\n",
    )
    .ok();
    let mut answer = cx.api().get(&format!("/v1.41/images/{built}/json")).expect(200);
    answer["ContainerConfig"] = shape(&answer["ContainerConfig"]);
    check(cx, "image-built", answer);
    let remove = cx.api().delete(&format!("/v1.41/images/{tag}")).expect(200);
    check(cx, "image-remove", remove);
}

fn errors(cx: &Cx<'_>) {
    let api = cx.api();
    let name = cx.sleeper("a", &[]);
    let gone = cx.start("b", &[], &["true"]);
    cx.wait(&gone);
    let mut all = serde_json::Map::new();
    let mut note = |what: &str, answer: testkit::http::Response| {
        let text = answer.message();
        all.insert(what.to_owned(), json!([answer.status(), text]));
    };
    note("inspect of nothing", api.get("/v1.41/containers/no-such/json"));
    note("start of nothing", api.post("/v1.41/containers/no-such/start", &Value::Null));
    note("kill of the ended", api.post(&format!("/v1.41/containers/{gone}/kill"), &Value::Null));
    note(
        "kill with nonsense",
        api.post(&format!("/v1.41/containers/{name}/kill?signal=NONSENSE"), &Value::Null),
    );
    note("pause of the ended", api.post(&format!("/v1.41/containers/{gone}/pause"), &Value::Null));
    note(
        "unpause of the running",
        api.post(&format!("/v1.41/containers/{name}/unpause"), &Value::Null),
    );
    note(
        "exec in the ended",
        api.post(&format!("/v1.41/containers/{gone}/exec"), &json!({"Cmd": ["x"]})),
    );
    note(
        "exec of nothing",
        api.post(&format!("/v1.41/containers/{name}/exec"), &json!({"Cmd": []})),
    );
    note("top of the ended", api.get(&format!("/v1.41/containers/{gone}/top")));
    note("remove of the running", api.delete(&format!("/v1.41/containers/{name}")));
    note("logs without a stream", api.get(&format!("/v1.41/containers/{name}/logs")));
    note(
        "name taken",
        api.post(&format!("/v1.41/containers/create?name={name}"), &json!({"Image": "busybox"})),
    );
    note("bad name", api.post("/v1.41/containers/create?name=-", &json!({"Image": "busybox"})));
    note("no such image", api.post("/v1.41/containers/create", &json!({"Image": "no-such:x"})));
    note("image inspect", api.get("/v1.41/images/no-such:x/json"));
    note("image history", api.get("/v1.41/images/no-such:x/history"));
    note("image remove", api.delete("/v1.41/images/no-such:x"));
    note("volume of nothing", api.get("/v1.41/volumes/no-such"));
    note("bad volume name", api.post("/v1.41/volumes/create", &json!({"Name": "a/b"})));
    note("network of nothing", api.get("/v1.41/networks/no-such"));
    note("network predefined", api.delete("/v1.41/networks/host"));
    note("exec start of nothing", api.post("/v1.41/exec/no-such/start", &json!({})));
    note("too new", api.get("/v1.99/info"));
    note("no such page", api.get("/v1.41/no/such/page"));
    note(
        "bad filter",
        api.get("/v1.41/containers/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D"),
    );
    note(
        "rename to nothing",
        api.post(&format!("/v1.41/containers/{name}/rename?name="), &Value::Null),
    );
    note("start of the paused", {
        api.post(&format!("/v1.41/containers/{name}/pause"), &Value::Null);
        api.post(&format!("/v1.41/containers/{name}/start"), &Value::Null)
    });
    note("pause of the paused", api.post(&format!("/v1.41/containers/{name}/pause"), &Value::Null));
    note(
        "memory too small",
        api.post(
            "/v1.41/containers/create",
            &json!({"Image": "busybox", "HostConfig": {"Memory": 1}}),
        ),
    );
    note(
        "bad port",
        api.post(
            "/v1.41/containers/create",
            &json!({"Image": "busybox", "ExposedPorts": {"x/tcp": {}}}),
        ),
    );
    note(
        "bad capability",
        api.post(
            "/v1.41/containers/create",
            &json!({"Image": "busybox", "HostConfig": {"CapAdd": ["NONSENSE"]}}),
        ),
    );
    note(
        "bad restart policy",
        api.post(
            "/v1.41/containers/create",
            &json!({"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "nonsense"}}}),
        ),
    );
    note(
        "relative workdir",
        api.post("/v1.41/containers/create", &json!({"Image": "busybox", "WorkingDir": "x"})),
    );
    check(cx, "errors", Value::Object(all));
}

fn networks_and_volumes(cx: &Cx<'_>) {
    for name in ["bridge", "host", "none"] {
        let mut answer = cx.api().get(&format!("/v1.41/networks/{name}")).expect(200);
        answer["Containers"] = json!({});
        check(cx, &format!("network-{name}"), answer);
    }
    let name = cx.name("vol");
    let created = cx
        .api()
        .post("/v1.41/volumes/create", &json!({"Name": name, "Labels": {"k": "v"}}))
        .expect(201);
    check(cx, "volume", created);
    cx.docker(&["volume", "create", &cx.name("plain")]).ok();
    check(
        cx,
        "volume-plain",
        cx.api().get(&format!("/v1.41/volumes/{}", cx.name("plain"))).expect(200),
    );
}

fn events(cx: &Cx<'_>) {
    let mut stream = cx.api().stream("GET", "/v1.41/events", false, &Value::Null);
    let name = cx.name("a");
    cx.docker(&["run", "--name", &name, "-l", "k=v", "busybox", "sh", "-c", "exit 3"]).code(3);
    cx.docker(&["rm", &name]).ok();
    let id = |event: &Value| event["Actor"]["Attributes"]["name"] == name.as_str();
    let mut seen = serde_json::Map::new();
    while !seen.contains_key("container destroy") {
        let event: Value = serde_json::from_str(&stream.line().expect("events go on")).unwrap();
        if id(&event) {
            seen.insert(format!("container {}", event["Action"].as_str().unwrap()), event);
        }
    }
    check(cx, "events", Value::Object(seen));
}

fn execs(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let body = json!({"Cmd": ["sh", "-c", "exit 4"], "AttachStdout": true, "Env": ["X=y"], "WorkingDir": "/tmp"});
    let id = cx.api().post(&format!("/v1.41/containers/{name}/exec"), &body).expect(201)["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    check(cx, "exec-created", cx.api().get(&format!("/v1.41/exec/{id}/json")).expect(200));
    let mut stream = cx.api().stream("POST", &format!("/v1.41/exec/{id}/start"), true, &json!({}));
    stream.frames();
    let mut ended = cx.api().get(&format!("/v1.41/exec/{id}/json")).expect(200);
    ended["Pid"] = json!(0);
    check(cx, "exec-ended", ended);
}

//! The shapes of answers in every version of the API: which keys there are, of which type, and where `null`, `[]` and `{}`
//! stand.
//!
//! Up to 1.41 a dockerd 20.10 tells: it is started beside, asked the same, and its answers are kept in `golden/versions/`
//! (`GANTRY_GOLDEN_RECORD=1` writes them), for machines without it. What later versions changed is a list,
//! `golden/versions/changes.txt`: `VERSION ANSWER PATH SHAPE`, `-` for what is gone; its source is Docker's version history and
//! the code of moby 28.5.1. What differs on purpose is in `golden/differences.txt`, as answers `api-NAME`.

use super::golden::{folder, is_deliberate, recording, shape, the_list_of_differences_is_needed};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon::{Engine, Options},
    golden::{differences, normalise},
    host,
    image::docker_archive,
    suite::Case,
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    alone:
    old_versions_are_dockerd_s,
    new_versions_are_those_of_their_history,
    the_list_of_differences_is_needed,
];

const DOCKERD: &str = "/usr/sbin/dockerd";
/// Versions that dockerd 20.10 is asked in.
const OLD: &[u32] = &[24, 32, 41];
/// Versions since, in which changes were made or clients live.
const NEW: &[u32] = &[42, 43, 44, 45, 46, 47, 48, 49, 50, 51];

type Answers = BTreeMap<String, Value>;

fn file(name: &str) -> PathBuf {
    folder().join("versions").join(name)
}

/// Containers, images, networks and volumes that answers are about. The same on every engine.
struct Scene<'d> {
    daemon: &'d Daemon,
    /// When it was set: other cases may have had one before.
    since: String,
}

/// What all names begin with.
const NAME: &str = "shapes";

fn name(part: &str) -> String {
    format!("{NAME}-{part}")
}

/// A `filters` parameter.
fn filters(value: &Value) -> String {
    let hex = |b: u8| format!("%{b:02X}");
    format!("filters={}", value.to_string().bytes().map(hex).collect::<String>())
}

/// Sorts the ports of a container in a list: dockerd holds them in a map.
fn sort_ports(row: &mut Value) {
    if let Some(ports) = row.get_mut("Ports").and_then(Value::as_array_mut) {
        ports.sort_by_key(|port| port["PrivatePort"].as_u64());
    }
}

/// Takes away what a scene consists of.
fn clear(daemon: &Daemon) {
    let api = daemon.api();
    for part in ["furnished", "plain", "created", "exited", "made"] {
        api.delete(&format!("/containers/{}?force=1&v=1", name(part)));
    }
    let dangling = json!({"label": ["shapes=dangling"], "dangling": ["true"]});
    for image in api
        .get(&format!("/images/json?{}", filters(&dangling)))
        .json()
        .as_array()
        .into_iter()
        .flatten()
    {
        api.delete(&format!("/images/{}?force=1", image["Id"].as_str().unwrap_or_default()));
    }
    for part in ["loaded:1", "built:1", "dangling:1"] {
        api.delete(&format!("/images/{}?force=1", name(part)));
    }
    for part in ["net", "made"] {
        api.delete(&format!("/networks/{}", name(part)));
    }
    for part in ["labelled", "plain", "made"] {
        api.delete(&format!("/volumes/{}?force=1", name(part)));
    }
}

impl<'d> Scene<'d> {
    fn new(daemon: &'d Daemon) -> Self {
        clear(daemon);
        let scene = Self { daemon, since: host::now() };
        scene.docker(&["network", "create", "--label", "k=v", &name("net")]);
        scene.docker(&["volume", "create", "--label", "k=v", &name("labelled")]);
        scene.docker(&["volume", "create", &name("plain")]);
        let mut layer = Tarball::new();
        layer.file("hello", 0o644, "hello");
        let config = json!({"Cmd": ["/hello"], "Env": ["A=b"], "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}}});
        let archive = docker_archive(&name("loaded:1"), &config, &[layer.finish()]);
        scene.docker_with(&["load", "-q"], &archive);
        let build = |tag: &str, text: &str| {
            scene.docker_with(&["build", "-q", "-t", tag, "-"], text.as_bytes());
        };
        build(&name("built:1"), "FROM busybox\nRUN echo x > /x\nENV A=b\nCMD [\"y\"]\n");
        // The first loses its name.
        build(&name("dangling:1"), "FROM busybox\nLABEL shapes=dangling\n");
        build(&name("dangling:1"), "FROM busybox\nENV SHAPES=named\n");
        let net = name("net");
        let volume = format!("{}:/data", name("labelled"));
        let furnished = [
            "run",
            "-d",
            "--name",
            &name("furnished"),
            "--network",
            &net,
            "--network-alias",
            "other",
            "-v",
            &volume,
            "-l",
            "k=v",
            "-p",
            "127.0.0.1::80",
            "--expose",
            "90",
            "--health-cmd",
            "true",
            "--health-interval",
            "1h",
            "--memory",
            "64m",
            "--restart",
            "on-failure:3",
            "--log-opt",
            "max-size=1m",
            "--add-host",
            "db:10.9.8.7",
            "--tmpfs",
            "/t",
            "busybox",
            "sleep",
            "600",
        ];
        scene.docker(&furnished);
        scene.docker(&["run", "-d", "--name", &name("plain"), "busybox", "sleep", "600"]);
        scene.docker(&["create", "--name", &name("created"), "--network", "none", "busybox"]);
        scene.docker(&["run", "--name", &name("exited"), "busybox", "true"]);
        scene
    }

    fn docker(&self, args: &[&str]) -> String {
        self.docker_with(args, b"")
    }

    fn docker_with(&self, args: &[&str], input: &[u8]) -> String {
        command::run(self.daemon.docker().args(args), input).ok().to_owned()
    }

    /// Shapes of all answers in version 1.`minor`.
    fn answers(&self, minor: u32) -> Answers {
        let api = self.daemon.api();
        let get = |path: &str| api.get(&format!("/v1.{minor}{path}")).expect(200);
        let named = |path: &str, mark: &str, value: &str| {
            let list = get(path);
            let has = |entry: &&Value| entry[mark].to_string().contains(value);
            list.as_array().into_iter().flatten().find(has).cloned().unwrap_or(Value::Null)
        };
        let mut all = Answers::new();
        let mut note = |what: &str, answer: Value| {
            let mut shape = shape(&answer);
            normalise(&mut shape);
            all.insert(what.to_owned(), shape);
        };
        note("version", get("/version"));
        let mut info = get("/info");
        // Which runtimes there are is the engine's.
        info["Runtimes"] = info["Runtimes"]["runc"].take();
        note("info", info);
        let ours = filters(&json!({"name": [NAME]}));
        for part in ["furnished", "plain", "created", "exited"] {
            let path = format!(
                "/containers/json?all=1&size=1&{}",
                filters(&json!({"name": [name(part)]}))
            );
            let mut row = get(&path)[0].take();
            sort_ports(&mut row);
            note(&format!("list-{part}"), row);
            note(
                &format!("inspect-{part}"),
                get(&format!("/containers/{}/json?size=1", name(part))),
            );
        }
        note("top", get(&format!("/containers/{}/top", name("plain"))));
        note("changes", get(&format!("/containers/{}/changes", name("plain"))));
        note("stats-created", get(&format!("/containers/{}/stats?stream=0", name("created"))));
        let post = |path: &str, body: &Value| api.post(&format!("/v1.{minor}{path}"), body);
        let wish = json!({"Image": "busybox", "Cmd": ["true"]});
        note(
            "create",
            post(&format!("/containers/create?name={}", name("made")), &wish).expect(201),
        );
        post(&format!("/containers/{}/start", name("made")), &Value::Null);
        note("wait", post(&format!("/containers/{}/wait", name("made")), &Value::Null).expect(200));
        let update = json!({"RestartPolicy": {"Name": "no"}});
        note("update", post(&format!("/containers/{}/update", name("made")), &update).expect(200));
        api.delete(&format!("/containers/{}?force=1", name("made")));
        let exec = json!({"Cmd": ["true"], "AttachStdout": true});
        let exec = post(&format!("/containers/{}/exec", name("plain")), &exec).expect(201);
        let id = exec["Id"].as_str().unwrap_or_default().to_owned();
        note("exec-create", exec);
        note("exec-created", get(&format!("/exec/{id}/json")));
        api.stream("POST", &format!("/v1.{minor}/exec/{id}/start"), true, &json!({})).frames();
        note("exec-ended", get(&format!("/exec/{id}/json")));
        let images = |part: &str| {
            format!("/images/json?all=1&{}", filters(&json!({"reference": [name(part)]})))
        };
        for part in ["loaded", "built"] {
            note(&format!("image-list-{part}"), get(&images(part))[0].take());
            note(&format!("image-inspect-{part}"), get(&format!("/images/{}:1/json", name(part))));
            note(
                &format!("image-history-{part}"),
                get(&format!("/images/{}:1/history", name(part))),
            );
        }
        let dangling = filters(&json!({"dangling": ["true"], "label": ["shapes=dangling"]}));
        note("image-list-dangling", get(&format!("/images/json?{dangling}"))[0].take());
        note("network-list", named("/networks", "Name", &name("net")));
        note("network-inspect", get(&format!("/networks/{}", name("net"))));
        note(
            "network-create",
            post("/networks/create", &json!({"Name": name("made")})).expect(201),
        );
        api.delete(&format!("/networks/{}", name("made")));
        let mut volumes = get(&format!("/volumes?{ours}"));
        let plain = |v: &Value| v["Name"] == name("plain");
        note(
            "volume-list",
            volumes["Volumes"].as_array_mut().map_or(Value::Null, |all| {
                all.iter().find(|v| plain(v)).cloned().unwrap_or(Value::Null)
            }),
        );
        volumes["Volumes"] = json!([]);
        note("volume-lists", volumes);
        note("volume-inspect", get(&format!("/volumes/{}", name("labelled"))));
        note("volume-create", post("/volumes/create", &json!({"Name": name("made")})).expect(201));
        api.delete(&format!("/volumes/{}", name("made")));
        let nothing = filters(&json!({"label": ["shapes=none"]}));
        for kind in ["containers", "images", "networks", "volumes"] {
            note(
                &format!("prune-{kind}"),
                post(&format!("/{kind}/prune?{nothing}"), &Value::Null).expect(200),
            );
        }
        let mut usage = get("/system/df");
        for (kind, mark, value) in [
            ("Containers", "Names", name("furnished")),
            ("Images", "RepoTags", name("loaded")),
            ("Volumes", "Name", name("labelled")),
        ] {
            let has = |entry: &&Value| entry[mark].to_string().contains(&value);
            let mut one = usage[kind].as_array().and_then(|all| all.iter().find(has)).cloned();
            one.iter_mut().for_each(sort_ports);
            usage[kind] = json!([one]);
        }
        usage["BuildCache"] = shape(&json!(usage["BuildCache"].is_array()));
        note("df", usage);
        let query = format!(
            "/events?since={}&until={}&{}",
            self.since,
            host::now(),
            filters(&json!({"container": [name("exited")]}))
        );
        let text = api.get(&format!("/v1.{minor}{query}")).text();
        let mut events = Map::new();
        for event in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            events.insert(event["Action"].as_str().unwrap_or_default().to_owned(), event);
        }
        note("events", Value::Object(events));
        note(
            "error",
            api.get(&format!("/v1.{minor}/containers/{}/json", name("none"))).expect(404),
        );
        all
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if self.daemon.answers() {
            clear(self.daemon);
        }
    }
}

/// dockerd of the series 20.10, when it is installed.
fn dockerd() -> Option<Daemon> {
    // Its rules would stay behind, and hold up others' packets.
    let mut options = Options::new().args(&["--iptables=false", "--userland-proxy=false"]);
    options.binary = Some(DOCKERD.into());
    let daemon = PathBuf::from(DOCKERD).exists().then(|| Daemon::start(options).ok()).flatten()?;
    let version = daemon.api().get("/version").json();
    let fits = version["Version"].as_str().is_some_and(|v| v.starts_with("20.10."));
    fits.then(|| daemon.load_busybox().ok().map(|()| daemon)).flatten()
}

fn recorded(minor: u32) -> Answers {
    let path = file(&format!("1.{minor}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Differences of `ours` from `theirs` that nobody means, a line each.
fn found(minor: u32, theirs: &Answers, ours: &Answers) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, theirs) in theirs {
        let all = differences(theirs, ours.get(name).unwrap_or(&Value::Null));
        let meant = |d: &String| is_deliberate(&format!("api-{name}"), d);
        lines
            .extend(all.into_iter().filter(|d| !meant(d)).map(|d| format!("1.{minor} {name} {d}")));
    }
    lines
}

fn old_versions_are_dockerd_s(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("Gantry is compared with dockerd, not dockerd with itself");
    }
    // Answers depend on nothing that the machine decides but these.
    let machines = |name: &str| matches!(name, "info" | "stats-created");
    if let Some(daemon) = dockerd() {
        let scene = Scene::new(&daemon);
        for minor in OLD {
            let live = scene.answers(*minor);
            if recording() {
                let text = serde_json::to_string_pretty(&live).unwrap();
                std::fs::write(file(&format!("1.{minor}.json")), text + "\n").unwrap();
            }
            let kept = recorded(*minor);
            assert_eq!(kept.keys().collect::<Vec<_>>(), live.keys().collect::<Vec<_>>());
            for (name, kept) in kept.iter().filter(|(name, _)| !machines(name)) {
                let changed = differences(kept, &live[name]);
                assert!(changed.is_empty(), "1.{minor} {name}: recorded otherwise: {changed:?}");
            }
        }
    }
    let scene = Scene::new(cx.daemon);
    let lines: Vec<_> = OLD
        .iter()
        .flat_map(|minor| found(*minor, &recorded(*minor), &scene.answers(*minor)))
        .collect();
    assert!(lines.is_empty(), "shapes differ from dockerd's:\n  {}", lines.join("\n  "));
}

/// A line of the list of changes.
struct Change {
    since: u32,
    answer: String,
    path: String,
    shape: Option<Value>,
}

fn changes() -> Vec<Change> {
    let text = std::fs::read_to_string(file("changes.txt")).unwrap();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(4, char::is_whitespace).map(str::trim);
            let mut next = || words.next().unwrap_or_else(|| panic!("four words: {line}"));
            let (since, answer, path) = (next(), next().to_owned(), next().to_owned());
            let since = since.strip_prefix("1.").and_then(|n| n.parse().ok()).expect(line);
            let shape = match next() {
                "-" => None,
                text => Some(serde_json::from_str(text).unwrap_or_else(|e| panic!("{line}: {e}"))),
            };
            Change { since, answer, path, shape }
        })
        .collect()
}

/// Whether an answer's name is meant by `pattern`, which may end with a star.
fn means(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Makes one change below each of `values`, all of them.
fn apply_to_all<'v>(
    values: impl Iterator<Item = &'v mut Value>,
    path: &[&str],
    shape: Option<&Value>,
) -> bool {
    let mut any = false;
    for value in values {
        any |= apply(value, path, shape);
    }
    any
}

/// Makes one change below `value`; `.*` stands for every key. False when there is nothing to change.
fn apply(value: &mut Value, path: &[&str], shape: Option<&Value>) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    match (value, *first) {
        (Value::Array(list), "[]") => apply_to_all(list.iter_mut(), rest, shape),
        (Value::Object(map), "*") => apply_to_all(map.values_mut(), rest, shape),
        (Value::Object(map), key) if rest.is_empty() => match shape {
            None => map.remove(key).is_some(),
            Some(new) => map.insert(key.to_owned(), new.clone()).as_ref() != Some(new),
        },
        (Value::Object(map), key) => {
            map.get_mut(key).is_some_and(|below| apply(below, rest, shape))
        }
        _ => false,
    }
}

fn new_versions_are_those_of_their_history(cx: &Cx<'_>) {
    if cx.daemon.engine() != Engine::Gantry {
        skip("the list is held against Gantry");
    }
    let scene = Scene::new(cx.daemon);
    let mut expected = recorded(41);
    let changes = changes();
    let mut lines = Vec::new();
    for minor in NEW {
        for change in changes.iter().filter(|c| c.since == *minor) {
            let path: Vec<&str> = change.path.trim_start_matches('.').split('.').collect();
            let meant = expected.iter_mut().filter(|(name, _)| means(&change.answer, name));
            let met = apply_to_all(meant.map(|(_, answer)| answer), &path, change.shape.as_ref());
            assert!(met, "1.{minor} {} {}: nothing there to change", change.answer, change.path);
        }
        lines.extend(found(*minor, &expected, &scene.answers(*minor)));
    }
    assert!(lines.is_empty(), "shapes are not those of their version:\n  {}", lines.join("\n  "));
}

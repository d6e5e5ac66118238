//! Managed plugins: installed from folders and registries, set, switched on and off, upgraded, removed, and found again
//! after every death. The plugin is written in Go with Docker's own helpers.

use super::volume_plugins::daemon;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use testkit::{
    Cx, cases,
    cx::skip,
    registry::{Options, Registry},
    suite::Case,
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    a_plugin_is_made_switched_on_used_and_removed,
    a_plugin_travels_by_a_registry,
    what_a_plugin_wants_has_to_be_agreed_to,
    settings_are_those_that_the_plugin_lets_be_set,
    a_plugin_outlives_the_daemon_and_is_started_again,
    networks_and_addresses_of_managed_plugins,
    plugins_that_cannot_run_leave_nothing,
    what_is_no_plugin_is_refused,
];

/// The configuration of a plugin for volumes, with `change` made to it.
fn config(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = json!({
        "description": "folders as volumes",
        "documentation": "none",
        "entrypoint": ["/plugins"],
        "args": {"name": "args", "settable": ["value"], "value": ["volume", "/run/docker/plugins/vol.sock", "/mnt/state"]},
        "env": [
            {"name": "LEVEL", "settable": ["value"], "value": "low"},
            {"name": "FIXED", "value": "1"},
        ],
        "interface": {"types": ["docker.volumedriver/1.0"], "socket": "vol.sock"},
        "linux": {"capabilities": ["CAP_SYS_ADMIN"]},
        "network": {"type": "none"},
        "propagatedMount": "/mnt/state",
    });
    change(&mut config);
    config
}

/// A folder as `docker plugin create` takes it.
fn folder(cx: &Cx<'_>, name: &str, config: &Value) -> String {
    let program = testkit::image::cache_dir().join("bin/plugins");
    if !program.exists() {
        skip("scripts/setup --tests builds the plugins where there is Go");
    }
    let dir = cx.dir().join(name);
    fs::create_dir_all(dir.join("rootfs/mnt/state")).unwrap();
    fs::create_dir_all(dir.join("rootfs/tmp")).unwrap();
    fs::copy(program, dir.join("rootfs/plugins")).unwrap();
    fs::set_permissions(dir.join("rootfs/plugins"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir.to_str().unwrap().to_owned()
}

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

fn run(own: &Cx<'_>, volume: &str, script: &str) -> String {
    let place = format!("{volume}:/v");
    own.docker(&[&RUN[..], &["-v", &place, "busybox", "sh", "-c", script]].concat()).ok().to_owned()
}

fn inspect(own: &Cx<'_>, name: &str) -> Value {
    own.api().get(&format!("/v1.51/plugins/{name}/json")).expect(200)
}

/// Mounts of the host below the data root of a daemon.
fn mounts(root: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = root.join("plugins");
    let root = root.to_str().unwrap();
    text.lines().filter(|l| l.contains(root)).map(str::to_owned).collect()
}

fn a_plugin_is_made_switched_on_used_and_removed(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let folder = folder(cx, "p", &config(|_| {}));
    assert_eq!(own.docker(&["plugin", "create", "me/vol", &folder]).ok(), "me/vol");
    own.docker(&["plugin", "create", "me/vol", &folder]).fails_with(1, &["already exists"]);
    let listed = || {
        own.docker(&["plugin", "ls", "--format", "{{.Name}} {{.Description}} {{.Enabled}}"])
            .ok()
            .to_owned()
    };
    assert_eq!(listed(), "me/vol:latest folders as volumes false");
    own.docker(&["volume", "create", "-d", "me/vol", "vol"])
        .fails_with(1, &["plugin \"me/vol\" not found"]);
    own.docker(&["plugin", "disable", "me/vol"]).fails_with(1, &["is already disabled"]);
    own.docker(&["plugin", "enable", "me/vol"]).ok();
    assert_eq!(listed(), "me/vol:latest folders as volumes true");
    own.docker(&["plugin", "enable", "me/vol"]).fails_with(1, &["is already enabled"]);
    let shown = inspect(&own, "me/vol");
    assert_eq!(shown["Config"]["Interface"]["Types"], json!(["docker.volumedriver/1.0"]));
    assert_eq!(shown["Settings"]["Env"], json!(["LEVEL=low", "FIXED=1"]));
    let id = shown["Id"].as_str().unwrap();
    assert_eq!(inspect(&own, &id[..12])["Name"], "me/vol:latest");
    assert_eq!(
        own.docker(&[
            "plugin",
            "ls",
            "-q",
            "--filter",
            "capability=volumedriver",
            "--filter",
            "enabled=true"
        ])
        .ok(),
        &id[..12]
    );
    assert_eq!(own.docker(&["plugin", "ls", "-q", "--filter", "capability=authz"]).ok(), "");
    // It is no container that anybody sees.
    assert_eq!(own.docker(&["ps", "-aq"]).ok(), "");
    own.docker(&["rm", id]).fails_with(1, &["No such container"]);
    own.docker(&["inspect", "--type", "container", id]).fails_with(1, &["No such container"]);
    own.docker(&["container", "prune", "-f"]).ok();
    // What it mounts below its propagated mount is what containers see.
    own.docker(&["volume", "create", "-d", "me/vol", "vol"]).ok();
    own.docker(&["volume", "create", "-d", "me/vol:latest", "-o", "tmpfs=1", "mem"]).ok();
    assert_eq!(
        run(&own, "vol", "echo kept > /v/f; stat -fc %T /v"),
        run(&own, "vol", "stat -fc %T /v")
    );
    assert_eq!(run(&own, "vol", "cat /v/f"), "kept");
    assert_eq!(run(&own, "mem", "echo gone > /v/f; stat -fc %T /v; cat /v/f"), "tmpfs\ngone");
    assert_eq!(run(&own, "mem", "ls /v"), "");
    let volume = own.api().get("/volumes/vol").expect(200);
    assert_eq!(volume["Driver"], "me/vol:latest");
    assert!(
        own.docker(&["info", "--format", "{{.Plugins.Volume}}"]).ok().contains("me/vol:latest")
    );
    own.docker(&[
        "run",
        "-d",
        "--name",
        "holder",
        "--network",
        "none",
        "-v",
        "mem:/v",
        "busybox",
        "sleep",
        "600",
    ])
    .ok();
    let point =
        own.api().get("/volumes/mem").expect(200)["Mountpoint"].as_str().unwrap().to_owned();
    assert!(
        Path::new(&point).starts_with(daemon.path("root")) || Path::new(&point).is_dir(),
        "{point}"
    );
    own.docker(&["rm", "-f", "holder"]).ok();
    // Used, it stays.
    own.docker(&["plugin", "disable", "me/vol"]).fails_with(1, &["is in use by volume"]);
    own.docker(&["plugin", "rm", "me/vol"]).fails_with(1, &["is enabled"]);
    own.docker(&["volume", "rm", "vol", "mem"]).ok();
    own.docker(&["plugin", "disable", "me/vol"]).ok();
    own.docker(&["volume", "create", "-d", "me/vol", "vol"]).fails_with(1, &["not found"]);
    own.docker(&["plugin", "enable", "me/vol"]).ok();
    own.docker(&["plugin", "rm", "-f", "me/vol"]).ok();
    assert_eq!(own.docker(&["plugin", "ls", "-q"]).ok(), "");
    own.docker(&["plugin", "rm", "me/vol"]).fails_with(1, &["plugin \"me/vol\" not found"]);
    let events = own.events(&["type=plugin"], "{{.Action}}");
    assert_eq!(
        events.ok().lines().collect::<Vec<_>>(),
        ["create", "enable", "disable", "enable", "remove"]
    );
}

fn a_plugin_travels_by_a_registry(cx: &Cx<'_>) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let name = |tag: &str| format!("{}/{}:{tag}", registry.host(), "plugin");
    let (one, two) = (name("1"), name("2"));
    own.docker(&["plugin", "create", &one, &folder(cx, "one", &config(|_| {}))]).ok();
    let second = config(|c| c["description"] = json!("the second"));
    own.docker(&["plugin", "create", &two, &folder(cx, "two", &second)]).ok();
    for name in [&one, &two] {
        let pushed = own.docker(&["plugin", "push", name]).ok().to_owned();
        assert!(pushed.contains("digest: sha256:"), "{pushed}");
        own.docker(&["plugin", "rm", name]).ok();
    }
    // Asked for, nobody agrees.
    let asked = own.docker_with(&["plugin", "install", &one], "n\n");
    assert!(
        asked.code != Some(0) && asked.stdout.contains("CAP_SYS_ADMIN"),
        "{}",
        asked.describe()
    );
    let install =
        ["plugin", "install", "--grant-all-permissions", "--alias", "vol", &one, "LEVEL=high"];
    own.docker(&install).ok();
    let shown = inspect(&own, "vol");
    assert_eq!((&shown["Enabled"], &shown["Name"]), (&json!(true), &json!("vol:latest")));
    assert_eq!(shown["PluginReference"], one);
    assert_eq!(shown["Settings"]["Env"][0], "LEVEL=high");
    own.docker(&["volume", "create", "-d", "vol", "vv"]).ok();
    assert_eq!(run(&own, "vv", "echo 1 > /v/f; cat /v/f"), "1");
    own.docker(&["plugin", "upgrade", "--grant-all-permissions", "vol", &two])
        .fails_with(1, &["must be disabled"]);
    own.docker(&["volume", "rm", "vv"]).ok();
    own.docker(&["plugin", "disable", "vol"]).ok();
    own.docker(&[
        "plugin",
        "upgrade",
        "--grant-all-permissions",
        "--skip-remote-check",
        "vol",
        &two,
    ])
    .ok();
    let upgraded = inspect(&own, "vol");
    assert_eq!(
        (&upgraded["Id"], &upgraded["Config"]["Description"]),
        (&shown["Id"], &json!("the second"))
    );
    own.docker(&["plugin", "enable", "vol"]).ok();
    own.docker(&["plugin", "rm", "-f", "vol"]).ok();
    own.docker(&["plugin", "install", "--grant-all-permissions", &name("none")])
        .fails_with(1, &["not found"]);
    // An image is no plugin.
    own.docker(&["tag", "busybox", &name("image")]).ok();
    own.docker(&["push", &name("image")]).ok();
    own.docker(&["plugin", "install", "--grant-all-permissions", &name("image")])
        .fails_with(1, &["is no plugin"]);
    own.docker(&["rmi", &name("image")]).ok();
    assert_eq!(own.docker(&["plugin", "ls", "-q"]).ok(), "");
}

fn what_a_plugin_wants_has_to_be_agreed_to(cx: &Cx<'_>) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let name = format!("{}/plugin:1", registry.host());
    let wants = config(|c| {
        c["mounts"] = json!([{"name": "m", "type": "bind", "source": "/tmp", "destination": "/m"}])
    });
    own.docker(&["plugin", "create", &name, &folder(cx, "one", &wants)]).ok();
    own.docker(&["plugin", "push", &name]).ok();
    own.docker(&["plugin", "rm", &name]).ok();
    let wanted = own.api().get(&format!("/v1.51/plugins/privileges?remote={name}")).expect(200);
    assert_eq!(
        wanted,
        json!([
            {"Name": "mount", "Description": "host path to mount", "Value": ["/tmp"]},
            {"Name": "capabilities", "Description": "list of additional capabilities required", "Value": ["CAP_SYS_ADMIN"]},
        ])
    );
    let pull = format!("/v1.51/plugins/pull?remote={name}&name=p");
    let mut more = wanted.clone();
    more.as_array_mut().unwrap().push(json!({"Name": "network", "Value": ["host"]}));
    let mut other = wanted.clone();
    other[0]["Value"] = json!(["/"]);
    for wrong in [json!([]), json!([wanted[0]]), more, other] {
        own.api().post(&pull, &wrong).fails(400, &["incorrect privileges"]);
    }
    let reordered = json!([wanted[1], wanted[0]]);
    assert_eq!(own.api().post(&pull, &reordered).status(), 200);
    own.docker(&["plugin", "rm", "p"]).ok();
}

fn settings_are_those_that_the_plugin_lets_be_set(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let source = cx.dir().join("source");
    fs::create_dir(&source).unwrap();
    let settable = config(|c| {
        c["mounts"] = json!([{"name": "m", "type": "bind", "destination": "/mnt/state/mm", "settable": ["source"], "options": ["rbind"]}]);
    });
    own.docker(&["plugin", "create", "p", &folder(cx, "p", &settable)]).ok();
    for (wrong, text) in [
        ("FIXED=2", "is not settable"),
        ("NONE=1", "not found in the plugin configuration"),
        ("LEVEL", "want NAME=VALUE"),
    ] {
        own.docker(&["plugin", "set", "p", "LEVEL=x", wrong]).fails_with(1, &[text]);
    }
    assert_eq!(inspect(&own, "p")["Settings"]["Env"], json!(["LEVEL=low", "FIXED=1"]));
    own.docker(&["plugin", "enable", "p"])
        .fails_with(1, &["no absolute source", "docker plugin set"]);
    own.docker(&["plugin", "set", "p", "LEVEL=high", &format!("m.source={}", source.display())])
        .ok();
    own.docker(&["plugin", "enable", "p"]).ok();
    own.docker(&["plugin", "set", "p", "LEVEL=low"]).fails_with(1, &["disable plugin"]);
    // The mounted folder is the volume mm.
    own.docker(&["volume", "create", "-d", "p", "mm"]).ok();
    run(&own, "mm", "echo there > /v/f");
    own.docker(&["volume", "rm", "-f", "mm"]).ok();
    own.docker(&["plugin", "rm", "-f", "p"]).ok();
    assert_eq!(mounts(&daemon.path("root")), Vec::<String>::new());
}

fn a_plugin_outlives_the_daemon_and_is_started_again(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["plugin", "create", "p", &folder(cx, "p", &config(|_| {}))]).ok();
    own.docker(&["plugin", "create", "off", &folder(cx, "off", &config(|_| {}))]).ok();
    own.docker(&["plugin", "enable", "p"]).ok();
    own.docker(&["volume", "create", "-d", "p", "vv"]).ok();
    run(&own, "vv", "echo kept > /v/f");
    let process = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let root = daemon.path("root").join("plugins");
        pids.find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let own = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            line.starts_with(b"/plugins\0volume\0") && own.contains(root.to_str().unwrap())
        })
    };
    let first = process().unwrap();
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    assert_eq!(process(), Some(first), "it ran on");
    assert_eq!(run(&own, "vv", "cat /v/f"), "kept");
    // Its process dies: another comes.
    let kill = |pid: i32| {
        let mut kill = std::process::Command::new("kill");
        kill.args(["-9", &pid.to_string()]);
        testkit::command::run(&mut kill, b"").ok();
    };
    kill(first);
    cx.until("it is started again", || process().filter(|pid| *pid != first));
    let deaths = own.events(
        &["type=plugin", "event=die"],
        "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}",
    );
    assert_eq!(deaths.ok(), "p:latest 137");
    assert_eq!(run(&own, "vv", "cat /v/f"), "kept");
    // It dies while nobody is there.
    daemon.kill().unwrap();
    kill(process().unwrap());
    daemon.start_again().unwrap();
    cx.until("it is started again", process);
    assert_eq!(run(&own, "vv", "cat /v/f"), "kept");
    let enabled =
        own.docker(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]).ok().to_owned();
    assert_eq!(enabled, "off:latest false\np:latest true");
    own.docker(&["volume", "rm", "vv"]).ok();
    own.docker(&["plugin", "rm", "-f", "p", "off"]).ok();
    cx.until("it has gone", || process().is_none().then_some(()));
    assert_eq!(mounts(&daemon.path("root")), Vec::<String>::new());
    assert_eq!(fs::read_dir(daemon.path("root").join("plugins")).unwrap().count(), 0);
}

fn networks_and_addresses_of_managed_plugins(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let of = |kind: &str, types: &str, argument: &str| {
        config(|c| {
            c["args"] = json!({"value": [kind, "/run/docker/plugins/p.sock", argument]});
            c["interface"] = json!({"types": [types], "socket": "p.sock"});
            c["network"] = json!({"type": "host"});
            c["linux"] = json!({"capabilities": ["CAP_NET_ADMIN"]});
            c["propagatedMount"] = json!("");
        })
    };
    let ipam = of("ipam", "docker.ipamdriver/1.0", "10.213.11.0/24");
    own.docker(&["plugin", "create", "me/ipam", &folder(cx, "ipam", &ipam)]).ok();
    own.docker(&["plugin", "enable", "me/ipam"]).ok();
    own.docker(&["network", "create", "--ipam-driver", "me/ipam", "net"]).ok();
    let shown = own
        .docker(&["run", "--rm", "--network", "net", "busybox", "ip", "addr", "show", "eth0"])
        .ok()
        .to_owned();
    assert!(shown.contains("10.213.11."), "{shown}");
    own.docker(&["plugin", "disable", "me/ipam"]).fails_with(1, &["is in use by network net"]);
    own.docker(&["network", "rm", "net"]).ok();
    own.docker(&["plugin", "disable", "me/ipam"]).ok();
    own.docker(&["plugin", "rm", "me/ipam"]).ok();
}

fn plugins_that_cannot_run_leave_nothing(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let cases = [
        (config(|c| c["entrypoint"] = json!(["/none"])), "no such file"),
        (config(|c| c["args"] = json!({"value": ["volume"]})), "ended with exit code 1"),
        (config(|c| c["interface"]["socket"] = json!("other.sock")), "does not listen"),
        (
            config(|c| {
                c["mounts"] = json!([{"type": "bind", "source": "/none", "destination": "/m"}])
            }),
            "/none",
        ),
        (config(|c| c["linux"]["capabilities"] = json!(["CAP_NONE"])), "CAP_NONE"),
    ];
    for (at, (config, text)) in cases.iter().enumerate() {
        let name = format!("p{at}");
        own.docker(&["plugin", "create", &name, &folder(cx, &name, config)]).ok();
        own.docker(&["plugin", "enable", "--timeout", "1", &name]).fails_with(1, &[text]);
        assert_eq!(inspect(&own, &name)["Enabled"], false);
        own.docker(&["plugin", "rm", &name]).ok();
    }
    assert_eq!(mounts(&daemon.path("root")), Vec::<String>::new());
    assert_eq!(fs::read_dir(daemon.path("root").join("plugins")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(daemon.path("root").join("containers")).unwrap().count(), 0);
}

fn what_is_no_plugin_is_refused(cx: &Cx<'_>) {
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let post = |name: &str, tar: &Tarball| {
        let headers = [("Content-Type", "application/x-tar")];
        own.api().request(
            "POST",
            &format!("/v1.51/plugins/create?name={name}"),
            &headers,
            &tar.finish(),
        )
    };
    // An archive with this configuration, if any, and a root.
    let archive = |config: Option<&[u8]>| {
        let mut tar = Tarball::new();
        if let Some(config) = config {
            tar.file("config.json", 0o644, config);
        }
        tar.dir("rootfs");
        tar
    };
    let good = config(|_| {}).to_string();
    let socket = config(|c| c["interface"]["socket"] = json!("../x.sock")).to_string();
    let propagated = config(|c| c["propagatedMount"] = json!("../x")).to_string();
    let mut rootless = Tarball::new();
    rootless.file("config.json", 0o644, &good);
    let mut linked = Tarball::new();
    linked.symlink("config.json", "/etc/passwd").dir("rootfs");
    let mut elsewhere = Tarball::new();
    elsewhere.file("config.json", 0o644, &good).symlink("rootfs", "/etc");
    for (tar, text) in [
        (archive(None), "no config.json"),
        (archive(Some(b"{")), "config.json"),
        (archive(Some(b"{}")), "no entrypoint"),
        (archive(Some(socket.as_bytes())), "no file name"),
        (archive(Some(propagated.as_bytes())), "propagated mount"),
        (rootless, "no folder rootfs"),
        (linked, "config.json"),
        (elsewhere, "no folder rootfs"),
    ] {
        post("p", &tar).fails(400, &[text]);
    }
    for name in ["", "A", "a@sha256:0", "../a"] {
        post(name, &archive(None)).fails(400, &[]);
    }
    let api = own.api();
    for path in ["/plugins/none/enable?timeout=0", "/plugins/none/disable", "/plugins/none/push"] {
        api.post(path, &json!({})).fails(404, &["not found"]);
    }
    api.post("/plugins/none/set", &json!(["A=b"])).fails(404, &["not found"]);
    api.get("/plugins/none/json").fails(404, &["not found"]);
    api.get("/plugins/privileges").fails(400, &["remote=NAME"]);
    api.get("/plugins?filters={%22nonsense%22:[%22x%22]}").fails(400, &["nonsense"]);
    assert_eq!(fs::read_dir(daemon.path("root").join("plugins")).unwrap().count(), 0);
}

//! Plugins for volumes: what they are asked, what containers see of them, and plugins that hang, lie or die.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon::Options,
    plugin::{Answer, Plugin, Program},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    a_plugin_s_volumes_are_made_shown_and_removed,
    volumes_that_others_made_are_found,
    what_plugins_refuse_is_told,
    containers_mount_and_unmount_them,
    a_start_that_fails_unmounts,
    the_daemon_s_death_leaves_no_mount,
    plugins_that_hang_hold_up_nobody_else,
    plugins_that_lie_are_told_of,
    a_plugin_that_died_is_asked_again,
    a_plugin_written_in_go,
];

/// What a plugin has: by name the options and who has it mounted.
type Volumes = Arc<Mutex<BTreeMap<String, (Value, BTreeSet<String>)>>>;

/// A plugin whose volumes are folders below `dir`.
struct Honest {
    plugin: Plugin,
    volumes: Volumes,
}

fn honest(dir: &Path, name: &str, volumes: Volumes) -> Honest {
    let (own, folder) = (Arc::clone(&volumes), dir.join("content"));
    let plugin = Plugin::start(dir, name, move |method, asked| {
        answer(&mut own.lock().unwrap(), &folder, method, asked).into()
    });
    Honest { plugin, volumes }
}

fn answer(
    all: &mut BTreeMap<String, (Value, BTreeSet<String>)>,
    folder: &Path,
    method: &str,
    asked: &Value,
) -> Value {
    let name = asked["Name"].as_str().unwrap_or_default();
    let at = folder.join(name);
    let show = |name: &str, holders: &BTreeSet<String>| {
        let place = if holders.is_empty() { json!("") } else { json!(folder.join(name)) };
        json!({"Name": name, "Mountpoint": place, "CreatedAt": "2020-01-02T03:04:05Z", "Status": {"kind": "test"}})
    };
    match method {
        "Plugin.Activate" => return json!({"Implements": ["VolumeDriver"]}),
        "VolumeDriver.Capabilities" => return json!({"Capabilities": {"Scope": "global"}}),
        "VolumeDriver.List" => {
            let list: Vec<Value> = all.iter().map(|(name, (_, h))| show(name, h)).collect();
            return json!({"Volumes": list});
        }
        "VolumeDriver.Create" => {
            if asked["Opts"]["bad"].is_string() {
                return json!({"Err": "an option is bad"});
            }
            fs::create_dir_all(&at).unwrap();
            all.insert(name.into(), (asked["Opts"].clone(), BTreeSet::new()));
            return json!({});
        }
        _ => {}
    }
    let Some((options, holders)) = all.get_mut(name) else {
        return json!({"Err": format!("there is no {name}")});
    };
    let id = asked["ID"].as_str().unwrap_or_default().to_owned();
    match method {
        "VolumeDriver.Get" => json!({"Volume": show(name, holders)}),
        "VolumeDriver.Path" => json!({"Mountpoint": show(name, holders)["Mountpoint"]}),
        "VolumeDriver.Mount" => {
            if options["broken"].is_string() {
                return json!({"Err": "the disk is broken"});
            }
            assert!(holders.insert(id), "nobody mounts twice");
            json!({"Mountpoint": at})
        }
        "VolumeDriver.Unmount" => {
            assert!(holders.remove(&id), "who unmounts has mounted");
            json!({})
        }
        "VolumeDriver.Remove" if holders.is_empty() => {
            fs::remove_dir_all(&at).unwrap();
            all.remove(name);
            json!({})
        }
        _ => json!({"Err": "it is mounted"}),
    }
}

impl Honest {
    fn start(dir: &Path, name: &str) -> Self {
        honest(dir, name, Volumes::default())
    }

    fn holders(&self, volume: &str) -> Vec<String> {
        let all = self.volumes.lock().unwrap();
        all.get(volume).map(|(_, holders)| holders.iter().cloned().collect()).unwrap_or_default()
    }
}

/// A daemon that looks for plugins in `dir`.
pub fn daemon(cx: &Cx<'_>, dir: &Path, args: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        skip("needs a daemon of its own that looks for plugins elsewhere");
    }
    let folder = format!("--plugin-dir={}", dir.display());
    let args = [args, &[&folder]].concat();
    let daemon = Daemon::start(Options::new().without_bridge().args(&args)).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

fn a_plugin_s_volumes_are_made_shown_and_removed(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["volume", "create", "-d", "store", "-o", "size=5", "--label", "a=b", "vol"]).ok();
    own.docker(&["volume", "create", "plain"]).ok();
    assert_eq!(
        plugin.plugin.asked_for("VolumeDriver.Create"),
        [json!({"Name": "vol", "Opts": {"size": "5"}})]
    );
    let shown = own.api().get("/volumes/vol").expect(200);
    assert_eq!(
        (&shown["Driver"], &shown["Scope"], &shown["Mountpoint"], &shown["CreatedAt"]),
        (&json!("store"), &json!("global"), &json!(""), &json!("2020-01-02T03:04:05Z"))
    );
    assert_eq!(shown["Status"], json!({"kind": "test"}));
    assert_eq!((&shown["Labels"], &shown["Options"]), (&json!({"a": "b"}), &json!({"size": "5"})));
    own.docker(&["volume", "create", "-d", "store", "vol"]).ok();
    own.api().post("/volumes/create", &json!({"Name": "vol"})).expect(201);
    assert_eq!(plugin.plugin.asked_for("VolumeDriver.Create").len(), 1, "again is the same");
    own.docker(&["volume", "create", "-d", "local", "vol"])
        .fails_with(1, &["conflict: volume name must be unique"]);
    own.docker(&["volume", "create", "-d", "store", "plain"])
        .fails_with(1, &["conflict: volume name must be unique"]);
    assert_eq!(own.docker(&["volume", "ls", "-q", "-f", "driver=store"]).ok(), "vol");
    assert_eq!(own.docker(&["volume", "ls", "-q", "-f", "label=a"]).ok(), "vol");
    let drivers = own.docker(&["info", "-f", "{{json .Plugins.Volume}}"]).ok().to_owned();
    assert_eq!(drivers, r#"["local","store"]"#);
    own.docker(&["volume", "prune", "-af"]).ok();
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "vol", "only local volumes are pruned");
    assert_eq!(own.api().get("/system/df").expect(200)["Volumes"], json!([]));
    own.docker(&["volume", "rm", "vol"]).ok();
    assert!(plugin.volumes.lock().unwrap().is_empty());
    own.docker(&["volume", "inspect", "vol"]).fails_with(1, &["get vol: no such volume"]);
    let told =
        own.events(&["type=volume", "volume=vol"], "{{.Action}} {{.Actor.Attributes.driver}}");
    assert_eq!(told.ok(), "create store\ndestroy store");
}

fn volumes_that_others_made_are_found(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let make = |name: &str| {
        fs::create_dir_all(cx.dir().join("content").join(name)).unwrap();
        fs::write(cx.dir().join("content").join(name).join("f"), "theirs").unwrap();
        plugin.volumes.lock().unwrap().insert(name.into(), (json!({}), BTreeSet::new()));
    };
    make("theirs");
    make("other");
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "other\ntheirs");
    assert_eq!(own.docker(&["volume", "inspect", "-f", "{{.Driver}}", "theirs"]).ok(), "store");
    let mount = ["-v", "theirs:/v", "busybox", "cat", "/v/f"];
    assert_eq!(own.docker(&[&RUN[..], &mount].concat()).ok(), "theirs");
    own.docker(&["volume", "rm", "other", "theirs"]).ok();
    assert!(plugin.volumes.lock().unwrap().is_empty());
    assert!(plugin.plugin.asked_for("VolumeDriver.Create").is_empty());
    // What its plugin lost is none, and is made anew.
    own.docker(&["volume", "create", "-d", "store", "lost"]).ok();
    plugin.volumes.lock().unwrap().clear();
    own.docker(&["volume", "inspect", "lost"]).fails_with(1, &["get lost: no such volume"]);
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "");
    own.docker(&["volume", "create", "-d", "store", "lost"]).ok();
    assert_eq!(plugin.volumes.lock().unwrap().len(), 1);
    own.docker(&["volume", "rm", "lost"]).ok();
}

fn what_plugins_refuse_is_told(cx: &Cx<'_>) {
    let _plugin = Honest::start(cx.dir(), "store");
    let _other = Plugin::start(cx.dir(), "other", |_, _| json!({"Implements": ["authz"]}).into());
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["volume", "create", "-d", "nowhere", "vol"]).fails_with(
        1,
        &["create vol: error looking up volume plugin nowhere: plugin \"nowhere\" not found"],
    );
    assert_eq!(
        own.api().post("/volumes/create", &json!({"Name": "vol", "Driver": "nowhere"})).status(),
        404
    );
    own.docker(&["volume", "create", "-d", "other", "vol"])
        .fails_with(1, &["plugin \"other\" does not implement VolumeDriver"]);
    own.docker(&["volume", "create", "-d", "store", "-o", "bad=yes", "vol"])
        .fails_with(1, &["create vol: an option is bad"]);
    own.docker(
        &[&RUN[..], &["--volume-driver", "nowhere", "-v", "vol:/v", "busybox", "true"]].concat(),
    )
    .fails_with(125, &["error looking up volume plugin nowhere"]);
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "");
    own.docker(&["volume", "create", "-d", "store", "vol"]).ok();
    own.gantry(&["volume", "clone", "vol", "wol"])
        .fails_with(1, &["the volume is the plugin store's"]);
    own.gantry(&["volume", "rename", "vol", "wol"])
        .fails_with(1, &["the volume is the plugin store's"]);
    own.docker(&["volume", "rm", "vol"]).ok();
}

fn containers_mount_and_unmount_them(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let tag = own.name("img");
    own.docker_with(
        &["build", "-q", "-t", &tag, "-"],
        "FROM busybox\nRUN mkdir /d && echo seed > /d/f && chown 1234:50 /d && chmod 750 /d\n",
    )
    .ok();
    let name = own.name("a");
    let with = [
        "--name",
        &name,
        "--network",
        "none",
        "--volume-driver",
        "store",
        "-v",
        "vol:/d",
        "-v",
        "vol:/e",
    ];
    let run = [&["run", "-d"], &with[..], &[&tag, "sleep", "600"]].concat();
    let id = own.docker(&run).ok().to_owned();
    assert_eq!(plugin.holders("vol"), std::slice::from_ref(&id));
    assert_eq!(
        own.docker(&["exec", &name, "sh", "-c", "cat /d/f; stat -c '%u:%g %a' /d; echo new >/e/g"])
            .ok(),
        "seed\n1234:50 750"
    );
    let content = cx.dir().join("content/vol");
    assert_eq!(fs::read_to_string(content.join("g")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(&content).unwrap().count(), 2, "the copy left nothing of its own");
    let mount = &own.inspect(&name)["Mounts"][0];
    assert_eq!(
        (&mount["Type"], &mount["Name"], &mount["Driver"], &mount["Source"]),
        (&json!("volume"), &json!("vol"), &json!("store"), &json!(content))
    );
    let shared = ["--volumes-from", &name, "busybox", "cat", "/d/g"];
    assert_eq!(own.docker(&[&RUN[..], &shared].concat()).ok(), "new");
    assert_eq!(plugin.holders("vol"), [id], "the second has given it back");
    own.docker(&["volume", "rm", "vol"]).fails_with(1, &["volume is in use"]);
    own.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(plugin.holders("vol").len(), 1);
    own.docker(&["stop", "-t", "0", &name]).ok();
    assert!(plugin.holders("vol").is_empty());
    own.docker(&["cp", &format!("{name}:/d/g"), cx.dir().to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(cx.dir().join("g")).unwrap(), "new\n");
    // The archive has come when the engine is still at giving back.
    own.until("who looks at a stopped container's files gives back", || {
        plugin.holders("vol").is_empty().then_some(())
    });
    own.docker(&["rm", &name]).ok();
    // An anonymous volume goes with its container.
    own.docker(
        &[
            &RUN[..],
            &[
                "--mount",
                "type=volume,dst=/x,volume-driver=store,volume-opt=a=b",
                "busybox",
                "true",
            ],
        ]
        .concat(),
    )
    .ok();
    assert_eq!(plugin.plugin.asked_for("VolumeDriver.Create")[1]["Opts"], json!({"a": "b"}));
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "vol");
    let tar = own.gantry(&["volume", "export", "vol", "-o", "out.tar"]);
    tar.ok();
    own.gantry(&[
        "volume",
        "import",
        "vol",
        "-i",
        &own.dir().join("out.tar").display().to_string(),
    ])
    .ok();
    assert!(plugin.holders("vol").is_empty());
    own.docker(&["volume", "rm", "vol"]).ok();
}

fn a_start_that_fails_unmounts(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(
        &[&RUN[..], &["--volume-driver", "store", "-v", "vol:/v", "busybox", "/nothing"]].concat(),
    )
    .fails(127);
    cx.until("it is unmounted", || plugin.holders("vol").is_empty().then_some(()));
    own.docker(&["volume", "create", "-d", "store", "-o", "broken=yes", "wol"]).ok();
    let run = ["-v", "vol:/v", "-v", "wol:/w:nocopy", "busybox", "true"];
    own.docker(&[&RUN[..], &run].concat())
        .fails_with(125, &["error while mounting volume 'wol': the disk is broken"]);
    cx.until("it is unmounted", || plugin.holders("vol").is_empty().then_some(()));
    own.docker(&["volume", "rm", "vol", "wol"]).ok();
}

fn the_daemon_s_death_leaves_no_mount(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &[]);
    let docker = |args: &[&str]| command::run(daemon.docker().args(args), b"");
    for name in ["stays", "goes"] {
        let mount = format!("{name}:/v");
        let with = ["--network", "none", "--volume-driver", "store", "-v", &mount];
        docker(&[&["run", "-d", "--name", name], &with[..], &["busybox", "sleep", "600"]].concat())
            .ok();
    }
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", "goes"]).ok().trim().to_owned();
    daemon.kill().unwrap();
    command::run(Command::new("kill").args(["-9", &pid]), b"").ok();
    daemon.start_again().unwrap();
    cx.until("the dead one's is unmounted", || plugin.holders("goes").is_empty().then_some(()));
    assert_eq!(plugin.holders("stays").len(), 1, "the living one keeps its own");
    docker(&["exec", "stays", "touch", "/v/f"]).ok();
    docker(&["rm", "-f", "stays", "goes"]).ok();
    assert!(plugin.holders("stays").is_empty());
    docker(&["volume", "rm", "stays", "goes"]).ok();
}

fn plugins_that_hang_hold_up_nobody_else(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let stuck = Plugin::start(cx.dir(), "stuck", |method, _| match method {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}).into(),
        "VolumeDriver.Create" | "VolumeDriver.Capabilities" => json!({}).into(),
        "VolumeDriver.Get" => json!({"Err": "none"}).into(),
        _ => Answer::Never,
    });
    let mute = Plugin::start(cx.dir(), "mute", |_, _| Answer::Never);
    let daemon = daemon(cx, cx.dir(), &["--plugin-timeout=1"]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["volume", "create", "-d", "mute", "vol"])
        .fails_with(1, &["Plugin.Activate: no answer within 1 seconds"]);
    own.docker(&["volume", "create", "-d", "stuck", "vol"]).ok();
    own.docker(&["volume", "create", "-d", "store", "good"]).ok();
    let listed = own.api().get("/volumes").expect(200);
    let names: Vec<_> = listed["Volumes"].as_array().unwrap().iter().map(|v| &v["Name"]).collect();
    assert_eq!(names, ["good", "vol"]);
    assert_eq!(
        listed["Warnings"],
        json!(["list stuck: VolumeDriver.List: no answer within 1 seconds"])
    );
    let id = own
        .docker(&["create", "--network", "none", "-v", "good:/g", "busybox", "true"])
        .ok()
        .to_owned();
    assert!(!id.is_empty());
    // A mount that never comes ends the start, and is asked to be taken off for as long as that takes.
    let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "Mounts": [
        {"Type": "volume", "Source": "wol", "Target": "/w",
         "VolumeOptions": {"NoCopy": true, "DriverConfig": {"Name": "stuck"}}}]}});
    let made = own.api().post("/containers/create?name=held", &body).expect(201);
    assert_eq!(made["Warnings"], json!([]));
    own.docker(&["start", "held"]).fails_with(
        1,
        &["error while mounting volume 'wol': VolumeDriver.Mount: no answer within 2 seconds"],
    );
    cx.until("it is asked to unmount", || {
        (stuck.asked_for("VolumeDriver.Unmount").len() > 1).then_some(())
    });
    own.docker(&["rm", "held"]).ok();
    own.docker(&["volume", "rm", "wol"]).fails_with(1, &["no answer within 1 seconds"]);
    own.docker(&["volume", "rm", "-f", "wol", "vol"]).ok();
    assert_eq!(own.docker(&["rm", &id]).code, Some(0));
    own.docker(&["volume", "rm", "good"]).ok();
    drop((plugin, mute));
}

fn plugins_that_lie_are_told_of(cx: &Cx<'_>) {
    let file = cx.write("file", "no folder");
    let _liar = Plugin::start(cx.dir(), "liar", move |method, asked| match method {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}).into(),
        "VolumeDriver.Get" => json!({"Volume": {"Name": asked["Name"]}}).into(),
        "VolumeDriver.Mount" => match asked["Name"].as_str().unwrap() {
            "relative" => json!({"Mountpoint": "etc"}).into(),
            "missing" => json!({"Mountpoint": "/not/there"}).into(),
            "file" => json!({"Mountpoint": file}).into(),
            "text" => Answer::Text("<html>".into()),
            "closed" => Answer::Closed,
            _ => Answer::Bad(500, json!({"Err": "out of order"})),
        },
        "VolumeDriver.List" => Answer::Text("[".into()),
        _ => json!({}).into(),
    });
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    for (name, told) in [
        ("relative", "plugin liar mounted it at \"etc\", which is no absolute path"),
        ("missing", "plugin liar mounted it at /not/there, which is no directory"),
        ("file", "which is no directory"),
        ("text", "VolumeDriver.Mount: cannot read the answer"),
        ("closed", "VolumeDriver.Mount: cannot ask"),
        ("status", "VolumeDriver.Mount: out of order"),
    ] {
        let mount = format!("{name}:/v:nocopy");
        let run = ["--volume-driver", "liar", "-v", &mount, "busybox", "true"];
        own.docker(&[&RUN[..], &run].concat()).fails_with(125, &[told]);
    }
    let listed = own.api().get("/volumes").expect(200);
    let warning = listed["Warnings"][0].as_str().unwrap_or_default();
    assert!(
        warning.starts_with("list liar: VolumeDriver.List: cannot read the answer"),
        "{listed}"
    );
}

fn a_plugin_that_died_is_asked_again(cx: &Cx<'_>) {
    let plugin = Honest::start(cx.dir(), "store");
    let daemon = daemon(cx, cx.dir(), &["--plugin-timeout=1"]);
    let own = Cx::new(&daemon, "own");
    let name = own.name("a");
    let with = ["--name", &name, "--network", "none", "--volume-driver", "store", "-v", "vol:/v"];
    own.docker(&[&["run", "-d"], &with[..], &["busybox", "sleep", "600"]].concat()).ok();
    let Honest { plugin, volumes } = plugin;
    drop(plugin);
    own.docker(&["kill", &name]).ok();
    assert_eq!(own.wait(&name), 137, "the end is known all the same");
    own.docker(&["volume", "inspect", "vol"]).fails_with(1, &["plugin \"store\" not found"]);
    own.docker(&["start", &name]).fails_with(1, &["error while mounting volume 'vol'"]);
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "vol");
    let back = honest(cx.dir(), "store", volumes);
    cx.until("the plugin hears of the end", || back.holders("vol").is_empty().then_some(()));
    own.docker(&["start", &name]).ok();
    assert_eq!(back.holders("vol").len(), 1);
    own.docker(&["rm", "-f", &name]).ok();
    assert!(back.holders("vol").is_empty());
    drop(back);
    own.docker(&["volume", "rm", "vol"]).fails_with(1, &["plugin \"store\" not found"]);
    own.docker(&["volume", "rm", "-f", "vol"]).ok();
    assert_eq!(own.docker(&["volume", "ls", "-q"]).ok(), "");
}

fn a_plugin_written_in_go(cx: &Cx<'_>) {
    let program = testkit::image::cache_dir().join("bin/plugins");
    if !program.exists() {
        skip("scripts/setup --tests builds the plugins where there is Go");
    }
    let content = cx.dir().join("content");
    let socket = cx.dir().join("gopher.sock");
    let _plugin =
        Program::start(&program, &["volume".as_ref(), socket.as_os_str(), content.as_os_str()]);
    cx.until("it listens", || socket.exists().then_some(()));
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["volume", "create", "-d", "gopher", "vol"]).ok();
    let run = |script| {
        own.docker(&[&RUN[..], &["-v", "vol:/v", "busybox", "sh", "-c", script]].concat())
            .ok()
            .to_owned()
    };
    run("echo kept > /v/f");
    assert_eq!(run("cat /v/f"), "kept");
    assert_eq!(fs::read_to_string(content.join("vol/f")).unwrap(), "kept\n");
    let shown = own.api().get("/volumes/vol").expect(200);
    assert_eq!((&shown["Driver"], &shown["Status"]), (&json!("gopher"), &json!({"mounts": 0})));
    own.docker(&["volume", "rm", "vol"]).ok();
    own.docker(&["volume", "inspect", "vol"]).fails_with(1, &["no such volume"]);
}

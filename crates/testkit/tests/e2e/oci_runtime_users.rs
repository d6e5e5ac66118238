//! The shim as an OCI runtime with user namespaces and mapped mounts.

use crate::oci_runtime::{Rig, SLEEPER};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, lchown},
    path::Path,
    process::{Child, Command, Stdio},
};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    a_life_with_mapped_users,
    users_are_joined_by_path,
    users_that_cannot_be_mapped_are_refused,
    binds_are_mapped,
    hooks_find_the_mounts,
    a_configuration_for_one_user_alone,
    a_runtime_in_a_user_namespace_binds_devices,
];

/// The first user and group of the host that the containers here are.
const FIRST: u32 = 100_000;

fn map(outside: u32, size: u32) -> Value {
    json!([{"containerID": 0, "hostID": outside, "size": size}])
}

/// Adds a new user namespace of [`FIRST`] and those after it.
fn add_users(config: &mut Value) {
    add_namespace(config, json!({"type": "user"}));
    config["linux"]["uidMappings"] = map(FIRST, 65_536);
    config["linux"]["gidMappings"] = map(FIRST, 65_536);
}

fn add_namespace(config: &mut Value, namespace: Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
}

/// Gives a tree to the root of the containers here.
fn give(path: &Path) {
    lchown(path, Some(FIRST), Some(FIRST)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

fn rig<'c, 'd>(cx: &'c Cx<'d>, script: &str) -> Rig<'c, 'd> {
    let rig = Rig::new(cx, script);
    give(&cx.dir().join("bundle/rootfs"));
    rig.change(add_users);
    rig
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn a_life_with_mapped_users(cx: &Cx<'_>) {
    let rig = rig(cx, &format!("touch /new; {SLEEPER}"));
    rig.change(|config| {
        config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [9]})
    });
    let out = rig.create();
    let pid = rig.run(&["state", "ID"]).json()["pid"].to_string();
    assert_eq!(
        words(&fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap()),
        ["0", "100000", "65536"]
    );
    rig.run(&["start", "ID"]).ok();
    rig.until_says(&out, "up");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    let groups = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap();
    assert_eq!(words(groups), ["100000", "100009"]);
    let root = cx.dir().join("bundle/rootfs");
    let new = fs::metadata(root.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (FIRST, FIRST), "what is written is the mapped root's");
    let exec = |args: &[&str], script: &str| {
        let args = [&["exec"], args, &["ID", "sh", "-c", script]].concat();
        rig.run(&args).ok().to_owned()
    };
    let owners = "stat -c %u:%g / /bin /dev /dev/null /dev/shm /dev/mqueue /proc /sys/fs/cgroup";
    assert_eq!(words(&exec(&[], owners)), [&["0:0"; 6][..], &["65534:65534", "0:0"]].concat());
    assert_eq!(exec(&[], "cat /proc/self/setgroups; id -u; echo x > /dev/null"), "allow\n0");
    assert_eq!(
        exec(&["--user", "7:8"], "id -u; id -g; touch /dev/shm/own; stat -c %u:%g /dev/shm/own"),
        "7\n8\n7:8"
    );
    rig.run(&["exec", "--user", "7:70000", "ID", "id"])
        .fails_with(1, &["unable to become user 7:70000: group 70000 is not mapped"]);
    rig.run(&["exec", "--additional-gids", "66000", "ID", "id"])
        .fails_with(1, &["group 66000 is not mapped"]);
    rig.run(&["update", "--pids-limit", "30", "ID"]).ok();
    assert_eq!(rig.run(&["events", "--stats", "ID"]).json()["data"]["pids"]["limit"], 30);
    rig.run(&["pause", "ID"]).ok();
    rig.run(&["resume", "ID"]).ok();
    rig.run(&["kill", "ID", "TERM"]).ok();
    rig.until_stopped();
    rig.run(&["delete", "ID"]).ok();
    rig.gone();
}

/// A process that sleeps in a user namespace of its own.
struct Holder(Child);

impl Holder {
    fn new(cx: &Cx<'_>, args: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        let child = command.arg("--user").args(args).args(["sleep", "600"]).spawn().unwrap();
        let holder = Self(child);
        // The program runs when all is set.
        let comm = || fs::read_to_string(format!("/proc/{}/comm", holder.0.id())).unwrap();
        cx.until("it sleeps", || (comm().trim() == "sleep").then_some(()));
        holder
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/user", self.0.id())
    }

    fn map(&self, outside: u32, size: u32) {
        for file in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{file}", self.0.id());
            fs::write(path, format!("0 {outside} {size}")).unwrap();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn users_are_joined_by_path(cx: &Cx<'_>) {
    let holder = Holder::new(cx, &[]);
    let rig = Rig::new(cx, "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -G");
    give(&cx.dir().join("bundle/rootfs"));
    rig.change(|config| add_namespace(config, json!({"type": "user", "path": holder.path()})));
    let run = || rig.run(&["run", "--bundle", &rig.bundle(), "ID"]);
    run().fails_with(1, &[&holder.path(), "user and group 0 are not mapped"]);
    holder.map(FIRST, 1000);
    let own = fs::read_link(holder.path()).unwrap().display().to_string();
    let joined = run();
    assert_eq!(words(joined.ok()), [&own, "0", "100000", "1000", "0"], "{}", joined.describe());
    // Maps are the same or missing.
    let maps = |size: u32| {
        rig.change(|config| {
            config["linux"]["uidMappings"] = map(FIRST, size);
            config["linux"]["gidMappings"] = map(FIRST, size);
        });
    };
    maps(999);
    run().fails_with(1, &["its maps are others than linux.uidMappings"]);
    maps(1000);
    run().ok();
    // A namespace that forbids groups to be set; the groups of the caller are given up all the same.
    let strict = Holder::new(cx, &["--map-root-user"]);
    rig.change(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let last = linux["namespaces"].as_array_mut().unwrap().last_mut().unwrap();
        *last = json!({"type": "user", "path": strict.path()});
    });
    let own = fs::read_link(strict.path()).unwrap().display().to_string();
    assert_eq!(words(run().ok()), [&own, "0", "0", "1", "0"]);
    for (path, text) in
        [("/proc/self/ns/user", "it is the runtime's own"), ("/no/such", "no such file")]
    {
        rig.change(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            *list.last_mut().unwrap() = json!({"type": "user", "path": path});
        });
        run().fails_with(1, &[path, text]);
    }
    rig.gone();
}

fn users_that_cannot_be_mapped_are_refused(cx: &Cx<'_>) {
    let rig = rig(cx, "true");
    let refused = |field: &str, value: Value, text: &str| {
        let mut before = Value::Null;
        rig.change(|config| {
            before = config.clone();
            *config.pointer_mut(field).unwrap() = value;
        });
        rig.run(&["create", "--bundle", &rig.bundle(), "ID"]).fails_with(1, &[text]);
        rig.gone();
        rig.change(|config| *config = before);
    };
    let users = "/linux/uidMappings";
    refused(users, map(FIRST, 0), "linux.uidMappings[0]: size must not be 0");
    refused(users, json!([]), "linux.uidMappings is missing");
    let twice = json!([{"containerID": 0, "hostID": 1, "size": 5}, {"containerID": 4, "hostID": 90, "size": 5}]);
    refused(users, twice, "linux.uidMappings[1]: overlaps linux.uidMappings[0] in containerID");
    let many: Vec<Value> =
        (0..341).map(|n| json!({"containerID": n, "hostID": n, "size": 1})).collect();
    refused("/linux/gidMappings", json!(many), "linux.gidMappings has 341 ranges");
    let other = json!([{"containerID": 5, "hostID": FIRST, "size": 5}]);
    refused(users, other, "map user and group 0");
    refused(users, json!([{"containerID": 0, "size": 1}]), "hostID");
    refused("/linux/namespaces", json!([{"type": "mount"}]), "need a namespace of type \"user\"");
    refused("/process/user", json!({"uid": 70_000, "gid": 0}), "user 70000 is not mapped");
    let groups = json!({"uid": 0, "gid": 0, "additionalGids": [70_000]});
    refused("/process/user", groups, "group 70000 is not mapped");
    let tmpfs =
        json!([{"destination": "/t", "type": "tmpfs", "source": "t", "options": ["gid=70000"]}]);
    refused("/mounts", tmpfs, "option gid=70000 of tmpfs");
    let bind = json!([{"destination": "/t", "type": "tmpfs", "source": "t", "options": ["idmap"]}]);
    refused("/mounts", bind, "only binds can be mapped");
    rig.change(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    rig.run(&["create", "--bundle", &rig.bundle(), "ID"])
        .fails_with(1, &["needs linux.uidMappings"]);
    rig.gone();
}

fn binds_are_mapped(cx: &Cx<'_>) {
    let rig = rig(cx, "stat -c %u:%g /own/f /container/f /plain/f; touch /container/new");
    let source = cx.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "").unwrap();
    lchown(source.join("f"), Some(5), Some(6)).unwrap();
    let bind = |to: &str, options: Value| json!({"destination": to, "type": "bind", "source": source, "options": options});
    let mut usual = Value::Null;
    rig.change(|config| {
        usual = config["mounts"].clone();
        let mounts = config["mounts"].as_array_mut().unwrap();
        let mut own = bind("/own", json!(["bind"]));
        own["uidMappings"] = map(FIRST + 50, 100);
        own["gidMappings"] = map(FIRST + 70, 100);
        mounts.push(own);
        mounts.push(bind("/container", json!(["bind", "idmap"])));
        mounts.push(bind("/plain", json!(["bind"])));
    });
    let run = || rig.run(&["run", "--bundle", &rig.bundle(), "ID"]);
    let output = run();
    if output.stderr.contains("cannot map owners") {
        testkit::cx::skip(
            "the folder for temporary files is on a file system that cannot map owners",
        );
    }
    assert_eq!(words(output.ok()), ["55:76", "5:6", "65534:65534"]);
    assert_eq!(
        fs::metadata(source.join("new")).unwrap().uid(),
        0,
        "stored as the container has it"
    );
    rig.change(|config| {
        let proc = json!({"destination": "/d", "type": "bind", "source": "/proc", "options": ["bind", "idmap"]});
        config["mounts"] = json!([proc]);
    });
    run().fails_with(1, &["error mounting \"/proc\" to rootfs at \"/d\"", "cannot map owners"]);
    // Without users of its own the container may still have mapped mounts.
    rig.change(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        linux["namespaces"].as_array_mut().unwrap().pop();
        config["process"]["args"] = json!(["stat", "-c", "%u:%g", "/d/f"]);
        let mut own = bind("/d", json!(["rbind", "ridmap"]));
        own["uidMappings"] = map(1000, 10);
        own["gidMappings"] = map(2000, 10);
        config["mounts"] = usual.clone();
        config["mounts"].as_array_mut().unwrap().push(own);
    });
    assert_eq!(run().ok(), "1005:2006");
    rig.change(|config| config["mounts"] = json!([bind("/d", json!(["bind", "idmap"]))]));
    run().fails_with(1, &["option idmap needs uidMappings"]);
    rig.gone();
}

fn hooks_find_the_mounts(cx: &Cx<'_>) {
    let rig = rig(cx, "cat /etc/hooked/f; stat -c %u /started");
    let notes = cx.dir().join("notes");
    let root = cx.dir().join("bundle/rootfs");
    let (notes_at, root_at) = (notes.display(), root.display());
    let hook = |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    rig.change(|config| {
        // In the runtime's namespaces the mounts are seen only in the list of the container's process.
        config["hooks"]["createRuntime"] = hook(format!(
            "p=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2); grep -c ' {root_at}/dev ' /proc/$p/mountinfo > {notes_at}"
        ));
        config["hooks"]["createContainer"] = hook(format!(
            "test -c {root_at}/dev/null && readlink {root_at}/proc/self/ns/uts >> {notes_at}; umask >> {notes_at}; mkdir {root_at}/etc/hooked; mount -t tmpfs hook {root_at}/etc/hooked; echo mounted > {root_at}/etc/hooked/f"
        ));
        config["hooks"]["startContainer"] =
            json!([{"path": "/bin/touch", "args": ["touch", "/started"]}]);
    });
    assert_eq!(rig.run(&["run", "--bundle", &rig.bundle(), "ID"]).ok(), "mounted\n0");
    let notes = fs::read_to_string(&notes).unwrap();
    let [count, uts, mask] = words(&notes)[..] else { panic!("{notes}") };
    assert_eq!((count, mask), ("1", "0022"), "{notes}");
    let own = fs::read_link("/proc/self/ns/uts").unwrap();
    assert!(uts.starts_with("uts:[") && uts != own.display().to_string(), "{notes}");
    rig.gone();
}

fn a_configuration_for_one_user_alone(cx: &Cx<'_>) {
    let rig = Rig::new(cx, "true");
    fs::remove_file(cx.dir().join("bundle/config.json")).unwrap();
    rig.run(&["spec", "--rootless", "--bundle", &rig.bundle()]).ok();
    let mut written = Value::Null;
    rig.change(|config| {
        written = config.clone();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] =
            json!(["sh", "-c", "cat /proc/self/uid_map; stat -c %g /dev/pts"]);
        config["root"]["readonly"] = json!(false);
    });
    let linux = &written["linux"];
    assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&map(0, 1), &map(0, 1)));
    let kinds: Vec<&str> =
        linux["namespaces"].as_array().unwrap().iter().filter_map(|n| n["type"].as_str()).collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    assert_eq!(linux["resources"], Value::Null);
    let mounts = written["mounts"].as_array().unwrap();
    let sys = mounts.iter().find(|m| m["destination"] == "/sys").unwrap();
    assert_eq!((&sys["type"], &sys["options"][0]), (&json!("none"), &json!("rbind")));
    assert!(!written["mounts"].to_string().contains("gid="), "{written}");
    let output = rig.run(&["run", "--bundle", &rig.bundle(), "ID"]);
    assert_eq!(words(output.ok()), ["0", "0", "1", "0"]);
    rig.gone();
}

/// What the container prints when the runtime itself is called in a user namespace, which has the host's first users.
fn run_nested(cx: &Cx<'_>, rig: &Rig<'_, '_>) -> String {
    // Waits for its maps, and is the runtime then.
    let go = cx.dir().join("go");
    let script = format!("while ! test -e {}; do sleep 0.05; done; exec \"$@\"", go.display());
    let bundle = rig.bundle();
    let runtime = rig.command(&["run", "--bundle", &bundle, &rig.id]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(runtime.get_program()).args(runtime.get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    let there = || fs::read_link(format!("/proc/{}/ns/user", child.id())).unwrap() != host;
    cx.until("it is in its namespace", || there().then_some(()));
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", child.id()), "0 0 200000").unwrap();
    }
    fs::write(&go, "").unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(&go).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn a_runtime_in_a_user_namespace_binds_devices(cx: &Cx<'_>) {
    let rig = Rig::new(
        cx,
        "echo x > /dev/null && stat -c '%t:%T %u' /dev/zero; grep -c ' /dev/zero devtmpfs ' /proc/mounts; cat /proc/self/uid_map",
    );
    assert_eq!(words(&run_nested(cx, &rig)), ["1:5", "0", "1", "0", "0", "200000"]);
    give(&cx.dir().join("bundle/rootfs"));
    rig.change(add_users);
    assert_eq!(words(&run_nested(cx, &rig)), ["1:5", "65534", "1", "0", "100000", "65536"]);
    rig.gone();
}

//! `--mount` in all its forms, and what `-v` does with drivers and modes.

use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};
use testkit::{Cx, cases, http::Response, suite::Case};

pub const CASES: &[Case] = cases![
    read_only_binds_are_read_only_below,
    binds_without_what_is_mounted_below,
    propagation_follows_the_host,
    propagation_needs_a_mount_that_has_it,
    missing_sources_are_made_when_asked,
    parts_of_volumes_are_mounted,
    parts_of_volumes_stay_inside,
    volumes_are_filled_unless_told_otherwise,
    images_are_mounted,
    images_in_use_are_kept,
    memory_takes_all_options,
    volumes_from_pass_on_modes,
    bad_mounts_are_refused,
    drivers_of_volumes_are_looked_up,
];

fn create(cx: &Cx<'_>, part: &str, mounts: &Value, cmd: &[&str]) -> Response {
    let body = json!({"Image": "busybox", "Cmd": cmd, "HostConfig": {"Mounts": mounts}});
    // Newer than dockerd 20.10 speaks, which is not asked for these.
    let path = format!("/v1.51/containers/create?name={}", cx.name(part));
    cx.api().post(&path, &body)
}

/// Creates and runs a container with `mounts`: its output.
fn run(cx: &Cx<'_>, part: &str, mounts: &Value, cmd: &[&str]) -> String {
    create(cx, part, mounts, cmd).expect(201);
    let output = cx.docker(&["start", "-a", &cx.name(part)]);
    format!("{}{}", output.stdout, output.stderr).trim_end().to_owned()
}

/// A folder with a memory file system mounted below it on the host; taken off when dropped.
struct Below(std::path::PathBuf);

impl Below {
    fn new(cx: &Cx<'_>) -> Self {
        let source = cx.dir().join("source");
        fs::create_dir_all(source.join("below")).unwrap();
        host(&["mount", "-t", "tmpfs", "tmpfs", source.join("below").to_str().unwrap()]);
        fs::write(source.join("below/inner"), "x").unwrap();
        Self(source)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        _ = Command::new("umount").args(["-R", "-l"]).arg(self.0.join("below")).status();
    }
}

fn host(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{words:?}");
}

const WRITE: &str = "(touch /m/own 2>&1; touch /m/below/new 2>&1; ls /m/below) | tr '\\n' ' '";

fn read_only_binds_are_read_only_below(cx: &Cx<'_>) {
    let below = Below::new(cx);
    if !cx.is_gantry() {
        return;
    }
    let bind = |options: Value| json!([{"Type": "bind", "Source": below.path(), "Target": "/m", "ReadOnly": true, "BindOptions": options}]);
    let text = run(cx, "deep", &bind(json!({})), &["sh", "-c", WRITE]);
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    let text = run(cx, "flat", &bind(json!({"ReadOnlyNonRecursive": true})), &["sh", "-c", WRITE]);
    assert_eq!(text.matches("Read-only file system").count(), 1, "{text}");
    assert!(text.contains("inner new"), "{text}");
    let forced = bind(json!({"ReadOnlyForceRecursive": true, "Propagation": "rprivate"}));
    let text = run(cx, "forced", &forced, &["sh", "-c", WRITE]);
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    let bind = format!("{}:/m:ro", below.path());
    let text = cx.busybox(&["-v", &bind], &["sh", "-c", WRITE]);
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    // The command line's words for the same.
    let source = below.path();
    for (word, denied) in [("enabled", 2), ("writable", 1), ("readonly", 2)] {
        let mount = format!(
            "type=bind,src={source},dst=/m,readonly,bind-propagation=rprivate,bind-recursive={word}"
        );
        let text = cx.busybox(&["--mount", &mount], &["sh", "-c", WRITE]);
        assert_eq!(text.matches("Read-only file system").count(), denied, "{word}: {text}");
    }
}

fn binds_without_what_is_mounted_below(cx: &Cx<'_>) {
    let below = Below::new(cx);
    let source = below.path();
    for word in ["bind-nonrecursive", "bind-recursive=disabled"] {
        let mount = format!("type=bind,src={source},dst=/m,{word}");
        assert_eq!(cx.busybox(&["--mount", &mount], &["ls", "/m/below"]), "", "{word}");
    }
    let mount = format!("type=bind,src={source},dst=/m");
    assert_eq!(cx.busybox(&["--mount", &mount], &["ls", "/m/below"]), "inner");
}

fn propagation_follows_the_host(cx: &Cx<'_>) {
    let place = cx.dir().join("shared");
    fs::create_dir_all(&place).unwrap();
    let path = place.to_str().unwrap();
    host(&["mount", "-t", "tmpfs", "tmpfs", path]);
    host(&["mount", "--make-shared", path]);
    fs::create_dir(place.join("later")).unwrap();
    let start = |part: &str, propagation: &str| {
        let mount = format!("type=bind,src={path},dst=/m,bind-propagation={propagation}");
        cx.sleeper(
            part,
            &["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--mount", &mount],
        )
    };
    let (slave, private) = (start("slave", "rslave"), start("private", "rprivate"));
    let shared = start("shared", "rshared");
    host(&["mount", "-t", "tmpfs", "tmpfs", &format!("{path}/later")]);
    fs::write(place.join("later/seen"), "x").unwrap();
    let list = |name: &str| cx.docker(&["exec", name, "ls", "/m/later"]).ok().to_owned();
    let seen = (list(&slave), list(&private), list(&shared));
    host(&["umount", &format!("{path}/later")]);
    cx.docker(&["exec", &shared, "mount", "-t", "tmpfs", "tmpfs", "/m/later"]).ok();
    cx.docker(&["exec", &shared, "touch", "/m/later/from-inside"]).ok();
    let outside = place.join("later/from-inside").exists();
    cx.docker(&["exec", &shared, "umount", "/m/later"]).ok();
    cx.docker(&["rm", "-f", &slave, &private, &shared]).ok();
    host(&["umount", path]);
    assert_eq!(seen, ("seen".to_owned(), String::new(), "seen".to_owned()));
    assert!(outside, "a shared mount goes both ways");
}

fn propagation_needs_a_mount_that_has_it(cx: &Cx<'_>) {
    let place = cx.dir().join("private");
    fs::create_dir_all(&place).unwrap();
    let path = place.to_str().unwrap();
    host(&["mount", "-t", "tmpfs", "tmpfs", path]);
    host(&["mount", "--make-private", path]);
    let outcome = |propagation: &str| {
        let mount = format!("type=bind,src={path},dst=/m,bind-propagation={propagation}");
        cx.run(&["--mount", &mount], &["true"])
    };
    let (shared, slave, private) = (outcome("shared"), outcome("rslave"), outcome("private"));
    host(&["umount", path]);
    shared.fails_with(125, &["but it is not a shared mount"]);
    slave.fails_with(125, &["but it is not a shared or slave mount"]);
    private.ok();
}

fn missing_sources_are_made_when_asked(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let source = cx.dir().join("made/here");
    let bind = |options: Value| json!([{"Type": "bind", "Source": source, "Target": "/m", "BindOptions": options}]);
    create(cx, "a", &bind(json!({})), &["true"])
        .fails(400, &["bind source path does not exist", "made/here"]);
    assert!(!source.exists());
    run(cx, "b", &bind(json!({"CreateMountpoint": true})), &["touch", "/m/f"]);
    assert!(source.join("f").exists());
    let mount = format!("type=bind,src={}/two,dst=/m,bind-create-src", cx.dir().display());
    cx.run(&["--mount", &mount], &["true"]); // an option that older command lines lack
    let missing = cx.api().get(&format!("/containers/{}/json", cx.name("a")));
    assert_eq!(missing.status(), 404, "nothing half-made stays");
}

fn parts_of_volumes_are_mounted(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let volume = cx.name("v");
    cx.busybox(
        &["-v", &format!("{volume}:/v")],
        &[
            "sh",
            "-c",
            "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s a/b /v/link; echo top > /v/top",
        ],
    );
    let part = |subpath: &str| json!([{"Type": "volume", "Source": volume, "Target": "/m", "VolumeOptions": {"Subpath": subpath}}]);
    assert_eq!(run(cx, "folder", &part("a/b"), &["cat", "/m/f"]), "deep");
    assert_eq!(run(cx, "link", &part("link"), &["ls", "/m"]), "f");
    assert_eq!(run(cx, "file", &part("top"), &["cat", "/m"]), "top");
    let text = cx.busybox(
        &["--mount", &format!("type=volume,src={volume},dst=/m,volume-subpath=a")],
        &["sh", "-c", "touch /m/new; ls /m"],
    );
    assert_eq!(text, "b\nnew");
    create(cx, "none", &part("gone"), &["true"]).expect(201);
    cx.docker(&["start", &cx.name("none")]).fails_with(1, &["subpath", "no such file"]);
    // Files go there as well when it does not run.
    let file = cx.write("f", "copied");
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{}:/m/put", cx.name("folder"))]).ok();
    assert_eq!(cx.busybox(&["-v", &format!("{volume}:/v")], &["cat", "/v/a/b/put"]), "copied");
}

fn parts_of_volumes_stay_inside(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let canary = cx.write("canary/secret", "of the host");
    let folder = canary.parent().unwrap().to_str().unwrap();
    let volume = cx.name("v");
    let script = format!("ln -s {folder} /v/abs; ln -s ../../../../../../..{folder} /v/rel");
    cx.busybox(&["-v", &format!("{volume}:/v")], &["sh", "-c", &script]);
    let part = |subpath: &str| json!([{"Type": "volume", "Source": volume, "Target": "/m", "VolumeOptions": {"Subpath": subpath}}]);
    for link in ["abs", "rel"] {
        create(cx, link, &part(link), &["cat", "/m/secret"]).expect(201);
        cx.docker(&["start", "-a", &cx.name(link)]).fails_with(1, &["subpath"]);
    }
    for bad in ["../x", "/etc", "a/../../b"] {
        create(cx, "bad", &part(bad), &["true"]).fails(400, &["subpath must be a relative path"]);
    }
}

fn volumes_are_filled_unless_told_otherwise(cx: &Cx<'_>) {
    let (full, bare) = (cx.name("full"), cx.name("bare"));
    let mount = |volume: &str, more: &str| format!("type=volume,src={volume},dst=/etc{more}");
    let list = ["sh", "-c", "ls /etc | grep -c passwd"];
    assert_eq!(cx.busybox(&["--mount", &mount(&full, "")], &list), "1");
    cx.run(&["--mount", &mount(&bare, ",volume-nocopy")], &list).code(1);
    let labelled =
        format!("type=volume,src={},dst=/m,volume-label=case={}", cx.name("l"), cx.name("x"));
    cx.busybox(&["--mount", &labelled], &["true"]);
    let labels = cx.docker(&["volume", "inspect", "--format", "{{json .Labels}}", &cx.name("l")]);
    assert_eq!(labels.json(), json!({"case": cx.name("x")}));
}

fn images_are_mounted(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let tag = cx.name("img");
    let file = "FROM busybox\nRUN mkdir -p /data/in && echo from the image > /data/in/f && echo one > /one\n";
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], file).ok();
    let image = |options: Value| json!([{"Type": "image", "Source": tag, "Target": "/m", "ImageOptions": options}]);
    assert_eq!(run(cx, "whole", &image(json!({})), &["cat", "/m/data/in/f"]), "from the image");
    let part = image(json!({"Subpath": "data/in"}));
    assert_eq!(run(cx, "part", &part, &["sh", "-c", "ls /m; cat /m/f"]), "f\nfrom the image");
    assert_eq!(run(cx, "file", &image(json!({"Subpath": "one"})), &["cat", "/m"]), "one");
    let text = run(cx, "write", &image(json!({})), &["touch", "/m/new"]);
    assert!(text.contains("Read-only file system"), "{text}");
    let shown = cx.inspect(&cx.name("whole"))["Mounts"][0].clone();
    assert_eq!(
        (&shown["Type"], &shown["Source"], &shown["RW"]),
        (&json!("image"), &json!(tag), &json!(false))
    );
    create(
        cx,
        "none",
        &json!([{"Type": "image", "Source": "none-such", "Target": "/m"}]),
        &["true"],
    )
    .fails(400, &["none-such"]);
    let mount = format!("type=image,src={tag},dst=/m,image-subpath=data");
    assert_eq!(cx.busybox(&["--mount", &mount], &["ls", "/m"]), "in");
}

fn images_in_use_are_kept(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let tag = cx.name("img");
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], "FROM busybox\nRUN echo kept > /kept\n").ok();
    create(
        cx,
        "a",
        &json!([{"Type": "image", "Source": tag, "Target": "/m"}]),
        &["cat", "/m/kept"],
    )
    .expect(201);
    let running =
        cx.start("b", &["--mount", &format!("type=image,src={tag},dst=/m")], &["sleep", "600"]);
    let id = cx.docker(&["image", "inspect", "-f", "{{.Id}}", &tag]).ok().to_owned();
    cx.docker(&["rmi", "-f", &id]).fails_with(1, &["is being used by running container"]);
    cx.docker(&["rm", "-f", &running]).ok();
    cx.docker(&["rmi", &tag]).fails_with(1, &["is using its referenced image"]);
    cx.docker(&["rmi", "-f", &tag]).ok();
    cx.docker(&["image", "prune", "-f"]).ok();
    assert_eq!(cx.docker(&["start", "-a", &cx.name("a")]).ok(), "kept");
}

fn memory_takes_all_options(cx: &Cx<'_>) {
    let text = cx.busybox(
        &["--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=1770"],
        &["sh", "-c", "mount | grep ' /m '; stat -c %a /m"],
    );
    assert!(text.contains("size=1024k") && text.ends_with("1770"), "{text}");
    if cx.is_gantry() {
        let options = json!({"SizeBytes": 65536, "Options": [["exec"], ["uid", "1234"]]});
        let mounts = json!([{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": options}]);
        let text = run(cx, "a", &mounts, &["sh", "-c", "mount | grep ' /m '; stat -c %u /m"]);
        assert!(!text.contains("noexec") && text.ends_with("1234"), "{text}");
    }
}

fn volumes_from_pass_on_modes(cx: &Cx<'_>) {
    let bound = cx.dir().join("bound");
    fs::create_dir(&bound).unwrap();
    let donor = cx.name("donor");
    let bind = format!("{}:/bound", bound.display());
    cx.docker(&["create", "--name", &donor, "-v", "/anon", "-v", &bind, "busybox"]).ok();
    let script = "touch /anon/x /bound/y && echo wrote";
    assert_eq!(cx.busybox(&["--volumes-from", &donor], &["sh", "-c", script]), "wrote");
    let from = format!("{donor}:ro");
    cx.run(&["--volumes-from", &from], &["sh", "-c", script])
        .fails_with(1, &["Read-only file system"]);
    assert!(Path::new(&bound).join("y").exists());
    cx.run(&["--volumes-from", &format!("{donor}:bogus")], &["true"]).fails(125);
    cx.run(&["--volumes-from", "none-such"], &["true"]).fails(125);
}

fn bad_mounts_are_refused(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let bad = |mount: Value, text: &str| {
        create(cx, "bad", &json!([mount]), &["true"]).fails(400, &["mount", text]);
    };
    bad(json!({"Type": "bind", "Source": "/etc", "Target": ""}), "Target must not be empty");
    bad(json!({"Type": "bind", "Source": "", "Target": "/m"}), "Source must not be empty");
    bad(json!({"Type": "bind", "Source": "etc", "Target": "/m"}), "must be absolute");
    bad(json!({"Type": "bind", "Source": "/etc", "Target": "/"}), "destination can't be '/'");
    bad(json!({"Type": "npipe", "Source": "x", "Target": "/m"}), "mount type unknown");
    bad(json!({"Type": "tmpfs", "Source": "x", "Target": "/m"}), "Source must not be specified");
    bad(json!({"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": -5}}), "negative");
    bad(json!({"Type": "volume", "Source": "v", "Target": "/m", "BindOptions": {}}), "BindOptions");
    bad(
        json!({"Type": "bind", "Source": "/etc", "Target": "/m", "BindOptions": {"Propagation": "up"}}),
        "invalid propagation mode",
    );
    let twice = json!([{"Type": "tmpfs", "Target": "/m"}, {"Type": "tmpfs", "Target": "/m/."}]);
    create(cx, "bad", &twice, &["true"]).fails(400, &["Duplicate mount point: /m"]);
    assert_eq!(cx.api().get(&format!("/containers/{}/json", cx.name("bad"))).status(), 404);
}

fn drivers_of_volumes_are_looked_up(cx: &Cx<'_>) {
    let volume = format!("{}:/v", cx.name("v"));
    cx.run(&["--volume-driver", "none-such", "-v", &volume], &["true"])
        .fails_with(125, &["none-such"]);
    cx.run(&["--mount", "type=volume,dst=/m,volume-driver=none-such"], &["true"])
        .fails_with(125, &["none-such"]);
    assert_eq!(cx.busybox(&["--volume-driver", "local", "-v", &volume], &["ls", "/v"]), "");
}

//! Volumes and mounts: named, anonymous, bind, options, copy-up.

use serde_json::{Value, json};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    named_volumes_keep_their_data,
    first_use_copies_the_image_content,
    bind_mounts,
    bind_mount_of_a_missing_source,
    mount_flag,
    volume_life,
    volume_shape_and_filters,
    volumes_from,
    read_only_and_propagation,
    names_are_checked,
    in_use_is_a_conflict,
    duplicate_mount_points_are_an_error,
    file_binds,
    symlinked_targets_stay_inside,
    inspect_mounts,
];

fn named_volumes_keep_their_data(cx: &Cx<'_>) {
    let mount = format!("{}:/data", cx.name("vol"));
    cx.busybox(&["-v", &mount], &["sh", "-c", "echo kept > /data/f; chown 7:8 /data/f"]);
    assert_eq!(
        cx.busybox(&["-v", &mount], &["sh", "-c", "cat /data/f; stat -c %u:%g /data/f"]),
        "kept\n7:8"
    );
}

fn first_use_copies_the_image_content(cx: &Cx<'_>) {
    let tag = cx.name("img");
    cx.docker_with(
        &["build", "-q", "-t", &tag, "-"],
        "FROM busybox\nRUN mkdir /d && echo seed > /d/f && chown alice:staff /d && chmod 750 /d\n",
    )
    .ok();
    let mount = format!("{}:/d", cx.name("vol"));
    let sh = |mount: &str, script: &str| {
        cx.docker(&["run", "--rm", "-v", mount, &tag, "sh", "-c", script]).ok().to_owned()
    };
    assert_eq!(
        sh(&mount, "cat /d/f; stat -c '%u:%g %a' /d; echo changed > /d/f"),
        "seed\n1234:50 750"
    );
    assert_eq!(sh(&mount, "cat /d/f"), "changed", "only the first use copies");
    let plain = format!("{}:/d:nocopy", cx.name("plain"));
    assert_eq!(sh(&plain, "ls /d"), "");
}

fn bind_mounts(cx: &Cx<'_>) {
    cx.write("src/f", "host");
    let source = cx.dir().join("src");
    let mount = format!("{}:/b", source.display());
    assert_eq!(cx.busybox(&["-v", &mount], &["sh", "-c", "cat /b/f; echo back > /b/g"]), "host");
    assert_eq!(std::fs::read_to_string(source.join("g")).unwrap(), "back\n");
    cx.run(&["-v", &format!("{mount}:ro")], &["touch", "/b/x"])
        .fails_with(1, &["Read-only file system"]);
}

fn bind_mount_of_a_missing_source(cx: &Cx<'_>) {
    let missing = cx.dir().join("missing");
    cx.run(&["-v", &format!("{}:/b", missing.display())], &["true"]).ok();
    assert!(missing.is_dir(), "-v makes the folder");
    let other = cx.dir().join("other");
    cx.run(&["--mount", &format!("type=bind,src={},dst=/b", other.display())], &["true"])
        .fails_with(
            125,
            &["invalid mount config for type \"bind\": bind source path does not exist"],
        );
    assert!(!other.exists());
    cx.run(&["-v", "relative/path:/b"], &["true"])
        .fails_with(125, &["includes invalid characters for a local volume name"]);
}

fn mount_flag(cx: &Cx<'_>) {
    let volume = cx.name("vol");
    cx.busybox(&["--mount", &format!("type=volume,src={volume},dst=/v")], &["touch", "/v/x"]);
    cx.run(&["--mount", &format!("type=volume,src={volume},dst=/v,readonly")], &["touch", "/v/y"])
        .fails_with(1, &["Read-only file system"]);
    assert_eq!(cx.busybox(&["--mount", &format!("src={volume},dst=/v")], &["ls", "/v"]), "x");
    cx.run(&["--mount", "type=nonsense,dst=/v"], &["true"]).fails(125);
    cx.run(&["--mount", &format!("type=volume,src={volume}")], &["true"]).fails(125);
}

fn volume_life(cx: &Cx<'_>) {
    let name = cx.name("vol");
    assert_eq!(cx.docker(&["volume", "create", "--label", "a=b", &name]).ok(), name);
    assert_eq!(cx.docker(&["volume", "create", &name]).ok(), name, "again is no error");
    assert_eq!(cx.docker(&["volume", "rm", &name]).ok(), name);
    cx.docker(&["volume", "rm", &name]).fails_with(1, &[&format!("get {name}: no such volume")]);
    assert_eq!(cx.api().delete(&format!("/volumes/{name}?force=1")).status(), 204);
    let anonymous = cx.docker(&["volume", "create"]).ok().to_owned();
    assert_eq!(anonymous.len(), 64);
    cx.docker(&["volume", "rm", &anonymous]).ok();
}

fn volume_shape_and_filters(cx: &Cx<'_>) {
    let name = cx.name("vol");
    cx.docker(&["volume", "create", "--label", "kind=filtered", &name]).ok();
    let v = cx.api().get(&format!("/volumes/{name}")).expect(200);
    assert_eq!(
        (&v["Name"], &v["Driver"], &v["Scope"]),
        (&json!(name), &json!("local"), &json!("local"))
    );
    assert_eq!(v["Labels"], json!({"kind": "filtered"}));
    assert!(v["CreatedAt"].is_string());
    assert!(v["Mountpoint"].as_str().unwrap().ends_with(&format!("/volumes/{name}/_data")));
    let list = |filter: &str| cx.docker(&["volume", "ls", "-q", "-f", filter]).ok().to_owned();
    assert_eq!(list("label=kind=filtered"), name);
    assert_eq!(list(&format!("name={name}")), name);
    assert!(list("dangling=true").contains(&name));
    assert!(list("driver=local").contains(&name));
    let all = cx.api().get("/volumes").expect(200);
    assert!(all["Warnings"].is_null() && all["Volumes"].is_array());
    cx.api().get("/volumes/no-such-volume").fails(404, &["no such volume"]);
}

fn volumes_from(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-v", &format!("{}:/data", cx.name("vol"))]);
    cx.docker(&["exec", &name, "sh", "-c", "echo shared > /data/f"]).ok();
    assert_eq!(cx.busybox(&["--volumes-from", &name], &["cat", "/data/f"]), "shared");
    cx.run(&["--volumes-from", &format!("{name}:ro")], &["touch", "/data/x"])
        .fails_with(1, &["Read-only file system"]);
    cx.run(&["--volumes-from", "no-such"], &["true"])
        .fails_with(125, &["No such container: no-such"]);
}

fn read_only_and_propagation(cx: &Cx<'_>) {
    let source = cx.dir().to_str().unwrap().to_owned();
    let text = cx.busybox(
        &["-v", &format!("{source}:/b:ro")],
        &["sh", "-c", "grep ' /b ' /proc/self/mountinfo"],
    );
    assert!(text.contains(" ro,"), "{text}");
    cx.run(&["-v", &format!("{source}:/b:nonsense")], &["true"])
        .fails_with(125, &["nvalid mode: nonsense"]);
}

fn names_are_checked(cx: &Cx<'_>) {
    for bad in ["../x", "a/b", "-x", "x"] {
        let answer = cx.api().post("/volumes/create", &json!({"Name": bad}));
        assert_eq!(answer.status(), 400, "{bad}: {}", answer.text());
    }
    let driver = cx
        .api()
        .post("/volumes/create", &json!({"Name": cx.name("v"), "Driver": "no-such-driver"}));
    assert!(matches!(driver.status(), 404 | 400 | 500), "{}", driver.text());
}

fn in_use_is_a_conflict(cx: &Cx<'_>) {
    let volume = cx.name("vol");
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "-v", &format!("{volume}:/v"), "busybox"]).ok();
    cx.docker(&["volume", "rm", &volume]).fails_with(1, &["volume is in use - ["]);
    assert_eq!(cx.api().delete(&format!("/volumes/{volume}")).status(), 409);
    cx.docker(&["rm", &name]).ok();
    cx.docker(&["volume", "rm", &volume]).ok();
}

fn duplicate_mount_points_are_an_error(cx: &Cx<'_>) {
    cx.run(&["-v", "/tmp:/same", "-v", "/var:/same"], &["true"])
        .fails_with(125, &["Duplicate mount point: /same"]);
    cx.run(&["-v", "/tmp:/"], &["true"]).fails_with(125, &["invalid"]);
}

fn file_binds(cx: &Cx<'_>) {
    let file = cx.write("f", "a file");
    let mount = format!("{}:/etc/mine.conf", file.display());
    assert_eq!(cx.busybox(&["-v", &mount], &["cat", "/etc/mine.conf"]), "a file");
    cx.run(&["-v", &format!("{}:/etc", file.display())], &["true"]).fails(125);
}

fn symlinked_targets_stay_inside(cx: &Cx<'_>) {
    let outside = cx.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let tag = cx.name("img");
    cx.docker_with(
        &["build", "-q", "-t", &tag, "-"],
        format!("FROM busybox\nRUN ln -s {} /link\n", outside.display()),
    )
    .ok();
    let text = cx.docker(&[
        "run",
        "--rm",
        "-v",
        &format!("{}:/link/in", cx.name("vol")),
        &tag,
        "sh",
        "-c",
        "touch /link/in/x; ls /link/in",
    ]);
    assert_eq!(text.ok(), "x");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "the host's folder stays empty");
}

fn inspect_mounts(cx: &Cx<'_>) {
    let volume = cx.name("vol");
    let name = cx.sleeper(
        "a",
        &["-v", &format!("{volume}:/v:ro"), "-v", &format!("{}:/b", cx.dir().display())],
    );
    let mounts = cx.inspect(&name)["Mounts"].clone();
    let of = |target: &str| {
        mounts
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["Destination"] == target)
            .cloned()
            .unwrap_or(Value::Null)
    };
    let v = of("/v");
    assert_eq!(
        (&v["Type"], &v["Name"], &v["Driver"], &v["Mode"], &v["RW"]),
        (&json!("volume"), &json!(volume), &json!("local"), &json!("ro"), &json!(false))
    );
    let b = of("/b");
    assert_eq!(
        (&b["Type"], &b["Source"], &b["Mode"], &b["RW"], &b["Propagation"]),
        (&json!("bind"), &json!(cx.dir()), &json!(""), &json!(true), &json!("rprivate"))
    );
    assert_eq!(cx.inspect(&name)["HostConfig"]["Binds"].as_array().unwrap().len(), 2);
}

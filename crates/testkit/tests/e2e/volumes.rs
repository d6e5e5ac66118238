//! Volumes and mounts: named, anonymous, bind, options, copy-up.

use serde_json::{Value, json};
use std::process::Command;
use testkit::{Cx, cases, command, cx::skip, suite::Case};

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
    a_volume_of_memory_is_shared_while_it_is_used,
    a_volume_that_binds_a_folder,
    a_volume_on_a_device,
    driver_options_are_checked,
    a_server_s_name_is_looked_up,
    pruning_follows_the_version,
    usage_of_volumes_is_told,
    a_volume_survives_the_daemon_mounted,
    gantry_s_volume_commands,
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

fn mounts_of(volume: &str) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.contains(&format!("/volumes/{volume}/_data "))).count()
}

fn a_volume_of_memory_is_shared_while_it_is_used(cx: &Cx<'_>) {
    let volume = cx.name("mem");
    cx.docker(&["volume", "create", "--driver", "local", "-o", "type=tmpfs", "-o", "device=tmpfs"])
        .ok();
    let create =
        ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7"];
    cx.docker(&[&create[..], &[volume.as_str()]].concat()).ok();
    let mount = format!("{volume}:/m");
    let (a, b) = (cx.name("a"), cx.name("b"));
    for name in [&a, &b] {
        cx.run(&["-d", "--name", name, "-v", &mount], &["sleep", "600"]).ok();
    }
    cx.docker(&["exec", &a, "sh", "-c", "echo shared > /m/f"]).ok();
    assert_eq!(cx.docker(&["exec", &b, "cat", "/m/f"]).ok(), "shared");
    assert_eq!(cx.docker(&["exec", &b, "stat", "-c", "%u", "/m"]).ok(), "7");
    cx.docker(&["exec", &b, "sh", "-c", "dd if=/dev/zero of=/m/big bs=64k count=64"]).code(1);
    assert_eq!(mounts_of(&volume), usize::from(cx.daemon.is_own()));
    cx.docker(&["rm", "-f", &a]).ok();
    assert_eq!(cx.docker(&["exec", &b, "cat", "/m/f"]).ok(), "shared");
    cx.docker(&["rm", "-f", &b]).ok();
    cx.until("the volume is unmounted", || (mounts_of(&volume) == 0).then_some(()));
    assert_eq!(cx.busybox(&["-v", &mount], &["ls", "/m"]), "", "memory is not kept");
    let shown = cx.docker(&["volume", "inspect", &volume]).json();
    assert_eq!(
        shown[0]["Options"],
        json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"})
    );
    cx.docker(&["volume", "rm", &volume]).ok();
}

fn a_volume_that_binds_a_folder(cx: &Cx<'_>) {
    cx.write("src/f", "mine");
    let (volume, source) = (cx.name("bound"), cx.dir().join("src"));
    let device = format!("device={}", source.display());
    cx.docker(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume])
        .ok();
    let mount = format!("{volume}:/b");
    assert_eq!(cx.busybox(&["-v", &mount], &["sh", "-c", "cat /b/f; echo back > /b/g"]), "mine");
    assert_eq!(std::fs::read_to_string(source.join("g")).unwrap(), "back\n");
    // The folder is the host's: it goes with no removal.
    let running = cx.name("c");
    cx.run(&["-d", "--name", &running, "-v", &mount], &["sleep", "600"]).ok();
    cx.docker(&["volume", "rm", &volume]).fails_with(1, &["volume is in use"]);
    cx.docker(&["rm", "-f", &running]).ok();
    cx.docker(&["volume", "rm", &volume]).ok();
    assert_eq!(std::fs::read_to_string(source.join("f")).unwrap(), "mine");
}

fn a_volume_on_a_device(cx: &Cx<'_>) {
    let image = cx.dir().join("disk");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let tool = |program: &str, args: &[&str]| command::run(Command::new(program).args(args), b"");
    let path = image.to_str().unwrap();
    tool("mkfs.ext4", &["-q", path]).ok();
    let found = tool("losetup", &["--find", "--show", path]);
    let loop_device = found.ok().trim().to_owned();
    let volume = cx.name("disk");
    let device = format!("device={loop_device}");
    cx.docker(&["volume", "create", "-o", "type=ext4", "-o", &device, "-o", "o=noatime", &volume])
        .ok();
    let mount = format!("{volume}:/d");
    cx.busybox(&["-v", &mount], &["sh", "-c", "echo kept > /d/f"]);
    let read = cx.busybox(&["-v", &mount], &["cat", "/d/f"]);
    cx.docker(&["volume", "rm", &volume]).ok();
    tool("losetup", &["--detach", &loop_device]).ok();
    assert_eq!(read, "kept");
}

fn driver_options_are_checked(cx: &Cx<'_>) {
    let create = |options: &[&str]| {
        let mut args = vec!["volume", "create"];
        options.iter().for_each(|o| args.extend(["-o", o]));
        cx.docker(&args)
    };
    create(&["bogus=1"]).fails_with(1, &["invalid option: \"bogus\""]);
    create(&["type=tmpfs"]).fails_with(1, &["missing required option: \"device\""]);
    create(&["o=ro"]).fails_with(1, &["missing required option"]);
    let volume = cx.name("nofs");
    cx.docker(&["volume", "create", "-o", "type=nosuchfs", "-o", "device=/dev/null", &volume]).ok();
    let mount = format!("{volume}:/x");
    cx.run(&["-v", &mount], &["true"]).fails_with(125, &["failed to mount local volume"]);
    let missing = cx.name("missing");
    cx.docker(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        "device=/no/such",
        &missing,
    ])
    .ok();
    let mount = format!("{missing}:/x");
    // The command line makes 127 of these words.
    cx.run(&["-v", &mount], &["true"]).fails_with(127, &["/no/such", "no such file or directory"]);
}

fn a_server_s_name_is_looked_up(cx: &Cx<'_>) {
    let create = |part: &str, options: &str, device: &str, kind: &str| {
        let (name, options, device) =
            (cx.name(part), format!("o={options}"), format!("device={device}"));
        let kind = format!("type={kind}");
        cx.docker(&["volume", "create", "-o", &kind, "-o", &options, "-o", &device, &name])
    };
    create("nowhere", "addr=no-such-host.invalid,rw", ":/srv", "nfs").ok();
    let mount = format!("{}:/x", cx.name("nowhere"));
    let answer = cx.run(&["-v", &mount], &["true"]);
    answer.fails(125);
    for part in ["error resolving passed in network volume address", "no-such-host.invalid"] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.describe());
    }
    // Nobody serves there; what the kernel says depends on what it has.
    create("local", "addr=127.0.0.1,rw,nfsvers=4,port=9,soft,timeo=1,retrans=1", ":/srv", "nfs")
        .ok();
    let mount = format!("{}:/x", cx.name("local"));
    cx.run(&["-v", &mount], &["true"]).fails_with(125, &["failed to mount local volume"]);
    create("share", "guest", "//nas:445/data", "cifs").fails_with(1, &["port not allowed in CIFS"]);
}

/// `filters` of a request, for volumes with this case's label.
fn labelled(cx: &Cx<'_>, more: &str) -> String {
    let text = format!("{{\"label\":[\"{}\"]{more}}}", cx.label());
    format!("filters={}", text.bytes().map(|b| format!("%{b:02X}")).collect::<String>())
}

fn pruning_follows_the_version(cx: &Cx<'_>) {
    let label = cx.label();
    let make = || {
        let named = cx.name("named");
        let mut made = vec![cx.docker(&["volume", "create", "--label", &label]).ok().to_owned()];
        cx.docker(&["volume", "create", "--label", &label, "--label", "keep=yes", &named]).ok();
        made.push(named);
        made
    };
    let prune = |version: &str, more: &str| {
        let path = format!("/{version}/volumes/prune?{}", labelled(cx, more));
        let answer = cx.api().post(&path, &Value::Null).expect(200);
        let all = answer["VolumesDeleted"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let all = make();
    let mut gone = prune("v1.41", "");
    gone.sort_by_key(|name| !all[..1].contains(name));
    assert_eq!(gone, all, "old clients mean every unused volume");
    if cx.is_gantry() {
        let all = make();
        assert_eq!(prune("v1.42", ""), all[..1], "since 1.42 the anonymous ones");
        assert_eq!(prune("v1.51", ",\"all\":[\"0\"]"), Vec::<String>::new());
        assert_eq!(
            prune("v1.51", ",\"label!\":[\"keep=yes\"],\"all\":[\"1\"]"),
            Vec::<String>::new()
        );
        assert_eq!(prune("v1.51", ",\"all\":[\"true\"]"), all[1..]);
        let path = format!("/v1.51/volumes/prune?{}", labelled(cx, ",\"all\":[\"maybe\"]"));
        cx.api().post(&path, &Value::Null).fails(400, &["invalid filter 'all=[maybe]'"]);
    }
    let path = format!("/v1.41/volumes/prune?{}", labelled(cx, ",\"nonsense\":[\"x\"]"));
    cx.api().post(&path, &Value::Null).fails(400, &["invalid filter 'nonsense'"]);
    // What a container holds stays, whether it runs or not; its size is told when it goes.
    let used = cx.name("used");
    cx.docker(&["volume", "create", "--label", &label, &used]).ok();
    let holder = cx.name("holder");
    let mount = format!("{used}:/v");
    let fill = ["sh", "-c", "head -c 300000 /dev/zero > /v/f"];
    cx.docker(&[&["run", "--name", &holder, "-v", &mount, "busybox"][..], &fill].concat()).ok();
    assert_eq!(prune("v1.41", ""), Vec::<String>::new());
    cx.docker(&["rm", &holder]).ok();
    let path = format!("/v1.41/volumes/prune?{}", labelled(cx, ""));
    let answer = cx.api().post(&path, &Value::Null).expect(200);
    assert_eq!(answer["VolumesDeleted"], json!([used]));
    assert!(answer["SpaceReclaimed"].as_u64().is_some_and(|n| n >= 300_000), "{answer}");
}

fn usage_of_volumes_is_told(cx: &Cx<'_>) {
    let volume = cx.name("vol");
    let mount = format!("{volume}:/v");
    let fill = ["sh", "-c", "head -c 2000000 /dev/zero > /v/f; exec sleep 600"];
    let one = cx.start("one", &["-v", &mount], &fill);
    let two = cx.name("two");
    cx.docker(&["create", "--name", &two, "-v", &format!("{mount}:ro"), "busybox"]).ok();
    cx.until("the file is there", || {
        let size = cx.docker(&["exec", &one, "stat", "-c", "%s", "/v/f"]);
        (size.stdout.trim() == "2000000").then_some(())
    });
    let told = || {
        let text = cx.docker(&["system", "df", "-v", "--format", "{{json .Volumes}}"]);
        let all: Value = serde_json::from_str(text.ok()).unwrap();
        let of = all.as_array().into_iter().flatten().find(|v| v["Name"] == volume.as_str());
        let of = of.cloned().unwrap_or(Value::Null);
        (of["Size"].as_str().unwrap_or_default().to_owned(), of["Links"].clone())
    };
    let (size, links) = told();
    assert!(size.starts_with("2MB") || size.starts_with("2.0"), "{size}");
    assert!(links == 2 || links == "2", "{links}");
    cx.docker(&["rm", "-f", &one, &two]).ok();
    let (_, links) = told();
    assert!(links == 0 || links == "0", "{links}");
}

fn a_volume_survives_the_daemon_mounted(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("containers go with dockerd");
    }
    let daemon = super::registry::daemon_with(&[]);
    daemon.load_busybox().unwrap();
    let docker = |args: &[&str]| command::run(daemon.docker().args(args), b"");
    docker(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem"]).ok();
    for name in ["stays", "goes"] {
        let volume = format!("{name}:/m");
        docker(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", name]).ok();
        docker(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "-v",
            &volume,
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
        docker(&["exec", name, "sh", "-c", "echo kept > /m/f"]).ok();
    }
    let pid: i32 =
        docker(&["inspect", "-f", "{{.State.Pid}}", "goes"]).ok().trim().parse().unwrap();
    daemon.kill().unwrap();
    command::run(Command::new("kill").args(["-9", &pid.to_string()]), b"").ok();
    daemon.start_again().unwrap();
    assert_eq!(docker(&["exec", "stays", "cat", "/m/f"]).ok(), "kept");
    let root = daemon.path("root").join("volumes");
    let mounted = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|l| l.contains(root.to_str().unwrap())).count()
    };
    cx.until("the volume of the dead is unmounted", || (mounted() == 1).then_some(()));
    docker(&["rm", "-f", "stays", "goes"]).ok();
    cx.until("nothing is mounted", || (mounted() == 0).then_some(()));
}

fn gantry_s_volume_commands(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("commands of Gantry's own");
    }
    let (volume, copy, renamed) = (cx.name("v"), cx.name("copy"), cx.name("renamed"));
    assert_eq!(cx.gantry(&["volume", "create", "--label", "a=b", &volume]).ok(), volume);
    let user = cx.name("user");
    let mount = format!("{volume}:/v");
    cx.run(&["-d", "--name", &user, "-v", &mount], &["sleep", "600"]).ok();
    cx.docker(&["exec", &user, "sh", "-c", "echo one > /v/f; ln /v/f /v/g; chown 5:6 /v/f"]).ok();
    assert_eq!(cx.gantry(&["volume", "clone", &volume, &copy]).ok(), copy);
    cx.docker(&["exec", &user, "sh", "-c", "echo two > /v/f"]).ok();
    let mount = format!("{copy}:/v");
    assert_eq!(
        cx.busybox(&["-v", &mount], &["sh", "-c", "cat /v/f; stat -c '%u:%g %h' /v/g"]),
        "one\n5:6 2"
    );
    let labels = cx.docker(&["volume", "inspect", "-f", "{{json .Labels}}", &copy]).json();
    assert_eq!(labels, json!({"a": "b", "gantry.volume.copy-of": volume}));
    let snapshot = cx.gantry(&["volume", "snapshot", &volume]).ok().to_owned();
    assert!(snapshot.starts_with(&format!("{volume}-20")), "{snapshot}");
    cx.gantry(&["volume", "clone", &volume, &copy]).fails_with(1, &["exists"]);
    cx.gantry(&["volume", "clone", "no-such-volume", "x1"]).fails_with(1, &["no such volume"]);
    cx.gantry(&["volume", "clone", &volume, "../x"]).fails_with(1, &["invalid characters"]);
    cx.gantry(&["volume", "rename", &volume, &renamed]).fails_with(1, &["volume is in use"]);
    cx.docker(&["rm", "-f", &user]).ok();
    cx.gantry(&["volume", "rename", &volume, &renamed]).ok();
    cx.docker(&["volume", "inspect", &volume]).code(1);
    assert_eq!(cx.busybox(&["-v", &format!("{renamed}:/v")], &["cat", "/v/f"]), "two");
    let listed = cx.gantry(&["volume", "ls", "-q"]);
    for name in [&copy, &renamed, &snapshot] {
        assert!(listed.ok().lines().any(|l| l == name), "{name}: {}", listed.stdout);
    }
    assert_eq!(cx.gantry(&["volume", "ls", "-q", "-f", &format!("name={copy}")]).ok(), copy);
    assert_eq!(cx.gantry(&["volume", "inspect", "-f", "{{.Name}}", &copy]).ok(), copy);
    let tar = cx.dir().join("v.tar");
    let tar = tar.to_str().unwrap();
    cx.gantry(&["volume", "export", "-o", tar, &copy]).ok();
    let imported = cx.name("imported");
    assert_eq!(cx.gantry(&["volume", "import", "-i", tar, &imported]).ok(), imported);
    assert_eq!(
        cx.busybox(
            &["-v", &format!("{imported}:/v")],
            &["sh", "-c", "cat /v/f; stat -c '%u:%g %h' /v/g"]
        ),
        "one\n5:6 2"
    );
    cx.write("bad.tar", "this is no archive".repeat(100));
    let bad = cx.dir().join("bad.tar");
    cx.gantry(&["volume", "import", "-i", bad.to_str().unwrap(), "halfmade"]).code(1);
    cx.docker(&["volume", "inspect", "halfmade"]).code(1);
    cx.gantry(&["volume", "rm", &copy, &renamed, &snapshot, &imported]).ok();
}

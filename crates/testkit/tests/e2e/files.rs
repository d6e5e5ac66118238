//! Files into containers and out of them: `docker cp`, `docker export`, the archive endpoints.

use serde_json::{Value, json};
use std::fs;
use testkit::{
    Cx, cases,
    http::Response,
    suite::Case,
    tarball::{self, Tarball},
};

pub const CASES: &[Case] = cases![
    cp_out_and_in,
    cp_of_a_stopped_container,
    cp_through_volumes,
    cp_through_tar_streams,
    cp_follows_links_when_asked,
    links_stay_inside_the_root,
    cp_keeps_owners_when_asked,
    cp_says_what_is_missing,
    cp_keeps_kinds_when_asked,
    cp_respects_what_is_read_only,
    archive_heads_tell_what_is_there,
    archives_come_compressed_or_not,
    hostile_archives_change_nothing_outside,
    cp_of_the_root_leaves_the_kernels_files_out,
    export_is_the_root_without_volumes,
];

/// The decoded header of an archive answer.
fn stat_of(answer: &Response) -> Value {
    let text = answer.head.header("X-Docker-Container-Path-Stat").expect("the header is there");
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter(|b| *b != b'=') {
        let value = ALPHABET.iter().position(|a| *a == digit).expect("base64") as u32;
        bits = bits << 6 | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    serde_json::from_slice(&out).expect("the header holds JSON")
}

fn exec(cx: &Cx<'_>, name: &str, script: &str) -> String {
    cx.docker(&["exec", name, "sh", "-c", script]).ok().to_owned()
}

fn put(cx: &Cx<'_>, name: &str, query: &str, tar: &[u8]) -> Response {
    let path = format!("/v1.41/containers/{name}/archive?{query}");
    cx.api().request("PUT", &path, &[("Content-Type", "application/x-tar")], tar)
}

fn cp_out_and_in(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(
        cx,
        &name,
        "mkdir -p /d/sub; echo one > /d/f; echo two > /d/sub/g; chmod 4755 /d/f; ln -s f /d/l",
    );
    let out = cx.dir().join("out");
    let out = out.to_str().unwrap();
    cx.docker(&["cp", &format!("{name}:/d"), out]).ok();
    assert_eq!(fs::read_to_string(format!("{out}/f")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(format!("{out}/sub/g")).unwrap(), "two\n");
    assert_eq!(fs::read_link(format!("{out}/l")).unwrap().to_str(), Some("f"));
    // Into a folder that is there: below its own name; with `/.` its content alone.
    cx.docker(&["cp", &format!("{name}:/d"), out]).ok();
    assert!(fs::metadata(format!("{out}/d/sub/g")).is_ok());
    cx.docker(&["cp", &format!("{name}:/d/sub/."), out]).ok();
    assert!(fs::metadata(format!("{out}/g")).is_ok());
    let file = cx.write("in/file", "from the host\n");
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/renamed")]).ok();
    assert_eq!(exec(cx, &name, "cat /tmp/renamed"), "from the host");
    let folder = cx.dir().join("in");
    cx.docker(&["cp", folder.to_str().unwrap(), &format!("{name}:/tmp")]).ok();
    assert_eq!(exec(cx, &name, "cat /tmp/in/file"), "from the host");
    cx.docker(&["cp", &format!("{}/.", folder.display()), &format!("{name}:/tmp/fresh")]).ok();
    assert_eq!(exec(cx, &name, "cat /tmp/fresh/file"), "from the host");
    // A running container's memory file systems are files too.
    if cx.is_gantry() {
        cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/dev/shm/x")]).ok();
        assert_eq!(exec(cx, &name, "cat /dev/shm/x"), "from the host");
    }
    cx.docker(&["pause", &name]).ok();
    cx.docker(&["cp", &format!("{name}:/d/f"), &format!("{out}/paused")]).ok();
    cx.docker(&["unpause", &name]).ok();
    assert_eq!(fs::read_to_string(format!("{out}/paused")).unwrap(), "one\n");
}

fn cp_of_a_stopped_container(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox", "cat", "/etc/given"]).ok();
    let file = cx.write("given", "before the start\n");
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/etc/given")]).ok();
    assert_eq!(cx.docker(&["start", "-a", &name]).ok(), "before the start");
    let out = cx.dir().join("back");
    cx.docker(&["cp", &format!("{name}:/etc/given"), out.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&out).unwrap(), "before the start\n");
    assert_eq!(cx.docker(&["diff", &name]).ok(), "C /etc\nA /etc/given");
    assert_eq!(cx.docker(&["start", "-a", &name]).ok(), "before the start");
}

fn cp_through_volumes(cx: &Cx<'_>) {
    let (volume, name) = (cx.name("v"), cx.name("a"));
    let bound = cx.dir().join("bound");
    fs::create_dir(&bound).unwrap();
    let binds = [format!("{volume}:/deep/in/data"), format!("{}:/bound", bound.display())];
    let file = cx.write("f", "volume\n");
    let file = file.to_str().unwrap();
    cx.docker(&["create", "--name", &name, "-v", &binds[0], "-v", &binds[1], "busybox", "true"])
        .ok();
    cx.docker(&["cp", file, &format!("{name}:/deep/in/data/x")]).ok();
    cx.docker(&["cp", file, &format!("{name}:/bound/y")]).ok();
    assert_eq!(fs::read_to_string(bound.join("y")).unwrap(), "volume\n");
    let read = ["-v", &format!("{volume}:/v:ro")];
    assert_eq!(cx.busybox(&read, &["cat", "/v/x"]), "volume");
    let out = cx.dir().join("out");
    cx.docker(&["cp", &format!("{name}:/deep"), out.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(out.join("in/data/x")).unwrap(), "volume\n");
}

fn cp_through_tar_streams(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(cx, &name, "mkdir /d; echo x > /d/f");
    let tar = cx.docker(&["cp", &format!("{name}:/d"), "-"]);
    tar.ok();
    let names: Vec<String> = tarball::members(&tar.bytes).into_iter().map(|m| m.0).collect();
    assert_eq!(names, ["d/", "d/f"]);
    let mut made = Tarball::new();
    made.dir("t/").file("t/f", 0o640, "piped");
    cx.docker_with(&["cp", "-", &format!("{name}:/tmp")], made.finish()).ok();
    assert_eq!(exec(cx, &name, "cat /tmp/t/f; stat -c ' %a' /tmp/t/f"), "piped 640");
}

fn cp_follows_links_when_asked(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(
        cx,
        &name,
        "echo far > /target; ln -s /target /link; mkdir /dir; ln -s ../dir /tmp/to-dir; touch /dir/in",
    );
    let out = cx.dir();
    cx.docker(&["cp", &format!("{name}:/link"), out.join("as-link").to_str().unwrap()]).ok();
    assert!(fs::symlink_metadata(out.join("as-link")).unwrap().is_symlink());
    cx.docker(&["cp", "-L", &format!("{name}:/link"), out.join("as-file").to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(out.join("as-file")).unwrap(), "far\n");
    let file = cx.write("f", "x");
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/to-dir/new")]).ok();
    assert_eq!(exec(cx, &name, "ls /dir"), "in\nnew");
    // Onto a link to a folder: into the folder.
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/to-dir")]).ok();
    assert_eq!(exec(cx, &name, "ls /dir"), "f\nin\nnew");
}

fn links_stay_inside_the_root(cx: &Cx<'_>) {
    let canary = cx.write("canary/secret", "of the host");
    let folder = canary.parent().unwrap().to_str().unwrap().to_owned();
    let up = format!("../../../../../../../../{folder}");
    for running in [true, false] {
        let name = cx.sleeper(if running { "a" } else { "b" }, &[]);
        exec(
            cx,
            &name,
            &format!("ln -s {folder} /abs; ln -s {up} /rel; ln -s /proc/1/root /magic"),
        );
        if !running {
            cx.docker(&["kill", &name]).ok();
        }
        for link in ["abs", "rel", "magic/tmp", "magic"] {
            let api = cx.api();
            let get = api.get(&format!("/v1.41/containers/{name}/archive?path=/{link}/secret"));
            // A link of /proc is refused, what leads nowhere in the container is missing.
            assert!(matches!(get.status(), 400 | 404), "{link}: {}", get.text());
            let mut tar = Tarball::new();
            tar.file("planted", 0o644, "x");
            let answer = put(cx, &name, &format!("path=/{link}"), &tar.finish());
            assert!(matches!(answer.status(), 200 | 400 | 404), "{link}: {}", answer.text());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing was put beside the canary");
    }
}

fn cp_keeps_owners_when_asked(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-u", "alice"]);
    let file = cx.write("f", "x");
    std::os::unix::fs::chown(&file, Some(4321), Some(4321)).unwrap();
    let stat = |path: &str| exec(cx, &name, &format!("stat -c %u:%g {path}"));
    cx.docker(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/plain")]).ok();
    assert_eq!(stat("/tmp/plain"), "4321:4321");
    if !cx.is_gantry() {
        return; // 20.10 looks the user up on the host
    }
    cx.docker(&["cp", "-a", file.to_str().unwrap(), &format!("{name}:/tmp/archive")]).ok();
    let kept = stat("/tmp/archive");
    let mut tar = Tarball::new();
    tar.file("to-user", 0o600, "x");
    put(cx, &name, "path=/tmp&copyUIDGID=1", &tar.finish()).expect(200);
    assert_eq!(stat("/tmp/to-user"), "1234:1234");
    assert_eq!(kept, "1234:1234", "-a asks for the container's user");
}

fn cp_says_what_is_missing(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let archive = |path: &str| format!("/v1.41/containers/{name}/archive?path={path}");
    api.get(&archive("/nope")).fails(404, &["Could not find the file /nope in container"]);
    api.request("HEAD", &archive("/nope"), &[], b"").expect(404);
    api.get("/v1.41/containers/none-such/archive?path=/").fails(404, &["No such container"]);
    api.get(&format!("/v1.41/containers/{name}/archive")).fails(400, &["path"]);
    let mut tar = Tarball::new();
    tar.file("f", 0o644, "x");
    put(cx, &name, "path=/nope", &tar.finish()).fails(404, &["/nope"]);
    put(cx, &name, "path=/etc/passwd", &tar.finish())
        .fails(if cx.is_gantry() { 400 } else { 500 }, &["extraction point is not a directory"]);
    cx.docker(&["cp", &format!("{name}:/nope"), "."]).fails(1);
    cx.docker(&["cp", "nope", &format!("{name}:/tmp")]).fails(1);
    cx.docker(&["cp", &format!("{name}:/etc"), &format!("{name}:/tmp")]).fails(1);
    if cx.is_gantry() {
        put(cx, &name, "path=/tmp", b"this is no archive, by no means").expect(400);
    }
}

fn cp_keeps_kinds_when_asked(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(cx, &name, "mkdir /tmp/folder; touch /tmp/file");
    let mut as_file = Tarball::new();
    as_file.file("folder", 0o644, "x");
    put(cx, &name, "path=/tmp&noOverwriteDirNonDir=1", &as_file.finish())
        .fails(if cx.is_gantry() { 400 } else { 500 }, &["cannot overwrite directory"]);
    let mut as_folder = Tarball::new();
    as_folder.dir("file/");
    put(cx, &name, "path=/tmp&noOverwriteDirNonDir=1", &as_folder.finish())
        .fails(if cx.is_gantry() { 400 } else { 500 }, &["cannot overwrite non-directory"]);
    assert_eq!(exec(cx, &name, "test -d /tmp/folder && test -f /tmp/file && echo kept"), "kept");
    put(cx, &name, "path=/tmp", &as_file.finish()).expect(200);
    assert_eq!(exec(cx, &name, "test -f /tmp/folder && echo replaced"), "replaced");
}

fn cp_respects_what_is_read_only(cx: &Cx<'_>) {
    let volume = cx.name("v");
    let name = cx.sleeper(
        "a",
        &["--read-only", "-v", &format!("{volume}:/rw"), "-v", &format!("{volume}:/ro:ro")],
    );
    let mut tar = Tarball::new();
    tar.file("f", 0o644, "x");
    let denied = |query: &str, text: &str| {
        let answer = put(cx, &name, query, &tar.finish());
        assert!(answer.status() == 403 || !cx.is_gantry(), "{}", answer.text());
        assert!(answer.message().contains(text), "{}", answer.text());
    };
    denied("path=/etc", "container rootfs is marked read-only");
    denied("path=/ro", "mounted volume is marked read-only");
    put(cx, &name, "path=/rw", &tar.finish()).expect(200);
    assert_eq!(exec(cx, &name, "cat /ro/f"), "x");
}

fn archive_heads_tell_what_is_there(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(
        cx,
        &name,
        "mkdir -m 1777 /d; echo 12345 > /d/f; chmod 640 /d/f; ln -s d/f /link; ln -s /gone /dangling",
    );
    let head = |path: &str| {
        let path = format!("/v1.41/containers/{name}/archive?path={path}");
        let answer = cx.api().request("HEAD", &path, &[], b"");
        answer.expect(200);
        stat_of(&answer)
    };
    let file = head("/d/f");
    assert_eq!(
        (&file["name"], &file["size"], &file["mode"]),
        (&json!("f"), &json!(6), &json!(0o640))
    );
    assert_eq!(file["linkTarget"], "");
    assert_eq!(head("/d")["mode"], json!(1_u32 << 31 | 1 << 20 | 0o777));
    let link = head("/link");
    assert_eq!(link["linkTarget"], "/d/f");
    assert_eq!(link["mode"].as_u64().unwrap() & 1 << 27, 1 << 27);
    assert_eq!(head("/dangling")["linkTarget"], "/gone");
    assert_eq!(head("/d/")["name"], "d");
    let get = cx.api().get(&format!("/v1.41/containers/{name}/archive?path=/d/f"));
    assert_eq!(get.head.header("Content-Type"), Some("application/x-tar"));
    assert_eq!(stat_of(&get)["size"], 6);
    assert_eq!(tarball::member(&get.body, "f"), Some(&b"12345\n"[..]));
}

fn archives_come_compressed_or_not(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let mut tar = Tarball::new();
    tar.file("f", 0o644, "squeezed");
    put(cx, &name, "path=/tmp", &tarball::gzip(&tar.finish())).expect(200);
    assert_eq!(exec(cx, &name, "cat /tmp/f"), "squeezed");
    // An empty body changes nothing.
    put(cx, &name, "path=/tmp", b"").expect(200);
}

fn hostile_archives_change_nothing_outside(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    exec(cx, &name, "mkdir /in; echo old > /outside");
    let canary = cx.write("canary", "host");
    let target = canary.to_str().unwrap();
    let mut shapes: Vec<Vec<u8>> = Vec::new();
    for build in [
        |t: &mut Tarball, _: &str| _ = t.file("../outside", 0o644, "new"),
        |t: &mut Tarball, host: &str| _ = t.hard_link("l", host),
        |t: &mut Tarball, host: &str| _ = t.symlink("s", host).file("s", 0o644, "new"),
        |t: &mut Tarball, host: &str| _ = t.hard_link("h", &format!("../../../../..{host}")),
        |t: &mut Tarball, _: &str| _ = t.symlink("up", "../..").file("up/x/../../y", 0o644, "new"),
    ] as [fn(&mut Tarball, &str); 5]
    {
        let mut tar = Tarball::new();
        build(&mut tar, target);
        shapes.push(tar.finish());
    }
    for tar in &shapes {
        let answer = put(cx, &name, "path=/in", tar);
        assert!(matches!(answer.status(), 200 | 400 | 500), "{}", answer.text());
    }
    assert_eq!(fs::read_to_string(&canary).unwrap(), "host");
    assert_eq!(exec(cx, &name, "cat /outside"), "old");
}

fn cp_of_the_root_leaves_the_kernels_files_out(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let tar = cx.docker(&["cp", &format!("{name}:/"), "-"]);
    tar.ok();
    let names: Vec<String> = tarball::members(&tar.bytes).into_iter().map(|m| m.0).collect();
    let has = |name: &str| names.iter().any(|n| n.trim_start_matches('/') == name);
    assert!(has("etc/passwd") && has("proc/"), "{names:?}");
    assert!(!names.iter().any(|n| n.contains("proc/1/") || n.contains("sys/kernel")), "{names:?}");
}

fn export_is_the_root_without_volumes(cx: &Cx<'_>) {
    let volume = cx.name("v");
    let bind = format!("{volume}:/data");
    for running in [true, false] {
        let name = cx.sleeper(if running { "a" } else { "b" }, &["-v", &bind]);
        exec(cx, &name, "echo mine > /own; echo shared > /data/in-volume");
        if !running {
            cx.docker(&["kill", &name]).ok();
        }
        let tar = cx.docker(&["export", &name]);
        tar.ok();
        assert_eq!(tarball::member(&tar.bytes, "own"), Some(&b"mine\n"[..]));
        let names: Vec<String> = tarball::members(&tar.bytes).into_iter().map(|m| m.0).collect();
        assert!(names.iter().any(|n| n == "data/") && names.iter().any(|n| n == "bin/busybox"));
        assert!(!names.iter().any(|n| n.contains("in-volume") || n.starts_with("proc/1")));
        let tag = cx.name("img");
        cx.docker_with(&["import", "-", &tag], &tar.bytes).ok();
        assert_eq!(cx.docker(&["run", "--rm", &tag, "cat", "/own"]).ok(), "mine");
        cx.docker(&["rmi", &tag]).ok();
    }
    cx.docker(&["export", "none-such"]).fails_with(1, &["No such container"]);
}

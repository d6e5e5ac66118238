//! Images: load, save, import, tag, list, inspect, history, remove, prune.

use serde_json::{Value, json};
use testkit::{
    Cx, Daemon, cases,
    cx::skip,
    daemon::Options,
    image::{docker_archive, sha256},
    suite::Case,
    tarball::{Entry, Tarball, gzip, member, members},
};

pub const CASES: &[Case] = cases![
    load_says_what_it_loaded,
    load_takes_gzip,
    load_of_a_broken_archive_fails,
    load_refuses_a_wrong_diff_id,
    save_and_load_round_trip,
    save_keeps_the_layer_bytes,
    save_is_also_an_oci_layout,
    save_of_nothing_is_404,
    skopeo_reads_what_we_save,
    import_with_changes,
    import_of_compressed_archives,
    tag_and_untag,
    tag_refuses_bad_names,
    list_filters,
    list_shape,
    inspect_shape,
    history_shape,
    remove_refuses_images_in_use,
    remove_by_id_with_several_tags,
    remove_unknown_is_404,
    ids_and_prefixes_name_images,
    layers_hold_every_kind_of_file,
    whiteouts_and_opaque_folders,
    hostile_layers_are_refused;
    alone: prune_removes_dangling_only,
];

/// A small image of its own with one file and tag `NAME:TAG`.
fn small(cx: &Cx<'_>, part: &str, text: &str) -> String {
    let tag = format!("{}:latest", cx.name(part));
    let mut layer = Tarball::new();
    layer.file("hello", 0o644, text);
    let archive = docker_archive(
        &tag,
        &json!({"Cmd": ["/hello"], "Labels": {"part": part}}),
        &[layer.finish()],
    );
    cx.docker_with(&["load", "-q"], archive).ok();
    tag
}

/// An image with busybox below and one layer of the test's own.
fn on_busybox(cx: &Cx<'_>, part: &str, layer: &Tarball) -> (String, testkit::Output) {
    let tag = format!("{}:latest", cx.name(part));
    let names = members(testkit::image::busybox());
    let base = names.iter().find(|m| m.0.ends_with("layer.tar")).unwrap();
    let base = member(testkit::image::busybox(), &base.0).unwrap().to_vec();
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    let archive = docker_archive(&tag, &config, &[base, layer.finish()]);
    let output = cx.docker_with(&["load", "-q"], archive);
    (tag, output)
}

fn load_says_what_it_loaded(cx: &Cx<'_>) {
    let tag = format!("{}:v1", cx.name("a"));
    let mut layer = Tarball::new();
    layer.file("a", 0o644, "a");
    let archive = docker_archive(&tag, &json!({}), &[layer.finish()]);
    let output = cx.docker_with(&["load"], &archive);
    assert!(output.ok().contains(&format!("Loaded image: {tag}")), "{}", output.describe());
    let answer = cx.api().request(
        "POST",
        "/v1.41/images/load?quiet=1",
        &[("Content-Type", "application/x-tar")],
        &archive,
    );
    answer.expect(200);
    assert_eq!(answer.head.header("Content-Type"), Some("application/json"));
    assert!(
        answer.text().contains(&format!(r#"{{"stream":"Loaded image: {tag}\n"}}"#)),
        "{}",
        answer.text()
    );
}

fn load_takes_gzip(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("gz"));
    let mut layer = Tarball::new();
    layer.file("a", 0o644, "gz");
    let archive = gzip(&docker_archive(&tag, &json!({}), &[layer.finish()]));
    assert!(cx.docker_with(&["load"], archive).ok().contains(&tag));
}

fn load_of_a_broken_archive_fails(cx: &Cx<'_>) {
    let output = cx.docker_with(&["load"], b"this is no tar archive, and longer than nothing");
    output.code(1);
    let empty = Tarball::new().finish();
    cx.docker_with(&["load"], empty).code(1);
    let mut lost = Tarball::new();
    lost.file(
        "manifest.json",
        0o644,
        r#"[{"Config":"gone.json","RepoTags":["x:y"],"Layers":["l.tar"]}]"#,
    );
    cx.docker_with(&["load"], lost.finish()).code(1);
}

fn load_refuses_a_wrong_diff_id(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("bad"));
    let mut layer = Tarball::new();
    layer.file("a", 0o644, "content");
    let layer = layer.finish();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}})
    .to_string();
    let mut tar = Tarball::new();
    tar.file("c.json", 0o644, &config).file("l.tar", 0o644, &layer);
    tar.file(
        "manifest.json",
        0o644,
        json!([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]}]).to_string(),
    );
    let output = cx.docker_with(&["load"], tar.finish());
    output.code(1);
    assert!(
        output.stderr.contains("invalid diffID") || output.stderr.contains("digest"),
        "{}",
        output.describe()
    );
    cx.docker(&["image", "inspect", &tag]).code(1);
}

fn save_and_load_round_trip(cx: &Cx<'_>) {
    let tag = small(cx, "a", "round trip");
    let id = cx.docker(&["images", "-q", "--no-trunc", &tag]).ok().to_owned();
    let saved = cx.docker(&["save", &tag]);
    saved.ok();
    cx.docker(&["rmi", &tag]).ok();
    cx.docker(&["image", "inspect", &id]).code(1);
    cx.docker_with(&["load", "-q"], &saved.bytes).ok();
    assert_eq!(cx.docker(&["images", "-q", "--no-trunc", &tag]).ok(), id);
    let again = cx.docker(&["save", &tag]);
    assert_eq!(
        sha256(&again.bytes),
        sha256(&saved.bytes),
        "the same image saves to the same bytes"
    );
}

fn save_keeps_the_layer_bytes(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("a"));
    let mut layer = Tarball::new();
    let long = format!("d/{}", "x".repeat(180));
    layer
        .dir("d/")
        .file(&long, 0o4755, "long")
        .symlink("d/link", "/hello")
        .hard_link("hard", &long);
    let layer = layer.finish();
    cx.docker_with(&["load", "-q"], docker_archive(&tag, &json!({}), std::slice::from_ref(&layer)))
        .ok();
    let saved = cx.docker(&["save", &tag]);
    saved.ok();
    let manifest: Value =
        serde_json::from_slice(member(&saved.bytes, "manifest.json").unwrap()).unwrap();
    let name = manifest[0]["Layers"][0].as_str().unwrap();
    assert_eq!(sha256(member(&saved.bytes, name).unwrap()), sha256(&layer));
}

fn save_is_also_an_oci_layout(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd before 25 saves docker-archive only");
    }
    let tag = small(cx, "a", "oci");
    let saved = cx.docker(&["save", &tag]);
    saved.ok();
    let layout: Value =
        serde_json::from_slice(member(&saved.bytes, "oci-layout").unwrap()).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    let index: Value = serde_json::from_slice(member(&saved.bytes, "index.json").unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let blob = member(&saved.bytes, &format!("blobs/sha256/{}", &digest[7..])).unwrap();
    assert_eq!(sha256(blob), &digest[7..]);
}

fn save_of_nothing_is_404(cx: &Cx<'_>) {
    cx.api().get("/v1.41/images/no-such-image:x/get").expect(404);
    let text = cx.docker(&["save", "no-such-image"]).fails(1).to_owned();
    assert!(text.contains("reference does not exist") || text.contains("No such image"), "{text}");
}

fn skopeo_reads_what_we_save(cx: &Cx<'_>) {
    let tag = small(cx, "a", "skopeo");
    let file = cx.dir().join("image.tar");
    cx.docker(&["save", "-o", file.to_str().unwrap(), &tag]).ok();
    let source = format!("docker-archive:{}", file.display());
    let mut command = std::process::Command::new("skopeo");
    if command.arg("--version").output().is_err() {
        skip("skopeo is not installed");
    }
    let target = format!("oci:{}/oci:latest", cx.dir().display());
    let mut command = std::process::Command::new("skopeo");
    testkit::command::run(command.args(["--insecure-policy", "copy", &source, &target]), b"").ok();
    let archive = format!("docker-archive:{}/back.tar:{tag}", cx.dir().display());
    let mut command = std::process::Command::new("skopeo");
    testkit::command::run(command.args(["--insecure-policy", "copy", &target, &archive]), b"").ok();
    cx.docker(&["rmi", &tag]).ok();
    let back = std::fs::read(cx.dir().join("back.tar")).unwrap();
    assert!(cx.docker_with(&["load"], back).ok().contains(&tag));
}

fn import_with_changes(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("a"));
    let mut root = Tarball::new();
    root.file("only", 0o644, "x");
    let output = cx.docker_with(
        &[
            "import",
            "-c",
            "CMD [\"/only\"]",
            "-c",
            "ENV A=b",
            "-c",
            "EXPOSE 80",
            "-m",
            "by hand",
            "-",
            &tag,
        ],
        root.finish(),
    );
    assert!(output.ok().starts_with("sha256:"), "{}", output.describe());
    let i = &cx.docker(&["image", "inspect", &tag]).json()[0];
    assert_eq!(i["Id"], output.ok());
    assert_eq!(i["Config"]["Cmd"], json!(["/only"]));
    assert_eq!(i["Config"]["Env"], json!(["A=b"]));
    assert_eq!(i["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(i["Comment"], "by hand");
    cx.docker_with(&["import", "-c", "RUN true", "-", &tag], root.finish()).code(1);
}

fn import_of_compressed_archives(cx: &Cx<'_>) {
    let mut root = Tarball::new();
    root.file("only", 0o644, "x");
    let tar = root.finish();
    let plain = cx.docker_with(&["import", "-", &cx.name("plain")], &tar).ok().to_owned();
    let layer =
        |id: &str| cx.docker(&["image", "inspect", "-f", "{{.RootFS.Layers}}", id]).ok().to_owned();
    let mut packers = vec!["gzip", "bzip2", "xz"];
    if cx.is_gantry() {
        packers.push("zstd"); // dockerd 20.10 does not know it
    }
    for packer in packers {
        let mut command = std::process::Command::new(packer);
        if command.arg("--version").output().is_err() {
            continue;
        }
        let packed = testkit::command::run(std::process::Command::new(packer).arg("-c"), &tar);
        let id = cx.docker_with(&["import", "-", &cx.name(packer)], &packed.bytes).ok().to_owned();
        assert_eq!(layer(&id), layer(&plain), "{packer}");
    }
}

fn tag_and_untag(cx: &Cx<'_>) {
    let tag = small(cx, "a", "tags");
    let second = format!("{}:two", cx.name("b"));
    cx.docker(&["tag", &tag, &second]).ok();
    let tags = cx.docker(&["image", "inspect", "-f", "{{json .RepoTags}}", &tag]).json();
    assert_eq!(tags.as_array().unwrap().len(), 2);
    let output = cx.docker(&["rmi", &second]);
    assert_eq!(output.ok(), format!("Untagged: {second}"));
    cx.docker(&["rmi", &second]).fails_with(1, &[&format!("No such image: {second}")]);
    cx.docker(&["tag", "no-such-image", &second]).fails_with(1, &["No such image: no-such-image"]);
}

fn tag_refuses_bad_names(cx: &Cx<'_>) {
    let api = cx.api();
    // dockerd 20.10 words these right and gives them the wrong status.
    let status = if cx.is_gantry() { 400 } else { 500 };
    api.post("/v1.41/images/busybox/tag?repo=UPPER&tag=x", &Value::Null)
        .fails(status, &["invalid reference format: repository name", "must be lowercase"]);
    api.post("/v1.41/images/busybox/tag?repo=ok&tag=not%20ok", &Value::Null).expect(status);
    let id = "0123456789abcdef".repeat(4);
    api.post(&format!("/v1.41/images/busybox/tag?repo={id}"), &Value::Null).expect(status);
}

fn list_filters(cx: &Cx<'_>) {
    let a = small(cx, "a", "one");
    let b = small(cx, "b", "two");
    let list = |filters: &[&str]| {
        let mut args = vec!["images", "--format", "{{.Repository}}"];
        for f in filters {
            args.extend(["-f", f]);
        }
        let output = cx.docker(&args);
        let mut names: Vec<_> = output.lines().into_iter().map(str::to_owned).collect();
        names.retain(|n| n.starts_with("list_filters"));
        names.sort();
        names
    };
    let names =
        |tags: &[&String]| tags.iter().map(|t| t.replace(":latest", "")).collect::<Vec<_>>();
    assert_eq!(list(&["label=part=a"]), names(&[&a]));
    assert_eq!(list(&["label=part"]), names(&[&a, &b]));
    assert_eq!(list(&["reference=list_filters-*"]), names(&[&a, &b]));
    assert_eq!(list(&["reference=list_filters-b:latest"]), names(&[&b]));
    assert_eq!(list(&["dangling=true", "label=part"]), Vec::<String>::new());
    assert_eq!(cx.docker(&["images", "--format", "{{.Tag}}", "list_filters-a"]).ok(), "latest");
    cx.api().get("/v1.41/images/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D").expect(400);
    cx.api().get("/v1.41/images/json?filters=notjson").expect(if cx.is_gantry() {
        400
    } else {
        500
    });
}

fn list_shape(cx: &Cx<'_>) {
    let tag = small(cx, "a", "shape");
    let list = cx.api().get("/v1.41/images/json").expect(200);
    let image = list.as_array().unwrap().iter().find(|i| i["RepoTags"][0] == tag.as_str()).unwrap();
    assert!(image["Id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(image["ParentId"], "");
    assert_eq!(image["Containers"], -1);
    assert_eq!(image["SharedSize"], -1);
    assert_eq!(image["Created"], 1_704_067_200);
    assert_eq!(image["Size"], 5);
    assert_eq!(image["Labels"], json!({"part": "a"}));
    if cx.is_gantry() {
        assert_eq!(image["RepoDigests"], json!([]));
        let new = cx.api().get("/v1.51/images/json").expect(200);
        let new =
            new.as_array().unwrap().iter().find(|i| i["RepoTags"][0] == tag.as_str()).unwrap();
        assert!(new.get("VirtualSize").is_none(), "gone since 1.44");
    }
}

fn inspect_shape(cx: &Cx<'_>) {
    let tag = small(cx, "a", "shape");
    let i = cx.api().get(&format!("/v1.41/images/{tag}/json")).expect(200);
    assert_eq!(i["RepoTags"], json!([tag]));
    assert_eq!(i["RepoDigests"], json!([]));
    assert_eq!(i["Os"], "linux");
    assert_eq!(i["Architecture"], "amd64");
    assert_eq!(i["Created"], "2024-01-01T00:00:00Z");
    assert_eq!(i["Config"]["Cmd"], json!(["/hello"]));
    assert_eq!(i["Config"]["Labels"], json!({"part": "a"}));
    assert_eq!(i["RootFS"]["Type"], "layers");
    assert_eq!(i["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(i["GraphDriver"]["Name"], "overlay2");
    assert!(i["Metadata"]["LastTagTime"].is_string());
    assert_eq!(i["Parent"], "");
    cx.api().get("/v1.41/images/no-such-image/json").fails(404, &["No such image: no-such-image"]);
}

fn history_shape(cx: &Cx<'_>) {
    let tag = small(cx, "a", "history");
    let h = cx.api().get(&format!("/v1.41/images/{tag}/history")).expect(200);
    assert_eq!(h.as_array().unwrap().len(), 1);
    assert_eq!(h[0]["CreatedBy"], "layer 0");
    assert_eq!(h[0]["Created"], 1_704_067_200);
    assert_eq!(h[0]["Size"], 7);
    assert_eq!(h[0]["Tags"], json!([tag]));
    assert_eq!(h[0]["Comment"], "");
    assert!(h[0]["Id"].as_str().unwrap().starts_with("sha256:"));
}

fn remove_refuses_images_in_use(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("used"));
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], "FROM busybox\nLABEL own=yes\n").ok();
    let stopped = cx.name("stopped");
    cx.docker(&["create", "--name", &stopped, &tag]).ok();
    cx.docker(&["rmi", &tag]).fails_with(
        1,
        &[
            "conflict: unable to remove repository reference",
            "(must force) - container",
            "is using its referenced image",
        ],
    );
    cx.docker(&["rm", &stopped]).ok();
    let running = cx.name("running");
    cx.docker(&["run", "-d", "--name", &running, &tag, "sleep", "600"]).ok();
    let id = cx.docker(&["images", "-q", &tag]).ok().to_owned();
    cx.docker(&["rmi", "-f", &id])
        .fails_with(1, &["(cannot be forced) - image is being used by running container"]);
    cx.docker(&["rm", "-f", &running]).ok();
    let output = cx.docker(&["rmi", &tag]);
    assert!(
        output.ok().starts_with(&format!("Untagged: {tag}\nDeleted: sha256:")),
        "{}",
        output.describe()
    );
}

fn remove_by_id_with_several_tags(cx: &Cx<'_>) {
    let tag = small(cx, "a", "several");
    let second = format!("{}:latest", cx.name("b"));
    cx.docker(&["tag", &tag, &second]).ok();
    let id = cx.docker(&["images", "-q", &tag]).ok().to_owned();
    cx.docker(&["rmi", &id])
        .fails_with(1, &["(must be forced) - image is referenced in multiple repositories"]);
    let output = cx.docker(&["rmi", "-f", &id]);
    assert_eq!(output.lines().iter().filter(|l| l.starts_with("Untagged: ")).count(), 2);
    cx.docker(&["image", "inspect", &id]).code(1);
}

fn remove_unknown_is_404(cx: &Cx<'_>) {
    cx.api().delete("/v1.41/images/no-such-image").fails(404, &["No such image: no-such-image"]);
    cx.docker(&["rmi", "no-such-image"]).fails_with(1, &["No such image: no-such-image"]);
}

fn ids_and_prefixes_name_images(cx: &Cx<'_>) {
    let tag = small(cx, "a", "names");
    let id = cx.docker(&["images", "-q", "--no-trunc", &tag]).ok().to_owned();
    for name in [id.as_str(), &id[7..], &id[7..19], &id[..20], tag.trim_end_matches(":latest")] {
        assert_eq!(cx.docker(&["image", "inspect", "-f", "{{.Id}}", name]).ok(), id, "{name}");
    }
    let full = format!("docker.io/library/{tag}");
    assert_eq!(cx.docker(&["image", "inspect", "-f", "{{.Id}}", &full]).ok(), id);
}

fn layers_hold_every_kind_of_file(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer
        .dir("t/")
        .file("t/setuid", 0o4755, "s")
        .entry(
            &Entry {
                name: b"t/hard",
                kind: b'1',
                mode: 0o4755,
                link: b"t/setuid",
                ..Entry::default()
            },
            b"",
        )
        .symlink("t/link", "setuid");
    layer.entry(
        &Entry {
            name: b"t/owned",
            uid: 1234,
            gid: 50,
            mode: 0o640,
            mtime: 86_400,
            ..Entry::default()
        },
        b"o",
    );
    layer.entry(&Entry { name: b"t/fifo", kind: b'6', ..Entry::default() }, b"");
    layer.entry(
        &Entry { name: b"t/null", kind: b'3', mode: 0o666, device: (1, 3), ..Entry::default() },
        b"",
    );
    layer.pax(&[("SCHILY.xattr.user.colour", b"blue")]);
    layer.file("t/xattr", 0o644, "x");
    layer.entry(&Entry { name: b"t/\xff\xfe", ..Entry::default() }, b"not utf-8");
    let deep = format!("t/{}/f", ["d".repeat(60).as_str(); 5].join("/"));
    layer.file(&deep, 0o644, "deep");
    let (tag, output) = on_busybox(cx, "kinds", &layer);
    output.ok();
    let script = "cd /t; stat -c '%a %F %h %N' setuid; stat -c '%u:%g %a %Y' owned; stat -c %F fifo; \
        stat -c '%F %t:%T' null; readlink link; ls | wc -l; cat */*/*/*/*/f";
    let text = cx.docker(&["run", "--rm", &tag, "sh", "-c", script]);
    let expected = [
        "4755 regular file 2 setuid",
        "1234:50 640 86400",
        "fifo",
        "character special file 1:3",
        "setuid",
        "9",
        "deep",
    ];
    assert_eq!(text.lines(), expected, "{}", text.describe());
}

fn whiteouts_and_opaque_folders(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer
        .file("etc/.wh.group", 0o644, "")
        .dir("var/")
        .file("var/.wh..wh..opq", 0o644, "")
        .file("var/new", 0o644, "");
    let (tag, output) = on_busybox(cx, "wh", &layer);
    output.ok();
    let text = cx.docker(&[
        "run",
        "--rm",
        &tag,
        "sh",
        "-c",
        "ls /etc/group; ls -A /var; ls -a /etc | grep -c wh",
    ]);
    assert_eq!(text.stdout.trim(), "new\n0");
}

fn hostile_layers_are_refused(cx: &Cx<'_>) {
    let canary = cx.write("canary/file", "untouched");
    let outside = canary.parent().unwrap().to_str().unwrap().to_owned();
    let up = format!("{}{}", "../".repeat(40), outside.trim_start_matches('/'));
    let mut shapes: Vec<(&str, Tarball)> = Vec::new();
    let mut add = |name, f: &dyn Fn(&mut Tarball)| {
        let mut tar = Tarball::new();
        f(&mut tar);
        shapes.push((name, tar));
    };
    add("dotdot", &|t| _ = t.file(&format!("{up}/evil"), 0o644, "x"));
    add("through-link", &|t| _ = t.symlink("ln", &outside).file("ln/evil", 0o644, "x"));
    add("hard-link", &|t| _ = t.hard_link("hl", &format!("{up}/file")).file("hl", 0o644, "x"));
    add("whiteout", &|t| _ = t.symlink("ln", &outside).file("ln/.wh.file", 0o644, ""));
    add("opaque", &|t| _ = t.symlink("ln", &outside).file("ln/.wh..wh..opq", 0o644, ""));
    add("whiteout-dotdot", &|t| _ = t.file(".wh...", 0o644, ""));
    for (name, tar) in &shapes {
        let (_, output) = on_busybox(cx, name, tar);
        // Refused, or kept inside: either way the file outside is as it was.
        assert!(output.code.is_some(), "{name}: {}", output.describe());
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched", "{name}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{name}");
    }
    let mut lying = Tarball::new();
    lying.raw(&Entry { name: b"big", ..Entry::default() }, 1 << 32);
    let (tag, output) = on_busybox(cx, "lying", &lying);
    if cx.is_gantry() {
        // dockerd 20.10 takes the cut archive for a whole one.
        output.code(1);
        cx.docker(&["image", "inspect", &tag]).code(1);
    }
    assert!(cx.daemon.answers());
}

fn prune_removes_dangling_only(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("would prune a daemon that is not ours");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "prune");
    let tag = small(&own, "a", "first");
    let first = own.docker(&["images", "-q", "--no-trunc", &tag]).ok().to_owned();
    small(&own, "a", "second"); // takes the tag away from the first
    assert_eq!(own.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok(), first);
    let output = own.docker(&["image", "prune", "-f"]);
    assert!(
        output.ok().contains(&first) && output.ok().contains("Total reclaimed space: "),
        "{}",
        output.describe()
    );
    own.docker(&["image", "inspect", &tag]).ok();
    let output = own.docker(&["image", "prune", "-af"]);
    output.ok();
    assert_eq!(own.docker(&["images", "-q"]).ok(), "");
    daemon.stop().unwrap();
}

//! Hostile archives through every door that unpacks one, and images that are more than they say.
//!
//! Each shape of [`SHAPES`] is sent through each of [`DOORS`]. It may be refused or be kept inside; outside nothing
//! is made, changed or read, and the daemon lives on.

use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};
use testkit::{
    Cx, cases,
    cx::skip,
    evilreg::{Content, Evil},
    image::{docker_archive, sha256},
    probe::on_busybox,
    suite::Case,
    tarball::{self, Entry, Tarball},
};

pub const CASES: &[Case] = cases![
    no_shape_gets_out_through_any_door,
    attributes_of_overlayfs_in_layers_mean_nothing,
    whiteout_names_made_inside_do_not_delete,
    configurations_of_images_do_not_steer_the_engine,
    crafted_images_poison_no_cache;
    alone: a_load_that_moves_a_tag_is_told_and_keeps_the_old_image,
];

/// A host folder that no archive may touch.
struct Canary(PathBuf);

impl Canary {
    fn new(cx: &Cx<'_>) -> Self {
        let path = cx.dir().join("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "untouched").unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{what}");
        let file = self.0.join("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "untouched", "{what}");
        for (path, mode) in [(&self.0, 0o755), (&file, 0o644)] {
            let meta = fs::metadata(path).unwrap();
            assert_eq!(
                (meta.mode() & 0o7777, meta.uid(), meta.nlink().min(2)),
                (mode, 0, if meta.is_dir() { 2 } else { 1 }),
                "{what}: {}",
                path.display()
            );
            assert!(meta.mtime() > 1_700_000_001, "{what}: its time was set");
        }
    }
}

type Shape = fn(&mut Tarball, &str, &str);

/// Name, and how it is made for the outside folder by its full name and by way of `..`.
const SHAPES: &[(&str, Shape)] = &[
    ("dotdot", |t, _, up| _ = t.file(&format!("{up}/evil"), 0o644, "x")),
    ("dotdot-inside", |t, _, up| _ = t.file(&format!("a/b/../../{up}/evil"), 0o644, "x")),
    ("absolute", |t, out, _| _ = t.file(&format!("{out}/evil"), 0o644, "x")),
    ("double-slash", |t, out, _| _ = t.file(&format!("//{out}//evil"), 0o644, "x")),
    ("link-then-file", |t, out, _| _ = t.symlink("ln", out).file("ln/evil", 0o644, "x")),
    ("up-link-then-file", |t, _, up| _ = t.symlink("ln", up).file("ln/evil", 0o644, "x")),
    ("link-is-file", |t, out, _| _ = t.symlink("f", &format!("{out}/file")).file("f", 0o666, "x")),
    ("link-to-new", |t, out, _| _ = t.symlink("f", &format!("{out}/evil")).file("f", 0o666, "x")),
    ("chain", |t, out, _| {
        _ = t.symlink("a", "b").symlink("b", "c").symlink("c", out).file("a/evil", 0o644, "x")
    }),
    ("folder-becomes-link", |t, out, _| {
        _ = t.dir("d/").file("d/x", 0o644, "x").symlink("d", out).file("d/evil", 0o644, "x")
    }),
    ("link-becomes-folder", |t, out, _| {
        _ = t.symlink("d", out).dir("d/").file("d/evil", 0o644, "x")
    }),
    ("mode-through-link", |t, out, _| {
        let entry = Entry { name: b"ln/", kind: b'5', mode: 0o777, uid: 1234, ..Entry::default() };
        _ = t.symlink("ln", out).entry(&entry, b"");
    }),
    ("mode-of-dot", |t, out, _| {
        let entry = Entry { name: b"ln/.", kind: b'5', mode: 0o777, uid: 1234, ..Entry::default() };
        _ = t.symlink("ln", out).entry(&entry, b"");
    }),
    ("hard-link", |t, out, _| _ = t.hard_link("h", &format!("{out}/file")).file("h", 0o666, "x")),
    ("hard-link-up", |t, _, up| _ = t.hard_link("h", &format!("{up}/file")).file("h", 0o666, "x")),
    ("hard-link-through", |t, out, _| {
        _ = t.symlink("ln", out).hard_link("h", "ln/file").file("h", 0o666, "x")
    }),
    ("hard-link-to-link", |t, out, _| {
        _ = t.symlink("s", &format!("{out}/file")).hard_link("h", "s").file("h", 0o666, "x")
    }),
    ("hard-link-into", |t, out, _| {
        _ = t.file("f", 0o644, "x").symlink("ln", out).hard_link("ln/evil", "f")
    }),
    ("hard-link-to-itself", |t, _, _| {
        _ = t.hard_link("h", "h").hard_link("i", ".").hard_link("j", "")
    }),
    ("proc-root", |t, out, _| {
        _ = t.symlink("ln", &format!("/proc/1/root{out}")).file("ln/evil", 0o644, "x")
    }),
    ("proc-cwd", |t, out, _| {
        _ = t
            .symlink("ln", &format!("/proc/self/cwd/../../../../../../..{out}"))
            .file("ln/evil", 0o644, "x")
    }),
    ("proc-fd", |t, _, _| _ = t.symlink("ln", "/proc/self/fd/5/..").file("ln/evil", 0o644, "x")),
    ("pax-name", |t, _, up| {
        _ = t.pax(&[("path", format!("{up}/evil").as_bytes())]).file("f", 0o644, "x")
    }),
    ("pax-link", |t, out, _| {
        _ = t.pax(&[("linkpath", out.as_bytes())]).symlink("ln", "x").file("ln/evil", 0o644, "x")
    }),
    ("pax-nul", |t, _, up| {
        _ = t.pax(&[("path", format!("ok\0{up}/evil").as_bytes())]).file("f", 0o644, "x")
    }),
    ("pax-global", |t, _, up| {
        let data = format!("{up}/evil");
        let record = |len: usize| format!("{len} path={data}\n");
        let len = (1..200).find(|n| record(*n).len() == *n).unwrap_or(99);
        t.raw(&Entry { name: b"g", kind: b'g', ..Entry::default() }, len as u64);
        _ = t.data(record(len).as_bytes()).file("f", 0o644, "x");
    }),
    ("sparse-name", |t, _, up| {
        let name = format!("{up}/evil");
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", name.as_bytes()),
            ("GNU.sparse.realsize", b"9223372036854775807"),
        ];
        _ = t.pax(records).file("f", 0o644, "1\n0\n1\nx");
    }),
    ("gnu-long", |t, _, up| _ = t.file(&format!("{}{up}/evil", "./".repeat(80)), 0o644, "x")),
    ("trailing-slash", |t, out, _| _ = t.symlink("ln", out).file("ln/", 0o644, "x")),
    ("nameless", |t, _, _| {
        _ = t.file("", 0o644, "x").file(".", 0o644, "x").file("..", 0o644, "x").dir("../")
    }),
    ("named-dots", |t, out, _| {
        _ = t.symlink("a/..", out).symlink(".", out).file("evil", 0o644, "x")
    }),
    ("whiteout-up", |t, _, _| {
        _ = t.file(".wh...", 0o644, "").file("a/.wh..", 0o644, "").file(".wh.", 0o644, "")
    }),
    ("whiteout-path", |t, _, up| _ = t.file(&format!(".wh.{up}/file"), 0o644, "")),
    ("whiteout-through", |t, out, _| _ = t.symlink("ln", out).file("ln/.wh.file", 0o644, "")),
    ("opaque-through", |t, out, _| _ = t.symlink("ln", out).file("ln/.wh..wh..opq", 0o644, "")),
    ("twins", |t, out, _| {
        _ = t.symlink("Twin", out).file("twin/evil", 0o644, "x").symlink("e\u{301}", out).file(
            "\u{e9}/evil",
            0o644,
            "x",
        )
    }),
    ("repeated", |t, out, _| {
        _ = t
            .file("n", 0o644, "x")
            .symlink("n", out)
            .dir("n/")
            .symlink("n", out)
            .file("n/evil", 0o644, "x")
    }),
    ("device-parent", |t, _, _| {
        let null =
            Entry { name: b"n", kind: b'3', mode: 0o666, device: (1, 3), ..Entry::default() };
        _ = t.entry(&null, b"").file("n/evil", 0o644, "x");
    }),
    ("fifo-parent", |t, _, _| {
        let fifo = Entry { name: b"p", kind: b'6', ..Entry::default() };
        _ = t.entry(&fifo, b"").file("p", 0o644, "x").entry(&fifo, b"").file("p/evil", 0o644, "x");
    }),
    ("xattr-through", |t, out, _| {
        let name = format!("{out}/file");
        _ = t.symlink("s", &name).pax(&[("SCHILY.xattr.user.evil", b"x")]).symlink("s", &name);
    }),
    ("lies-about-size", |t, _, _| {
        _ = t.raw(&Entry { name: b"f", ..Entry::default() }, (8 << 30) - 1)
    }),
    ("deep", |t, _, _| _ = t.file(&format!("{}f", "d/".repeat(1500)), 0o644, "x")),
    ("newline", |t, _, up| _ = t.file(&format!("a\n{up}/evil"), 0o644, "x")),
];

/// How an archive gets in. Each gives what the command said.
type Door = fn(&Cx<'_>, &str, &[u8]) -> String;

const DOORS: &[(&str, Door)] = &[
    ("load", |cx, part, tar| {
        let tag = format!("{}:latest", cx.name(part));
        let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
        let twice = [tar.to_vec(), [tar, &[0; 512]].concat()];
        cx.docker_with(&["load", "-q"], on_busybox(&tag, &config, &twice)).describe()
    }),
    ("import", |cx, part, tar| {
        cx.docker_with(&["import", "-", &cx.name(&format!("{part}-i"))], tar).describe()
    }),
    ("pull", |cx, part, tar| {
        let mut content = Content::default();
        content.image(part, &["1"], "linux/amd64", &[tar.to_vec()]);
        let evil = Evil::start(content, |_, _| None);
        let name = format!("{}/{part}:1", evil.host());
        let said = cx.docker(&["pull", "-q", &name]).describe();
        cx.docker(&["rmi", "-f", &name]);
        said
    }),
    ("add", |cx, _, tar| {
        let mut context = Tarball::new();
        context.file("x.tar", 0o644, tar).file(
            "Dockerfile",
            0o644,
            "FROM busybox\nADD x.tar /\nADD x.tar /in/\nRUN cat /ln/file /f /h 2>/dev/null; true\n",
        );
        cx.docker_with(&["build", "--no-cache", "--network=none", "-"], context.finish()).describe()
    }),
    ("context", |cx, _, tar| {
        let mut context = Tarball::new();
        context.file(
            "Dockerfile",
            0o644,
            "FROM busybox\nCOPY . /in\nRUN cat /in/ln/file /in/f /in/h 2>/dev/null; true\n",
        );
        let joined = [context.unfinished(), tar.to_vec()].concat();
        cx.docker_with(&["build", "--no-cache", "--network=none", "-"], joined).describe()
    }),
    ("copy-from", |cx, part, _| {
        // Of what came in by `load`, when it did.
        let file = format!(
            "FROM {} AS a\nFROM busybox\nCOPY --from=a / /in\nRUN cat /in/ln/file /in/f /in/h 2>/dev/null; true\n",
            cx.name(part)
        );
        cx.docker_with(&["build", "--no-cache", "--network=none", "-"], file).describe()
    }),
    ("cp", |cx, _, tar| {
        let name = cx.name("box");
        let path = format!("/v1.41/containers/{name}/archive?path=/");
        let put = |path: &str| cx.api().request("PUT", path, &[], tar).text();
        put(&path) + &put(&format!("{path}tmp"))
    }),
    ("volume", |cx, part, tar| {
        let name = cx.name(&format!("{part}-v"));
        cx.api().request("PUT", &format!("/v1.41/volumes/{name}/import"), &[], tar).text()
    }),
];

fn no_shape_gets_out_through_any_door(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("one of the doors is Gantry's own");
    }
    let canary = Canary::new(cx);
    let up = format!("{}{}", "../".repeat(40), canary.path().trim_start_matches('/'));
    cx.docker(&[
        "run",
        "-d",
        "--network=none",
        "--name",
        &cx.name("box"),
        "busybox",
        "sleep",
        "600",
    ])
    .ok();
    for (shape, make) in SHAPES {
        let mut tar = Tarball::new();
        make(&mut tar, canary.path(), &up);
        let tar = tar.finish();
        for (door, send) in DOORS {
            let said = send(cx, shape, &tar);
            let what = format!("{shape} through {door}");
            assert!(!said.contains("untouched"), "{what}: {said}");
            assert!(!said.contains("panicked"), "{what}: {said}");
            canary.check(&what);
        }
        // An image that was taken shows nothing of the host either.
        let tag = cx.name(shape);
        let look = "cat /ln/file /f /h /d/file /s /n/file 2>/dev/null; true";
        let run = cx.docker(&["run", "--rm", "--network=none", &tag, "sh", "-c", look]);
        assert!(!run.stdout.contains("untouched"), "{shape}: {}", run.describe());
        cx.docker(&["rmi", "-f", &tag, &cx.name(&format!("{shape}-i"))]);
        let exec = cx.docker(&["exec", &cx.name("box"), "sh", "-c", look]);
        assert!(!exec.stdout.contains("untouched"), "{shape}: {}", exec.describe());
        let volume = cx.name(&format!("{shape}-v"));
        cx.docker(&["volume", "rm", "-f", &volume]);
        canary.check(shape);
    }
    assert!(cx.daemon.answers());
}

fn attributes_of_overlayfs_in_layers_mean_nothing(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    let folder = Entry { name: b"etc/", kind: b'5', mode: 0o755, ..Entry::default() };
    layer.pax(&[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/bin"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ]);
    layer.entry(&folder, b"");
    layer.pax(&[
        ("SCHILY.xattr.trusted.overlay.metacopy", b"\0\x04\0\0"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc/passwd"),
    ]);
    layer.file("bin/busybox2", 0o755, "");
    layer.pax(&[
        ("SCHILY.xattr.trusted.overlay.whiteout", b"y"),
        ("SCHILY.xattr.user.overlay.whiteout", b"y"),
    ]);
    layer.file("bin/env", 0o755, "");
    layer.pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"x")]);
    layer.dir("tmp/");
    layer.pax(&[
        ("SCHILY.xattr.trusted.overlay.origin", &[0; 40]),
        ("SCHILY.xattr.trusted.overlay.upper", &[1; 40]),
    ]);
    layer.dir("root/");
    layer.entry(&Entry { name: b"bin/ls", kind: b'3', ..Entry::default() }, b"");
    let tag = format!("{}:latest", cx.name("img"));
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    let loaded = cx.docker_with(&["load", "-q"], on_busybox(&tag, &config, &[layer.finish()]));
    if loaded.code != Some(0) {
        return; // refused as a whole
    }
    let script = "test -e /etc/busybox && echo redirected; test -e /etc/passwd || echo hidden; \
        grep -q root /bin/busybox2 && echo lower; echo end";
    let run = cx.docker(&["run", "--rm", "--network=none", &tag, "sh", "-c", script]);
    assert_eq!(run.ok(), "end", "{}", run.describe());
    // A layer above, made by us, is the same tar again.
    let file = format!("FROM {tag}\nRUN echo x > /etc/made\n");
    cx.docker_with(&["build", "-q", "--network=none", "-t", &cx.name("up"), "-"], file).ok();
    let run = cx.docker(&["run", "--rm", "--network=none", &cx.name("up"), "sh", "-c", script]);
    assert_eq!(run.ok(), "end", "{}", run.describe());
}

fn whiteout_names_made_inside_do_not_delete(cx: &Cx<'_>) {
    let name = cx.name("a");
    let script = "mkdir /d; echo kept > /d/file; echo x > /d/.wh.file; echo x > /etc/.wh..wh..opq; echo x > /.wh.etc; mknod /d/zero c 0 0; true";
    let run = ["run", "--network=none", "--name", &name, "busybox", "sh", "-c", script];
    cx.docker(&run).ok();
    let tag = cx.name("img");
    let commit = cx.docker(&["commit", &name, &tag]);
    if commit.code != Some(0) {
        return; // refused is fine as well
    }
    let look = "cat /d/file; test -s /etc/passwd && echo passwd";
    let run = cx.docker(&["run", "--rm", "--network=none", &tag, "sh", "-c", look]);
    assert_eq!(run.ok(), "kept\npasswd", "{}", run.describe());
    // The same after a way through an archive.
    let saved = cx.docker(&["save", &tag]);
    saved.ok();
    cx.docker(&["rmi", "-f", &tag]).ok();
    cx.docker_with(&["load", "-q"], &saved.bytes).ok();
    let run = cx.docker(&["run", "--rm", "--network=none", &tag, "sh", "-c", look]);
    assert_eq!(run.ok(), "kept\npasswd", "{}", run.describe());
}

fn configurations_of_images_do_not_steer_the_engine(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer.file("x", 0o644, cx.name("x"));
    let layer = layer.finish();
    let load = |part: &str, config: &Value| {
        let tag = format!("{}:latest", cx.name(part));
        (
            cx.docker_with(&["load", "-q"], on_busybox(&tag, config, std::slice::from_ref(&layer))),
            tag,
        )
    };
    let labels = json!({
        "gantry.unhealthy": "restart", "com.docker.compose.project": "x", "io.containerd.runtime": "x",
        "org.opencontainers.image.ref.name": "../../x", "com.docker.swarm.service.id": "x", "io.gantry.hidden": "true",
        "com.docker.compose.container-number": "-1", "desktop.docker.io/wsl": "x", "hidden": "1",
    });
    let (output, tag) =
        load("labels", &json!({"Cmd": ["true"], "Env": ["PATH=/bin"], "Labels": labels}));
    output.ok();
    let name = cx.name("labelled");
    cx.docker(&["run", "--name", &name, "--network=none", &tag]).ok();
    assert!(
        cx.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok().contains(&name),
        "it is listed"
    );
    assert_eq!(cx.inspect(&name)["HostConfig"]["Privileged"], false);
    // What only a caller may ask for is no part of an image.
    let (output, tag) = load(
        "host",
        &json!({
            "Cmd": ["sh", "-c", "grep CapEff /proc/self/status; ls /host 2>/dev/null; true"], "Env": ["PATH=/bin"],
            "HostConfig": {"Privileged": true, "Binds": ["/:/host"], "PidMode": "host"},
            "Privileged": true, "Binds": ["/:/host"], "NetworkDisabled": false, "Runtime": "x",
            "Volumes": {"/host:/host": {}, "../../x": {}, "/proc/self": {}}, "MacAddress": "x",
        }),
    );
    if output.code == Some(0) {
        let run = cx.docker(&["run", "--rm", "--network=none", &tag]);
        assert!(run.code != Some(0) || run.stdout.contains("a80425fb"), "{}", run.describe());
        assert!(!run.stdout.contains("etc"), "{}", run.describe());
    }
    let checks = json!({"Test": ["CMD-SHELL", "true"], "Interval": 1, "Timeout": 1, "Retries": -1, "StartPeriod": i64::MAX});
    let (output, tag) = load(
        "health",
        &json!({"Cmd": ["sleep", "600"], "Env": ["PATH=/bin"], "Healthcheck": checks}),
    );
    if output.code == Some(0) {
        let name = cx.name("checked");
        let run = cx.docker(&["run", "-d", "--name", &name, "--network=none", &tag]);
        if run.code == Some(0) {
            let health = cx.inspect(&name)["State"]["Health"].clone();
            assert!(health["Log"].as_array().is_none_or(|l| l.len() <= 5), "{health}");
        }
        cx.docker(&["rm", "-f", &name]).ok();
    }
    for (part, config) in [
        ("nul", json!({"Cmd": ["tr\u{0}ue"], "Env": ["A\u{0}=b", "=", "", "PATH=/bin"]})),
        ("user", json!({"Cmd": ["true"], "User": "../../x:0:0", "WorkingDir": "../../../.."})),
        (
            "signal",
            json!({"Cmd": ["sleep", "600"], "Env": ["PATH=/bin"], "StopSignal": "SIGNONSENSE"}),
        ),
        ("shell", json!({"Cmd": [], "Entrypoint": [], "Shell": []})),
        (
            "onbuild",
            json!({"Cmd": ["true"], "OnBuild": ["FROM scratch", "ONBUILD RUN x", "MAINTAINER"]}),
        ),
        ("types", json!({"Cmd": "true", "Env": {"a": 1}, "ExposedPorts": ["x/y"], "Labels": []})),
        (
            "ports",
            json!({"Cmd": ["true"], "Env": ["PATH=/bin"], "ExposedPorts": {"99999/tcp": {}, "x": {}, "1-70000/udp": {}, "-1/tcp": {}}}),
        ),
    ] {
        let (output, tag) = load(part, &config);
        if output.code != Some(0) {
            continue;
        }
        let name = cx.name(&format!("{part}-c"));
        let run = cx.docker(&["run", "-d", "-P", "--name", &name, &tag]);
        assert!(!run.stderr.contains("panick"), "{part}: {}", run.describe());
        cx.docker(&["stop", "-t", "0", &name]);
        cx.docker(&["rm", "-f", &name]);
        let build = cx.docker_with(&["build", "-q", "-"], format!("FROM {tag}\nLABEL a=b\n"));
        assert!(build.code.is_some(), "{part}: {}", build.describe());
        cx.api().get(&format!("/v1.41/images/{tag}/json")).expect(200);
        assert_eq!(cx.api().get(&format!("/v1.41/images/{tag}/history")).status(), 200, "{part}");
    }
}

fn crafted_images_poison_no_cache(cx: &Cx<'_>) {
    // An image that says of itself that a build's step made it.
    let file = "FROM busybox\nRUN echo honest > /result\n";
    let honest = cx.docker_with(&["build", "-q", "--no-cache", "--network=none", "-"], file);
    let honest = honest.ok().to_owned();
    let shown = cx.api().get(&format!("/v1.41/images/{honest}/history")).expect(200);
    let by = shown[0]["CreatedBy"].as_str().unwrap().to_owned();
    cx.docker(&["rmi", "-f", &honest]).ok();
    let mut layer = Tarball::new();
    layer.file("result", 0o644, "poison\n");
    let members = tarball::members(testkit::image::busybox());
    let base = members.iter().find(|m| m.0.ends_with("layer.tar")).unwrap();
    let base = tarball::member(testkit::image::busybox(), &base.0).unwrap().to_vec();
    let layers = [base, layer.finish()];
    let tag = format!("{}:latest", cx.name("poison"));
    let digests: Vec<String> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let document = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": digests},
        "history": [{"created_by": "layer 0"}, {"created_by": by, "comment": "buildkit.dockerfile.v0"}],
        "parent": shown[1]["Id"], "container_config": {"Cmd": [by]},
    });
    let mut archive = Tarball::new();
    archive.file("c.json", 0o644, document.to_string());
    archive.file("0.tar", 0o644, &layers[0]).file("1.tar", 0o644, &layers[1]);
    let manifest = json!([{"Config": "c.json", "RepoTags": [tag], "Layers": ["0.tar", "1.tar"]}]);
    archive.file("manifest.json", 0o644, manifest.to_string());
    cx.docker_with(&["load", "-q"], archive.finish()).ok();
    let built = cx.docker_with(
        &["build", "-q", "--network=none", "--cache-from", &tag, "-t", &cx.name("b"), "-"],
        file,
    );
    built.ok();
    let result = cx.docker(&["run", "--rm", "--network=none", &cx.name("b"), "cat", "/result"]);
    assert_eq!(result.ok(), "honest", "{}", result.describe());
}

fn a_load_that_moves_a_tag_is_told_and_keeps_the_old_image(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("t"));
    let image = |text: &str| {
        let mut layer = Tarball::new();
        layer.file("f", 0o644, text);
        docker_archive(&tag, &json!({"Cmd": ["/f"]}), &[layer.finish()])
    };
    let id = || cx.docker(&["images", "-q", "--no-trunc", &tag]).ok().to_owned();
    cx.docker_with(&["load"], image("one")).ok();
    let old = id();
    let said = cx.docker_with(&["load"], image("two"));
    assert!(said.ok().contains("renaming the old one with ID"), "{}", said.describe());
    assert_ne!(id(), old);
    cx.docker(&["image", "inspect", &old]).ok();
    cx.docker(&["rmi", &old]).ok();
}

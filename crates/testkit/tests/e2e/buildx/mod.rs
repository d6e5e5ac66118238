//! BuildKit's front: `docker buildx build` and plain `docker build` with the plugin.

pub mod attest;
pub mod cache;
pub mod checks;
pub mod collect;
pub mod contexts;
pub mod endpoint;
pub mod explain;
pub mod frontends;
pub mod history;
pub mod mounts;
pub mod outputs;
pub mod own;
pub mod platforms;

use std::{path::PathBuf, process::Command};
use testkit::{Cx, Output, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    a_build_shows_its_steps_and_makes_an_image,
    steps_are_found_again_by_content,
    arguments_stages_and_targets,
    copies_of_every_kind,
    mounts_of_every_kind,
    secrets_are_nowhere,
    errors_show_the_line,
    results_go_to_the_client_s_disk,
    the_context_is_sent_by_what_changed,
    bake_and_compose_build,
    a_client_that_vanishes_takes_its_build_along,
    the_cache_is_shown_and_given_back,
    named_contexts_and_standard_input,
    the_same_epoch_gives_the_same_image,
    results_are_pushed,
];

/// The docker CLI with these plugins, in the case's folder.
fn plugged_with(cx: &Cx<'_>, plugins: &[&str]) -> Command {
    let Some(config) = cx.plugged(plugins) else {
        skip(&format!("one of {plugins:?} is not there: scripts/setup --tests builds them"));
    };
    let mut command = cx.command();
    command.env("DOCKER_CONFIG", config).env("BUILDX_CONFIG", cx.dir().join(".buildx"));
    command.env_remove("DOCKER_BUILDKIT").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
    command
}

/// The docker CLI with the buildx plugin.
fn plugged(cx: &Cx<'_>) -> Command {
    plugged_with(cx, &["docker-buildx"])
}

/// Builds the folder `context` with plain progress.
pub fn buildx(cx: &Cx<'_>, args: &[&str]) -> Output {
    let all = [&["buildx", "build", "--progress", "plain"], args, &["context"]].concat();
    command::run(plugged(cx).args(all), b"")
}

/// Builds `dockerfile` in the folder `context` and gives the tag.
#[track_caller]
fn built(cx: &Cx<'_>, dockerfile: &str, args: &[&str]) -> String {
    let tag = format!("{}:latest", cx.name("img"));
    cx.write("context/Dockerfile", dockerfile);
    buildx(cx, &[&["-t", &tag], args].concat()).ok();
    tag
}

#[track_caller]
fn sh(cx: &Cx<'_>, tag: &str, script: &str) -> String {
    cx.docker(&["run", "--rm", tag, "sh", "-c", script]).ok().to_owned()
}

fn a_build_shows_its_steps_and_makes_an_image(cx: &Cx<'_>) {
    cx.write("context/f", "from the context");
    let tag = format!("{}:v1", cx.name("img"));
    let dockerfile = "FROM busybox\nRUN echo said; echo warned >&2\nWORKDIR /w\nCOPY f .\nENV A=1\nLABEL l=v\nCMD [\"x\"]\n";
    cx.write("context/Dockerfile", dockerfile);
    let iid = cx.dir().join("iid");
    let meta = cx.dir().join("meta.json");
    let output = buildx(
        cx,
        &[
            "-t",
            &tag,
            "--iidfile",
            iid.to_str().unwrap(),
            "--metadata-file",
            meta.to_str().unwrap(),
        ],
    );
    output.ok();
    for part in [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for docker.io/library/busybox:latest",
        "[internal] load build context",
        "[2/4] RUN echo said; echo warned >&2",
        " said\n",
        " warned\n",
        "[3/4] WORKDIR /w",
        "[4/4] COPY f .",
        "exporting to image",
        &format!("naming to docker.io/library/{tag} done"),
    ] {
        assert!(output.stderr.contains(part), "{part:?}\n{}", output.describe());
    }
    let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    let id = image["Id"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(iid).unwrap(), id);
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    assert_eq!(meta["containerimage.digest"], id);
    let config = &image["Config"];
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["Cmd"], serde_json::json!(["x"]));
    assert_eq!(config["Labels"]["l"], "v");
    assert!(config["Env"].as_array().unwrap().iter().any(|e| e == "A=1"));
    assert_eq!(sh(cx, &tag, "cat f; pwd; stat -c %u:%g f"), "from the context/w\n0:0");
    let history =
        cx.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &tag]);
    let lines = history.lines();
    assert_eq!(lines[0], "CMD [\"x\"]|buildkit.dockerfile.v0", "{}", history.describe());
    assert!(lines[4].starts_with("WORKDIR /w|"), "{}", history.describe());
    assert!(
        lines[5].starts_with("RUN /bin/sh -c echo said; echo warned >&2 # buildkit|"),
        "{}",
        history.describe()
    );
    let all = cx.api().get("/images/json?all=1").expect(200);
    let made = |i: &serde_json::Value| i["Created"].as_i64() != Some(0);
    assert!(all.as_array().unwrap().iter().all(made), "states on the way are no images: {all}");
}

fn cached(output: &Output) -> usize {
    output.stderr.lines().filter(|l| l.trim_end().ends_with(" CACHED")).count()
}

fn steps_are_found_again_by_content(cx: &Cx<'_>) {
    cx.write("context/f", "one");
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nLABEL n=1\nCOPY f /f\nRUN cat /f; echo by content\n",
    );
    let first = buildx(cx, &[]);
    first.ok();
    assert_eq!(cached(&first), 0, "{}", first.describe());
    let again = buildx(cx, &[]);
    again.ok();
    assert_eq!(cached(&again), 2, "{}", again.describe());
    let file = std::fs::File::options().write(true).open(cx.dir().join("context/f")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nLABEL n=2\nCOPY f /f\nRUN cat /f; echo by content\n",
    );
    let label = buildx(cx, &[]);
    label.ok();
    assert_eq!(cached(&label), 2, "neither times nor labels count\n{}", label.describe());
    cx.write("context/f", "two");
    let changed = buildx(cx, &[]);
    changed.ok();
    assert_eq!(cached(&changed), 0, "content counts\n{}", changed.describe());
    let fresh = buildx(cx, &["--no-cache"]);
    assert!(cached(&fresh) == 0 && fresh.stderr.contains("by content"), "{}", fresh.describe());
}

fn arguments_stages_and_targets(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "ARG base=busybox\nFROM ${base} AS one\nARG who=nobody\nARG TARGETARCH\nRUN echo $who-$TARGETARCH > /who\nFROM one AS two\nRUN echo two >> /who\nFROM busybox AS unused\nRUN exit 9\nFROM busybox\nCOPY --from=two /who /all\nCOPY --from=0 /who /one\n",
        &["--build-arg", "who=me", "--label", "given=1"],
    );
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    assert_eq!(sh(cx, &tag, "cat /all /one"), format!("me-{arch}\ntwo\nme-{arch}"));
    let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    assert_eq!(image["Config"]["Labels"]["given"], "1");
    let target = format!("{}:latest", cx.name("target"));
    buildx(cx, &["-t", &target, "--target", "one"]).ok();
    assert_eq!(sh(cx, &target, "cat /who"), format!("nobody-{arch}"));
    buildx(cx, &["--target", "none"]).fails_with(1, &["target stage \"none\" could not be found"]);
}

fn copies_of_every_kind(cx: &Cx<'_>) {
    for (path, text) in [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("d/x", "x"),
        ("d/y.log", "y"),
        ("e/f/g", "g"),
        ("skip", "s"),
    ] {
        cx.write(&format!("context/{path}"), text);
    }
    cx.write("context/.dockerignore", "skip\n");
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("in/tar", 0o644, b"t");
    cx.write("context/t.tar", tar.finish());
    let tag = built(
        cx,
        "FROM busybox\nCOPY *.txt /txt/\nCOPY --chown=7:8 --chmod=0640 a.txt /own\nCOPY --chmod=u=rwx,go=r a.txt /sym\nCOPY --exclude=*.log d /d\nCOPY --parents e/f/g /p/\nADD t.tar /t/\nCOPY --link a.txt /link/a\nCOPY <<EOF /here\nline $HOME\nEOF\nCOPY . /all\n",
        &[],
    );
    let script =
        "ls /txt /d /all; stat -c %u:%g:%a /own /sym; cat /p/e/f/g /t/in/tar /link/a /here";
    assert_eq!(
        sh(cx, &tag, script),
        "/all:\nDockerfile\na.txt\nb.txt\nd\ne\nt.tar\n\n/d:\nx\n\n/txt:\na.txt\nb.txt\n7:8:640\n0:0:744\ngtaline"
    );
    cx.write("context/Dockerfile", "FROM busybox\nCOPY missing /x\n");
    buildx(cx, &[]).fails_with(1, &["\"/missing\": not found"]);
    cx.write("context/Dockerfile", "FROM busybox\nCOPY skip /x\n");
    buildx(cx, &[]).fails_with(1, &["\"/skip\": not found"]);
}

fn mounts_of_every_kind(cx: &Cx<'_>) {
    cx.write("context/f", "in the context");
    let dockerfile = "FROM busybox AS tool\nRUN mkdir /t && echo tool > /t/name\nFROM busybox\n\
RUN --mount=target=/c cat /c/f > /out\n\
RUN --mount=type=bind,from=tool,source=/t,target=/tool cat /tool/name >> /out\n\
RUN --mount=type=bind,from=tool,source=/t/name,target=/one cat /one >> /out\n\
RUN --mount=type=bind,from=tool,target=/rw,rw touch /rw/new && ! test -e /t\n\
RUN --mount=type=cache,target=/cache,id=kept,uid=5,mode=0750 stat -c %u:%a /cache >> /out; date >> /cache/log\n\
RUN --mount=type=cache,target=/again,id=kept,uid=5,mode=0750,sharing=locked wc -l < /again/log >> /out\n\
RUN --mount=type=tmpfs,target=/tmp/t,size=1m mount | grep -q 'tmpfs on /tmp/t' && echo tmpfs >> /out\n\
RUN --network=none ip a | grep -c 'state UP' >> /out || echo alone >> /out\n\
RUN <<EOF\n#!/bin/sh\necho script >> /out\nEOF\n";
    let tag = built(cx, dockerfile, &[]);
    let out = sh(cx, &tag, "cat /out; ls -d /c /tool /one /rw /cache /again 2>/dev/null || true");
    assert_eq!(out, "in the contexttool\ntool\n5:750\n1\ntmpfs\n0\nalone\nscript");
    let again = buildx(cx, &["--no-cache"]);
    again.ok();
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/k,id=kept,uid=5,mode=0750 echo lines=$(wc -l < /k/log)\n",
    );
    let kept = buildx(cx, &["--no-cache"]);
    assert!(
        kept.stderr.contains(" lines=2"),
        "it is kept from build to build\n{}",
        kept.describe()
    );
    cx.write("context/Dockerfile", "FROM busybox\nRUN --security=insecure true\n");
    buildx(cx, &[]).fails_with(1, &["security.insecure is not allowed"]);
    cx.write("context/Dockerfile", "FROM busybox\nRUN --mount=type=odd,target=/x true\n");
    buildx(cx, &[]).fails_with(1, &["unsupported mount type \"odd\""]);
}

fn secrets_are_nowhere(cx: &Cx<'_>) {
    const SECRET: &str = "s3cr3t-of-the-case";
    cx.write("secret", SECRET);
    let dockerfile = "FROM busybox\n\
RUN --mount=type=secret,id=file test \"$(cat /run/secrets/file)\" = s3cr3t-of-$CASE\n\
RUN --mount=type=secret,id=file,target=/etc/own,mode=0444,uid=3 stat -c %u:%a /etc/own > /stat\n\
RUN --mount=type=secret,id=var,env=TOKEN test -n \"$TOKEN\" && echo ${#TOKEN} >> /stat\n\
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n"
        .replace("$CASE", "the-case");
    let tag = format!("{}:latest", cx.name("img"));
    // The comparison itself would hold the secret: it is made of two parts.
    cx.write(
        "context/Dockerfile",
        dockerfile.replace("s3cr3t-of-the-case", "$(printf s3cr3t-of)-the-case"),
    );
    let all = ["buildx", "build", "--progress", "plain", "--secret", "id=file,src=secret"];
    let rest = ["--secret", "id=var,env=VAR", "-t", &tag, "context"];
    let output = command::run(plugged(cx).env("VAR", SECRET).args(all).args(rest), b"");
    output.ok();
    assert_eq!(
        sh(cx, &tag, "cat /stat; ls /run/secrets /etc/own 2>/dev/null || true"),
        "3:444\n18"
    );
    assert!(!output.stderr.contains(SECRET), "{}", output.describe());
    let saved = cx.docker(&["save", &tag]);
    assert!(!saved.bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()), "in the image");
    let found = command::run(
        Command::new("grep")
            .args(["-rlF", SECRET])
            .arg(cx.daemon.path("root"))
            .arg(cx.daemon.path("exec")),
        b"",
    );
    assert_eq!(found.stdout, "", "on the engine's disk");
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n",
    );
    buildx(cx, &[]).fails_with(1, &["secret no: not found"]);
}

fn errors_show_the_line(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\n\nRUN echo before && exit 7\n");
    let failed = buildx(cx, &[]);
    failed.fails_with(
        1,
        &[
            "Dockerfile:3",
            ">>> RUN echo before && exit 7",
            "process \"/bin/sh -c echo before && exit 7\" did not complete successfully: exit code: 7",
            " before\n",
        ],
    );
    cx.write("context/Dockerfile", "FROM busybox\nRUNN x\n");
    buildx(cx, &[])
        .fails_with(1, &["Dockerfile:2", "unknown instruction: RUNN (did you mean RUN?)"]);
    cx.write("context/Dockerfile", "FROM 127.0.0.1:1/no/such:image\n");
    buildx(cx, &[]).fails_with(1, &["127.0.0.1:1/no/such:image", "Dockerfile:1"]);
    buildx(cx, &["-f", "context/none"]).fails_with(1, &["none: no such file or directory"]);
}

fn results_go_to_the_client_s_disk(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox AS b\nRUN mkdir /o && echo out > /o/f && ln -s f /o/l && chmod 640 /o/f\nFROM scratch\nCOPY --from=b /o /\n");
    buildx(cx, &["-o", "type=local,dest=out"]).ok();
    assert_eq!(std::fs::read_to_string(cx.dir().join("out/f")).unwrap(), "out\n");
    assert_eq!(std::fs::read_link(cx.dir().join("out/l")).unwrap(), PathBuf::from("f"));
    buildx(cx, &["-o", "type=tar,dest=out.tar"]).ok();
    let tar = command::run(Command::new("tar").args(["-tf"]).arg(cx.dir().join("out.tar")), b"");
    assert_eq!(tar.ok(), "f\nl");
    let tag = format!("{}:out", cx.name("img"));
    buildx(cx, &["-o", &format!("type=docker,dest=image.tar,name={tag}")]).ok();
    cx.docker(&["load", "-i", "image.tar"]).ok();
    cx.docker(&["image", "inspect", &tag]).ok();
    buildx(cx, &["-o", "type=oci,dest=oci.tar"]).ok();
    let tar = command::run(Command::new("tar").args(["-tf"]).arg(cx.dir().join("oci.tar")), b"");
    assert!(
        tar.ok().contains("oci-layout") && tar.ok().contains("index.json"),
        "{}",
        tar.describe()
    );
}

fn the_context_is_sent_by_what_changed(cx: &Cx<'_>) {
    cx.write("context/big", vec![b'x'; 3 << 20]);
    cx.write("context/small", "1");
    cx.write("context/Dockerfile", "FROM busybox\nCOPY big small /\n");
    let size = |output: &Output| {
        let mut lines = output.stderr.lines().filter(|l| l.contains("transferring context: "));
        lines.next_back().unwrap_or_default().to_owned()
    };
    let first = buildx(cx, &[]);
    first.ok();
    assert!(size(&first).contains("MB"), "{}", first.describe());
    cx.write("context/small", "22");
    let second = buildx(cx, &[]);
    second.ok();
    assert!(!size(&second).contains("MB"), "{}", second.describe());
}

fn bake_and_compose_build(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nARG who\nRUN echo baked for $who > /f\n");
    let (one, two) = (cx.name("one"), cx.name("two"));
    let bake = format!(
        "group \"default\" {{ targets = [\"one\", \"two\"] }}\n\
         target \"one\" {{\n context = \"context\"\n tags = [\"{one}\"]\n args = {{ who = \"one\" }}\n}}\n\
         target \"two\" {{\n inherits = [\"one\"]\n tags = [\"{two}\"]\n args = {{ who = \"two\" }}\n}}\n"
    );
    cx.write("docker-bake.hcl", bake);
    command::run(plugged(cx).args(["buildx", "bake", "--progress", "plain"]), b"").ok();
    assert_eq!(sh(cx, &one, "cat /f"), "baked for one");
    assert_eq!(sh(cx, &two, "cat /f"), "baked for two");
    let tag = cx.name("composed");
    cx.write(
        "compose.yaml",
        format!(
            "services:\n  s:\n    image: {tag}\n    build:\n      context: context\n      args:\n        who: compose\n"
        ),
    );
    let both = ["docker-buildx", "docker-compose"];
    command::run(plugged_with(cx, &both).args(["compose", "build"]), b"").ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "baked for compose");
}

fn a_client_that_vanishes_takes_its_build_along(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo it runs; sleep 1234\n");
    let mut command = plugged(cx);
    command.args(["buildx", "build", "--progress", "plain", "context"]);
    let log = std::fs::File::create(cx.dir().join("log")).unwrap();
    let mut child = command.stderr(log).stdout(std::process::Stdio::null()).spawn().unwrap();
    cx.until("the step runs", || {
        std::fs::read_to_string(cx.dir().join("log"))
            .is_ok_and(|log| log.contains(" it runs"))
            .then_some(())
    });
    let folders =
        || std::fs::read_dir(cx.daemon.path("root").join("builds")).map_or(0, Iterator::count);
    assert!(folders() > 0, "a build has a folder while it runs");
    child.kill().unwrap();
    child.wait().unwrap();
    let sleeping = || {
        let found = command::run(Command::new("pgrep").args(["-f", "^sleep 1234$"]), b"");
        found.code == Some(0)
    };
    cx.until("its step is ended", || (!sleeping()).then_some(()));
}

fn the_cache_is_shown_and_given_back(cx: &Cx<'_>) {
    // A step that changes nothing has a layer that others have too, and that a build beside this case may be using.
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=pruned echo x > /c/x; echo pruned > /own\n",
    );
    buildx(cx, &[]).ok();
    let du = command::run(plugged(cx).args(["buildx", "du", "--verbose"]), b"");
    assert!(du.ok().contains("cached mount /pruned"), "{}", du.describe());
    let mine = ["buildx", "prune", "-a", "-f", "--filter", "description~=pruned"];
    let pruned = command::run(plugged(cx).args(mine), b"");
    assert!(pruned.ok().contains("Total:"), "{}", pruned.describe());
    let du = command::run(plugged(cx).args(["buildx", "du", "--verbose"]), b"");
    assert!(!du.ok().contains("cached mount /pruned"), "{}", du.describe());
    let again = buildx(cx, &[]);
    again.ok();
    assert_eq!(cached(&again), 0, "{}", again.describe());
}

fn named_contexts_and_standard_input(cx: &Cx<'_>) {
    cx.write("other/f", "from elsewhere");
    let dockerfile = "FROM base\nCOPY --from=files f /f\n";
    let tag = built(
        cx,
        dockerfile,
        &["--build-context", "files=other", "--build-context", "base=docker-image://busybox"],
    );
    assert_eq!(sh(cx, &tag, "cat /f"), "from elsewhere");
    let piped = format!("{}:latest", cx.name("piped"));
    let args = ["buildx", "build", "--progress", "plain", "-t", &piped, "-"];
    command::run(plugged(cx).args(args), b"FROM busybox\nRUN echo piped > /f\n").ok();
    assert_eq!(sh(cx, &piped, "cat /f"), "piped");
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY f /f\n").file("f", 0o644, "in a tar");
    command::run(plugged(cx).args(args), &tar.finish()).ok();
    assert_eq!(sh(cx, &piped, "cat /f"), "in a tar");
}

fn the_same_epoch_gives_the_same_image(cx: &Cx<'_>) {
    let dockerfile = "FROM busybox\nCOPY f /f\nRUN echo same > /g\n";
    cx.write("context/f", "x");
    let args = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let tag = built(cx, dockerfile, &args);
    let created = cx.docker(&["image", "inspect", "-f", "{{.Created}}", &tag]);
    assert!(created.ok().starts_with("2023-11-14T22:13:20"), "{}", created.describe());
    let first = cx.docker(&["image", "inspect", "-f", "{{.Id}}", &tag]).ok().to_owned();
    built(cx, dockerfile, &args);
    assert_eq!(cx.docker(&["image", "inspect", "-f", "{{.Id}}", &tag]).ok(), first);
}

fn results_are_pushed(cx: &Cx<'_>) {
    let registry = super::registry::plain();
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo pushed > /f\n");
    let (one, two) =
        (format!("{}/p/one:1", registry.host()), format!("{}/p/two:2", registry.host()));
    let pushed = buildx(cx, &["--push", "-t", &one, "-t", &two]);
    pushed.ok();
    for name in [&one, &two] {
        let _ = cx.docker(&["rmi", "-f", name]);
        assert_eq!(
            cx.docker(&["run", "--rm", "--network", "none", name, "cat", "/f"]).ok(),
            "pushed"
        );
        cx.docker(&["rmi", "-f", name]).ok();
    }
}

//! `gantry build`: our own command line over BuildKit's protocol.

use super::sh;
use serde_json::Value;
use std::{fs, path::Path, process::Command, time::Duration};
use testkit::{Cx, Output, cases, command, pty::Pty, suite::Case};

pub const CASES: &[Case] = cases![
    our_command_line_builds,
    our_options_mean_what_buildx_means,
    our_secrets_and_agents_are_given,
    our_contexts_come_from_anywhere,
    our_results_go_to_the_disk,
    our_caches_go_to_the_disk,
    our_display_is_in_place_on_a_terminal,
    our_failures_show_the_line,
    our_end_is_the_build_s_end,
    our_end_at_any_moment_is_the_build_s_end,
];

fn program(cx: &Cx<'_>) -> Command {
    let mut command = cx.gantry_build();
    command.env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
    command
}

fn build(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(program(cx).args(args), b"")
}

fn meta(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn our_command_line_builds(cx: &Cx<'_>) {
    cx.write("context/f", "from the context");
    cx.write("context/left", "ignored");
    cx.write("context/.dockerignore", "left\n");
    // Nobody has run this step before, nor has a first try.
    let step = format!("RUN echo told; echo warned >&2; : {}", cx.dir().display());
    cx.write("context/Dockerfile", format!("FROM busybox\n{step}\nCOPY . /w/\nLABEL l=v\n"));
    let (one, two) = (format!("{}:1", cx.name("img")), format!("{}:2", cx.name("img")));
    let args = ["-t", &one, "-t", &two, "--iidfile", "iid", "--metadata-file", "meta", "context"];
    let first = build(cx, &args);
    first.ok();
    for part in [
        "[internal] load build definition from Dockerfile\n",
        &format!("[2/3] {step}\n"),
        " told\n",
        " warned\n",
        "[3/3] COPY . /w/\n",
        "DONE ",
        "exporting to image\n",
    ] {
        assert!(first.stderr.contains(part), "{part:?}\n{}", first.describe());
    }
    assert_eq!(first.stdout, "", "{}", first.describe());
    let image = cx.api().get(&format!("/images/{two}/json")).expect(200);
    assert_eq!(image["Id"].as_str().unwrap(), fs::read_to_string(cx.dir().join("iid")).unwrap());
    let meta = meta(&cx.dir().join("meta"));
    assert_eq!(meta["containerimage.digest"], image["Id"]);
    let kind = meta["buildx.build.provenance"]["buildDefinition"]["buildType"].as_str();
    assert!(kind.is_some_and(|k| k.contains("buildkit")), "{meta:#}");
    assert_eq!(
        sh(cx, &one, "cat /w/f; ls -A /w; stat -c %u:%g /w/f"),
        "from the context.dockerignore\nDockerfile\nf\n0:0"
    );
    let second = build(cx, &["-q", "context"]);
    assert_eq!(second.ok(), image["Id"].as_str().unwrap());
    assert_eq!(second.stderr, "", "{}", second.describe());
    let third = build(cx, &["--progress", "rawjson", "context"]);
    third.ok();
    let told: Vec<Value> = third.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: Vec<&Value> =
        told.iter().flat_map(|t| t["vertexes"].as_array().into_iter().flatten()).collect();
    let cached = |s: &&&Value| s["cached"] == true && s["name"].as_str().unwrap().contains("RUN");
    assert_eq!(steps.iter().filter(cached).count(), 1, "{}", third.describe());
    // The classic builder is still there for who wants it.
    let old = command::run(program(cx).env("DOCKER_BUILDKIT", "0").arg("context"), b"");
    assert!(old.ok().contains("Successfully built "), "{}", old.describe());
    let limited = build(cx, &["--memory", "64m", "context"]);
    assert!(limited.ok().contains("Successfully built "), "{}", limited.describe());
    build(cx, &["--memory", "64m", "--secret", "id=x,src=iid", "context"])
        .fails_with(1, &["--memory is of the classic builder alone"]);
}

fn our_options_mean_what_buildx_means(cx: &Cx<'_>) {
    cx.write(
        "files/Other.Dockerfile",
        "FROM busybox AS first\nARG WHO=nobody\nARG MINE\nRUN echo $WHO $MINE > /who; grep -c own.test /etc/hosts > /hosts\nFROM busybox\nRUN false\n",
    );
    fs::create_dir_all(cx.dir().join("context")).unwrap();
    let tag = format!("{}:latest", cx.name("img"));
    let args = [
        "-f",
        "files/Other.Dockerfile",
        "-t",
        &tag,
        "--target",
        "first",
        "--build-arg",
        "WHO=you",
        "--build-arg",
        "MINE",
        "--label",
        "a=b",
        "--add-host",
        "own.test:10.1.2.3",
        "--network",
        "none",
        "context",
    ];
    let run = |more: &[&str]| {
        let mut command = program(cx);
        command::run(command.env("MINE", "my own").args(more).args(args), b"")
    };
    run(&[]).ok();
    assert_eq!(sh(cx, &tag, "cat /who /hosts"), "you my own\n1");
    let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    let cached = |output: &Output| output.stderr.matches(" CACHED\n").count();
    assert_eq!(cached(&run(&[])), 1);
    assert_eq!(cached(&run(&["--no-cache"])), 0);
    assert_eq!(cached(&run(&["--no-cache-filter", "first"])), 0);
    assert_eq!(cached(&run(&["--pull=false"])), 1);
    let registry = crate::registry::plain();
    let name = format!("{}/t/own:1", registry.host());
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo pushed > /f\n");
    build(cx, &["-t", &name, "--push", "context"]).ok();
    cx.docker(&["rmi", &name]).ok();
    cx.docker(&["pull", "-q", &name]).ok();
    assert_eq!(sh(cx, &name, "cat /f"), "pushed");
    let beside = ["--annotation", "index,manifest:k=v", "--sbom", "true", "--provenance", "max"];
    let output = ["-o", "type=oci,tar=false,dest=layout", "context"];
    build(cx, &[&beside[..], &output].concat()).ok();
    let index = meta(&cx.dir().join("layout/index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let index = meta(&cx.dir().join("layout/blobs").join(digest));
    assert_eq!(index["annotations"]["k"], "v", "{index}");
    let kinds = index["manifests"].as_array().unwrap().iter();
    let kinds: Vec<&Value> =
        kinds.map(|m| &m["annotations"]["vnd.docker.reference.type"]).collect();
    assert_eq!(kinds, [&Value::Null, &Value::from("attestation-manifest")], "{index}");
    build(cx, &["--platform", "linux/nothing", "context"]).fails_with(1, &["load metadata for"]);
    build(cx, &["-t", "Wrong", "context"]).fails_with(1, &["invalid tag \"Wrong\""]);
    build(cx, &["--output", "type=odd", "context"]).fails_with(1, &["unsupported output type"]);
    build(cx, &["none"]).fails_with(1, &["path \"none\" not found"]);
}

fn our_secrets_and_agents_are_given(cx: &Cx<'_>) {
    const SECRET: &str = "s3cr3t-of-our-own";
    cx.write("secret", SECRET);
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=file wc -c < /run/secrets/file > /sizes\nRUN --mount=type=secret,id=var,env=TOKEN echo ${#TOKEN} >> /sizes\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo agent >> /sizes\n",
    );
    let socket = cx.dir().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let tag = format!("{}:latest", cx.name("img"));
    let ssh = format!("default={}", socket.display());
    let args = ["--secret", "id=file,src=secret", "--secret", "id=var,env=VAR", "--ssh", &ssh];
    let output =
        command::run(program(cx).env("VAR", SECRET).args(args).args(["-t", &tag, "context"]), b"");
    output.ok();
    assert_eq!(sh(cx, &tag, "cat /sizes"), "17\n17\nagent");
    assert!(!output.stderr.contains(SECRET));
    cx.write("agentless/Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required=true true\n");
    build(cx, &["agentless"]).fails_with(1, &["no SSH key"]);
    build(cx, &["--secret", "id=x,src=none", "context"]).fails_with(1, &["failed to stat none"]);
    build(cx, &["--ssh", "default=secret", "context"])
        .fails_with(1, &["no socket of an ssh agent"]);
}

fn our_contexts_come_from_anywhere(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("img"));
    let with = |args: &[&str], stdin: &[u8]| command::run(program(cx).args(args), stdin);
    with(&["-t", &tag, "-"], b"FROM busybox\nRUN echo alone > /f\n").ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "alone");
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY f /f\n").file("f", 0o644, "in a tar");
    with(&["-t", &tag, "-"], &tar.finish()).ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "in a tar");
    cx.write("context/f", "in a folder");
    with(&["-t", &tag, "-f", "-", "context"], b"FROM busybox\nCOPY f /f\n").ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "in a folder");
    cx.write("other/g", "beside");
    cx.write(
        "context/Dockerfile",
        "FROM base\nCOPY --from=beside g /g\nCOPY --from=laid /laid /laid\n",
    );
    cx.write("layout-of/Dockerfile", "FROM busybox\nRUN echo laid out > /laid\n");
    with(&["-o", "type=oci,tar=false,dest=layout", "layout-of"], b"").ok();
    assert!(cx.dir().join("layout/oci-layout").exists());
    let named = ["beside=other", "base=docker-image://busybox", "laid=oci-layout://layout"];
    let mut args = vec!["-t", &tag];
    args.extend(named.iter().flat_map(|n| ["--build-context", n]));
    args.push("context");
    with(&args, b"").ok();
    assert_eq!(sh(cx, &tag, "cat /g /laid"), "besidelaid out");
    with(&["-f", "-", "-"], b"x").fails_with(1, &["can't use stdin for both"]);
    // Links and folders of the context, and only what is asked for.
    std::os::unix::fs::symlink("real", cx.dir().join("context/link")).unwrap();
    cx.write("context/real/deep/f", "through a link");
    cx.write("context/Dockerfile", "FROM busybox\nCOPY link/deep/f /f\n");
    with(&["-t", &tag, "context"], b"").ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "through a link");
}

fn our_results_go_to_the_disk(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox AS b\nRUN mkdir -p /o/d && echo out > /o/d/f && ln -s d/f /o/l && chmod 640 /o/d/f && ln /o/d/f /o/hard\nFROM scratch\nCOPY --from=b /o /\n");
    build(cx, &["-o", "out", "context"]).ok();
    assert_eq!(fs::read_to_string(cx.dir().join("out/d/f")).unwrap(), "out\n");
    assert_eq!(fs::read_link(cx.dir().join("out/l")).unwrap(), Path::new("d/f"));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = cx.dir().join("out/hard").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let tar = build(cx, &["-o", "-", "context"]);
    tar.ok();
    let listed = command::run(Command::new("tar").arg("-t"), &tar.bytes);
    assert!(listed.ok().lines().any(|l| l == "d/f"), "{}", listed.describe());
    let tag = format!("{}:out", cx.name("img"));
    build(
        cx,
        &["-t", &tag, "-o", "type=docker,dest=image.tar", "-o", "type=local,dest=two", "context"],
    )
    .ok();
    cx.docker(&["load", "-i", "image.tar"]).ok();
    cx.docker(&["image", "inspect", &tag]).ok();
    assert!(cx.dir().join("two/d/f").exists());
    build(cx, &["-o", "type=local", "context"]).fails_with(1, &["dest is required"]);
}

fn our_caches_go_to_the_disk(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo cached > /f\n");
    build(cx, &["--cache-to", "type=local,dest=cache,mode=max", "context"]).ok();
    assert!(cx.dir().join("cache/index.json").exists());
    let other = testkit::Daemon::start(testkit::daemon::Options::new()).unwrap();
    other.load_busybox().unwrap();
    {
        let there = &Cx::new(&other, "cached");
        let cache = format!("type=local,src={}", cx.dir().join("cache").display());
        let context = cx.dir().join("context");
        let output = build(there, &["--cache-from", &cache, context.to_str().unwrap()]);
        output.ok();
        assert!(output.stderr.contains(" CACHED\n"), "{}", output.describe());
        let none =
            build(there, &["--cache-from", "type=local,src=none", context.to_str().unwrap()]);
        none.ok();
    }
    other.empty_and_stop().unwrap();
}

fn our_display_is_in_place_on_a_terminal(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo one; sleep 1; echo two\n");
    let mut command = program(cx);
    // The terminal's program starts in the folder of the tests.
    command.arg("--no-cache").arg(cx.dir().join("context"));
    let pty = Pty::start(&command, 24, 80).unwrap();
    let (code, text) = pty.wait();
    assert_eq!(code, 0, "{text}");
    for part in ["[+] Building ", "=> => # one", "\x1b[J", "FINISHED", "=> [2/2] RUN echo one"] {
        assert!(text.contains(part), "{part:?} {text:?}");
    }
}

fn our_failures_show_the_line(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\n\nRUN echo before && exit 7\n");
    build(cx, &["context"]).fails_with(
        1,
        &[
            " > [2/2] RUN echo before && exit 7:\nbefore\n",
            "Dockerfile:3\n",
            "   3 | >>> RUN echo before && exit 7\n",
            "exit code: 7",
        ],
    );
    cx.write("context/Dockerfile", "FROM busybox\nRUNN x\n");
    build(cx, &["context"]).fails_with(1, &["Dockerfile:2", "unknown instruction: RUNN"]);
    build(cx, &["-f", "none", "context"]).fails_with(1, &["none: no such file or directory"]);
    cx.write("context/Dockerfile", "from busybox\nRUN true\n");
    let warned = build(cx, &["context"]);
    warned.ok();
    assert!(
        warned.stderr.contains("warning found:\n - ConsistentInstructionCasing"),
        "{}",
        warned.describe()
    );
}

/// Ended while its step is being made, started or run: the step is ended too, whatever the moment.
fn our_end_at_any_moment_is_the_build_s_end(cx: &Cx<'_>) {
    for n in 0..25 {
        let seconds = 12_000 + n;
        let file = format!("FROM busybox\nRUN sleep {seconds}\n");
        cx.write("context/Dockerfile", file);
        let mut command = program(cx);
        command.arg("context").stderr(std::process::Stdio::null());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + 6 * n));
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(!child.wait().unwrap().success());
    }
    let sleeping =
        || command::run(Command::new("pgrep").args(["-f", "^sleep 120[0-2][0-9]$"]), b"").code;
    cx.until("all steps are ended", || (sleeping() == Some(1)).then_some(()));
}

fn our_end_is_the_build_s_end(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo it $((6 * 7)) runs; sleep 1246\n");
    let log = fs::File::create(cx.dir().join("log")).unwrap();
    let mut command = program(cx);
    let mut child =
        command.arg("context").stderr(log).stdout(std::process::Stdio::null()).spawn().unwrap();
    cx.until("the step runs", || {
        fs::read_to_string(cx.dir().join("log"))
            .is_ok_and(|l| l.contains(" it 42 runs"))
            .then_some(())
    });
    // Not SIGINT, which who runs the tests in the background has told all of them to ignore.
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(!child.wait().unwrap().success());
    let sleeping =
        || command::run(Command::new("pgrep").args(["-f", "^sleep 1246$"]), b"").code == Some(0);
    cx.until("its step is ended", || (!sleeping()).then_some(()));
}

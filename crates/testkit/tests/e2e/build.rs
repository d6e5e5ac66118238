//! The classic builder: `DOCKER_BUILDKIT=0 docker build`.

use serde_json::json;
use testkit::{
    Cx, Output, cases,
    cx::skip,
    suite::Case,
    tarball::{Tarball, gzip},
};

pub const CASES: &[Case] = cases![
    messages_have_the_classic_shape,
    quiet_prints_the_id_only,
    cache_hits_by_content_not_by_time,
    no_cache_builds_again,
    instructions_set_the_config,
    run_forms,
    heredocs,
    copy_and_add,
    copy_chown_and_chmod,
    copy_from_stage_and_image,
    dockerignore_with_negation,
    arguments_global_and_per_stage,
    variables_and_modifiers,
    target_and_unused_stages,
    onbuild_triggers_in_the_child,
    healthcheck_and_shell_and_stopsignal,
    labels_and_args_from_the_command_line,
    dockerfile_on_stdin_and_other_names,
    tar_context_on_stdin,
    parser_directives_and_continuation,
    errors_name_line_and_instruction,
    run_failure_tells_the_code,
    copy_of_a_missing_file_fails,
    from_unknown_image_fails,
    workdir_is_made_and_nested,
    user_applies_to_run,
    volume_content_is_kept,
    history_shows_every_instruction,
    from_scratch,
    intermediate_containers_go,
    squash_leaves_one_layer_more_than_the_base,
    add_of_a_remote_file,
    escape_from_context_is_refused,
];

fn build(cx: &Cx<'_>, args: &[&str]) -> Output {
    cx.docker(&[&["build"], args, &["."]].concat())
}

/// Builds `dockerfile` in the case's folder and gives the tag.
#[track_caller]
fn built(cx: &Cx<'_>, dockerfile: &str, args: &[&str]) -> String {
    let tag = format!("{}:latest", cx.name("img"));
    cx.write("Dockerfile", dockerfile);
    build(cx, &[&["-t", &tag], args].concat()).ok();
    tag
}

#[track_caller]
fn config(cx: &Cx<'_>, tag: &str) -> serde_json::Value {
    cx.api().get(&format!("/images/{tag}/json")).expect(200)["Config"].clone()
}

#[track_caller]
fn sh(cx: &Cx<'_>, tag: &str, script: &str) -> String {
    cx.docker(&["run", "--rm", tag, "sh", "-c", script]).ok().to_owned()
}

fn messages_have_the_classic_shape(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nRUN echo said\nLABEL a=messages\nCMD [\"x\"]\n");
    let tag = format!("{}:v1", cx.name("img"));
    let output = build(cx, &["-t", &tag]);
    let text = output.ok();
    for part in [
        "Step 1/4 : FROM busybox\n ---> ",
        "\nStep 2/4 : RUN echo said\n ---> Running in ",
        "\nsaid\n",
        "\nStep 3/4 : LABEL a=messages\n ---> Running in ",
        "\nStep 4/4 : CMD [\"x\"]\n",
        "\nSuccessfully built ",
    ] {
        assert!(text.contains(part), "{part:?}\n{}", output.describe());
    }
    assert!(text.ends_with(&format!("\nSuccessfully tagged {tag}")), "{}", output.describe());
    let removed = ["Removing intermediate container", " ---> Removed intermediate container"];
    assert!(removed.iter().any(|r| text.contains(r)), "{}", output.describe());
    let id = cx.docker(&["images", "-q", &tag]).ok().to_owned();
    assert!(text.contains(&format!("Successfully built {id}")), "{}", output.describe());
}

fn quiet_prints_the_id_only(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nLABEL a=quiet\n");
    let output = build(cx, &["-q", "-t", &cx.name("img")]);
    assert!(output.ok().starts_with("sha256:") && output.ok().len() == 71, "{}", output.describe());
}

fn cache_hits_by_content_not_by_time(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nCOPY f /f\nRUN cat /f; echo\n");
    cx.write("f", "one");
    let tag = cx.name("img");
    let cached = |output: &Output| output.ok().matches(" ---> Using cache").count();
    let first = build(cx, &["-t", &tag]);
    assert_eq!(cached(&first), 0, "{}", first.describe());
    let second = build(cx, &["-t", &tag]);
    assert_eq!(cached(&second), 2, "{}", second.describe());
    let file = std::fs::File::options().write(true).open(cx.dir().join("f")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    let third = build(cx, &["-t", &tag]);
    assert_eq!(cached(&third), 2, "times do not count\n{}", third.describe());
    cx.write("f", "two");
    let fourth = build(cx, &["-t", &tag]);
    assert_eq!(cached(&fourth), 0, "content counts\n{}", fourth.describe());
    assert!(fourth.ok().contains("\ntwo\n"));
}

fn no_cache_builds_again(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nRUN echo again\n");
    build(cx, &["-t", &cx.name("img")]).ok();
    let output = build(cx, &["--no-cache", "-t", &cx.name("img")]);
    assert!(
        output.ok().contains("\nagain\n") && !output.ok().contains("Using cache"),
        "{}",
        output.describe()
    );
}

fn instructions_set_the_config(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "FROM busybox\nMAINTAINER me\nENV A=1 B=\"two words\"\nENV C three  words\nLABEL x=\"y z\" n=1\nEXPOSE 80 90/udp 100-102\nVOLUME /v1 /v2\nVOLUME [\"/v 3\"]\nUSER 1234:50\nWORKDIR /w\nENTRYPOINT [\"/bin/e\"]\nCMD [\"a\", \"b c\"]\n",
        &[],
    );
    let c = config(cx, &tag);
    assert_eq!(
        c["Env"],
        json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "A=1",
            "B=two words",
            "C=three  words"
        ])
    );
    assert_eq!(c["Labels"], json!({"x": "y z", "n": "1"}));
    assert_eq!(
        c["ExposedPorts"],
        json!({"80/tcp": {}, "90/udp": {}, "100/tcp": {}, "101/tcp": {}, "102/tcp": {}})
    );
    assert_eq!(c["Volumes"], json!({"/v1": {}, "/v2": {}, "/v 3": {}}));
    assert_eq!(c["User"], "1234:50");
    assert_eq!(c["WorkingDir"], "/w");
    assert_eq!(c["Entrypoint"], json!(["/bin/e"]));
    assert_eq!(c["Cmd"], json!(["a", "b c"]));
    assert_eq!(cx.docker(&["inspect", "-f", "{{.Author}}", &tag]).ok(), "me");
    let tag = built(cx, "FROM busybox\nENTRYPOINT exec top -b\nCMD echo $HOME\n", &[]);
    let c = config(cx, &tag);
    assert_eq!(c["Entrypoint"], json!(["/bin/sh", "-c", "exec top -b"]));
    assert_eq!(c["Cmd"], json!(["/bin/sh", "-c", "echo $HOME"]));
}

fn run_forms(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "FROM busybox\nRUN echo shell > /a && \\\n  echo more >> /a\nRUN [\"sh\", \"-c\", \"echo exec > /b\"]\nENV X=y\nRUN echo $X > /c\n",
        &[],
    );
    assert_eq!(sh(cx, &tag, "cat /a /b /c"), "shell\nmore\nexec\ny");
}

fn heredocs(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("the classic builder of dockerd has no here-documents");
    }
    let tag = built(
        cx,
        "FROM busybox\nRUN <<EOF\nset -e\necho one > /a\necho two >> /a\nEOF\nCOPY <<END /b\nthree\nEND\n",
        &[],
    );
    assert_eq!(sh(cx, &tag, "cat /a /b"), "one\ntwo\nthree");
}

fn copy_and_add(cx: &Cx<'_>) {
    cx.write("a.txt", "a");
    cx.write("b.txt", "b");
    cx.write("dir/sub/c", "c");
    cx.write("name with space", "s");
    let mut tar = Tarball::new();
    tar.dir("in/").file("in/tar", 0o644, "t");
    cx.write("x.tar.gz", gzip(&tar.finish()));
    let tag = built(
        cx,
        "FROM busybox\nCOPY *.txt /globs/\nCOPY dir /dir\nCOPY a.txt /renamed\nCOPY [\"name with space\", \"/s p\"]\nADD x.tar.gz /unpacked/\nCOPY x.tar.gz /kept/\nWORKDIR /w\nCOPY a.txt .\nCOPY a.t[x]t b.txt rel/\n",
        &[],
    );
    let list = sh(
        cx,
        &tag,
        "ls /globs; cat /dir/sub/c /renamed '/s p' /unpacked/in/tar; ls /kept /w /w/rel",
    );
    assert_eq!(
        list,
        "a.txt\nb.txt\ncast/kept:\nx.tar.gz\n\n/w:\na.txt\nrel\n\n/w/rel:\na.txt\nb.txt"
    );
}

fn copy_chown_and_chmod(cx: &Cx<'_>) {
    cx.write("a", "a");
    let chmod = if cx.is_gantry() { "COPY --chmod=640 a /c\n" } else { "" }; // 20.10 needs BuildKit for it
    let tag = built(
        cx,
        &format!(
            "FROM busybox\nCOPY a /root-owned\nCOPY --chown=alice:staff a /b\nCOPY --chown=7:8 a /d\n{chmod}"
        ),
        &[],
    );
    assert_eq!(sh(cx, &tag, "stat -c %u:%g /root-owned /b /d"), "0:0\n1234:50\n7:8");
    if cx.is_gantry() {
        assert_eq!(sh(cx, &tag, "stat -c %a /c"), "640");
    }
}

fn copy_from_stage_and_image(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "FROM busybox AS first\nRUN echo 1 > /one\nFROM busybox\nRUN echo 2 > /two\nFROM busybox\nCOPY --from=first /one /\nCOPY --from=1 /two /\nCOPY --from=busybox /etc/group /g\n",
        &[],
    );
    assert_eq!(sh(cx, &tag, "cat /one /two; head -1 /g"), "1\n2\nroot:x:0:");
}

fn dockerignore_with_negation(cx: &Cx<'_>) {
    for f in ["keep", "a.log", "sub/b.log", "sub/important.log", "node/x", "sub/deep/er/c.tmp"] {
        cx.write(f, f);
    }
    cx.write(".dockerignore", "# comment\n*.log\n**/*.tmp\nsub/*.log\n!sub/important.log\nnode\n");
    let tag = built(cx, "FROM busybox\nCOPY . /c/\n", &[]);
    let list = sh(cx, &tag, "cd /c; find . -type f | sort");
    assert_eq!(list, "./.dockerignore\n./Dockerfile\n./keep\n./sub/important.log");
}

fn arguments_global_and_per_stage(cx: &Cx<'_>) {
    let dockerfile = "ARG BASE=nothing\nARG G=global\nFROM ${BASE}\nARG G\nARG L=default\nRUN echo $G-$L-$BASE > /a\n";
    let tag = built(cx, dockerfile, &["--build-arg", "BASE=busybox", "--build-arg", "L=given"]);
    assert_eq!(sh(cx, &tag, "cat /a"), "global-given-");
    let output = build(cx, &["--build-arg", "BASE=busybox", "--build-arg", "UNKNOWN=1"]);
    output.ok();
    let warned = "One or more build-args [UNKNOWN] were not consumed";
    assert!(
        output.stdout.contains(warned) || output.stderr.contains(warned),
        "{}",
        output.describe()
    );
}

fn variables_and_modifiers(cx: &Cx<'_>) {
    // The form without a colon came after dockerd 20.10.
    let nine = if cx.is_gantry() { "${EMPTY-e}" } else { "" };
    let tag = built(
        cx,
        &"FROM busybox\nENV A=a EMPTY=\nLABEL one=${A:-x} two=${NONE:-x} three=${A:+y} four=${NONE:+y} five=\\$A six=\"$A b\" seven='$A' eight=${EMPTY:-e} nine=NINE\nENV A=b OLD=$A\n".replace("NINE", nine),
        &[],
    );
    assert_eq!(
        config(cx, &tag)["Labels"],
        json!({"one": "a", "two": "x", "three": "y", "four": "", "five": "$A", "six": "a b", "seven": "$A", "eight": "e", "nine": ""})
    );
    assert_eq!(config(cx, &tag)["Env"][3], "OLD=a", "{}", config(cx, &tag));
}

fn target_and_unused_stages(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox AS one\nRUN echo in-one > /f\nFROM busybox AS unused\nRUN false\nFROM one AS two\nRUN echo in-two > /f\n");
    let tag = cx.name("img");
    build(cx, &["--target", "one", "-t", &tag]).ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "in-one");
    if cx.is_gantry() {
        // The classic builder of dockerd runs every stage before the target; stages nobody needs are skipped here.
        build(cx, &["--target", "two", "-t", &tag]).ok();
        assert_eq!(sh(cx, &tag, "cat /f"), "in-two");
    }
    build(cx, &["--target", "three"]).fails_with(1, &["three"]);
}

fn onbuild_triggers_in_the_child(cx: &Cx<'_>) {
    let base = format!("{}:latest", cx.name("base"));
    cx.docker_with(
        &["build", "-q", "-t", &base, "-"],
        "FROM busybox\nONBUILD RUN echo triggered > /t\nONBUILD ENV T=1\n",
    )
    .ok();
    assert_eq!(config(cx, &base)["OnBuild"], json!(["RUN echo triggered > /t", "ENV T=1"]));
    let tag = built(cx, &format!("FROM {base}\n"), &[]);
    assert_eq!(sh(cx, &tag, "cat /t; echo $T"), "triggered\n1");
    assert!(config(cx, &tag)["OnBuild"].as_array().is_none_or(Vec::is_empty));
}

fn healthcheck_and_shell_and_stopsignal(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo x > /x\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s --timeout=2s --retries=4 --start-period=1s CMD test -f /x\n",
        &[],
    );
    let c = config(cx, &tag);
    assert_eq!(c["Shell"], json!(["/bin/sh", "-ec"]));
    assert_eq!(c["StopSignal"], "SIGQUIT");
    assert_eq!(
        c["Healthcheck"],
        json!({"Test": ["CMD-SHELL", "test -f /x"], "Interval": 5_000_000_000_u64, "Timeout": 2_000_000_000_u64, "StartPeriod": 1_000_000_000, "Retries": 4})
    );
    let tag = built(cx, &format!("FROM {tag}\nHEALTHCHECK NONE\n"), &[]);
    assert_eq!(config(cx, &tag)["Healthcheck"]["Test"], json!(["NONE"]));
}

fn labels_and_args_from_the_command_line(cx: &Cx<'_>) {
    let tag =
        built(cx, "FROM busybox\nLABEL a=file\n", &["--label", "b=flag", "--label", "a=flag"]);
    assert_eq!(config(cx, &tag)["Labels"], json!({"a": "flag", "b": "flag"}));
}

fn dockerfile_on_stdin_and_other_names(cx: &Cx<'_>) {
    cx.docker_with(&["build", "-q", "-t", &cx.name("a"), "-"], "FROM busybox\nLABEL from=stdin\n")
        .ok();
    cx.write("f", "context");
    cx.docker_with(
        &["build", "-q", "-t", &cx.name("b"), "-f", "-", "."],
        "FROM busybox\nCOPY f /\n",
    )
    .ok();
    assert_eq!(sh(cx, &cx.name("b"), "cat /f"), "context");
    cx.write("sub/Other.dockerfile", "FROM busybox\nLABEL from=other\n");
    build(cx, &["-q", "-t", &cx.name("c"), "-f", "sub/Other.dockerfile"]).ok();
    assert_eq!(config(cx, &cx.name("c"))["Labels"]["from"], "other");
    let answer = cx.api().request(
        "POST",
        "/v1.41/build?dockerfile=none",
        &[("Content-Type", "application/x-tar")],
        &Tarball::new().file("Dockerfile", 0o644, "FROM busybox").finish(),
    );
    assert!(answer.text().contains("none"), "{}", answer.text());
}

fn tar_context_on_stdin(cx: &Cx<'_>) {
    let mut tar = Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY x /\n").file("x", 0o644, "from tar");
    for (n, bytes) in [tar.finish(), gzip(&tar.finish())].iter().enumerate() {
        let tag = cx.name(&format!("img{n}"));
        cx.docker_with(&["build", "-t", &tag, "-"], bytes).ok();
        assert_eq!(sh(cx, &tag, "cat /x"), "from tar");
    }
    let answer = cx.api().request(
        "POST",
        &format!("/v1.41/build?t={}", cx.name("api")),
        &[("Content-Type", "application/x-tar")],
        &tar.finish(),
    );
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.header("Content-Type"), Some("application/json"));
    assert!(answer.text().contains(r#"{"aux":{"ID":"sha256:"#), "{}", answer.text());
    assert!(answer.text().contains(r#"{"stream":"Step 1/2 : FROM busybox"}"#), "{}", answer.text());
}

fn parser_directives_and_continuation(cx: &Cx<'_>) {
    let tag = built(
        cx,
        "# escape=`\n\n# a comment\nfrom busybox\nrun echo a `\n# inside\n  && echo b > /f\n  lAbEl case=ignored\n",
        &[],
    );
    assert_eq!(sh(cx, &tag, "cat /f"), "b");
    assert_eq!(config(cx, &tag)["Labels"]["case"], "ignored");
}

fn errors_name_line_and_instruction(cx: &Cx<'_>) {
    let fails = |dockerfile: &str, parts: &[&str]| {
        cx.write("Dockerfile", dockerfile);
        build(cx, &[]).fails_with(1, parts);
    };
    fails("FROM busybox\nNONSENSE x\n", &["unknown instruction: NONSENSE"]);
    if cx.is_gantry() {
        fails("FROM busybox\n\nNONSENSE x\n", &["line 3"]);
    }
    fails("", &["Dockerfile"]);
    fails("RUN true\n", &["no build stage in current context"]);
    fails("FROM busybox\nCOPY a\n", &["COPY requires at least two arguments"]);
    fails("FROM busybox\nENV\n", &["ENV requires at least one argument"]);
    fails("FROM busybox\nONBUILD FROM x\n", &["FROM isn't allowed as an ONBUILD trigger"]);
    fails("FROM busybox\nHEALTHCHECK SOMETHING\n", &["HEALTHCHECK"]);
    fails("FROM busybox\nEXPOSE nonsense\n", &["nvalid containerPort: nonsense"]);
    fails("FROM busybox\nCOPY --nope=1 a /b\n", &["nknown flag"]);
}

fn run_failure_tells_the_code(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nRUN exit 7\n");
    build(cx, &[]).fails_with(7, &["The command '/bin/sh -c exit 7' returned a non-zero code: 7"]);
    cx.write("Dockerfile", "FROM busybox\nRUN [\"/nope\"]\n");
    build(cx, &[]).fails_with(1, &["/nope", "no such file or directory"]);
}

fn copy_of_a_missing_file_fails(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nCOPY missing /\n");
    build(cx, &[]).fails_with(1, &["COPY failed", "missing"]);
}

fn from_unknown_image_fails(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM localhost:1/no/such:image\n");
    build(cx, &[]).fails(1);
}

fn workdir_is_made_and_nested(cx: &Cx<'_>) {
    let tag =
        built(cx, "FROM busybox\nWORKDIR /a\nWORKDIR b\nENV D=c\nWORKDIR $D\nRUN pwd > /p\n", &[]);
    assert_eq!(config(cx, &tag)["WorkingDir"], "/a/b/c");
    assert_eq!(sh(cx, &tag, "cat /p; pwd"), "/a/b/c\n/a/b/c");
}

fn user_applies_to_run(cx: &Cx<'_>) {
    let tag = built(cx, "FROM busybox\nUSER alice\nRUN id > /tmp/id\n", &[]);
    assert!(sh(cx, &tag, "cat /tmp/id; id -u").ends_with("\n1234"));
    assert!(sh(cx, &tag, "cat /tmp/id").starts_with("uid=1234(alice) gid=1234(alice)"));
}

fn volume_content_is_kept(cx: &Cx<'_>) {
    let tag = built(cx, "FROM busybox\nRUN mkdir /v && echo seed > /v/f\nVOLUME /v\n", &[]);
    assert_eq!(sh(cx, &tag, "cat /v/f; mount | grep -c ' /v '"), "seed\n1");
}

fn history_shows_every_instruction(cx: &Cx<'_>) {
    let tag = built(cx, "FROM busybox\nRUN echo layer > /l\nENV A=b\nCMD [\"x\"]\n", &[]);
    let h = cx.api().get(&format!("/images/{tag}/history")).expect(200);
    let by: Vec<_> =
        h.as_array().unwrap().iter().map(|l| l["CreatedBy"].as_str().unwrap()).collect();
    assert_eq!(
        by[..3],
        [
            "/bin/sh -c #(nop)  CMD [\"x\"]",
            "/bin/sh -c #(nop)  ENV A=b",
            "/bin/sh -c echo layer > /l"
        ]
    );
    assert_eq!((&h[0]["Size"], &h[2]["Size"]), (&json!(0), &json!(6)));
    let layers = cx.api().get(&format!("/images/{tag}/json")).expect(200)["RootFS"]["Layers"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(layers, 2, "only RUN made a layer");
}

fn from_scratch(cx: &Cx<'_>) {
    cx.write("f", "x");
    let tag = built(cx, "FROM scratch\nCOPY f /f\n", &[]);
    let i = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    assert_eq!(i["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(i["Size"], 1);
}

fn intermediate_containers_go(cx: &Cx<'_>) {
    built(cx, "FROM busybox\nRUN echo intermediate_containers_go\n", &["--force-rm"]);
    let list = cx.docker(&["ps", "-a", "--no-trunc", "--format", "{{.Command}}"]);
    assert!(!list.ok().contains("intermediate_containers_go"), "{}", list.describe());
}

fn squash_leaves_one_layer_more_than_the_base(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("dockerd squashes in experimental mode only");
    }
    let tag = built(cx, "FROM busybox\nRUN echo 1 > /a\nRUN echo 2 > /b; rm /a\n", &["--squash"]);
    let i = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    assert_eq!(i["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(sh(cx, &tag, "ls /a /b 2>/dev/null; true"), "/b");
}

fn add_of_a_remote_file(cx: &Cx<'_>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            _ = stream.read(&mut request);
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\nremote");
        }
    });
    let tag =
        built(cx, &format!("FROM busybox\nADD http://127.0.0.1:{port}/dir/file.txt /d/\n"), &[]);
    assert_eq!(
        sh(cx, &tag, "cat /d/file.txt; stat -c ' %a %Y' /d/file.txt"),
        "remote 600 1445412480"
    );
}

fn escape_from_context_is_refused(cx: &Cx<'_>) {
    cx.write("Dockerfile", "FROM busybox\nCOPY ../../../../etc/hostname /\n");
    build(cx, &[]).fails(1);
    let mut tar = Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY ln/hostname /h\n").symlink("ln", "/etc");
    let output = cx.docker_with(&["build", "-"], tar.finish());
    assert_ne!(output.code, Some(0), "{}", output.describe());
}

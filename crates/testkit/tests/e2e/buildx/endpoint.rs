//! `POST /build?version=2`: clients that know BuildKit's session and not its `Solve`.

use super::sh;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{path::Path, process::Command};
use testkit::{Cx, Output, cases, command, cx::skip, http, suite::Case};

pub const CASES: &[Case] = cases![
    the_old_command_line_builds_by_buildkit,
    its_archive_follows_in_a_request_of_its_own,
    an_archive_in_the_body_is_the_context,
    what_cannot_be_is_refused_as_docker_does,
    a_build_is_cancelled_by_name,
];

/// The docker CLI 20.10 with BuildKit, without plugins.
fn old(cx: &Cx<'_>) -> Command {
    let path = Path::new("/usr/bin/docker");
    let version = Command::new(path).arg("--version").output();
    if !version.is_ok_and(|v| String::from_utf8_lossy(&v.stdout).contains(" 20.10")) {
        skip("the docker CLI 20.10 (docker.io) is not installed");
    }
    let mut command = cx.daemon.cli(path);
    command.current_dir(cx.dir()).env("DOCKER_BUILDKIT", "1").args([
        "build",
        "--progress",
        "plain",
    ]);
    command
}

fn build(cx: &Cx<'_>, args: &[&str], stdin: &[u8]) -> Output {
    command::run(old(cx).args(args), stdin)
}

fn the_old_command_line_builds_by_buildkit(cx: &Cx<'_>) {
    cx.write("context/f", "sent");
    cx.write("secret", "hidden");
    cx.write(
        "context/Dockerfile",
        "FROM busybox AS b\nARG WHO\nRUN --mount=type=secret,id=s test -s /run/secrets/s && echo hello $WHO\nCOPY f /o/f\nFROM scratch AS files\nCOPY --from=b /o /\nFROM b\n",
    );
    let tag = format!("{}:latest", cx.name("img"));
    let given = ["--secret", "id=s,src=secret", "--build-arg", "WHO=you", "context"];
    let built = build(cx, &[&["-t", &tag, "--iidfile", "iid"], &given[..]].concat(), b"");
    built.ok();
    for part in ["[b 2/3] RUN --mount", " hello you", "naming to docker.io/library/"] {
        assert!(built.stderr.contains(part), "{part} {}", built.describe());
    }
    let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    assert_eq!(
        std::fs::read_to_string(cx.dir().join("iid")).unwrap(),
        image["Id"].as_str().unwrap()
    );
    assert_eq!(sh(cx, &tag, "cat /o/f"), "sent");
    let again = build(cx, &[&["-q"], &given[..]].concat(), b"");
    assert_eq!(again.ok(), image["Id"].as_str().unwrap());
    let disk = ["--target", "files", "-o", "type=local,dest=out"];
    build(cx, &[&disk[..], &given].concat(), b"").ok();
    assert_eq!(std::fs::read_to_string(cx.dir().join("out/f")).unwrap(), "sent");
    cx.write("context/Dockerfile", "FROM busybox\nRUN exit 9\n");
    build(cx, &["context"], b"").fails_with(1, &["exit code: 9"]);
}

fn its_archive_follows_in_a_request_of_its_own(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("img"));
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY f /f\n").file("f", 0o644, "uploaded");
    build(cx, &["-t", &tag, "-"], &tar.finish()).ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "uploaded");
    build(cx, &["-t", &tag, "-"], b"FROM busybox\nRUN echo alone > /f\n").ok();
    assert_eq!(sh(cx, &tag, "cat /f"), "alone");
}

#[track_caller]
fn post(cx: &Cx<'_>, path: &str, body: &[u8]) -> http::Response {
    cx.api().request("POST", path, &[("Content-Type", "application/x-tar")], body)
}

/// The messages of an answer.
fn messages(answer: &http::Response) -> Vec<Value> {
    answer.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn an_archive_in_the_body_is_the_context(cx: &Cx<'_>) {
    let name = format!("{}:latest", cx.name("img"));
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("sub/File", 0o644, "FROM busybox\nARG A\nCOPY f /f\nRUN echo -n \"$A\" >> /f\n")
        .file("f", 0o644, "body");
    let path =
        format!("/build?version=2&t={name}&dockerfile=sub/File&buildargs=%7B%22A%22%3A%22+x%22%7D");
    let answer = post(cx, &path, &tar.finish());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let all = messages(&answer);
    let last = all.last().unwrap();
    assert_eq!(last["id"], "moby.image.id", "{last}");
    let image = cx.api().get(&format!("/images/{name}/json")).expect(200);
    assert_eq!(last["aux"]["ID"], image["Id"]);
    let traced: Vec<Vec<u8>> = all
        .iter()
        .filter(|m| m["id"] == "moby.buildkit.trace")
        .map(|m| STANDARD.decode(m["aux"].as_str().unwrap()).unwrap())
        .collect();
    let holds =
        |word: &str| traced.iter().any(|t| t.windows(word.len()).any(|w| w == word.as_bytes()));
    assert!(holds("[2/3] COPY f /f") && holds("exporting to image"), "{}", answer.text());
    assert_eq!(sh(cx, &name, "cat /f"), "body x");
    let quiet = post(cx, &format!("{path}&q=1"), &tar.finish());
    assert_eq!(
        messages(&quiet),
        [serde_json::json!({ "stream": format!("{}\n", image["Id"].as_str().unwrap()) })]
    );
    let cut = post(cx, &path, &tar.finish()[..700]);
    let all = messages(&cut);
    assert!(all.last().unwrap()["error"].as_str().unwrap().contains("failed to solve"), "{all:?}");
}

fn what_cannot_be_is_refused_as_docker_does(cx: &Cx<'_>) {
    let post = |query: &str| self::post(cx, &format!("/build?{query}"), b"");
    for (query, why) in [
        ("version=3", "invalid version 3"),
        ("version=2&networkmode=bridge", "not supported by buildkit"),
        ("version=2&outputs=%5B%7B%7D%2C%7B%7D%5D", "multiple outputs not supported"),
        ("version=2&remote=upload-request", "needs a buildid"),
        ("version=2&t=Wrong", "invalid"),
    ] {
        let answer = post(query);
        assert_eq!(answer.status(), 400, "{query} {}", answer.text());
        assert!(answer.text().contains(why), "{query} {}", answer.text());
    }
    // A session that does not come is told.
    let answer = post("version=2&remote=client-session&session=nobody");
    let all = messages(&answer);
    assert!(all[0]["error"].as_str().unwrap().contains("no active session for nobody"), "{all:?}");
}

fn a_build_is_cancelled_by_name(cx: &Cx<'_>) {
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nRUN echo it runs; sleep 1358\n");
    let tar = tar.finish();
    let id = cx.name("cancelled");
    let sleeping =
        || command::run(Command::new("pgrep").args(["-f", "^sleep 1358$"]), b"").code == Some(0);
    std::thread::scope(|scope| {
        let path = format!("/build?version=2&buildid={id}");
        let building = scope.spawn(move || post(cx, &path, &tar));
        cx.until("the step runs", || sleeping().then_some(()));
        let answer = cx.api().post(&format!("/build/cancel?id={id}"), &Value::Null);
        assert_eq!(answer.status(), 200);
        let all = messages(&building.join().unwrap());
        assert_eq!(all.last().unwrap()["error"], "context canceled", "{all:?}");
    });
    cx.until("its step is ended", || (!sleeping()).then_some(()));
}

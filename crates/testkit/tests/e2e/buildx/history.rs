//! `docker buildx history`: what became of builds that are over.

use super::{buildx, plugged};
use serde_json::Value;
use std::process::Stdio;
use testkit::{Cx, Daemon, Output, cases, command, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    builds_are_remembered_with_their_logs,
    a_failed_build_is_remembered_with_its_line,
    builds_under_way_and_cancelled_ones_are_told,
    the_history_outlives_the_engine,
    an_image_knows_who_built_it_from_what,
];

fn history(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(plugged(cx).args(["buildx", "history"]).args(args), b"")
}

/// Builds and gives the name that the build has in the history.
fn done(cx: &Cx<'_>, args: &[&str]) -> (Output, String) {
    let meta = cx.dir().join("meta.json");
    let output = buildx(cx, &[args, &["--metadata-file", meta.to_str().unwrap()]].concat());
    let meta: Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
    let full = meta["buildx.build.ref"].as_str().unwrap();
    (output, full.rsplit('/').next().unwrap().to_owned())
}

/// What the history says of one build.
#[track_caller]
fn inspect(cx: &Cx<'_>, name: &str) -> Value {
    let told = history(cx, &["inspect", "--format", "json", name]);
    serde_json::from_str(told.ok()).unwrap()
}

fn builds_are_remembered_with_their_logs(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox AS wanted\nARG who\nRUN echo remembered $who\n");
    let args = ["--target", "wanted", "--build-arg", "who=me", "--label", "l=v"];
    let (output, name) = done(cx, &args);
    output.ok();
    let list = history(cx, &["ls", "--no-trunc", "--format", "{{.Ref}} {{.Status}}"]);
    let line = list.ok().lines().find(|l| l.contains(&name)).unwrap_or_default();
    assert!(line.ends_with(" Completed"), "{}", list.describe());
    let told = inspect(cx, &name);
    assert_eq!(told["Target"], "wanted", "{told}");
    assert_eq!(told["Status"], "completed", "{told}");
    assert_eq!(told["BuildArgs"][0]["Value"], "me", "{told}");
    assert_eq!(told["Labels"][0]["Name"], "l", "{told}");
    assert_eq!(told["NumTotalSteps"], told["NumCompletedSteps"], "{told}");
    let logs = history(cx, &["logs", &name]);
    logs.ok();
    assert!(logs.stderr.contains(" remembered me"), "{}", logs.describe());
    let (again, second) = done(cx, &args);
    again.ok();
    assert_eq!(inspect(cx, &second)["NumCachedSteps"], 1);
    let found = history(cx, &["ls", "--filter", &format!("ref={name}"), "--format", "{{.Ref}}"]);
    assert_eq!(found.ok().lines().count(), 1, "{}", found.describe());
    history(cx, &["rm", &name]).ok();
    history(cx, &["inspect", &name]).fails_with(1, &["no record found"]);
    assert_eq!(inspect(cx, &second)["Ref"], second.as_str());
}

fn a_failed_build_is_remembered_with_its_line(cx: &Cx<'_>) {
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nARG mine=failing-build\nRUN echo before; exit 3\n",
    );
    buildx(cx, &[]).fails_with(1, &["exit code: 3"]);
    let list =
        history(cx, &["ls", "--filter", "status=error", "--no-trunc", "--format", "{{.Ref}}"]);
    let failed = list.ok().lines().next().unwrap_or_default().to_owned();
    let told = history(cx, &["inspect", &failed]);
    for part in ["Dockerfile:3", "exit code: 3", ">>> RUN echo before; exit 3", "before"] {
        assert!(told.ok().contains(part), "{part:?}\n{}", told.describe());
    }
}

fn builds_under_way_and_cancelled_ones_are_told(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("counts the builds of a daemon of its own");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "under-way");
    own.write("context/Dockerfile", "FROM busybox\nRUN echo it runs; sleep 1357\n");
    let mut build = plugged(&own);
    build.args(["buildx", "build", "--progress", "plain", "context"]);
    let log = std::fs::File::create(own.dir().join("log")).unwrap();
    let mut child = build.stderr(log).stdout(Stdio::null()).spawn().unwrap();
    own.until("the step runs", || {
        let log = std::fs::read_to_string(own.dir().join("log")).unwrap_or_default();
        log.contains(" it runs").then_some(())
    });
    let running = history(&own, &["ls", "--format", "{{.Status}}"]);
    assert_eq!(running.ok(), "Running", "{}", running.describe());
    child.kill().unwrap();
    child.wait().unwrap();
    own.until("it is told as cancelled", || {
        let args = ["ls", "--filter", "status=canceled", "--format", "{{.Status}}"];
        (history(&own, &args).ok() == "Error").then_some(())
    });
    daemon.empty_and_stop().unwrap();
}

fn the_history_outlives_the_engine(cx: &Cx<'_>) {
    if !cx.daemon.is_own() {
        skip("restarts a daemon of its own");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "outlives");
    own.write("context/Dockerfile", "FROM busybox\nRUN echo said before the end\n");
    let (output, name) = done(&own, &[]);
    output.ok();
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    assert_eq!(inspect(&own, &name)["Status"], "completed");
    let logs = history(&own, &["logs", &name]);
    assert!(logs.stderr.contains(" said before the end"), "{}", logs.describe());
    history(&own, &["rm", "--all"]).ok();
    assert_eq!(history(&own, &["ls", "--format", "{{.Ref}}"]).ok(), "");
    let left = std::fs::read_dir(daemon.path("root").join("buildkit/history")).unwrap().count();
    assert_eq!(left, 0, "files go with their records");
    daemon.empty_and_stop().unwrap();
}

fn an_image_knows_who_built_it_from_what(cx: &Cx<'_>) {
    let tag = format!("{}:latest", cx.name("known"));
    let dockerfile = "FROM busybox AS a\nARG who\nRUN echo known > /f\n";
    cx.write("context/Dockerfile", dockerfile);
    let args = ["-t", &tag, "--build-arg", "who=not-to-be-kept", "--target", "a"];
    buildx(cx, &args).ok();
    let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
    let build = &image["Gantry"]["Builds"][0];
    assert_eq!(build["Frontend"], "dockerfile.v0", "{image:#}");
    assert_eq!(build["Dockerfile"], dockerfile);
    assert_eq!(build["ArgNames"], serde_json::json!(["who"]));
    assert_eq!(build["Target"], "a");
    assert_eq!(build["By"]["uid"], 0);
    assert!(build["Started"].is_string() && build["Finished"].is_string(), "{build:#}");
    let base = cx.docker(&["image", "inspect", "-f", "{{.Id}}", "busybox"]);
    assert_eq!(build["Base"], base.ok());
    assert!(!build.to_string().contains("not-to-be-kept"), "{build:#}");
}

//! Front ends that are images (`# syntax=NAME`), and what they may not do.

use super::{buildx, plugged};
use serde_json::Value;
use testkit::{Cx, Daemon, Output, cases, command, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    an_image_is_a_front_end,
    its_containers_speak_and_end,
    its_failures_are_told,
    what_it_attests_is_attached,
    a_front_end_that_asks_for_itself_is_stopped,
    hostile_names_and_graphs_reach_nothing,
];

/// An image with the tests' front end in it.
#[track_caller]
fn front(cx: &Cx<'_>, raw: &str) -> String {
    let program = testkit::image::cache_dir().join("bin").join("frontend");
    if !program.exists() {
        skip("the front end is not there: scripts/setup --tests builds it");
    }
    cx.write("front/frontend", std::fs::read(program).unwrap());
    let env = if raw.is_empty() { String::new() } else { format!("ENV TEST_RAW={raw}\n") };
    let label = "LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs\n";
    let dockerfile = format!(
        "FROM scratch\n{env}{label}COPY --chmod=755 frontend /frontend\nENTRYPOINT [\"/frontend\"]\n"
    );
    cx.write("front/Dockerfile", dockerfile);
    let tag = format!("{}:latest", cx.name("front"));
    command::run(plugged(cx).args(["buildx", "build", "-t", &tag, "front"]), b"").ok();
    tag
}

#[track_caller]
fn build(cx: &Cx<'_>, front: &str, text: &str, args: &[&str]) -> Output {
    cx.write("context/Dockerfile", format!("# syntax={front} and more\n{text}"));
    buildx(cx, args)
}

fn only_amd64() {
    if std::env::consts::ARCH != "x86_64" {
        skip("the tests' front end makes definitions for amd64");
    }
}

fn an_image_is_a_front_end(cx: &Cx<'_>) {
    only_amd64();
    let front = front(cx, "");
    let tag = format!("{}:latest", cx.name("img"));
    let args = ["-t", &tag, "--build-arg", "who=me"];
    let output = build(cx, &front, "base busybox\nwrite a word\nenv who\n", &args);
    output.ok();
    for part in [&format!("docker-image://docker.io/library/{front}"), "[front] load Dockerfile"] {
        assert!(output.stderr.contains(part), "{part} {}", output.describe());
    }
    assert_eq!(super::sh(cx, &tag, "cat /said; echo; cat /env"), "a word\nme");
    let again = build(cx, &front, "base busybox\nwrite a word\nenv who\n", &args);
    again.ok();
    assert_eq!(super::cached(&again), 2, "{}", again.describe());
    // A client may name it over the file's head.
    cx.write("context/Dockerfile", "base busybox\nwrite given\n");
    let syntax = format!("BUILDKIT_SYNTAX={front}");
    buildx(cx, &["-t", &tag, "--build-arg", &syntax]).ok();
    assert_eq!(super::sh(cx, &tag, "cat /said"), "given");
    let left = cx.api().get("/containers/json?all=1").expect(200).to_string();
    assert!(!left.contains(&front), "{left}");
}

fn its_containers_speak_and_end(cx: &Cx<'_>) {
    only_amd64();
    let front = front(cx, "");
    let tag = format!("{}:latest", cx.name("img"));
    let text = "base busybox\nwrite x\nrun cat; cat /said; echo error >&2; exit 9\nbeside\n";
    build(cx, &front, text, &["-t", &tag]).ok();
    let said = super::sh(cx, &tag, "cat /ran; cat /beside");
    assert_eq!(said, "from the inputxcode 9error\n1\nsecond 5 first 7");
}

fn its_failures_are_told(cx: &Cx<'_>) {
    only_amd64();
    let front = front(cx, "");
    build(cx, &front, "fail\n", &[]).fails_with(1, &["the front end says no"]);
    build(cx, &front, "die\n", &[])
        .fails_with(1, &["ended with exit code 3 and without a result: last words"]);
    let missing = "localhost:1/none/such:1";
    build(cx, missing, "x\n", &[]).fails_with(1, &["localhost:1"]);
    cx.write("context/Dockerfile", "# syntax=busybox\nFROM busybox\n");
    buildx(cx, &[]).fails_with(1, &["busybox", "stat /run: no such file or directory"]);
}

fn what_it_attests_is_attached(cx: &Cx<'_>) {
    only_amd64();
    let front = front(cx, "");
    let statements = |args: &[&str]| -> Vec<Value> {
        let folder = cx.dir().join("layout");
        _ = std::fs::remove_dir_all(&folder);
        let output = ["-o", "type=oci,tar=false,dest=layout"];
        build(cx, &front, "base busybox\nattest\n", &[&output, args].concat()).ok();
        let blobs = std::fs::read_dir(folder.join("blobs/sha256")).unwrap().flatten();
        let read = blobs.filter_map(|b| {
            serde_json::from_slice::<Value>(&std::fs::read(b.path()).unwrap()).ok()
        });
        read.filter(|json| json["predicateType"].is_string()).collect()
    };
    let all = statements(&[]);
    let said = |kind: &str| {
        let found = all.iter().find(|s| s["predicateType"] == kind);
        found.unwrap_or_else(|| panic!("{kind} {all:#?}"))
    };
    assert_eq!(said("https://test.example/said")["predicate"]["said"], "by the front end");
    let subjects = said("https://test.example/said")["subject"].as_array().unwrap();
    assert!(subjects.iter().any(|s| s["name"] == "another"), "{subjects:?}");
    assert_eq!(said("https://test.example/bundled")["predicate"]["said"], "in a bundle");
    assert_eq!(all.len(), 2, "{all:#?}");
    let both = statements(&["--provenance", "true"]);
    assert_eq!(both.len(), 3, "{both:#?}");
    // An archive in Docker's form has no place for them, and files have them beside.
    build(cx, &front, "base busybox\nattest\n", &["-o", "type=docker,dest=docker.tar"]).ok();
    build(cx, &front, "base busybox\nattest\n", &["-o", "files"]).ok();
    let beside = std::fs::read_to_string(cx.dir().join("files/said.json")).unwrap();
    assert!(beside.contains("by the front end"), "{beside}");
}

fn a_front_end_that_asks_for_itself_is_stopped(cx: &Cx<'_>) {
    only_amd64();
    let front = front(cx, "");
    build(cx, &front, "again\n", &[]).fails_with(1, &["stand above one another"]);
}

fn hostile_names_and_graphs_reach_nothing(_: &Cx<'_>) {
    only_amd64();
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    {
        let cx = &Cx::new(&daemon, "hostile");
        let canary = daemon.path("root").join("canary");
        std::fs::write(&canary, "the canary").unwrap();
        let front = front(cx, canary.to_str().unwrap());
        let tag = format!("{}:latest", cx.name("img"));
        build(cx, &front, "", &["-t", &tag]).ok();
        let image = cx.api().get(&format!("/images/{tag}/json")).expect(200);
        let told: Value =
            serde_json::from_str(image["Config"]["Labels"]["told"].as_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "the canary", "{told:#}");
        assert!(!told.to_string().contains("the canary"), "{told:#}");
        let told = told.as_object().unwrap();
        // What stays inside is done, all else is refused.
        let done = [
            "own",
            "cache",
            "new container",
            "process",
            "release",
            "diff of nothing",
            "size of a tmpfs",
        ];
        for (name, came) in told {
            let came = came.as_str().unwrap();
            let fits = match done.contains(&name.as_str()) {
                true => came.starts_with("got: "),
                false => came.starts_with("refused: "),
            };
            assert!(fits, "{name}: {came}\n{told:#?}");
        }
        assert!(told.len() > 50, "all was tried: {told:#?}");
        assert!(told["process"].as_str().unwrap().contains("hostile"), "{told:#?}");
        let found = command::run(
            std::process::Command::new("find").arg(daemon.path("")).args(["-name", "canary"]),
            b"",
        );
        let outside = found.stdout.lines().filter(|l| {
            let root = daemon.path("root");
            let inside = ["layers", "buildkit/mounts", "trash", "builds", "tmp"];
            !inside.iter().any(|i| l.starts_with(root.join(i).to_str().unwrap()))
        });
        assert_eq!(outside.count(), 1, "{}", found.describe());
        assert!(daemon.answers(), "{}", daemon.log_tail());
        let left = || std::fs::read_dir(daemon.path("root/containers")).unwrap().count();
        cx.until("no container is left", || (left() == 0).then_some(()));
        assert_eq!(super::sh(cx, "busybox", "echo fine"), "fine");
    }
    daemon.empty_and_stop().unwrap();
}

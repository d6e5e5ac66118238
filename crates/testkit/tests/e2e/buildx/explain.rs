//! `gantry build explain`: a build that differs from the one before in exactly one thing names that thing.

use super::{buildx, plugged};
use serde_json::Value;
use testkit::{Cx, Daemon, Output, cases, command, daemon::Options, suite::Case};

// Alone: those that ask about the newest build of the daemon.
pub const CASES: &[Case] = cases![
    what_was_pruned_or_failed_is_told,
    builds_of_buildx_are_explained_too;
    alone: each_change_is_named,
    steps_that_follow_name_what_they_follow,
    a_new_base_image_is_named,
];

const FILE: &str = "FROM busybox\nARG WHO\nENV FIXED=1\nRUN --mount=type=secret,id=s echo $WHO $FIXED > /who\nCOPY . /context/\n";

/// Builds with our command line and gives the reasons of its steps: `[2/3] RUN ...` with kind and name of each.
#[track_caller]
fn reasons(cx: &Cx<'_>, args: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
    let context = cx.dir().join("context").display().to_string();
    build(cx, &[args, &[&context]].concat()).ok();
    told(cx, "")
}

/// `gantry build -q`, by BuildKit's protocol.
fn build(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(cx.gantry_build().arg("-q").args(args), b"")
}

#[track_caller]
fn told(cx: &Cx<'_>, name: &str) -> Vec<(String, Vec<(String, String)>)> {
    let told = cx.gantry(&["build", "explain", "--format", "json", name]);
    let told: Value = serde_json::from_str(told.ok()).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let misses = |step: &Value| {
        let all = step["Misses"].as_array().unwrap().iter();
        all.map(|m| (text(&m["Kind"]), text(&m["Name"]))).collect()
    };
    let steps = told["Steps"].as_array().unwrap().iter();
    let ran = steps.filter(|s| s["State"] != "cached");
    ran.map(|s| (text(&s["Name"]), misses(s))).collect()
}

/// The reasons of the step whose name holds `word`, which must be there.
#[track_caller]
fn of(all: &[(String, Vec<(String, String)>)], word: &str) -> Vec<(String, String)> {
    let found = all.iter().find(|(name, _)| name.contains(word));
    found.unwrap_or_else(|| panic!("{word} was cached: {all:?}")).1.clone()
}

fn is(kind: &str, name: &str) -> Vec<(String, String)> {
    vec![(kind.to_owned(), name.to_owned())]
}

/// Without the file's own name, which no other case has, steps of other cases would be taken for these.
fn prepare(cx: &Cx<'_>, dockerfile: &str) {
    let marked = dockerfile.replace("/who", &format!("/{}", cx.name("who")));
    cx.write("context/Dockerfile", marked);
    cx.write("context/sub/file", "1");
    cx.write("context/.dockerignore", "Dockerfile\n.dockerignore\n");
    cx.write("secret", "x");
}

fn each_change_is_named(cx: &Cx<'_>) {
    prepare(cx, FILE);
    let secret = ["--secret", "id=s,src=secret"];
    let with = |args: &[&str]| reasons(cx, &[&secret, args].concat());
    let first = with(&["--build-arg", "WHO=a"]);
    assert_eq!(of(&first, "RUN"), is("new", ""), "{first:?}");
    assert_eq!(with(&["--build-arg", "WHO=a"]), []);
    let argument = with(&["--build-arg", "WHO=b"]);
    assert_eq!(of(&argument, "RUN"), is("argument", "WHO"));
    with(&["--build-arg", "WHO=a"]);
    cx.write("context/sub/file", "2");
    let file = with(&["--build-arg", "WHO=a"]);
    assert_eq!(file.len(), 1, "{file:?}");
    assert_eq!(of(&file, "COPY"), is("file", "sub/file"));
    cx.write("context/new", "3");
    let added = with(&["--build-arg", "WHO=a"]);
    assert_eq!(of(&added, "COPY"), is("file", "new"));
    std::fs::remove_file(cx.dir().join("context/new")).unwrap();
    // Nothing but a time changed.
    cx.write("context/sub/file", "2");
    assert_eq!(with(&["--build-arg", "WHO=a"]), []);
    prepare(cx, &FILE.replace("FIXED=1", "FIXED=2"));
    cx.write("context/sub/file", "2");
    assert_eq!(of(&with(&["--build-arg", "WHO=a"]), "RUN"), is("variable", "FIXED"));
    prepare(cx, &FILE.replace("id=s ", "id=s,mode=0444 "));
    let secret = with(&["--build-arg", "WHO=a"]);
    assert_eq!(of(&secret, "RUN"), is("instruction", ""), "the text of the step is another");
    prepare(cx, &FILE.replace("COPY . /context/", "COPY sub /context/"));
    assert_eq!(of(&with(&["--build-arg", "WHO=a"]), "COPY"), is("instruction", ""));
    let forced = with(&["--build-arg", "WHO=a", "--no-cache"]);
    assert_eq!(of(&forced, "RUN"), is("no-cache", ""));
    let shown = cx.gantry(&["build", "explain"]);
    assert!(shown.ok().contains("the build was asked to do it again"), "{}", shown.describe());
    let back = cx.gantry(&["build", "explain", "^1"]);
    assert!(back.ok().contains("instruction changed: it was "), "{}", back.describe());
    cx.gantry(&["build", "explain", "none-such"]).fails_with(1, &["no record found"]);
    // Values are nowhere in what is kept of steps.
    let kept = cx.daemon.path("root").join("buildkit/history");
    if cx.daemon.is_own() && kept.exists() {
        let value = "value-that-nobody-keeps";
        with(&["--build-arg", &format!("WHO={value}")]);
        let steps = std::fs::read_dir(kept).unwrap().flatten().filter(|e| {
            let bytes = std::fs::read(e.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            text.contains("\"parts\"") && text.contains(value)
        });
        assert_eq!(steps.count(), 0);
    }
}

fn steps_that_follow_name_what_they_follow(cx: &Cx<'_>) {
    let name = cx.name("follows");
    let file = |word: &str| {
        format!(
            "FROM busybox AS one\nRUN --mount=type=bind,target=/c cat /c/seed > /{name}\nFROM busybox\nRUN echo {word}\nCOPY --from=one /{name} /\nRUN echo last-of-{name}\n"
        )
    };
    cx.write("context/seed", "1");
    cx.write("context/Dockerfile", file("a"));
    reasons(cx, &[]);
    cx.write("context/seed", "2");
    let all = reasons(cx, &[]);
    assert_eq!(of(&all, "RUN --mount"), is("file", "seed"));
    assert_eq!(of(&all, "COPY"), is("file", &name));
    let last = of(&all, "last-of");
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].0, "parent");
    assert!(last[0].1.contains("COPY --from=one"), "{last:?}");
    assert!(!all.iter().any(|(step, _)| step.contains("echo a")), "{all:?}");
}

fn a_new_base_image_is_named(cx: &Cx<'_>) {
    let base = format!("{}:latest", cx.name("base"));
    let make = |word: &str| {
        cx.write("base/Dockerfile", format!("FROM busybox\nRUN echo {word} > /base\n"));
        build(cx, &["-t", &base, "base"]).ok();
    };
    make("one");
    cx.write("context/Dockerfile", format!("FROM {base}\nRUN cat /base > /{}\n", cx.name("c")));
    reasons(cx, &[]);
    make("two");
    let all = reasons(cx, &[]);
    let found = of(&all, "RUN cat");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "base");
    assert!(found[0].1.ends_with(&base), "{found:?}");
}

fn what_was_pruned_or_failed_is_told(_: &Cx<'_>) {
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    {
        let cx = &Cx::new(&daemon, "pruned");
        cx.write("context/Dockerfile", "FROM busybox\nRUN echo kept > /f\n");
        reasons(cx, &[]);
        assert_eq!(reasons(cx, &[]), []);
        cx.docker(&["image", "prune", "-af"]);
        daemon.load_busybox().unwrap();
        let gone = cx.api().post("/build/prune?all=1", &Value::Null);
        assert_eq!(gone.status(), 200);
        assert_eq!(of(&reasons(cx, &[]), "RUN"), is("pruned", ""));
        cx.write(
            "context/Dockerfile",
            "FROM busybox\nRUN --mount=type=secret,id=s,required=true true\n",
        );
        let context = cx.dir().join("context").display().to_string();
        build(cx, &[&context]).fails_with(1, &["secret s: not found"]);
        assert_eq!(of(&told(cx, ""), "RUN"), is("instruction", ""));
        cx.write("secret", "x");
        let again = reasons(cx, &["--secret", "id=s,src=secret"]);
        assert_eq!(of(&again, "RUN"), is("failed-before", ""));
        // It is known after a restart of the engine too.
        daemon.kill().unwrap();
        daemon.start_again().unwrap();
        assert_eq!(of(&told(cx, ""), "RUN"), is("failed-before", ""));
    }
    daemon.empty_and_stop().unwrap();
}

fn builds_of_buildx_are_explained_too(cx: &Cx<'_>) {
    prepare(cx, FILE);
    cx.write("context/many/0", "x");
    for n in 1..30 {
        cx.write(&format!("context/many/{n}"), "x");
    }
    let meta = cx.dir().join("meta");
    let args = ["--secret", "id=s,src=secret", "--metadata-file", meta.to_str().unwrap()];
    buildx(cx, &args).ok();
    for n in 0..30 {
        cx.write(&format!("context/many/{n}"), "y");
    }
    buildx(cx, &args).ok();
    let meta: Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    let files = of(&told(cx, meta["buildx.build.ref"].as_str().unwrap()), "COPY");
    assert_eq!(files.len(), 11, "ten are named, and how many more: {files:?}");
    assert!(files.iter().all(|(kind, _)| kind == "file"), "{files:?}");
    // The record's names stay the ones that buildx knows.
    let list = command::run(plugged(cx).args(["buildx", "history", "ls"]), b"");
    list.ok();
}

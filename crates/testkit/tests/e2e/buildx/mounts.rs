//! List D: mounts of steps that want out of the build. A canary lies outside; nothing may be read of it, written beside it
//! or removed from it.

use super::{buildx, built, sh};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    sources_within_caches_stay_inside,
    sources_that_change_under_a_step_stay_inside,
    what_was_made_for_a_mount_goes_from_inside_alone,
    what_is_written_to_a_bound_context_stays_in_its_step,
];

const WORD: &str = "of-the-canary";

/// A folder of the host that holds a word, an empty folder and an empty file.
fn canary(cx: &Cx<'_>) -> PathBuf {
    let dir = cx.write("canary/word", WORD).parent().unwrap().to_owned();
    fs::create_dir(dir.join("m")).unwrap();
    fs::write(dir.join("s"), "").unwrap();
    dir
}

#[track_caller]
fn untouched(dir: &Path) {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["m", "s", "word"]);
    assert_eq!(fs::read_to_string(dir.join("word")).unwrap(), WORD);
    assert_eq!(fs::read_dir(dir.join("m")).unwrap().count(), 0);
}

/// Shows what is mounted at `/m`, and writes there.
const LOOK: &str = "cat /m/word /m; ls /m; echo stolen > /m/stolen; rm -rf /m/s; true";

/// D1: `source` of a cache that leads out by its name or by a link.
fn sources_within_caches_stay_inside(cx: &Cx<'_>) {
    let dir = canary(cx);
    let (path, id) = (dir.display().to_string(), cx.name("cache"));
    let up = format!("../../../../../../../../../../..{path}");
    let fill = format!(
        "FROM busybox\nRUN --mount=type=cache,id={id},target=/c ln -s {path} /c/link; ln -s {up} /c/up; ln -s / /c/root; mkdir /c/own; echo within > /c/own/f\n"
    );
    built(cx, &fill, &["--no-cache"]);
    for source in ["link", "up", &format!("root{path}"), &up, &path, "own/../../..", "/link"] {
        cx.write(
            "context/Dockerfile",
            format!(
                "FROM busybox\nRUN --mount=type=cache,id={id},source={source},target=/m {LOOK}\n"
            ),
        );
        let output = buildx(cx, &["--no-cache"]);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!said.contains(WORD), "source={source}\n{}", output.describe());
        untouched(&dir);
    }
    // A link as the target is one of the step's own root.
    let target = format!(
        "FROM busybox\nRUN mkdir -p {path} && ln -s {path} /m\nRUN --mount=type=cache,id={id},source=own,target=/m {LOOK}\n"
    );
    built(cx, &target, &["--no-cache"]);
    untouched(&dir);
    let own =
        format!("FROM busybox\nRUN --mount=type=cache,id={id},target=/m cat /m/own/f > /seen\n");
    assert_eq!(sh(cx, &built(cx, &own, &["--no-cache"]), "cat /seen"), "within");
}

/// D1: one step swaps a folder of the cache for a link while others mount it.
fn sources_that_change_under_a_step_stay_inside(cx: &Cx<'_>) {
    let dir = canary(cx);
    let (path, id) = (dir.display().to_string(), cx.name("cache"));
    let dockerfile = |text: &str| format!("FROM busybox\n{text}\n");
    let swap = format!(
        "RUN --mount=type=cache,id={id},target=/c mkdir -p /c/a; ln -sfn {path} /c/b; while ! test -e /c/over; do mv /c/sub /c/a.old 2>/dev/null; mv /c/b /c/sub; mv /c/sub /c/b; mv /c/a.old /c/sub 2>/dev/null || mkdir -p /c/sub; done; rm /c/over"
    );
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            cx.write("racer/Dockerfile", dockerfile(&swap));
            let args = ["buildx", "build", "--no-cache", "racer"];
            let output = testkit::command::run(super::plugged(cx).args(args), b"");
            over.store(true, Ordering::Relaxed);
            output
        });
        let mut outputs = Vec::new();
        for _ in 0..8 {
            let step = format!("RUN --mount=type=cache,id={id},source=sub,target=/m {LOOK}");
            cx.write("context/Dockerfile", dockerfile(&step));
            outputs.push(buildx(cx, &["--no-cache"]));
        }
        assert!(!over.load(Ordering::Relaxed), "the racer ended before the race");
        let end = format!("RUN --mount=type=cache,id={id},target=/c touch /c/over");
        built(cx, &dockerfile(&end), &["--no-cache"]);
        racer.join().unwrap().ok();
        for output in outputs {
            let said = format!("{}{}", output.stdout, output.stderr);
            assert!(!said.contains(WORD), "{}", output.describe());
        }
    });
    untouched(&dir);
}

/// D2: a step moves the folder of its mounts away and puts a link in its place; what the engine made there for them goes
/// afterwards, and nothing of the host.
fn what_was_made_for_a_mount_goes_from_inside_alone(cx: &Cx<'_>) {
    let dir = canary(cx);
    let path = dir.display();
    cx.write("secret", "secret");
    for mounts in [
        "--mount=type=cache,target=/d/m",
        "--mount=type=tmpfs,target=/d/m",
        "--mount=type=bind,target=/d/m",
        "--mount=type=secret,id=s,target=/d/s",
    ] {
        let dockerfile = format!(
            "FROM busybox\nRUN mkdir -p {path}/m && touch {path}/s\nRUN {mounts} mv /d /e && ln -s {path} /d && echo done > /done\n"
        );
        let tag = built(cx, &dockerfile, &["--no-cache", "--secret", "id=s,src=secret"]);
        untouched(&dir);
        assert_eq!(sh(cx, &tag, "cat /done; cat /e/s 2>/dev/null; true"), "done", "{mounts}");
    }
}

/// D7: what is written into a bound context is seen by no other step, nor by the host.
fn what_is_written_to_a_bound_context_stays_in_its_step(cx: &Cx<'_>) {
    cx.write("context/f", "as it was");
    cx.write("context/g", "there");
    let dockerfile = "FROM busybox\n\
RUN --mount=type=bind,target=/c,rw echo changed > /c/f && rm /c/g && echo new > /c/new && ls /c > /first\n\
RUN --mount=type=bind,target=/c cat /c/f > /second && ls /c >> /second\n\
COPY . /w\n";
    let tag = built(cx, dockerfile, &["--no-cache"]);
    let seen = sh(cx, &tag, "cat /first; cat /second; cat /w/f; ls /w");
    assert_eq!(seen, "Dockerfile\nf\nnew\nas it wasDockerfile\nf\ng\nas it wasDockerfile\nf\ng",);
    let context = cx.dir().join("context");
    assert_eq!(fs::read_to_string(context.join("f")).unwrap(), "as it was");
    assert!(context.join("g").exists() && !context.join("new").exists());
}

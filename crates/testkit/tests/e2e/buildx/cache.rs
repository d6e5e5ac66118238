//! Caches outside the engine: another engine, with nothing in its store, finds the steps there.

use super::{buildx, cached, plugged};
use serde_json::Value;
use testkit::{Cx, Daemon, cases, command, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    a_cache_in_a_registry_serves_another_engine,
    a_cache_in_a_folder_serves_another_engine,
    a_cache_inside_an_image_serves_another_engine,
    a_cache_that_is_not_there_is_done_without,
];

const STAGES: &str = "FROM busybox AS tool\n\
RUN cat /proc/sys/kernel/random/uuid > /made; echo tool-$((40+2))\n\
FROM busybox\n\
COPY f /f\n\
RUN cat /proc/sys/kernel/random/uuid > /when; cat /f; echo result-$((40+2))\n\
COPY --from=tool /made /tool\n";

fn context(cx: &Cx<'_>) {
    cx.write("context/f", "in the context");
    cx.write("context/Dockerfile", STAGES);
}

/// What the result holds: names, which no second run of the steps gives again.
fn made(cx: &Cx<'_>, tag: &str) -> String {
    cx.docker(&["run", "--rm", "--network", "none", tag, "cat", "/when", "/tool"]).ok().to_owned()
}

/// Runs `check` on an engine that has nothing but busybox.
fn elsewhere(cx: &Cx<'_>, check: impl Fn(&Cx<'_>)) {
    if !cx.daemon.is_own() {
        skip("needs a second daemon");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    let other = Cx::new(&daemon, "elsewhere");
    context(&other);
    check(&other);
    daemon.empty_and_stop().unwrap();
}

fn a_cache_in_a_registry_serves_another_engine(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    context(cx);
    let tag = cx.name("img");
    let (max, min, index) = (
        format!("{}/cache/all:max", registry.host()),
        format!("{}/cache/all:min", registry.host()),
        format!("{}/cache/all:zstd", registry.host()),
    );
    let first = buildx(
        cx,
        &[
            "-t",
            &tag,
            "--cache-to",
            &format!("type=registry,ref={max},mode=max"),
            "--cache-to",
            &format!("type=registry,ref={min}"),
            "--cache-to",
            &format!("type=registry,ref={index},mode=max,compression=zstd,force-compression=true"),
        ],
    );
    first.ok();
    assert!(first.stderr.contains("exporting cache to registry"), "{}", first.describe());
    let here = made(cx, &tag);
    for name in [&max, &index] {
        elsewhere(cx, |other| {
            let from = format!("type=registry,ref={name}");
            let again = buildx(other, &["-t", "again", "--cache-from", &from]);
            again.ok();
            assert_eq!(cached(&again), 4, "{}", again.describe());
            assert!(!again.stderr.contains("-42"), "{}", again.describe());
            assert_eq!(made(other, "again"), here);
            // What came from there is in this engine's own cache from then on.
            let alone = buildx(other, &[]);
            alone.ok();
            assert_eq!(cached(&alone), 4, "{}", alone.describe());
        });
    }
    elsewhere(cx, |other| {
        let from = format!("type=registry,ref={min}");
        let again = buildx(other, &["-t", "again", "--cache-from", &from]);
        again.ok();
        assert!(again.stderr.contains("tool-42"), "{}", again.describe());
        assert!(!again.stderr.contains("result-42"), "{}", again.describe());
    });
    let raw =
        command::run(plugged(cx).args(["buildx", "imagetools", "inspect", "--raw", &max]), b"");
    let manifest: Value = serde_json::from_str(raw.ok()).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.buildkit.cacheconfig.v0");
    assert!(manifest["layers"][0]["annotations"]["containerd.io/uncompressed"].is_string());
}

fn a_cache_in_a_folder_serves_another_engine(cx: &Cx<'_>) {
    context(cx);
    let tag = cx.name("img");
    let folder = cx.dir().join("cache");
    let index = cx.dir().join("index");
    let to = |folder: &std::path::Path, more: &str| {
        format!("type=local,dest={},mode=max{more}", folder.display())
    };
    buildx(cx, &["-t", &tag, "--cache-to", &to(&folder, "")]).ok();
    let plain = ",image-manifest=false,compression=uncompressed";
    buildx(cx, &["--cache-to", &to(&index, plain)]).ok();
    let here = made(cx, &tag);
    for folder in [&folder, &index] {
        assert!(folder.join("index.json").exists(), "it is an OCI layout");
        elsewhere(cx, |other| {
            let from = format!("type=local,src={}", folder.display());
            let again = buildx(other, &["-t", "again", "--cache-from", &from]);
            again.ok();
            assert_eq!(cached(&again), 4, "{}", again.describe());
            assert_eq!(made(other, "again"), here);
        });
    }
}

fn a_cache_inside_an_image_serves_another_engine(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    context(cx);
    let name = format!("{}/cache/inline:1", registry.host());
    buildx(cx, &["-t", &name, "--push", "--cache-to", "type=inline"]).ok();
    let here = made(cx, &name);
    cx.docker(&["rmi", "-f", &name]).ok();
    elsewhere(cx, |other| {
        let again = buildx(other, &["-t", "again", "--cache-from", &name]);
        again.ok();
        assert!(!again.stderr.contains("result-42"), "{}", again.describe());
        assert_eq!(made(other, "again").lines().next(), here.lines().next());
    });
}

fn a_cache_that_is_not_there_is_done_without(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    context(cx);
    let nowhere = format!("type=registry,ref={}/no/cache:here", registry.host());
    let built = buildx(cx, &["--no-cache-filter", "tool", "--cache-from", &nowhere]);
    built.ok();
    buildx(cx, &["--cache-to", "type=odd"]).fails_with(1, &["unknown cache exporter: \"odd\""]);
    let to = "type=registry,ref=127.0.0.1:1/x,ignore-error=";
    buildx(cx, &["--cache-to", &format!("{to}true")]).ok();
    buildx(cx, &["--cache-to", &format!("{to}false")]).fails_with(1, &["127.0.0.1:1"]);
}

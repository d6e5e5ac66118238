//! The build cache: what it takes, what gives it back, and the rules by which it is collected.

use super::{buildx, cached, plugged};
use serde_json::Value;
use testkit::{Cx, Daemon, Output, cases, command, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    pruning_frees_the_cache_and_spares_images,
    rules_of_the_daemon_are_kept,
    entitlements_are_the_daemon_s_to_give,
];

fn run(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(plugged(cx).args(args), b"")
}

/// Bytes that the cache takes alone, and its descriptions.
fn cache(cx: &Cx<'_>) -> (i64, Vec<String>) {
    let df = cx.api().get("/system/df?type=build-cache").expect(200);
    let all = df["BuildCache"].as_array().unwrap();
    let own = all.iter().filter(|e| e["Shared"] == false);
    let bytes = own.map(|e| e["Size"].as_i64().unwrap()).sum();
    let names = all.iter().map(|e| e["Description"].as_str().unwrap().to_owned()).collect();
    (bytes, names)
}

fn own(config: &str, test: impl FnOnce(&Cx<'_>)) {
    let daemon = Daemon::start(Options { config: config.into(), ..Options::new() }).unwrap();
    daemon.load_busybox().unwrap();
    test(&Cx::new(&daemon, "cache"));
    daemon.empty_and_stop().unwrap();
}

fn pruning_frees_the_cache_and_spares_images(_: &Cx<'_>) {
    own("{}", |cx| {
        cx.write(
            "context/Dockerfile",
            "FROM busybox AS a\nRUN head -c 3000000 /dev/urandom > /big\nFROM busybox\nCOPY --from=a /big /copy\nRUN --mount=type=cache,target=/c head -c 2000000 /dev/urandom > /c/x\n",
        );
        buildx(cx, &["-t", "kept"]).ok();
        let (bytes, names) = cache(cx);
        assert!(bytes > 5_000_000, "{bytes} {names:?}");
        let df = cx.docker(&["system", "df", "--format", "{{.Type}} {{.Size}} {{.Reclaimable}}"]);
        let line = df.lines().into_iter().find(|l| l.starts_with("Build Cache")).unwrap();
        assert!(line.contains("MB"), "{}", df.describe());
        let du = run(cx, &["buildx", "du", "--filter", "type=exec.cachemount", "--verbose"]);
        assert!(du.ok().contains("2MB") && !du.stdout.contains("regular"), "{}", du.describe());
        let none = cx.docker(&["builder", "prune", "-f", "--filter", "until=24h"]);
        assert!(none.ok().contains("Total reclaimed space: 0B"), "{}", none.describe());
        cx.docker(&["builder", "prune", "-f", "--filter", "odd=1"]).fails_with(1, &["odd"]);
        let pruned = cx.docker(&["builder", "prune", "-f"]);
        assert!(pruned.ok().contains("Total reclaimed space: 5"), "{}", pruned.describe());
        let (bytes, names) = cache(cx);
        assert!(bytes == 0 && !names.is_empty(), "what the image has too stays: {bytes} {names:?}");
        let disk = cx.daemon.path("root");
        let big =
            command::run(std::process::Command::new("find").arg(disk).args(["-name", "big"]), b"");
        assert_eq!(big.stdout, "", "its layer is gone");
        let all = cx.api().post("/build/prune?all=1", &Value::Null).expect(200);
        assert!(!all["CachesDeleted"].as_array().unwrap().is_empty(), "{all}");
        assert_eq!(cache(cx).1, Vec::<String>::new());
        let size = cx.docker(&["run", "--rm", "kept", "stat", "-c", "%s", "/copy"]);
        assert_eq!(size.ok(), "3000000", "the image is whole");
        let again = buildx(cx, &["-t", "kept"]);
        again.ok();
        assert_eq!(cached(&again), 0, "{}", again.describe());
    });
}

fn rules_of_the_daemon_are_kept(_: &Cx<'_>) {
    let config = r#"{"builder": {"gc": {"policy": [{"maxUsedSpace": "4MB", "all": true}]}}}"#;
    own(config, |cx| {
        let shown = run(cx, &["buildx", "inspect"]);
        assert!(shown.ok().contains("Max Used Space: 4MiB"), "{}", shown.describe());
        for name in ["one", "two", "three"] {
            cx.write(
                "context/Dockerfile",
                format!("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big; echo {name}\n"),
            );
            buildx(cx, &["-o", "type=cacheonly"]).ok();
        }
        cx.until("the cache is within its limit", || (cache(cx).0 <= 4 << 20).then_some(()));
        let (_, names) = cache(cx);
        assert!(names.iter().any(|n| n.contains("echo three")), "the newest stays: {names:?}");
        assert!(!names.iter().any(|n| n.contains("echo one")), "{names:?}");
    });
    let bad = Options { config: r#"{"builder": {"gc": {"odd": 1}}}"#.into(), ..Options::new() };
    let text = format!("{:#}", Daemon::start(bad.without_bridge()).unwrap_err());
    assert!(text.contains("builder.gc") && text.contains("odd"), "{text}");
}

fn entitlements_are_the_daemon_s_to_give(cx: &Cx<'_>) {
    let dockerfile = "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --security=insecure grep CapEff /proc/self/status\n";
    cx.write("context/Dockerfile", dockerfile);
    buildx(cx, &[]).fails_with(1, &["security.insecure is not allowed"]);
    let allow = ["--allow", "security.insecure"];
    buildx(cx, &allow).fails_with(1, &["not allowed by build daemon configuration"]);
    let config =
        r#"{"builder": {"entitlements": {"security-insecure": true, "network-host": false}}}"#;
    own(config, |cx| {
        cx.write("context/Dockerfile", dockerfile);
        let output = buildx(cx, &allow);
        output.ok();
        // All that this machine gives to anybody.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let full = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap().trim();
        let line = output.stderr.lines().find(|l| l.contains("CapEff:")).unwrap();
        assert_eq!(line.split_whitespace().last(), Some(full), "{}", output.describe());
        buildx(cx, &["--allow", "network.host"])
            .fails_with(1, &["network.host is not allowed by build daemon configuration"]);
    });
}

//! Log drivers and their options.

use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    local_keeps_and_rotates,
    attributes_by_pattern_and_tag,
    options_are_refused_before_anything_is_made,
    the_daemons_log_options_are_the_default,
];

fn ended(cx: &Cx<'_>, part: &str, options: &[&str], script: &str) -> String {
    let name = cx.start(part, options, &["sh", "-c", script]);
    cx.wait(&name);
    name
}

fn local_keeps_and_rotates(cx: &Cx<'_>) {
    let local = ["--log-driver", "local"];
    let name = ended(cx, "a", &local, "echo out; echo err >&2; printf 'tail <&>\"'");
    let output = cx.docker(&["logs", &name]);
    assert_eq!((output.ok(), output.stderr.trim()), ("out\ntail <&>\"", "err"));
    assert_eq!(cx.docker(&["logs", "-n", "1", &name]).ok(), "tail <&>\"");
    assert_eq!(cx.inspect(&name)["LogPath"], "");
    let small = [&local[..], &["--log-opt", "max-size=20k", "--log-opt", "max-file=3"]].concat();
    let name = ended(cx, "b", &small, "seq 1 5000");
    let output = cx.docker(&["logs", &name]);
    let lines = output.lines();
    assert_eq!(lines.last(), Some(&"5000"));
    let first: usize = lines[0].parse().unwrap();
    assert!(first > 1000, "bounded");
    assert_eq!(lines.len(), 5000 - first + 1, "no gap");
}

fn attributes_by_pattern_and_tag(cx: &Cx<'_>) {
    let options = [
        "-l=app.colour=blue",
        "-l=other=1",
        "-e=SHAPE=round",
        "-e=SIZE=9",
        "--log-opt=labels-regex=^app\\.",
        "--log-opt=env-regex=^SH",
        "--log-opt=env=SIZE",
        "--log-opt=tag={{.Name}}/{{.ImageName}}/{{(.ExtraAttributes nil).SHAPE}}",
    ];
    let name = ended(cx, "a", &options, "echo x");
    let tag = format!("{name}%2Fbusybox%2Fround");
    assert_eq!(
        cx.docker(&["logs", "--details", &name]).ok(),
        format!("SHAPE=round,SIZE=9,app.colour=blue,tag={tag} x")
    );
}

fn options_are_refused_before_anything_is_made(cx: &Cx<'_>) {
    for (driver, option, want) in [
        ("json-file", "nope=1", "unknown log opt 'nope' for json-file log driver"),
        ("local", "nope=1", "unknown log opt 'nope' for local log driver"),
        ("json-file", "max-file=0", "max-file cannot be less than 1"),
        ("json-file", "mode=fast", "logger: logging mode not supported: fast"),
        (
            "json-file",
            "max-buffer-size=1m",
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
    ] {
        cx.docker(&[
            "create",
            "--name",
            &cx.name("a"),
            "--log-driver",
            driver,
            "--log-opt",
            option,
            "busybox",
        ])
        .fails_with(1, &[want]);
    }
    assert_eq!(cx.docker(&["ps", "-aq", "--filter", &format!("name={}", cx.name("a"))]).ok(), "");
}

fn the_daemons_log_options_are_the_default(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let options = Options::new().without_bridge().args(&[
        "--log-driver=local",
        "--log-opt=max-size=1m",
        "--log-opt=cache-max-file=2",
    ]);
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let config = |options: &[&str]| {
        own.docker(&[&["create", "--name", "cc"], options, &["busybox"]].concat()).ok();
        let config = own.inspect("cc")["HostConfig"]["LogConfig"].clone();
        own.docker(&["rm", "cc"]).ok();
        config
    };
    let json = |driver: &str, options: serde_json::Value| serde_json::json!({"Type": driver, "Config": options});
    let both = serde_json::json!({"max-size": "1m", "cache-max-file": "2"});
    assert_eq!(config(&[]), json("local", both));
    let own_size = serde_json::json!({"max-size": "2m", "cache-max-file": "2"});
    assert_eq!(config(&["--log-opt", "max-size=2m"]), json("local", own_size));
    let other = serde_json::json!({"cache-max-file": "2"});
    assert_eq!(config(&["--log-driver", "json-file"]), json("json-file", other));
    assert_eq!(own.docker(&["info", "-f", "{{.LoggingDriver}}"]).ok(), "local");
    let bad = Daemon::start(Options::new().without_bridge().args(&["--log-opt=max-file=0"]));
    let text = format!("{:#}", bad.unwrap_err());
    assert!(text.contains("failed to set log opts: max-file cannot be less than 1"), "{text}");
}

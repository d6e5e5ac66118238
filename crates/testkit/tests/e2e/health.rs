//! Health checks: what probes find, what is shown of it, and what follows.

use serde_json::{Value, json};
use std::fmt::Write as _;
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    a_container_becomes_healthy_and_unhealthy,
    failures_in_the_start_period_do_not_count,
    the_log_holds_five_short_results,
    a_probe_that_hangs_is_ended,
    commands_are_run_as_the_image_says,
    checks_are_inherited_and_switched_off,
    lists_can_be_filtered_by_health,
    pauses_and_ends_make_unhealthy,
    bad_checks_are_refused,
    unhealthy_containers_are_restarted_when_asked,
];

fn health(cx: &Cx<'_>, name: &str) -> Value {
    cx.inspect(name)["State"]["Health"].clone()
}

fn becomes(cx: &Cx<'_>, name: &str, status: &str) -> Value {
    cx.until(&format!("{name} is {status}"), || {
        let health = health(cx, name);
        (health["Status"] == status).then_some(health)
    })
}

fn checked(cx: &Cx<'_>, part: &str, options: &[&str]) -> String {
    cx.sleeper(part, &[&["--health-interval", "100ms", "--health-retries", "2"], options].concat())
}

fn a_container_becomes_healthy_and_unhealthy(cx: &Cx<'_>) {
    let name = checked(cx, "a", &["--health-cmd", "echo looked; test -e /good"]);
    let first = becomes(cx, &name, "unhealthy");
    assert!(first["FailingStreak"].as_i64().unwrap() >= 2, "{first}");
    cx.docker(&["exec", &name, "touch", "/good"]).ok();
    let healthy = becomes(cx, &name, "healthy");
    assert_eq!(healthy["FailingStreak"], 0);
    let last = healthy["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(0), &json!("looked\n")));
    assert!(last["Start"].as_str().unwrap() < last["End"].as_str().unwrap());
    let status = cx.docker(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]);
    assert!(status.ok().ends_with("(healthy)"), "{}", status.describe());
    let events = cx.events(&[&format!("container={name}"), "event=health_status"], "{{.Action}}");
    if cx.is_gantry() {
        assert_eq!(events.lines(), ["health_status: unhealthy", "health_status: healthy"]);
        let execs = cx.events(&[&format!("container={name}"), "event=exec_start"], "{{.Action}}");
        assert_eq!(execs.lines(), ["exec_start: touch /good"], "probes make no events");
    }
}

fn failures_in_the_start_period_do_not_count(cx: &Cx<'_>) {
    let options = ["--health-cmd", "test -e /good", "--health-start-period", "10m"];
    let mut options = options.to_vec();
    if cx.is_gantry() {
        // In the start period this interval is the one that counts.
        options.extend(["--health-interval", "10m", "--health-start-interval", "50ms"]);
    }
    let name = checked(cx, "a", &options);
    cx.until("five probes have failed", || {
        (health(cx, &name)["Log"].as_array()?.len() == 5).then_some(())
    });
    let now = health(cx, &name);
    assert_eq!((&now["Status"], &now["FailingStreak"]), (&json!("starting"), &json!(0)));
    let status = cx.docker(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]);
    assert!(status.ok().ends_with("(health: starting)"), "{}", status.describe());
    cx.docker(&["exec", &name, "touch", "/good"]).ok();
    becomes(cx, &name, "healthy");
}

fn the_log_holds_five_short_results(cx: &Cx<'_>) {
    let name = checked(cx, "a", &["--health-cmd", "yes flood | head -c 3000000"]);
    becomes(cx, &name, "healthy");
    cx.until("more than five probes have run", || {
        let first = health(cx, &name)["Log"][0]["Start"].as_str()?.to_owned();
        let created = cx.inspect(&name)["State"]["StartedAt"].as_str()?.to_owned();
        (health(cx, &name)["Log"].as_array()?.len() == 5 && first > created).then_some(())
    });
    let now = health(cx, &name);
    let log = now["Log"].as_array().unwrap();
    assert_eq!(log.len(), 5);
    for result in log {
        let output = result["Output"].as_str().unwrap();
        assert_eq!(output.len(), 4096 + 3, "4096 bytes and three dots");
        assert!(output.starts_with("flood\n") && output.ends_with("..."));
    }
}

fn a_probe_that_hangs_is_ended(cx: &Cx<'_>) {
    let name = checked(
        cx,
        "a",
        &["--health-timeout", "300ms", "--health-cmd", "echo begun; sleep 1234 & sleep 1234; true"],
    );
    let now = becomes(cx, &name, "unhealthy");
    let first = &now["Log"][0];
    assert_eq!(first["ExitCode"], -1, "{now}");
    let output = first["Output"].as_str().unwrap();
    assert!(output.starts_with("Health check exceeded timeout (300ms)"), "{output}");
    if cx.is_gantry() {
        assert!(output.ends_with("begun\n"), "{output}");
        // What it started goes with it: there are never more than those of one probe.
        for _ in 0..5 {
            let left = cx.docker(&["exec", &name, "sh", "-c", "pgrep -f 'sleep 1234' | wc -l"]);
            let left: u32 = left.ok().trim().parse().unwrap();
            assert!(left <= 4, "{left} processes of probes");
        }
    }
}

fn commands_are_run_as_the_image_says(cx: &Cx<'_>) {
    let build = |part: &str, lines: &str| {
        let tag = cx.name(part);
        let file = format!(
            "FROM busybox\n{lines}\nCMD [\"sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep 600 & wait; done\"]\n"
        );
        cx.docker_with(&["build", "-q", "-t", &tag, "-"], file).ok();
        tag
    };
    let options = "--interval=100ms --retries=1";
    let cases = [
        ("exec", format!("HEALTHCHECK {options} CMD [\"echo\", \"$HOME\"]"), "$HOME\n"),
        ("shell", format!("HEALTHCHECK {options} CMD echo $HOME"), "/root\n"),
        (
            "user",
            format!(
                "USER alice\nWORKDIR /tmp\nENV A=b\nHEALTHCHECK {options} CMD echo $(id -un) $PWD $A"
            ),
            "alice /tmp b\n",
        ),
        (
            "own",
            format!("SHELL [\"/bin/echo\", \"own\"]\nHEALTHCHECK {options} CMD shell"),
            "own shell\n",
        ),
    ];
    for (part, lines, want) in cases {
        if part == "own" && !cx.is_gantry() {
            continue; // dockerd forgets the image's shell
        }
        let (tag, name) = (build(part, &lines), cx.name(part));
        cx.docker(&["run", "-d", "--name", &name, &tag]).ok();
        let now = becomes(cx, &name, "healthy");
        assert_eq!(now["Log"].as_array().unwrap().last().unwrap()["Output"], want, "{part}");
    }
    let name = checked(cx, "none", &["--health-cmd", "no-such-command-anywhere"]);
    let now = becomes(cx, &name, "unhealthy");
    assert_eq!(now["Log"][0]["ExitCode"], 127);
}

fn checks_are_inherited_and_switched_off(cx: &Cx<'_>) {
    let tag = cx.name("img");
    let file = "FROM busybox\nHEALTHCHECK --interval=5m --timeout=7s --retries=9 CMD true\nCMD [\"sleep\", \"600\"]\n";
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], file).ok();
    let run = |part: &str, options: &[&str]| {
        let name = cx.name(part);
        cx.docker(&[&["run", "-d", "--name", &name], options, &[&tag]].concat()).ok();
        cx.inspect(&name)
    };
    let plain = run("a", &[]);
    let check = &plain["Config"]["Healthcheck"];
    assert_eq!((&check["Retries"], &check["Interval"]), (&json!(9), &json!(300_000_000_000_i64)));
    assert_eq!(plain["State"]["Health"]["Status"], "starting");
    let partly = run("b", &["--health-retries", "2"]);
    let check = &partly["Config"]["Healthcheck"];
    assert_eq!((&check["Retries"], &check["Test"]), (&json!(2), &json!(["CMD-SHELL", "true"])));
    let off = run("c", &["--no-healthcheck"]);
    assert_eq!(off["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
    if cx.is_gantry() {
        assert!(off["State"]["Health"].is_null(), "{}", off["State"]);
    }
    cx.docker(&["rm", "-f", &cx.name("a"), &cx.name("b"), &cx.name("c")]).ok();
}

fn lists_can_be_filtered_by_health(cx: &Cx<'_>) {
    let good = checked(cx, "good", &["--health-cmd", "true"]);
    let bad = checked(cx, "bad", &["--health-cmd", "false"]);
    let young = checked(cx, "young", &["--health-cmd", "true", "--health-interval", "1h"]);
    let none = cx.sleeper("none", &[]);
    becomes(cx, &good, "healthy");
    becomes(cx, &bad, "unhealthy");
    for (status, want) in
        [("healthy", &good), ("unhealthy", &bad), ("starting", &young), ("none", &none)]
    {
        let list = cx.docker(&[
            "ps",
            "--filter",
            &format!("health={status}"),
            "--filter",
            &format!("name={}", cx.name("")),
            "--format",
            "{{.Names}}",
        ]);
        assert_eq!(list.lines(), [want.as_str()], "{status}");
    }
    cx.docker(&["ps", "--filter", "health=bogus"]).fails(1);
}

fn pauses_and_ends_make_unhealthy(cx: &Cx<'_>) {
    let name = checked(cx, "a", &["--health-cmd", "true"]);
    becomes(cx, &name, "healthy");
    cx.docker(&["pause", &name]).ok();
    assert_eq!(health(cx, &name)["Status"], "unhealthy");
    cx.docker(&["unpause", &name]).ok();
    becomes(cx, &name, "healthy");
    cx.docker(&["kill", &name]).ok();
    cx.wait(&name);
    assert_eq!(health(cx, &name)["Status"], "unhealthy");
    cx.docker(&["start", &name]).ok();
    becomes(cx, &name, "healthy");
}

fn bad_checks_are_refused(cx: &Cx<'_>) {
    let check = |extra: Value| {
        let mut check = json!({"Test": ["CMD", "true"]});
        for (key, value) in extra.as_object().unwrap() {
            check[key] = value.clone();
        }
        let body = json!({"Image": "busybox", "Healthcheck": check});
        cx.api().post(&format!("/v1.44/containers/create?name={}", cx.name("x")), &body)
    };
    if !cx.is_gantry() {
        return; // 1.41 has no start interval; its 500s are no model
    }
    for (extra, text) in [
        (json!({"Interval": 1000}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Timeout": -5}), "Timeout in Healthcheck cannot be less than 1ms"),
        (json!({"StartPeriod": 1}), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (json!({"StartInterval": 1}), "StartInterval in Healthcheck cannot be less than 1ms"),
        (json!({"Retries": -1}), "Retries in Healthcheck cannot be negative"),
        (json!({"Test": ["BOGUS", "x"]}), "unknown type of Healthcheck"),
        (json!({"Test": ["CMD"]}), "wants another number of words"),
    ] {
        check(extra).fails(400, &[text]);
    }
    let mut long = String::new();
    for n in 0..10_000 {
        let _ = write!(long, "echo {n};");
    }
    check(json!({"Test": ["CMD-SHELL", long]})).expect(201);
}

fn unhealthy_containers_are_restarted_when_asked(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let options =
        ["--health-cmd", "test ! -e /bad", "--label", "gantry.unhealthy=restart", "-v", "/kept"];
    let name = checked(cx, "a", &options);
    becomes(cx, &name, "healthy");
    let before = cx.inspect(&name)["State"]["StartedAt"].clone();
    cx.docker(&["exec", &name, "touch", "/bad"]).ok();
    cx.until("it was started again", || {
        let state = cx.inspect(&name)["State"].clone();
        (state["StartedAt"] != before && state["Running"] == true).then_some(())
    });
    cx.docker(&["exec", &name, "rm", "/bad"]);
    becomes(cx, &name, "healthy");
    let plain = checked(cx, "b", &["--health-cmd", "false"]);
    let before = cx.inspect(&plain)["State"]["StartedAt"].clone();
    becomes(cx, &plain, "unhealthy");
    cx.until("it was probed on", || {
        (health(cx, &plain)["FailingStreak"].as_i64()? > 4).then_some(())
    });
    assert_eq!(cx.inspect(&plain)["State"]["StartedAt"], before, "off by default");
    let create = |label: &str, health: &[&str]| {
        let head = ["create", "--label", label, "--name"];
        let name = cx.name(&format!("c{}", health.len() + label.len()));
        let output = cx.docker(&[&head[..], &[&name], health, &["busybox", "true"]].concat());
        output.ok();
        output.stderr
    };
    assert!(create("gantry.unhealthy=restart", &[]).contains("has no health check"));
    assert!(create("gantry.unhealthy=explode", &["--health-cmd", "true"]).contains("no effect"));
}

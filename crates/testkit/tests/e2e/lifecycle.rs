//! From start to end: restart policies, limits changed while it runs, waits, running out of memory.

use serde_json::{Value, json};
use std::io::Read as _;
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    limits_change_while_it_runs,
    limits_are_taken_away_while_it_runs,
    policies_change_while_it_runs,
    failures_are_counted_and_a_start_begins_anew,
    a_stop_ends_the_restarts,
    waits_answer_in_their_order,
    running_out_of_memory_is_told,
];

fn group(cx: &Cx<'_>, name: &str, v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    cx.docker(&["exec", name, "sh", "-c", &script]).ok().to_owned()
}

fn limits_change_while_it_runs(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--memory", "64m"]);
    cx.docker(&[
        "update",
        "--memory",
        "96m",
        "--memory-swap",
        "200m",
        "--memory-reservation",
        "32m",
        "--pids-limit",
        "77",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--cpuset-cpus",
        "0",
        "--cpu-shares",
        "512",
        &name,
    ])
    .ok();
    assert_eq!(group(cx, &name, "memory/memory.limit_in_bytes", "memory.max"), "100663296");
    assert_eq!(group(cx, &name, "pids/pids.max", "pids.max"), "77");
    let quota = group(cx, &name, "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "20000" || quota == "20000 50000", "{quota}");
    assert_eq!(group(cx, &name, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    let host = cx.inspect(&name)["HostConfig"].clone();
    assert_eq!((&host["Memory"], &host["CpuShares"]), (&json!(100_663_296), &json!(512)));
    cx.docker(&["update", "--memory", "1m", &name]).fails(1);
    cx.docker(&["update", "--memory", "300m", &name]).fails(1);
    assert_eq!(group(cx, &name, "memory/memory.limit_in_bytes", "memory.max"), "100663296");
    // A stopped one has them at its next start.
    let stopped = cx.name("b");
    cx.docker(&["create", "--name", &stopped, "busybox", "sleep", "600"]).ok();
    cx.docker(&["update", "--pids-limit", "55", &stopped]).ok();
    cx.docker(&["start", &stopped]).ok();
    assert_eq!(group(cx, &stopped, "pids/pids.max", "pids.max"), "55");
}

fn limits_are_taken_away_while_it_runs(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--pids-limit", "50", "--cpu-quota", "20000"]);
    cx.docker(&["update", "--pids-limit", "-1", "--cpu-quota", "-1", &name]).ok();
    assert_eq!(group(cx, &name, "pids/pids.max", "pids.max"), "max");
    let quota = group(cx, &name, "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "-1" || quota == "max 100000", "{quota}");
}

fn policies_change_while_it_runs(cx: &Cx<'_>) {
    let name =
        cx.start("a", &[], &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 600 & wait; done"]);
    cx.docker(&["update", "--restart", "on-failure:5", &name]).ok();
    // The exec may end with the container before it can say how.
    cx.docker(&["exec", &name, "kill", "-TERM", "1"]);
    cx.until("it was started again", || {
        let whole = cx.inspect(&name);
        (whole["RestartCount"] == 1 && whole["State"]["Running"] == true).then_some(())
    });
    let removed = cx.name("b");
    cx.docker(&["run", "-d", "--rm", "--name", &removed, "busybox", "sleep", "600"]).ok();
    cx.docker(&["update", "--restart", "always", &removed]).fails_with(1, &["AutoRemove"]);
    cx.docker(&["update", "--restart", "sometimes", &name]).fails(1);
}

fn failures_are_counted_and_a_start_begins_anew(cx: &Cx<'_>) {
    let name = cx.start("a", &["--restart", "on-failure:2"], &["sh", "-c", "exit 7"]);
    let ended = |count: i64| {
        cx.until("it has given up", || {
            let whole = cx.inspect(&name);
            (whole["State"]["Status"] == "exited" && whole["RestartCount"] == count)
                .then_some(whole)
        })
    };
    assert_eq!(ended(2)["State"]["ExitCode"], 7);
    cx.docker(&["start", &name]).ok();
    assert_eq!(ended(2)["State"]["ExitCode"], 7, "counted from the start again");
    let good = cx.start("b", &["--restart", "on-failure:2"], &["true"]);
    cx.wait(&good);
    assert_eq!(cx.inspect(&good)["RestartCount"], 0, "no failure");
}

fn a_stop_ends_the_restarts(cx: &Cx<'_>) {
    let name = cx.start("a", &["--restart", "always"], &["sh", "-c", "exit 1"]);
    cx.until("it waits for its restart", || {
        (cx.inspect(&name)["State"]["Status"] == "restarting").then_some(())
    });
    cx.docker(&["stop", &name]).ok();
    let whole = cx.inspect(&name);
    assert_eq!(
        (&whole["State"]["Status"], &whole["State"]["Restarting"]),
        (&json!("exited"), &json!(false))
    );
    cx.docker(&["rm", &name]).ok();
}

fn waits_answer_in_their_order(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox", "sh", "-c", "exit 5"]).ok();
    let wait = |condition: &str| {
        let path = format!("/v1.41/containers/{name}/wait?condition={condition}");
        cx.api().stream("POST", &path, false, &Value::Null)
    };
    let body = |mut stream: testkit::http::Stream| -> Value {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    // Not running already; the next end is still to come.
    assert_eq!(body(wait("not-running"))["StatusCode"], 0);
    let (next, removed) = (wait("next-exit"), wait("removed"));
    cx.docker(&["start", &name]).ok();
    assert_eq!(body(next)["StatusCode"], 5);
    assert_eq!(cx.inspect(&name)["State"]["Status"], "exited", "the end is on record by then");
    assert_eq!(body(wait("not-running"))["StatusCode"], 5);
    cx.docker(&["rm", &name]).ok();
    assert_eq!(body(removed)["StatusCode"], 5);
    cx.api().post(&format!("/v1.41/containers/{name}/wait"), &Value::Null).expect(404);
}

fn running_out_of_memory_is_told(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["--memory", "16m", "--memory-swap", "16m"],
        &["sh", "-c", "tail /dev/zero; exit $?"],
    );
    let code = cx.wait(&name);
    let state = cx.inspect(&name)["State"].clone();
    assert_eq!((code, &state["OOMKilled"]), (137, &json!(true)), "{state}");
    let events = cx.events(&[&format!("container={name}"), "event=oom"], "{{.Action}}");
    assert!(events.lines().contains(&"oom"), "{}", events.describe());
    cx.docker(&["update", "--memory", "64m", "--memory-swap", "64m", &name]).ok();
}

//! Attach, terminals, resize, detach keys.

use serde_json::Value;
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    interactive_shell_on_a_terminal,
    window_size_arrives_and_changes,
    exec_on_a_terminal,
    detach_keys_leave_it_running,
    control_c_reaches_the_program,
    attach_sees_output_from_now_on,
    attach_without_upgrade_is_legacy,
    attach_before_start_loses_nothing,
    attach_forwards_signals,
    half_close_ends_stdin_only,
    two_attached_see_the_same,
    vanished_client_harms_nobody,
    attach_to_paused_and_missing,
    logs_and_stream_together,
    resize_rules,
    stdin_closes_after_the_first_client,
];

fn interactive_shell_on_a_terminal(cx: &Cx<'_>) {
    let mut pty = cx.terminal(&["run", "-it", "--rm", "--name", &cx.name("a"), "busybox", "sh"]);
    pty.expect("/ # ");
    pty.send("tty; test -t 1 && echo is-a-$((1+1))-tty\n");
    pty.expect("is-a-2-tty");
    pty.send("exit 5\n");
    let (code, _) = pty.wait();
    assert_eq!(code, 5);
}

fn window_size_arrives_and_changes(cx: &Cx<'_>) {
    let mut pty = cx.terminal(&["run", "-it", "--rm", "--name", &cx.name("a"), "busybox", "sh"]);
    pty.expect("/ # ");
    // The client sends the size after the start: ask until it is there.
    pty.send("until [ \"$(stty size)\" = '24 80' ]; do sleep 0.1; done; echo first-$((1+1))\n");
    pty.expect("first-2");
    pty.resize(50, 132);
    pty.send("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo second-$((1+1))\n");
    pty.expect("second-2");
    pty.send("exit\n");
    assert_eq!(pty.wait().0, 0);
}

fn exec_on_a_terminal(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let mut pty = cx.terminal(&["exec", "-it", &name, "sh"]);
    pty.expect("/ # ");
    pty.send("echo $((40+2)) $TERM\n");
    pty.expect("42 xterm");
    pty.send("exit 3\n");
    assert_eq!(pty.wait().0, 3);
}

fn detach_keys_leave_it_running(cx: &Cx<'_>) {
    let name = cx.name("a");
    let mut pty = cx.terminal(&["run", "-it", "--name", &name, "busybox", "sh"]);
    pty.expect("/ # ");
    pty.send("\x10\x11"); // ctrl-p ctrl-q
    assert_eq!(pty.wait().0, 0);
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
    let mut pty = cx.terminal(&["attach", "--detach-keys", "ctrl-x", &name]);
    pty.send("echo $((6*7))\n");
    pty.expect("42");
    pty.send("\x18");
    let (_, text) = pty.wait();
    assert!(text.contains("read escape sequence") || text.is_empty(), "{text:?}");
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
}

fn control_c_reaches_the_program(cx: &Cx<'_>) {
    let mut pty = cx.terminal(&[
        "run",
        "-it",
        "--rm",
        "--name",
        &cx.name("a"),
        "busybox",
        "sh",
        "-c",
        "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 600; done",
    ]);
    pty.expect("ready");
    pty.send("\x03");
    pty.expect("caught");
    assert_eq!(pty.wait().0, 7);
}

fn attach_sees_output_from_now_on(cx: &Cx<'_>) {
    let name = cx.start("a", &["-i"], &["sh", "-c", "echo before; cat"]);
    cx.wait_for_log(&name, "before");
    let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1");
    let mut stream = cx.api().stream("POST", &path, true, &Value::Null);
    stream.send(b"now\n").unwrap();
    assert_eq!(stream.frame(), Some((1, b"now\n".to_vec())));
}

fn attach_without_upgrade_is_legacy(cx: &Cx<'_>) {
    let name = cx.start("a", &["-i"], &["cat"]);
    let path = format!("/v1.41/containers/{name}/attach?stream=1&stdin=1&stdout=1");
    let mut stream = cx.api().stream("POST", &path, false, &Value::Null);
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    stream.send(b"legacy\n").unwrap();
    assert_eq!(stream.frame(), Some((1, b"legacy\n".to_vec())));
    let mut new = cx.api().stream("POST", &path, true, &Value::Null);
    assert_eq!(new.head.status, 101);
    assert_eq!(new.head.reason, "UPGRADED");
    assert_eq!(new.head.header("Upgrade"), Some("tcp"));
    new.send(b"new\n").unwrap();
    assert_eq!(new.frame(), Some((1, b"new\n".to_vec())));
}

fn attach_before_start_loses_nothing(cx: &Cx<'_>) {
    for n in 0..5 {
        let name = cx.name(&format!("a{n}"));
        cx.docker(&[
            "create",
            "--name",
            &name,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo first; echo second >&2",
        ])
        .ok();
        let mut stream = cx.api().stream(
            "POST",
            &format!("/containers/{name}/attach?stream=1&stdout=1&stderr=1"),
            true,
            &Value::Null,
        );
        assert_eq!(stream.head.status, 101);
        cx.api().post(&format!("/containers/{name}/start"), &Value::Null);
        assert_eq!(stream.frames(), (b"first\n".to_vec(), b"second\n".to_vec()));
    }
}

fn attach_forwards_signals(cx: &Cx<'_>) {
    use rustix::process::{Pid, Signal, kill_process};
    let name = cx.start(
        "a",
        &[],
        &[
            "sh",
            "-c",
            "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 600 & wait; done",
        ],
    );
    cx.wait_for_log(&name, "ready");
    let mut command = cx.command();
    command
        .args(["attach", &name])
        .stdout(std::process::Stdio::piped())
        .stdin(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    // The CLI is attached once the daemon says so.
    let filter = format!("container={name}");
    cx.until("the client is attached", || {
        let output = cx.events(&[&filter], "{{.Action}}");
        output.ok().contains("attach").then_some(())
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    cx.until("the container has ended", || {
        _ = kill_process(pid, Signal::TERM); // again, as the CLI may not have its handlers yet
        (cx.inspect(&name)["State"]["Running"] == false).then_some(())
    });
    _ = child.wait();
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 4);
}

fn half_close_ends_stdin_only(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&[
        "create",
        "-i",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "cat; echo after; sleep 0.2; echo later",
    ])
    .ok();
    let mut stream = cx.api().stream(
        "POST",
        &format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1"),
        true,
        &Value::Null,
    );
    cx.api().post(&format!("/containers/{name}/start"), &Value::Null);
    stream.send(b"typed\n").unwrap();
    stream.close_write().unwrap();
    assert_eq!(String::from_utf8_lossy(&stream.frames().0), "typed\nafter\nlater\n");
}

fn two_attached_see_the_same(cx: &Cx<'_>) {
    let name = cx.start("a", &["-i"], &["cat"]);
    let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1");
    let mut one = cx.api().stream("POST", &path, true, &Value::Null);
    let mut two = cx.api().stream("POST", &path, true, &Value::Null);
    one.send(b"hello\n").unwrap();
    assert_eq!(one.frame(), Some((1, b"hello\n".to_vec())));
    assert_eq!(two.frame(), Some((1, b"hello\n".to_vec())));
}

fn vanished_client_harms_nobody(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["--network", "none"],
        &["sh", "-c", "while :; do echo line; sleep 0.01; done"],
    );
    for _ in 0..10 {
        drop(cx.api().stream(
            "POST",
            &format!("/containers/{name}/attach?stream=1&stdout=1"),
            true,
            &Value::Null,
        ));
    }
    let mut stream = cx.api().stream(
        "POST",
        &format!("/containers/{name}/attach?stream=1&stdout=1"),
        true,
        &Value::Null,
    );
    assert!(stream.frame().is_some());
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
}

fn attach_to_paused_and_missing(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    cx.docker(&["pause", &name]).ok();
    let path = format!("/v1.41/containers/{name}/attach?stream=1&stdout=1");
    cx.api()
        .post(&path, &Value::Null)
        .fails(409, &["is paused, unpause the container before attach"]);
    cx.docker(&["unpause", &name]).ok();
    cx.api()
        .post("/v1.41/containers/no-such/attach?stream=1", &Value::Null)
        .fails(404, &["No such container: no-such"]);
    cx.api()
        .post(
            &format!("/v1.41/containers/{name}/attach?stream=1&stdout=1&detachKeys=nonsense"),
            &Value::Null,
        )
        .expect(400);
}

fn logs_and_stream_together(cx: &Cx<'_>) {
    let name = cx.start("a", &["-i"], &["sh", "-c", "echo before; cat"]);
    cx.wait_for_log(&name, "before");
    let mut stream = cx.api().stream(
        "POST",
        &format!("/containers/{name}/attach?logs=1&stream=1&stdin=1&stdout=1"),
        true,
        &Value::Null,
    );
    assert_eq!(stream.frame(), Some((1, b"before\n".to_vec())));
    stream.send(b"after\n").unwrap();
    assert_eq!(stream.frame(), Some((1, b"after\n".to_vec())));
}

fn resize_rules(cx: &Cx<'_>) {
    let name = cx.start(
        "a",
        &["-t"],
        &["sh", "-c", "until [ \"$(stty size)\" = '33 44' ]; do sleep 0.05; done; echo sized"],
    );
    let api = cx.api();
    let ok = api.post(&format!("/v1.41/containers/{name}/resize?h=33&w=44"), &Value::Null);
    assert_eq!(ok.status(), 200);
    assert_eq!(cx.wait(&name), 0);
    api.post(&format!("/v1.41/containers/{name}/resize?h=1&w=1"), &Value::Null)
        .fails(409, &["is not running"]);
    api.post(&format!("/v1.41/containers/{name}/resize?h=x&w=1"), &Value::Null).expect(400);
    api.post(&format!("/v1.41/containers/{name}/resize"), &Value::Null).expect(400);
    api.post("/v1.41/containers/no-such/resize?h=1&w=1", &Value::Null).expect(404);
}

fn stdin_closes_after_the_first_client(cx: &Cx<'_>) {
    // `run -i` asks for StdinOnce: when the client's input ends, so does the container's.
    let output =
        cx.docker_with(&["run", "-i", "--name", &cx.name("a"), "busybox", "cat"], "once\n");
    assert_eq!(output.ok(), "once");
    assert_eq!(cx.inspect(&cx.name("a"))["Config"]["StdinOnce"], true);
    assert_eq!(cx.inspect(&cx.name("a"))["State"]["ExitCode"], 0);
}

//! `docker exec` and the exec endpoints.

use serde_json::{Value, json};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    exit_codes,
    streams_and_stdin,
    user_env_workdir,
    detached,
    privileged_and_capabilities,
    runs_inside_the_container,
    inspect_of_an_exec,
    refused_on_stopped_containers,
    bad_requests,
    exec_ids_show_while_running,
    many_at_once,
    large_output,
    exec_events,
    ends_with_the_container,
    hijack_half_close,
];

fn exit_codes(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    cx.docker(&["exec", &name, "true"]).code(0);
    cx.docker(&["exec", &name, "sh", "-c", "exit 9"]).code(9);
    cx.docker(&["exec", &name, "sh", "-c", "kill -9 $$"]).code(137);
    let missing = cx.docker(&["exec", &name, "no-such-program"]);
    missing.code(if cx.is_gantry() { 127 } else { missing.code.unwrap_or(0) });
    let text = format!("{}{}", missing.stdout, missing.stderr);
    assert!(
        text.contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{}",
        missing.describe()
    );
    cx.docker(&["exec", &name, "/etc/passwd"]).code(126);
    cx.docker(&["exec", "no-such-container", "true"])
        .fails_with(1, &["No such container: no-such-container"]);
}

fn streams_and_stdin(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let output = cx.docker(&["exec", &name, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = cx.docker_with(&["exec", "-i", &name, "sh", "-c", "cat; echo end"], "piped\n");
    assert_eq!(output.ok(), "piped\nend");
}

fn user_env_workdir(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["-e", "A=container", "-w", "/var"]);
    let sh = |options: &[&str], script: &str| {
        cx.docker(&[&["exec"], options, &[&name, "sh", "-c", script]].concat()).ok().to_owned()
    };
    assert_eq!(sh(&[], "echo $A; pwd; id -u"), "container\n/var\n0");
    assert_eq!(
        sh(&["-u", "alice", "-e", "A=exec", "-w", "/etc"], "echo $A; pwd; id -u; echo $HOME"),
        "exec\n/etc\n1234\n/home"
    );
    assert_eq!(sh(&["-u", "7:8"], "id -u; id -g"), "7\n8");
    let unknown = cx.docker(&["exec", "-u", "no-such-user", &name, "true"]);
    assert!(matches!(unknown.code, Some(1 | 126)), "{}", unknown.describe());
    let text = format!("{}{}", unknown.stdout, unknown.stderr);
    assert!(text.contains("unable to find user no-such-user"), "{}", unknown.describe());
    let missing = cx.docker(&["exec", "-w", "/no/such/dir", &name, "true"]);
    assert!(matches!(missing.code, Some(126 | 127)), "{}", missing.describe());
}

fn detached(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    assert_eq!(cx.docker(&["exec", "-d", &name, "sh", "-c", "echo x > /made"]).ok(), "");
    cx.until("the detached exec has run", || {
        (cx.docker(&["exec", &name, "cat", "/made"]).stdout == "x\n").then_some(())
    });
}

fn privileged_and_capabilities(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let caps = |options: &[&str]| {
        cx.docker(&[&["exec"], options, &[&name, "grep", "CapEff", "/proc/self/status"]].concat())
            .ok()
            .replace("CapEff:\t", "")
    };
    assert_eq!(caps(&[]), "00000000a80425fb");
    assert_eq!(caps(&["-u", "alice"]), "0000000000000000");
    // dockerd with an old runc cannot give all capabilities where it does not hold them all itself.
    if cx.is_gantry() {
        assert_eq!(caps(&["--privileged"]), testkit::host::capabilities());
    }
}

fn runs_inside_the_container(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--memory", "64m"]);
    let exec = |args: &[&str]| cx.docker(&[&["exec", &name[..]], args].concat()).ok().to_owned();
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let one = exec(&["readlink", &format!("/proc/1/ns/{kind}")]);
        assert_eq!(exec(&["readlink", &format!("/proc/self/ns/{kind}")]), one, "{kind}");
    }
    assert_eq!(exec(&["cat", "/proc/self/cgroup"]), exec(&["cat", "/proc/1/cgroup"]));
    assert_eq!(exec(&["grep", "Seccomp:", "/proc/self/status"]), "Seccomp:\t2");
    let fds = exec(&["ls", "/proc/self/fd"]);
    assert_eq!(fds.lines().count(), 4, "0, 1, 2 and the folder itself: {fds}");
}

fn inspect_of_an_exec(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let created = api.post(&format!("/v1.41/containers/{name}/exec"), &json!({"Cmd": ["sh", "-c", "echo hi; exit 4"], "AttachStdout": true, "Env": ["X=y"], "User": "alice"})).expect(201);
    let id = created["Id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    let before = api.get(&format!("/v1.41/exec/{id}/json")).expect(200);
    assert_eq!(
        (&before["Running"], &before["ExitCode"], &before["Pid"]),
        (&json!(false), &Value::Null, &json!(0))
    );
    let mut stream = api.stream(
        "POST",
        &format!("/v1.41/exec/{id}/start"),
        true,
        &json!({"Detach": false, "Tty": false}),
    );
    assert_eq!(stream.head.status, 101);
    assert_eq!(stream.head.reason, "UPGRADED");
    assert_eq!(stream.frames(), (b"hi\n".to_vec(), vec![]));
    let after = api.get(&format!("/v1.41/exec/{id}/json")).expect(200);
    assert_eq!(
        (&after["Running"], &after["ExitCode"]),
        (&json!(false), &json!(4)),
        "known before the stream ends"
    );
    assert_eq!(after["ID"], id);
    assert_eq!(after["ProcessConfig"]["entrypoint"], "sh");
    assert_eq!(after["ProcessConfig"]["arguments"], json!(["-c", "echo hi; exit 4"]));
    assert_eq!(after["ProcessConfig"]["tty"], false);
    assert_eq!(after["ProcessConfig"]["user"], "alice");
    assert_eq!(
        (&after["OpenStdin"], &after["OpenStdout"], &after["OpenStderr"]),
        (&json!(false), &json!(true), &json!(false))
    );
    let again = api.post(&format!("/v1.41/exec/{id}/start"), &json!({"Detach": true}));
    assert_eq!(again.status(), 409, "{}", again.text());
}

fn refused_on_stopped_containers(cx: &Cx<'_>) {
    let name = cx.start("a", &[], &["true"]);
    cx.wait(&name);
    cx.api()
        .post(&format!("/containers/{name}/exec"), &json!({"Cmd": ["true"]}))
        .fails(409, &["is not running"]);
}

fn bad_requests(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    api.post(&format!("/containers/{name}/exec"), &json!({"Cmd": []}))
        .fails(400, &["No exec command specified"]);
    api.post("/containers/no-such/exec", &json!({"Cmd": ["true"]})).expect(404);
    api.post("/exec/no-such/start", &json!({})).fails(404, &["No such exec instance"]);
    api.get("/exec/no-such/json").fails(404, &["No such exec instance"]);
}

fn exec_ids_show_while_running(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    cx.docker(&["exec", "-d", &name, "sleep", "600"]).ok();
    let ids = cx.inspect(&name)["ExecIDs"].clone();
    assert_eq!(ids.as_array().map(Vec::len), Some(1), "{ids}");
}

fn many_at_once(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let name = &name;
            scope.spawn(move || {
                for m in 0..3 {
                    let text = format!("{n}-{m}");
                    assert_eq!(cx.docker(&["exec", name, "echo", &text]).ok(), text);
                }
            });
        }
    });
}

fn large_output(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let output = cx.docker(&["exec", &name, "sh", "-c", "yes 0123456 | head -c 4000000"]);
    output.ok();
    assert_eq!(output.bytes.len(), 4_000_000);
}

fn exec_events(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    cx.docker(&["exec", &name, "sh", "-c", "exit 3"]).code(3);
    let lines = cx.until("the end of the exec is told", || {
        let filter = format!("container={name}");
        let output = cx.events(&[&filter], "{{.Action}}|{{.Actor.Attributes.exitCode}}");
        output.ok().contains("exec_die").then(|| output.ok().to_owned())
    });
    for line in ["exec_create: sh -c exit 3|", "exec_start: sh -c exit 3|", "exec_die|3"] {
        assert!(lines.lines().any(|l| l.starts_with(line)), "{line} in {lines}");
    }
}

fn ends_with_the_container(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let id = api
        .post(
            &format!("/containers/{name}/exec"),
            &json!({"Cmd": ["sleep", "600"], "AttachStdout": true}),
        )
        .expect(201)["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut stream = api.stream("POST", &format!("/exec/{id}/start"), true, &json!({}));
    cx.until("it runs", || {
        (api.get(&format!("/exec/{id}/json")).json()["Pid"].as_i64() > Some(0)).then_some(())
    });
    cx.docker(&["kill", &name]).ok();
    assert_eq!(stream.frame(), None, "the stream ends with the container");
    let state = cx.until("the exec is over", || {
        let answer = api.get(&format!("/exec/{id}/json"));
        (answer.status() == 404 || answer.json()["Running"] == false).then_some(answer)
    });
    assert!(state.status() == 404 || state.json()["ExitCode"] == 137, "{}", state.text());
}

fn hijack_half_close(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    let id = api.post(&format!("/containers/{name}/exec"), &json!({"Cmd": ["sh", "-c", "cat; echo after"], "AttachStdin": true, "AttachStdout": true})).expect(201)["Id"].as_str().unwrap().to_owned();
    let mut stream = api.stream("POST", &format!("/exec/{id}/start"), true, &json!({}));
    stream.send(b"typed\n").unwrap();
    stream.close_write().unwrap();
    assert_eq!(stream.frames().0, b"typed\nafter\n");
}

//! Container output: `docker logs` and the files behind it.

use serde_json::Value;
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    both_streams_in_order,
    tail,
    timestamps,
    since_and_until,
    follow_ends_with_the_container,
    follow_shows_new_lines,
    long_lines_are_joined,
    partial_last_line,
    details_show_labels,
    rotation_keeps_what_was_asked,
    log_driver_none,
    unknown_log_driver_is_an_error,
    the_api_frames_streams,
    a_terminal_is_not_framed,
    no_stream_chosen_is_an_error,
    the_file_is_json_lines,
    logs_of_a_created_container_are_empty,
    restarts_append,
    a_flood_is_whole,
];

fn ended(cx: &Cx<'_>, part: &str, options: &[&str], script: &str) -> String {
    let name = cx.start(part, options, &["sh", "-c", script]);
    cx.wait(&name);
    name
}

fn both_streams_in_order(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three");
    let output = cx.docker(&["logs", &name]);
    assert_eq!((output.ok(), output.stderr.trim()), ("one\nthree", "two"));
}

fn tail(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "seq 1 100");
    let tail = |n: &str| cx.docker(&["logs", "-n", n, &name]).ok().to_owned();
    assert_eq!(tail("3"), "98\n99\n100");
    assert_eq!(tail("0"), "");
    assert_eq!(tail("all").lines().count(), 100);
    assert_eq!(tail("1000").lines().count(), 100);
    assert_eq!(tail("-1").lines().count(), 100);
}

fn timestamps(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo hello");
    let line = cx.docker(&["logs", "-t", &name]).ok().to_owned();
    let (time, text) = line.split_once(' ').unwrap();
    assert_eq!(text, "hello");
    assert_eq!(time.len(), "2006-01-02T15:04:05.000000000Z".len(), "{time}");
    assert!(time.ends_with('Z') && time.as_bytes()[19] == b'.');
}

fn since_and_until(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo early; sleep 1.2; echo late");
    let times: Vec<String> = cx
        .docker(&["logs", "-t", &name])
        .lines()
        .iter()
        .map(|l| l.split(' ').next().unwrap().to_owned())
        .collect();
    let with = |flag: &str, time: &str| cx.docker(&["logs", flag, time, &name]).ok().to_owned();
    assert_eq!(with("--since", &times[1]), "late");
    assert_eq!(with("--until", &times[0]), "early");
    assert_eq!(with("--since", &times[0]), "early\nlate");
    assert_eq!(with("--since", "1h"), "early\nlate");
    assert_eq!(with("--until", "1h"), "");
}

fn follow_ends_with_the_container(cx: &Cx<'_>) {
    let name = cx.start("a", &[], &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"]);
    assert_eq!(cx.docker(&["logs", "-f", &name]).ok(), "1\n2\n3\n4\n5");
}

fn follow_shows_new_lines(cx: &Cx<'_>) {
    let name = cx.start("a", &["-i"], &["cat"]);
    let mut follow = cx.api().stream(
        "GET",
        &format!("/containers/{name}/logs?follow=1&stdout=1"),
        false,
        &Value::Null,
    );
    let mut attach = cx.api().stream(
        "POST",
        &format!("/containers/{name}/attach?stream=1&stdin=1"),
        true,
        &Value::Null,
    );
    for word in ["first\n", "second\n"] {
        attach.send(word.as_bytes()).unwrap();
        assert_eq!(follow.frame(), Some((1, word.as_bytes().to_vec())));
    }
    cx.docker(&["kill", &name]).ok();
    assert_eq!(follow.frame(), None, "the end of the container ends the stream");
}

fn long_lines_are_joined(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "head -c 50000 /dev/zero | tr '\\0' x; echo; echo after");
    let output = cx.docker(&["logs", &name]);
    let lines = output.lines();
    assert_eq!((lines.len(), lines[0].len(), lines[1]), (2, 50_000, "after"));
    let stamped = cx.docker(&["logs", "-t", &name]);
    assert!(stamped.ok().ends_with(" after"));
}

fn partial_last_line(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "printf 'no newline'");
    assert_eq!(cx.docker(&["logs", &name]).stdout, "no newline");
}

fn details_show_labels(cx: &Cx<'_>) {
    let name = ended(
        cx,
        "a",
        &[
            "-l",
            "colour=blue",
            "-e",
            "SHAPE=round",
            "--log-opt",
            "labels=colour",
            "--log-opt",
            "env=SHAPE",
        ],
        "echo x",
    );
    assert_eq!(cx.docker(&["logs", "--details", &name]).ok(), "SHAPE=round,colour=blue x");
}

fn rotation_keeps_what_was_asked(cx: &Cx<'_>) {
    let name =
        ended(cx, "a", &["--log-opt", "max-size=20k", "--log-opt", "max-file=3"], "seq 1 5000");
    let output = cx.docker(&["logs", &name]);
    let lines = output.lines();
    assert_eq!(lines.last(), Some(&"5000"));
    assert!(lines.len() < 3000 && lines.len() > 100, "{} lines", lines.len());
    let first: usize = lines[0].parse().unwrap();
    assert_eq!(lines.len(), 5000 - first + 1, "no gap");
    assert_eq!(cx.docker(&["logs", "-n", "2", &name]).ok(), "4999\n5000");
    cx.run(&["--log-opt", "nonsense=1"], &["true"])
        .fails_with(125, &["unknown log opt 'nonsense' for json-file log driver"]);
    cx.run(&["--log-opt", "max-file=0"], &["true"]).fails(125);
}

fn log_driver_none(cx: &Cx<'_>) {
    let name = cx.start("a", &["--log-driver", "none"], &["sh", "-c", "echo x"]);
    cx.wait(&name);
    cx.docker(&["logs", &name])
        .fails_with(1, &["configured logging driver does not support reading"]);
    assert_eq!(cx.run(&["--log-driver", "none"], &["echo", "shown"]).ok(), "shown");
}

fn unknown_log_driver_is_an_error(cx: &Cx<'_>) {
    cx.run(&["--log-driver", "stone"], &["true"]).fails_with(125, &["stone"]);
}

fn the_api_frames_streams(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo out; echo err >&2");
    let mut stream = cx.api().stream(
        "GET",
        &format!("/v1.41/containers/{name}/logs?stdout=1&stderr=1"),
        false,
        &Value::Null,
    );
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.frames(), (b"out\n".to_vec(), b"err\n".to_vec()));
    let mut only = cx.api().stream(
        "GET",
        &format!("/v1.41/containers/{name}/logs?stderr=1"),
        false,
        &Value::Null,
    );
    assert_eq!(only.frames(), (vec![], b"err\n".to_vec()));
    if cx.is_gantry() {
        let new = cx.api().stream(
            "GET",
            &format!("/v1.45/containers/{name}/logs?stdout=1"),
            false,
            &Value::Null,
        );
        assert_eq!(
            new.head.header("Content-Type"),
            Some("application/vnd.docker.multiplexed-stream")
        );
    }
}

fn a_terminal_is_not_framed(cx: &Cx<'_>) {
    let name = ended(cx, "a", &["-t"], "echo out");
    let answer = cx.api().get(&format!("/v1.41/containers/{name}/logs?stdout=1"));
    assert_eq!(answer.text(), "out\r\n");
}

fn no_stream_chosen_is_an_error(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "true");
    cx.api()
        .get(&format!("/containers/{name}/logs"))
        .fails(400, &["Bad parameters: you must choose at least one stream"]);
    cx.api().get("/containers/no-such/logs?stdout=1").fails(404, &["No such container: no-such"]);
}

fn the_file_is_json_lines(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo 'quo\"te <&> \u{e4}'; printf '\\377\\n'");
    let path = cx.inspect(&name)["LogPath"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["log"], "quo\"te <&> \u{e4}\n");
    assert_eq!(first["stream"], "stdout");
    assert!(text.starts_with(r#"{"log":"quo\"te \u003c\u0026\u003e "#), "{text}");
    assert!(
        text.lines()
            .nth(1)
            .unwrap()
            .starts_with(r#"{"log":"\ufffd\n","stream":"stdout","time":"20"#),
        "{text}"
    );
}

fn logs_of_a_created_container_are_empty(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox"]).ok();
    assert_eq!(cx.docker(&["logs", &name]).ok(), "");
}

fn restarts_append(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "echo run");
    cx.docker(&["start", "-a", &name]).ok();
    assert_eq!(cx.docker(&["logs", &name]).ok(), "run\nrun");
}

fn a_flood_is_whole(cx: &Cx<'_>) {
    let name = ended(cx, "a", &[], "seq 1 300000");
    let output = cx.docker(&["logs", &name]);
    let mut wanted = 1;
    for line in output.lines() {
        assert_eq!(line.parse::<u32>().ok(), Some(wanted));
        wanted += 1;
    }
    assert_eq!(wanted, 300_001);
}

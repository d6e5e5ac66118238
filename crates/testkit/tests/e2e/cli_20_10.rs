//! The docker CLI of Debian's docker.io (20.10): an old client against the daemon.

use std::path::Path;
use testkit::{Cx, Output, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    it_is_the_old_client,
    run_and_exit_codes,
    build_and_images,
    ps_logs_exec_stop_rm,
    save_and_load,
    events_and_df,
    volumes_and_networks,
    terminal,
];

/// The old client; skips when it is not installed.
fn old(cx: &Cx<'_>, args: &[&str], stdin: &[u8]) -> Output {
    let path = Path::new("/usr/bin/docker");
    let version = std::process::Command::new(path).arg("--version").output();
    if !version.is_ok_and(|v| String::from_utf8_lossy(&v.stdout).contains(" 20.10")) {
        skip("the docker CLI 20.10 (docker.io) is not installed");
    }
    let mut command = cx.daemon.cli(path);
    command.current_dir(cx.dir()).args(args);
    command::run(&mut command, stdin)
}

fn it_is_the_old_client(cx: &Cx<'_>) {
    let output = old(cx, &["version", "--format", "{{.Client.APIVersion}} {{.Server.Os}}"], b"");
    assert_eq!(output.ok(), "1.41 linux");
    assert!(old(cx, &["info"], b"").ok().contains("Storage Driver: overlay2"));
}

fn run_and_exit_codes(cx: &Cx<'_>) {
    assert_eq!(old(cx, &["run", "--rm", "busybox", "echo", "hello"], b"").ok(), "hello");
    old(cx, &["run", "--rm", "busybox", "sh", "-c", "exit 9"], b"").code(9);
    old(cx, &["run", "--rm", "busybox", "no-such"], b"").code(127);
    assert_eq!(old(cx, &["run", "-i", "--rm", "busybox", "cat"], b"typed").ok(), "typed");
}

fn build_and_images(cx: &Cx<'_>) {
    let tag = cx.name("img");
    let output = old(cx, &["build", "-t", &tag, "-"], b"FROM busybox\nRUN echo old > /f\n");
    assert!(output.ok().contains("Successfully built "), "{}", output.describe());
    assert_eq!(old(cx, &["images", "--format", "{{.Repository}}", &tag], b"").ok(), tag);
    assert_eq!(old(cx, &["run", "--rm", &tag, "cat", "/f"], b"").ok(), "old");
    assert!(old(cx, &["history", "-q", &tag], b"").lines().len() >= 2);
    old(cx, &["rmi", &tag], b"").ok();
}

fn ps_logs_exec_stop_rm(cx: &Cx<'_>) {
    let name = cx.name("a");
    old(
        cx,
        &[
            "run",
            "-d",
            "--name",
            &name,
            "-p",
            "127.0.0.1::80",
            "busybox",
            "sh",
            "-c",
            "echo line; trap 'exit 0' TERM; while :; do sleep 600 & wait; done",
        ],
        b"",
    )
    .ok();
    assert!(
        old(cx, &["ps", "--format", "{{.Names}} {{.Ports}}"], b"")
            .ok()
            .contains(&format!("{name} 127.0.0.1:"))
    );
    cx.wait_for_log(&name, "line");
    assert_eq!(old(cx, &["logs", &name], b"").ok(), "line");
    old(cx, &["exec", &name, "sh", "-c", "exit 4"], b"").code(4);
    assert!(old(cx, &["port", &name], b"").ok().starts_with("80/tcp -> 127.0.0.1:"));
    assert_eq!(old(cx, &["inspect", "-f", "{{.State.Status}}", &name], b"").ok(), "running");
    assert!(old(cx, &["top", &name], b"").ok().contains("sleep"));
    old(cx, &["stop", &name], b"").ok();
    old(cx, &["rm", &name], b"").ok();
}

fn save_and_load(cx: &Cx<'_>) {
    let tag = cx.name("img");
    old(cx, &["build", "-q", "-t", &tag, "-"], b"FROM busybox\nLABEL old=save\n").ok();
    let saved = old(cx, &["save", &tag], b"");
    saved.ok();
    old(cx, &["rmi", &tag], b"").ok();
    assert!(old(cx, &["load"], &saved.bytes).ok().contains("Loaded image: "));
}

fn events_and_df(cx: &Cx<'_>) {
    old(cx, &["run", "--rm", "--name", &cx.name("a"), "busybox", "true"], b"").ok();
    let filter = format!("container={}", cx.name("a"));
    let now = testkit::host::now();
    let args = ["events", "--since", "1h", "--until", &now, "--filter", &filter];
    let told = old(cx, &args, b"");
    assert!(told.ok().contains("container die"), "{}", told.describe());
    assert!(old(cx, &["system", "df"], b"").ok().contains("Local Volumes"));
}

fn volumes_and_networks(cx: &Cx<'_>) {
    let volume = cx.name("vol");
    old(cx, &["volume", "create", &volume], b"").ok();
    assert!(old(cx, &["volume", "ls", "-q"], b"").ok().contains(&volume));
    old(cx, &["volume", "rm", &volume], b"").ok();
    assert!(old(cx, &["network", "ls", "-q"], b"").lines().len() >= 3);
}

fn terminal(cx: &Cx<'_>) {
    old(cx, &["version"], b"").ok();
    let mut command = cx.daemon.cli(Path::new("/usr/bin/docker"));
    command.args(["run", "-it", "--rm", "--name", &cx.name("a"), "busybox", "sh"]);
    let mut pty = testkit::pty::Pty::start(&command, 24, 80).unwrap();
    pty.expect("/ # ");
    pty.send("echo $((40+2)); exit 3\n");
    pty.expect("42");
    assert_eq!(pty.wait().0, 3);
}

//! Contexts that are no folder: repositories, downloads, layouts, other targets; and agents of the client.

use super::{buildx, built, plugged, plugged_with, sh};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};
use testkit::{Cx, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    a_repository_is_a_context,
    an_archive_behind_a_url_is_a_context,
    an_image_layout_is_a_context,
    another_target_of_a_bake_file_is_a_context,
    an_agent_is_forwarded,
];

/// A program that is ended with the case.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn git(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(dir).args([
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "init.defaultBranch=main",
    ]);
    command::run(git.args(args).env("HOME", dir), b"").ok();
}

fn a_repository_is_a_context(cx: &Cx<'_>) {
    cx.write("served/repo/Dockerfile", "FROM busybox\nCOPY . /r\n");
    cx.write("served/repo/f", "from a repository");
    cx.write("served/repo/sub/Dockerfile", "FROM busybox\nCOPY g /g\n");
    cx.write("served/repo/sub/g", "from below");
    let repo = cx.dir().join("served/repo");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "first"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // `git daemon` would be a second process, which outlives the first.
    let programs = command::run(Command::new("git").arg("--exec-path"), b"").ok().to_owned();
    let mut daemon = Command::new(Path::new(&programs).join("git-daemon"));
    daemon.args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"]);
    daemon
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", cx.dir().join("served").display()));
    let _daemon = Ended(daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    cx.until("git listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    let url = format!("git://127.0.0.1:{port}/repo");
    let build = |place: &str, part: &str| {
        let tag = format!("{}:latest", cx.name(part));
        let args = ["buildx", "build", "--progress", "plain", "-t", &tag, place];
        command::run(plugged(cx).args(args), b"").ok();
        tag
    };
    let tag = build(&format!("{url}#main"), "whole");
    assert_eq!(sh(cx, &tag, "cat /r/f; test ! -e /r/.git"), "from a repository");
    let tag = build(&format!("{url}#main:sub"), "below");
    assert_eq!(sh(cx, &tag, "cat /g"), "from below");
    let dockerfile = format!("FROM busybox\nADD {url}#main /added\n");
    let tag = built(cx, &dockerfile, &[]);
    assert_eq!(sh(cx, &tag, "cat /added/f"), "from a repository");
    let named = format!("files={url}#main");
    let tag = built(cx, "FROM busybox\nCOPY --from=files f /f\n", &["--build-context", &named]);
    assert_eq!(sh(cx, &tag, "cat /f"), "from a repository");
}

/// Answers every request for a path with these bytes until the case ends.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| *name == path);
            let (status, body) = match found {
                Some((_, body)) => ("200 OK", body.clone()),
                None => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            _ = stream.write_all(answer.as_bytes());
            if !head.starts_with("HEAD ") {
                _ = stream.write_all(&body);
            }
        }
    });
    host
}

fn an_archive_behind_a_url_is_a_context(cx: &Cx<'_>) {
    let mut tar = testkit::tarball::Tarball::new();
    tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY f /f\n").file("f", 0o644, "in an archive");
    let dockerfile = b"FROM busybox\nRUN echo alone > /f\n".to_vec();
    let host = serve(vec![
        ("/context.tar", tar.finish()),
        ("/Dockerfile", dockerfile),
        ("/file", b"downloaded".to_vec()),
    ]);
    for (path, want) in [("context.tar", "in an archive"), ("Dockerfile", "alone")] {
        let tag = format!("{}:latest", cx.name(if path == "Dockerfile" { "file" } else { "tar" }));
        let url = format!("http://{host}/{path}");
        let args = ["buildx", "build", "--progress", "plain", "-t", &tag, &url];
        command::run(plugged(cx).args(args), b"").ok();
        assert_eq!(sh(cx, &tag, "cat /f"), want);
    }
    let sum = "sha256:d8ce2f78cb1ea5f3d7bdae62bee5e85dc8bc58a0c5e34d4a73e36c8e0ba5b8d5";
    cx.write(
        "context/Dockerfile",
        format!("FROM busybox\nADD --checksum={sum} http://{host}/file /f\n"),
    );
    buildx(cx, &[]).fails_with(1, &["digest mismatch"]);
    let tag = built(cx, &format!("FROM busybox\nADD http://{host}/file /f\n"), &[]);
    assert_eq!(sh(cx, &tag, "cat /f; stat -c %a /f"), "downloaded600");
}

fn an_image_layout_is_a_context(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nENV LAID=out\nRUN echo laid out > /laid\n");
    buildx(cx, &["-o", "type=oci,dest=layout.tar"]).ok();
    std::fs::create_dir(cx.dir().join("layout")).unwrap();
    let tar = ["-xf", "layout.tar", "-C", "layout"];
    command::run(Command::new("tar").args(tar).current_dir(cx.dir()), b"").ok();
    let tag = built(
        cx,
        "FROM other\nRUN cat /laid > /copy; echo $LAID >> /copy\nCOPY --from=other /laid /again\n",
        &["--build-context", "other=oci-layout://layout"],
    );
    assert_eq!(sh(cx, &tag, "cat /copy /again; echo $LAID"), "laid out\nout\nlaid out\nout");
}

fn another_target_of_a_bake_file_is_a_context(cx: &Cx<'_>) {
    cx.write("base/Dockerfile", "FROM busybox\nENV FROM_BASE=yes\nRUN echo base > /base\n");
    cx.write(
        "context/Dockerfile",
        "FROM base\nCOPY --from=base /base /copied\nRUN echo $FROM_BASE > /env\n",
    );
    let tag = cx.name("app");
    cx.write(
        "docker-bake.hcl",
        format!(
            "target \"base\" {{\n context = \"base\"\n}}\ntarget \"default\" {{\n context = \"context\"\n contexts = {{ base = \"target:base\" }}\n tags = [\"{tag}\"]\n}}\n"
        ),
    );
    let both = ["docker-buildx"];
    let args = ["buildx", "bake", "--progress", "plain", "--allow", "fs.read=*"];
    command::run(plugged_with(cx, &both).args(args), b"").ok();
    assert_eq!(sh(cx, &tag, "cat /base /copied /env; echo $FROM_BASE"), "base\nbase\nyes\nyes");
}

fn an_agent_is_forwarded(cx: &Cx<'_>) {
    let socket = cx.dir().join("agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(agent) = agent.spawn() else {
        skip("ssh-agent is not there: scripts/setup --tests installs it");
    };
    let _agent = Ended(agent);
    cx.until("the agent listens", || socket.exists().then_some(()));
    // The list of keys is asked for in the agent's own protocol: 4 bytes of length, one of kind.
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh,mode=0666 test -S $SSH_AUTH_SOCK && stat -c %a $SSH_AUTH_SOCK > /seen\n\
RUN --mount=type=ssh,id=none true\nRUN test -z \"$SSH_AUTH_SOCK\"\n";
    cx.write("context/Dockerfile", dockerfile);
    let tag = format!("{}:latest", cx.name("ssh"));
    let agent = format!("default={}", socket.display());
    buildx(cx, &["--ssh", &agent, "-t", &tag]).ok();
    assert_eq!(sh(cx, &tag, "cat /seen"), "666");
    cx.write("context/Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required=true true\n");
    buildx(cx, &[]).fails_with(1, &["ssh"]);
}

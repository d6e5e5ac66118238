//! docker-py: a client that reads shapes strictly and speaks the old hijack.

use std::process::Command;
use testkit::{Cx, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] =
    cases![run_and_output, streams_and_exec, images_and_build, events_and_waits, errors_have_types];

/// Runs a script with `client` ready, and asserts that it ends well.
fn python(cx: &Cx<'_>, script: &str) {
    let prelude =
        "import docker, io, sys\nfrom docker import errors\nclient = docker.from_env(timeout=60)\n";
    run_python(cx, "docker", &format!("{prelude}{script}"));
}

/// Runs a script that needs `module`, and asserts that it ends well. It knows `NAME`, a name of its own, and `HERE`,
/// the case's folder.
pub(crate) fn run_python(cx: &Cx<'_>, module: &str, script: &str) {
    let own = testkit::image::cache_dir().join("venv/bin/python3");
    let python = if own.exists() { own } else { "python3".into() };
    let probe = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        skip(&format!("there is no {module} for Python: scripts/setup --tests installs it"));
    }
    let head = format!("NAME = {:?}\nHERE = {:?}\n", cx.name("x"), cx.dir().display().to_string());
    let file = cx.write("script.py", format!("{head}{script}"));
    let mut command = Command::new(python);
    command.arg(file).env("DOCKER_HOST", format!("unix://{}", cx.daemon.socket().display()));
    // The helper that tidies up after a killed test is an image that is not here.
    command.env("TESTCONTAINERS_RYUK_DISABLED", "true").env("DOCKER_CONFIG", "/nonexistent");
    command::run(&mut command, b"").ok();
}

fn run_and_output(cx: &Cx<'_>) {
    python(
        cx,
        r#"
assert client.ping()
assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
assert client.containers.run("busybox", ["sh", "-c", "echo $A"], environment={"A": "b"}, remove=True) == b"b\n"
c = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"], name=NAME, detach=True)
assert c.wait()["StatusCode"] == 3
assert c.logs(stderr=False) == b"out\n", c.logs(stderr=False)
assert c.logs(stdout=False) == b"err\n"
c.reload()
assert c.status == "exited" and c.attrs["State"]["ExitCode"] == 3
assert c.short_id == c.id[:12] and c.name == NAME
assert NAME in [x.name for x in client.containers.list(all=True)]
c.remove()
assert client.info()["OSType"] == "linux" and client.version()["Os"] == "linux"
"#,
    );
}

fn streams_and_exec(cx: &Cx<'_>) {
    python(
        cx,
        r#"
c = client.containers.run("busybox", "cat", name=NAME, detach=True, stdin_open=True)
s = c.attach_socket(params={"stdin": 1, "stream": 1, "stdout": 1})
s._sock.sendall(b"typed\n")
import struct
head = s.read(8)
size = struct.unpack(">BxxxL", head)[1]
assert s.read(size) == b"typed\n"
s.close()
code, output = c.exec_run(["sh", "-c", "echo in; exit 4"])
assert (code, output) == (4, b"in\n"), (code, output)
code, (out, err) = c.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
assert (out, err) == (b"o\n", b"e\n")
lines = [l for _, l in zip(range(1), c.logs(stream=True, follow=True))]
assert lines == [b"typed\n"], lines
c.pause(); c.reload(); assert c.status == "paused"; c.unpause()
assert c.top()["Titles"]
c.rename(NAME + "2")
c.kill(); c.wait(); c.remove()
"#,
    );
}

fn images_and_build(cx: &Cx<'_>) {
    python(
        cx,
        r#"
image, log = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo built > /f\nLABEL a=b\n"), tag=NAME)
assert image.labels == {"a": "b"} and image.tags == [NAME + ":latest"]
assert any("Successfully built" in l.get("stream", "") for l in log)
assert client.containers.run(NAME, "cat /f", remove=True) == b"built\n"
assert image.history()[0]["CreatedBy"]
data = b"".join(image.save(named=True))
client.images.remove(NAME)
loaded = client.images.load(data)
assert loaded[0].tags == [NAME + ":latest"], loaded
assert image.tag(NAME, "two")
assert client.images.get(NAME + ":two").id == image.id
client.images.remove(image.id, force=True)
try:
    client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"))
    raise SystemExit("a failing build must raise")
except errors.BuildError as e:
    assert "returned a non-zero code: 3" in str(e), e
v = client.volumes.create(NAME, labels={"x": "y"})
assert v.attrs["Labels"] == {"x": "y"}; v.remove()
assert client.networks.get("bridge").attrs["Driver"] == "bridge"
"#,
    );
}

fn events_and_waits(cx: &Cx<'_>) {
    python(
        cx,
        r#"
import time
since = int(time.time()) - 1
c = client.containers.create("busybox", "true", name=NAME, auto_remove=False)
c.start()
c.wait(condition="not-running")
stream = client.events(since=since, decode=True, filters={"container": NAME})
seen = []
for event in stream:
    seen.append(event["Action"])
    if event["Action"] == "die":
        break
stream.close()
assert seen[:1] == ["create"] and "start" in seen, seen
c.remove()
df = client.df()
assert df["Images"] and "LayersSize" in df
"#,
    );
}

fn errors_have_types(cx: &Cx<'_>) {
    python(
        cx,
        r#"
for call, kind in [
    (lambda: client.containers.get("no-such"), errors.NotFound),
    (lambda: client.images.get("no-such"), errors.ImageNotFound),
    (lambda: client.containers.create("no-such-image:x"), errors.ImageNotFound),
    (lambda: client.volumes.get("no-such"), errors.NotFound),
    (lambda: client.networks.get("no-such"), errors.NotFound),
    (lambda: client.containers.run("busybox", "false", remove=True), errors.ContainerError),
]:
    try:
        call()
    except kind:
        continue
    raise SystemExit(f"{kind} was not raised")
"#,
    );
}

//! testcontainers for Python: its usual examples, with images that the daemon has.

use super::sdk_docker_py::run_python;
use testkit::{Cx, cases, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    a_generic_container_with_waits,
    containers_meet_on_a_network,
    images_are_built,
    files_volumes_and_exec,
    a_compose_project,
];

fn python(cx: &Cx<'_>, script: &str) {
    let prelude = r#"
import os, time, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs
"#;
    run_python(cx, "testcontainers", &format!("{prelude}{script}"));
}

fn a_generic_container_with_waits(cx: &Cx<'_>) {
    python(
        cx,
        r#"
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy, PortWaitStrategy
serve = "sh -c 'mkdir /w; echo page > /w/index.html; echo begun; exec httpd -f -p 80 -h /w'"
with DockerContainer("busybox").with_command(serve).with_exposed_ports(80).with_env("A", "b") as c:
    wait_for_logs(c, "begun", timeout=20)
    host, port = c.get_container_host_ip(), c.get_exposed_port(80)
    for _ in range(100):
        try:
            body = urllib.request.urlopen(f"http://{host}:{port}/").read()
            break
        except OSError:
            time.sleep(0.05)
    assert body == b"page\n", body
    assert c.exec(["sh", "-c", "echo $A"]).output == b"b\n"
    out, err = c.get_logs()
    assert b"begun" in out and err == b""
    inner = c.get_wrapped_container().id
import docker
try:
    docker.from_env().containers.get(inner)
    assert False, "it stays"
except docker.errors.NotFound:
    pass
waits = [LogMessageWaitStrategy("begun"), PortWaitStrategy(80), HttpWaitStrategy(80).for_status_code(200)]
for wait in waits:
    with DockerContainer("busybox").with_command(serve).with_exposed_ports(80).waiting_for(wait):
        pass
"#,
    );
}

fn containers_meet_on_a_network(cx: &Cx<'_>) {
    python(
        cx,
        r#"
from testcontainers.core.network import Network
with Network() as net:
    serve = "sh -c 'mkdir /w; echo from-a > /w/index.html; exec httpd -f -p 80 -h /w'"
    with DockerContainer("busybox").with_command(serve).with_network(net).with_network_aliases("alpha") as a:
        with DockerContainer("busybox").with_command("sleep 60").with_network(net) as b:
            for _ in range(100):
                got = b.exec("wget -qO- http://alpha/")
                if got.exit_code == 0:
                    break
                time.sleep(0.05)
            assert got.output == b"from-a\n", got
"#,
    );
}

fn images_are_built(cx: &Cx<'_>) {
    python(
        cx,
        r#"
from testcontainers.core.image import DockerImage
os.mkdir(HERE + "/ctx")
open(HERE + "/ctx/Dockerfile", "w").write("FROM busybox\nCOPY f /f\nCMD [\"cat\", \"/f\"]\n")
open(HERE + "/ctx/f", "w").write("built here\n")
with DockerImage(path=HERE + "/ctx", tag=NAME + ":latest") as image:
    with DockerContainer(str(image)) as c:
        wait_for_logs(c, "built here", timeout=20)
"#,
    );
}

fn files_volumes_and_exec(cx: &Cx<'_>) {
    python(
        cx,
        r#"
import io, tarfile
open(HERE + "/host", "w").write("from the host")
with DockerContainer("busybox").with_command("sleep 60").with_volume_mapping(HERE, "/here", "ro") as c:
    assert c.exec("cat /here/host").output == b"from the host"
    assert c.exec("touch /here/x").exit_code != 0
    wrapped = c.get_wrapped_container()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as t:
        info = tarfile.TarInfo("put"); info.size = 3
        t.addfile(info, io.BytesIO(b"abc"))
    assert wrapped.put_archive("/tmp", tar.getvalue())
    assert c.exec("cat /tmp/put").output == b"abc"
    bits, stat = wrapped.get_archive("/tmp/put")
    assert stat["size"] == 3 and len(b"".join(bits)) % 512 == 0
    stats = wrapped.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
"#,
    );
}

fn a_compose_project(cx: &Cx<'_>) {
    let Some(config) = cx.plugged(&["docker-compose"]) else { skip(super::compose::NO_COMPOSE) };
    python(
        cx,
        &format!(
            r#"
os.environ["DOCKER_CONFIG"] = {config:?}
os.environ["COMPOSE_PROJECT_NAME"] = NAME
from testcontainers.compose import DockerCompose
os.mkdir(HERE + "/proj")
open(HERE + "/proj/compose.yaml", "w").write("""
services:
  web:
    image: busybox
    command: sh -c "mkdir /w; echo composed > /w/index.html; exec httpd -f -p 80 -h /w"
    ports: ["127.0.0.1::80"]
    stop_grace_period: 0s
""")
with DockerCompose(HERE + "/proj", wait=True, keep_volumes=False) as compose:
    host, port = compose.get_service_host_and_port("web", 80)
    for _ in range(100):
        try:
            body = urllib.request.urlopen(f"http://{{host}}:{{port}}/").read()
            break
        except OSError:
            time.sleep(0.05)
    assert body == b"composed\n", body
    out, err, code = compose.exec_in_container(["echo", "in"], "web")
    assert (out.strip(), code) == ("in", 0), (out, err, code)
"#
        ),
    );
}

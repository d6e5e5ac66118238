//! Clients in other languages: programs of ours in `crates/testkit/clients/`, one per client, each over its wide surface.
//!
//! `scripts/setup --tests` installs what they need below `target/testkit`; a case whose language is not on the machine
//! is skipped, and says so. A program prints `ok SECTION` or `FAILED SECTION: why` for each part and ends with 1 when
//! one failed. It is told by its environment:
//! `NAME` (what its objects are called after), `REGISTRY` (one that takes pushes), `SUBNET` (three numbers of its own
//! addresses) and `COMPOSE` (the compose plugin is there).

use std::{
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{
    Cx, cases, command,
    cx::skip,
    registry::{Options, Registry},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    dockerode,
    testcontainers_for_node,
    docker_s_client_for_go,
    testcontainers_for_go,
    docker_java,
    testcontainers_for_java,
    testcontainers_for_java_that_is_old,
    bollard,
    testcontainers_for_rust,
];

/// A file of `crates/testkit/clients/`.
fn program(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file)
}

/// Where `scripts/setup --tests` has installed `what`; the case is skipped when it has not.
fn installed(what: &str) -> PathBuf {
    let path = testkit::image::cache_dir().join(what);
    if !path.exists() {
        skip(&format!(
            "there is no {what}: scripts/setup --tests installs it where its language is"
        ));
    }
    path.canonicalize().unwrap()
}

/// Runs a program of a client and asserts that all of its parts went well.
fn run(cx: &Cx<'_>, command: &mut Command) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let config = cx.plugged(&["docker-compose"]);
    if config.is_some() {
        command.env("COMPOSE", "1");
    }
    let third = std::process::id() % 250;
    command
        .current_dir(cx.dir())
        .env("DOCKER_HOST", format!("unix://{}", cx.daemon.socket().display()))
        .env("DOCKER_CONFIG", config.unwrap_or_else(|| cx.dir().join(".docker")))
        .env("NAME", cx.name("x"))
        .env("REGISTRY", registry.host())
        .env("SUBNET", format!("10.118.{third}"))
        // The image that tidies up after a killed test comes from a registry that tests do not reach.
        .env("TESTCONTAINERS_RYUK_DISABLED", "true");
    let output = command::run(command, b"");
    output.ok();
    assert!(output.stdout.contains("ok "), "no part was run: {}", output.describe());
}

fn node(cx: &Cx<'_>, file: &str) {
    let modules = installed("node/node_modules");
    run(cx, Command::new("node").arg(program(file)).env("NODE_PATH", modules));
}

fn dockerode(cx: &Cx<'_>) {
    node(cx, "node/dockerode.cjs");
}

fn testcontainers_for_node(cx: &Cx<'_>) {
    node(cx, "node/testcontainers.cjs");
}

fn docker_s_client_for_go(cx: &Cx<'_>) {
    run(cx, &mut Command::new(installed("bin/client-docker")));
}

fn testcontainers_for_go(cx: &Cx<'_>) {
    run(cx, &mut Command::new(installed("bin/client-testcontainers")));
}

/// Runs a program from its source, beside the jars of a folder.
fn java(cx: &Cx<'_>, file: &str, jars: &str) {
    let home = format!("-Duser.home={}", cx.dir().display());
    let class_path = installed(&format!("java/{jars}")).join("*");
    let mut command = Command::new("java");
    // With this image testcontainers finds out whether files can be mounted; its own is on a registry.
    command.env("TESTCONTAINERS_TINYIMAGE_CONTAINER_IMAGE", "busybox:latest");
    command.arg(home).arg("-cp").arg(class_path).arg(program(&format!("java/{file}")));
    run(cx, &mut command);
}

fn docker_java(cx: &Cx<'_>) {
    java(cx, "DockerJava.java", "lib");
}

fn testcontainers_for_java(cx: &Cx<'_>) {
    java(cx, "Testcontainers.java", "lib");
}

fn testcontainers_for_java_that_is_old(cx: &Cx<'_>) {
    java(cx, "Testcontainers.java", "old");
}

fn bollard(cx: &Cx<'_>) {
    run(cx, &mut Command::new(installed("rust/debug/bollard")));
}

fn testcontainers_for_rust(cx: &Cx<'_>) {
    run(cx, &mut Command::new(installed("rust/debug/testcontainers")));
}

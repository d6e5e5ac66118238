//! Rows about projects of ten services, by docker compose and by `gantry compose`.
//!
//! Both drive every contestant through its socket, so that the client's part can be told from the engine's.

use super::contestant::{Contestant, milliseconds};
use crate::shell::target;
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

/// The folder of the project.
fn folder(c: &Contestant) -> PathBuf {
    std::env::temp_dir().join(format!(
        "gantry-bench-{}-{}",
        std::process::id(),
        c.name.replace('/', "_")
    ))
}

fn write(c: &Contestant, condition: &str) -> Result<()> {
    let mut text = String::from("name: bench\nservices:\n");
    for n in 0..10 {
        let network = if n % 2 == 0 { "front" } else { "back" };
        text.push_str(&format!(
            "  s{n}:\n    image: busybox\n    command: sleep 600\n    stop_grace_period: 0s\n    networks: [{network}]\n"
        ));
        if n < 3 {
            text.push_str(
                "    healthcheck: {test: [CMD, \"true\"], interval: 5s, start_period: 10s, start_interval: 50ms}\n",
            );
        } else {
            text.push_str(&format!("    depends_on: {{s{}: {{condition: {condition}}}}}\n", n % 3));
        }
    }
    text.push_str("networks: {front: , back: }\n");
    let folder = folder(c);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("compose.yaml"), text).context("write the project")
}

/// Services that wait for others' starts.
pub(super) fn plain(c: &mut Contestant) -> Result<()> {
    write(c, "service_started")
}

/// Services that wait for others' health.
pub(super) fn healthy(c: &mut Contestant) -> Result<()> {
    write(c, "service_healthy")
}

/// A program that the tests use.
fn installed(name: &str) -> Result<PathBuf> {
    let program = target().join("testkit/bin").join(name);
    if !program.exists() {
        bail!("there is no {name}: scripts/setup --tests builds it");
    }
    Ok(program)
}

/// Compose in the project's folder.
fn compose(c: &Contestant, who: Who, args: &[&str]) -> Result<f64> {
    let mut command = match who {
        Who::Docker => Command::new(installed("docker-compose")?),
        Who::Gantry => {
            let mut command = Command::new(&c.cli);
            command.arg("compose");
            command
        }
    };
    command.args(args).current_dir(folder(c));
    timed(c, &mut command).with_context(|| format!("compose {}", args.join(" ")))
}

#[derive(Clone, Copy)]
enum Who {
    Docker,
    Gantry,
}

/// Milliseconds of a client of the contestant's socket that must succeed.
fn timed(c: &Contestant, command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null());
    command.env("DOCKER_HOST", format!("unix://{}", c.daemon.socket().display()));
    command.env("DOCKER_CONFIG", "/nonexistent");
    let began = Instant::now();
    let output = command.output().context("run a client")?;
    let took = milliseconds(began);
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("it ended with {}: {}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(took)
}

/// Milliseconds of `up -d`; then everything goes again, which does not count.
fn up(c: &Contestant, who: Who) -> Result<f64> {
    let took = compose(c, who, &["up", "-d"])?;
    compose(c, who, &["down", "-t", "0"])?;
    Ok(took)
}

/// Milliseconds of `down`, after an `up -d` that does not count.
fn down(c: &Contestant, who: Who) -> Result<f64> {
    compose(c, who, &["up", "-d"])?;
    compose(c, who, &["down"])
}

pub(super) fn up_by_docker(c: &mut Contestant) -> Result<f64> {
    up(c, Who::Docker)
}

pub(super) fn up_by_gantry(c: &mut Contestant) -> Result<f64> {
    up(c, Who::Gantry)
}

pub(super) fn down_by_docker(c: &mut Contestant) -> Result<f64> {
    down(c, Who::Docker)
}

pub(super) fn down_by_gantry(c: &mut Contestant) -> Result<f64> {
    down(c, Who::Gantry)
}

/// Milliseconds of fifty short tests with testcontainers for Go, one after the other.
pub(super) fn testcontainers(c: &mut Contestant) -> Result<f64> {
    let mut command = Command::new(installed("client-testcontainers")?);
    command.env("SUITE", "50").env("NAME", "bench").env("TESTCONTAINERS_RYUK_DISABLED", "true");
    timed(c, &mut command).context("fifty tests with testcontainers")
}

pub(super) fn tidy(c: &mut Contestant) {
    c.clear();
    // It was ours alone.
    let _ = fs::remove_dir_all(folder(c));
}

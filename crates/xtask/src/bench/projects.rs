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

pub(super) fn by_docker(c: &mut Contestant) -> Result<f64> {
    let program = target().join("testkit/bin/docker-compose");
    if !program.exists() {
        bail!("there is no docker-compose: scripts/setup --tests builds it");
    }
    up(c, || Command::new(&program))
}

pub(super) fn by_gantry(c: &mut Contestant) -> Result<f64> {
    let program = target().join("release/gantry");
    up(c, || {
        let mut command = Command::new(&program);
        command.arg("compose");
        command
    })
}

/// Milliseconds of `up -d`; then everything goes again, which does not count.
fn up(c: &Contestant, program: impl Fn() -> Command) -> Result<f64> {
    let run = |args: &[&str]| -> Result<f64> {
        let mut command = program();
        command.args(args).current_dir(folder(c)).stdin(Stdio::null());
        command.env("DOCKER_HOST", format!("unix://{}", c.daemon.socket().display()));
        command.env("DOCKER_CONFIG", "/nonexistent");
        let began = Instant::now();
        let output = command.output().context("run compose")?;
        let took = milliseconds(began);
        if !output.status.success() {
            bail!("compose {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(took)
    };
    let took = run(&["up", "-d"])?;
    run(&["down", "-t", "0"])?;
    Ok(took)
}

pub(super) fn tidy(c: &mut Contestant) {
    c.clear();
    // It was ours alone.
    let _ = fs::remove_dir_all(folder(c));
}

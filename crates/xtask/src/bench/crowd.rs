//! Five hundred containers on one machine: what they cost while they idle, and what it costs to look at them.
//!
//! Of Gantry alone: 500 of containerd's shims take minutes to start and gigabytes to hold.

use super::contestant::{Contestant, milliseconds};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};
use testkit::{daemon::Engine, http::Stream};

const CROWD: usize = 500;
/// Ticks per second in `/proc/pid/stat`, whatever the kernel's own clock is (proc(5)).
const USER_HZ: f64 = 100.0;
/// How long the statistics are followed.
const FOLLOWED: Duration = Duration::from_secs(20);

/// Starts them, idle and without network.
pub(super) fn gather(c: &mut Contestant) -> Result<()> {
    if c.daemon.engine() != Engine::Gantry {
        bail!("only Gantry is measured with {CROWD} containers");
    }
    let api = c.api();
    for _ in 0..CROWD {
        let body = json!({
            "Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"},
        });
        let made = api.post("/v1.41/containers/create", &body);
        let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
        let started = api.post(&format!("/v1.41/containers/{id}/start"), &Value::Null);
        if started.status() != 204 {
            bail!("start of a crowd: {}{}", made.text(), started.text());
        }
    }
    Ok(())
}

/// Resident memory of the daemon.
pub(super) fn daemon(c: &mut Contestant) -> Result<f64> {
    ids(c)?;
    let status = fs::read_to_string(format!("/proc/{}/status", pid(c)?))?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("the daemon has a size")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Private memory of one container's shim.
pub(super) fn each(c: &mut Contestant) -> Result<f64> {
    ids(c)?;
    Ok(c.private_memory()?.1 / 1e6 / CROWD as f64)
}

/// The list, as the API gives it.
pub(super) fn list(c: &mut Contestant) -> Result<f64> {
    let began = Instant::now();
    let list = c.api().get("/v1.41/containers/json");
    let took = milliseconds(began);
    match list.json().as_array().map_or(0, Vec::len) {
        CROWD => Ok(took),
        other => bail!("{other} of {CROWD} containers are listed"),
    }
}

/// Hundredths of one processor that the daemon needs while somebody follows the statistics of all.
pub(super) fn statistics(c: &mut Contestant) -> Result<f64> {
    let (api, pid) = (c.api(), pid(c)?);
    let follow = |id: &String| {
        let path = format!("/v1.41/containers/{id}/stats?stream=1");
        api.stream("GET", &path, false, &Value::Null)
    };
    let streams: Vec<Stream> = ids(c)?.iter().map(follow).collect();
    let (before, began) = (processor_time(pid)?, Instant::now());
    thread::sleep(FOLLOWED);
    let (after, took) = (processor_time(pid)?, began.elapsed());
    for mut stream in streams {
        stream.line().context("statistics of a container")?;
    }
    Ok((after - before) / took.as_secs_f64() * 100.0)
}

fn pid(c: &Contestant) -> Result<i32> {
    c.daemon.pid().context("the daemon's process is known")
}

fn ids(c: &Contestant) -> Result<Vec<String>> {
    let list = c.api().get("/v1.41/containers/json").json();
    let id = |c: &Value| c["Id"].as_str().map(str::to_owned);
    let ids: Vec<String> = list.as_array().into_iter().flatten().filter_map(id).collect();
    match ids.len() {
        CROWD => Ok(ids),
        other => bail!("{other} of {CROWD} containers run"),
    }
}

/// Seconds of processor time that the process has used.
fn processor_time(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a process has a state")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks / USER_HZ)
}

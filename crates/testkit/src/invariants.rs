//! What must hold after every fault, and the program that checks it.
//!
//! I1, I2: every image that is listed can be run (or saved, where it holds no program), and every blob has its digest.
//! I3: containers that ran still run with the same pid and start time. I4: their numbered lines are neither lost nor
//! doubled. I5: after everything is removed the census finds nothing. I8: a named volume holds what it held. That the
//! API answers (I6) shows [`Daemon::start_again`]; that what failed works when tried again (I7) is for the caller.

use crate::{Census, Daemon, command, image::sha256};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Name of the volume that is watched.
const VOLUME: &str = "watched-volume";

/// Images whose name begins so hold no program.
pub const NO_PROGRAM: &str = "loaded:";

/// What was prepared before the first fault.
#[derive(Debug)]
pub struct Invariants {
    witnesses: Vec<Witness>,
    sum: String,
    /// Lines may be lost, but none is torn, doubled or out of order.
    lossy: bool,
}

/// A container that runs through all faults, and what must stay as it is.
#[derive(Debug)]
struct Witness {
    id: String,
    pid: Value,
    started: Value,
}

impl Invariants {
    /// Starts a container that counts on each of `networks`, and fills a volume; busybox has been loaded.
    ///
    /// # Errors
    /// The daemon refuses something.
    pub fn prepare(daemon: &Daemon, networks: &[&str]) -> Result<Self> {
        let script = "i=0; while :; do i=$((i+1)); echo $i; usleep 5000; done";
        let volume = format!("{VOLUME}:/v");
        let fill = "seq 1 20000 > /v/f; sync";
        docker(daemon, &["run", "--rm", "-v", &volume, "busybox", "sh", "-c", fill])?;
        let sum = sum(daemon)?;
        let mut witnesses = Vec::new();
        for network in networks {
            let id = docker(
                daemon,
                &["run", "-d", "--network", network, "busybox", "sh", "-c", script],
            )?;
            let state = state(daemon, &id);
            witnesses.push(Witness {
                id,
                pid: state["Pid"].clone(),
                started: state["StartedAt"].clone(),
            });
        }
        Ok(Self { witnesses, sum, lossy: false })
    }

    /// Without space for logs lines may be lost, in order.
    #[must_use]
    pub fn losing_lines(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// Checks I1 to I4 and I8.
    ///
    /// # Errors
    /// One does not hold; the message names it.
    pub fn check(&self, daemon: &Daemon) -> Result<()> {
        self.witnesses_live(daemon)?;
        images_are_whole(daemon)?;
        let now = sum(daemon).context("read the volume (I8)")?;
        ensure!(now == self.sum, "the volume holds {now}, not {} (I8)", self.sum);
        Ok(())
    }

    /// As [`Invariants::check`] after the machine went down: no container runs.
    ///
    /// # Errors
    /// One does not hold; the message names it.
    pub fn check_after_power_cut(&self, daemon: &Daemon) -> Result<()> {
        images_are_whole(daemon)?;
        let now = sum(daemon).context("read the volume (I8)")?;
        ensure!(now == self.sum, "the volume holds {now}, not {} (I8)", self.sum);
        Ok(())
    }

    /// What is here and was not in `before` (I5), while the containers that are watched run; on a shared machine only what
    /// bears marks of this daemon.
    pub fn leftovers(&self, daemon: &Daemon, before: &Census) -> Vec<String> {
        let mut found = left(daemon, before, &marks(daemon));
        let itself = format!("process: {} ", daemon.pid().unwrap_or_default());
        found.retain(|line| {
            let watched = |w: &Witness| line.starts_with("process: ") && line.contains(&w.id);
            !line.starts_with(&itself) && !self.witnesses.iter().any(watched)
        });
        found
    }

    fn witnesses_live(&self, daemon: &Daemon) -> Result<()> {
        for witness in &self.witnesses {
            let state = state(daemon, &witness.id);
            ensure!(
                state["Pid"] == witness.pid
                    && state["StartedAt"] == witness.started
                    && state["Running"] == true,
                "a container did not live on (I3): {state}"
            );
            let logs = docker(daemon, &["logs", &witness.id])?;
            let mut last = 0_u64;
            for line in logs.lines() {
                let number: u64 =
                    line.parse().with_context(|| format!("log line {line:?} (I4)"))?;
                let follows = if self.lossy { number > last } else { number == last + 1 };
                ensure!(follows, "after log line {last} comes {number} (I4)");
                last = number;
            }
        }
        Ok(())
    }
}

fn state(daemon: &Daemon, id: &str) -> Value {
    daemon.api().get(&format!("/containers/{id}/json")).json()["State"].clone()
}

fn sum(daemon: &Daemon) -> Result<String> {
    let volume = format!("{VOLUME}:/v");
    let none = "--network=none";
    docker(daemon, &["run", "--rm", none, "-v", &volume, "busybox", "md5sum", "/v/f"])
}

/// Every image that is listed can be used, every blob has its digest.
///
/// # Errors
/// One does not hold; the message names it.
pub fn images_are_whole(daemon: &Daemon) -> Result<()> {
    for image in daemon.api().get("/images/json").json().as_array().into_iter().flatten() {
        let tags = image["RepoTags"].as_array().into_iter().flatten();
        for tag in tags.filter_map(Value::as_str).filter(|t| *t != "<none>:<none>") {
            if tag.contains(NO_PROGRAM) {
                let archive = daemon.path("saved");
                docker(daemon, &["save", "-o", &archive.display().to_string(), tag])
                    .with_context(|| format!("save {tag} (I1)"))?;
                fs::remove_file(archive)?;
            } else {
                docker(daemon, &["run", "--rm", "--network=none", tag, "true"])
                    .with_context(|| format!("run {tag} (I1, I2)"))?;
            }
        }
    }
    let blobs = daemon.path("root/content/blobs/sha256");
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        // One that is being removed meanwhile is no fault.
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(name == sha256(&bytes), "blob {name} has other bytes (I1)");
    }
    Ok(())
}

/// The machine, and the daemon's folders without its database.
pub fn census(daemon: &Daemon) -> Census {
    let dirs = [
        "exec/containers",
        "root/builds",
        "root/containers",
        "root/content",
        "root/layers",
        "root/tmp",
        "root/trash",
        "root/volumes",
    ];
    let dirs = dirs.map(|d| daemon.path(d));
    Census::take(&dirs.each_ref().map(PathBuf::as_path))
}

/// What everything of this daemon bears: one of its containers' ids, its folders, its bridge.
fn marks(daemon: &Daemon) -> Vec<String> {
    let mut marks = daemon.container_ids();
    marks.push(daemon.path("").display().to_string().trim_end_matches('/').to_owned());
    marks.push(daemon.path("root").display().to_string());
    marks.extend(daemon.bridge());
    marks.retain(|mark| !mark.is_empty());
    marks
}

fn left(daemon: &Daemon, before: &Census, marks: &[String]) -> Vec<String> {
    let shared = std::env::var_os("GANTRY_TEST_SHARED_HOST").is_some();
    census(daemon).leftovers(before, shared.then_some(marks))
}

/// Waits until what was removed is deleted.
///
/// # Errors
/// It is not in a minute.
pub fn trash_is_emptied(daemon: &Daemon) -> Result<()> {
    let trash = daemon.path("root/trash");
    let began = Instant::now();
    while fs::read_dir(&trash).is_ok_and(|mut dir| dir.next().is_some()) {
        ensure!(began.elapsed() < Duration::from_secs(60), "{} is not emptied", trash.display());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes everything, stops the daemon, and takes the census (I5).
///
/// # Errors
/// Something does not go, or is left.
pub fn remove_all_and_stop(daemon: &Daemon, before: &Census) -> Result<()> {
    let marks = marks(daemon);
    let api = daemon.api();
    for container in api.get("/containers/json?all=1").json().as_array().into_iter().flatten() {
        let id = container["Id"].as_str().unwrap_or_default();
        let answer = api.delete(&format!("/containers/{id}?force=1&v=1"));
        ensure!(answer.status() == 204, "remove {id}: {}", answer.text());
    }
    docker(daemon, &["system", "prune", "-af", "--volumes"])?;
    docker(daemon, &["volume", "prune", "-af"])?;
    let images = api.get("/images/json?all=1").json();
    ensure!(images.as_array().is_some_and(Vec::is_empty), "images are left: {images}");
    // Deleted in the background; what a stop leaves of it the next start takes up.
    trash_is_emptied(daemon)?;
    daemon.stop()?;
    let left = left(daemon, before, &marks);
    if !left.is_empty() {
        bail!("left behind (I5):\n  {}", left.join("\n  "));
    }
    Ok(())
}

/// Runs the docker command line; its trimmed output.
///
/// # Errors
/// It fails.
pub fn docker(daemon: &Daemon, args: &[&str]) -> Result<String> {
    docker_with(daemon, args, b"")
}

/// As [`docker`], with bytes on its standard input.
///
/// # Errors
/// It fails.
pub fn docker_with(daemon: &Daemon, args: &[&str], input: &[u8]) -> Result<String> {
    let output = command::run(daemon.docker().args(args), input);
    ensure!(output.code == Some(0), "{}", output.describe());
    Ok(output.stdout.trim_end().to_owned())
}

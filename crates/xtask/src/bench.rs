//! `cargo xtask bench`: Gantry beside other engines, in one run, by the clients that people use.
//!
//! Every contestant gets a daemon of its own with own folders and bridge (`dockerd` of docker.io when it
//! is installed; `--peer NAME=FOLDER` for a dockerd with its containerd in that folder; `--socket
//! NAME=PATH` for one that runs already). Rounds are interleaved: each row asks every contestant in
//! turn, so that a busy moment of the machine hits all of them. Medians and ratios are printed and, with
//! `--write`, put into docs/benchmarks.md together with the machine. `--debug` takes the debug build of Gantry, to
//! see that rows run.

mod builds;
pub(crate) mod contestant;
mod crowd;
mod networks;
mod projects;
mod registry;
mod report;
mod rows;
mod transfer;
mod wires;

use crate::shell::{number, say, target, value, values};
use anyhow::{Context as _, Result};
use contestant::Contestant;
use rows::{ROWS, Row};
use std::path::{Path, PathBuf};

/// What one contestant needed in one row: one number per round, in the row's unit.
pub(crate) type Samples = Vec<Option<f64>>;

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|a| a == "registry") {
        return registry::run(&args[1..]);
    }
    if args.first().is_some_and(|a| a == "networks") {
        return wires::run(&args[1..]);
    }
    let quick = args.iter().any(|a| a == "--quick");
    let rounds = number(args, "--rounds", if quick { 3 } else { 15 })?;
    let word = value(args, "--row").unwrap_or("");
    let mut contestants = contestants(args)?;
    let mut table: Vec<(&Row, Vec<Samples>)> = Vec::new();
    for row in ROWS.iter().filter(|r| r.name.contains(word)) {
        let mut samples: Vec<Samples> = contestants.iter().map(|_| Vec::new()).collect();
        for contestant in &mut contestants {
            if let Err(e) = (row.prepare)(contestant) {
                say(&format!("{}: {}: cannot prepare: {e:#}", row.name, contestant.name));
            }
        }
        // One round first that nobody counts.
        for round in 0..=row.rounds(rounds) {
            for n in 0..contestants.len() {
                let n = (n + usize::try_from(round)?) % contestants.len();
                let value = match (row.measure)(&mut contestants[n]) {
                    Ok(value) => Some(value),
                    Err(e) => {
                        say(&format!("{}: {}: {e:#}", row.name, contestants[n].name));
                        None
                    }
                };
                if round > 0 {
                    samples[n].push(value);
                }
            }
        }
        for contestant in &mut contestants {
            (row.tidy)(contestant);
        }
        say(&report::line(row, &contestants, &samples));
        table.push((row, samples));
    }
    let page = report::page(&table, &contestants);
    if args.iter().any(|a| a == "--write") {
        let path = crate::shell::project().join("docs/benchmarks.md");
        std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        say(&format!("written to {}", path.display()));
    } else {
        say(&page);
    }
    Ok(())
}

fn contestants(args: &[String]) -> Result<Vec<Contestant>> {
    let mut list = Vec::new();
    // A debug build shows that rows run, not how fast.
    let build = if args.iter().any(|a| a == "--debug") { "debug" } else { "release" };
    let gantry = target().join(build).join("gantry");
    list.push(
        Contestant::start("gantry", &gantry, None)
            .with_context(|| format!("start gantry (scripts/build {build} builds it)"))?,
    );
    let dockerd =
        ["/usr/sbin/dockerd", "/usr/bin/dockerd"].iter().map(Path::new).find(|p| p.exists());
    if let Some(dockerd) = dockerd {
        list.push(Contestant::start("dockerd", dockerd, None)?);
    }
    for peer in values(args, "--peer") {
        let (name, folder) = peer.split_once('=').context("--peer NAME=FOLDER")?;
        let folder = PathBuf::from(folder);
        list.push(Contestant::start(name, &folder.join("dockerd"), Some(&folder))?);
    }
    for socket in values(args, "--socket") {
        let (name, path) = socket.split_once('=').context("--socket NAME=PATH")?;
        list.push(Contestant::external(name, Path::new(path)));
    }
    for contestant in &mut list {
        contestant.cli.clone_from(&gantry);
        contestant.daemon.load_busybox()?;
    }
    Ok(list)
}

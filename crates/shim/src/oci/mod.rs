//! The shim as an OCI runtime: `gantry-shim create`, as podman, containerd, dockerd and people call one.
//!
//! Flow: [`asked`] tells such a call from the daemon's; `arguments.rs` reads it, `commands.rs` has one row
//! for each command. `config.json` becomes the plan that the monitor carries out too (`runtime::oci::spec`),
//! the same copy of this process becomes the container (`crate::container`), and waits at its gate
//! (`crate::container::Alone`) until `start` opens it. What is known of a container lies below `--root`
//! (`state.rs`).
//! Invariants: one thread, no async; nothing of it stays behind but the container: no monitor, no socket.
//! Source: runc(8) and its subcommands (flags, texts, files), opencontainers/runtime-spec 1.2 `runtime.md`.
//! Not here: systemd's control groups, checkpoints: such calls are errors.

mod arguments;
mod commands;
mod create;
mod exec;
mod lifecycle;
mod report;
mod show;
mod state;
mod stats;
mod terminal;
mod update;

use crate::container::Step;
use arguments::Given;
use report::Log;
use std::{ffi::OsString, path::PathBuf};

/// Where the state of containers is when nothing else is said.
const ROOT: &str = "/run/gantry-shim";

/// What all commands know.
#[derive(Debug)]
pub(crate) struct Cx {
    /// Folder of the state of all containers.
    root: PathBuf,
}

/// Whether this is a call of the runtime: by a command's name or an option. The daemon gives an id alone.
pub(crate) fn asked(args: &[OsString]) -> bool {
    let first = args.first().and_then(|a| a.to_str()).unwrap_or_default();
    first.starts_with('-')
        || args.len() != 1 && !first.is_empty()
        || commands::find(first).is_some()
}

/// Runs the call; gives its exit code.
pub(crate) fn main(args: &[OsString]) -> i32 {
    let args: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let mut log = Log::default();
    let outcome = run(&args, &mut log);
    match outcome {
        Ok(code) => code,
        Err(err) => {
            log.error(&err.text);
            1
        }
    }
}

fn run(args: &[String], log: &mut Log) -> Step<i32> {
    let (global, rest) = arguments::global(args)?;
    *log = Log::new(global.value("log"), global.value("log-format"))?;
    if global.has("version") {
        report::say(&format!("gantry-shim version {}\nspec: {}\n", VERSION, runtime::oci::SPEC));
        return Ok(0);
    }
    let Some((name, rest)) = rest.split_first().filter(|_| !global.has("help")) else {
        report::say(&arguments::help());
        return Ok(0);
    };
    if global.has("systemd-cgroup") {
        return Err(runtime::shim::StartError::setup(
            "systemd's control groups are not available: use the cgroupfs manager",
        ));
    }
    let Some(command) = commands::find(name) else {
        return Err(runtime::shim::StartError::setup(format!("No help topic for '{name}'")));
    };
    let given = Given::parse(command, rest)?;
    if given.has("help") {
        report::say(&arguments::help_of(command));
        return Ok(0);
    }
    let root = global.value("root").map_or_else(|| ROOT.into(), PathBuf::from);
    (command.run)(&Cx { root }, &given)
}

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

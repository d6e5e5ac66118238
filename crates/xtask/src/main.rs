//! The project's own commands: `cargo xtask COMMAND`.
//!
//! One file per command, one line in [`COMMANDS`]. Not here: anything that users run.

mod bench;
mod census;
mod deps;
mod fuzz;
mod load;
mod shell;
mod survive;
mod tables;
mod tidy;
mod vm;

use anyhow::{Result, bail};
use std::process::ExitCode;

/// A command: its name, what it is for, and what it does with its arguments.
struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

static COMMANDS: &[Command] = &[
    Command {
        name: "bench",
        help: "compare with dockerd (`bench registry`: with docker-registry; `bench networks`: throughput, and 200 containers): [--rounds N] [--quick] [--socket NAME=PATH] [--row WORD] [--debug] [--write]",
        run: bench::run,
    },
    Command {
        name: "fuzz",
        help: "feed parsers with mutated inputs: [--seconds N] [--target NAME] [--seed N]",
        run: fuzz::run,
    },
    Command {
        name: "load",
        help: "much of everything at once, beside dockerd: [--percent N] [--row WORD] [--alone] [--gantry PATH] [--write]",
        run: load::run,
    },
    Command {
        name: "survive",
        help: "kill -9 the daemon under load and check what must hold: [--rounds N] [--seed N] [--mode races|steps|shims|disk|registry|load]",
        run: survive::run,
    },
    Command {
        name: "census",
        help: "list what an engine may leave behind on this machine",
        run: census::run,
    },
    Command {
        name: "deps",
        help: "check the arrows between crates against ARCHITECTURE.md",
        run: deps::run,
    },
    Command {
        name: "tidy",
        help: "check headers, names, leftovers and sizes of source files",
        run: tidy::run,
    },
    Command {
        name: "vm",
        help: "run the end-to-end suite under cgroup v2 in an emulated machine: [--minutes N] [WORD...]",
        run: vm::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        for command in COMMANDS {
            shell::say(&format!("cargo xtask {:8} {}", command.name, command.help));
        }
        return Ok(());
    };
    match COMMANDS.iter().find(|c| c.name == name) {
        Some(command) => (command.run)(rest),
        None => bail!("unknown command {name}; `cargo xtask` lists them"),
    }
}

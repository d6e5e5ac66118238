//! One program, several roles, told apart by the name it is called by and its first word.
//!
//! `dockerd` and `gantry daemon` are the daemon, `gantry registry` is a program of its own that is started in
//! our place (docs/adr/009); everything else is the command line.

mod daemon;
mod registry;

use daemon::Role;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let name = arguments.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let rest: Vec<String> = arguments.collect();
    match (name.as_str(), rest.first().map(String::as_str)) {
        ("dockerd", _) => daemon::main(Role::Dockerd, rest),
        (_, Some("daemon")) => daemon::main(Role::Gantry, rest.into_iter().skip(1)),
        // Started by a shim, for a log driver that sends output elsewhere.
        (_, Some("log-relay")) => relay::main(),
        (name, Some("registry")) if name != "docker" => registry::main(rest.into_iter().skip(1)),
        (_, Some("dockerd")) => daemon::main(Role::Dockerd, rest.into_iter().skip(1)),
        _ => cli::main(rest),
    }
}

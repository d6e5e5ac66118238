//! The `gantry` command line: docker's commands, options, output and exit codes.
//!
//! Flow: [`main`] reads the global options, finds the command in `commands::COMMANDS`, reads its flags
//! (`flags`), and runs it with a `ui::Ui`; commands talk to the engine through `client`.
//! Everything is synchronous: a command is one thing done by one thread, and a thread that waits for the
//! terminal and a socket at once uses poll(2) (`attach`). This keeps the start below a millisecond.
//! Called as `docker`, the program says "docker" where it names itself.
//! Source: docker CLI 28.2.2 (behaviour, texts).

mod attach;
mod buildkit;
mod client;
mod command;
mod commands;
mod compose;
mod config;
mod connect;
mod context;
mod credentials;
mod error;
mod flags;
mod format;
mod http;
mod ignore;
mod options;
mod progress;
mod random;
mod tabwriter;
mod template;
mod term;
mod tls;
mod ui;

use std::process::ExitCode;

/// Runs the command line; `arguments` are those behind the program's name.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let called = std::env::args().next().unwrap_or_default();
    let program = if called.rsplit('/').next() == Some("docker") { "docker" } else { "gantry" };
    let arguments: Vec<String> = arguments.into_iter().collect();
    let code = command::run(program, &arguments);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

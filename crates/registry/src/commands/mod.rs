//! The command line: `serve`, and what the administrator does beside it.
//!
//! The administrator's commands work on the database itself, whether a server runs or not; the server takes
//! changes of users and rules up within a second. To add one: a file here, a variant of [`Command`].

mod audit;
mod content;
mod rule;
mod serve;
mod user;

use crate::{config::Config, meta::Database};
use base::{Error, Result};
use clap::{Parser, Subcommand};
use std::{
    ffi::OsString,
    fs::DirBuilder,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tracing_subscriber::filter::LevelFilter;

/// Read when it is there and no other is named.
const CONFIG: &str = "/etc/gantry/registry.toml";

/// An OCI registry with users, rules and records
#[derive(Debug, Parser)]
#[command(name = "gantry registry", bin_name = "gantry registry", version, max_term_width = 100)]
struct Line {
    /// Configuration file (default /etc/gantry/registry.toml, if it is there)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the registry's data
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Address of the storage of large blobs: file:PATH, s3://BUCKET/PREFIX, gs://..., az://...
    #[arg(long, global = true, value_name = "URL")]
    storage: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry
    Serve(serve::Serve),
    /// Add, list and remove users
    #[command(subcommand)]
    User(user::User),
    /// Set who may pull, push and delete where
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Show who pulled, pushed and deleted what
    Audit(audit::Show),
    /// Collect what nobody needs any more, now
    Gc(content::Gc),
    /// Read everything that is stored and report what is damaged
    Scrub(content::Scrub),
    /// Take over what Docker's registry has stored
    Import(content::Import),
    /// Write a copy of the database, also while the server runs
    Backup(content::Backup),
}

/// Runs the command line; `arguments` begin with the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(err) => {
            // Nothing can be done when even that cannot be said.
            let _ = err.print();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(line) {
        Ok(code) => code,
        Err(err) => {
            let _ = writeln!(std::io::stderr(), "gantry registry: {}", err.chain());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(line: Line) -> Result<ExitCode> {
    let mut config = match &line.config {
        Some(path) => Config::read(path)?,
        None if Path::new(CONFIG).exists() => Config::read(Path::new(CONFIG))?,
        None => Config::default(),
    };
    if let Some(root) = line.root {
        config.root = std::path::absolute(&root)
            .map_err(|e| Error::io(format!("cannot find {}", root.display()), e))?;
    }
    if line.storage.is_some() {
        config.storage.url = line.storage;
    }
    match line.command {
        Command::Serve(command) => serve::run(command, config),
        Command::User(command) => user::run(command, &config),
        Command::Rule(command) => rule::run(command, &config),
        Command::Audit(command) => audit::run(&command, &config),
        Command::Gc(command) => content::gc(&command, config),
        Command::Scrub(command) => content::scrub(&command, config),
        Command::Import(command) => content::import(command, config),
        Command::Backup(command) => content::backup(&command, &config),
    }
}

/// Opens the database for the administrator; the root is made when absent, so that users can be added before
/// the first start.
fn database(config: &Config) -> Result<Database> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.root)
        .map_err(|e| Error::io(format!("cannot create {}", config.root.display()), e))?;
    Database::open(&config.database())
}

/// Runs what has to wait for storage.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the runtime", e))?
        .block_on(work)
}

/// A line for standard output.
fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|e| Error::io("cannot write to standard output", e))
}

/// Sets the log up, to standard error.
fn log(level: &str, format: &str) -> Result<()> {
    let level = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        other => {
            return Err(Error::invalid(format!(
                "no such log level: {other:?}: want error, warn, info, debug or trace"
            )));
        }
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match format {
        "text" => log.with_ansi(false).init(),
        "json" => log.json().init(),
        other => {
            return Err(Error::invalid(format!(
                "no such log format: {other:?}: want text or json"
            )));
        }
    }
    Ok(())
}

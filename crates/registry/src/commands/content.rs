//! `gantry registry gc`, `scrub`, `import`, `backup`

use super::{block_on, database, log, say};
use crate::{config::Config, import, scrub, storage, tls, upkeep};
use base::{Error, Result, Timestamp};
use clap::Args;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio_util::sync::CancellationToken;

/// Lines of a dry run, at most.
const PREVIEW: usize = 1_000_000;

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Only say what would be collected
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Scrub {}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The folder that Docker's registry keeps its data in
    from: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write, which must not exist
    to: PathBuf,
}

fn tell<T: Serialize>(report: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|e| Error::internal("cannot write the report").caused_by(e))?;
    say(&text)
}

pub(super) fn gc(command: &Gc, config: Config) -> Result<ExitCode> {
    log(&config.log.level, &config.log.format)?;
    let database = database(&config)?;
    let now = Timestamp::now();
    if command.dry_run {
        let mut total = 0;
        for (repository, digest, size) in database.read_now(|tx| tx.review_preview(now, PREVIEW))? {
            say(&format!("{repository}@{digest}\t{size}"))?;
            total += size;
        }
        say(&format!("would give up {total} bytes of blobs that these repositories do not need"))?;
        return Ok(ExitCode::SUCCESS);
    }
    tls::install();
    let storage = storage::open(&config.storage())?;
    let done = block_on(upkeep::collect(&database, &*storage, now, Duration::ZERO))?;
    say(&format!(
        "{} links taken away, {} blobs with {} bytes collected, {} objects deleted, {} not yet",
        done.reviewed.unlinked, done.reviewed.blobs, done.reviewed.bytes, done.deleted, done.failed
    ))?;
    Ok(if done.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn scrub(_: &Scrub, config: Config) -> Result<ExitCode> {
    log(&config.log.level, &config.log.format)?;
    tls::install();
    let database = database(&config)?;
    let storage = storage::open(&config.storage())?;
    let faults = database.check()?;
    for fault in &faults {
        say(&format!("database: {fault}"))?;
    }
    let report = block_on(scrub::scrub(&database, &*storage, &CancellationToken::new()))?;
    tell(&report)?;
    let sound = report.damaged.is_empty() && faults.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn import(command: Import, config: Config) -> Result<ExitCode> {
    log(&config.log.level, &config.log.format)?;
    tls::install();
    let database = database(&config)?;
    let storage = storage::open(&config.storage())?;
    let spool = config.root.join("import");
    std::fs::create_dir_all(&spool)
        .map_err(|e| Error::io(format!("cannot create {}", spool.display()), e))?;
    let done = block_on(import::import(&command.from, &spool, &database, &*storage));
    std::fs::remove_dir_all(&spool).map_err(|e| Error::io("cannot clear the spool", e))?;
    let done = done?;
    tell(&done)?;
    Ok(if done.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn backup(command: &Backup, config: &Config) -> Result<ExitCode> {
    database(config)?.copy_to(&command.to)?;
    say(&format!("database copied to {}", command.to.display()))?;
    Ok(ExitCode::SUCCESS)
}

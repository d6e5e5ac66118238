//! `gantry registry audit`: records as lines of JSON.

use super::{database, say};
use crate::{config::Config, meta::AuditFilter};
use base::{Error, Result, Timestamp};
use clap::Args;
use std::process::ExitCode;

/// Records that are read at once.
const PAGE: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Not older than this time, or this long ago (2026-11-29T12:00:00Z, 24h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// By this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// pull, push, mount, delete, login or denied
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
}

pub(super) fn run(command: &Show, config: &Config) -> Result<ExitCode> {
    let database = database(config)?;
    let now = Timestamp::now();
    let since = command.since.as_deref().map(|text| Timestamp::parse_relative(text, now));
    let filter = AuditFilter {
        since: since.transpose()?,
        repository: command.repository.clone(),
        who: command.user.clone(),
        action: command.action.clone(),
    };
    let mut after = 0;
    loop {
        let page = database.read_now(|tx| tx.audits(&filter, after, PAGE))?;
        let Some((last, _)) = page.last() else { return Ok(ExitCode::SUCCESS) };
        after = *last;
        for (_, record) in &page {
            let line = serde_json::to_string(record)
                .map_err(|e| Error::internal("cannot write a record").caused_by(e))?;
            say(&line)?;
        }
    }
}

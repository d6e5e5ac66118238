//! Paths, output and child processes for the commands.

use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// The folder of the project.
pub(crate) fn project() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.ancestors().nth(2).map(PathBuf::from).unwrap_or(dir)
}

/// The target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), PathBuf::from)
}

/// Prints a line.
#[allow(clippy::print_stdout, reason = "this is a command for the terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The value after `flag`.
pub(crate) fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let at = args.iter().position(|a| a == flag)?;
    args.get(at + 1).map(String::as_str)
}

/// All values after each `flag`.
pub(crate) fn values<'a>(args: &'a [String], flag: &str) -> Vec<&'a str> {
    args.windows(2).filter(|w| w[0] == flag).map(|w| w[1].as_str()).collect()
}

/// The number after `flag`, or `default`.
pub(crate) fn number(args: &[String], flag: &str, default: u64) -> Result<u64> {
    match value(args, flag) {
        None => Ok(default),
        Some(text) => text.parse().with_context(|| format!("{flag} takes a number, not {text}")),
    }
}

//! AppArmor: which profile a container runs under, and the default one, which is loaded when it is needed.
//!
//! The profile's text is compiled by the host's `apparmor_parser` (ADR 21); where that or AppArmor is missing,
//! containers have no profile, as with Docker.
//! Source: Docker's `profiles/apparmor` (what is restricted), apparmor.d(5).

use super::{Record, settle::SecurityOption};
use base::{Error, Result};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The default profile's name, which clients and policies know.
pub(crate) const DEFAULT: &str = "docker-default";
const UNCONFINED: &str = "unconfined";
const TEXT: &str = include_str!("docker-default.profile");

/// Whether containers are confined here.
pub(crate) fn enabled() -> bool {
    sys::apparmor::enabled() && parser().is_some()
}

/// The profile of a container, as inspect shows it; empty where there is no AppArmor.
///
/// # Errors
/// `Invalid` for options that are none.
pub(super) fn profile(record: &Record) -> Result<String> {
    if !enabled() {
        return Ok(String::new());
    }
    let usual = if record.host.privileged { UNCONFINED } else { DEFAULT };
    Ok(asked(record)?.unwrap_or_else(|| usual.to_owned()))
}

/// The profile that the options ask for; the last one counts.
fn asked(record: &Record) -> Result<Option<String>> {
    let mut asked = None;
    for option in record.host.security_opt.iter().flatten() {
        if let SecurityOption::AppArmor(profile) = super::settle::security_option(option)? {
            asked = Some(profile.to_owned()).filter(|profile| !profile.is_empty());
        }
    }
    Ok(asked)
}

/// The profile of a process with all privileges.
pub(super) fn none() -> String {
    if enabled() { UNCONFINED } else { "" }.to_owned()
}

/// The profile of a process that is about to run; the default one is loaded.
///
/// # Errors
/// `Internal` when the default profile cannot be loaded.
pub(super) fn for_process(record: &Record) -> Result<String> {
    let profile = profile(record)?;
    if profile == DEFAULT {
        ensure_default()?;
    }
    Ok(profile)
}

/// Loads the default profile unless one of its name is loaded: the administrator's own counts.
///
/// # Errors
/// `Internal` with what the parser says.
fn ensure_default() -> Result<()> {
    let failed = |why: String| {
        Error::internal(format!(
            "AppArmor enabled on system but the {DEFAULT} profile could not be loaded: {why}"
        ))
    };
    if sys::apparmor::is_loaded(DEFAULT).map_err(|e| failed(e.to_string()))? {
        return Ok(());
    }
    let parser = parser().ok_or_else(|| failed("apparmor_parser is not installed".into()))?;
    // No cache: another text may lie there under the same name.
    let child = Command::new(parser)
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| failed(e.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(TEXT.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn parser() -> Option<PathBuf> {
    ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parser needs no AppArmor in the kernel to read a profile.
    #[test]
    fn the_profile_is_one() {
        let Some(parser) = parser() else { return };
        let mut child = Command::new(parser)
            .args(["--skip-kernel-load", "--skip-cache", "--names"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(TEXT.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), DEFAULT);
    }
}

//! AppArmor: which profiles are loaded, and which one the next program gets.
//!
//! Source: proc(5) (`/proc/pid/attr`), the kernel's `security/apparmor`.

use crate::attribute;
use std::{fs, io, path::Path};

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Whether the kernel confines by AppArmor, and shows its policy.
pub fn enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"))
        && Path::new(PROFILES).exists()
}

/// Whether profile `name` is loaded.
///
/// # Errors
/// Of reading the kernel's list.
pub fn is_loaded(name: &str) -> io::Result<bool> {
    Ok(lists(&fs::read_to_string(PROFILES)?, name))
}

/// Lines are `name (mode)`.
fn lists(profiles: &str, name: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(listed, _)| listed == name))
}

/// The next program of this thread runs under `profile`; so do the next ones of those that it makes until then. Before the
/// root is changed: `/proc` has to be the kernel's own.
///
/// # Errors
/// The kernel's: `ENOENT` for a profile that is not loaded, `EINVAL` without AppArmor.
pub fn on_exec(profile: &str) -> io::Result<()> {
    // Kernels older than 5.8 have but the file that all security modules share.
    let own = "apparmor/exec";
    let name = if attribute::exists(own) { own } else { "exec" };
    attribute::write(name, &format!("exec {profile}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_whole_name() {
        let text = "/usr/bin/man (enforce)\ndocker-default (enforce)\nodd (name) (complain)\n";
        assert!(lists(text, "docker-default") && lists(text, "odd (name)"));
        assert!(!lists(text, "docker") && !lists(text, "default") && !lists("", ""));
    }

    #[test]
    fn without_it_no_profile_can_be_had() {
        if !enabled() {
            assert!(on_exec("no-such-profile").is_err());
        }
    }
}

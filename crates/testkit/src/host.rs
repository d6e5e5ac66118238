//! What this machine allows, for expectations that depend on it.

use std::fs;

/// Capabilities that a privileged container can have here: 16 hexadecimal digits, as in
/// `/proc/self/status`.
pub fn capabilities() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether nothing is withheld from root on this machine.
pub fn has_all_capabilities() -> bool {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    let last: u32 = last.trim().parse().unwrap_or(40);
    u64::from_str_radix(&capabilities(), 16).is_ok_and(|caps| caps == (1 << (last + 1)) - 1)
}

/// This moment as Docker's clients take it for `--until`: seconds and nanoseconds since 1970.
pub fn now() -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

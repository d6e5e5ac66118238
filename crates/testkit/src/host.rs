//! What this machine allows, for expectations that depend on it.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// The control groups of this name that there are, one per hierarchy at most.
pub fn control_groups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let groups = hierarchies.chain([root.to_owned()]).map(|tree| tree.join(name));
    groups.filter(|group| group.exists()).collect()
}

/// Removes the control groups of this name with those below them, as far as no process is in one.
pub fn remove_control_groups(name: &str) {
    control_groups(name).iter().for_each(|group| remove_control_group(group));
}

fn remove_control_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_control_group(&entry.path());
        }
    }
    _ = fs::remove_dir(group);
}

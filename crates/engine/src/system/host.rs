//! Facts about the host that `info` and `version` show. Read once at start, except what changes.

use std::fs;

/// What does not change while the engine runs.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -v`.
    pub kernel_build: String,
    /// `uname -m`: x86_64.
    pub machine: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
}

impl Host {
    /// Reads /proc and /etc/os-release.
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let value = |key: &str| {
            release
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
                .map(|v| v.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let os = value("PRETTY_NAME");
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            kernel_build: uname.version().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            os: if os.is_empty() { "Linux".into() } else { os },
            os_version: value("VERSION_ID"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory_bytes(),
        }
    }
}

/// Name of the file system that holds `path`, as `info` shows it.
pub(crate) fn filesystem(path: &std::path::Path) -> String {
    const NAMES: &[(i64, &str)] = &[
        (0xEF53, "extfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794C_7630, "overlayfs"),
        (0x2FC1_2FC1, "zfs"),
        (0xF2F5_2010, "f2fs"),
    ];
    let kind = rustix::fs::statfs(path).map_or(0, |s| s.f_type);
    NAMES.iter().find(|(magic, _)| *magic == kind).map_or("<unknown>", |(_, name)| name).to_owned()
}

fn memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = meminfo.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// The host's name now.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Open descriptors of this process.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_known() {
        let host = Host::read();
        assert!(host.memory > 0 && host.processors > 0 && !host.kernel.is_empty());
        assert!(open_descriptors() > 2);
    }
}

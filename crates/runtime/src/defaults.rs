//! What a container gets when nothing else was said: capabilities, mounts, devices, hidden paths.
//!
//! Source: Moby `daemon/pkg/oci` (2026): 14 capabilities, 12 masked and 5 read-only paths.
//! Not here: the seccomp profile (`seccomp::Profile::default_profile`); default ulimits, which are the
//! daemon's own configuration.

use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use sys::{caps, cgroup::DeviceRule};

/// A set of capabilities, bit N is capability N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// All that have a name.
    pub const ALL: Self = Self((1 << caps::NAMES.len()) - 1);
    /// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
    /// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
    pub const DEFAULT: Self = Self(0xA804_25FB);

    /// What this process may hand on: its bounding set, as far as it has names.
    pub fn available() -> Self {
        // Without /proc nothing is known to be missing.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bounding = status
            .lines()
            .find_map(|l| l.strip_prefix("CapBnd:"))
            .and_then(|l| u64::from_str_radix(l.trim(), 16).ok());
        Self(bounding.unwrap_or(u64::MAX) & Self::ALL.0)
    }

    /// The set with `name` (unknown names change nothing).
    #[must_use]
    pub fn with(self, name: &str) -> Self {
        caps::number(name).map_or(self, |n| Self(self.0 | 1 << n))
    }

    /// Whether `name` (with `CAP_`) is in the set.
    pub fn contains(self, name: &str) -> bool {
        caps::number(name).is_some_and(|n| self.0 & 1 << n != 0)
    }

    /// The names, by number.
    pub fn names(self) -> impl Iterator<Item = String> {
        let held = move |(n, _): &(usize, &&str)| self.0 & 1 << n != 0;
        caps::NAMES.iter().enumerate().filter(held).map(|(_, name)| format!("CAP_{name}"))
    }

    /// The default set changed by `--cap-add` and `--cap-drop`, or all of `available` when privileged.
    ///
    /// # Errors
    /// `Invalid` with docker's text for unknown or unavailable names.
    pub fn tweaked(
        add: &[String],
        drop: &[String],
        privileged: Privileged,
        available: Self,
    ) -> Result<Self> {
        let add = Names::parse(add, available)
            .map_err(|e| Error::invalid("invalid CapAdd").caused_by(e))?;
        let drop = Names::parse(drop, available)
            .map_err(|e| Error::invalid("invalid CapDrop").caused_by(e))?;
        Ok(match () {
            () if privileged == Privileged::Yes => available,
            () if add.all => Self(available.0 & !drop.set.0),
            () if drop.all => add.set,
            () => Self(Self::DEFAULT.0 & available.0 & !drop.set.0 | add.set.0),
        })
    }
}

/// Whether a container runs with `--privileged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// All capabilities and devices, nothing hidden.
    Yes,
    /// The usual confinement.
    No,
}

/// One side of the arithmetic.
struct Names {
    all: bool,
    set: Capabilities,
}

impl Names {
    fn parse(names: &[String], available: Capabilities) -> Result<Self> {
        let mut parsed = Self { all: false, set: Capabilities::NONE };
        for name in names {
            let upper = name.to_uppercase();
            if upper == "ALL" {
                parsed.all = true;
                continue;
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if caps::number(&full).is_none() {
                return Err(Error::invalid(format!("unknown capability: {full:?}")));
            }
            if !available.contains(&full) {
                return Err(Error::invalid(format!(
                    "capability not supported by your kernel or not available in the current \
                     environment: {full:?}"
                )));
            }
            parsed.set = parsed.set.with(&full);
        }
        Ok(parsed)
    }
}

/// A mount that every container has; in the words of the OCI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub destination: &'static str,
    /// File system.
    pub kind: &'static str,
    /// Options as in mount(8).
    pub options: &'static [&'static str],
}

const fn mount(
    destination: &'static str,
    kind: &'static str,
    options: &'static [&'static str],
) -> Mount {
    Mount { destination, kind, options }
}

/// The mounts of an ordinary container, in order. `/dev/shm`'s size is the container's own setting.
pub const MOUNTS: &[Mount] = &[
    mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    mount(
        "/dev/pts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

/// Size of `/dev/shm` when nothing was said.
pub const SHM_BYTES: u64 = 64 << 20;

/// `PATH` when neither image nor user set it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths of which a container sees nothing, in the order in which dockerd shows them.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that a container can only read.
pub const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// [`MASKED_PATHS`] and the thermal counters of each processor (they tell neighbours' load).
pub fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED_PATHS.iter().map(|p| (*p).to_owned()).collect();
    for processor in 0.. {
        let folder = format!("/sys/devices/system/cpu/cpu{processor}");
        if !Path::new(&folder).exists() {
            break;
        }
        let thermal = format!("{folder}/thermal_throttle");
        if Path::new(&thermal).exists() {
            paths.push(thermal);
        }
    }
    paths
}

/// A device node that every container has in `/dev`, readable and writable by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub path: &'static str,
    /// Major number of the character device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

const fn device(path: &'static str, major: u32, minor: u32) -> Device {
    Device { path, major, minor }
}

/// The device nodes.
pub const DEVICES: &[Device] = &[
    device("/dev/null", 1, 3),
    device("/dev/zero", 1, 5),
    device("/dev/full", 1, 7),
    device("/dev/random", 1, 8),
    device("/dev/urandom", 1, 9),
    device("/dev/tty", 5, 0),
];

/// Links in `/dev`: name and target.
pub const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Device rules of an ordinary container: make any node, use the harmless ones and terminals.
pub fn device_rules() -> Vec<DeviceRule> {
    let rule = |allow, kind, major, minor, access: &str| DeviceRule {
        allow,
        kind: Some(kind),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules = vec![
        rule(false, 'a', None, None, "rwm"),
        rule(true, 'c', None, None, "m"),
        rule(true, 'b', None, None, "m"),
    ];
    rules.extend(
        DEVICES.iter().map(|d| rule(true, 'c', Some(d.major.into()), Some(d.minor.into()), "rwm")),
    );
    rules.push(rule(true, 'c', Some(5), Some(1), "rwm")); // /dev/console
    rules.push(rule(true, 'c', Some(5), Some(2), "rwm")); // /dev/ptmx
    rules.push(rule(true, 'c', Some(136), None, "rwm")); // /dev/pts/*
    rules
}

/// The one rule of a privileged container.
pub fn privileged_device_rules() -> Vec<DeviceRule> {
    vec![DeviceRule {
        allow: true,
        kind: Some('a'),
        access: Some("rwm".into()),
        ..DeviceRule::default()
    }]
}

/// Settings of a network namespace that is the container's own: low ports and ping for everybody.
pub const NETWORK_SYSCTLS: &[(&str, &str)] =
    &[("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn tweaked(add: &[&str], drop: &[&str]) -> Result<Capabilities> {
        Capabilities::tweaked(&names(add), &names(drop), Privileged::No, Capabilities::ALL)
    }

    #[test]
    fn the_default_set_has_fourteen_names() {
        assert_eq!(Capabilities::DEFAULT.names().count(), 14);
        for name in ["CAP_AUDIT_WRITE", "CAP_NET_RAW", "CAP_SETFCAP"] {
            assert!(Capabilities::DEFAULT.contains(name));
        }
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let default = Capabilities::DEFAULT;
        assert_eq!(tweaked(&[], &[]).unwrap(), default);
        assert_eq!(tweaked(&["sys_admin"], &[]).unwrap(), default.with("CAP_SYS_ADMIN"));
        assert_eq!(tweaked(&[], &["ALL"]).unwrap(), Capabilities::NONE);
        assert_eq!(tweaked(&["CAP_KILL"], &["all"]).unwrap(), Capabilities::NONE.with("CAP_KILL"));
        assert_eq!(tweaked(&["ALL"], &["ALL"]).unwrap(), Capabilities::ALL);
        assert!(!tweaked(&["ALL"], &["mknod"]).unwrap().contains("CAP_MKNOD"));
        assert!(tweaked(&["mknod"], &["mknod"]).unwrap().contains("CAP_MKNOD"));
        let privileged =
            Capabilities::tweaked(&[], &names(&["ALL"]), Privileged::Yes, Capabilities(5)).unwrap();
        assert_eq!(privileged, Capabilities(5));
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        for (add, drop, want) in [
            (vec!["foo"], vec![], "invalid CapAdd: unknown capability: \"CAP_FOO\""),
            (vec![], vec!["CAP_X"], "invalid CapDrop: unknown capability: \"CAP_X\""),
        ] {
            assert_eq!(tweaked(&add, &drop).unwrap_err().chain(), want);
        }
        let err =
            Capabilities::tweaked(&names(&["bpf"]), &[], Privileged::No, Capabilities::DEFAULT)
                .unwrap_err();
        assert!(err.chain().ends_with("not available in the current environment: \"CAP_BPF\""));
    }

    #[test]
    fn hidden_paths_are_dockers() {
        assert_eq!((MASKED_PATHS.len(), READONLY_PATHS.len()), (12, 5));
        assert!(masked_paths().len() >= 12);
    }
}

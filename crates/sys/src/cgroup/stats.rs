//! Usage of a group, in one shape for both versions. Times in nanoseconds, sizes in bytes.

use super::{Cgroup, files};
use std::{collections::BTreeMap, path::Path};

/// Usage of a group; a controller that is not there shows zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Bytes by device and operation.
    pub blkio_bytes: Vec<BlkioEntry>,
    /// Operations by device and kind.
    pub blkio_operations: Vec<BlkioEntry>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub system: u64,
    /// By processor, v1 only.
    pub per_cpu: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for quota.
    pub throttled: u64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use.
    pub usage: u64,
    /// Most that was in use.
    pub max_usage: u64,
    /// The limit; `u64::MAX` when there is none.
    pub limit: u64,
    /// How often the limit was hit (v1), or how often memory ran out (v2).
    pub failures: u64,
    /// `memory.stat`.
    pub stat: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; 0 when there is none.
    pub limit: u64,
}

/// A number about a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard` and so on, as the kernel names it.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// v1 counts user and kernel time in these.
const TICK: u64 = 1_000_000_000 / 100;

pub(super) fn v1(group: &Cgroup) -> Stats {
    let mut stats = Stats::default();
    if let Some(folder) = group.folder("cpuacct") {
        let times: BTreeMap<String, u64> =
            files::pairs(&folder, "cpuacct.stat").into_iter().collect();
        let ticks = |key: &str| times.get(key).copied().unwrap_or(0) * TICK;
        (stats.cpu.user, stats.cpu.system) = (ticks("user"), ticks("system"));
        let text = files::read(&folder, "cpuacct.usage_percpu").unwrap_or_default();
        stats.cpu.per_cpu = text.split_ascii_whitespace().flat_map(str::parse).collect();
        // Which is what the kernel does for cpuacct.usage.
        stats.cpu.total = stats.cpu.per_cpu.iter().sum();
    }
    if let Some(folder) = group.folder("cpu") {
        let all: BTreeMap<String, u64> = files::pairs(&folder, "cpu.stat").into_iter().collect();
        let value = |key: &str| all.get(key).copied().unwrap_or(0);
        stats.cpu.periods = value("nr_periods");
        stats.cpu.throttled_periods = value("nr_throttled");
        stats.cpu.throttled = value("throttled_time");
    }
    if let Some(folder) = group.folder("memory") {
        let number = |file| files::number(&folder, file).unwrap_or(0);
        stats.memory = MemoryStats {
            usage: number("memory.usage_in_bytes"),
            max_usage: number("memory.max_usage_in_bytes"),
            limit: number("memory.limit_in_bytes"),
            failures: number("memory.failcnt"),
            stat: files::pairs(&folder, "memory.stat").into_iter().collect(),
        };
    }
    if let Some(folder) = group.folder("pids") {
        stats.pids = pids(&folder);
    }
    if let Some(folder) = group.folder("blkio") {
        stats.blkio_bytes = v1_blkio(&folder, "bytes");
        stats.blkio_operations = v1_blkio(&folder, "ios");
    }
    stats
}

fn v1_blkio(folder: &Path, what: &str) -> Vec<BlkioEntry> {
    let (bytes, throttled) = match what {
        "bytes" => {
            ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive")
        }
        _ => ("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
    };
    [bytes, throttled]
        .iter()
        .map(|file| v1_blkio_file(folder, file))
        .find(|entries| !entries.is_empty())
        .unwrap_or_default()
}

fn v1_blkio_file(folder: &Path, file: &str) -> Vec<BlkioEntry> {
    let text = files::read(folder, file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            // 254:0 Read 4096
            let mut words = line.split_ascii_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let (op, value) = (words.next()?, words.next()?);
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

fn pids(folder: &Path) -> PidsStats {
    PidsStats {
        current: files::number(folder, "pids.current").unwrap_or(0),
        limit: files::number(folder, "pids.max").unwrap_or(0),
    }
}

pub(super) fn v2(folder: &Path) -> Stats {
    let cpu: BTreeMap<String, u64> = files::pairs(folder, "cpu.stat").into_iter().collect();
    let micro = |key: &str| cpu.get(key).copied().unwrap_or(0) * 1000;
    let count = |key: &str| cpu.get(key).copied().unwrap_or(0);
    let number = |file| files::number(folder, file);
    let (bytes, operations) = v2_io(folder);
    Stats {
        cpu: CpuStats {
            total: micro("usage_usec"),
            user: micro("user_usec"),
            system: micro("system_usec"),
            per_cpu: Vec::new(),
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled: micro("throttled_usec"),
        },
        memory: MemoryStats {
            usage: number("memory.current").unwrap_or(0),
            max_usage: number("memory.peak").unwrap_or(0),
            limit: number("memory.max").unwrap_or(u64::MAX),
            failures: files::value(folder, "memory.events", "oom").unwrap_or(0),
            stat: files::pairs(folder, "memory.stat").into_iter().collect(),
        },
        pids: pids(folder),
        blkio_bytes: bytes,
        blkio_operations: operations,
    }
}

fn v2_io(folder: &Path) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    let text = files::read(folder, "io.stat").unwrap_or_default();
    for line in text.lines() {
        // 254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut operations, "read"),
                "wios" => (&mut operations, "write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    (bytes, operations)
}

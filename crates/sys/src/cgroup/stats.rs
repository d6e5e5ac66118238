//! Usage of a group, in one shape for both versions. Times in nanoseconds, sizes in bytes.

use super::meter::Meter;
use std::collections::BTreeMap;

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

/// `key value` lines.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

fn memory(text: &str) -> BTreeMap<String, u64> {
    pairs(text).map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn v1(meter: &mut Meter) -> Stats {
    let mut stats = Stats::default();
    for (key, value) in pairs(meter.text("cpuacct", "cpuacct.stat")) {
        match key {
            "user" => stats.cpu.user = value * TICK,
            "system" => stats.cpu.system = value * TICK,
            _ => {}
        }
    }
    let text = meter.text("cpuacct", "cpuacct.usage_percpu");
    stats.cpu.per_cpu = text.split_ascii_whitespace().flat_map(str::parse).collect();
    // Which is what the kernel does for cpuacct.usage.
    stats.cpu.total = stats.cpu.per_cpu.iter().sum();
    for (key, value) in pairs(meter.text("cpu", "cpu.stat")) {
        match key {
            "nr_periods" => stats.cpu.periods = value,
            "nr_throttled" => stats.cpu.throttled_periods = value,
            "throttled_time" => stats.cpu.throttled = value,
            _ => {}
        }
    }
    let mut number = |name| meter.number("memory", name).unwrap_or(0);
    stats.memory.usage = number("memory.usage_in_bytes");
    stats.memory.max_usage = number("memory.max_usage_in_bytes");
    stats.memory.limit = number("memory.limit_in_bytes");
    stats.memory.failures = number("memory.failcnt");
    stats.memory.stat = memory(meter.text("memory", "memory.stat"));
    stats.pids = pids(meter);
    let first_of = |meter: &mut Meter, files: [&'static str; 2]| {
        let mut lists = files.into_iter().map(|file| v1_blkio(meter.text("blkio", file)));
        lists.find(|entries| !entries.is_empty()).unwrap_or_default()
    };
    stats.blkio_bytes = first_of(
        meter,
        ["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"],
    );
    stats.blkio_operations = first_of(
        meter,
        ["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"],
    );
    stats
}

fn v1_blkio(text: &str) -> Vec<BlkioEntry> {
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

fn pids(meter: &mut Meter) -> PidsStats {
    PidsStats {
        current: meter.number("pids", "pids.current").unwrap_or(0),
        limit: meter.number("pids", "pids.max").unwrap_or(0),
    }
}

pub(super) fn v2(meter: &mut Meter) -> Stats {
    let mut stats = Stats::default();
    for (key, value) in pairs(meter.text("cpu", "cpu.stat")) {
        match key {
            "usage_usec" => stats.cpu.total = value * 1000,
            "user_usec" => stats.cpu.user = value * 1000,
            "system_usec" => stats.cpu.system = value * 1000,
            "nr_periods" => stats.cpu.periods = value,
            "nr_throttled" => stats.cpu.throttled_periods = value,
            "throttled_usec" => stats.cpu.throttled = value * 1000,
            _ => {}
        }
    }
    stats.memory.usage = meter.number("memory", "memory.current").unwrap_or(0);
    stats.memory.max_usage = meter.number("memory", "memory.peak").unwrap_or(0);
    stats.memory.limit = meter.number("memory", "memory.max").unwrap_or(u64::MAX);
    stats.memory.failures = pairs(meter.text("memory", "memory.events"))
        .find_map(|(key, value)| (key == "oom").then_some(value))
        .unwrap_or(0);
    stats.memory.stat = memory(meter.text("memory", "memory.stat"));
    stats.pids = pids(meter);
    (stats.blkio_bytes, stats.blkio_operations) = v2_io(meter.text("io", "io.stat"));
    stats
}

fn v2_io(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
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

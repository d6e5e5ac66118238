//! `GET /containers/{id}/stats`: what a container uses, once or as a stream of samples.
//!
//! Flow: a [`StatsStream`] takes one sample a second; each carries the one before it, from which clients make
//! percentages. Counters come from the container's cgroup, interfaces from `/proc/<pid>/net/dev` of its
//! first process, the machine's time from `/proc/stat`. A stream holds its files open.
//! Units: nanoseconds and bytes. Shapes: version 1 tells each processor and keeps the kernel's names of
//! operations; version 2 has neither, as with Docker.
//! Source: Docker's `daemon/stats_unix.go` (behaviour); proc(5).

use super::{Container, Record};
use crate::{Engine, images::blocking};
use api::model as wire;
use base::{Result, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use sys::cgroup::{BlkioEntry, Cgroup, Meter, Version};
use tokio::time::Instant;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// How old the machine's time in a sample may be: a hundredth of what lies between two samples.
const MACHINE: Duration = Duration::from_millis(10);
/// Kernel ticks are hundredths of a second for user space.
const TICK_NS: u64 = 1_000_000_000 / 100;
/// User to steal time; what follows in the line is part of the first two.
const TIMES: usize = 7;

/// How samples are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// Sample after sample, until the container is removed.
    pub stream: bool,
    /// One sample at once, without one before it.
    pub one_shot: bool,
}

/// What a running container uses now.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) record: Arc<Record>,
    pub(crate) stats: wire::Stats,
}

/// What a sample tells of the one before it.
#[derive(Debug)]
struct Before {
    read: String,
    cpu: wire::CpuStats,
}

impl Before {
    fn of(sample: &wire::Stats) -> Self {
        Self { read: sample.read.clone(), cpu: sample.cpu_stats.clone() }
    }
}

/// Samples of one container.
#[derive(Debug)]
pub struct StatsStream {
    engine: Arc<Engine>,
    container: Arc<Container>,
    options: StatsOptions,
    before: Option<Before>,
    /// For a stream: of the run that began then.
    meter: Option<(Timestamp, Meter)>,
    next: Option<Instant>,
    done: bool,
}

impl Engine {
    /// Begins to watch what container `name` uses.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container_stats(
        self: &Arc<Self>,
        name: &str,
        options: StatsOptions,
    ) -> Result<StatsStream> {
        Ok(StatsStream {
            engine: Arc::clone(self),
            container: self.containers.find(name)?,
            options,
            before: None,
            meter: None,
            next: None,
            done: false,
        })
    }
}

impl Engine {
    /// One sample of every container that runs. All are taken on one blocking thread.
    pub(crate) async fn all_stats(self: &Arc<Self>) -> Vec<Used> {
        let running: Vec<_> = self
            .containers
            .all()
            .into_iter()
            .filter(|container| container.status().alive())
            .filter_map(|container| {
                let cgroup = self.cgroup(&container).ok()?;
                let record = container.record();
                let pid = self.network_pid(&record);
                Some((record, cgroup, pid))
            })
            .collect();
        let (version, memory) = (self.hierarchy.version(), self.host.memory);
        let sampled = blocking(move || {
            let sample = |(record, cgroup, pid): (Arc<Record>, Cgroup, Option<i32>)| {
                let stats = measure(&record, &mut Meter::new(cgroup), version, memory, pid);
                Used { record, stats }
            };
            Ok(running.into_iter().map(sample).collect())
        });
        sampled.await.unwrap_or_default()
    }
}

impl StatsStream {
    /// The next sample; `None` at the end.
    ///
    /// # Cancel safety
    /// A sample that was begun is lost, nothing else.
    pub async fn next(&mut self) -> Option<wire::Stats> {
        if self.done {
            return None;
        }
        let alive = self.container.status().alive();
        if !self.options.stream && alive && !self.options.one_shot {
            // A single answer holds two samples, so that it tells a rate.
            self.before = self.sample().await.as_ref().map(Before::of);
            self.next = Some(Instant::now() + EVERY);
        }
        if !self.pause().await {
            return None;
        }
        self.next = Some(Instant::now() + EVERY);
        self.done = !self.options.stream;
        let record = self.container.record();
        let before = self.before.take();
        let Some(mut sample) = self.sample().await else { return Some(blank(&record)) };
        self.before = Some(Before::of(&sample));
        if let Some(before) = before {
            (sample.preread, sample.precpu_stats) = (before.read, before.cpu);
        }
        Some(sample)
    }

    /// Waits until the next sample is due; false when the container was removed.
    async fn pause(&self) -> bool {
        let mut phase = self.container.watch();
        let Some(next) = self.next else { return !phase.borrow().removed };
        tokio::select! {
            () = tokio::time::sleep_until(next) => true,
            () = self.engine.stop.cancelled() => false,
            _ = phase.wait_for(|p| p.removed) => false,
        }
    }

    /// A sample of now; `None` when the container does not run.
    async fn sample(&mut self) -> Option<wire::Stats> {
        let record = self.container.record();
        if !record.state.status.alive() {
            self.meter = None;
            return None;
        }
        let version = self.engine.hierarchy.version();
        let memory = self.engine.host.memory;
        let pid = self.engine.network_pid(&record);
        if !self.options.stream {
            let mut meter = Meter::new(self.engine.cgroup(&self.container).ok()?);
            let sample = move || Ok(measure(&record, &mut meter, version, memory, pid));
            return blocking(sample).await.ok();
        }
        let run = record.state.started;
        if self.meter.as_ref().is_none_or(|(of, _)| *of != run) {
            let group = self.engine.cgroup(&self.container).ok()?;
            self.meter = Some((run, Meter::held(group)));
        }
        let (_, meter) = self.meter.as_mut()?;
        // Not on a thread of its own: these files are the kernel's memory, and handing over takes as long as reading them.
        Some(measure(&record, meter, version, memory, pid))
    }
}

impl Engine {
    /// The process whose interfaces are the container's own or those it shares with another container.
    fn network_pid(&self, record: &Record) -> Option<i32> {
        if let Some(other) = record.host.network_mode.strip_prefix("container:") {
            let other = self.containers.find(other).ok()?.record();
            return (!other.attached.is_empty()).then_some(other.state.pid);
        }
        (!record.attached.is_empty()).then_some(record.state.pid)
    }
}

/// What is told of a container that does not run.
fn blank(record: &Record) -> wire::Stats {
    wire::Stats {
        name: format!("/{}", record.name),
        id: record.id.to_string(),
        read: Timestamp::default().to_string(),
        preread: Timestamp::default().to_string(),
        ..wire::Stats::default()
    }
}

fn measure(
    record: &Record,
    meter: &mut Meter,
    version: Version,
    memory_bytes: u64,
    network_pid: Option<i32>,
) -> wire::Stats {
    let used = meter.read();
    let v1 = version == Version::V1;
    let (system, online) = machine();
    let list = |entries: Vec<BlkioEntry>| {
        let row = |e: BlkioEntry| wire::BlkioEntry {
            major: e.major,
            minor: e.minor,
            op: e.op,
            value: e.value,
        };
        entries.into_iter().map(row).collect::<Vec<_>>()
    };
    // Version 1 has lists that the kernel leaves empty, version 2 has no such lists.
    let empty = || v1.then(Vec::new);
    wire::Stats {
        read: Timestamp::now().to_string(),
        cpu_stats: wire::CpuStats {
            cpu_usage: wire::CpuUsage {
                total_usage: used.cpu.total,
                percpu_usage: v1.then_some(used.cpu.per_cpu),
                usage_in_kernelmode: used.cpu.system,
                usage_in_usermode: used.cpu.user,
            },
            system_cpu_usage: system,
            online_cpus: online,
            throttling_data: wire::ThrottlingData {
                periods: used.cpu.periods,
                throttled_periods: used.cpu.throttled_periods,
                throttled_time: used.cpu.throttled,
            },
        },
        memory_stats: wire::MemoryStats {
            usage: used.memory.usage,
            max_usage: if v1 { used.memory.max_usage } else { 0 },
            stats: Some(used.memory.stat),
            failcnt: used.memory.failures,
            limit: used.memory.limit.min(memory_bytes),
        },
        pids_stats: wire::PidsStats { current: used.pids.current, limit: used.pids.limit },
        blkio_stats: wire::BlkioStats {
            io_service_bytes_recursive: Some(list(used.blkio_bytes)),
            io_serviced_recursive: v1.then(|| list(used.blkio_operations)),
            io_queue_recursive: empty(),
            io_service_time_recursive: empty(),
            io_wait_time_recursive: empty(),
            io_merged_recursive: empty(),
            io_time_recursive: empty(),
            sectors_recursive: empty(),
        },
        networks: network_pid.map(|pid| interfaces(pid).unwrap_or_default()),
        ..blank(record)
    }
}

/// Time of all processors and how many there are, not older than [`MACHINE`]: for its file the kernel adds up all interrupts of all
/// processors, and it is the same for every container.
fn machine() -> (u64, u32) {
    static LAST: Mutex<Option<(Instant, (u64, u32))>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match *last {
        Some((at, known)) if at.elapsed() < MACHINE => known,
        _ => {
            let new = processors(&sys::system::read("/proc/stat").unwrap_or_default());
            *last = Some((Instant::now(), new));
            new
        }
    }
}

/// Time of all processors and how many there are, from `/proc/stat`.
fn processors(stat: &str) -> (u64, u32) {
    let mut lines = stat.lines();
    let all = lines.next().and_then(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: u64 =
        all.split_ascii_whitespace().take(TIMES).filter_map(|n| n.parse::<u64>().ok()).sum();
    let online = lines.take_while(|l| l.starts_with("cpu")).count();
    (ticks * TICK_NS, u32::try_from(online).unwrap_or(u32::MAX))
}

/// Counters of each interface but the loopback in the network of `pid`.
///
/// # Errors
/// When the process has ended.
pub(crate) fn interfaces(pid: i32) -> std::io::Result<BTreeMap<String, wire::NetworkStats>> {
    sys::system::read(format!("/proc/{pid}/net/dev")).map(|text| counters(&text))
}

/// The same from the text of `/proc/<pid>/net/dev`.
fn counters(dev: &str) -> BTreeMap<String, wire::NetworkStats> {
    dev.lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let name = name.trim();
            let n: Vec<u64> =
                counters.split_ascii_whitespace().map_while(|c| c.parse().ok()).collect();
            if name == "lo" || n.len() < 12 {
                return None;
            }
            let stats = wire::NetworkStats {
                rx_bytes: n[0],
                rx_packets: n[1],
                rx_errors: n[2],
                rx_dropped: n[3],
                tx_bytes: n[8],
                tx_packets: n[9],
                tx_errors: n[10],
                tx_dropped: n[11],
            };
            Some((name.to_owned(), stats))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_time_is_the_first_seven_columns() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1\ncpu1 1 1 1\nintr 5\ncpu9 1\n";
        assert_eq!(processors(text), (28 * TICK_NS, 2));
        assert_eq!(processors(""), (0, 0));
    }

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let all = counters(text);
        assert_eq!(all.len(), 1);
        assert_eq!((all["eth0"].rx_bytes, all["eth0"].tx_dropped), (1, 8));
    }
}

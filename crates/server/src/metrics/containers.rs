//! Containers, in cAdvisor's names and labels.
//!
//! Source: cAdvisor's page "Monitoring cAdvisor with Prometheus" (names), seen answers (labels).

use super::text::{Text, label_name, labels};
use api::model::{BlkioEntry, NetworkStats, Stats};
use base::Timestamp;
use engine::metrics::ContainerUse;

/// Labels of a container that go to its samples, at most; more would be a burden for every reader.
const MOST_LABELS: usize = 64;
/// Longest value of a label.
const LONGEST: usize = 512;
const NANOS: f64 = 1e9;
/// Reads one number.
type Read = fn(&Stats) -> f64;

/// Families of one sample per container.
const SIMPLE: &[(&str, &str, &str, Read)] = &[
    (
        "container_cpu_user_seconds_total",
        "counter",
        "Cumulative user cpu time consumed in seconds.",
        |s| s.cpu_stats.cpu_usage.usage_in_usermode as f64 / NANOS,
    ),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "Cumulative system cpu time consumed in seconds.",
        |s| s.cpu_stats.cpu_usage.usage_in_kernelmode as f64 / NANOS,
    ),
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        |s| s.cpu_stats.throttling_data.periods as f64,
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        |s| s.cpu_stats.throttling_data.throttled_periods as f64,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        |s| s.cpu_stats.throttling_data.throttled_time as f64 / NANOS,
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |s| s.memory_stats.usage as f64,
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |s| {
        s.memory_stats.usage.saturating_sub(first(s, &["total_inactive_file", "inactive_file"]))
            as f64
    }),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", |s| {
        s.memory_stats.max_usage as f64
    }),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |s| {
        first(s, &["total_cache", "file"]) as f64
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |s| {
        first(s, &["total_rss", "anon"]) as f64
    }),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", |s| {
        first(s, &["total_swap", "swap"]) as f64
    }),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", |s| {
        first(s, &["total_mapped_file", "file_mapped"]) as f64
    }),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", |s| {
        s.memory_stats.failcnt as f64
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |s| {
        s.memory_stats.limit as f64
    }),
    ("container_threads", "gauge", "Number of threads running inside the container", |s| {
        s.pids_stats.current as f64
    }),
];

/// The first of these that the kernel tells: the names differ between versions of control groups.
fn first(stats: &Stats, names: &[&str]) -> u64 {
    let all = stats.memory_stats.stats.as_ref();
    names.iter().find_map(|name| all?.get(*name).copied()).unwrap_or(0)
}

/// Reads one number of an interface.
type ReadInterface = fn(&NetworkStats) -> u64;

/// Families with a sample per interface.
const INTERFACES: &[(&str, &str, ReadInterface)] = &[
    ("receive_bytes", "Cumulative count of bytes received", |n| n.rx_bytes),
    ("receive_packets", "Cumulative count of packets received", |n| n.rx_packets),
    ("receive_errors", "Cumulative count of errors encountered while receiving", |n| n.rx_errors),
    ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", |n| {
        n.rx_dropped
    }),
    ("transmit_bytes", "Cumulative count of bytes transmitted", |n| n.tx_bytes),
    ("transmit_packets", "Cumulative count of packets transmitted", |n| n.tx_packets),
    ("transmit_errors", "Cumulative count of errors encountered while transmitting", |n| {
        n.tx_errors
    }),
    ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", |n| {
        n.tx_dropped
    }),
];

pub(super) fn write(text: &mut Text, containers: &[ContainerUse], now: Timestamp) {
    let all: Vec<(String, &ContainerUse)> =
        containers.iter().map(|c| (container_labels(c), c)).collect();
    text.family("container_last_seen", "gauge", "Last time a container was seen by the exporter");
    for (labels, _) in &all {
        text.sample("container_last_seen", labels, now.unix() as f64);
    }
    let name = "container_start_time_seconds";
    text.family(name, "gauge", "Start time of the container since unix epoch in seconds.");
    for (labels, container) in &all {
        text.sample(name, labels, container.started.unix() as f64);
    }
    let name = "container_cpu_usage_seconds_total";
    text.family(name, "counter", "Cumulative cpu time consumed in seconds.");
    for (labels, container) in &all {
        let total = container.stats.cpu_stats.cpu_usage.total_usage as f64 / NANOS;
        text.sample(name, &format!("cpu=\"total\",{labels}"), total);
    }
    for (name, kind, help, read) in SIMPLE {
        text.family(name, kind, help);
        for (labels, container) in &all {
            text.sample(name, labels, read(&container.stats));
        }
    }
    spec(text, &all);
    for (what, help, read) in INTERFACES {
        let name = format!("container_network_{what}_total");
        text.family(&name, "counter", help);
        for (labels, container) in &all {
            for (interface, counters) in container.stats.networks.iter().flatten() {
                let labels = format!("interface=\"{interface}\",{labels}");
                text.sample(&name, &labels, read(counters) as f64);
            }
        }
    }
    let blkio = |s: &Stats| s.blkio_stats.io_service_bytes_recursive.clone().unwrap_or_default();
    devices(text, &all, "container_fs_reads_bytes_total", "Cumulative count of bytes read", |s| {
        (blkio(s), "read")
    });
    devices(
        text,
        &all,
        "container_fs_writes_bytes_total",
        "Cumulative count of bytes written",
        |s| (blkio(s), "write"),
    );
    let serviced = |s: &Stats| s.blkio_stats.io_serviced_recursive.clone().unwrap_or_default();
    devices(text, &all, "container_fs_reads_total", "Cumulative count of reads completed", |s| {
        (serviced(s), "read")
    });
    devices(text, &all, "container_fs_writes_total", "Cumulative count of writes completed", |s| {
        (serviced(s), "write")
    });
}

fn spec(text: &mut Text, all: &[(String, &ContainerUse)]) {
    let quotas = || all.iter().filter_map(|(labels, c)| Some((labels, c.quota?)));
    text.family("container_spec_cpu_period", "gauge", "CPU period of the container.");
    for (labels, (period, _)) in quotas() {
        text.sample("container_spec_cpu_period", labels, period as f64);
    }
    text.family("container_spec_cpu_quota", "gauge", "CPU quota of the container.");
    for (labels, (_, quota)) in quotas() {
        text.sample("container_spec_cpu_quota", labels, quota as f64);
    }
    text.family("container_spec_cpu_shares", "gauge", "CPU share of the container.");
    for (labels, container) in all {
        let shares = if container.shares > 0 { container.shares } else { 1024 };
        text.sample("container_spec_cpu_shares", labels, shares as f64);
    }
}

fn devices(
    text: &mut Text,
    all: &[(String, &ContainerUse)],
    name: &str,
    help: &str,
    read: impl Fn(&Stats) -> (Vec<BlkioEntry>, &'static str),
) {
    text.family(name, "counter", help);
    for (labels, container) in all {
        let (entries, op) = read(&container.stats);
        for entry in entries.iter().filter(|e| e.op.eq_ignore_ascii_case(op)) {
            let device = format!("{}:{}", entry.major, entry.minor);
            text.sample(name, &format!("device=\"{device}\",{labels}"), entry.value as f64);
        }
    }
}

/// The labels of every sample of a container: its own, then id, image and name.
fn container_labels(container: &ContainerUse) -> String {
    let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let mut own: Vec<(String, String)> = container
        .labels
        .iter()
        .take(MOST_LABELS)
        .map(|(key, value)| (label_name("container_label_", key), short(value)))
        .collect();
    // Two labels may have one name in Prometheus: the first counts.
    own.dedup_by(|a, b| a.0 == b.0);
    let id = format!("/docker/{}", container.id);
    let mut pairs: Vec<(&str, &str)> = own.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    pairs.extend([("id", id.as_str()), ("image", &container.image), ("name", &container.name)]);
    labels(&pairs)
}

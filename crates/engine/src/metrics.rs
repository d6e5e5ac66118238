//! What is measured of the engine and of each container, looked up when somebody asks.
//!
//! Not here: names and the text form (crate `server`).

use crate::{
    Engine,
    containers::{Status, Used},
};
use base::{Platform, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What is counted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) builds: AtomicU64,
    pub(crate) builds_failed: AtomicU64,
    probes: AtomicU64,
    probes_failed: AtomicU64,
}

impl Counters {
    /// A health check has ended.
    pub(crate) fn probed(&self, well: bool) {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.probes_failed.fetch_add(u64::from(!well), Ordering::Relaxed);
    }
}

/// Everything of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Facts of the engine: label and value.
    pub facts: Vec<(&'static str, String)>,
    /// Processors of the machine.
    pub processors: u64,
    /// Bytes of memory of the machine.
    pub memory_bytes: u64,
    /// Containers by state: `running`, `paused`, `stopped`.
    pub states: [(&'static str, u64); 3],
    /// Events since the start.
    pub events: u64,
    /// Readers of the event stream.
    pub listeners: u64,
    /// Builds begun and failed.
    pub builds: (u64, u64),
    /// Health checks run and failed.
    pub probes: (u64, u64),
    /// Containers that run, and what they use.
    pub containers: Vec<ContainerUse>,
}

/// What one container uses.
#[derive(Debug)]
pub struct ContainerUse {
    /// Its id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its image as it was asked for.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was started.
    pub started: Timestamp,
    /// Microseconds of a period, and of processor time in it; absent without a quota.
    pub quota: Option<(i64, i64)>,
    /// Weight of its processor time; 0 when it is the kernel's.
    pub shares: i64,
    /// The numbers of `stats`.
    pub stats: api::model::Stats,
}

impl Engine {
    /// Measures everything. Files of control groups are read on a blocking thread.
    pub async fn metrics(self: &Arc<Self>) -> Snapshot {
        let mut states = [("paused", 0), ("running", 0), ("stopped", 0)];
        for container in self.containers.all() {
            let at = match container.status() {
                Status::Paused => 0,
                status if status.alive() => 1,
                _ => 2,
            };
            states[at].1 += 1;
        }
        let containers = self.all_stats().await.into_iter().map(used).collect();
        let host = &self.host;
        let facts = vec![
            ("architecture", Platform::host().architecture),
            ("commit", String::new()),
            ("daemon_id", self.id.clone()),
            ("graphdriver", "overlay2".to_owned()),
            ("kernel", host.kernel.clone()),
            ("os", host.os.clone()),
            ("os_type", "linux".to_owned()),
            ("os_version", host.os_version.clone()),
            ("version", crate::config::VERSION.to_owned()),
        ];
        Snapshot {
            facts,
            processors: host.processors as u64,
            memory_bytes: host.memory,
            states,
            events: self.events.count(),
            listeners: self.events.listeners() as u64,
            builds: (
                self.counters.builds.load(Ordering::Relaxed),
                self.counters.builds_failed.load(Ordering::Relaxed),
            ),
            probes: (
                self.counters.probes.load(Ordering::Relaxed),
                self.counters.probes_failed.load(Ordering::Relaxed),
            ),
            containers,
        }
    }
}

fn used(Used { record, stats }: Used) -> ContainerUse {
    let host = &record.host;
    let period = if host.cpu_period > 0 { host.cpu_period } else { 100_000 };
    let quota = match (host.nano_cpus, host.cpu_quota) {
        (nano @ 1.., _) => Some((100_000, nano / 10_000)),
        (_, quota @ 1..) => Some((period, quota)),
        _ => None,
    };
    ContainerUse {
        id: record.id.to_string(),
        name: record.name.clone(),
        image: record.image_reference.clone(),
        labels: record.config.labels.clone().unwrap_or_default(),
        started: record.state.started,
        quota,
        shares: host.cpu_shares,
        stats,
    }
}

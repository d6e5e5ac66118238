//! Limits as they are asked for: checked one by one and against each other; what this kernel cannot limit is taken
//! away and named in a warning.
//!
//! Source: Docker's `daemon/daemon_unix.go` (rules and texts). Not here: their writing (`sys::cgroup`).

use super::{devices, settle::Kernel};
use api::model::HostConfig;
use base::{Error, Result};
use std::collections::BTreeSet;

const MIN_MEMORY: i64 = 6 << 20;
const MIN_SHARES: i64 = 2;

/// Checks the limits of `host` and takes away what cannot be had.
///
/// # Errors
/// `Invalid` with docker's words.
pub(super) fn settle(
    host: &mut HostConfig,
    kernel: &Kernel,
    warnings: &mut Vec<String>,
) -> Result<()> {
    memory(host, kernel, warnings)?;
    processors(host, kernel, warnings)?;
    realtime(host, kernel, warnings)?;
    block_io(host, kernel, warnings)?;
    if host.oom_score_adj < -1000 || host.oom_score_adj > 1000 {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.pids_limit.is_some_and(|p| p <= 0) {
        host.pids_limit = None;
    }
    if host.pids_limit.is_some() && !kernel.features.pids {
        host.pids_limit = None;
        warnings.push(lacks("PIDs limit capabilities", "PIDs limit discarded."));
    }
    for (what, asked) in [
        ("Maximum IO Bandwidth", host.io_maximum_bandwidth),
        ("Maximum IO IOps", host.io_maximum_iops),
    ] {
        if asked != 0 {
            return refuse(format!("invalid QoS settings: linux does not support {what}"));
        }
    }
    for limit in host.ulimits.iter().flatten() {
        if limit.soft > limit.hard && limit.hard != -1 {
            return refuse(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ));
        }
        if devices::rlimit(&limit.name).is_none() {
            return refuse(format!("invalid ulimit type: {}", limit.name));
        }
    }
    Ok(())
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::invalid(text))
}

/// Docker's sentence.
fn lacks(what: &str, then: &str) -> String {
    format!("Your kernel does not support {what} or the cgroup is not mounted. {then}")
}

fn memory(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<()> {
    let features = kernel.features;
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory < 0 || host.memory_reservation < 0 || host.shm_size < 0 {
        return refuse(
            "invalid negative size: memory, reservation and shm size must not be negative",
        );
    }
    if host.memory > 0 && !features.memory {
        warnings.push(lacks("memory limit capabilities", "Limitation discarded."));
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory > 0 && host.memory_swap != -1 && !features.swap {
        warnings.push(lacks("swap limit capabilities", "Memory limited without swap."));
        host.memory_swap = -1;
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory > 0 && host.memory_swap == 0 {
        // Docker's default: as much swap as memory.
        host.memory_swap = host.memory.saturating_mul(2);
    }
    // What the CLI sends when nothing was asked for.
    host.memory_swappiness = host.memory_swappiness.filter(|s| *s != -1);
    if let Some(swappiness) = host.memory_swappiness {
        if !(0..=100).contains(&swappiness) {
            return refuse(format!(
                "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
            ));
        }
        if !features.swappiness {
            warnings.push(lacks("memory swappiness capabilities", "Memory swappiness discarded."));
            host.memory_swappiness = None;
        }
    }
    if host.memory_reservation > 0 && !features.memory_reservation {
        warnings.push(lacks("memory soft limit capabilities", "Limitation discarded."));
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if host.kernel_memory != 0 {
        warnings.push(lacks("kernel memory limit capabilities", "Limitation discarded."));
        host.kernel_memory = 0;
    }
    if host.oom_kill_disable == Some(true) {
        if !features.oom_kill_disable {
            warnings.push(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.".into(),
            );
            host.oom_kill_disable = None;
        } else if host.memory == 0 {
            warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
        }
    }
    Ok(())
}

fn processors(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<()> {
    let features = kernel.features;
    if host.nano_cpus < 0 {
        return refuse(
            "range of CPUs is from 0.01 to the number of processors: NanoCPUs must not be negative",
        );
    }
    if host.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        let other = if host.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return refuse(format!("Conflicting options: Nano CPUs and {other} cannot both be set"));
    }
    if host.nano_cpus > 0 && !features.cpu_cfs {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
    if host.nano_cpus > count * 1_000_000_000 {
        return refuse(format!(
            "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        ));
    }
    if host.cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    if host.cpu_shares > 0 && !features.cpu_shares {
        warnings.push(lacks("CPU shares", "Shares discarded."));
        host.cpu_shares = 0;
    }
    if host.cpu_shares > 0 && host.cpu_shares < MIN_SHARES {
        host.cpu_shares = MIN_SHARES;
        warnings.push("CPU shares below 2 are raised to 2.".into());
    }
    if (host.cpu_period != 0 || host.cpu_quota > 0) && !features.cpu_cfs {
        warnings.push(
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".into(),
        );
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if (!host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty()) && !features.cpuset {
        warnings.push(lacks("cpuset", "CPUset discarded."));
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    for (asked, there, kind, name) in [
        (&host.cpuset_cpus, &kernel.cpus, "cpus", "CPUs"),
        (&host.cpuset_mems, &kernel.mems, "mems", "memory nodes"),
    ] {
        if asked.is_empty() {
            continue;
        }
        let Some(wanted) = list(asked) else {
            return refuse(format!("Invalid value {asked} for cpuset {kind}"));
        };
        // A list that cannot be read says nothing.
        if let Some(all) = list(there).filter(|all| !all.is_empty())
            && !wanted.is_subset(&all)
        {
            return refuse(format!(
                "Requested {name} are not available - requested {asked}, available: {there}"
            ));
        }
    }
    Ok(())
}

/// `0-3,7` as numbers; `None` for what is no such list.
fn list(text: &str) -> Option<BTreeSet<u32>> {
    /// More than any kernel has.
    const MOST: u32 = 8191;
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !plain(first) || !plain(last) {
            return None;
        }
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

fn realtime(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<()> {
    let (runtime, period) = (host.cpu_realtime_runtime, host.cpu_realtime_period);
    if runtime < 0 || period < 0 {
        return refuse("CPU real-time runtime and period must not be negative");
    }
    if period > 0 && runtime > period {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if (runtime != 0 || period != 0) && !kernel.features.cpu_realtime {
        warnings.push(lacks("CPU real-time scheduling", "Real-time settings discarded."));
        (host.cpu_realtime_runtime, host.cpu_realtime_period) = (0, 0);
    }
    Ok(())
}

fn block_io(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<()> {
    let features = kernel.features;
    let in_range = |weight: i64| (10..=1000).contains(&weight);
    if host.blkio_weight != 0 && !in_range(host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if host.blkio_weight != 0 && !features.blkio_weight {
        warnings.push(lacks("Block I/O weight", "Weight discarded."));
        host.blkio_weight = 0;
    }
    for device in host.blkio_weight_device.iter().flatten() {
        devices::block(&device.path)?;
        if !in_range(device.weight.into()) {
            return refuse(format!(
                "Range of blkio weight is from 10 to 1000: {} of {}",
                device.weight, device.path
            ));
        }
    }
    let given = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if host.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty())
        && !features.blkio_weight_device
    {
        warnings.push(lacks("Block I/O weight_device", "Weight-device discarded."));
        host.blkio_weight_device = None;
    }
    for (list, what, then) in [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit"),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write limit",
            "Block I/O BPS write limit",
        ),
        (&mut host.blkio_device_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit"),
        (&mut host.blkio_device_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit"),
    ] {
        for device in list.iter().flatten() {
            devices::block(&device.path)?;
        }
        if given(list) && !features.blkio_throttle {
            warnings.push(lacks(what, &format!("{then} discarded.")));
            *list = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel {
            features: sys::cgroup::Features {
                memory: true,
                swap: true,
                memory_reservation: true,
                cpu_shares: true,
                cpu_cfs: true,
                cpuset: true,
                pids: true,
                ..Default::default()
            },
            cpus: "0-3".into(),
            mems: "0".into(),
            ..Kernel::default()
        }
    }

    fn refused(edit: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        edit(&mut host);
        settle(&mut host, &kernel(), &mut Vec::new()).unwrap_err().chain()
    }

    #[test]
    fn what_the_kernel_lacks_is_taken_away_with_a_warning() {
        let mut host = HostConfig {
            memory: 64 << 20,
            memory_reservation: 32 << 20,
            memory_swappiness: Some(10),
            cpu_shares: 100,
            cpu_quota: 5000,
            cpuset_cpus: "0".into(),
            pids_limit: Some(5),
            blkio_weight: 100,
            oom_kill_disable: Some(true),
            kernel_memory: 1 << 20,
            cpu_realtime_runtime: 1000,
            ..HostConfig::default()
        };
        let mut warnings = Vec::new();
        settle(&mut host, &Kernel::default(), &mut warnings).unwrap();
        assert_eq!(host, HostConfig { memory_swap: -1, ..HostConfig::default() });
        assert_eq!(warnings.len(), 11, "{warnings:#?}");
        assert!(warnings[0].starts_with("Your kernel does not support memory limit capabilities"));
    }

    #[test]
    fn contradictions_are_refused_in_dockers_words() {
        assert_eq!(refused(|h| h.memory = 1), "Minimum memory limit allowed is 6MB");
        assert!(refused(|h| h.memory = -5).contains("Minimum memory limit"));
        assert!(refused(|h| h.memory_swap = 5).starts_with("You should always set the Memory"));
        assert!(refused(|h| h.cpuset_cpus = "0-9".into()).contains("available: 0-3"));
        assert_eq!(refused(|h| h.cpuset_cpus = "3-1".into()), "Invalid value 3-1 for cpuset cpus");
        assert!(refused(|h| h.cpuset_mems = "x".into()).contains("for cpuset mems"));
        assert!(
            refused(|h| (h.cpu_realtime_runtime, h.cpu_realtime_period) = (5, 2))
                .contains("higher")
        );
        assert!(refused(|h| h.blkio_weight = 5).contains("from 10 to 1000"));
        assert!(refused(|h| h.io_maximum_iops = 5).contains("does not support Maximum IO IOps"));
        assert!(refused(|h| (h.nano_cpus, h.cpu_quota) = (1, 5000)).contains("CPU Quota"));
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-2,5").unwrap().into_iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
        for bad in ["1-", ",", "a", "5-1", "1,,2", "99999", "-1"] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }
}

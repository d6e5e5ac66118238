//! Version 1: a folder in each controller's tree.

use super::{
    Cgroup, Hierarchy,
    devices::State,
    files::{self, Error, Result},
    make_folders,
    resources::{BlockIo, Cpu, Memory, Resources},
};
use std::path::Path;

/// Makes the folders; a new cpuset is empty and lets nobody in until it has its parent's values.
pub(super) fn make(hierarchy: &Hierarchy, path: &Path) -> Result<()> {
    for mount in &hierarchy.mounts {
        make_folders(&mount.folder.join(path))?;
        if mount.controllers.iter().any(|c| c == "cpuset") {
            let mut folder = mount.folder.clone();
            for part in path.components() {
                let parent = folder.clone();
                folder.push(part);
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if files::read(&folder, file)?.trim().is_empty() {
                        files::write(&folder, file, files::read(&parent, file)?.trim())?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A value for a file of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
}

fn set(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Setting {
    Setting { controller, file: file.into(), value: value.to_string() }
}

pub(super) fn apply(group: &Cgroup, resources: &Resources) -> Result<()> {
    let memory_now = || {
        let folder = group.folder("memory")?;
        files::number(&folder, "memory.limit_in_bytes")
    };
    if resources.cpu.as_ref().is_some_and(|cpu| cpu.realtime_runtime.is_some_and(|r| r > 0)) {
        hand_realtime_down(group);
    }
    for mut setting in settings(resources, memory_now) {
        let folder = group.folder(setting.controller).ok_or_else(|| missing(group, &setting))?;
        // The weights of the BFQ scheduler, where the old one is gone.
        if let Some(rest) = setting.file.strip_prefix("blkio.weight")
            && !folder.join(&setting.file).exists()
        {
            setting.file = format!("blkio.bfq.weight{rest}");
        }
        files::write(&folder, &setting.file, &setting.value)
            .map_err(|err| explain(err, &folder, &setting))?;
    }
    if !resources.devices.is_empty() {
        let folder = group
            .folder("devices")
            .ok_or_else(|| missing(group, &set("devices", "devices.allow", "")))?;
        let state =
            State::of(&resources.devices).map_err(|e| Error::new("set devices of", &folder, e))?;
        for (file, line) in state.v1_lines() {
            files::write(&folder, file, &line)?;
        }
    }
    Ok(())
}

/// Groups above a container have no real-time processor time of their own accord: they get what the root has.
/// Where that is refused, the container's own file says so.
fn hand_realtime_down(group: &Cgroup) {
    let Some(mut folder) = group.hierarchy.mount("cpu").map(Path::to_owned) else { return };
    let Ok(all) = files::read(&folder, "cpu.rt_runtime_us") else { return };
    for part in group.path.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if files::number(&folder, "cpu.rt_runtime_us") == Some(0) {
            let _ = files::write(&folder, "cpu.rt_runtime_us", all.trim());
        }
    }
}

fn missing(group: &Cgroup, setting: &Setting) -> Error {
    let text = format!("there is no {} controller", setting.controller);
    Error::new(
        format!("write {}", setting.file),
        &group.path,
        std::io::Error::new(std::io::ErrorKind::Unsupported, text),
    )
}

/// A limit below what is in use fails as "busy"; say what is in use.
fn explain(err: Error, folder: &Path, setting: &Setting) -> Error {
    if setting.file != "memory.limit_in_bytes" || err.io().raw_os_error() != Some(libc::EBUSY) {
        return err;
    }
    let used = files::number(folder, "memory.usage_in_bytes").unwrap_or(0);
    let peak = files::number(folder, "memory.max_usage_in_bytes").unwrap_or(0);
    let text = format!(
        "unable to set memory limit to {} (current usage: {used}, peak usage: {peak})",
        setting.value
    );
    Error::new("limit memory of", folder, std::io::Error::other(text))
}

/// All values in the order to write them. `memory_now` gives the memory limit in force.
pub(super) fn settings(
    resources: &Resources,
    memory_now: impl FnOnce() -> Option<u64>,
) -> Vec<Setting> {
    let mut out = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_settings(memory, memory_now, &mut out);
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut out);
    }
    if let Some(pids) = &resources.pids {
        let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".into() };
        out.push(set("pids", "pids.max", limit));
    }
    if let Some(block_io) = &resources.block_io {
        block_io_settings(block_io, &mut out);
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size.replace('/', ""));
        out.push(set("hugetlb", file, limit.limit));
    }
    out
}

fn memory_settings(
    memory: &Memory,
    memory_now: impl FnOnce() -> Option<u64>,
    out: &mut Vec<Setting>,
) {
    // Zero means "not said" here, as in runc.
    let said = |n: Option<i64>| n.filter(|n| *n != 0);
    let limit = said(memory.limit);
    // Unlimited memory under a limit of memory and swap would be refused.
    let swap = said(memory.swap).or(limit.filter(|l| *l == -1));
    let limit_setting = limit.map(|l| set("memory", "memory.limit_in_bytes", l));
    let swap_setting = swap.map(|s| set("memory", "memory.memsw.limit_in_bytes", s));
    // Memory may never exceed memory and swap: the one that grows goes first.
    let swap_first = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => memory_now().is_some_and(|now| now < swap.unsigned_abs()),
        _ => false,
    };
    if swap_first {
        out.extend(swap_setting.into_iter().chain(limit_setting));
    } else {
        out.extend(limit_setting.into_iter().chain(swap_setting));
    }
    out.extend(said(memory.reservation).map(|r| set("memory", "memory.soft_limit_in_bytes", r)));
    if memory.disable_oom_killer == Some(true) {
        out.push(set("memory", "memory.oom_control", 1));
    }
    out.extend(memory.swappiness.map(|s| set("memory", "memory.swappiness", s)));
}

fn cpu_settings(cpu: &Cpu, out: &mut Vec<Setting>) {
    out.extend(cpu.shares.filter(|n| *n != 0).map(|n| set("cpu", "cpu.shares", n)));
    out.extend(cpu.period.filter(|n| *n != 0).map(|n| set("cpu", "cpu.cfs_period_us", n)));
    out.extend(cpu.quota.filter(|n| *n != 0).map(|n| set("cpu", "cpu.cfs_quota_us", n)));
    out.extend(cpu.burst.map(|n| set("cpu", "cpu.cfs_burst_us", n)));
    out.extend(cpu.realtime_period.filter(|n| *n != 0).map(|n| set("cpu", "cpu.rt_period_us", n)));
    out.extend(
        cpu.realtime_runtime.filter(|n| *n != 0).map(|n| set("cpu", "cpu.rt_runtime_us", n)),
    );
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    out.extend(text(&cpu.cpus).map(|t| set("cpuset", "cpuset.cpus", t)));
    out.extend(text(&cpu.mems).map(|t| set("cpuset", "cpuset.mems", t)));
}

fn block_io_settings(block_io: &BlockIo, out: &mut Vec<Setting>) {
    out.extend(block_io.weight.filter(|n| *n != 0).map(|n| set("blkio", "blkio.weight", n)));
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            out.push(set("blkio", "blkio.weight_device", value));
        }
    }
    for (file, throttles) in [
        ("blkio.throttle.read_bps_device", &block_io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block_io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block_io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block_io.throttle_write_iops_device),
    ] {
        for throttle in throttles {
            let value = format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate);
            out.push(set("blkio", file, value));
        }
    }
}

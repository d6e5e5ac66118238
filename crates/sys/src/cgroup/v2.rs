//! Version 2: one folder, controllers switched on along the way, device rules as an eBPF program.

use super::{
    Cgroup, Hierarchy, devices,
    files::{self, Error, Result},
    make_folders, open_folder,
    resources::{BlockIo, Cpu, Memory, Resources, Throttle},
};
use std::{io, os::fd::AsFd, path::Path};

/// Makes the folder; each folder above hands all its controllers down.
pub(super) fn make(hierarchy: &Hierarchy, path: &Path) -> Result<()> {
    let Some(mount) = hierarchy.mounts.first() else { return Ok(()) };
    let mut folder = mount.folder.clone();
    for part in path.components() {
        hand_down(&folder)?;
        folder.push(part);
        make_folders(&folder)?;
    }
    Ok(())
}

fn hand_down(folder: &Path) -> Result<()> {
    let there = files::read(folder, "cgroup.controllers")?;
    let on = files::read(folder, "cgroup.subtree_control")?;
    let on: Vec<&str> = on.split_ascii_whitespace().collect();
    for controller in there.split_ascii_whitespace().filter(|c| !on.contains(c)) {
        match files::write(folder, "cgroup.subtree_control", &format!("+{controller}")) {
            Ok(()) => {}
            // Some controllers refuse (cpu with real-time tasks about, a threaded root); a limit that
            // needs one of them fails later, by its file's name.
            Err(e)
                if matches!(
                    e.io().raw_os_error(),
                    Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT)
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub(super) fn apply(group: &Cgroup, resources: &Resources) -> Result<()> {
    let Some(folder) = group.folder("") else { return Ok(()) };
    let bfq = folder.join("io.bfq.weight").exists();
    for (file, value) in
        settings(resources, bfq).map_err(|e| Error::new("set limits of", &folder, e))?
    {
        files::write(&folder, &file, &value)?;
    }
    if !resources.devices.is_empty() {
        let failed = |e| Error::new("set devices of", &folder, e);
        let state = devices::State::of(&resources.devices).map_err(failed)?;
        let opened = open_folder(&folder)?;
        devices::attach(opened.as_fd(), &state).map_err(failed)?;
    }
    Ok(())
}

/// File and value, in the order to write them. `bfq`: the weight file of that scheduler is there.
pub(super) fn settings(resources: &Resources, bfq: bool) -> io::Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut set = |file: &str, value: String| out.push((file.to_owned(), value));
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut set)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut set);
    }
    if let Some(pids) = &resources.pids {
        set("pids.max", if pids.limit > 0 { pids.limit.to_string() } else { "max".into() });
    }
    if let Some(block_io) = &resources.block_io {
        block_io_settings(block_io, bfq, &mut set);
    }
    for limit in &resources.hugepage_limits {
        let size = limit.page_size.replace('/', "");
        set(&format!("hugetlb.{size}.max"), limit.limit.to_string());
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || file.starts_with("cgroup.") || !file.contains('.') {
            let text = format!("unified resource {file:?} is not a controller's file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        set(file, value.clone());
    }
    Ok(out)
}

fn amount(bytes: i64) -> String {
    if bytes == -1 { "max".into() } else { bytes.to_string() }
}

fn memory_settings(memory: &Memory, set: &mut impl FnMut(&str, String)) -> io::Result<()> {
    let said = |n: Option<i64>| n.filter(|n| *n != 0);
    let limit = said(memory.limit);
    // Here the limit is of swap alone.
    let swap = match (said(memory.swap), limit) {
        (Some(-1), _) => Some(-1),
        (None, Some(-1)) => Some(-1),
        (None, _) => None,
        (Some(both), Some(limit)) if limit != -1 => {
            if both < limit {
                let text = "memory+swap limit should be >= memory limit";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            Some(both - limit)
        }
        (Some(_), _) => {
            let text = "a limit of memory+swap needs a memory limit";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    if let Some(swap) = swap {
        set("memory.swap.max", amount(swap));
    }
    if let Some(limit) = limit {
        set("memory.max", amount(limit));
    }
    if let Some(low) = said(memory.reservation) {
        set("memory.low", amount(low));
    }
    Ok(())
}

fn cpu_settings(cpu: &Cpu, set: &mut impl FnMut(&str, String)) {
    if let Some(shares) = cpu.shares.filter(|n| *n != 0) {
        set("cpu.weight", weight_of_shares(shares).to_string());
    }
    let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".into(),
        };
        set("cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
    }
    if let Some(burst) = cpu.burst {
        set("cpu.max.burst", burst.to_string());
    }
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    if let Some(cpus) = text(&cpu.cpus) {
        set("cpuset.cpus", cpus);
    }
    if let Some(mems) = text(&cpu.mems) {
        set("cpuset.mems", mems);
    }
}

/// compat(runc 1.4): shares 2, 1024 and 262144 are weights 1, 100 and 10000, on a curve through them.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

fn block_io_settings(block_io: &BlockIo, bfq: bool, set: &mut impl FnMut(&str, String)) {
    // 10..1000 of v1 onto 1..10000 of io.weight; the BFQ scheduler takes the old range.
    let scale = |w: u16| {
        if bfq { u64::from(w) } else { 1 + u64::from(w.saturating_sub(10)) * 9999 / 990 }
    };
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    if let Some(weight) = block_io.weight.filter(|w| *w != 0) {
        set(file, scale(weight).to_string());
    }
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            set(file, format!("{}:{} {}", device.major, device.minor, scale(weight)));
        }
    }
    let mut rates = |key: &str, throttles: &[Throttle]| {
        for t in throttles {
            let rate = if t.rate == 0 { "max".into() } else { t.rate.to_string() };
            set("io.max", format!("{}:{} {key}={rate}", t.major, t.minor));
        }
    };
    rates("rbps", &block_io.throttle_read_bps_device);
    rates("wbps", &block_io.throttle_write_bps_device);
    rates("riops", &block_io.throttle_read_iops_device);
    rates("wiops", &block_io.throttle_write_iops_device);
}

//! Limits, devices and security options of a service.

use super::{bytes, pairs};
use crate::{
    canonical, dotenv,
    error::{Error, Result},
    project::Project,
    value::{Fields, Value},
};
use api::model::{DeviceMapping, DeviceRequest, HostConfig, ThrottleDevice, Ulimit, WeightDevice};
use std::path::Path;

/// Fills in everything about resources.
pub(super) fn fill(of: &Fields, host: &mut HostConfig) {
    let int = |key: &str| of.int(key).unwrap_or_default();
    let real = |fields: &Fields, key: &str| match fields.get(key) {
        Some(Value::Real(value)) => *value,
        _ => 0.0,
    };
    // As compose reckons: in single precision.
    let nano = |cpus: f32| (cpus * 1e9) as i64;
    of.text("cgroup_parent").clone_into(&mut host.cgroup_parent);
    host.memory = bytes(of, "mem_limit");
    host.memory_swap = bytes(of, "memswap_limit");
    host.memory_swappiness = Some(bytes(of, "mem_swappiness")).filter(|n| *n != 0);
    host.memory_reservation = bytes(of, "mem_reservation");
    host.oom_kill_disable = Some(of.flag("oom_kill_disable"));
    host.cpu_count = int("cpu_count");
    host.cpu_period = int("cpu_period");
    host.cpu_quota = int("cpu_quota");
    host.cpu_realtime_period = int("cpu_rt_period");
    host.cpu_realtime_runtime = int("cpu_rt_runtime");
    host.cpu_shares = int("cpu_shares");
    host.nano_cpus = nano(real(of, "cpus"));
    host.cpu_percent = (real(of, "cpu_percent") * 100.0) as i64;
    of.text("cpuset").clone_into(&mut host.cpuset_cpus);
    let rules: Vec<String> = of.texts("device_cgroup_rules").map(str::to_owned).collect();
    host.device_cgroup_rules = Some(rules).filter(|r| !r.is_empty());
    host.pids_limit = of.int("pids_limit").filter(|n| *n != 0);
    if let Some(blkio) = of.fields("blkio_config") {
        self::blkio(blkio, host);
    }
    let mut requests = Vec::new();
    if let Some(resources) = of.fields("deploy").and_then(|d| d.fields("resources")) {
        if let Some(limits) = resources.fields("limits") {
            let memory = bytes(limits, "memory");
            if memory != 0 {
                host.memory = memory;
            }
            let cpus = real(limits, "cpus");
            if cpus != 0.0 {
                host.nano_cpus = nano(cpus);
            }
            if let Some(pids) = limits.int("pids").filter(|n| *n > 0) {
                host.pids_limit = Some(pids);
            }
        }
        if let Some(reserved) = resources.fields("reservations") {
            let memory = bytes(reserved, "memory");
            if memory != 0 {
                host.memory_reservation = memory;
            }
            requests.extend(
                reserved.list("devices").filter_map(Value::as_fields).map(|d| request(d, None)),
            );
        }
    }
    let mut devices = Vec::new();
    let mut named = Vec::new();
    for device in of.list("devices").filter_map(Value::as_fields) {
        let (source, target) = (device.text("source"), device.text("target"));
        if source == target && is_cdi(source) {
            named.push(source.to_owned());
            continue;
        }
        devices.push(DeviceMapping {
            path_on_host: source.to_owned(),
            path_in_container: target.to_owned(),
            cgroup_permissions: device.text("permissions").to_owned(),
        });
    }
    if !named.is_empty() {
        let driver = "cdi".to_owned();
        requests.push(DeviceRequest {
            driver,
            device_ids: Some(named),
            ..DeviceRequest::default()
        });
    }
    requests.extend(of.list("gpus").filter_map(Value::as_fields).map(|d| request(d, Some("gpu"))));
    host.devices = Some(devices).filter(|d| !d.is_empty());
    host.device_requests = Some(requests).filter(|r| !r.is_empty());
    host.ulimits = Some(ulimits(of)).filter(|u| !u.is_empty());
}

/// `vendor/class=name`, a device by its description.
fn is_cdi(name: &str) -> bool {
    let part = |s: &str| !s.is_empty() && s.chars().next().is_some_and(char::is_alphanumeric);
    name.split_once('=').is_some_and(|(kind, name)| {
        kind.split_once('/').is_some_and(|(vendor, class)| part(vendor) && part(class))
            && part(name)
    })
}

fn request(of: &Fields, more: Option<&str>) -> DeviceRequest {
    let mut capabilities: Vec<String> = of.texts("capabilities").map(str::to_owned).collect();
    capabilities.extend(more.map(str::to_owned));
    let ids: Vec<String> = of.texts("device_ids").map(str::to_owned).collect();
    DeviceRequest {
        driver: of.text("driver").to_owned(),
        count: of.int("count").unwrap_or_default(),
        device_ids: Some(ids).filter(|i| !i.is_empty()),
        capabilities: Some(vec![capabilities]),
        options: pairs(of, "options"),
    }
}

/// The limits of a service or a build.
pub(crate) fn ulimits(of: &Fields) -> Vec<Ulimit> {
    of.map("ulimits")
        .map(|(name, value)| {
            let (soft, hard) = match value {
                Value::Int(both) => (*both, *both),
                Value::Fields(limit) => {
                    (limit.int("soft").unwrap_or_default(), limit.int("hard").unwrap_or_default())
                }
                _ => (0, 0),
            };
            Ulimit { name: name.clone(), hard, soft }
        })
        .collect()
}

fn blkio(of: &Fields, host: &mut HostConfig) {
    host.blkio_weight = of.int("weight").unwrap_or_default();
    let weights: Vec<WeightDevice> = of
        .list("weight_device")
        .filter_map(Value::as_fields)
        .map(|d| WeightDevice {
            path: d.text("path").to_owned(),
            weight: d.int("weight").and_then(|w| u16::try_from(w).ok()).unwrap_or_default(),
        })
        .collect();
    let rates = |key: &str| {
        let all: Vec<ThrottleDevice> = of
            .list(key)
            .filter_map(Value::as_fields)
            .map(|d| ThrottleDevice {
                path: d.text("path").to_owned(),
                rate: d.text("rate").parse().unwrap_or_default(),
            })
            .collect();
        Some(all).filter(|a| !a.is_empty())
    };
    host.blkio_weight_device = Some(weights).filter(|w| !w.is_empty());
    host.blkio_device_read_bps = rates("device_read_bps");
    host.blkio_device_read_iops = rates("device_read_iops");
    host.blkio_device_write_bps = rates("device_write_bps");
    host.blkio_device_write_iops = rates("device_write_iops");
}

/// Options as the engine wants them, profiles read from their files; and whether paths of the system are left open.
pub(super) fn security(project: &Project, of: &Fields) -> Result<(Option<Vec<String>>, bool)> {
    let (mut out, mut unconfined) = (Vec::new(), false);
    for option in of.texts("security_opt") {
        if option == "systempaths=unconfined" {
            unconfined = true;
            continue;
        }
        let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
            if option == "no-new-privileges" {
                out.push(option.to_owned());
                continue;
            }
            return Err(Error::at(&of.at, format!("invalid security-opt: {option:?}"))
                .hint("write key=value"));
        };
        if key != "seccomp" || value == "unconfined" || value == "builtin" {
            out.push(option.to_owned());
            continue;
        }
        let path = canonical::absolute(value, &project.directory);
        let text =
            dotenv::read(Path::new(&path), "seccomp profile").map_err(|e| e.placed(&of.at))?;
        let profile: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            Error::at(&of.at, format!("compacting json for seccomp profile ({value}) failed: {e}"))
        })?;
        out.push(format!("seccomp={profile}"));
    }
    Ok((Some(out).filter(|o| !o.is_empty()), unconfined))
}

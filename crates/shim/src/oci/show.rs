//! `state`, `ps`, `list`, `features`, `spec`: to look only.

use super::{
    Cx,
    arguments::Given,
    report::say,
    state::{self, Container},
};
use crate::container::{Step, Tried};
use runtime::{defaults, oci, shim::StartError};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// `gantry-shim state`.
pub(super) fn state(cx: &Cx, given: &Given) -> Step<i32> {
    let (record, status) = Container::look(cx, given.id()?)?;
    print(&json!(record.state(status.name())));
    Ok(0)
}

fn print(value: &Value) {
    say(&format!("{value:#}\n"));
}

/// `gantry-shim ps`.
pub(super) fn ps(cx: &Cx, given: &Given) -> Step<i32> {
    let (record, _) = Container::look(cx, given.id()?)?;
    let mut pids = state::group(&record)?.pids().unwrap_or_default();
    pids.sort_unstable();
    match given.value("format").unwrap_or("table") {
        "json" => say(&format!("{}\n", json!(pids))),
        "table" => {
            let mut text = format!("{:<8} {:>8} {:>8} CMD\n", "UID", "PID", "PPID");
            for pid in pids {
                text += &row(pid).unwrap_or_default();
            }
            say(&text);
        }
        _ => return Err(StartError::setup("invalid format option")),
    }
    Ok(0)
}

/// A process as a line; nothing when it has ended meanwhile.
fn row(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = match line.is_empty() {
        true => format!("[{}]", field("Name")?),
        false => String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " "),
    };
    Some(format!("{:<8} {pid:>8} {:>8} {command}\n", field("Uid")?, field("PPid")?))
}

/// `gantry-shim list`.
pub(super) fn list(cx: &Cx, given: &Given) -> Step<i32> {
    let all = Container::all(cx);
    if given.has("quiet") {
        for (record, _) in &all {
            say(&format!("{}\n", record.id));
        }
        return Ok(0);
    }
    match given.value("format").unwrap_or("table") {
        "json" => {
            let list: Vec<Value> =
                all.iter().map(|(record, status)| json!(record.state(status.name()))).collect();
            say(&format!("{}\n", json!(list)));
        }
        "table" => {
            let mut text =
                format!("{:<24} {:>8} {:<8} {:<32} CREATED\n", "ID", "PID", "STATUS", "BUNDLE");
            for (record, status) in &all {
                let pid = if *status == state::Status::Stopped { 0 } else { record.pid };
                let (id, bundle) = (&record.id, record.bundle.display().to_string());
                text += &format!(
                    "{id:<24} {pid:>8} {:<8} {bundle:<32} {}\n",
                    status.name(),
                    record.created
                );
            }
            say(&text);
        }
        _ => return Err(StartError::setup("invalid format option")),
    }
    Ok(0)
}

/// `gantry-shim features`.
pub(super) fn features(_: &Cx, _: &Given) -> Step<i32> {
    let capabilities: Vec<String> =
        sys::caps::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    print(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::SPEC,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": oci::MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"
                ],
                "knownFlags": [
                    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"
                ]
            },
            "apparmor": {"enabled": sys::apparmor::enabled()},
            "selinux": {"enabled": sys::selinux::enabled()},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}}
        }
    }));
    Ok(0)
}

/// `gantry-shim spec`.
pub(super) fn spec(_: &Cx, given: &Given) -> Step<i32> {
    let path = Path::new(given.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(StartError::setup(format!("File {} exists. Remove it first", path.display())));
    }
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mounts: Vec<Value> = defaults::MOUNTS
        .iter()
        .map(|m| {
            let source = if m.kind == "cgroup" { "cgroup" } else { m.kind };
            json!({"destination": m.destination, "type": m.kind, "source": source, "options": m.options})
        })
        .collect();
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mut config = json!({
        "ociVersion": oci::SPEC,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [format!("PATH={}", defaults::PATH), "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "gantry",
        "mounts": mounts,
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": defaults::MASKED_PATHS,
            "readonlyPaths": defaults::READONLY_PATHS,
        },
    });
    if given.has("rootless") {
        rootless(&mut config);
    }
    fs::write(&path, format!("{config:#}\n")).tried(|| format!("write {}", path.display()))?;
    Ok(0)
}

/// Changes the configuration to one whose root is the caller, with nobody else: the host's network, its `/sys` (a new one
/// belongs to whoever owns the network), no groups of files that are not mapped, no limits.
fn rootless(config: &mut Value) {
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    if let Some(mounts) = config["mounts"].as_array_mut() {
        for mount in mounts {
            if mount["destination"] == "/sys" {
                let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
            }
            if let Some(options) = mount["options"].as_array_mut() {
                let owner = |o: &str| o.starts_with("uid=") || o.starts_with("gid=");
                options.retain(|o| !o.as_str().is_some_and(owner));
            }
        }
    }
    let linux = &mut config["linux"];
    if let Some(fields) = linux.as_object_mut() {
        fields.remove("resources");
    }
    linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|n| n["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
}

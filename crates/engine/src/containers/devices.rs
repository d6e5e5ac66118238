//! Device nodes, device rules and limits by name: what `--device`, `--device-cgroup-rule` and `--ulimit`
//! mean on this host.
//!
//! Source: Docker's `daemon/pkg/oci/devices_linux.go` (behaviour and texts).

use base::{Error, Result};
use runtime::{defaults, spec::Device};
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};
use sys::cgroup::DeviceRule;

/// The nodes of every container.
pub(crate) fn defaults() -> Vec<Device> {
    let own = |d: &defaults::Device| Device {
        path: d.path.into(),
        kind: 'c',
        major: d.major,
        minor: d.minor,
        file_mode: 0o666,
        uid: 0,
        gid: 0,
    };
    defaults::DEVICES.iter().map(own).collect()
}

pub(crate) fn rule(
    kind: Option<char>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceRule {
    DeviceRule { allow: true, kind, major, minor, access: Some(access.to_owned()) }
}

/// The nodes and rules of one `--device`; a folder stands for all devices in it.
///
/// # Errors
/// `Invalid`, docker's "error gathering device information", for what is no device.
pub(crate) fn asked(
    host: &str,
    inside: &str,
    access: &str,
) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    if !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(Error::invalid(format!("invalid device mode: {access}")));
    }
    let text = format!("error gathering device information while adding custom device \"{host}\"");
    let failed = |e: std::io::Error| Error::invalid(text.clone()).caused_by(e);
    let meta = fs::metadata(host).map_err(failed)?;
    let mut found = Vec::new();
    if meta.is_dir() {
        for entry in fs::read_dir(host).map_err(failed)?.flatten() {
            let meta = entry.metadata().ok();
            found.extend(meta.and_then(|m| node(&Path::new(inside).join(entry.file_name()), &m)));
        }
    } else {
        found.extend(node(Path::new(inside), &meta));
    }
    if found.is_empty() {
        return Err(Error::invalid(format!("{text}: not a device node")));
    }
    let rules = found
        .iter()
        .map(|d| rule(Some(d.kind), Some(d.major.into()), Some(d.minor.into()), access))
        .collect();
    Ok((found, rules))
}

/// All devices of the host, for privileged containers; terminals and what every container has are left out.
pub(crate) fn of_host() -> Vec<Device> {
    let mut found = Vec::new();
    gather(Path::new("/dev"), 0, &mut found);
    let own = defaults();
    found.retain(|d| !own.iter().any(|o| o.path == d.path));
    found
}

/// Major and minor number of a block device.
///
/// # Errors
/// `Invalid` for what is none.
pub(crate) fn block(path: &str) -> Result<(i64, i64)> {
    let text = format!("invalid block device \"{path}\"");
    let meta = fs::metadata(path).map_err(|e| Error::invalid(text.clone()).caused_by(e))?;
    match node(Path::new(path), &meta) {
        Some(found) if found.kind == 'b' => Ok((found.major.into(), found.minor.into())),
        _ => Err(Error::invalid(format!("{text}: not a block device"))),
    }
}

fn gather(dir: &Path, depth: usize, found: &mut Vec<Device>) {
    const DEEPEST: usize = 4;
    const SKIPPED: &[&str] = &["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".udev"];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth == 0 && entry.file_name().to_str().is_some_and(|n| SKIPPED.contains(&n)) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < DEEPEST {
            gather(&entry.path(), depth + 1, found);
        } else {
            found.extend(node(&entry.path(), &meta));
        }
    }
}

pub(crate) fn node(path: &Path, meta: &fs::Metadata) -> Option<Device> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return None,
    };
    let rdev = meta.rdev();
    Some(Device {
        path: path.to_owned(),
        kind,
        // The kernel's layout of dev_t (makedev(3)).
        major: ((rdev >> 8) & 0xfff | (rdev >> 32) & !0xfff) as u32,
        minor: ((rdev & 0xff) | (rdev >> 12) & !0xff) as u32,
        file_mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// Parses `c 1:3 rwm` of `--device-cgroup-rule`.
///
/// # Errors
/// `Invalid` with docker's words.
pub(crate) fn parse_rule(text: &str) -> Result<DeviceRule> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words.as_slice() else { return Err(bad()) };
    let kind = match *kind {
        "a" => None,
        "b" => Some('b'),
        "c" => Some('c'),
        _ => return Err(bad()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(bad());
    }
    Ok(rule(kind, number(major)?, number(minor)?, access))
}

/// `RLIMIT_X` for docker's name of a limit.
pub(crate) fn rlimit(name: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("core", "RLIMIT_CORE"),
        ("cpu", "RLIMIT_CPU"),
        ("data", "RLIMIT_DATA"),
        ("fsize", "RLIMIT_FSIZE"),
        ("locks", "RLIMIT_LOCKS"),
        ("memlock", "RLIMIT_MEMLOCK"),
        ("msgqueue", "RLIMIT_MSGQUEUE"),
        ("nice", "RLIMIT_NICE"),
        ("nofile", "RLIMIT_NOFILE"),
        ("nproc", "RLIMIT_NPROC"),
        ("rss", "RLIMIT_RSS"),
        ("rtprio", "RLIMIT_RTPRIO"),
        ("rttime", "RLIMIT_RTTIME"),
        ("sigpending", "RLIMIT_SIGPENDING"),
        ("stack", "RLIMIT_STACK"),
    ];
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_parse() {
        let rule = parse_rule("c 1:* rw").unwrap();
        assert_eq!((rule.major, rule.minor, rule.access.as_deref()), (Some(1), None, Some("rw")));
        for bad in ["", "x 1:3 r", "c 1 r", "c 1:3", "c 1:3 q", "c 1:3 rwm x"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_devices_are_found_and_others_refused() {
        let (nodes, rules) = asked("/dev/null", "/dev/x", "r").unwrap();
        assert_eq!((nodes[0].major, nodes[0].minor, nodes[0].kind), (1, 3, 'c'));
        assert_eq!(rules[0].access.as_deref(), Some("r"));
        assert!(asked("/etc/passwd", "/x", "r").is_err());
        assert!(asked("/dev/null", "/x", "rq").is_err());
    }
}

//! Kernel parameters: only those which live in one of the container's own namespaces.
//!
//! Source: runc `libcontainer/configs/validate` (which keys, texts).

use crate::spec::{Namespace, Namespaces};
use base::{Error, Result};
use std::{collections::BTreeMap, path::PathBuf};

const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Checks keys and values; gives paths below `/proc/sys`.
pub(super) fn plan(
    all: &BTreeMap<String, String>,
    ns: &Namespaces,
) -> Result<Vec<(PathBuf, String)>> {
    all.iter().map(|(key, value)| one(key, value, ns)).collect()
}

fn one(key: &str, value: &str, ns: &Namespaces) -> Result<(PathBuf, String)> {
    // `net/ipv4/conf/eth0.100/...` keeps its dots: the first separator decides which one is meant.
    let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let (dotted, path) = match slashes {
        true => (key.replace('/', "."), key.to_owned()),
        false => (key.to_owned(), key.replace('.', "/")),
    };
    let odd = |c: char| !c.is_ascii_graphic();
    if path.contains(odd) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::invalid(format!("sysctl {key:?} is not a valid name")));
    }
    // One write is one value: a second line would be a second one for some files.
    if value.contains(['\n', '\0']) {
        return Err(Error::invalid(format!(
            "sysctl {key:?}: value {value:?} has more than one line"
        )));
    }
    if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        need(key, &ns.ipc, "ipc")?;
    } else if dotted.starts_with("net.") {
        need(key, &ns.net, "network")?;
    } else if dotted == "kernel.domainname" {
        need(key, &ns.uts, "UTS")?;
    } else if dotted == "kernel.hostname" {
        return Err(Error::invalid(format!("sysctl {key:?} conflicts with the hostname")));
    } else {
        return Err(Error::invalid(format!(
            "sysctl {key:?} is not in a separate kernel namespace"
        )));
    }
    Ok((PathBuf::from(path), value.to_owned()))
}

fn need(key: &str, ns: &Namespace, name: &str) -> Result<()> {
    match ns {
        Namespace::Host => Err(Error::invalid(format!(
            "sysctl {key:?} is not allowed in the hosts {name} namespace"
        ))),
        _ => Ok(()),
    }
}

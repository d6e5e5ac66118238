//! Devices asked for by name (`--device vendor.com/class=name`, `DeviceRequests` of the driver `cdi`): the Container
//! Device Interface.
//!
//! Flow: the specifications in the given folders are read when a request needs them; the device's edits and those of
//! its specification become environment, nodes, mounts and groups of the container. A later folder wins over an
//! earlier one.
//! Source: CNCF container-device-interface, SPEC.md 0.8; Docker's `daemon/cdi.go` (texts).
//! Not here: hooks (programs of the host that run with the container's data), network devices, cache classes; a device that
//! has some is warned of.

use super::devices;
use api::model::DeviceRequest;
use base::{Error, Result};
use runtime::spec::{Device, Mount};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};
use sys::cgroup::DeviceRule;

/// A specification longer than this is none.
const LONGEST: u64 = 4 << 20;

/// What a container gets with its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) nodes: Vec<Device>,
    pub(crate) rules: Vec<DeviceRule>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) groups: Vec<u32>,
    /// What is not done, and for which devices.
    left_out: Vec<(&'static str, String)>,
}

impl Edits {
    /// What will not happen.
    pub(crate) fn warning(&self) -> Option<String> {
        let said: Vec<String> =
            self.left_out.iter().map(|(what, name)| format!("{what} of {name}")).collect();
        (!said.is_empty()).then(|| format!("CDI devices are used without {}", said.join(", ")))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Specification {
    kind: String,
    container_edits: Container,
    devices: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    name: String,
    container_edits: Container,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
    intel_rdt: Option<serde_json::Value>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: Option<u32>,
    minor: Option<u32>,
    permissions: String,
    file_mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bind {
    host_path: String,
    container_path: String,
    options: Vec<String>,
}

/// Finds what is asked for in the specifications below `dirs`.
///
/// # Errors
/// `Invalid` for a device that is not described, a driver that there is not, a specification that cannot be read.
pub(crate) fn resolve(requests: &[DeviceRequest], dirs: &[PathBuf]) -> Result<Edits> {
    let mut edits = Edits::default();
    if requests.is_empty() {
        return Ok(edits);
    }
    let mut wanted: Vec<&str> = Vec::new();
    for request in requests {
        if request.driver != "cdi" {
            let list = |l: &Vec<String>| format!("[{}]", l.join(" "));
            let all: Vec<String> = request.capabilities.iter().flatten().map(list).collect();
            return Err(Error::invalid(format!(
                "could not select device driver {:?} with capabilities: [{}]",
                request.driver,
                all.join(" ")
            )));
        }
        wanted.extend(request.device_ids.iter().flatten().map(String::as_str));
    }
    let known = read(dirs)?;
    let mut missing = Vec::new();
    for name in wanted {
        let found = name.split_once('=').and_then(|(kind, device)| {
            let spec = known.iter().rev().filter(|s| s.kind == kind);
            spec.flat_map(|s| s.devices.iter().map(move |d| (s, d))).find(|(_, d)| d.name == device)
        });
        match found {
            Some((spec, device)) => {
                for part in [&spec.container_edits, &device.container_edits] {
                    edits.add(name, part)?;
                }
            }
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        return Err(Error::invalid(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            missing.join(", ")
        )));
    }
    Ok(edits)
}

impl Edits {
    fn add(&mut self, name: &str, part: &Container) -> Result<()> {
        self.env.extend(part.env.iter().cloned());
        self.groups.extend(part.additional_gids.iter().filter(|g| **g != 0));
        for (what, there) in [
            ("hooks", !part.hooks.is_empty()),
            ("network devices", !part.net_devices.is_empty()),
            ("cache classes", part.intel_rdt.is_some()),
        ] {
            let entry = (what, name.to_owned());
            if there && !self.left_out.contains(&entry) {
                self.left_out.push(entry);
            }
        }
        for node in &part.device_nodes {
            self.node(name, node)?;
        }
        for bind in &part.mounts {
            let options: Vec<&str> =
                bind.options.iter().map(String::as_str).filter(|o| *o != "bind").collect();
            let mount = Mount::bind(&bind.host_path, &bind.container_path, &options);
            if !self.mounts.contains(&mount) {
                self.mounts.push(mount);
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &str, node: &Node) -> Result<()> {
        let mut found = match node.given() {
            Some(device) => device,
            None => {
                let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
                let failed = || format!("CDI device injection failed: {name}: no device {host}");
                let meta = fs::metadata(host).map_err(|e| Error::invalid(failed()).caused_by(e))?;
                devices::node(Path::new(&node.path), &meta)
                    .ok_or_else(|| Error::invalid(failed()))?
            }
        };
        found.file_mode = node.file_mode.unwrap_or(found.file_mode);
        found.uid = node.uid.unwrap_or(found.uid);
        found.gid = node.gid.unwrap_or(found.gid);
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        let (major, minor) = (Some(found.major.into()), Some(found.minor.into()));
        self.rules.push(devices::rule(Some(found.kind), major, minor, access));
        if !self.nodes.contains(&found) {
            self.nodes.push(found);
        }
        Ok(())
    }
}

impl Node {
    /// The device, when the specification says all of it: then it need not be on the host.
    fn given(&self) -> Option<Device> {
        let kind = match self.kind.as_str() {
            "c" | "u" => 'c',
            "b" => 'b',
            _ => return None,
        };
        Some(Device {
            path: PathBuf::from(&self.path),
            kind,
            major: self.major?,
            minor: self.minor?,
            file_mode: 0o666,
            uid: 0,
            gid: 0,
        })
    }
}

/// All specifications, in the order of their folders and names.
fn read(dirs: &[PathBuf]) -> Result<Vec<Specification>> {
    let mut all = Vec::new();
    for dir in dirs {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        files.sort();
        for file in files {
            let kind = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if matches!(kind, "json" | "yaml" | "yml") {
                all.push(one(&file)?);
            }
        }
    }
    Ok(all)
}

fn one(file: &Path) -> Result<Specification> {
    let failed = || format!("cannot read the CDI specification {}", file.display());
    let meta = fs::metadata(file).map_err(|e| Error::invalid(failed()).caused_by(e))?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(Error::invalid(format!("{}: it is no file of a bearable size", failed())));
    }
    let text = fs::read_to_string(file).map_err(|e| Error::invalid(failed()).caused_by(e))?;
    // JSON is YAML too.
    serde_saphyr::from_str(&text).map_err(|e| Error::invalid(failed()).caused_by(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> Vec<DeviceRequest> {
        vec![DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(vec![id.into()]),
            ..DeviceRequest::default()
        }]
    }

    #[test]
    fn devices_bring_their_edits_and_those_of_their_specification() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("a.yaml"),
            "cdiVersion: 0.6.0\nkind: vendor.com/thing\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n- name: one\n  containerEdits:\n    env:\n    - ONE=1\n    deviceNodes:\n    - path: /dev/mine\n      hostPath: /dev/null\n      permissions: rw\n    additionalGids: [0, 44]\n    hooks:\n    - hookName: createContainer\n      path: /bin/true\n",
        )
        .unwrap();
        let dirs = [dir.path().to_owned()];
        let edits = resolve(&request("vendor.com/thing=one"), &dirs).unwrap();
        assert_eq!(edits.env, ["ALL=1", "ONE=1"]);
        assert_eq!((edits.nodes[0].major, edits.nodes[0].minor), (1, 3));
        assert_eq!(edits.nodes[0].path, Path::new("/dev/mine"));
        assert_eq!(edits.rules[0].access.as_deref(), Some("rw"));
        assert_eq!(edits.groups, [44]);
        assert_eq!(
            edits.warning().unwrap(),
            "CDI devices are used without hooks of vendor.com/thing=one"
        );
        let err = resolve(&request("vendor.com/thing=two"), &dirs).unwrap_err();
        assert!(err.chain().ends_with("unresolvable CDI devices vendor.com/thing=two"));
        fs::write(dir.path().join("b.json"), r#"{"kind":"vendor.com/thing","devices":[{"name":"two","containerEdits":{"mounts":[{"hostPath":"/etc","containerPath":"/x","options":["ro","bind"]}]}}]}"#).unwrap();
        let edits = resolve(&request("vendor.com/thing=two"), &dirs).unwrap();
        assert_eq!(edits.mounts[0].options, ["rbind", "ro"]);
        assert_eq!(edits.warning(), None);
        fs::write(dir.path().join("d.json"), r#"{"kind":"vendor.com/net","devices":[{"name":"x","containerEdits":{"netDevices":[{"hostInterfaceName":"eth9","name":"eth1"}],"deviceNodes":[{"path":"/dev/far","type":"b","major":7,"minor":9,"fileMode":384,"uid":5}]}}]}"#).unwrap();
        let edits = resolve(&request("vendor.com/net=x"), &dirs).unwrap();
        let node = &edits.nodes[0];
        assert_eq!((node.kind, node.major, node.minor), ('b', 7, 9));
        assert_eq!((node.file_mode, node.uid), (0o600, 5));
        assert!(edits.warning().unwrap().contains("network devices of vendor.com/net=x"));
        fs::write(dir.path().join("c.json"), "{").unwrap();
        assert!(
            resolve(&request("vendor.com/thing=two"), &dirs)
                .unwrap_err()
                .chain()
                .contains("c.json")
        );
    }

    #[test]
    fn other_drivers_are_not_there() {
        let gpu = DeviceRequest {
            count: -1,
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        };
        assert_eq!(
            resolve(&[gpu], &[]).unwrap_err().chain(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        assert_eq!(resolve(&[], &[PathBuf::from("/none")]).unwrap(), Edits::default());
    }
}

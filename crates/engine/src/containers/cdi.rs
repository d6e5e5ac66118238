//! Devices asked for by name (`--device vendor.com/class=name`, `DeviceRequests` of the driver `cdi`): the Container
//! Device Interface.
//!
//! Flow: the specifications in the given folders are read when a request needs them; the device's edits and those of
//! its specification become environment, nodes, mounts, groups and hooks of the container. A later folder wins over an
//! earlier one.
//! Source: CNCF container-device-interface, SPEC.md 0.8; Docker's `daemon/cdi.go` (texts).
//! A GPU asked for by its maker's driver (`--gpus`) is the device of that maker's specification, if there is one.
//! Not here: network devices and cache classes; a device that has some is warned of.

use super::devices;
use api::model::DeviceRequest;
use base::{Error, Result};
use runtime::{
    oci::{Hook, Hooks},
    spec::{Device, Mount},
};
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
    /// Programs of the host, with what the specification says of them alone: nothing of the image is in their environment.
    pub(crate) hooks: Hooks,
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
    hooks: Vec<Program>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Program {
    hook_name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<u64>,
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
    let known = read(dirs)?;
    let mut wanted: Vec<String> = Vec::new();
    for request in requests {
        if request.driver == "cdi" {
            wanted.extend(request.device_ids.iter().flatten().cloned());
        } else if let Some(kind) = gpus(request, &known) {
            wanted.extend(of_kind(request, kind));
        } else {
            let list = |l: &Vec<String>| format!("[{}]", l.join(" "));
            let all: Vec<String> = request.capabilities.iter().flatten().map(list).collect();
            return Err(Error::invalid(format!(
                "could not select device driver {:?} with capabilities: [{}]",
                request.driver,
                all.join(" ")
            )));
        }
    }
    let mut missing = Vec::new();
    for name in &wanted {
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
            None => missing.push(name.as_str()),
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

/// The kind of described devices that a request for GPUs means: those of the driver that it names, or any there are.
fn gpus(request: &DeviceRequest, known: &[Specification]) -> Option<&'static str> {
    const MAKERS: [(&str, &str); 2] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];
    let asked = request.capabilities.iter().flatten().flatten().any(|c| c == "gpu");
    let fits = |driver: &str| request.driver.is_empty() || request.driver == driver;
    let kinds = MAKERS.iter().filter(|(driver, _)| asked && fits(driver)).map(|(_, kind)| *kind);
    kinds.into_iter().find(|kind| known.iter().any(|spec| spec.kind == *kind))
}

/// Names of the devices: those that the request lists, all, or the first so many.
fn of_kind(request: &DeviceRequest, kind: &str) -> Vec<String> {
    let ids = request.device_ids.clone().unwrap_or_default();
    let ids = match request.count {
        _ if !ids.is_empty() => ids,
        -1 => vec!["all".to_owned()],
        count => (0..count).map(|at| at.to_string()).collect(),
    };
    ids.into_iter().map(|id| format!("{kind}={id}")).collect()
}

impl Edits {
    fn add(&mut self, name: &str, part: &Container) -> Result<()> {
        self.env.extend(part.env.iter().cloned());
        self.groups.extend(part.additional_gids.iter().filter(|g| **g != 0));
        for (what, there) in [
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
        for program in &part.hooks {
            self.hook(name, program)?;
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

    fn hook(&mut self, name: &str, program: &Program) -> Result<()> {
        let failed =
            |why: String| Error::invalid(format!("CDI device injection failed: {name}: {why}"));
        let kept = match program.hook_name.as_str() {
            "prestart" => &mut self.hooks.prestart,
            "createRuntime" => &mut self.hooks.create_runtime,
            "createContainer" => &mut self.hooks.create_container,
            "startContainer" => &mut self.hooks.start_container,
            "poststart" => &mut self.hooks.poststart,
            "poststop" => &mut self.hooks.poststop,
            other => return Err(failed(format!("no hook is called {other:?}"))),
        };
        if !program.path.is_absolute() {
            let path = program.path.display();
            return Err(failed(format!("the path {path} of a hook is not absolute")));
        }
        let hook = Hook {
            path: program.path.clone(),
            args: program.args.clone(),
            env: program.env.clone(),
            timeout: program.timeout,
        };
        if !kept.contains(&hook) {
            kept.push(hook);
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
        assert_eq!(edits.warning(), None);
        assert_eq!(edits.hooks.create_container[0].path, Path::new("/bin/true"));
        assert_eq!(edits.hooks.all().count(), 1);
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
    fn hooks_are_known_by_name_and_absolute() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        for (name, path, said) in [
            ("createTea", "/bin/true", "no hook is called \"createTea\""),
            ("poststop", "bin/true", "the path bin/true of a hook is not absolute"),
        ] {
            let text = format!(
                r#"{{"kind":"v.com/x","devices":[{{"name":"a","containerEdits":{{"hooks":[{{"hookName":"{name}","path":"{path}"}}]}}}}]}}"#
            );
            fs::write(dir.path().join("x.json"), text).unwrap();
            let refused = resolve(&request("v.com/x=a"), &dirs).unwrap_err().chain();
            assert_eq!(refused, format!("CDI device injection failed: v.com/x=a: {said}"));
        }
    }

    #[test]
    fn gpus_are_the_described_ones_of_their_maker() {
        let dir = tempfile::tempdir().unwrap();
        let device = |name: &str| {
            format!(r#"{{"name":"{name}","containerEdits":{{"env":["GPU={name}"]}}}}"#)
        };
        let devices = ["0", "1", "all"].map(device).join(",");
        let text = format!(r#"{{"kind":"nvidia.com/gpu","devices":[{devices}]}}"#);
        fs::write(dir.path().join("nvidia.json"), text).unwrap();
        let asked = |driver: &str, count: i64, ids: &[&str]| {
            let request = DeviceRequest {
                driver: driver.into(),
                count,
                device_ids: Some(ids.iter().map(ToString::to_string).collect()),
                capabilities: Some(vec![vec!["gpu".into()]]),
                ..DeviceRequest::default()
            };
            resolve(&[request], &[dir.path().to_owned()]).map(|e| e.env)
        };
        assert_eq!(asked("", -1, &[]).unwrap(), ["GPU=all"]);
        assert_eq!(asked("nvidia", 2, &[]).unwrap(), ["GPU=0", "GPU=1"]);
        assert_eq!(asked("", 0, &["1"]).unwrap(), ["GPU=1"]);
        let none = asked("", 3, &[]).unwrap_err().chain();
        assert!(none.ends_with("unresolvable CDI devices nvidia.com/gpu=2"), "{none}");
        let other = asked("amd", -1, &[]).unwrap_err().chain();
        assert_eq!(other, "could not select device driver \"amd\" with capabilities: [[gpu]]");
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

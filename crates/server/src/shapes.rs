//! Shapes of older API versions, made from the newest ones.
//!
//! Source: Docker's API version history. Each rule names the version that changed the shape.

use crate::versions::Version;
use base::{Error, Result};
use serde_json::{Map, Value};

fn object<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Map<String, Value>> {
    let mut value = value;
    for key in path {
        value = value.get_mut(*key)?;
    }
    value.as_object_mut()
}

/// Networks that are always there, and know no aliases.
const PREDEFINED: &[&str] = &["bridge", "host", "none"];

/// A container's place on a network.
fn old_endpoint(endpoint: &mut Map<String, Value>, version: Version) {
    if version < Version(1, 48) {
        endpoint.remove("GwPriority");
    }
    if version < Version(1, 44) {
        endpoint.remove("DNSNames");
    }
}

/// Container list.
pub(crate) fn containers(value: &mut Value, version: Version) {
    for row in value.as_array_mut().into_iter().flatten() {
        if version < Version(1, 46)
            && let Some(host) = object(row, &["HostConfig"])
        {
            host.remove("Annotations");
        }
        if let Some(networks) = object(row, &["NetworkSettings", "Networks"]) {
            networks
                .values_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|e| old_endpoint(e, version));
        }
    }
}

/// Networks, one or many, below 1.48.
pub(crate) fn networks(value: &mut Value) {
    let one = |network: &mut Value| {
        if let Some(network) = network.as_object_mut() {
            network.remove("EnableIPv4");
        }
    };
    match value {
        Value::Array(list) => list.iter_mut().for_each(one),
        network => one(network),
    }
}

/// Disk usage; `cached` are the bytes of the build cache.
pub(crate) fn usage(value: &mut Value, cached: i64, version: Version) {
    let Some(usage) = value.as_object_mut() else { return };
    if version < Version(1, 42) {
        usage.insert("BuilderSize".into(), cached.into());
    }
    for entry in usage.get_mut("BuildCache").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(entry) = entry.as_object_mut() else { continue };
        if version < Version(1, 42) {
            // There was one parent at most.
            let parents = entry.remove("Parents");
            let first = parents.as_ref().and_then(|p| p.get(0)).cloned();
            entry.insert("Parent".into(), first.unwrap_or_else(|| "".into()));
        }
    }
    if let Some(rows) = usage.get_mut("Containers") {
        containers(rows, version);
    }
    if version < Version(1, 44)
        && let Some(rows) = usage.get_mut("Images")
    {
        images(rows, version);
    }
}

/// Container inspect.
pub(crate) fn container(value: &mut Value, version: Version) {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let id = text("/Id").map(|id| id.chars().take(12).collect::<String>());
    let more: Vec<String> = [id, text("/Config/Hostname")].into_iter().flatten().collect();
    if let Some(networks) = object(value, &["NetworkSettings", "Networks"]) {
        for (network, endpoint) in networks.iter_mut() {
            let Some(endpoint) = endpoint.as_object_mut() else { continue };
            // Below 1.45 the short id and the host's name are among the aliases.
            if version < Version(1, 45) && !PREDEFINED.contains(&network.as_str()) {
                let aliases = endpoint.entry("Aliases").or_insert(Value::Null);
                let mut all = aliases.as_array().cloned().unwrap_or_default();
                for name in more.iter().filter(|name| !name.is_empty()) {
                    if !all.iter().any(|known| known == name) {
                        all.push(name.clone().into());
                    }
                }
                *aliases = all.into();
            }
            old_endpoint(endpoint, version);
        }
    }
    if version < Version(1, 44)
        && let Some(health) = object(value, &["Config", "Healthcheck"])
    {
        health.remove("StartInterval");
    }
    if let Some(host) = object(value, &["HostConfig"]) {
        if version < Version(1, 43) {
            host.remove("Annotations");
        }
        if version < Version(1, 42) {
            host.insert("KernelMemory".into(), 0.into());
            host.insert("KernelMemoryTCP".into(), 0.into());
        }
    }
    if version < Version(1, 48)
        && let Some(whole) = value.as_object_mut()
    {
        whole.remove("ImageManifestDescriptor");
    }
}

/// What the configuration of an image shows since 1.50 when it holds it.
const IMAGE_CONFIG: &[&str] =
    &["ExposedPorts", "StopSignal", "ArgsEscaped", "Healthcheck", "Shell"];

/// What it shows whether it holds it or not.
const ALWAYS_IN_IMAGE_CONFIG: &[&str] =
    &["User", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "OnBuild"];

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Image inspect.
pub(crate) fn image(value: &mut Value, version: Version) {
    let Some(image) = value.as_object_mut() else { return };
    if version < Version(1, 44) {
        let size = image.get("Size").cloned().unwrap_or(Value::Null);
        image.insert("VirtualSize".into(), size);
    }
    if version < Version(1, 48) {
        image.remove("Descriptor");
        image.remove("Manifests");
    }
    if version >= Version(1, 50)
        && let Some(config) = image.get_mut("Config").and_then(Value::as_object_mut)
    {
        // What an image cannot hold is gone; of what it does not hold, only some is left out.
        config.retain(|key, value| {
            ALWAYS_IN_IMAGE_CONFIG.contains(&key.as_str())
                || IMAGE_CONFIG.contains(&key.as_str()) && !is_unset(value)
        });
    }
    if version < Version(1, 45) {
        image.entry("Container").or_insert_with(|| "".into());
        let none =
            || serde_json::to_value(api::model::ContainerConfig::default()).unwrap_or_default();
        image.entry("ContainerConfig").or_insert_with(none);
    } else {
        image.remove("Container");
        image.remove("ContainerConfig");
    }
}

/// The version that an image is shown to `client` in: docker-compose of before 2.0 asks for the newest one, and fails when it
/// makes a container again without what only older ones hold (ADR 28).
pub(crate) fn image_version(client: &str, asked: Version) -> Version {
    if client.starts_with("docker-compose/1.") { asked.min(Version(1, 44)) } else { asked }
}

/// Image list.
pub(crate) fn images(value: &mut Value, version: Version) {
    for image in value.as_array_mut().into_iter().flatten() {
        let Some(image) = image.as_object_mut() else { continue };
        if version < Version(1, 44) {
            let size = image.get("Size").cloned().unwrap_or(Value::Null);
            image.insert("VirtualSize".into(), size);
        }
        if version < Version(1, 43) {
            let empty =
                |key: &str| image.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty);
            if empty("RepoTags") && empty("RepoDigests") {
                for (key, none) in [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")]
                {
                    image.insert(key.into(), Value::Array(vec![none.into()]));
                }
            }
        }
    }
}

/// Information.
pub(crate) fn info(value: &mut Value, version: Version) {
    let Some(info) = value.as_object_mut() else { return };
    for bridge in ["BridgeNfIptables", "BridgeNfIp6tables"] {
        // Gone since 1.50, and never true since Docker 28: the module is no longer asked for.
        if version < Version(1, 50) {
            info.insert(bridge.into(), false.into());
        } else {
            info.remove(bridge);
        }
    }
    if version >= Version(1, 47)
        && let Some(registries) = info.get_mut("RegistryConfig").and_then(Value::as_object_mut)
    {
        registries.retain(|key, _| !key.starts_with("AllowNondistributableArtifacts"));
    }
    if version < Version(1, 49) {
        info.remove("FirewallBackend");
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            if let Some(commit) = info.get_mut(commit).and_then(Value::as_object_mut) {
                let id = commit.get("ID").cloned().unwrap_or(Value::Null);
                commit.insert("Expected".into(), id);
            }
        }
    }
    if version < Version(1, 44) {
        info.remove("CDISpecDirs");
    }
    if version < Version(1, 42) {
        info.insert("KernelMemory".into(), false.into());
        info.insert("KernelMemoryTCP".into(), false.into());
    }
    if version < Version(1, 25) {
        // Names alone, before options had keys: `name=seccomp,profile=builtin` was `seccomp`.
        for option in
            info.get_mut("SecurityOptions").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let name = option.as_str().and_then(|o| o.strip_prefix("name="));
            if let Some(name) = name.and_then(|n| n.split(',').next()).map(str::to_owned) {
                *option = name.into();
            }
        }
        info.insert("ExecutionDriver".into(), "<not supported>".into());
    }
}

/// Body of a container create of an old client: what it could not mean is taken away, what it took for
/// granted is put in.
pub(crate) fn create(
    config: &mut api::model::ContainerConfig,
    host: &mut api::model::HostConfig,
    version: Version,
) -> Result<()> {
    // Below 1.40 a container without an IPC mode shares it; below 1.41 its cgroups are the host's.
    if version < Version(1, 40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".into();
    }
    if version < Version(1, 41) && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".into();
    }
    if version < Version(1, 42) {
        host.console_size = [0, 0];
    }
    if version < Version(1, 43) {
        host.annotations = None;
    }
    if version < Version(1, 44)
        && let Some(health) = &mut config.healthcheck
    {
        health.start_interval = 0;
    }
    for mount in host.mounts.iter_mut().flatten() {
        if let Some(bind) = &mut mount.bind_options {
            bind.non_recursive &= version >= Version(1, 40);
            bind.create_mountpoint &= version >= Version(1, 42);
            if version < Version(1, 44) {
                bind.read_only_non_recursive = false;
                bind.read_only_force_recursive = false;
            }
        }
        if version < Version(1, 45)
            && let Some(volume) = &mut mount.volume_options
        {
            volume.subpath.clear();
        }
        if version < Version(1, 48) && mount.r#type == "image" {
            return Err(Error::invalid("mount type image requires API version 1.48 or newer"));
        }
    }
    // Kernel memory limits left the kernel; a limit that limits nothing counts as none.
    host.kernel_memory_tcp = 0;
    host.pids_limit = host.pids_limit.filter(|limit| *limit != 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_clients_get_the_shapes_they_know() {
        let mut list = json!([{"Size": 5, "RepoTags": [], "RepoDigests": []}]);
        images(&mut list, Version(1, 41));
        assert_eq!(list[0]["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(list[0]["RepoDigests"], json!(["<none>@<none>"]));
        assert_eq!(list[0]["VirtualSize"], 5);
        let mut list = json!([{"Size": 5, "RepoTags": [], "RepoDigests": ["x@sha256:1"]}]);
        images(&mut list, Version(1, 41));
        assert_eq!(list[0]["RepoTags"], json!([]));
        let mut list = json!([{"Size": 5, "RepoTags": []}]);
        images(&mut list, Version(1, 51));
        assert_eq!(list, json!([{"Size": 5, "RepoTags": []}]));
    }

    #[test]
    fn an_image_s_configuration_lost_what_only_containers_have() {
        let whole = json!({"Config": {"Hostname": "", "Tty": false, "User": "", "Env": ["A=b"], "Cmd": null, "Shell": null}});
        let mut old = whole.clone();
        image(&mut old, Version(1, 49));
        assert_eq!(old["Config"], whole["Config"]);
        let mut new = whole;
        image(&mut new, Version(1, 50));
        assert_eq!(new["Config"], json!({"User": "", "Env": ["A=b"], "Cmd": null}));
    }

    #[test]
    fn an_image_s_container_is_told_to_old_clients_alone() {
        let loaded = json!({"Id": "x"});
        let mut old = loaded.clone();
        image(&mut old, Version(1, 44));
        assert_eq!(old["Container"], "");
        assert!(old["ContainerConfig"]["Cmd"].is_null() && old["ContainerConfig"]["Tty"] == false);
        let mut built = json!({"Id": "x", "Container": "y", "ContainerConfig": {"Cmd": ["z"]}});
        image(&mut built, Version(1, 44));
        assert_eq!(built["ContainerConfig"]["Cmd"], json!(["z"]));
        image(&mut built, Version(1, 45));
        assert_eq!(built, json!({"Id": "x"}));
        let newest = Version(1, 51);
        assert_eq!(image_version("docker-compose/1.29.2 docker-py/5.0.3", newest), Version(1, 44));
        assert_eq!(image_version("docker-compose/1.29.2", Version(1, 35)), Version(1, 35));
        assert_eq!(image_version("Docker-Client/28.2.2 (linux)", newest), newest);
    }

    #[test]
    fn old_information_has_bare_names_of_security_options() {
        let whole = json!({"SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"], "FirewallBackend": {}, "RuncCommit": {"ID": "x"}});
        let mut old = whole.clone();
        info(&mut old, Version(1, 24));
        assert_eq!(old["SecurityOptions"], json!(["seccomp", "cgroupns"]));
        assert_eq!(old["RuncCommit"]["Expected"], "x");
        let mut new = whole.clone();
        info(&mut new, Version(1, 51));
        assert_eq!(new, whole);
    }

    #[test]
    fn old_creates_cannot_mean_what_came_later() {
        let mount = api::model::Mount {
            r#type: "volume".into(),
            volume_options: Some(api::model::VolumeOptions {
                subpath: "x".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut host = api::model::HostConfig {
            mounts: Some(vec![mount]),
            pids_limit: Some(0),
            ..Default::default()
        };
        let mut config = api::model::ContainerConfig::default();
        create(&mut config, &mut host, Version(1, 39)).unwrap();
        assert_eq!((host.ipc_mode.as_str(), host.cgroupns_mode.as_str()), ("shareable", "host"));
        assert_eq!(host.pids_limit, None);
        let mounts = host.mounts.as_mut().unwrap();
        assert_eq!(mounts[0].volume_options.as_ref().unwrap().subpath, "");
        mounts[0].r#type = "image".into();
        assert!(create(&mut config, &mut host, Version(1, 47)).is_err());
        assert!(create(&mut config, &mut host, Version(1, 48)).is_ok());
    }
}

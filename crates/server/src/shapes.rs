//! Shapes of older API versions, made from the newest ones.
//!
//! Source: Docker's API version history. Each rule names the version that changed the shape.

use crate::versions::Version;
use serde_json::{Map, Value};

fn object<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Map<String, Value>> {
    let mut value = value;
    for key in path {
        value = value.get_mut(*key)?;
    }
    value.as_object_mut()
}

/// Container inspect.
pub(crate) fn container(value: &mut Value, version: Version) {
    let short =
        value.get("Id").and_then(Value::as_str).map(|id| id.chars().take(12).collect::<String>());
    if let Some(networks) = object(value, &["NetworkSettings", "Networks"]) {
        for endpoint in networks.values_mut() {
            let Some(endpoint) = endpoint.as_object_mut() else { continue };
            if version < Version(1, 48) {
                endpoint.remove("GwPriority");
            }
            if version < Version(1, 45)
                && let Some(short) = &short
            {
                // Below 1.45 the short id is one of the aliases.
                if let Some(Value::Array(list)) = endpoint.get_mut("Aliases") {
                    list.push(short.clone().into());
                }
            }
            if version < Version(1, 44) {
                endpoint.remove("DNSNames");
            }
        }
    }
    if version < Version(1, 44)
        && let Some(health) = object(value, &["Config", "Healthcheck"])
    {
        health.remove("StartInterval");
    }
    if version < Version(1, 46)
        && let Some(host) = object(value, &["HostConfig"])
    {
        host.remove("Annotations");
    }
    if version < Version(1, 48)
        && let Some(whole) = value.as_object_mut()
    {
        whole.remove("ImageManifestDescriptor");
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
    if version < Version(1, 45) {
        for key in ["Container", "ContainerConfig"] {
            image
                .entry(key)
                .or_insert_with(|| if key == "Container" { "".into() } else { Value::Null });
        }
    }
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
            for (key, none) in [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")] {
                let empty = image.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty);
                if empty {
                    image.insert(key.into(), Value::Array(vec![none.into()]));
                }
            }
        }
    }
}

/// Body of a container create of an old client.
pub(crate) fn create(host: &mut api::model::HostConfig, version: Version) {
    // Below 1.40 a container without an IPC mode shares it; below 1.41 its cgroups are the host's.
    if version < Version(1, 40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".into();
    }
    if version < Version(1, 41) && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_clients_get_the_shapes_they_know() {
        let mut list = json!([{"Size": 5, "RepoTags": []}]);
        images(&mut list, Version(1, 41));
        assert_eq!(list, json!([{"Size": 5, "RepoTags": ["<none>:<none>"], "VirtualSize": 5}]));
        let mut list = json!([{"Size": 5, "RepoTags": []}]);
        images(&mut list, Version(1, 51));
        assert_eq!(list, json!([{"Size": 5, "RepoTags": []}]));
    }
}

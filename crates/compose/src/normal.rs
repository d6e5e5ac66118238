//! Fills in what follows from the rest: the default network, names, dependencies by links and shared namespaces.
//!
//! Source: docker compose 2.40.3.

use crate::{
    error::At,
    node::{Data, Map, Node},
    short,
};
use std::collections::BTreeMap;

/// Normalises a whole project of this name.
pub(crate) fn normalise(root: &mut Node, name: &str, environment: &BTreeMap<String, String>) {
    networks(root);
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut() {
            self::service(service, environment);
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        let Some(all) = root.get_mut(section).and_then(Node::as_map_mut) else { continue };
        for (key, object) in all {
            let at = object.at.clone();
            if object.is_null() {
                object.data = Data::Map(Map::new());
            }
            let Some(entries) = object.as_map_mut() else { continue };
            if entries.get("name").is_none_or(Node::is_null) {
                let external = entries.get("external").and_then(Node::scalar);
                let is_external =
                    matches!(external.as_deref(), Some("true" | "True" | "TRUE" | "1" | "t" | "T"));
                let full = if is_external { key.clone() } else { format!("{name}_{key}") };
                entries.insert("name".into(), Node::text(&at, full));
            }
        }
    }
}

/// Services without networks are on the default one, which is there when one of them uses it.
fn networks(root: &mut Node) {
    let at = root.at.clone();
    let mut uses_default = None;
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut() {
            let at = service.at.clone();
            let Some(entries) = service.as_map_mut() else { continue };
            if entries.contains_key("provider") || entries.contains_key("network_mode") {
                continue;
            }
            match entries.get("networks").and_then(Node::as_map) {
                Some(map) if !map.is_empty() => {
                    if map.contains_key("default") {
                        uses_default = Some(at);
                    }
                }
                _ => {
                    let only = Node::map(&at, [("default", Node::null(&at))]);
                    entries.insert("networks".into(), only);
                    uses_default = Some(at);
                }
            }
        }
    }
    let Some(used_at) = uses_default else { return };
    let Some(entries) = root.as_map_mut() else { return };
    let all = entries.entry("networks".into()).or_insert_with(|| Node::map(&at, []));
    if all.is_null() {
        all.data = Data::Map(Map::new());
    }
    if let Some(all) = all.as_map_mut() {
        all.entry("default".into()).or_insert_with(|| Node::null(&used_at));
    }
}

fn service(service: &mut Node, environment: &BTreeMap<String, String>) {
    let at = service.at.clone();
    let Some(entries) = service.as_map_mut() else { return };
    if entries.get("pull_policy").and_then(Node::as_str) == Some("if_not_present") {
        entries.insert("pull_policy".into(), Node::text(&at, "missing"));
    }
    if let Some(build) = entries.get_mut("build").and_then(Node::as_map_mut) {
        let missing = |map: &Map, key: &str| map.get(key).is_none_or(Node::is_null);
        if missing(build, "context") {
            build.insert("context".into(), Node::text(&at, "."));
        }
        if missing(build, "dockerfile") && missing(build, "dockerfile_inline") {
            build.insert("dockerfile".into(), Node::text(&at, "Dockerfile"));
        }
        if let Some(arguments) = build.get_mut("args") {
            resolve(arguments, environment, false);
        }
    }
    if let Some(variables) = entries.get_mut("environment") {
        resolve(variables, environment, true);
    }
    if let Some(volumes) = entries.get_mut("volumes").and_then(Node::as_list_mut) {
        for volume in volumes {
            if let Some(Node { data: Data::Text(target), .. }) = volume.get_mut("target") {
                *target = short::clean(target);
            }
        }
    }
    let implied = implied(entries);
    if implied.is_empty() && !entries.contains_key("depends_on") {
        return;
    }
    let all = entries.entry("depends_on".into()).or_insert_with(|| Node::map(&at, []));
    if all.is_null() {
        all.data = Data::Map(Map::new());
    }
    if let Some(all) = all.as_map_mut() {
        for (name, restart, at) in implied {
            all.entry(name).or_insert_with(|| {
                let started = Node::text(&at, "service_started");
                Node::map(
                    &at,
                    [
                        ("condition", started),
                        ("restart", Node::bool(&at, restart)),
                        ("required", Node::bool(&at, true)),
                    ],
                )
            });
        }
    }
}

/// Services that another needs without saying so in `depends_on`, and whether it starts again with them.
fn implied(entries: &Map) -> Vec<(String, bool, At)> {
    let mut out = Vec::new();
    let list = |key: &str| entries.get(key).and_then(Node::as_list).unwrap_or_default();
    for link in list("links") {
        if let Some(text) = link.as_str() {
            let parts: Vec<&str> = text.split(':').collect();
            let name = if parts.len() == 2 { parts[0] } else { text };
            out.push((name.to_owned(), true, link.at.clone()));
        }
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = entries.get(key)
            && let Some(name) = node.as_str().and_then(|t| t.strip_prefix("service:"))
        {
            out.push((name.to_owned(), true, node.at.clone()));
        }
    }
    for source in list("volumes_from") {
        if let Some(text) = source.as_str()
            && !text.starts_with("container:")
        {
            let name = text.split(':').next().unwrap_or_default();
            out.push((name.to_owned(), false, source.at.clone()));
        }
    }
    out
}

/// Names without a value take it from outside; those that have none there are kept or go.
fn resolve(node: &mut Node, environment: &BTreeMap<String, String>, keep: bool) {
    match &mut node.data {
        Data::Map(map) => {
            map.retain(|key, value| {
                if !value.is_null() {
                    return true;
                }
                match environment.get(key) {
                    Some(found) => {
                        value.data = Data::Text(found.clone());
                        true
                    }
                    None => keep,
                }
            });
        }
        Data::List(items) => items.retain_mut(|item| {
            let Some(text) = item.as_str() else { return false };
            if text.contains('=') {
                return true;
            }
            match environment.get(text) {
                Some(found) => {
                    item.data = Data::Text(format!("{text}={found}"));
                    true
                }
                None => keep,
            }
        }),
        _ => {}
    }
}

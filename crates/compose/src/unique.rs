//! Items of lists that stand for the same thing: the last counts, in the place of the first.

use crate::{
    error::Result,
    node::{Data, Node, Path, wrong},
    short,
};

type Key = fn(&Node, &Path) -> Result<Option<String>>;

/// Which lists hold things that may be there once, and by what.
const LISTS: &[(&str, Key)] = &[
    ("networks.*.labels", pair),
    ("networks.*.ipam.options", pair),
    ("services.*.annotations", pair),
    ("services.*.build.args", pair),
    ("services.*.build.additional_contexts", pair),
    ("services.*.build.platform", pair),
    ("services.*.build.tags", pair),
    ("services.*.build.labels", pair),
    ("services.*.cap_add", pair),
    ("services.*.cap_drop", pair),
    ("services.*.configs", config),
    ("services.*.deploy.labels", pair),
    ("services.*.dns", pair),
    ("services.*.dns_opt", pair),
    ("services.*.dns_search", pair),
    ("services.*.environment", pair),
    ("services.*.env_file", env_file),
    ("services.*.expose", plain),
    ("services.*.labels", pair),
    ("services.*.links", pair),
    ("services.*.networks.*.aliases", pair),
    ("services.*.networks.*.link_local_ips", pair),
    ("services.*.ports", port),
    ("services.*.profiles", pair),
    ("services.*.secrets", secret),
    ("services.*.sysctls", pair),
    ("services.*.tmpfs", pair),
    ("services.*.volumes", volume),
    ("services.*.devices", device),
];

/// Takes double items out of the lists that have a key.
pub(crate) fn enforce(node: &mut Node, path: &mut Path) -> Result<()> {
    match &mut node.data {
        Data::Map(map) => {
            for (key, value) in map {
                path.push(key);
                enforce(value, path)?;
                path.pop();
            }
        }
        Data::List(items) => {
            let Some((_, key)) = LISTS.iter().find(|(pattern, _)| path.matches(pattern)) else {
                return Ok(());
            };
            let mut keys: Vec<Option<String>> = Vec::new();
            let mut kept: Vec<Node> = Vec::new();
            for item in std::mem::take(items) {
                let name = key(&item, path)?;
                match keys.iter().position(|k| k.is_some() && *k == name) {
                    Some(at) => kept[at] = item,
                    None => {
                        keys.push(name);
                        kept.push(item);
                    }
                }
            }
            *items = kept;
        }
        _ => {}
    }
    Ok(())
}

fn pair(node: &Node, path: &Path) -> Result<Option<String>> {
    match node.as_str() {
        Some(text) => Ok(Some(text.split('=').next().unwrap_or_default().to_owned())),
        None => wrong(node, path, "must hold strings only"),
    }
}

fn plain(node: &Node, path: &Path) -> Result<Option<String>> {
    match node.scalar() {
        Some(text) => Ok(Some(text)),
        None => wrong(node, path, "must hold strings and numbers only"),
    }
}

fn target(node: &Node, path: &Path, what: &str) -> Result<Option<String>> {
    match node.get("target").and_then(Node::scalar) {
        Some(target) => Ok(Some(target)),
        None => wrong(node, path, what),
    }
}

fn volume(node: &Node, path: &Path) -> Result<Option<String>> {
    match &node.data {
        Data::Map(_) => target(node, path, "is missing a mount target"),
        Data::Text(text) => match short::volume(&node.at, text)?.get("target") {
            Some(target) => Ok(target.scalar()),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

fn device(node: &Node, path: &Path) -> Result<Option<String>> {
    match &node.data {
        Data::Map(_) => target(node, path, "is missing a mount target"),
        Data::Text(text) => {
            let mut parts = text.split(':');
            let first = parts.next();
            Ok(parts.next().or(first).map(str::to_owned))
        }
        _ => Ok(None),
    }
}

fn mount(node: &Node, folder: &str) -> Option<String> {
    match &node.data {
        Data::Text(name) => Some(format!("{folder}/{name}")),
        Data::Map(map) => match map.get("target") {
            Some(target) => target.scalar(),
            None => {
                let source = map.get("source").and_then(Node::scalar).unwrap_or_default();
                Some(format!("{folder}/{source}"))
            }
        },
        _ => None,
    }
}

fn config(node: &Node, _: &Path) -> Result<Option<String>> {
    Ok(mount(node, ""))
}

fn secret(node: &Node, _: &Path) -> Result<Option<String>> {
    Ok(mount(node, "/run/secrets"))
}

fn env_file(node: &Node, path: &Path) -> Result<Option<String>> {
    match &node.data {
        Data::Text(text) => Ok(Some(text.clone())),
        Data::Map(map) => match map.get("path").and_then(Node::as_str) {
            Some(file) => Ok(Some(file.to_owned())),
            None => wrong(node, path, "is missing a path"),
        },
        _ => Ok(None),
    }
}

fn port(node: &Node, path: &Path) -> Result<Option<String>> {
    let Data::Map(map) = &node.data else { return Ok(node.scalar()) };
    let part = |key: &str| map.get(key).and_then(Node::scalar);
    let Some(target) = part("target") else {
        return wrong(node, path, "is missing a target port");
    };
    let host = part("host_ip").unwrap_or_else(|| "0.0.0.0".into());
    let protocol = part("protocol").unwrap_or_else(|| "tcp".into());
    let published = part("published").unwrap_or_default();
    Ok(Some(format!("{host}:{published}:{target}/{protocol}")))
}

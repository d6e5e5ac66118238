//! Short forms turned into long ones, defaults filled in, paths made absolute: the same tree, said in one way.
//!
//! Order: [`canonical`] after each file has been merged; [`defaults`], [`paths`] and [`variables`] once all have
//! been; [`crate::normal`] comes last. Source: docker compose 2.40.3.

use crate::{
    error::{At, Error, Result},
    merge,
    node::{Data, Node, Path, wrong},
    short,
};
use std::{collections::BTreeMap, path::Path as FilePath};

/// What becomes of a short form that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is a mistake.
    Told,
    /// It stays as it is: its variables are still to be completed.
    Kept,
}

/// Brings every short form into its long one.
pub(crate) fn canonical(node: Node, path: &mut Path, unreadable: Unreadable) -> Result<Node> {
    let Node { at, data } = node;
    let node = match data {
        Data::Map(map) => {
            let mut out = BTreeMap::new();
            for (key, value) in map {
                path.push(&key);
                let made = canonical(value, path, unreadable)?;
                path.pop();
                out.insert(key, made);
            }
            Node { at, data: Data::Map(out) }
        }
        Data::List(items) => {
            path.push("[]");
            let made: Result<Vec<Node>> =
                items.into_iter().map(|i| canonical(i, path, unreadable)).collect();
            path.pop();
            Node { at, data: Data::List(made?) }
        }
        data => Node { at, data },
    };
    match RULES.iter().find(|(pattern, _)| path.matches(pattern)) {
        Some((_, rule)) if unreadable == Unreadable::Kept => {
            let as_it_is = node.clone();
            rule(node, path).or(Ok(as_it_is))
        }
        Some((_, rule)) => rule(node, path),
        None => Ok(node),
    }
}

type Rule = fn(Node, &Path) -> Result<Node>;

const RULES: &[(&str, Rule)] = &[
    ("services.*.build", build),
    ("services.*.build.secrets.*", file_reference),
    ("services.*.build.provenance", as_text),
    ("services.*.build.sbom", as_text),
    ("services.*.build.additional_contexts", key_values),
    ("services.*.build.ssh", ssh),
    ("services.*.depends_on", depends_on),
    ("services.*.env_file", env_file),
    ("services.*.label_file", one_or_more),
    ("services.*.extends", extends),
    ("services.*.gpus", gpus),
    ("services.*.networks", names),
    ("services.*.models", names),
    ("services.*.volumes.*", volume),
    ("services.*.dns", dns),
    ("services.*.devices.*", device),
    ("services.*.secrets.*", file_reference),
    ("services.*.configs.*", file_reference),
    ("services.*.ports", ports),
    ("services.*.develop.watch.*.ignore", one_or_more),
    ("services.*.develop.watch.*.include", one_or_more),
    ("volumes.*", external),
    ("networks.*", external),
    ("secrets.*", external),
    ("configs.*", external),
    ("include.*", include),
];

fn under(node: Node, key: &'static str) -> Node {
    let at = node.at.clone();
    Node::map(&at, [(key, node)])
}

fn build(node: Node, path: &Path) -> Result<Node> {
    match node.data {
        Data::Map(_) => Ok(node),
        Data::Text(_) => Ok(under(node, "context")),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn extends(node: Node, path: &Path) -> Result<Node> {
    match node.data {
        Data::Map(_) => Ok(node),
        Data::Text(_) => Ok(under(node, "service")),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn include(node: Node, path: &Path) -> Result<Node> {
    match node.data {
        Data::Map(_) => Ok(node),
        Data::Text(_) => Ok(under(node, "path")),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn file_reference(node: Node, path: &Path) -> Result<Node> {
    match node.data {
        Data::Map(_) => Ok(node),
        Data::Text(_) => Ok(under(node, "source")),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn as_text(node: Node, _: &Path) -> Result<Node> {
    let text = node.scalar().unwrap_or_default();
    Ok(Node::text(&node.at, text))
}

fn one_or_more(node: Node, _: &Path) -> Result<Node> {
    let at = node.at.clone();
    Ok(if matches!(node.data, Data::Text(_)) { Node::list(&at, vec![node]) } else { node })
}

fn dns(node: Node, path: &Path) -> Result<Node> {
    let mut node = one_or_more(node, path)?;
    if let Some(items) = node.as_list_mut() {
        items.retain(|i| !i.is_null() && i.as_str() != Some(""));
    }
    Ok(node)
}

fn key_values(node: Node, path: &Path) -> Result<Node> {
    let Data::List(items) = node.data else { return Ok(node) };
    let mut out = BTreeMap::new();
    for item in items {
        match item.as_str().and_then(|text| text.split_once('=')) {
            Some((key, value)) => out.insert(key.to_owned(), Node::text(&item.at, value)),
            None => return wrong(&item, path, "has an invalid value, expected key=value"),
        };
    }
    Ok(Node { at: node.at, data: Data::Map(out) })
}

fn ssh(node: Node, path: &Path) -> Result<Node> {
    let Data::List(items) = node.data else { return Ok(node) };
    let mut out = BTreeMap::new();
    for item in items {
        match item.as_str().map(|t| t.split_once('=').ok_or(t)) {
            Some(Ok((id, file))) => out.insert(id.to_owned(), Node::text(&item.at, file)),
            Some(Err("default")) => out.insert("default".into(), Node::null(&item.at)),
            _ => return wrong(&item, path, "has an invalid ssh key, expected id=path"),
        };
    }
    Ok(Node { at: node.at, data: Data::Map(out) })
}

fn dependency(at: &At) -> Node {
    let condition = Node::text(at, "service_started");
    Node::map(at, [("condition", condition), ("required", Node::bool(at, true))])
}

fn depends_on(node: Node, path: &Path) -> Result<Node> {
    let mut out = BTreeMap::new();
    match node.data {
        Data::Map(map) => {
            for (name, mut value) in map {
                let at = value.at.clone();
                let Some(entries) = value.as_map_mut() else {
                    return wrong(&value, &path.next(&name), "must be a mapping");
                };
                let started = || Node::text(&at, "service_started");
                entries.entry("condition".into()).or_insert_with(started);
                entries.entry("required".into()).or_insert_with(|| Node::bool(&at, true));
                out.insert(name, value);
            }
        }
        Data::List(items) => {
            for item in items {
                match item.as_str() {
                    Some(name) => out.insert(name.to_owned(), dependency(&item.at)),
                    None => return wrong(&item, path, "must hold strings only"),
                };
            }
        }
        _ => return wrong(&node, path, "must be a array or mapping"),
    }
    Ok(Node { at: node.at, data: Data::Map(out) })
}

fn env_file(node: Node, path: &Path) -> Result<Node> {
    let node = one_or_more(node, path)?;
    let Data::List(items) = node.data else {
        return wrong(&node, path, "must be a string or array");
    };
    let made = items.into_iter().map(|item| {
        let mut item = if item.as_str().is_some() { under(item, "path") } else { item };
        let at = item.at.clone();
        match item.as_map_mut() {
            Some(entries) => {
                entries.entry("required".into()).or_insert_with(|| Node::bool(&at, true));
                Ok(item)
            }
            None => wrong(&item, path, "must hold strings and mappings only"),
        }
    });
    let made: Result<Vec<Node>> = made.collect();
    Ok(Node { at: node.at, data: Data::List(made?) })
}

fn gpus(node: Node, path: &Path) -> Result<Node> {
    match node.data {
        Data::List(_) => Ok(node),
        Data::Text(_) => {
            let all = Node::text(&node.at, "all");
            Ok(Node::list(&node.at, vec![Node::map(&node.at, [("count", all)])]))
        }
        _ => wrong(&node, path, "must be a string or array"),
    }
}

/// A list of names as a mapping of nothing.
fn names(node: Node, path: &Path) -> Result<Node> {
    let Data::List(items) = node.data else { return Ok(node) };
    let mut out = BTreeMap::new();
    for item in items {
        match item.as_str() {
            Some(name) => out.insert(name.to_owned(), Node::null(&item.at)),
            None => return wrong(&item, path, "must hold strings only"),
        };
    }
    Ok(Node { at: node.at, data: Data::Map(out) })
}

fn volume(node: Node, path: &Path) -> Result<Node> {
    match &node.data {
        Data::Map(_) => Ok(node),
        Data::Text(text) => short::volume(&node.at, text),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn device(node: Node, path: &Path) -> Result<Node> {
    match &node.data {
        Data::Map(_) => Ok(node),
        Data::Text(text) => short::device(&node.at, text),
        _ => wrong(&node, path, "must be a string or mapping"),
    }
}

fn ports(node: Node, path: &Path) -> Result<Node> {
    let Data::List(items) = node.data else { return wrong(&node, path, "must be a array") };
    let mut out = Vec::new();
    for item in items {
        match &item.data {
            Data::Int(port) => out.extend(short::ports(&item.at, &port.to_string())?),
            Data::Text(text) => out.extend(short::ports(&item.at, text)?),
            Data::Map(_) => out.push(item),
            _ => return wrong(&item, path, "must hold numbers, strings and mappings only"),
        }
    }
    Ok(Node { at: node.at, data: Data::List(out) })
}

fn external(mut node: Node, path: &Path) -> Result<Node> {
    let Some(entries) = node.as_map_mut() else {
        return if node.is_null() { Ok(node) } else { wrong(&node, path, "must be a mapping") };
    };
    let Some(external) = entries.get("external") else { return Ok(node) };
    let Some(inner) = external.as_map() else { return Ok(node) };
    let at = external.at.clone();
    let named = inner.get("name").cloned();
    entries.insert("external".into(), Node::bool(&at, true));
    if let Some(name) = named {
        match entries.get("name") {
            Some(own) if *own != name => {
                let text =
                    format!("{}: name and external.name conflict; only use name", path.text());
                return Err(Error::at(&at, text));
            }
            Some(_) => {}
            None => {
                entries.insert("name".into(), name);
            }
        }
    }
    Ok(node)
}

/// What is assumed where nothing is said.
pub(crate) fn defaults(node: &mut Node, path: &mut Path) {
    let at = node.at.clone();
    let text = |text: &str| Node::text(&at, text);
    if path.matches("services.*.build") {
        if let Some(map) = node.as_map_mut() {
            map.entry("context".into()).or_insert_with(|| text("."));
        }
    } else if path.matches("services.*.secrets.*") {
        let source = node.get_str("source").unwrap_or_default().to_owned();
        if let Some(map) = node.as_map_mut() {
            map.entry("target".into()).or_insert_with(|| text(&format!("/run/secrets/{source}")));
        }
    } else if path.matches("services.*.ports.*") {
        if let Some(map) = node.as_map_mut() {
            map.entry("protocol".into()).or_insert_with(|| text("tcp"));
            map.entry("mode".into()).or_insert_with(|| text("ingress"));
        }
    } else if path.matches("services.*.deploy.resources.reservations.devices.*")
        || path.matches("services.*.gpus.*")
    {
        if let Some(map) = node.as_map_mut()
            && !map.contains_key("device_ids")
        {
            map.entry("count".into()).or_insert_with(|| text("all"));
        }
    } else {
        below(node, path, &mut |node, path| defaults(node, path));
    }
}

fn below(node: &mut Node, path: &mut Path, each: &mut dyn FnMut(&mut Node, &mut Path)) {
    match &mut node.data {
        Data::Map(map) => {
            for (key, value) in map {
                path.push(key);
                each(value, path);
                path.pop();
            }
        }
        Data::List(items) => {
            path.push("[]");
            for item in items {
                each(item, path);
            }
            path.pop();
        }
        _ => {}
    }
}

const ABSOLUTE: &[&str] = &[
    "services.*.build.ssh.*",
    "services.*.env_file.*.path",
    "services.*.label_file.*",
    "services.*.extends.file",
    "services.*.develop.watch.*.path",
    "configs.*.file",
    "secrets.*.file",
];

/// Makes paths absolute, from `folder`.
pub(crate) fn paths(node: &mut Node, path: &mut Path, folder: &FilePath) {
    if ABSOLUTE.iter().any(|p| path.matches(p)) {
        if let Data::Text(text) = &mut node.data {
            *text = absolute(text, folder);
            if path.matches("services.*.develop.watch.*.path")
                && let Ok(real) = std::fs::canonicalize(&text)
            {
                *text = real.to_string_lossy().into_owned();
            }
        }
    } else if path.matches("services.*.build.context")
        || path.matches("services.*.build.additional_contexts.*")
    {
        if let Data::Text(text) = &mut node.data
            && !is_remote(text)
        {
            *text = absolute(text, folder);
        }
    } else if path.matches("services.*.volumes.*") {
        if node.get_str("type") == Some("bind")
            && let Some(Node { data: Data::Text(source), .. }) = node.get_mut("source")
        {
            *source = absolute(source, folder);
        }
    } else if path.matches("volumes.*") {
        let is_bind = node.get_str("driver") == Some("local")
            && node.get("driver_opts").and_then(|o| o.get_str("o")) == Some("bind");
        if is_bind
            && let Some(options) = node.get_mut("driver_opts")
            && let Some(Node { data: Data::Text(device), .. }) = options.get_mut("device")
        {
            *device = absolute(device, folder);
        }
    } else {
        below(node, path, &mut |node, path| paths(node, path, folder));
    }
}

/// `path` from `folder`, `~` being the user's home, as text: nothing has to be there.
pub(crate) fn absolute(path: &str, folder: &FilePath) -> String {
    let path = match path.strip_prefix('~') {
        Some(rest) => match std::env::var("HOME") {
            Ok(home) => return short::clean(&format!("{home}/{rest}")),
            Err(_) => path,
        },
        None => path,
    };
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    short::clean(&format!("{}/{path}", folder.display()))
}

/// A context that is not a folder here.
pub(crate) fn is_remote(context: &str) -> bool {
    ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:"]
        .iter()
        .any(|p| context.starts_with(p))
        || context.contains("://")
}

/// Variables that a service only names take their value from outside; so do secrets and configs made of one.
/// Their contents are given back, not put into the tree: they are never printed.
pub(crate) fn variables(
    node: &mut Node,
    environment: &BTreeMap<String, String>,
    secrets: &mut BTreeMap<String, String>,
) {
    if let Some(services) = node.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut() {
            let Some(list) = service.get_mut("environment").and_then(Node::as_list_mut) else {
                continue;
            };
            for item in list {
                let named =
                    item.as_str().and_then(|n| Some(format!("{n}={}", environment.get(n)?)));
                if let Some(text) = named {
                    item.data = Data::Text(text);
                }
            }
        }
    }
    for (section, keep) in [("secrets", true), ("configs", false)] {
        let Some(map) = node.get_mut(section).and_then(Node::as_map_mut) else { continue };
        for (name, object) in map {
            let Some(variable) = object.get_str("environment") else { continue };
            let Some(value) = environment.get(variable).cloned() else { continue };
            if keep {
                secrets.entry(name.clone()).or_insert(value);
            } else {
                let at = object.at.clone();
                if let Some(entries) = object.as_map_mut() {
                    entries.insert("content".into(), Node::text(&at, value));
                }
            }
        }
    }
}

/// A mapping's or list's pairs; a name alone has no value.
pub(crate) fn pairs(node: &Node) -> Vec<(String, Option<String>)> {
    merge_pairs(merge::sequence(node.clone()))
}

fn merge_pairs(items: Vec<Node>) -> Vec<(String, Option<String>)> {
    items
        .into_iter()
        .filter_map(|item| item.scalar())
        .map(|text| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text, None),
        })
        .collect()
}

//! One file on top of another, and a service on top of the one it extends.
//!
//! Mappings are merged key by key, lists are put behind each other, everything else is replaced; what differs from
//! that is in [`special`]. Source: the Compose specification, "Merge and override"; docker compose 2.40.3.

use crate::{
    error::{Error, Result},
    node::{Data, Map, Node, Path, wrong},
};

/// `over` on top of `base`.
pub(crate) fn merge(base: Node, over: Node) -> Result<Node> {
    value(base, over, &mut Path::default())
}

/// A service on top of another.
pub(crate) fn extend(base: Node, over: Node) -> Result<Node> {
    value(base, over, &mut Path::of(&["services", "x"]))
}

/// Lists of `key=value` that may also be written as mappings.
const SEQUENCES: &[&str] = &[
    "networks.*.labels",
    "volumes.*.labels",
    "services.*.annotations",
    "services.*.build.args",
    "services.*.build.additional_contexts",
    "services.*.build.labels",
    "services.*.deploy.labels",
    "services.*.dns",
    "services.*.dns_opt",
    "services.*.dns_search",
    "services.*.env_file",
    "services.*.label_file",
    "services.*.environment",
    "services.*.labels",
    "services.*.sysctls",
    "services.*.tmpfs",
];

/// What is replaced as a whole.
const REPLACED: &[&str] = &[
    "services.*.command",
    "services.*.entrypoint",
    "services.*.healthcheck.test",
    "services.*.ulimits.*",
];

fn is(path: &Path, patterns: &[&str]) -> bool {
    patterns.iter().any(|p| path.matches(p))
}

fn value(base: Node, over: Node, path: &mut Path) -> Result<Node> {
    if is(path, SEQUENCES) {
        let at = over.at.clone();
        let mut all = sequence(base);
        all.extend(sequence(over));
        return Ok(Node::list(&at, all));
    }
    if is(path, REPLACED) {
        return Ok(over);
    }
    if path.matches("services.*.build.extra_hosts") || path.matches("services.*.extra_hosts") {
        let at = over.at.clone();
        let mut all = sequence(base);
        let more: Vec<Node> = sequence(over).into_iter().filter(|n| !all.contains(n)).collect();
        all.extend(more);
        return Ok(Node::list(&at, all));
    }
    if path.matches("services.*.build") {
        return mappings(built(base), built(over), path);
    }
    if path.matches("services.*.depends_on") {
        return mappings(dependencies(base), dependencies(over), path);
    }
    if path.matches("services.*.networks") || path.matches("services.*.models") {
        return mappings(named(base), named(over), path);
    }
    if path.matches("services.*.logging") {
        let driver = |n: &Node| n.get("driver").cloned();
        let (old, new) = (driver(&base), driver(&over));
        return if old.is_none() || new.is_none() || old == new {
            mappings(base, over, path)
        } else {
            Ok(over)
        };
    }
    if path.matches("networks.*.ipam.config") {
        return pools(base, over, path);
    }
    match (&base.data, &over.data) {
        (_, Data::Null) => Ok(base),
        (Data::Map(_), _) => mappings(base, over, path),
        (Data::List(_), Data::List(_)) => {
            let (mut list, mut base) = (over, base);
            if let (Some(more), Some(all)) = (list.as_list_mut(), base.as_list_mut()) {
                let more = std::mem::take(more);
                all.extend(more);
            }
            Ok(base)
        }
        (Data::List(_), _) => clash(&over, path),
        _ => Ok(over),
    }
}

fn clash<T>(over: &Node, path: &Path) -> Result<T> {
    Err(Error::at(&over.at, format!("cannot override {}", path.text()))
        .hint(format!("it is not a {} in the file before", over.kind())))
}

fn mappings(base: Node, over: Node, path: &mut Path) -> Result<Node> {
    let (at, over_at) = (base.at.clone(), over.at.clone());
    let over_kind = Node { at: over_at, data: Data::Text(String::new()) };
    let (mut all, more) = match (base.data, over.data) {
        (Data::Map(all), Data::Map(more)) => (all, more),
        (Data::Null, Data::Map(more)) => (Map::new(), more),
        (Data::Map(all), Data::Null) => (all, Map::new()),
        _ => return clash(&over_kind, path),
    };
    for (key, new) in more {
        let made = match all.remove(&key) {
            None => new,
            Some(old) => {
                path.push(&key);
                let made = value(old, new, path)?;
                path.pop();
                made
            }
        };
        all.insert(key, made);
    }
    Ok(Node { at, data: Data::Map(all) })
}

/// A mapping as `key=value`, sorted; a list as it is; a string as a list of it.
pub(crate) fn sequence(node: Node) -> Vec<Node> {
    let Node { at, data } = node;
    match data {
        Data::Map(map) => {
            let mut all = Vec::new();
            for (key, value) in map {
                let at = value.at.clone();
                match value.data {
                    Data::Null => all.push(Node::text(&at, key)),
                    Data::List(items) => all.extend(items.into_iter().map(|item| {
                        let text = item.scalar().unwrap_or_default();
                        Node::text(&at, format!("{key}={text}"))
                    })),
                    _ => {
                        let text = value.scalar().unwrap_or_default();
                        all.push(Node::text(&at, format!("{key}={text}")));
                    }
                }
            }
            all.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            all
        }
        Data::List(items) => items,
        Data::Text(text) => vec![Node::text(&at, text)],
        _ => Vec::new(),
    }
}

fn built(node: Node) -> Node {
    match node.data {
        Data::Text(_) => {
            let at = node.at.clone();
            Node::map(&at, [("context", node)])
        }
        _ => node,
    }
}

/// A list of names as a mapping of nothing.
fn named(node: Node) -> Node {
    of_names(node, Node::null)
}

fn dependencies(node: Node) -> Node {
    of_names(node, |at| {
        let condition = Node::text(at, "service_started");
        Node::map(at, [("condition", condition), ("required", Node::bool(at, true))])
    })
}

fn of_names(node: Node, make: impl Fn(&crate::At) -> Node) -> Node {
    let Data::List(items) = node.data else { return node };
    let entries = items.into_iter().filter_map(|item| match item.data {
        Data::Text(name) => Some((name, make(&item.at))),
        _ => None,
    });
    Node { at: node.at, data: Data::Map(entries.collect()) }
}

/// Pools of the same subnet are merged.
fn pools(base: Node, over: Node, path: &mut Path) -> Result<Node> {
    let at = base.at.clone();
    let (Data::List(old), Data::List(new)) = (base.data, over.data) else {
        return wrong(&Node::null(&at), path, "must be a array");
    };
    let mut all: Vec<Node> = Vec::new();
    let subnet = |n: &Node| n.get("subnet").cloned();
    for pool in old {
        for other in &new {
            let known = |p: &Node, all: &[Node]| all.iter().position(|a| subnet(a) == subnet(p));
            if subnet(other) != subnet(&pool) && known(other, &all).is_none() {
                all.push(other.clone());
                continue;
            }
            let merged = mappings(pool.clone(), other.clone(), path)?;
            match known(&merged, &all) {
                Some(at) => all[at] = merged,
                None => all.push(merged),
            }
        }
    }
    Ok(Node::list(&at, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::documents;

    fn node(text: &str) -> Node {
        documents(&"f".into(), text).unwrap().remove(0).root
    }

    fn check(base: &str, over: &str, want: &str) {
        let merged = merge(node(base), node(over)).unwrap();
        assert_eq!(merged, node(want), "{base} + {over}");
    }

    #[test]
    fn every_kind_of_value_has_its_rule() {
        let service = |text: &str| format!("services: {{a: {{{text}}}}}");
        for (base, over, want) in [
            ("image: x, tty: true", "image: y", "image: y, tty: true"),
            ("command: [a]", "command: [b, c]", "command: [b, c]"),
            ("ports: ['1']", "ports: ['2']", "ports: ['1', '2']"),
            ("environment: {A: 1, B: }", "environment: [A=2]", "environment: [A=1, B, A=2]"),
            ("build: .", "build: {target: t}", "build: {context: ., target: t}"),
            ("networks: [n]", "networks: {m: {}}", "networks: {n: , m: {}}"),
            ("dns: a", "dns: [b]", "dns: [a, b]"),
            (
                "logging: {driver: a, options: {x: y}}",
                "logging: {driver: b}",
                "logging: {driver: b}",
            ),
            (
                "logging: {options: {x: y}}",
                "logging: {driver: b}",
                "logging: {driver: b, options: {x: y}}",
            ),
            (
                "ulimits: {n: 1}",
                "ulimits: {n: {soft: 1, hard: 2}}",
                "ulimits: {n: {soft: 1, hard: 2}}",
            ),
            ("extra_hosts: [a=1]", "extra_hosts: [a=1, b=2]", "extra_hosts: [a=1, b=2]"),
        ] {
            check(&service(base), &service(over), &service(want));
        }
        check(
            "services: {a: {depends_on: [b]}}",
            "services: {a: {depends_on: {b: {condition: service_healthy}}}}",
            "services: {a: {depends_on: {b: {condition: service_healthy, required: true}}}}",
        );
    }

    #[test]
    fn what_cannot_be_merged_is_told_with_its_place() {
        let err = merge(node("services: {a: {ports: ['1']}}"), node("services:\n  a: {ports: 1}"));
        assert!(
            err.unwrap_err().to_string().starts_with("f:2:7: cannot override services.a.ports")
        );
    }
}

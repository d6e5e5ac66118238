//! Go templates over JSON, with docker's functions and Go's way of printing nothing.
//!
//! JSON has one `null`; Go prints a nil list as `[]` and a nil map as `map[]`, so the fields that hold lists
//! or maps in the API are known by name here; another nil is `<no value>`, a pointer too (Go: `<nil>`). Maps of JSON objects lose their
//! order in a template value; `json` finds the object again and prints it as it came.

use crate::error::{Fail, Result};
use gotmpl::{MissingKey, Template as Engine, Value};
use std::{collections::BTreeMap, sync::Arc};

/// A parsed template.
pub(crate) struct Template(Engine);

impl Template {
    /// Parses; `\t` and `\n` may be written with a backslash. `objects` are the values it will be run
    /// over, for `json`.
    pub(crate) fn parse(text: &str, objects: &[serde_json::Value]) -> Result<Self> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut known = Vec::new();
        for object in objects {
            remember(object, &mut known);
        }
        let known = Arc::new(known);
        let engine = Engine::new("")
            .missing_key(MissingKey::Error)
            .func("json", move |args| {
                Ok(args.first().map_or(Value::Nil, |v| Value::from_text(json(v, &known))))
            })
            .func("split", |args| {
                let parts: Vec<Value> = match words(args).as_slice() {
                    [text, by] if by.is_empty() => {
                        text.chars().map(|c| Value::from_text(c.to_string())).collect()
                    }
                    [text, by] => text.split(by.as_str()).map(Value::from_text).collect(),
                    _ => Vec::new(),
                };
                Ok(Value::List(parts.into()))
            })
            .func("join", |args| {
                let by = args.get(1).and_then(Value::as_str).unwrap_or_default();
                let Some(Value::List(parts)) = args.first() else {
                    return Ok(Value::from_text(""));
                };
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                Ok(Value::from_text(parts.join(by)))
            })
            .func("title", |args| Ok(change(args, title)))
            .func("lower", |args| Ok(change(args, str::to_lowercase)))
            .func("upper", |args| Ok(change(args, str::to_uppercase)))
            .func("pad", |args| {
                let number = |at: usize| {
                    args.get(at).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok())
                };
                let (before, after) = (number(1).unwrap_or(0), number(2).unwrap_or(0));
                Ok(change(args, |text| {
                    if text.is_empty() {
                        return String::new();
                    }
                    format!("{}{text}{}", " ".repeat(before.min(4096)), " ".repeat(after.min(4096)))
                }))
            })
            .func("truncate", |args| {
                let most =
                    args.get(1).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok());
                Ok(change(args, |text| text.chars().take(most.unwrap_or(usize::MAX)).collect()))
            })
            .parse(&text)
            .map_err(|e| Fail::new(unclosed(named(&e.to_string()))))?;
        Ok(Self(engine))
    }

    /// Runs it over a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String> {
        self.0.execute_to_string(value).map_err(|e| Fail::new(named(&e.to_string())))
    }
}

/// Go says `template: NAME:LINE:COLUMN`, where our name is empty.
fn named(text: &str) -> String {
    text.replace("template: 1:", "template: :1:")
}

/// Go names only the line where an action is not closed.
fn unclosed(text: String) -> String {
    match text.split_once(": unclosed action") {
        Some((place, _)) => {
            let line = place.rsplit_once(':').map_or(place, |(line, _)| line);
            format!("{line}: unclosed action")
        }
        None => text,
    }
}

trait FromText {
    fn from_text(text: impl AsRef<str>) -> Self;
}

impl FromText for Value {
    fn from_text(text: impl AsRef<str>) -> Self {
        Self::String(text.as_ref().into())
    }
}

fn words(args: &[Value]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

fn change(args: &[Value], how: impl FnOnce(&str) -> String) -> Value {
    Value::from_text(how(&args.first().map(ToString::to_string).unwrap_or_default()))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let this = if start { c.to_uppercase().next().unwrap_or(c) } else { c };
            start = !c.is_alphanumeric() && c != '_' && c != '\'';
            this
        })
        .collect()
}

/// Fields that hold a list in the API.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Tags",
    "Ulimits",
    "VolumesFrom",
    "Warnings",
];

/// Fields that hold a map in the API.
const MAPS: &[&str] = &[
    "Annotations",
    "Config.Labels",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// JSON as a template sees it.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    named_value("", json)
}

fn named_value(name: &str, json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null if LISTS.contains(&name) => Value::List(Vec::new().into()),
        serde_json::Value::Null if MAPS.contains(&name) => Value::Map(Arc::default()),
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Value::Int(n),
            (_, Some(n), _) => Value::Uint(n),
            (_, _, Some(n)) => Value::Float(n),
            _ => Value::Nil,
        },
        serde_json::Value::String(s) => Value::from_text(s),
        serde_json::Value::Array(list) => {
            Value::List(list.iter().map(value).collect::<Vec<_>>().into())
        }
        serde_json::Value::Object(fields) => {
            let map: BTreeMap<Arc<str>, Value> =
                fields.iter().map(|(k, v)| (Arc::from(k.as_str()), named_value(k, v))).collect();
            Value::Map(Arc::new(map))
        }
    }
}

/// A row of a list: texts by name.
pub(crate) fn row(fields: &[(&str, String)]) -> Value {
    let map: BTreeMap<Arc<str>, Value> =
        fields.iter().map(|(k, v)| (Arc::from(*k), Value::from_text(v))).collect();
    Value::Map(Arc::new(map))
}

type Known = Vec<(Value, String)>;

fn remember(json: &serde_json::Value, known: &mut Known) {
    match json {
        serde_json::Value::Array(list) => list.iter().for_each(|v| remember(v, known)),
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|v| remember(v, known));
            known.push((value(json), json.to_string()));
        }
        _ => {}
    }
}

fn json(value: &Value, known: &Known) -> String {
    let escape = |text: String| {
        // As Go's encoder does for web pages.
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    if let Value::Map(_) = value
        && let Some((_, text)) = known.iter().find(|(v, _)| same(v, value))
    {
        return escape(text.clone());
    }
    match value {
        Value::List(list) => {
            let parts: Vec<String> = list.iter().map(|v| json(v, known)).collect();
            format!("[{}]", parts.join(","))
        }
        Value::Map(map) => {
            let parts: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}:{}", serde_json::Value::from(&**k), json(v, known)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::String(s) => escape(serde_json::Value::from(&**s).to_string()),
        Value::Nil => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Float(n) => serde_json::Value::from(*n).to_string(),
        _ => String::new(),
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Map(a), Value::Map(b)) => {
            Arc::ptr_eq(a, b)
                || a.len() == b.len()
                    && a.iter().zip(b.iter()).all(|((k, v), (l, w))| k == l && same(v, w))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(v, w)| same(v, w))
        }
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b).is_eq(),
        (Value::Nil, Value::Nil) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str) -> String {
        let json = serde_json::json!({
            "Id": "abc", "State": {"Running": true, "ExitCode": 0, "B": 1, "A": "<x>"},
            "Config": {"Env": ["A=1", "B=2"], "Cmd": null, "Labels": null, "Health": null, "N": 9007199254740993_i64},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
        });
        let objects = [json.clone()];
        match Template::parse(template, &objects) {
            Ok(parsed) => parsed.render(&value(&json)).unwrap_or_else(|e| e.message),
            Err(e) => e.message,
        }
    }

    #[test]
    fn templates_print_as_dockers_do() {
        for (template, want) in [
            ("{{.Id}}\\t{{.State.Running}}", "abc\ttrue"),
            ("{{json .State}}", r#"{"Running":true,"ExitCode":0,"B":1,"A":"\u003cx\u003e"}"#),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{.Config.Cmd}} {{.Config.Labels}} {{.Config.Health}}", "[] map[] <no value>"),
            ("{{.Config.N}}", "9007199254740993"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (
                r#"{{index (split "a:b" ":") 1}}{{upper "x"}}{{title "ab cd"}}{{truncate .Id 2}}"#,
                "bXAb Cdab",
            ),
            (r#"[{{pad "x" 1 2}}]"#, "[ x  ]"),
            ("{{if eq .State.ExitCode 0}}ok{{end}}", "ok"),
        ] {
            assert_eq!(run(template), want, "{template}");
        }
        assert!(run("{{.Nope}}").contains("map has no entry for key"), "{}", run("{{.Nope}}"));
        assert_eq!(run("{{"), "template: :1: unclosed action");
    }
}

//! `--add-runtime NAME=PATH`, `runtimes` of the file and `default-runtime`: the OCI runtimes that containers
//! may ask for.
//!
//! Source: Docker's `opts.RuntimeOpt` and `setupRuntimes` (forms, texts). A `runtimeType` other than
//! `io.containerd.runc.v2` is a program that speaks containerd's protocol, which nothing here does.

use super::settings::Given;
use base::{Error, Result};
use engine::runtimes::{Runtime, Runtimes};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What `runtimeType` says of runtimes that are called as runc is.
const RUNC_SHIM: &str = "io.containerd.runc.v2";

/// Reads all of it.
///
/// # Errors
/// `Invalid` for what cannot be meant or cannot be done.
pub(super) fn read(given: &Given<'_>) -> Result<Runtimes> {
    let named = match given.0.get("add-runtime") {
        Some(Value::Array(list)) => from_flags(list)?,
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| Ok((name.clone(), from_file(name, value)?)))
            .collect::<Result<_>>()?,
        _ => BTreeMap::new(),
    };
    Runtimes::new(given.text("default-runtime").unwrap_or_default(), named)
}

fn from_flags(list: &[Value]) -> Result<BTreeMap<String, Runtime>> {
    let mut named = BTreeMap::new();
    for item in list {
        let text = item.as_str().unwrap_or_default();
        let bad = || Error::invalid(format!("invalid runtime argument: {text}"));
        let (name, path) = text.split_once('=').ok_or_else(bad)?;
        let (name, path) = (name.trim().to_lowercase(), path.trim());
        if name.is_empty() || path.is_empty() {
            return Err(bad());
        }
        let runtime = Runtime { path: path.to_owned(), args: Vec::new() };
        if named.insert(name.clone(), runtime).is_some() {
            return Err(Error::invalid(format!("runtime '{name}' was already defined")));
        }
    }
    Ok(named)
}

fn from_file(name: &str, value: &Value) -> Result<Runtime> {
    let bad = |why: &str| Error::invalid(format!("runtime {name}: {why}"));
    let fields = value.as_object().ok_or_else(|| bad("want an object with path"))?;
    let known = ["path", "runtimeArgs", "runtimeType", "options"];
    if let Some(key) = fields.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(bad(&format!("unknown field {key:?}")));
    }
    let text = |key: &str| -> Result<&str> {
        match fields.get(key) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(bad(&format!("{key}: want a string"))),
        }
    };
    let (path, kind) = (text("path")?, text("runtimeType")?);
    let args = arguments(fields).ok_or_else(|| bad("runtimeArgs: want a list of strings"))?;
    let options = fields.get("options").and_then(Value::as_object).filter(|o| !o.is_empty());
    match (path, kind) {
        ("", "") => Err(bad("either a runtimeType or a path must be configured")),
        (path, "") if options.is_none() => Ok(Runtime { path: path.to_owned(), args }),
        (_, "") => Err(bad("options cannot be used with a path runtime")),
        ("", _) if !args.is_empty() => Err(bad("args cannot be used with a runtimeType runtime")),
        ("", RUNC_SHIM) => runc_shim(options).map_err(|why| bad(&why)),
        ("", kind) => Err(bad(&format!(
            "runtimeType {kind} is a containerd shim, which cannot be run here: give the path of an OCI runtime"
        ))),
        _ => Err(bad("cannot configure both path and runtimeType for the same runtime")),
    }
}

fn arguments(fields: &Map<String, Value>) -> Option<Vec<String>> {
    match fields.get("runtimeArgs") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => value.as_array()?.iter().map(|a| a.as_str().map(str::to_owned)).collect(),
    }
}

/// What the options of containerd's shim for runc come to.
fn runc_shim(options: Option<&Map<String, Value>>) -> std::result::Result<Runtime, String> {
    let mut path = String::new();
    for (key, value) in options.into_iter().flatten() {
        match (key.as_str(), value) {
            ("BinaryName", Value::String(text)) => path.clone_from(text),
            ("SystemdCgroup", Value::Bool(false)) => {}
            _ => return Err(format!("option {key} has no meaning here: want BinaryName alone")),
        }
    }
    if path.is_empty() {
        return Err("want the option BinaryName, the path of the runtime".into());
    }
    Ok(Runtime { path, args: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(values: Value) -> Result<Runtimes, String> {
        let mut all = crate::daemon::flags::Values::new();
        for (key, value) in values.as_object().unwrap() {
            let name = crate::daemon::flags::by_name(key).unwrap().name;
            all.insert(name, value.clone());
        }
        read(&Given(&all)).map_err(|e| e.chain())
    }

    #[test]
    fn flags_and_file_name_runtimes() {
        let flags = of(json!({"add-runtime": ["Crun=/usr/bin/crun", "y=youki"]})).unwrap();
        assert_eq!(flags.named()["crun"].path, "/usr/bin/crun");
        assert_eq!(flags.named()["y"].path, "youki");
        let file = of(json!({"add-runtime": {
            "crun": {"path": "/usr/bin/crun", "runtimeArgs": ["--debug"]},
            "v2": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/x"}},
        }, "default-runtime": "crun"}))
        .unwrap();
        assert_eq!(file.named()["crun"].args, ["--debug"]);
        assert_eq!(file.named()["v2"].path, "/x");
        assert_eq!(file.default_name(), "crun");
    }

    #[test]
    fn mistakes_are_named_in_dockers_words() {
        let flag = |text: &str| of(json!({"add-runtime": [text]})).unwrap_err();
        assert_eq!(flag("crun"), "invalid runtime argument: crun");
        assert_eq!(flag("=x"), "invalid runtime argument: =x");
        assert_eq!(flag("runc=/x"), "runtime name 'runc' is reserved");
        let twice = of(json!({"add-runtime": ["a=b", "A=c"]})).unwrap_err();
        assert_eq!(twice, "runtime 'a' was already defined");
        let default = of(json!({"default-runtime": "crun"})).unwrap_err();
        assert_eq!(default, "specified default runtime 'crun' does not exist");
        let file = |value: Value| of(json!({"add-runtime": {"r": value}})).unwrap_err();
        assert_eq!(file(json!({})), "runtime r: either a runtimeType or a path must be configured");
        assert_eq!(
            file(json!({"path": "x", "runtimeType": "y"})),
            "runtime r: cannot configure both path and runtimeType for the same runtime"
        );
        assert_eq!(
            file(json!({"path": "x", "options": {"a": 1}})),
            "runtime r: options cannot be used with a path runtime"
        );
        assert_eq!(
            file(json!({"runtimeType": "y", "runtimeArgs": ["x"]})),
            "runtime r: args cannot be used with a runtimeType runtime"
        );
        assert!(file(json!({"runtimeType": "io.containerd.kata.v2"})).contains("containerd shim"));
        assert!(file(json!({"path": 3})).contains("want a string"));
        assert!(file(json!({"paht": "x"})).contains("unknown field"));
    }
}

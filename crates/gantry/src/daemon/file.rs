//! The configuration file, `daemon.json`: strict, because a misspelt key is a setting that does nothing.
//!
//! Invariants: an unknown key is an error; a setting given both here and on the command line is an error
//! that names it.
//! Source: dockerd's messages for the same mistakes.

use super::flags::{FLAGS, Flag, Kind, Values};
use base::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// A configuration file is some kilobytes; a larger one is something else.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the file. One that is not there is empty, unless it was asked for by name.
///
/// # Errors
/// `Invalid` for malformed JSON, unknown keys and wrong types.
pub(crate) fn read(path: &Path, asked_for: bool) -> Result<Values> {
    let wrong = |err: Error| {
        let message = format!("unable to configure the daemon with file {}", path.display());
        Error::invalid(message).caused_by(err.chain())
    };
    let text = match std::fs::metadata(path).and_then(|meta| {
        if meta.len() > MAX_BYTES {
            return Err(std::io::Error::other("the file is larger than 4 MiB"));
        }
        std::fs::read_to_string(path)
    }) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && !asked_for => {
            return Ok(Values::new());
        }
        Err(err) => return Err(wrong(Error::io("cannot read it", err))),
    };
    parse(&text).map_err(wrong)
}

/// Parses the file's text.
pub(crate) fn parse(text: &str) -> Result<Values> {
    // Windows editors leave a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Values::new());
    }
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|err| Error::invalid("invalid JSON").caused_by(err))?;
    let mut values = Values::new();
    let mut unknown = Vec::new();
    for (key, value) in object {
        let Some(flag) = FLAGS.iter().find(|f| f.key == key && !key.is_empty()) else {
            unknown.push(key);
            continue;
        };
        if value.is_null() {
            continue;
        }
        if !fits(flag, &value) {
            return Err(Error::invalid(format!("{key}: want {}, got {value}", wanted(flag.kind))));
        }
        values.insert(flag.name, value);
    }
    if !unknown.is_empty() {
        return Err(Error::invalid(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        )));
    }
    Ok(values)
}

fn fits(flag: &Flag, value: &Value) -> bool {
    match flag.kind {
        Kind::Switch => value.is_boolean(),
        Kind::Text => value.is_string(),
        Kind::Number => value.is_i64(),
        Kind::List => value.as_array().is_some_and(|l| l.iter().all(Value::is_string)),
        Kind::Pairs => value.as_object().is_some_and(|m| m.values().all(Value::is_string)),
        Kind::Free => value.is_object() || value.is_array(),
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true or false",
        Kind::Text => "a string",
        Kind::Number => "a whole number",
        Kind::List => "a list of strings",
        Kind::Pairs => "an object of strings",
        Kind::Free => "an object or a list",
    }
}

/// Puts the file's values under the command line's.
///
/// # Errors
/// `Invalid` naming every setting that both give.
pub(crate) fn merge(line: &Values, file: Values) -> Result<Values> {
    let both: Vec<String> = file
        .iter()
        .filter_map(|(name, in_file)| {
            let from_flag = line.get(name)?;
            let key = FLAGS.iter().find(|f| f.name == *name).map_or(*name, |f| f.key);
            Some(format!("{key}: (from flag: {from_flag}, from file: {in_file})"))
        })
        .collect();
    if !both.is_empty() {
        return Err(Error::invalid(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        )));
    }
    let mut all = file;
    all.extend(line.iter().map(|(k, v)| (*k, v.clone())));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::flags;
    use serde_json::json;

    #[test]
    fn values_are_keyed_by_flag_and_typed() {
        let got = parse("\u{feff}{\"hosts\": [\"fd://\"], \"debug\": true, \"log-opts\": {\"max-size\": \"1m\"}, \"bip\": null}").unwrap();
        assert_eq!(
            json!(got),
            json!({"debug": true, "host": ["fd://"], "log-opt": {"max-size": "1m"}})
        );
        assert!(parse("  ").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let text = |json: &str| parse(json).unwrap_err().chain();
        assert_eq!(
            text(r#"{"debgu": true, "host": []}"#),
            "the following directives don't match any configuration option: debgu, host"
        );
        assert_eq!(text(r#"{"debug": "yes"}"#), "debug: want true or false, got \"yes\"");
        assert_eq!(text(r#"{"hosts": "fd://"}"#), "hosts: want a list of strings, got \"fd://\"");
        assert!(text("{").starts_with("invalid JSON: "));
        assert!(text("[]").starts_with("invalid JSON: "));
    }

    #[test]
    fn a_setting_given_twice_is_an_error_naming_its_key() {
        let line =
            flags::parse(["-H".to_owned(), "fd://".to_owned(), "--mtu=9".to_owned()]).unwrap();
        let err = merge(&line, parse(r#"{"hosts": ["unix:///x"]}"#).unwrap()).unwrap_err();
        assert_eq!(
            err.to_string(),
            "the following directives are specified both as a flag and in the configuration file: \
             hosts: (from flag: [\"fd://\"], from file: [\"unix:///x\"])"
        );
        assert_eq!(
            json!(merge(&line, parse(r#"{"debug": true}"#).unwrap()).unwrap()),
            json!({"debug": true, "host": ["fd://"], "mtu": 9})
        );
    }
}

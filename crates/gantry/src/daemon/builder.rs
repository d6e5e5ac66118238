//! `builder`: the limits of the build cache, and what builds may be allowed.

use base::{Error, Result, Timestamp, filters::Filters, units};
use engine::build::{Builder, CachePolicy};
use serde_json::{Map, Value};

/// Reads the object of the file: `{"gc": {...}, "entitlements": {...}}`.
///
/// # Errors
/// `Invalid` naming the key that is unknown or malformed.
pub(crate) fn read(value: Option<&Value>) -> Result<Builder> {
    let mut builder = Builder::default();
    let Some(value) = value else { return Ok(builder) };
    for (key, value) in object("builder", value)? {
        match key.to_ascii_lowercase().as_str() {
            "gc" => gc(&mut builder, object("builder.gc", value)?)?,
            "entitlements" => {
                for (key, value) in object("builder.entitlements", value)? {
                    let on = switch(&format!("builder.entitlements.{key}"), value)?;
                    match key.as_str() {
                        "network-host" => builder.host_network = on,
                        "security-insecure" => builder.insecure = on,
                        // What devices there are is not the builder's.
                        "device" => {}
                        _ => return Err(unknown("builder.entitlements", key)),
                    }
                }
            }
            _ => return Err(unknown("builder", key)),
        }
    }
    Ok(builder)
}

fn gc(builder: &mut Builder, fields: &Map<String, Value>) -> Result<()> {
    let name = |key: &str| format!("builder.gc.{key}");
    for (key, value) in fields {
        match key.to_ascii_lowercase().as_str() {
            "enabled" => builder.gc = switch(&name(key), value)?,
            "defaultreservedspace" | "defaultkeepstorage" => {
                builder.limits[0] = bytes(&name(key), value)?;
            }
            "defaultmaxusedspace" => builder.limits[1] = bytes(&name(key), value)?,
            "defaultminfreespace" => builder.limits[2] = bytes(&name(key), value)?,
            "policy" => {
                let list = value.as_array().ok_or_else(|| bad(&name(key), "want a list"))?;
                for rule in list {
                    builder.policies.push(policy(object("builder.gc.policy", rule)?)?);
                }
            }
            _ => return Err(unknown("builder.gc", key)),
        }
    }
    Ok(())
}

fn policy(fields: &Map<String, Value>) -> Result<CachePolicy> {
    let name = |key: &str| format!("builder.gc.policy.{key}");
    let mut policy = CachePolicy::default();
    if let Some((key, value)) = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case("filter")) {
        let list = value.as_array().ok_or_else(|| bad(&name(key), "want a list of strings"))?;
        let mut filters = Filters::default();
        for text in list {
            let text = text.as_str().ok_or_else(|| bad(&name(key), "want a list of strings"))?;
            match text.split_once('=') {
                Some((key, value)) => {
                    filters.add(key.trim_end_matches('='), value.trim_start_matches('='));
                }
                None => return Err(bad(&name(key), "want key=value")),
            }
        }
        policy = CachePolicy::filtered(&filters, Timestamp::now())
            .map_err(|e| Error::invalid(name(key)).caused_by(e))?;
    }
    for (key, value) in fields {
        match key.to_ascii_lowercase().as_str() {
            "filter" => {}
            "all" => policy.all = switch(&name(key), value)?,
            "reservedspace" | "keepstorage" => policy.reserved = bytes(&name(key), value)?,
            "maxusedspace" => policy.max_used = bytes(&name(key), value)?,
            "minfreespace" => policy.min_free = bytes(&name(key), value)?,
            _ => return Err(unknown("builder.gc.policy", key)),
        }
    }
    Ok(policy)
}

fn object<'v>(name: &str, value: &'v Value) -> Result<&'v Map<String, Value>> {
    value.as_object().ok_or_else(|| bad(name, "want an object"))
}

fn switch(name: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| bad(name, "want true or false"))
}

fn bytes(name: &str, value: &Value) -> Result<u64> {
    let found = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            Some(units::parse_bytes(text).map_err(|e| Error::invalid(name).caused_by(e))?)
        }
        _ => None,
    };
    found.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| bad(name, "want a number of bytes"))
}

fn bad(name: &str, why: &str) -> Error {
    Error::invalid(format!("invalid {name}: {why}"))
}

fn unknown(place: &str, key: &str) -> Error {
    bad(place, &format!("unknown key {key:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_and_rules_are_read() {
        let read = read(Some(&json!({
            "gc": {
                "enabled": true,
                "defaultKeepStorage": "10GB",
                "policy": [
                    {"keepStorage": "1GB", "filter": ["unused-for=2200h", "type==regular"]},
                    {"maxUsedSpace": 5, "minFreeSpace": "1k", "all": true},
                ],
            },
            "entitlements": {"network-host": false, "security-insecure": true},
        })))
        .unwrap();
        assert!(read.gc && !read.host_network && read.insecure);
        assert_eq!(read.limits, [10 << 30, 0, 0]);
        let [first, second] = read.policies.as_slice() else { panic!("{read:?}") };
        assert_eq!(
            (first.reserved, first.filters.as_slice()),
            (1 << 30, &["type==regular".to_owned()][..])
        );
        assert_eq!(first.unused_for.as_secs(), 2200 * 60 * 60);
        assert!(second.all && second.max_used == 5 && second.min_free == 1024);
        assert_eq!(super::read(None).unwrap(), Builder::default());
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named() {
        for (value, name) in [
            (json!([]), "builder"),
            (json!({"odd": 1}), "odd"),
            (json!({"gc": {"odd": 1}}), "odd"),
            (json!({"gc": {"enabled": 1}}), "builder.gc.enabled"),
            (json!({"gc": {"defaultKeepStorage": "x"}}), "defaultKeepStorage"),
            (json!({"gc": {"defaultKeepStorage": -1}}), "defaultKeepStorage"),
            (json!({"gc": {"policy": [{"filter": ["odd=1"]}]}}), "builder.gc.policy.filter"),
            (json!({"gc": {"policy": [{"filter": ["type"]}]}}), "key=value"),
            (json!({"entitlements": {"odd": true}}), "odd"),
        ] {
            let err = read(Some(&value)).unwrap_err().chain();
            assert!(err.contains(name), "{value}: {err}");
        }
    }
}

//! `default-address-pools`: what networks get their subnets from.

use base::{Error, Result};
use serde_json::Value;

/// Reads flags (`base=10.10.0.0/16,size=24`) and objects of the file (`{"base": ..., "size": ...}`): base and
/// prefix length of each piece.
///
/// # Errors
/// `Invalid` for anything else.
pub(crate) fn read(value: Option<&Value>) -> Result<Vec<(String, u8)>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| bad(value, "want a list"))?;
    list.iter().map(one).collect()
}

fn bad(value: &Value, why: &str) -> Error {
    Error::invalid(format!("invalid default address pool {value}: {why}"))
}

fn one(value: &Value) -> Result<(String, u8)> {
    let (mut base, mut size) = (None, None);
    match value {
        Value::String(text) => {
            for field in text.split(',') {
                match field.split_once('=') {
                    Some(("base", text)) => base = Some(text.to_owned()),
                    Some(("size", text)) => size = text.parse().ok(),
                    _ => return Err(bad(value, "want base=ADDRESS/PREFIX,size=PREFIX")),
                }
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                match key.to_ascii_lowercase().as_str() {
                    "base" => base = field.as_str().map(str::to_owned),
                    "size" => size = field.as_u64().and_then(|n| u8::try_from(n).ok()),
                    other => return Err(bad(value, &format!("unknown field {other:?}"))),
                }
            }
        }
        _ => return Err(bad(value, "want an object with base and size")),
    }
    match (base, size) {
        (Some(base), Some(size)) => Ok((base, size)),
        _ => Err(bad(value, "want base (a subnet) and size (the prefix length of each network)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_and_file_say_the_same() {
        let expected = Ok(vec![("10.10.0.0/16".to_owned(), 24)]);
        let read = |value: Value| read(Some(&value)).map_err(|e| e.to_string());
        assert_eq!(read(json!(["base=10.10.0.0/16,size=24"])), expected);
        assert_eq!(read(json!([{"Base": "10.10.0.0/16", "size": 24}])), expected);
        for wrong in [
            json!(["10.10.0.0/16"]),
            json!([{"base": "x"}]),
            json!([{"size": 300, "base": "x"}]),
            json!("x"),
            json!([1]),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}

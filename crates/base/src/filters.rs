//! The `filters` parameter of list and prune calls. Go clients send `{"label":{"a=b":true}}`, docker-py
//! and dockerode `{"label":["a=b"]}`; both are taken anywhere.

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Parsed filters: key to values, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Parses the JSON text of the query; empty text is no filter.
    ///
    /// # Errors
    /// `Invalid` when it is not an object of sets or lists of strings.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bad = || Error::invalid("invalid filter");
        let Ok(Value::Object(map)) = serde_json::from_str(text) else { return Err(bad()) };
        let mut filters = BTreeMap::new();
        for (key, value) in map {
            let values = match value {
                Value::Object(set) => set
                    .into_iter()
                    .filter(|(_, on)| on.as_bool().unwrap_or(true))
                    .map(|(k, _)| k)
                    .collect(),
                Value::Array(list) => list
                    .into_iter()
                    .map(|v| match v {
                        Value::String(s) => Ok(s),
                        Value::Bool(b) => Ok(b.to_string()),
                        Value::Number(n) => Ok(n.to_string()),
                        _ => Err(bad()),
                    })
                    .collect::<Result<Vec<_>>>()?,
                Value::String(one) => vec![one],
                Value::Null => Vec::new(),
                _ => return Err(bad()),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// Fails on the first key that is not in `accepted`.
    ///
    /// # Errors
    /// `Invalid`, docker's "invalid filter 'x'".
    pub fn only(&self, accepted: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !accepted.contains(&k.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Adds one value.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().push(value.into());
    }

    /// The values of `key`, empty when it is not given.
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether `key` is given with at least one value.
    pub fn has(&self, key: &str) -> bool {
        !self.get(key).is_empty()
    }

    /// Whether no filter is given.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// True when `key` is not given or one of its values equals `value`.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        !self.has(key) || self.get(key).iter().any(|v| v == value)
    }

    /// True when `key` is not given or one of its values satisfies `test`.
    pub fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.get(key).iter().any(|v| test(v))
    }

    /// The value of a boolean filter: 1, 0, true or false; both at once or anything else is an error.
    ///
    /// # Errors
    /// `Invalid`, docker's wording.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        let bad =
            |v: &[String]| Error::invalid(format!("invalid filter '{key}=[{}]'", v.join(" ")));
        let values = self.get(key);
        let mut found = None;
        for value in values {
            let this = match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" => true,
                "0" | "false" | "f" => false,
                _ => return Err(bad(values)),
            };
            if found.is_some_and(|f| f != this) {
                return Err(bad(values));
            }
            found = Some(this);
        }
        Ok(found)
    }

    /// `label` (all must match: `key` present or `key=value` equal) and `label!` (none may match).
    pub fn labels<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let one = |want: &String| match want.split_once('=') {
            Some((key, value)) => get(key) == Some(value),
            None => get(want).is_some(),
        };
        self.get("label").iter().all(one) && !self.get("label!").iter().any(one)
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }

    /// The JSON text that Go clients send.
    pub fn to_json(&self) -> String {
        let map: serde_json::Map<String, Value> = self
            .0
            .iter()
            .map(|(k, vs)| {
                (
                    k.clone(),
                    Value::Object(vs.iter().map(|v| (v.clone(), Value::Bool(true))).collect()),
                )
            })
            .collect();
        Value::Object(map).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wire_forms_mean_the_same() {
        let go = Filters::parse(r#"{"label":{"a=b":true},"status":{"exited":true}}"#).unwrap();
        let py = Filters::parse(r#"{"label":["a=b"],"status":["exited"]}"#).unwrap();
        assert_eq!(go, py);
        assert!(go.labels(|k| (k == "a").then_some("b")));
        assert!(!go.labels(|k| (k == "a").then_some("c")));
        assert_eq!(go.only(&["label"]).unwrap_err().to_string(), "invalid filter 'status'");
    }

    #[test]
    fn booleans_may_not_contradict() {
        assert_eq!(
            Filters::parse(r#"{"dangling":["1","true"]}"#).unwrap().bool("dangling").unwrap(),
            Some(true)
        );
        assert!(Filters::parse(r#"{"dangling":["1","0"]}"#).unwrap().bool("dangling").is_err());
        assert!(Filters::parse("[]").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,64}") {
            let _ = Filters::parse(&text);
        }

        #[test]
        fn the_text_form_round_trips(keys in proptest::collection::btree_map("[a-z]{1,6}", proptest::collection::btree_set("[a-z=]{1,6}", 1..4), 0..4)) {
            let mut filters = Filters::default();
            for (key, values) in &keys {
                for value in values { filters.add(key.clone(), value.clone()); }
            }
            proptest::prop_assert_eq!(Filters::parse(&filters.to_json()).unwrap(), filters);
        }
    }
}

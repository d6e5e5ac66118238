//! Decoding as lenient as Go's `encoding/json`, because clients rely on it: keys match in any case,
//! unknown keys are ignored, `null` anywhere is the zero value, a string may stand where a list of strings
//! is wanted (`Cmd`, `Entrypoint` of old clients).

use base::{Error, Result};
use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Value, map};

/// Decodes one document.
///
/// # Errors
/// `Invalid` for malformed JSON, more than one document, or a value of the wrong type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let first = match documents.next() {
        Some(first) => {
            first.map_err(|e| Error::invalid("invalid JSON").caused_by(e))?
        }
        None => return Err(Error::invalid("invalid JSON: the body is empty")),
    };
    if documents.next().is_some() {
        return Err(Error::invalid("unexpected content after JSON"));
    }
    decode_value(first)
}

/// Decodes a document that is parsed already.
///
/// # Errors
/// `Invalid` for a value of the wrong type.
pub fn decode_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(Lenient(value)).map_err(|e| Error::invalid("invalid JSON").caused_by(e))
}

struct Lenient(Value);

type Fault = serde_json::Error;

impl<'de> Deserializer<'de> for Lenient {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Array(list) => visitor.visit_seq(Items(list.into_iter())),
            Value::Object(map) => visitor.visit_map(Entries { entries: map.into_iter(), value: None }),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let map = match self.0 {
            Value::Object(map) => map,
            Value::Null => map::Map::new(),
            other => return Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        };
        // The exact key wins over one of another case; nulls are left out, so that the default counts.
        let mut known = map::Map::new();
        for (key, value) in map {
            if value.is_null() {
                continue;
            }
            let exact = fields.contains(&key.as_str());
            let field = fields.iter().find(|f| if exact { **f == key } else { f.eq_ignore_ascii_case(&key) });
            if let Some(field) = field
                && (exact || !known.contains_key(*field))
            {
                known.insert((*field).to_owned(), value);
            }
        }
        visitor.visit_map(Entries { entries: known.into_iter(), value: None })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(list) => visitor.visit_seq(Items(list.into_iter())),
            text @ Value::String(_) => visitor.visit_seq(Items(vec![text].into_iter())),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(vec![Value::from(0); length].into_iter())),
            Value::Array(mut list) => {
                list.resize(length, Value::from(0));
                visitor.visit_seq(Items(list.into_iter()))
            }
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries { entries: map::Map::new().into_iter(), value: None }),
            Value::Object(map) => visitor.visit_map(Entries { entries: map.into_iter(), value: None }),
            // Sets are sent as lists by some clients.
            Value::Array(list) if list.iter().all(Value::is_string) => {
                let map: map::Map<String, Value> =
                    list.into_iter().filter_map(|v| Some((v.as_str()?.to_owned(), Value::Null))).collect();
                visitor.visit_map(Entries { entries: map.into_iter(), value: None })
            }
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_string(String::new()),
            other => other.deserialize_string(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            other => other.deserialize_bool(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_i64(0),
            other => other.deserialize_i64(visitor),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct tuple_struct
        identifier ignored_any
    }
}

fn unexpected(value: &Value) -> de::Unexpected<'_> {
    match value {
        Value::Null => de::Unexpected::Unit,
        Value::Bool(b) => de::Unexpected::Bool(*b),
        Value::Number(n) => n.as_i64().map_or(de::Unexpected::Other("number"), de::Unexpected::Signed),
        Value::String(s) => de::Unexpected::Str(s),
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|value| seed.deserialize(Lenient(value))).transpose()
    }
}

struct Entries<I> {
    entries: I,
    value: Option<Value>,
}

impl<'de, I: Iterator<Item = (String, Value)>> MapAccess<'de> for Entries<I> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(Lenient(self.value.take().unwrap_or(Value::Null)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerConfig, HostConfig};

    #[test]
    fn clients_may_write_keys_in_any_case_and_null_anywhere() {
        let config: ContainerConfig = decode(
            br#"{"image":"x","CMD":"true","Env":null,"LABELS":{"a":null},"ExposedPorts":{"80/tcp":null},"Unknown":[1],"Tty":null,"StopTimeout":null}"#,
        )
        .unwrap();
        assert_eq!(config.image, "x");
        assert_eq!(config.cmd, Some(vec!["true".into()]));
        assert_eq!(config.env, None);
        assert_eq!(config.labels.unwrap()["a"], "");
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        let host: HostConfig = decode(br#"{"PortBindings":{"80/tcp":null},"memory":5,"RestartPolicy":null}"#).unwrap();
        assert_eq!(host.memory, 5);
        assert_eq!(host.port_bindings.unwrap()["80/tcp"], None);
    }

    #[test]
    fn malformed_documents_are_refused() {
        for bad in ["{", "[]x", "{} {}", r#"{"Image":5}"#, r#"{"Tty":"yes"}"#, "5", r#"{"Env":{"a":1}}"#] {
            assert!(decode::<ContainerConfig>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_decoded_or_refused(text in ".{0,80}") {
            let _ = decode::<ContainerConfig>(text.as_bytes());
        }

        #[test]
        fn what_we_write_we_read_back(image in "[a-z]{1,8}", tty: bool, env in proptest::collection::vec("[A-Z]=[a-z]*", 0..4)) {
            let config = ContainerConfig { image, tty, env: Some(env), ..ContainerConfig::default() };
            let text = serde_json::to_vec(&config).unwrap();
            proptest::prop_assert_eq!(decode::<ContainerConfig>(&text).unwrap(), config);
        }
    }
}

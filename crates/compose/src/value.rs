//! Values as they are printed and hashed: decoded, without what says nothing.

use crate::{error::At, shape::Record};
use std::collections::BTreeMap;

/// A decoded value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Real(f32),
    Text(String),
    List(Vec<Self>),
    /// Keys that users choose.
    Map(BTreeMap<String, Self>),
    Fields(Fields),
}

/// The values of a [`Record`].
#[derive(Clone)]
pub(crate) struct Fields {
    pub of: &'static Record,
    pub at: At,
    pub set: BTreeMap<&'static str, Value>,
    /// What begins with `x-`.
    pub extra: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.set).entries(&self.extra).finish()
    }
}

impl Value {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_fields(&self) -> Option<&Fields> {
        match self {
            Self::Fields(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Whether it says nothing.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Float(value) => *value == 0.0,
            Self::Real(value) => *value == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Fields(fields) => fields.is_zero(),
        }
    }
}

impl Fields {
    pub(crate) fn new(of: &'static Record, at: &At) -> Self {
        Self { of, at: at.clone(), set: BTreeMap::new(), extra: BTreeMap::new() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.set.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn fields(&self, name: &str) -> Option<&Self> {
        self.get(name)?.as_fields()
    }

    pub(crate) fn map(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.get(name).and_then(Value::as_map).into_iter().flatten()
    }

    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.get(name).and_then(Value::as_list).unwrap_or_default().iter()
    }

    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.list(name).filter_map(Value::as_str)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }

    fn is_zero(&self) -> bool {
        self.set.is_empty() && self.extra.is_empty()
    }
}

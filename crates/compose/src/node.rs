//! The tree that a file is read into: values that know their place, and paths through it.

use crate::error::{At, Error, Result};
use std::collections::BTreeMap;

/// A value and where it stands; a value of a mapping stands where its key does.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub at: At,
    pub data: Data,
}

/// Mappings have no order: what is printed is sorted.
pub(crate) type Map = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

// Where a value was written does not make it another.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl Node {
    pub(crate) fn text(at: &At, text: impl Into<String>) -> Self {
        Self { at: at.clone(), data: Data::Text(text.into()) }
    }

    pub(crate) fn bool(at: &At, value: bool) -> Self {
        Self { at: at.clone(), data: Data::Bool(value) }
    }

    pub(crate) fn null(at: &At) -> Self {
        Self { at: at.clone(), data: Data::Null }
    }

    pub(crate) fn list(at: &At, items: Vec<Self>) -> Self {
        Self { at: at.clone(), data: Data::List(items) }
    }

    pub(crate) fn map(at: &At, entries: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Self { at: at.clone(), data: Data::Map(entries) }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.data == Data::Null
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match &self.data {
            Data::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn as_list_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.data {
            Data::List(list) => Some(list),
            _ => None,
        }
    }

    /// A child of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.as_map_mut()?.get_mut(key)
    }

    /// A string child of a mapping.
    pub(crate) fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A scalar as Go's `%v` prints it.
    pub(crate) fn scalar(&self) -> Option<String> {
        Some(match &self.data {
            Data::Text(text) => text.clone(),
            Data::Bool(value) => value.to_string(),
            Data::Int(value) => value.to_string(),
            Data::Float(value) => crate::scalar::go_float(*value),
            Data::Null | Data::List(_) | Data::Map(_) => return None,
        })
    }

    /// What it is, in the words of the specification.
    pub(crate) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "boolean",
            Data::Int(_) => "integer",
            Data::Float(_) => "number",
            Data::Text(_) => "string",
            Data::List(_) => "array",
            Data::Map(_) => "mapping",
        }
    }

    /// The place of what stands at `path`, or of the nearest thing above it.
    pub(crate) fn place(&self, path: &[&str]) -> &At {
        let mut node = self;
        for part in path {
            let next = match &node.data {
                Data::Map(map) => map.get(*part),
                Data::List(list) => part.parse::<usize>().ok().and_then(|at| list.get(at)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        &node.at
    }
}

/// Keys from the root down; `[]` is any item of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn of(parts: &[&str]) -> Self {
        Self(parts.iter().map(|p| (*p).to_owned()).collect())
    }

    pub(crate) fn next(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }

    pub(crate) fn push(&mut self, part: &str) {
        self.0.push(part.to_owned());
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// Whether it is one that `pattern` (`services.*.ports`) stands for.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        let mut parts = self.0.iter();
        let mut wanted = pattern.split('.');
        loop {
            match (parts.next(), wanted.next()) {
                (None, None) => return true,
                (Some(_), Some("*")) => {}
                (Some(part), Some(want)) if part == want => {}
                _ => return false,
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.join(".")
    }
}

/// An error that names the path of what is wrong.
pub(crate) fn wrong<T>(node: &Node, path: &Path, text: &str) -> Result<T> {
    Err(Error::at(&node.at, format!("{} {text}", path.text())))
}

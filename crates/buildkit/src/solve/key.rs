//! Names of operations by content: what is done, to what. Times, names of containers and places on the host
//! are no part of it, and neither are proxies and secrets' values.

use crate::explain::List;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// A part of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) value: String,
    /// The input that it comes from.
    pub(crate) from: Option<usize>,
    /// What the value stands for, one by one.
    pub(crate) list: Option<Arc<List>>,
}

/// A key in the making, part by part; the parts are kept so that a miss can be explained.
#[derive(Clone, Debug, Default)]
pub(crate) struct Key {
    parts: Vec<Part>,
}

impl Key {
    /// Of an operation of this kind.
    pub(crate) fn of(kind: &str) -> Self {
        let mut key = Self::default();
        key.add("op", kind);
        key
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Part {
        self.parts.push(Part { name: name.into(), value: value.into(), from: None, list: None });
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Its parts.
    pub(crate) fn all(&self) -> &[Part] {
        &self.parts
    }

    /// The key of the output at `index`.
    pub(crate) fn output(&self, index: usize) -> String {
        let mut hasher = Sha256::new();
        for Part { name, value, .. } in &self.parts {
            for text in [name, value] {
                hasher.update((text.len() as u64).to_le_bytes());
                hasher.update(text);
            }
        }
        format!("{}#{index}", base::hex(&hasher.finalize()))
    }

    /// What it is made of: names, and values or, where those are long, their hashes.
    pub(crate) fn parts(&self) -> Vec<(String, String)> {
        let short = |value: &String| match value.len() <= 256 {
            true => value.clone(),
            false => base::Digest::sha256(value.as_bytes()).to_string(),
        };
        self.parts.iter().map(|part| (part.name.clone(), short(&part.value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = Key::of("x");
            for (name, value) in parts {
                key.add(*name, *value);
            }
            key.output(0)
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", ""), ("b", "")]), key(&[("a", "b")]));
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }
}

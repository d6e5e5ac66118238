//! Flags of an instruction: `--name` and `--name=value`.

use base::{Error, Result};

/// The flags that were written; each is taken once by the instruction that knows it.
#[derive(Debug)]
pub struct Flags(Vec<Flag>);

#[derive(Debug)]
struct Flag {
    name: String,
    value: Option<String>,
}

impl Flags {
    pub(super) fn read(words: Vec<String>) -> Self {
        let flag = |word: String| {
            let text = word.strip_prefix("--").unwrap_or(&word).to_owned();
            match text.split_once('=') {
                Some((name, value)) => {
                    Flag { name: name.to_owned(), value: Some(value.to_owned()) }
                }
                None => Flag { name: text, value: None },
            }
        };
        Self(words.into_iter().map(flag).collect())
    }

    fn take(&mut self, name: &str) -> Result<Option<Flag>> {
        let Some(at) = self.0.iter().position(|f| f.name == name) else { return Ok(None) };
        let flag = self.0.remove(at);
        if self.0.iter().any(|f| f.name == name) {
            return Err(Error::invalid(format!("Duplicate flag specified: {name}")));
        }
        Ok(Some(flag))
    }

    /// A flag with a value.
    ///
    /// # Errors
    /// `Invalid` when it is there twice or without value.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name)? {
            None => Ok(None),
            Some(Flag { value: Some(value), .. }) => Ok(Some(value)),
            Some(_) => Err(Error::invalid(format!("Missing a value on flag: {name}"))),
        }
    }

    /// Whether the flag was written.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|f| f.name == name)
    }

    /// A flag that is on or off.
    ///
    /// # Errors
    /// `Invalid` when it is there twice or its value is neither.
    pub fn on(&mut self, name: &str) -> Result<bool> {
        let Some(flag) = self.take(name)? else { return Ok(false) };
        match flag.value.as_deref() {
            None => Ok(true),
            Some("") => Err(Error::invalid(format!("Missing a value on flag: {name}"))),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(Error::invalid(format!(
                "Expecting boolean value for flag {name}, not: {value}"
            ))),
        }
    }

    /// A flag that may be given several times, each with a value.
    ///
    /// # Errors
    /// `Invalid` when one has no value.
    pub fn all(&mut self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        while let Some(at) = self.0.iter().position(|f| f.name == name) {
            let value = self.0.remove(at).value;
            values.push(
                value.ok_or_else(|| Error::invalid(format!("Missing a value on flag: {name}")))?,
            );
        }
        Ok(values)
    }

    /// The first flag among `names`, if any was written: those that only BuildKit knows.
    pub fn any_of(&self, names: &[&'static str]) -> Option<&'static str> {
        self.0.iter().find_map(|f| names.iter().find(|n| **n == f.name)).copied()
    }

    /// Ends reading: what is left is unknown.
    ///
    /// # Errors
    /// `Invalid` naming the first unknown flag.
    pub fn end(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(flag) => Err(Error::invalid(format!("Unknown flag: {}", flag.name))),
        }
    }
}

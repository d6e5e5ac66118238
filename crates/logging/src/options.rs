//! `--log-opt` values: lookup with docker's error texts, and the options that all drivers share.

use base::{Error, Result, units};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options of one container's log, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(pub BTreeMap<String, String>);

/// Options that every driver takes: how output is handed on, and the copy that it is read back from.
const COMMON: &[&str] = &[
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

/// Options that say which attributes records bear; taken by every driver that keeps or sends any.
pub(crate) const ATTRIBUTES: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];

/// What a container in `mode=non-blocking` may have waiting when it says nothing else.
const BUFFER_BYTES: u64 = 1 << 20;

impl Options {
    #[cfg(test)]
    pub(crate) fn of(given: &[(&str, &str)]) -> Self {
        Self(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// The value of `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Refuses every name that is neither in `known`, nor in `more`, nor common to all drivers.
    ///
    /// # Errors
    /// `Invalid`, naming option and driver.
    pub fn only(&self, driver: &str, known: &[&str], more: &[&str]) -> Result<()> {
        let fine = |k: &str| [known, more, COMMON].iter().any(|list| list.contains(&k));
        match self.0.keys().find(|k| !fine(k)) {
            // Docker's words, which differ for this one.
            Some(name) if driver == "local" => {
                Err(Error::invalid(format!("unknown log opt '{name}' for log driver local")))
            }
            Some(name) => {
                Err(Error::invalid(format!("unknown log opt '{name}' for {driver} log driver")))
            }
            None => Ok(()),
        }
    }

    /// A size such as `10m`; `-1` and absence are `None`.
    ///
    /// # Errors
    /// `Invalid` when it is no size.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.text(name) {
            None | Some("-1") => Ok(None),
            Some(text) => {
                let bytes = units::parse_bytes(text)?;
                if bytes <= 0 {
                    return Err(Error::invalid(format!("{name} must be a positive number")));
                }
                Ok(Some(bytes.unsigned_abs()))
            }
        }
    }

    /// A number.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::invalid(format!("invalid value for {name}: {text:?} is not a number"))
                })
            })
            .transpose()
    }

    /// A truth value in Go's spellings.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.text(name)
            .map(|text| match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "invalid value for {name}: {text:?} is not true or false"
                ))),
            })
            .transpose()
    }
}

impl Options {
    /// With `mode=non-blocking`, how many bytes may wait before output is dropped; `None` when nothing is
    /// ever dropped and the container waits instead.
    pub fn buffer_bytes(&self) -> Option<u64> {
        (self.text("mode") == Some("non-blocking"))
            .then(|| self.size("max-buffer-size").ok().flatten().unwrap_or(BUFFER_BYTES))
    }
}

pub(crate) fn check_common(options: &Options) -> Result<()> {
    crate::drivers::local::check_cache(options)?;
    match options.text("mode") {
        None | Some("" | "blocking") => {
            if options.text("max-buffer-size").is_some() {
                return Err(Error::invalid(
                    "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
                ));
            }
            Ok(())
        }
        Some("non-blocking") => options.size("max-buffer-size").map(drop).map_err(|e| {
            Error::invalid("error parsing option max-buffer-size".to_owned()).caused_by(e)
        }),
        Some(mode) => Err(Error::invalid(format!("logger: logging mode not supported: {mode}"))),
    }
}

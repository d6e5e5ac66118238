//! Which rules count: `skip=A,B;experimental=C;error=true`.

use super::{Rule, Warning};
use base::{Error, Result};
use std::collections::BTreeSet;

/// What `# check=` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    skip: BTreeSet<String>,
    experimental: BTreeSet<String>,
    /// A warning fails the build.
    pub error: bool,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// `Invalid` for an option that is not known.
    pub fn parse(text: &str) -> Result<Self> {
        let mut config = Self::default();
        for part in text.trim().splitn(3, ';').filter(|p| !p.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("invalid check option {part:?}")))?;
            let list = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
            match key.trim() {
                "skip" => config.skip = list(),
                "experimental" => config.experimental = list(),
                "error" => {
                    config.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => {
                            return Err(Error::invalid(format!(
                                "failed to parse check option {part:?}"
                            )));
                        }
                    }
                }
                other => return Err(Error::invalid(format!("invalid check option {other:?}"))),
            }
        }
        Ok(config)
    }

    /// With what a comment before an instruction says beside it.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.skip.extend(other.skip.iter().cloned());
        both.experimental.extend(other.experimental.iter().cloned());
        both
    }

    /// Whether a rule counts.
    pub fn counts(&self, rule: &Rule) -> bool {
        let named = |set: &BTreeSet<String>| set.contains("all") || set.contains(rule.name);
        if rule.experimental { named(&self.experimental) } else { !named(&self.skip) }
    }

    /// The error that warnings are, when they are to be one.
    ///
    /// # Errors
    /// `Invalid` that names the rules.
    pub fn enforce(&self, warnings: &[Warning]) -> Result<()> {
        let names: BTreeSet<&str> = warnings.iter().map(|w| w.rule.name).collect();
        match self.error && !names.is_empty() {
            true => {
                let names: Vec<&str> = names.into_iter().collect();
                Err(Error::invalid(format!("lint violation found for rules: {}", names.join(", "))))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::rules::{DEFINITION_DESCRIPTION, JSON_ARGS, MAINTAINER};

    #[test]
    fn options_are_read() {
        let config = Config::parse("skip=JSONArgsRecommended, X;error=true").unwrap();
        assert!(!config.counts(&JSON_ARGS) && config.counts(&MAINTAINER) && config.error);
        assert!(!Config::parse("skip=all").unwrap().counts(&MAINTAINER));
        assert!(!config.counts(&DEFINITION_DESCRIPTION));
        assert!(Config::parse("experimental=all").unwrap().counts(&DEFINITION_DESCRIPTION));
        for bad in ["odd=1", "skip", "error=maybe"] {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }
}

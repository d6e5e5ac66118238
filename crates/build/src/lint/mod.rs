//! Checks of a Dockerfile: what is allowed and still not wise.
//!
//! Flow: [`Config`] says which rules count (`# check=skip=...`, also before single instructions); [`check`] runs
//! those that need the file alone; those that need to know variables and images are found while the file is
//! worked out, and are told through [`Rule`]'s own words.
//! Invariants: pure; a rule never fails. Names, texts and addresses are those of `docker/dockerfile`, which
//! clients and their users know.
//! Source: BuildKit `frontend/dockerfile/linter`.

mod comments;
mod config;
mod file;
mod rules;

pub use comments::{Comments, description};
pub use config::Config;
pub use file::check;
pub use rules::{BASE_PLATFORM, RULES, Rule, UNDEFINED_VAR};

use crate::dockerfile::Lines;

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which rule.
    pub rule: &'static Rule,
    /// What is wrong, here.
    pub detail: String,
    /// Where.
    pub lines: Lines,
}

impl Warning {
    /// `StageNameCasing: ... (line 1)`
    pub fn short(&self) -> String {
        format!("{}: {} (line {})", self.rule.name, self.detail, self.lines.start())
    }
}

/// The name among `known` that is nearly `name`, when there is one and `name` is not among them.
pub fn near<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let mut best: Option<(usize, &str)> = None;
    for other in known {
        let distance = crate::dockerfile::instructions::distance(name, other);
        if distance == 0 {
            return None;
        }
        if distance < 3 && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, other));
        }
    }
    best.map(|(_, other)| other)
}

/// ` (did you mean $NAME?)`, or nothing.
pub fn hint(near: Option<&str>, mark: &str) -> String {
    near.map(|name| format!(" (did you mean {mark}{name}?)")).unwrap_or_default()
}

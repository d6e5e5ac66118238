//! The rules: who may do what in which repositories.
//!
//! A rule names somebody (a user, all users, everybody), a pattern (one repository, all below a prefix, all)
//! and actions. Rules only allow, so their order does not matter.

use super::{Action, Actions};
use crate::{meta::RuleRow, name::Repository};
use base::{Error, Result};
use std::collections::HashMap;

/// Everybody who has logged in.
pub const USERS: &str = "@users";
/// Everybody, known or not.
pub const ANONYMOUS: &str = "@anonymous";

/// All rules, by whom they name.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: HashMap<String, Vec<(Pattern, Actions)>>,
    has_users: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    All,
    Below(String),
    One(String),
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "**" {
            return Some(Self::All);
        }
        match text.strip_suffix("/**") {
            Some(prefix) => Repository::parse(prefix).map(|_| Self::Below(format!("{prefix}/"))),
            None => Repository::parse(text).map(|name| Self::One(name.as_str().to_owned())),
        }
    }

    fn fits(&self, repository: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(prefix) => repository.starts_with(prefix),
            Self::One(name) => repository == name,
        }
    }
}

/// Checks who and what a rule names.
///
/// # Errors
/// `Invalid` with what is wanted.
pub fn check_rule(who: &str, pattern: &str) -> Result<()> {
    if Pattern::parse(pattern).is_none() {
        return Err(Error::invalid(format!(
            "{pattern:?} is no pattern: want a repository's name, PREFIX/** or **"
        )));
    }
    if who.starts_with('@') && who != USERS && who != ANONYMOUS {
        return Err(Error::invalid(format!(
            "{who:?} is nobody: want a user's name, {USERS} or {ANONYMOUS}"
        )));
    }
    Ok(())
}

impl RuleSet {
    /// From rows; one that cannot be read allows nothing.
    pub fn new(rows: &[RuleRow], has_users: bool) -> Self {
        let mut rules: HashMap<String, Vec<(Pattern, Actions)>> = HashMap::new();
        for row in rows {
            if let Some(pattern) = Pattern::parse(&row.pattern) {
                let actions = Actions::from_bits(row.actions);
                rules.entry(row.who.clone()).or_default().push((pattern, actions));
            }
        }
        Self { rules, has_users }
    }

    /// Whether there is neither a rule nor a user.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.has_users
    }

    /// What `user`, or somebody unknown, may do in `repository`.
    pub fn allowed(&self, user: Option<&str>, repository: &str) -> Actions {
        let mut allowed = Actions::default();
        for who in [Some(ANONYMOUS), user.map(|_| USERS), user].into_iter().flatten() {
            for (pattern, actions) in self.rules.get(who).into_iter().flatten() {
                if pattern.fits(repository) {
                    allowed = allowed.or(*actions);
                }
            }
        }
        allowed
    }

    /// Whether `user` may pull `repository`: whether it exists for him.
    pub fn sees(&self, user: Option<&str>, repository: &str) -> bool {
        self.allowed(user, repository).has(Action::Pull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rows: &[(&str, &str, &str)]) -> RuleSet {
        let rows: Vec<RuleRow> = rows
            .iter()
            .map(|(who, pattern, actions)| RuleRow {
                who: (*who).into(),
                pattern: (*pattern).into(),
                actions: actions.parse::<Actions>().unwrap().bits(),
            })
            .collect();
        RuleSet::new(&rows, true)
    }

    #[test]
    fn rules_add_up_and_reach_no_farther_than_they_say() {
        let rules = rules(&[
            ("@anonymous", "public/**", "pull"),
            ("@users", "shared", "pull"),
            ("carol", "team/a/**", "pull,push"),
            ("carol", "public/**", "push"),
            ("root", "**", "*"),
        ]);
        for (user, repository, want) in [
            (None, "public/x", "pull"),
            (None, "public", ""),
            (None, "publicity/x", ""),
            (None, "shared", ""),
            (Some("bob"), "shared", "pull"),
            (Some("carol"), "public/x", "pull,push"),
            (Some("carol"), "team/a/b/c", "pull,push"),
            (Some("carol"), "team/a", ""),
            (Some("carol"), "team/ab", ""),
            (Some("root"), "any/thing", "pull,push,delete"),
            // A user who calls himself like a group is no group.
            (Some("@anonymous"), "shared", "pull"),
        ] {
            assert_eq!(rules.allowed(user, repository).to_string(), want, "{user:?} {repository}");
        }
    }

    #[test]
    fn a_rule_that_means_nothing_is_refused() {
        assert!(check_rule("carol", "team/**").is_ok() && check_rule("@users", "**").is_ok());
        for (who, pattern) in [
            ("@all", "**"),
            ("carol", "team/*"),
            ("carol", "../x"),
            ("carol", ""),
            ("carol", "/**"),
        ] {
            assert!(check_rule(who, pattern).is_err(), "{who} {pattern}");
        }
    }
}

//! Who may do what where, as rows. What they mean is said in `auth::rules`.

use super::Tx;
use base::{Result, Timestamp};
use sqlite::Statements as _;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// A user's name, or `@users`, or `@anonymous`.
    pub who: String,
    /// A repository's name, a prefix with `/**`, or `**`.
    pub pattern: String,
    /// A set of actions, see `auth::Actions`.
    pub actions: u8,
}

impl Tx<'_> {
    /// All rules, in order.
    ///
    /// # Errors
    /// Of the database.
    pub fn rules(&self) -> Result<Vec<RuleRow>> {
        self.many(
            "cannot list rules",
            "SELECT who, pattern, actions FROM rules ORDER BY who, pattern",
            [],
            |row| Ok(RuleRow { who: row.get(0)?, pattern: row.get(1)?, actions: row.get(2)? }),
        )
    }

    /// Sets what `who` may do in `pattern`, in place of what was said before.
    ///
    /// # Errors
    /// Of the database.
    pub fn set_rule(&self, rule: &RuleRow, now: Timestamp) -> Result<()> {
        self.run(
            "cannot set a rule",
            "INSERT INTO rules (who, pattern, actions, created) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET actions = excluded.actions",
            (&rule.who, &rule.pattern, rule.actions, now.unix_nanos()),
        )?;
        self.access_changed()
    }

    /// Takes a rule away; whether there was one.
    ///
    /// # Errors
    /// Of the database.
    pub fn remove_rule(&self, who: &str, pattern: &str) -> Result<bool> {
        let gone = self.run(
            "cannot remove a rule",
            "DELETE FROM rules WHERE who = ?1 AND pattern = ?2",
            (who, pattern),
        )?;
        self.access_changed()?;
        Ok(gone > 0)
    }
}

//! Single facts of this registry: its token key, the version of its access rules.

use super::Tx;
use base::Result;
use sqlite::Statements as _;

impl Tx<'_> {
    /// A fact's bytes.
    ///
    /// # Errors
    /// Of the database.
    pub fn fact(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.one("cannot read a fact", "SELECT value FROM facts WHERE key = ?1", [key], |row| {
            row.get(0)
        })
    }

    /// Writes a fact down unless it is there already; the one that holds is returned.
    ///
    /// # Errors
    /// Of the database.
    pub fn fact_once(&self, key: &str, value: &[u8]) -> Result<Vec<u8>> {
        self.run(
            "cannot write a fact",
            "INSERT OR IGNORE INTO facts (key, value) VALUES (?1, ?2)",
            (key, value),
        )?;
        Ok(self.fact(key)?.unwrap_or_else(|| value.to_owned()))
    }

    /// A number that grows with every change of users and rules.
    ///
    /// # Errors
    /// Of the database.
    pub fn access_version(&self) -> Result<i64> {
        let found = self.one(
            "cannot read the version of the rules",
            "SELECT value FROM facts WHERE key = 'access-version'",
            [],
            |row| row.get(0),
        )?;
        Ok(found.unwrap_or(0))
    }

    pub(super) fn access_changed(&self) -> Result<()> {
        self.run(
            "cannot note a change of the rules",
            "INSERT INTO facts (key, value) VALUES ('access-version', 1)
             ON CONFLICT DO UPDATE SET value = value + 1",
            [],
        )?;
        Ok(())
    }
}

//! Repositories: made with the first thing pushed to them.

use super::Tx;
use base::{Result, Timestamp};
use sqlite::Statements as _;

/// A repository as the catalogue and the search show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// How often its manifests were pulled.
    pub pulls: i64,
}

impl Tx<'_> {
    /// The row of `name`.
    pub(crate) fn repository(&self, name: &str) -> Result<Option<i64>> {
        self.one(
            "cannot look up a repository",
            "SELECT id FROM repositories WHERE name = ?1",
            [name],
            |row| row.get(0),
        )
    }

    /// The row of `name`, made when absent.
    pub(crate) fn ensure_repository(&self, name: &str, now: Timestamp) -> Result<i64> {
        if let Some(id) = self.repository(name)? {
            return Ok(id);
        }
        self.run(
            "cannot make a repository",
            "INSERT INTO repositories (name, created) VALUES (?1, ?2)",
            (name, now.unix_nanos()),
        )?;
        Ok(self.last_id())
    }

    /// Names of repositories that hold a manifest, in order, behind `last`.
    ///
    /// # Errors
    /// Of the database.
    pub fn catalog(&self, last: &str, limit: usize) -> Result<Vec<String>> {
        self.many(
            "cannot list repositories",
            "SELECT name FROM repositories r WHERE name > ?1
             AND EXISTS (SELECT 1 FROM manifests WHERE repository = r.id) ORDER BY name LIMIT ?2",
            (last, limit as i64),
            |row| row.get(0),
        )
    }

    /// Repositories with a manifest whose name or description holds `word`, in order of their names, behind
    /// `last`.
    ///
    /// # Errors
    /// Of the database.
    pub fn search(&self, word: &str, last: &str, limit: usize) -> Result<Vec<Found>> {
        self.many(
            "cannot search repositories",
            "SELECT name, description, (SELECT coalesce(sum(pulls), 0) FROM manifests WHERE repository = r.id)
             FROM repositories r WHERE name > ?2 AND (instr(name, ?1) OR instr(lower(description), ?1))
             AND EXISTS (SELECT 1 FROM manifests WHERE repository = r.id) ORDER BY name LIMIT ?3",
            (word, last, limit as i64),
            |row| Ok(Found { name: row.get(0)?, description: row.get(1)?, pulls: row.get(2)? }),
        )
    }
}

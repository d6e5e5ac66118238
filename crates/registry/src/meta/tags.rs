//! Tags and where they pointed before.

use super::Tx;
use crate::name::Tag;
use base::{Result, Timestamp};
use sqlite::Statements as _;

impl Tx<'_> {
    /// Lets a tag point to a manifest; where it pointed before becomes history.
    pub(super) fn set_tag(
        &self,
        repository: i64,
        tag: &Tag,
        manifest: i64,
        who: &str,
        now: Timestamp,
    ) -> Result<()> {
        let held = self.one(
            "cannot look up a tag",
            "SELECT manifest FROM tags WHERE repository = ?1 AND name = ?2",
            (repository, tag.as_str()),
            |row| row.get::<_, i64>(0),
        )?;
        if held == Some(manifest) {
            return Ok(());
        }
        self.drop_tag(repository, tag.as_str(), now)?;
        self.run(
            "cannot set a tag",
            "INSERT INTO tags (repository, name, manifest, since, set_by) VALUES (?1, ?2, ?3, ?4, ?5)",
            (repository, tag.as_str(), manifest, now.unix_nanos(), who),
        )?;
        Ok(())
    }

    /// Takes a tag away and keeps what it was; whether there was one.
    pub(super) fn drop_tag(&self, repository: i64, tag: &str, now: Timestamp) -> Result<bool> {
        self.run(
            "cannot keep a tag's history",
            "INSERT INTO tag_history (repository, name, digest, since, until, set_by)
             SELECT t.repository, t.name, m.digest, t.since, ?3, t.set_by FROM tags t
             JOIN manifests m ON m.id = t.manifest WHERE t.repository = ?1 AND t.name = ?2",
            (repository, tag, now.unix_nanos()),
        )?;
        let gone = self.run(
            "cannot drop a tag",
            "DELETE FROM tags WHERE repository = ?1 AND name = ?2",
            (repository, tag),
        )?;
        Ok(gone > 0)
    }

    /// Takes a tag away, its manifest stays; whether there was one.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_tag(&self, repository: &str, tag: &Tag, now: Timestamp) -> Result<bool> {
        match self.repository(repository)? {
            Some(repository) => self.drop_tag(repository, tag.as_str(), now),
            None => Ok(false),
        }
    }

    /// Tags in order of their bytes behind `last`; `None` when there is no such repository.
    ///
    /// # Errors
    /// Of the database.
    pub fn tags(&self, repository: &str, last: &str, limit: usize) -> Result<Option<Vec<String>>> {
        let Some(repository) = self.repository(repository)? else { return Ok(None) };
        self.many(
            "cannot list tags",
            "SELECT name FROM tags WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
            (repository, last, limit as i64),
            |row| row.get(0),
        )
        .map(Some)
    }
}

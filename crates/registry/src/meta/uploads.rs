//! Uploads of which an object store holds parts already: what is needed to go on after a restart.

use super::Tx;
use base::{Result, Timestamp};
use sqlite::Statements as _;

/// One part that the object store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the object store calls it.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The object that it will be.
    pub place: String,
    /// The object store's id for it.
    pub multipart: String,
    /// The parts in order, without gap.
    pub parts: Vec<Part>,
}

impl Tx<'_> {
    /// Keeps a multipart upload that was just begun.
    ///
    /// # Errors
    /// Of the database.
    pub fn begin_parts(
        &self,
        upload: &str,
        place: &str,
        multipart: &str,
        now: Timestamp,
    ) -> Result<()> {
        self.run(
            "cannot keep an upload",
            "INSERT INTO uploads (id, place, multipart, created) VALUES (?1, ?2, ?3, ?4)",
            (upload, place, multipart, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// Keeps a part that was uploaded.
    ///
    /// # Errors
    /// Of the database.
    pub fn add_part(&self, upload: &str, number: usize, part: &Part) -> Result<()> {
        self.run(
            "cannot keep a part of an upload",
            "INSERT OR REPLACE INTO upload_parts (upload, number, etag, size) VALUES (?1, ?2, ?3, ?4)",
            (upload, number as i64, &part.etag, part.size as i64),
        )?;
        Ok(())
    }

    /// The parts of an upload, up to the first gap.
    ///
    /// # Errors
    /// Of the database.
    pub fn parts(&self, upload: &str) -> Result<Option<Parts>> {
        let begun = self.one(
            "cannot look up an upload",
            "SELECT place, multipart FROM uploads WHERE id = ?1",
            [upload],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((place, multipart)) = begun else { return Ok(None) };
        let all: Vec<(i64, Part)> = self.many(
            "cannot list the parts of an upload",
            "SELECT number, etag, size FROM upload_parts WHERE upload = ?1 ORDER BY number",
            [upload],
            |row| Ok((row.get(0)?, Part { etag: row.get(1)?, size: row.get::<_, i64>(2)? as u64 })),
        )?;
        let parts = all
            .into_iter()
            .zip(0..)
            .take_while(|((n, _), at)| n == at)
            .map(|((_, p), _)| p)
            .collect();
        Ok(Some(Parts { place, multipart, parts }))
    }

    /// An upload has ended, one way or the other.
    ///
    /// # Errors
    /// Of the database.
    pub fn end_parts(&self, upload: &str) -> Result<()> {
        self.run("cannot end an upload", "DELETE FROM uploads WHERE id = ?1", [upload])?;
        Ok(())
    }

    /// Ids of all multipart uploads.
    ///
    /// # Errors
    /// Of the database.
    pub fn multipart_uploads(&self) -> Result<Vec<String>> {
        self.many("cannot list uploads", "SELECT id FROM uploads", [], |row| row.get(0))
    }
}

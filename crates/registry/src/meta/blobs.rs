//! Blobs, and the links that say in which repositories they are.
//!
//! Invariants: a blob has at least one link; the transaction that takes its last link takes its row too
//! and puts its object into the log of deletions. A place in storage is used once, so that deleting an
//! old object can never hit a new one of the same digest. Nobody reads a blob through a repository that
//! has no link to it.

use super::{Grace, Tx};
use base::{Digest, Result, Timestamp};
use sqlite::Statements as _;

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the database: small blobs, which cost a file and two flushes of the disk each otherwise.
    Inline,
    /// In storage, under this key.
    Stored(String),
}

/// A blob that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its row.
    pub id: i64,
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where they are.
    pub place: Place,
}

/// A blob whose bytes were verified.
#[derive(Clone, Debug)]
pub enum NewBlob {
    /// To be kept in the database.
    Inline(Vec<u8>),
    /// Already in storage.
    Stored {
        /// Its key, not used before.
        place: String,
        /// Bytes.
        size: u64,
    },
}

/// What became of a wish to take a blob out of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlink {
    /// It is gone from there.
    Done,
    /// It was not there.
    Unknown,
    /// A manifest of the repository needs it.
    Needed,
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Blob> {
    let place: Option<String> = row.get(3)?;
    Ok(Blob {
        id: row.get(0)?,
        digest: digest(row, 1)?,
        size: row.get::<_, i64>(2)? as u64,
        place: place.map_or(Place::Inline, Place::Stored),
    })
}

/// Reads a digest that was checked when it was written.
pub(super) fn digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: base::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

impl Tx<'_> {
    /// A blob that may be read through `repository`; a damaged one is not there.
    ///
    /// # Errors
    /// Of the database.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<Blob>> {
        self.one(
            "cannot look up a blob",
            "SELECT b.id, b.digest, b.size, b.place FROM blobs b
             JOIN repositories r ON r.name = ?1 JOIN links l ON l.repository = r.id AND l.blob = b.id
             WHERE b.digest = ?2 AND b.damaged IS NULL",
            (repository, digest.as_str()),
            read,
        )
    }

    /// The bytes of a blob that is kept inline.
    ///
    /// # Errors
    /// Of the database.
    pub fn blob_bytes(&self, blob: i64) -> Result<Option<Vec<u8>>> {
        self.one(
            "cannot read a blob",
            "SELECT bytes FROM blob_bytes WHERE blob = ?1",
            [blob],
            |row| row.get(0),
        )
    }

    /// Takes in a blob whose bytes the caller has shown, when it is here already; `false` when it must be
    /// stored first.
    ///
    /// # Errors
    /// Of the database.
    pub fn link_known(
        &self,
        repository: &str,
        digest: &Digest,
        now: Timestamp,
        grace: Grace,
    ) -> Result<bool> {
        let Some((blob, damaged)) = self.any_blob(digest)? else { return Ok(false) };
        if damaged {
            return Ok(false);
        }
        let repository = self.ensure_repository(repository, now)?;
        self.link(repository, blob, now, grace)?;
        Ok(true)
    }

    /// Takes in a blob that was just stored. When it is here already, the new object is thrown away; when
    /// the one that is here is damaged, the new one takes its place.
    ///
    /// # Errors
    /// Of the database.
    pub fn add_blob(
        &self,
        repository: &str,
        digest: &Digest,
        new: &NewBlob,
        now: Timestamp,
        grace: Grace,
    ) -> Result<()> {
        let repository = self.ensure_repository(repository, now)?;
        let blob = match self.any_blob(digest)? {
            None => self.insert_blob(digest, new, now)?,
            Some((blob, true)) => {
                self.replace_bytes(blob, new, now)?;
                blob
            }
            Some((blob, false)) => {
                if let NewBlob::Stored { place, .. } = new {
                    self.throw_away(place, now)?;
                }
                blob
            }
        };
        self.link(repository, blob, now, grace)
    }

    fn any_blob(&self, digest: &Digest) -> Result<Option<(i64, bool)>> {
        self.one(
            "cannot look up a blob",
            "SELECT id, damaged IS NOT NULL FROM blobs WHERE digest = ?1",
            [digest.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    fn insert_blob(&self, digest: &Digest, new: &NewBlob, now: Timestamp) -> Result<i64> {
        let (place, size) = match new {
            NewBlob::Inline(bytes) => (None, bytes.len() as i64),
            NewBlob::Stored { place, size } => (Some(place), *size as i64),
        };
        self.run(
            "cannot store a blob",
            "INSERT INTO blobs (digest, size, place, created) VALUES (?1, ?2, ?3, ?4)",
            (digest.as_str(), size, place, now.unix_nanos()),
        )?;
        let blob = self.last_id();
        self.insert_bytes(blob, new)?;
        Ok(blob)
    }

    fn insert_bytes(&self, blob: i64, new: &NewBlob) -> Result<()> {
        if let NewBlob::Inline(bytes) = new {
            self.run(
                "cannot store a blob",
                "INSERT INTO blob_bytes (blob, bytes) VALUES (?1, ?2)",
                (blob, bytes),
            )?;
        }
        Ok(())
    }

    fn replace_bytes(&self, blob: i64, new: &NewBlob, now: Timestamp) -> Result<()> {
        self.throw_away_bytes(blob, now)?;
        let (place, size) = match new {
            NewBlob::Inline(bytes) => (None, bytes.len() as i64),
            NewBlob::Stored { place, size } => (Some(place), *size as i64),
        };
        self.run(
            "cannot mend a blob",
            "UPDATE blobs SET place = ?2, size = ?3, damaged = NULL WHERE id = ?1",
            (blob, place, size),
        )?;
        self.insert_bytes(blob, new)
    }

    /// Puts the object of `blob` into the log of deletions and drops its inline bytes.
    fn throw_away_bytes(&self, blob: i64, now: Timestamp) -> Result<()> {
        self.run("cannot drop a blob", "DELETE FROM blob_bytes WHERE blob = ?1", [blob])?;
        self.run(
            "cannot drop a blob",
            "INSERT OR IGNORE INTO trash (place, since)
             SELECT place, ?2 FROM blobs WHERE id = ?1 AND place IS NOT NULL",
            (blob, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// Puts an object that no row points to into the log of deletions.
    ///
    /// # Errors
    /// Of the database.
    pub fn throw_away(&self, place: &str, now: Timestamp) -> Result<()> {
        self.run(
            "cannot drop an object",
            "INSERT OR IGNORE INTO trash (place, since) VALUES (?1, ?2)",
            (place, now.unix_nanos()),
        )?;
        Ok(())
    }

    fn link(&self, repository: i64, blob: i64, now: Timestamp, grace: Grace) -> Result<()> {
        self.run(
            "cannot link a blob",
            "INSERT OR IGNORE INTO links (repository, blob, created) VALUES (?1, ?2, ?3)",
            (repository, blob, now.unix_nanos()),
        )?;
        self.review_later(repository, blob, now, grace)
    }

    /// Asks for the link to be looked at again, no sooner than the grace time from now.
    pub(super) fn review_later(
        &self,
        repository: i64,
        blob: i64,
        now: Timestamp,
        grace: Grace,
    ) -> Result<()> {
        self.run(
            "cannot queue a review",
            "INSERT INTO reviews (repository, blob, due) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET due = max(due, excluded.due)",
            (repository, blob, grace.due(now)),
        )?;
        Ok(())
    }

    /// Whether telling a client that the blob is there must be written down: no manifest holds it yet,
    /// and its review comes within half of the grace time.
    ///
    /// # Errors
    /// Of the database.
    pub fn needs_touch(
        &self,
        repository: &str,
        blob: i64,
        now: Timestamp,
        grace: Grace,
    ) -> Result<bool> {
        let half = Grace(grace.0 / 2);
        let found = self.one(
            "cannot look up a review",
            "SELECT 1 FROM repositories r JOIN reviews v ON v.repository = r.id AND v.blob = ?2
             WHERE r.name = ?1 AND v.due < ?3",
            (repository, blob, half.due(now)),
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// A client was told that the blob is there and will not upload it: its review is put off. `false` when
    /// it is gone meanwhile.
    ///
    /// # Errors
    /// Of the database.
    pub fn touch(
        &self,
        repository: &str,
        digest: &Digest,
        now: Timestamp,
        grace: Grace,
    ) -> Result<bool> {
        let Some(blob) = self.blob(repository, digest)? else { return Ok(false) };
        let Some(repository) = self.repository(repository)? else { return Ok(false) };
        self.review_later(repository, blob.id, now, grace)?;
        Ok(true)
    }

    /// Makes a blob of `from` one of `to` as well; `false` when it is not in `from`.
    ///
    /// # Errors
    /// Of the database.
    pub fn mount(
        &self,
        from: &str,
        to: &str,
        digest: &Digest,
        now: Timestamp,
        grace: Grace,
    ) -> Result<bool> {
        let Some(blob) = self.blob(from, digest)? else { return Ok(false) };
        let to = self.ensure_repository(to, now)?;
        self.link(to, blob.id, now, grace)?;
        Ok(true)
    }

    /// Names of repositories that hold the blob, at most `limit`.
    ///
    /// # Errors
    /// Of the database.
    pub fn repositories_with(&self, digest: &Digest, limit: usize) -> Result<Vec<String>> {
        self.many(
            "cannot look up a blob",
            "SELECT r.name FROM blobs b JOIN links l ON l.blob = b.id JOIN repositories r ON r.id = l.repository
             WHERE b.digest = ?1 AND b.damaged IS NULL LIMIT ?2",
            (digest.as_str(), limit as i64),
            |row| row.get(0),
        )
    }

    /// Names of repositories that hold the blob, damaged or not, at most `limit`.
    ///
    /// # Errors
    /// Of the database.
    pub fn holders(&self, blob: i64, limit: usize) -> Result<Vec<String>> {
        self.many(
            "cannot look up a blob",
            "SELECT r.name FROM links l JOIN repositories r ON r.id = l.repository WHERE l.blob = ?1
             ORDER BY r.name LIMIT ?2",
            (blob, limit as i64),
            |row| row.get(0),
        )
    }

    /// Takes a blob out of a repository, unless a manifest there needs it.
    ///
    /// # Errors
    /// Of the database.
    pub fn unlink(&self, repository: &str, digest: &Digest, now: Timestamp) -> Result<Unlink> {
        let Some((blob, _)) = self.any_blob(digest)? else { return Ok(Unlink::Unknown) };
        let Some(repository) = self.repository(repository)? else { return Ok(Unlink::Unknown) };
        if self.is_needed(repository, blob)? {
            return Ok(Unlink::Needed);
        }
        if self.drop_link(repository, blob, now)?.is_none() {
            return Ok(Unlink::Unknown);
        }
        Ok(Unlink::Done)
    }

    /// Whether a manifest of the repository points to the blob.
    pub(super) fn is_needed(&self, repository: i64, blob: i64) -> Result<bool> {
        let found = self.one(
            "cannot look up a blob's manifests",
            "SELECT 1 FROM manifest_blobs WHERE repository = ?1 AND blob = ?2 LIMIT 1",
            (repository, blob),
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Takes the link away, and the blob with its last one: `Some(bytes freed)` when there was a link.
    pub(super) fn drop_link(
        &self,
        repository: i64,
        blob: i64,
        now: Timestamp,
    ) -> Result<Option<u64>> {
        let gone = self.run(
            "cannot unlink a blob",
            "DELETE FROM links WHERE repository = ?1 AND blob = ?2",
            (repository, blob),
        )?;
        self.run(
            "cannot unlink a blob",
            "DELETE FROM reviews WHERE repository = ?1 AND blob = ?2",
            (repository, blob),
        )?;
        if gone == 0 {
            return Ok(None);
        }
        let others = self.one(
            "cannot look up a blob's links",
            "SELECT 1 FROM links WHERE blob = ?1 LIMIT 1",
            [blob],
            |_| Ok(()),
        )?;
        if others.is_some() {
            return Ok(Some(0));
        }
        let size: i64 = self
            .one("cannot drop a blob", "SELECT size FROM blobs WHERE id = ?1", [blob], |row| {
                row.get(0)
            })?
            .unwrap_or(0);
        self.throw_away_bytes(blob, now)?;
        self.run("cannot drop a blob", "DELETE FROM blobs WHERE id = ?1", [blob])?;
        Ok(Some(size as u64))
    }

    /// The next blobs by row behind `after`, for the scrub, and whether they are marked as damaged.
    ///
    /// # Errors
    /// Of the database.
    pub fn blobs_after(&self, after: i64, limit: usize) -> Result<Vec<(Blob, bool)>> {
        self.many(
            "cannot list blobs",
            "SELECT id, digest, size, place, damaged IS NOT NULL FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2",
            (after, limit as i64),
            |row| Ok((read(row)?, row.get(4)?)),
        )
    }

    /// Writes down that the object at `place` does not hold the blob's bytes, or that it does again.
    /// `false` when the row has changed meanwhile.
    ///
    /// # Errors
    /// Of the database.
    pub fn mark_blob(&self, blob: &Blob, damaged: bool, now: Timestamp) -> Result<bool> {
        let place = match &blob.place {
            Place::Inline => None,
            Place::Stored(place) => Some(place),
        };
        let changed = self.run(
            "cannot mark a blob",
            "UPDATE blobs SET damaged = CASE WHEN ?3 THEN coalesce(damaged, ?4) END
             WHERE id = ?1 AND place IS ?2",
            (blob.id, place, damaged, now.unix_nanos()),
        )?;
        Ok(changed > 0)
    }

    /// Whether a blob, a pending upload or the log of deletions knows the object at `place`.
    ///
    /// # Errors
    /// Of the database.
    pub fn knows_place(&self, place: &str) -> Result<bool> {
        let found = self.one(
            "cannot look up an object",
            "SELECT 1 FROM blobs WHERE place = ?1 UNION ALL SELECT 1 FROM trash WHERE place = ?1
             UNION ALL SELECT 1 FROM uploads WHERE place = ?1 LIMIT 1",
            [place],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Number of blobs and of their bytes.
    ///
    /// # Errors
    /// Of the database.
    pub fn totals(&self) -> Result<(u64, u64)> {
        let found = self.one(
            "cannot count blobs",
            "SELECT count(*), coalesce(sum(size), 0) FROM blobs",
            [],
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)),
        )?;
        Ok(found.unwrap_or_default())
    }
}

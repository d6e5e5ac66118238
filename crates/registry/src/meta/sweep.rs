//! Garbage collection, the part that decides: which links and blobs nobody needs any more.
//!
//! Flow: whatever may have taken the last need of a blob away queues a review of its link, due after the
//! grace time. [`Tx::review`] looks at what is due: a link that a manifest needs stays, any other goes, and
//! with its last link goes the blob; its object's place is put into the log of deletions in the same
//! transaction. Storage is cleaned by that log afterwards, in any order and as often as a crash demands,
//! because a place is never used twice.
//!
//! Invariant: a manifest is put and a link is taken by the same one writer, so that neither can slip
//! between the other's look and deed. There is no time at which pushes have to wait.

use super::Tx;
use base::{Result, Timestamp};
use sqlite::Statements as _;
use std::time::Duration;

/// What a round of reviews did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// Links looked at.
    pub seen: usize,
    /// Links taken away.
    pub unlinked: usize,
    /// Blobs that went with them.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Reviewed {
    /// Adds up.
    pub fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.unlinked += other.unlinked;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

impl Tx<'_> {
    /// Reviews at most `limit` links that are due.
    ///
    /// # Errors
    /// Of the database.
    pub fn review(&self, now: Timestamp, limit: usize) -> Result<Reviewed> {
        let due: Vec<(i64, i64)> = self.many(
            "cannot list reviews",
            "SELECT repository, blob FROM reviews WHERE due <= ?1 ORDER BY due LIMIT ?2",
            (now.unix_nanos(), limit as i64),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut done = Reviewed { seen: due.len(), ..Reviewed::default() };
        for (repository, blob) in due {
            if self.is_needed(repository, blob)? {
                self.run(
                    "cannot end a review",
                    "DELETE FROM reviews WHERE repository = ?1 AND blob = ?2",
                    (repository, blob),
                )?;
                continue;
            }
            let Some(freed) = self.drop_link(repository, blob, now)? else { continue };
            done.unlinked += 1;
            let left = self.one(
                "cannot look up a blob",
                "SELECT 1 FROM blobs WHERE id = ?1",
                [blob],
                |_| Ok(()),
            )?;
            if left.is_none() {
                done.blobs += 1;
                done.bytes += freed;
            }
        }
        Ok(done)
    }

    /// What a round of reviews would take away at `now`, without doing it: repository, digest, bytes.
    ///
    /// # Errors
    /// Of the database.
    pub fn review_preview(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(String, String, u64)>> {
        self.many(
            "cannot list reviews",
            "SELECT r.name, b.digest, b.size FROM reviews v JOIN repositories r ON r.id = v.repository
             JOIN blobs b ON b.id = v.blob WHERE v.due <= ?1 AND NOT EXISTS
             (SELECT 1 FROM manifest_blobs m WHERE m.repository = v.repository AND m.blob = v.blob)
             ORDER BY r.name, b.digest LIMIT ?2",
            (now.unix_nanos(), limit as i64),
            |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)),
        )
    }

    /// Objects to delete from storage that have been in the log for `rest` at least, so that readers of them
    /// have finished; those that failed least often first.
    ///
    /// # Errors
    /// Of the database.
    pub fn trash(&self, now: Timestamp, rest: Duration, limit: usize) -> Result<Vec<String>> {
        self.many(
            "cannot list the log of deletions",
            "SELECT place FROM trash WHERE since <= ?1 ORDER BY attempts, since LIMIT ?2",
            (now.minus(rest).unix_nanos(), limit as i64),
            |row| row.get(0),
        )
    }

    /// These objects are gone.
    ///
    /// # Errors
    /// Of the database.
    pub fn emptied(&self, places: &[String]) -> Result<()> {
        for place in places {
            self.run("cannot end a deletion", "DELETE FROM trash WHERE place = ?1", [place])?;
        }
        Ok(())
    }

    /// These objects could not be deleted yet.
    ///
    /// # Errors
    /// Of the database.
    pub fn not_emptied(&self, places: &[String]) -> Result<()> {
        for place in places {
            self.run(
                "cannot note a failed deletion",
                "UPDATE trash SET attempts = attempts + 1 WHERE place = ?1",
                [place],
            )?;
        }
        Ok(())
    }

    /// Links that wait for a review, and objects that wait for their deletion.
    ///
    /// # Errors
    /// Of the database.
    pub fn backlog(&self) -> Result<(u64, u64)> {
        let found = self.one(
            "cannot count what waits",
            "SELECT (SELECT count(*) FROM reviews), (SELECT count(*) FROM trash)",
            [],
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)),
        )?;
        Ok(found.unwrap_or_default())
    }
}

//! Compressed layers: which blob unpacks to which layer, and in which repositories blobs are known to be.
//!
//! Invariant: a row of `blobs` was verified here: the blob was unpacked, or made, and both digests were found.

use crate::Tx;
use base::{Digest, Result, Timestamp};
use sqlite::Statements as _;

/// A layer in its compressed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Digest of the tar that it unpacks to.
    pub diff_id: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
}

/// Repositories in which one blob is remembered, at most.
const PLACES: u32 = 16;

impl Tx<'_> {
    /// Notes a compressed layer.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_blob(&self, blob: &Blob) -> Result<()> {
        self.run(
            "cannot store the blob",
            "INSERT INTO blobs (digest, diff_id, media_type, size) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (digest) DO UPDATE SET media_type = ?3",
            (blob.digest.as_str(), blob.diff_id.as_str(), &blob.media_type, blob.size as i64),
        )?;
        Ok(())
    }

    /// The compressed forms of a layer, in no order.
    ///
    /// # Errors
    /// Of the database.
    pub fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<Blob>> {
        let rows = self.many(
            "cannot read the layer's blobs",
            "SELECT digest, diff_id, media_type, size FROM blobs WHERE diff_id = ?1",
            [diff_id.as_str()],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(digest, diff_id, media_type, size)| {
                Ok(Blob {
                    digest: digest.parse()?,
                    diff_id: diff_id.parse()?,
                    media_type,
                    size: size.max(0) as u64,
                })
            })
            .collect()
    }

    /// Digests of compressed layers whose layer is here; forgets the others.
    ///
    /// # Errors
    /// Of the database.
    pub fn live_blobs(&self) -> Result<Vec<Digest>> {
        let found = self.many(
            "cannot list blobs",
            "SELECT digest FROM blobs WHERE diff_id IN (SELECT diff_id FROM layers)",
            [],
            |row| row.get::<_, String>(0),
        )?;
        found.iter().map(|digest| digest.parse()).collect()
    }

    /// Forgets compressed layers whose layer is gone, and where they were.
    ///
    /// # Errors
    /// Of the database.
    pub fn forget_dead_blobs(&self) -> Result<()> {
        self.run(
            "cannot forget blobs",
            "DELETE FROM blobs WHERE diff_id NOT IN (SELECT diff_id FROM layers)",
            [],
        )?;
        self.run(
            "cannot forget blobs",
            "DELETE FROM blob_places WHERE digest NOT IN (SELECT digest FROM blobs)",
            [],
        )?;
        Ok(())
    }

    /// Notes that a blob was seen in a repository; the oldest of many places is forgotten.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_place(&self, digest: &Digest, registry: &str, repository: &str) -> Result<()> {
        self.run(
            "cannot note where a blob is",
            "INSERT INTO blob_places (digest, registry, repository, seen) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (digest, registry, repository) DO UPDATE SET seen = ?4",
            (digest.as_str(), registry, repository, Timestamp::now().unix_nanos()),
        )?;
        self.run(
            "cannot note where a blob is",
            "DELETE FROM blob_places WHERE digest = ?1 AND (registry, repository) NOT IN
             (SELECT registry, repository FROM blob_places WHERE digest = ?1 ORDER BY seen DESC LIMIT ?2)",
            (digest.as_str(), PLACES),
        )?;
        Ok(())
    }

    /// Repositories of `registry` in which the blob was seen, last first.
    ///
    /// # Errors
    /// Of the database.
    pub fn places(&self, digest: &Digest, registry: &str) -> Result<Vec<String>> {
        self.many(
            "cannot read where a blob is",
            "SELECT repository FROM blob_places WHERE digest = ?1 AND registry = ?2 ORDER BY seen DESC",
            (digest.as_str(), registry),
            |row| row.get(0),
        )
    }
}

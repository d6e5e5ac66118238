//! Manifests that are about another one (their `subject`).

use super::{Tx, blobs::digest};
use base::{Digest, Result};
use sqlite::Statements as _;

/// One of them, as the referrers list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What it is; empty when it does not say.
    pub artifact_type: String,
    /// Bytes.
    pub size: u64,
    /// Its annotations, a JSON object.
    pub annotations: String,
}

impl Tx<'_> {
    /// Manifests about `subject` in order of their digests behind `last`, only those of `artifact_type`
    /// when that is given.
    ///
    /// # Errors
    /// Of the database.
    pub fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: &str,
        limit: usize,
    ) -> Result<Vec<Referrer>> {
        self.many(
            "cannot list referrers",
            "SELECT m.digest, m.media_type, m.artifact_type, m.size, m.annotations FROM repositories r
             JOIN manifests m ON m.repository = r.id AND m.subject = ?2
             WHERE r.name = ?1 AND m.digest > ?4 AND (?3 IS NULL OR m.artifact_type = ?3)
             AND m.damaged IS NULL ORDER BY m.digest LIMIT ?5",
            (repository, subject.as_str(), artifact_type, last, limit as i64),
            |row| {
                Ok(Referrer {
                    digest: digest(row, 0)?,
                    media_type: row.get(1)?,
                    artifact_type: row.get(2)?,
                    size: row.get::<_, i64>(3)? as u64,
                    annotations: row.get(4)?,
                })
            },
        )
    }
}

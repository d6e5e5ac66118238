//! Manifests: stored byte for byte, with what they point to.
//!
//! Invariants: when a manifest is there, every blob it names is linked in its repository and stays so;
//! both are settled in the transaction that puts it. Reviews of its blobs are queued in the transaction
//! that takes it away.

use super::{Grace, Tx, blobs::digest};
use crate::{
    manifest::{Descriptor, Manifest},
    name::{Reference, Tag},
};
use base::{Digest, Error, Result, Timestamp};
use sqlite::Statements as _;

/// A manifest that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its row.
    pub id: i64,
    /// Its digest.
    pub digest: Digest,
    /// As it is served.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}

/// A manifest to put.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// Where to.
    pub repository: String,
    /// Verified.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
    /// As they came.
    pub bytes: Vec<u8>,
    /// Tags that shall point to it.
    pub tags: Vec<Tag>,
    /// Who puts it.
    pub who: String,
    /// With which client.
    pub client: String,
    /// Whether an index may list manifests that are not here.
    pub sparse: bool,
}

/// What a put found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there now; whether it was not before.
    Done {
        /// Whether it is new in this repository.
        new: bool,
    },
    /// It points to what is not here; nothing was changed.
    Missing(Missing),
}

/// What a manifest points to in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Blobs or manifests that are not in the repository.
    Unknown(Vec<Digest>),
    /// One that has another size than the manifest says.
    Size(Digest),
}

fn stored(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(from)?,
        digest: digest(row, from + 1)?,
        media_type: row.get(from + 2)?,
        size: row.get::<_, i64>(from + 3)? as u64,
    })
}

impl Tx<'_> {
    /// The manifest behind a tag or a digest; a damaged one is not there.
    ///
    /// # Errors
    /// Of the database.
    pub fn manifest(&self, repository: &str, reference: &Reference) -> Result<Option<Stored>> {
        let what = "cannot look up a manifest";
        match reference {
            Reference::Tag(tag) => self.one(
                what,
                "SELECT m.id, m.digest, m.media_type, m.size FROM repositories r
                 JOIN tags t ON t.repository = r.id AND t.name = ?2 JOIN manifests m ON m.id = t.manifest
                 WHERE r.name = ?1 AND m.damaged IS NULL",
                (repository, tag.as_str()),
                |row| stored(row, 0),
            ),
            Reference::Digest(digest) => self.one(
                what,
                "SELECT m.id, m.digest, m.media_type, m.size FROM repositories r
                 JOIN manifests m ON m.repository = r.id AND m.digest = ?2
                 WHERE r.name = ?1 AND m.damaged IS NULL",
                (repository, digest.as_str()),
                |row| stored(row, 0),
            ),
        }
    }

    /// The bytes of a manifest.
    ///
    /// # Errors
    /// Of the database.
    pub fn manifest_bytes(&self, manifest: i64) -> Result<Option<Vec<u8>>> {
        self.one(
            "cannot read a manifest",
            "SELECT bytes FROM manifest_bytes WHERE manifest = ?1",
            [manifest],
            |row| row.get(0),
        )
    }

    fn manifest_row(&self, repository: i64, digest: &Digest) -> Result<Option<(i64, u64)>> {
        self.one(
            "cannot look up a manifest",
            "SELECT id, size FROM manifests WHERE repository = ?1 AND digest = ?2",
            (repository, digest.as_str()),
            |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)),
        )
    }

    /// Puts a manifest and lets its tags point to it, when all it points to is here.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_manifest(&self, new: &NewManifest, now: Timestamp) -> Result<Put> {
        let repository = self.repository(&new.repository)?;
        let blobs = match self.needed_blobs(repository, &new.manifest.blobs)? {
            Ok(blobs) => blobs,
            Err(missing) => return Ok(Put::Missing(missing)),
        };
        if !new.sparse
            && let Some(missing) = self.missing_children(repository, &new.manifest.manifests)?
        {
            return Ok(Put::Missing(missing));
        }
        let repository = self.ensure_repository(&new.repository, now)?;
        let known = self.manifest_row(repository, &new.digest)?;
        let id = match known {
            Some((id, _)) => {
                self.renew_manifest(id, new)?;
                id
            }
            None => self.insert_manifest(repository, new, &blobs, now)?,
        };
        for tag in &new.tags {
            self.set_tag(repository, tag, id, &new.who, now)?;
        }
        Ok(Put::Done { new: known.is_none() })
    }

    fn needed_blobs(
        &self,
        repository: Option<i64>,
        wanted: &[Descriptor],
    ) -> Result<std::result::Result<Vec<i64>, Missing>> {
        let (mut rows, mut unknown) = (Vec::with_capacity(wanted.len()), Vec::new());
        for blob in wanted {
            let found: Option<(i64, i64)> = self.one(
                "cannot look up a blob",
                "SELECT b.id, b.size FROM blobs b JOIN links l ON l.repository = ?1 AND l.blob = b.id
                 WHERE b.digest = ?2 AND b.damaged IS NULL",
                (repository, blob.digest.as_str()),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            match found {
                None => unknown.push(blob.digest.clone()),
                Some((_, size)) if size as u64 != blob.size => {
                    return Ok(Err(Missing::Size(blob.digest.clone())));
                }
                Some((row, _)) => rows.push(row),
            }
        }
        Ok(if unknown.is_empty() { Ok(rows) } else { Err(Missing::Unknown(unknown)) })
    }

    fn missing_children(
        &self,
        repository: Option<i64>,
        wanted: &[Descriptor],
    ) -> Result<Option<Missing>> {
        let mut unknown = Vec::new();
        for child in wanted {
            let found = match repository {
                Some(repository) => self.manifest_row(repository, &child.digest)?,
                None => None,
            };
            match found {
                None => unknown.push(child.digest.clone()),
                Some((_, size)) if size != child.size => {
                    return Ok(Some(Missing::Size(child.digest.clone())));
                }
                Some(_) => {}
            }
        }
        Ok((!unknown.is_empty()).then_some(Missing::Unknown(unknown)))
    }

    fn insert_manifest(
        &self,
        repository: i64,
        new: &NewManifest,
        blobs: &[i64],
        now: Timestamp,
    ) -> Result<i64> {
        let what = "cannot store a manifest";
        let annotations = serde_json::to_string(&new.manifest.annotations)
            .map_err(|e| Error::internal(what).caused_by(e))?;
        self.run(
            what,
            "INSERT INTO manifests (repository, digest, media_type, artifact_type, subject, annotations, size,
             pushed, pushed_by, pushed_with) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                repository,
                new.digest.as_str(),
                &new.manifest.media_type,
                &new.manifest.artifact_type,
                new.manifest.subject.as_ref().map(Digest::as_str),
                annotations,
                new.bytes.len() as i64,
                now.unix_nanos(),
                &new.who,
                &new.client,
            ),
        )?;
        let id = self.last_id();
        self.run(
            what,
            "INSERT INTO manifest_bytes (manifest, bytes) VALUES (?1, ?2)",
            (id, &new.bytes),
        )?;
        for blob in blobs {
            self.run(
                what,
                "INSERT INTO manifest_blobs (repository, blob, manifest) VALUES (?1, ?2, ?3)",
                (repository, blob, id),
            )?;
            // It is needed from now on: when that ends, a review is queued again.
            self.run(
                what,
                "DELETE FROM reviews WHERE repository = ?1 AND blob = ?2",
                (repository, blob),
            )?;
        }
        for child in &new.manifest.manifests {
            self.run(
                what,
                "INSERT INTO manifest_children (repository, child, parent) VALUES (?1, ?2, ?3)",
                (repository, child.digest.as_str(), id),
            )?;
        }
        Ok(id)
    }

    /// Pushed again: its type as it was said last, its bytes mended if they were damaged.
    fn renew_manifest(&self, id: i64, new: &NewManifest) -> Result<()> {
        let what = "cannot renew a manifest";
        self.run(
            what,
            "UPDATE manifest_bytes SET bytes = ?2
             WHERE manifest = ?1 AND (SELECT damaged FROM manifests WHERE id = ?1) IS NOT NULL",
            (id, &new.bytes),
        )?;
        self.run(
            what,
            "UPDATE manifests SET media_type = ?2, damaged = NULL
             WHERE id = ?1 AND (media_type <> ?2 OR damaged IS NOT NULL)",
            (id, &new.manifest.media_type),
        )?;
        Ok(())
    }

    /// Takes a manifest and all its tags away: the tags, or `None` when it is not there.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_manifest(
        &self,
        repository: &str,
        digest: &Digest,
        now: Timestamp,
        grace: Grace,
    ) -> Result<Option<Vec<String>>> {
        let Some(repository) = self.repository(repository)? else { return Ok(None) };
        let Some((id, _)) = self.manifest_row(repository, digest)? else { return Ok(None) };
        let what = "cannot delete a manifest";
        let tags: Vec<String> = self.many(
            what,
            "SELECT name FROM tags WHERE manifest = ?1 ORDER BY name",
            [id],
            |row| row.get(0),
        )?;
        for tag in &tags {
            self.drop_tag(repository, tag, now)?;
        }
        self.run(
            what,
            "INSERT INTO reviews (repository, blob, due)
             SELECT repository, blob, ?2 FROM manifest_blobs WHERE manifest = ?1
             ON CONFLICT DO UPDATE SET due = max(due, excluded.due)",
            (id, grace.due(now)),
        )?;
        // Bytes, blobs and children go by their foreign keys.
        self.run(what, "DELETE FROM manifests WHERE id = ?1", [id])?;
        Ok(Some(tags))
    }

    /// A manifest was pulled.
    ///
    /// # Errors
    /// Of the database.
    pub fn pulled(&self, manifest: i64, now: Timestamp) -> Result<()> {
        self.run(
            "cannot note a pull",
            "UPDATE manifests SET pulls = pulls + 1, pulled = max(coalesce(pulled, 0), ?2) WHERE id = ?1",
            (manifest, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// When a manifest was pulled last, and how often.
    ///
    /// # Errors
    /// Of the database.
    pub fn pulls(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<(Option<Timestamp>, i64)>> {
        self.one(
            "cannot look up a manifest's pulls",
            "SELECT m.pulled, m.pulls FROM repositories r
             JOIN manifests m ON m.repository = r.id AND m.digest = ?2 WHERE r.name = ?1",
            (repository, digest.as_str()),
            |row| {
                let at: Option<i64> = row.get(0)?;
                Ok((at.map(|n| Timestamp::from_unix_nanos(n.into())), row.get(1)?))
            },
        )
    }

    /// The next manifests by row behind `after`, with where they are, for the scrub.
    ///
    /// # Errors
    /// Of the database.
    pub fn manifests_after(&self, after: i64, limit: usize) -> Result<Vec<(String, Stored)>> {
        self.many(
            "cannot list manifests",
            "SELECT r.name, m.id, m.digest, m.media_type, m.size FROM manifests m
             JOIN repositories r ON r.id = m.repository WHERE m.id > ?1 ORDER BY m.id LIMIT ?2",
            (after, limit as i64),
            |row| Ok((row.get(0)?, stored(row, 1)?)),
        )
    }

    /// Writes down that a manifest's bytes are not those of its digest, or that they are again.
    ///
    /// # Errors
    /// Of the database.
    pub fn mark_manifest(&self, id: i64, damaged: bool, now: Timestamp) -> Result<()> {
        self.run(
            "cannot mark a manifest",
            "UPDATE manifests SET damaged = CASE WHEN ?2 THEN coalesce(damaged, ?3) END WHERE id = ?1",
            (id, damaged, now.unix_nanos()),
        )?;
        Ok(())
    }
}

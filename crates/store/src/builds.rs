//! Builds (a governance record each) and the build cache.

use crate::{Tx, decode, encode};
use base::{Digest, Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// A build's row.
#[derive(Clone, Debug)]
pub struct Build<T> {
    /// Its id.
    pub id: String,
    /// When it began.
    pub started: Timestamp,
    /// The image it made.
    pub image: Option<Digest>,
    /// The owner's record.
    pub doc: T,
}

/// A build cache entry: what a key of content led to.
#[derive(Clone, Debug)]
pub struct CacheEntry<T> {
    /// Content key.
    pub key: String,
    /// The image that the step made, if it made one; the entry goes with it.
    pub image: Option<Digest>,
    /// Last hit.
    pub used: Timestamp,
    /// The owner's record.
    pub doc: T,
}

impl Tx<'_> {
    /// Inserts or replaces a build.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_build<T: Serialize>(&self, row: &Build<T>) -> Result<()> {
        self.run(
            "cannot store the build",
            "INSERT INTO builds (id, started, image, doc) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET image = ?3, doc = ?4",
            (
                &row.id,
                row.started.unix_nanos(),
                row.image.as_ref().map(Digest::as_str),
                encode("a build", &row.doc)?,
            ),
        )?;
        Ok(())
    }

    /// Builds that made `image`, newest first.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn builds_of<T: DeserializeOwned>(&self, image: &Digest) -> Result<Vec<Build<T>>> {
        let rows = self.many(
            "cannot list builds",
            "SELECT id, started, image, doc FROM builds WHERE image = ?1 ORDER BY started DESC",
            [image.as_str()],
            build_columns,
        )?;
        rows.into_iter().map(build_from).collect()
    }

    /// All builds, newest first, at most `limit`.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn builds<T: DeserializeOwned>(&self, limit: u32) -> Result<Vec<Build<T>>> {
        let rows = self.many(
            "cannot list builds",
            "SELECT id, started, image, doc FROM builds ORDER BY started DESC LIMIT ?1",
            [limit],
            build_columns,
        )?;
        rows.into_iter().map(build_from).collect()
    }

    /// Inserts or replaces what BuildKit's clients are told of a build that is over.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_build_history(&self, reference: &str, created: Timestamp, doc: &[u8]) -> Result<()> {
        self.run(
            "cannot store the history of a build",
            "INSERT INTO build_history (reference, created, doc) VALUES (?1, ?2, ?3)
             ON CONFLICT (reference) DO UPDATE SET doc = ?3",
            (reference, created.unix_nanos(), doc),
        )?;
        Ok(())
    }

    /// All of it, newest first.
    ///
    /// # Errors
    /// Of the database.
    pub fn build_history(&self) -> Result<Vec<Vec<u8>>> {
        self.many(
            "cannot list the history of builds",
            "SELECT doc FROM build_history ORDER BY created DESC",
            [],
            |row| row.get(0),
        )
    }

    /// Forgets one; whether it was there.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_build_history(&self, reference: &str) -> Result<bool> {
        let gone = self.run(
            "cannot forget the history of a build",
            "DELETE FROM build_history WHERE reference = ?1",
            [reference],
        )?;
        Ok(gone > 0)
    }

    /// Inserts or replaces a cache entry.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_cache<T: Serialize>(&self, entry: &CacheEntry<T>) -> Result<()> {
        self.run(
            "cannot store the build cache entry",
            "INSERT INTO build_cache (key, image, used, doc) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET image = ?2, used = ?3, doc = ?4",
            (
                &entry.key,
                entry.image.as_ref().map(Digest::as_str),
                entry.used.unix_nanos(),
                encode("a cache entry", &entry.doc)?,
            ),
        )?;
        Ok(())
    }

    /// The cache entry of `key`.
    ///
    /// # Errors
    /// `Internal` when its document cannot be read.
    pub fn cache<T: DeserializeOwned>(&self, key: &str) -> Result<Option<CacheEntry<T>>> {
        let found = self.one(
            "cannot read the build cache",
            "SELECT key, image, used, doc FROM build_cache WHERE key = ?1",
            [key],
            build_cache_columns,
        )?;
        found.map(cache_from).transpose()
    }

    /// The cache entries whose keys begin with `prefix`.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn cache_below<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<CacheEntry<T>>> {
        // Keys are ASCII, so the prefix followed by the last ASCII character ends the range.
        let rows = self.many(
            "cannot read the build cache",
            "SELECT key, image, used, doc FROM build_cache WHERE key >= ?1 AND key < ?2",
            [prefix.to_owned(), format!("{prefix}\u{7f}")],
            build_cache_columns,
        )?;
        rows.into_iter().map(cache_from).collect()
    }

    /// All cache entries, least recently used first.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn cache_entries<T: DeserializeOwned>(&self) -> Result<Vec<CacheEntry<T>>> {
        let rows = self.many(
            "cannot list the build cache",
            "SELECT key, image, used, doc FROM build_cache ORDER BY used",
            [],
            build_cache_columns,
        )?;
        rows.into_iter().map(cache_from).collect()
    }

    /// Deletes a cache entry.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_cache(&self, key: &str) -> Result<()> {
        self.run(
            "cannot delete the build cache entry",
            "DELETE FROM build_cache WHERE key = ?1",
            [key],
        )?;
        Ok(())
    }

    /// Deletes the cache entries that led to `image`.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_cache_of(&self, image: &Digest) -> Result<()> {
        self.run(
            "cannot delete build cache entries",
            "DELETE FROM build_cache WHERE image = ?1",
            [image.as_str()],
        )?;
        Ok(())
    }
}

type BuildColumns = (String, i64, Option<String>, String);

fn build_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<BuildColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn build_cache_columns(
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<(String, Option<String>, i64, String)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn build_from<T: DeserializeOwned>(columns: BuildColumns) -> Result<Build<T>> {
    Ok(Build {
        id: columns.0,
        started: Timestamp::from_unix_nanos(columns.1.into()),
        image: columns.2.map(|i| i.parse()).transpose()?,
        doc: decode("a build", &columns.3)?,
    })
}

fn cache_from<T: DeserializeOwned>(
    columns: (String, Option<String>, i64, String),
) -> Result<CacheEntry<T>> {
    Ok(CacheEntry {
        key: columns.0,
        image: columns.1.map(|i| i.parse()).transpose()?,
        used: Timestamp::from_unix_nanos(columns.2.into()),
        doc: decode("a cache entry", &columns.3)?,
    })
}

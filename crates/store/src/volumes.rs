//! Named and anonymous volumes.

use crate::{Tx, decode, encode};
use base::{Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// A volume's row.
#[derive(Clone, Debug)]
pub struct Volume<T> {
    /// Its unique name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The owner's record.
    pub doc: T,
}

impl Tx<'_> {
    /// Inserts or replaces a volume.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_volume<T: Serialize>(&self, row: &Volume<T>) -> Result<()> {
        self.run(
            "cannot store the volume",
            "INSERT INTO volumes (name, created, doc) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET doc = ?3",
            (&row.name, row.created.unix_nanos(), encode("a volume", &row.doc)?),
        )?;
        Ok(())
    }

    /// One volume.
    ///
    /// # Errors
    /// `Internal` when its document cannot be read.
    pub fn volume<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Volume<T>>> {
        let found = self.one(
            "cannot read the volume",
            "SELECT name, created, doc FROM volumes WHERE name = ?1",
            [name],
            columns,
        )?;
        found.map(from).transpose()
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn volumes<T: DeserializeOwned>(&self) -> Result<Vec<Volume<T>>> {
        let rows = self.many(
            "cannot list volumes",
            "SELECT name, created, doc FROM volumes ORDER BY name",
            [],
            columns,
        )?;
        rows.into_iter().map(from).collect()
    }

    /// Deletes a volume's row.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_volume(&self, name: &str) -> Result<bool> {
        Ok(self.run("cannot delete the volume", "DELETE FROM volumes WHERE name = ?1", [name])? > 0)
    }
}

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, i64, String)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn from<T: DeserializeOwned>(columns: (String, i64, String)) -> Result<Volume<T>> {
    Ok(Volume {
        name: columns.0,
        created: Timestamp::from_unix_nanos(columns.1.into()),
        doc: decode("a volume", &columns.2)?,
    })
}

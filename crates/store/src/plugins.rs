//! Managed plugins.

use crate::{Tx, decode, encode};
use base::Result;
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

impl Tx<'_> {
    /// Inserts or replaces a plugin.
    ///
    /// # Errors
    /// `Conflict` when another one has the name.
    pub fn put_plugin<T: Serialize>(&self, id: &str, name: &str, doc: &T) -> Result<()> {
        self.run(
            "cannot store the plugin",
            "INSERT INTO plugins (id, name, doc) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET name = ?2, doc = ?3",
            (id, name, encode("a plugin", doc)?),
        )?;
        Ok(())
    }

    /// Deletes a plugin.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_plugin(&self, id: &str) -> Result<()> {
        self.run("cannot delete the plugin", "DELETE FROM plugins WHERE id = ?1", [id])?;
        Ok(())
    }

    /// All plugins, by name.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn plugins<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let found =
            self.many("cannot list plugins", "SELECT doc FROM plugins ORDER BY name", [], |row| {
                row.get::<_, String>(0)
            })?;
        found.iter().map(|text| decode("a plugin", text)).collect()
    }
}

//! Networks and, inside their documents, address leases.

use crate::{Tx, decode, encode};
use base::{NetworkId, Result};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// A network's row. Names need not be unique in Docker's model; who cares asks first.
#[derive(Clone, Debug)]
pub struct Network<T> {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// The owner's record.
    pub doc: T,
}

impl Tx<'_> {
    /// Inserts or replaces a network.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_network<T: Serialize>(&self, row: &Network<T>) -> Result<()> {
        self.run(
            "cannot store the network",
            "INSERT INTO networks (id, name, doc) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET name = ?2, doc = ?3",
            (row.id.as_str(), &row.name, encode("a network", &row.doc)?),
        )?;
        Ok(())
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn networks<T: DeserializeOwned>(&self) -> Result<Vec<Network<T>>> {
        let rows = self.many(
            "cannot list networks",
            "SELECT id, name, doc FROM networks ORDER BY name",
            [],
            |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            },
        )?;
        rows.into_iter()
            .map(|(id, name, doc)| {
                Ok(Network { id: id.parse()?, name, doc: decode("a network", &doc)? })
            })
            .collect()
    }

    /// Deletes a network's row.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_network(&self, id: &NetworkId) -> Result<bool> {
        Ok(self.run(
            "cannot delete the network",
            "DELETE FROM networks WHERE id = ?1",
            [id.as_str()],
        )? > 0)
    }
}

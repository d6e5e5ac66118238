//! Containers: one row each, the engine's record as a document.

use crate::{Tx, decode, encode};
use base::{ContainerId, Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// A container's row.
#[derive(Clone, Debug)]
pub struct Container<T> {
    /// Its id.
    pub id: ContainerId,
    /// Its unique name, without slash.
    pub name: String,
    /// Id of its image (or the reference as given, when it has none).
    pub image: String,
    /// When it was created.
    pub created: Timestamp,
    /// The engine's record.
    pub doc: T,
}

impl Tx<'_> {
    /// Inserts or replaces a container.
    ///
    /// # Errors
    /// `Conflict` when another container has the name.
    pub fn put_container<T: Serialize>(&self, row: &Container<T>) -> Result<()> {
        self.run(
            "cannot store the container",
            "INSERT INTO containers (id, name, image, created, doc) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = ?2, image = ?3, doc = ?5",
            (
                row.id.as_str(),
                &row.name,
                &row.image,
                row.created.unix_nanos(),
                encode("a container", &row.doc)?,
            ),
        )?;
        Ok(())
    }

    /// Replaces the document of container `id` only; nothing happens when it does not exist.
    ///
    /// # Errors
    /// Of the database.
    pub fn update_container<T: Serialize>(&self, id: &ContainerId, doc: &T) -> Result<()> {
        self.run(
            "cannot store the container",
            "UPDATE containers SET doc = ?2 WHERE id = ?1",
            (id.as_str(), encode("a container", doc)?),
        )?;
        Ok(())
    }

    /// Deletes the row of `id`.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_container(&self, id: &ContainerId) -> Result<bool> {
        Ok(self.run(
            "cannot delete the container",
            "DELETE FROM containers WHERE id = ?1",
            [id.as_str()],
        )? > 0)
    }

    /// All containers.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn containers<T: DeserializeOwned>(&self) -> Result<Vec<Container<T>>> {
        let rows = self.many(
            "cannot list containers",
            "SELECT id, name, image, created, doc FROM containers ORDER BY created",
            [],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, String>(4)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(id, name, image, created, doc)| {
                Ok(Container {
                    id: id.parse()?,
                    name,
                    image,
                    created: Timestamp::from_unix_nanos(created.into()),
                    doc: decode("a container", &doc)?,
                })
            })
            .collect()
    }
}

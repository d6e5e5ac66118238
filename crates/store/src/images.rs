//! Images, their layers, the tags that point to them now and pointed before.

use crate::{Tx, decode, encode};
use base::{Digest, Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// An image's row. `seen` and `used` are governance facts kept as columns.
#[derive(Clone, Debug)]
pub struct Image<T> {
    /// Digest of the config.
    pub id: Digest,
    /// First seen on this host.
    pub seen: Timestamp,
    /// Last used: container created or started, base of a build, saved or pushed.
    pub used: Timestamp,
    /// The image that a build or commit started from, when known here.
    pub parent: Option<Digest>,
    /// Layers, lowest first, by layer id.
    pub layers: Vec<Digest>,
    /// The owner's record.
    pub doc: T,
}

/// A layer's row.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// Layer id: DiffID, or chain id for a layer bound to its chain.
    pub id: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
    /// The owner's record.
    pub doc: T,
}

/// A tag that points to an image now. `reference` is the full normalised text, tag or digest included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `docker.io/library/x:latest` or `docker.io/library/x@sha256:...`.
    pub reference: String,
    /// The image.
    pub image: Digest,
    /// Since when.
    pub since: Timestamp,
    /// The manifest or index that a registry resolved it to, when it came so.
    pub target: Option<Digest>,
}

/// A tag that pointed to an image once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSpan {
    /// The reference.
    pub reference: String,
    /// From.
    pub since: Timestamp,
    /// To.
    pub until: Timestamp,
}

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos.into())
}

impl Tx<'_> {
    /// Inserts or replaces an image with its list of layers. `seen` and `used` of an existing row stay.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_image<T: Serialize>(&self, row: &Image<T>) -> Result<()> {
        let what = "cannot store the image";
        self.run(
            what,
            "INSERT INTO images (id, seen, used, parent, doc) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET parent = coalesce(?4, parent), doc = ?5",
            (
                row.id.as_str(),
                row.seen.unix_nanos(),
                row.used.unix_nanos(),
                row.parent.as_ref().map(Digest::as_str),
                encode("an image", &row.doc)?,
            ),
        )?;
        self.run(what, "DELETE FROM image_layers WHERE image = ?1", [row.id.as_str()])?;
        for (position, layer) in row.layers.iter().enumerate() {
            self.run(
                what,
                "INSERT INTO image_layers (image, position, layer) VALUES (?1, ?2, ?3)",
                (row.id.as_str(), position as i64, layer.as_str()),
            )?;
        }
        Ok(())
    }

    /// Notes that image `id` was used now; at most one write a minute per image.
    ///
    /// # Errors
    /// Of the database.
    pub fn touch_image(&self, id: &Digest, now: Timestamp) -> Result<()> {
        let minute_ago = now.unix_nanos() - 60_000_000_000;
        self.run(
            "cannot note the use of the image",
            "UPDATE images SET used = ?2 WHERE id = ?1 AND used < ?3",
            (id.as_str(), now.unix_nanos(), minute_ago),
        )?;
        Ok(())
    }

    /// Deletes an image's row; its layers' rows stay until [`Tx::orphan_layers`] names them.
    ///
    /// # Errors
    /// `Conflict` when a tag still points to it.
    pub fn delete_image(&self, id: &Digest) -> Result<bool> {
        Ok(self.run(
            "cannot delete the image",
            "DELETE FROM images WHERE id = ?1",
            [id.as_str()],
        )? > 0)
    }

    /// One image.
    ///
    /// # Errors
    /// `Internal` when its document cannot be read.
    pub fn image<T: DeserializeOwned>(&self, id: &Digest) -> Result<Option<Image<T>>> {
        let found = self.one(
            "cannot read the image",
            "SELECT id, seen, used, parent, doc FROM images WHERE id = ?1",
            [id.as_str()],
            image_columns,
        )?;
        found.map(|columns| self.image_from(columns)).transpose()
    }

    /// All images, first seen first.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn images<T: DeserializeOwned>(&self) -> Result<Vec<Image<T>>> {
        let rows = self.many(
            "cannot list images",
            "SELECT id, seen, used, parent, doc FROM images ORDER BY seen, id",
            [],
            image_columns,
        )?;
        rows.into_iter().map(|columns| self.image_from(columns)).collect()
    }

    /// Ids of images whose hexadecimal part starts with `prefix`, at most two.
    ///
    /// # Errors
    /// Of the database.
    pub fn images_by_prefix(&self, prefix: &str) -> Result<Vec<Digest>> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let pattern = format!("sha256:{}*", prefix.to_ascii_lowercase());
        let found = self.many(
            "cannot look up the image",
            "SELECT id FROM images WHERE id GLOB ?1 LIMIT 2",
            [pattern],
            |row| row.get::<_, String>(0),
        )?;
        found.iter().map(|id| id.parse()).collect()
    }

    /// Ids of images built or committed on top of `parent`.
    ///
    /// # Errors
    /// Of the database.
    pub fn image_children(&self, parent: &Digest) -> Result<Vec<Digest>> {
        let found = self.many(
            "cannot list the image's children",
            "SELECT id FROM images WHERE parent = ?1",
            [parent.as_str()],
            |row| row.get::<_, String>(0),
        )?;
        found.iter().map(|id| id.parse()).collect()
    }

    fn image_from<T: DeserializeOwned>(&self, columns: ImageColumns) -> Result<Image<T>> {
        let layers = self.many(
            "cannot list the image's layers",
            "SELECT layer FROM image_layers WHERE image = ?1 ORDER BY position",
            [&columns.0],
            |row| row.get::<_, String>(0),
        )?;
        Ok(Image {
            id: columns.0.parse()?,
            seen: at(columns.1),
            used: at(columns.2),
            parent: columns.3.map(|p| p.parse()).transpose()?,
            layers: layers.iter().map(|l| l.parse()).collect::<Result<_>>()?,
            doc: decode("an image", &columns.4)?,
        })
    }

    /// Inserts a layer's row, unless it is there.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_layer<T: Serialize>(&self, row: &Layer<T>) -> Result<()> {
        self.run(
            "cannot store the layer",
            "INSERT INTO layers (id, diff_id, size, doc) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET doc = ?4",
            (row.id.as_str(), row.diff_id.as_str(), row.size as i64, encode("a layer", &row.doc)?),
        )?;
        Ok(())
    }

    /// One layer.
    ///
    /// # Errors
    /// `Internal` when its document cannot be read.
    pub fn layer<T: DeserializeOwned>(&self, id: &Digest) -> Result<Option<Layer<T>>> {
        let found = self.one(
            "cannot read the layer",
            "SELECT id, diff_id, size, doc FROM layers WHERE id = ?1",
            [id.as_str()],
            layer_columns,
        )?;
        found.map(layer_from).transpose()
    }

    /// All layers.
    ///
    /// # Errors
    /// `Internal` when a document cannot be read.
    pub fn layers<T: DeserializeOwned>(&self) -> Result<Vec<Layer<T>>> {
        let rows = self.many(
            "cannot list layers",
            "SELECT id, diff_id, size, doc FROM layers",
            [],
            layer_columns,
        )?;
        rows.into_iter().map(layer_from).collect()
    }

    /// Layers that no image uses and no lease holds.
    ///
    /// # Errors
    /// Of the database.
    pub fn orphan_layers(&self) -> Result<Vec<Digest>> {
        let found = self.many(
            "cannot look for unused layers",
            "SELECT id FROM layers WHERE NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = layers.id)
             AND NOT EXISTS (SELECT 1 FROM leases WHERE kind = 'layer' AND object = layers.id)",
            [],
            |row| row.get::<_, String>(0),
        )?;
        found.iter().map(|id| id.parse()).collect()
    }

    /// Deletes a layer's row.
    ///
    /// # Errors
    /// Of the database.
    pub fn delete_layer(&self, id: &Digest) -> Result<()> {
        self.run("cannot delete the layer", "DELETE FROM layers WHERE id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// Points `reference` to `image`; what it pointed to before goes to the history and is returned.
    ///
    /// # Errors
    /// Of the database.
    pub fn set_tag(
        &self,
        reference: &str,
        image: &Digest,
        now: Timestamp,
    ) -> Result<Option<Digest>> {
        let before = self.tag(reference)?;
        if before.as_ref().is_some_and(|t| t.image == *image) {
            return Ok(Some(image.clone()));
        }
        if let Some(before) = &before {
            self.end_tag(before, now)?;
        }
        self.run("cannot store the tag", "DELETE FROM variants WHERE reference = ?1", [reference])?;
        self.run(
            "cannot store the tag",
            "INSERT INTO tags (reference, image, since) VALUES (?1, ?2, ?3)
             ON CONFLICT (reference) DO UPDATE SET image = ?2, since = ?3, target = NULL",
            (reference, image.as_str(), now.unix_nanos()),
        )?;
        Ok(before.map(|t| t.image))
    }

    /// Takes a tag's last move back, as if it had not been: it means again what it was taken from, if that is here, else
    /// nothing.
    ///
    /// # Errors
    /// Of the database.
    pub fn take_tag_back(&self, tag: &Tag) -> Result<()> {
        let what = "cannot take the tag back";
        let before = self.one(
            what,
            "SELECT image, since FROM tag_history WHERE reference = ?1 AND until = ?2
             AND image IN (SELECT id FROM images) AND image <> ?3",
            (&tag.reference, tag.since.unix_nanos(), tag.image.as_str()),
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
        )?;
        let Some((image, since)) = before else {
            self.run(what, "DELETE FROM tags WHERE reference = ?1", [&tag.reference])?;
            return Ok(());
        };
        self.run(
            what,
            "DELETE FROM tag_history WHERE reference = ?1 AND until = ?2",
            (&tag.reference, tag.since.unix_nanos()),
        )?;
        self.run(
            what,
            "UPDATE tags SET image = ?2, since = ?3, target = NULL WHERE reference = ?1",
            (&tag.reference, image, since),
        )?;
        Ok(())
    }

    /// Notes what a registry resolved a tag to.
    ///
    /// # Errors
    /// Of the database.
    pub fn set_target(&self, reference: &str, target: Option<&Digest>) -> Result<()> {
        self.run(
            "cannot store the tag",
            "UPDATE tags SET target = ?2 WHERE reference = ?1",
            (reference, target.map(Digest::as_str)),
        )?;
        Ok(())
    }

    /// Adds an image that a tag means for another platform.
    ///
    /// # Errors
    /// Of the database.
    pub fn add_variant(&self, reference: &str, image: &Digest) -> Result<()> {
        self.run(
            "cannot store the tag",
            "INSERT OR IGNORE INTO variants (reference, image) VALUES (?1, ?2)",
            (reference, image.as_str()),
        )?;
        Ok(())
    }

    /// Takes an image for another platform away from a tag.
    ///
    /// # Errors
    /// Of the database.
    pub fn remove_variant(&self, reference: &str, image: &Digest) -> Result<bool> {
        Ok(self.run(
            "cannot store the tag",
            "DELETE FROM variants WHERE reference = ?1 AND image = ?2",
            (reference, image.as_str()),
        )? > 0)
    }

    /// Images that a tag means for other platforms than its first.
    ///
    /// # Errors
    /// Of the database.
    pub fn variants(&self, reference: &str) -> Result<Vec<Digest>> {
        let found = self.many(
            "cannot read the tag",
            "SELECT image FROM variants WHERE reference = ?1 ORDER BY image",
            [reference],
            |row| row.get::<_, String>(0),
        )?;
        found.iter().map(|id| id.parse()).collect()
    }

    /// All images for other platforms, with their tags.
    ///
    /// # Errors
    /// Of the database.
    pub fn all_variants(&self) -> Result<Vec<(String, Digest)>> {
        let found = self.many(
            "cannot list tags",
            "SELECT reference, image FROM variants ORDER BY reference, image",
            [],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        found.into_iter().map(|(reference, id)| Ok((reference, id.parse()?))).collect()
    }

    /// Makes another of a tag's images its first; what was first stays as one of the others.
    ///
    /// # Errors
    /// Of the database.
    pub fn prefer_variant(&self, reference: &str, image: &Digest, keep: bool) -> Result<()> {
        let Some(before) = self.tag(reference)? else { return Ok(()) };
        self.remove_variant(reference, image)?;
        if keep {
            self.add_variant(reference, &before.image)?;
        }
        self.run(
            "cannot store the tag",
            "UPDATE tags SET image = ?2 WHERE reference = ?1",
            (reference, image.as_str()),
        )?;
        Ok(())
    }

    /// Removes a tag; its span goes to the history.
    ///
    /// # Errors
    /// Of the database.
    pub fn remove_tag(&self, reference: &str, now: Timestamp) -> Result<Option<Digest>> {
        let Some(before) = self.tag(reference)? else { return Ok(None) };
        self.end_tag(&before, now)?;
        self.run("cannot delete the tag", "DELETE FROM tags WHERE reference = ?1", [reference])?;
        Ok(Some(before.image))
    }

    fn end_tag(&self, tag: &Tag, now: Timestamp) -> Result<()> {
        self.run(
            "cannot store the tag's history",
            "INSERT INTO tag_history (reference, image, since, until) VALUES (?1, ?2, ?3, ?4)",
            (&tag.reference, tag.image.as_str(), tag.since.unix_nanos(), now.unix_nanos()),
        )?;
        Ok(())
    }

    /// The tag `reference`.
    ///
    /// # Errors
    /// Of the database.
    pub fn tag(&self, reference: &str) -> Result<Option<Tag>> {
        let found = self.one(
            "cannot read the tag",
            "SELECT reference, image, since, target FROM tags WHERE reference = ?1",
            [reference],
            tag_columns,
        )?;
        found.map(tag_from).transpose()
    }

    /// All tags, by reference.
    ///
    /// # Errors
    /// Of the database.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let rows = self.many(
            "cannot list tags",
            "SELECT reference, image, since, target FROM tags ORDER BY reference",
            [],
            tag_columns,
        )?;
        rows.into_iter().map(tag_from).collect()
    }

    /// Tags of `image`, those that mean it for a platform only too, by reference.
    ///
    /// # Errors
    /// Of the database.
    pub fn tags_of(&self, image: &Digest) -> Result<Vec<Tag>> {
        let rows = self.many(
            "cannot list tags",
            "SELECT reference, image, since, target FROM tags WHERE image = ?1
             OR reference IN (SELECT reference FROM variants WHERE image = ?1) ORDER BY reference",
            [image.as_str()],
            tag_columns,
        )?;
        rows.into_iter().map(tag_from).collect()
    }

    /// Tags that pointed to `image` once, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub fn tag_history(&self, image: &Digest) -> Result<Vec<TagSpan>> {
        self.many(
            "cannot list the tag history",
            "SELECT reference, since, until FROM tag_history WHERE image = ?1 ORDER BY since",
            [image.as_str()],
            |row| {
                Ok(TagSpan {
                    reference: row.get(0)?,
                    since: at(row.get(1)?),
                    until: at(row.get(2)?),
                })
            },
        )
    }
}

type ImageColumns = (String, i64, i64, Option<String>, String);

fn image_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<ImageColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

type LayerColumns = (String, String, i64, String);

fn layer_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<LayerColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn layer_from<T: DeserializeOwned>(columns: LayerColumns) -> Result<Layer<T>> {
    Ok(Layer {
        id: columns.0.parse()?,
        diff_id: columns.1.parse()?,
        size: columns.2.max(0) as u64,
        doc: decode("a layer", &columns.3)?,
    })
}

type TagColumns = (String, String, i64, Option<String>);

fn tag_columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<TagColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn tag_from(columns: TagColumns) -> Result<Tag> {
    Ok(Tag {
        reference: columns.0,
        image: columns.1.parse()?,
        since: at(columns.2),
        target: columns.3.map(|t| t.parse()).transpose()?,
    })
}

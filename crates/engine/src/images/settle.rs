//! What is on the disk for good, and what a power cut may still tear.
//!
//! Flow: a row that points to files that were not flushed goes together with a note (`store::Unsettled`); whoever
//! acknowledges something flushes all files, then takes the notes away in the transaction of its own rows. What the notes
//! of an engine name whose machine went down is looked at before the next one serves.
//! Why: the database is one file, so what one client's acknowledgement flushes of it holds rows of all others', whose
//! files nobody has flushed yet.

use super::{Images, NewImage, Record};
use base::{Digest, ImageId, Result};
use std::{collections::BTreeSet, sync::PoisonError};
use store::{Kind, Tx, Unsettled};

/// The boot that notes are made in.
pub(super) fn boot() -> &'static str {
    sys::system::boot().unwrap_or_default()
}

impl Images {
    /// Flushes all files that rows point to, then commits what `then` writes, and flushes that.
    ///
    /// # Errors
    /// Of the disk and of `then`.
    pub(super) fn for_good<T>(&self, then: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let waiting = self.store.read(|tx| tx.unsettled())?;
        // The whole file system at once: cheaper than a flush for each of thousands of files.
        self.layers.sync()?;
        let done = self.store.write(|tx| {
            let done = then(tx)?;
            tx.settled(&waiting)?;
            Ok(done)
        })?;
        self.store.flush()?;
        Ok(done)
    }

    /// Makes everything so far survive a power cut.
    ///
    /// # Errors
    /// Of disk and database.
    pub fn settle(&self) -> Result<()> {
        if self.store.read(|tx| tx.unsettled())?.is_empty() {
            return self.store.flush();
        }
        self.for_good(|_| Ok(()))
    }

    /// Whether files of one of `images` may not be on the disk: another client's build made them.
    pub(super) fn waits_for_disk(&self, images: &[NewImage]) -> Result<bool> {
        let waiting = self.store.read(|tx| tx.unsettled())?;
        Ok(waiting.iter().any(|one| {
            images.iter().any(|image| match one.kind {
                Kind::Image => one.object == *image.config.id(),
                Kind::Layer => image.layers.iter().any(|layer| layer.layer == one.object),
            })
        }))
    }

    /// As [`Images::waits_for_disk`], for an image that has its row.
    pub(super) fn is_unsettled(&self, id: &ImageId) -> Result<bool> {
        let (waiting, row) =
            self.store.read(|tx| Ok((tx.unsettled()?, tx.image::<serde::de::IgnoredAny>(id)?)))?;
        let layers = row.map(|row| row.layers).unwrap_or_default();
        Ok(waiting.iter().any(|one| match one.kind {
            Kind::Image => one.object == *id,
            Kind::Layer => layers.contains(&one.object),
        }))
    }

    /// Looks at what was not flushed when the last engine ended, when the machine `went_down` with it: what is torn goes as
    /// if it had never been. Nobody was told that it is there. Returns the images that went.
    ///
    /// # Errors
    /// Of disk and database.
    pub fn take_up(&self, went_down: bool) -> Result<Vec<ImageId>> {
        let waiting = self.store.read(|tx| tx.unsettled())?;
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let torn: Vec<&Unsettled> = waiting
            .iter()
            .filter(|one| (went_down || one.boot != boot()) && !self.is_sound(one))
            .collect();
        let of = |kind| -> BTreeSet<&Digest> {
            torn.iter().filter(|one| one.kind == kind).map(|one| &one.object).collect()
        };
        let (images, layers) = (of(Kind::Image), of(Kind::Layer));
        let gone = self.store.write(|tx| {
            let rows = tx.images::<serde::de::IgnoredAny>()?.into_iter().filter(|row| {
                images.contains(&row.id) || row.layers.iter().any(|layer| layers.contains(layer))
            });
            let gone: Vec<ImageId> = rows.map(|row| row.id).collect();
            for id in &gone {
                forget(tx, id)?;
            }
            layers.iter().try_for_each(|layer| tx.delete_layer(layer))?;
            Ok(gone)
        })?;
        for id in &gone {
            self.content.remove(id)?;
        }
        for layer in layers {
            if self.layers.exists(layer) {
                self.layers.remove(layer)?;
            }
        }
        self.settle()?;
        Ok(gone)
    }

    /// Whether the files of one of them are what they were.
    fn is_sound(&self, one: &Unsettled) -> bool {
        match one.kind {
            Kind::Layer => self.layers.verify(&one.object).is_ok(),
            Kind::Image => {
                let Ok(Some(row)) = self.store.read(|tx| tx.image::<Record>(&one.object)) else {
                    return false;
                };
                let Record { manifest, manifests, blobs, .. } = row.doc;
                let mut all = [one.object.clone()].into_iter().chain(manifest).chain(manifests);
                all.all(|blob| self.content.is_sound(&blob))
                    && blobs.iter().all(|blob| self.content.is_sound(blob))
            }
        }
    }
}

/// An image goes without a trace: its names mean what they meant before.
fn forget(tx: &Tx<'_>, id: &ImageId) -> Result<()> {
    for tag in tx.tags_of(id)? {
        if tx.remove_variant(&tag.reference, id)? {
            continue;
        }
        match tx.variants(&tag.reference)?.first() {
            Some(next) => tx.prefer_variant(&tag.reference, next, false)?,
            None => tx.take_tag_back(&tag)?,
        }
    }
    tx.delete_cache_of(id)?;
    tx.delete_image(id)?;
    Ok(())
}

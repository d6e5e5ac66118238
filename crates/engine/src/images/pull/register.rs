//! The end of a pull: image, name and facts in one transaction.

use super::{Arrived, Chosen, NewLayer, choose::Further};
use crate::images::{Hold, How, Images, NewImage, Record, transfers::HOLDER};
use base::{Digest, ImageId, Platform, Principal, Reference, Result, Timestamp, event::Event};
use image::ConfigBlob;
use std::sync::{Arc, PoisonError};
use store::Tx;

/// A pulled image whose layers are here.
pub(super) struct Pulled {
    pub(super) reference: Reference,
    pub(super) config: ConfigBlob,
    pub(super) layers: Vec<NewLayer>,
    pub(super) chosen: Chosen,
    pub(super) further: Further,
    /// Any layer is new.
    pub(super) fresh: bool,
    /// Keep layers and blobs until the rows do.
    pub(super) _holds: (Arc<Hold>, Vec<Option<Arc<Arrived>>>),
}

impl Images {
    /// Registers a pulled image so that it survives a power cut; whether that changed what the name means.
    pub(super) fn register_pulled(&self, pulled: &Pulled, by: &Principal) -> Result<bool> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let target = pulled.chosen.target();
        let stored = image::lookup::stored_form(&pulled.reference);
        let digested = pulled.reference.with_digest(target.clone());
        let manifests = pulled.chosen.path.iter().map(|f| (f.digest.clone(), f.bytes.to_vec()));
        let image = NewImage {
            config: pulled.config.clone(),
            layers: pulled.layers.clone(),
            parent: None,
            references: Vec::new(),
            manifest: Some(pulled.chosen.digest.clone()),
            manifests: manifests.chain(pulled.further.manifests.iter().cloned()).collect(),
            how: How::Pull,
            from: format!("{}@{target}", pulled.reference.repository_with_tag()),
            event: None,
        };
        self.put_blobs(&image)?;
        let mut small = Vec::new();
        for blob in &pulled.further.blobs {
            small.push(self.content.put(blob)?);
        }
        let rows = |tx: &Tx<'_>| {
            self.put_rows(tx, &image, by)?;
            let id = image.config.id();
            if let Some(mut row) = tx.image::<Record>(id)? {
                row.doc.tagged = Some(Timestamp::now());
                row.doc.blobs.extend(
                    small
                        .iter()
                        .filter(|b| !row.doc.blobs.contains(b))
                        .cloned()
                        .collect::<Vec<_>>(),
                );
                tx.put_image(&row)?;
            }
            let changed = self.point(tx, &stored, id, target)?;
            self.point(tx, &digested, id, target)?;
            self.note_places(tx, pulled)?;
            let labels = &pulled.config.config().config.labels;
            let event = Event::new("image", "pull", stored.familiar())
                .with_all(labels.clone())
                .with("name", stored.familiar_name())
                .by(by);
            tx.emit(event);
            Ok(changed)
        };
        if pulled.fresh || self.waits_for_disk(std::slice::from_ref(&image))? {
            return Ok(self.for_good(rows)? || pulled.fresh);
        }
        let manifests = image.manifests.iter().map(|(digest, _)| digest);
        self.content.sync_blobs(manifests.chain([image.config.id()]).chain(&small))?;
        let changed = self.store.write(rows)?;
        self.store.flush()?;
        Ok(changed)
    }

    /// Points a name to an image of the release `target`; whether its meaning changed.
    ///
    /// Of several images of one release that of this host is the first; among foreign ones the last pulled.
    fn point(
        &self,
        tx: &Tx<'_>,
        reference: &Reference,
        id: &ImageId,
        target: &Digest,
    ) -> Result<bool> {
        let text = reference.to_string();
        let before = tx.tag(&text)?;
        match before.filter(|tag| tag.target.as_ref() == Some(target)) {
            Some(tag) if tag.image == *id => Ok(false),
            Some(tag) => {
                let known = tx.variants(&text)?.contains(id);
                if self.is_host(id)? || !self.is_host(&tag.image)? {
                    tx.prefer_variant(&text, id, true)?;
                } else {
                    tx.add_variant(&text, id)?;
                }
                Ok(!known)
            }
            None => {
                let before = tx.set_tag(&text, id, Timestamp::now())?;
                tx.set_target(&text, Some(target))?;
                Ok(before.as_ref() != Some(id))
            }
        }
    }

    fn is_host(&self, id: &ImageId) -> Result<bool> {
        Ok(self.config(id)?.config().platform().satisfies(&Platform::host()))
    }

    /// Remembers where the blobs are, for mounts; what the pull kept for a next try is kept by rows now.
    fn note_places(&self, tx: &Tx<'_>, pulled: &Pulled) -> Result<()> {
        let (registry, repository) = (pulled.reference.domain(), pulled.reference.path());
        for (descriptor, layer) in pulled.chosen.manifest.layers.iter().zip(&pulled.layers) {
            tx.put_place(&descriptor.digest, registry, repository)?;
            tx.release_object(HOLDER, "blob", descriptor.digest.as_str())?;
            tx.release_object(HOLDER, "layer", layer.layer.as_str())?;
        }
        Ok(())
    }
}

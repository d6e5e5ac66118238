//! Images that leave a build with manifests of their own: for several platforms, with attestations, annotations
//! or a form of compression.

use super::BuildHost;
use crate::images::{How, NewImage, Record};
use base::{Digest, ImageId, Reference, Result, Timestamp};
use image::ConfigBlob;

/// One image, and the manifest that stands for it.
#[derive(Clone, Debug)]
pub struct ReleaseImage {
    /// Its config.
    pub config: ConfigBlob,
    /// The state that has its layers.
    pub state: Option<ImageId>,
    /// Its manifest.
    pub manifest: (Digest, Vec<u8>),
}

/// What one name stands for.
#[derive(Clone, Debug)]
pub struct Release {
    /// The images; the first is what the names mean here.
    pub images: Vec<ReleaseImage>,
    /// Indexes and manifests that are no image's.
    pub further: Vec<(Digest, Vec<u8>)>,
    /// Small blobs that those name.
    pub blobs: Vec<Digest>,
    /// The manifest or index that the names stand for.
    pub target: Digest,
    /// The names.
    pub names: Vec<Reference>,
}

impl BuildHost {
    /// The manifest or index that a name stands for here; nothing when it came without one.
    ///
    /// # Errors
    /// Of the store.
    pub fn digest_of(&self, reference: &Reference) -> Result<Option<Digest>> {
        if let Some(digest) = reference.digest() {
            return Ok(Some(digest.clone()));
        }
        let stored = image::lookup::stored_form(reference).to_string();
        self.engine().store.read(|tx| {
            let Some(tag) = tx.tag(&stored)? else { return Ok(None) };
            if tag.target.is_some() {
                return Ok(tag.target);
            }
            // What was made here stands in its registry for what it was pushed as.
            let row = tx.image::<Record>(&tag.image)?;
            let pushed = row.and_then(|row| {
                row.doc.pushed.into_iter().rev().find(|pushed| pushed.to == stored)
            });
            Ok(pushed.map(|pushed| pushed.digest))
        })
    }

    /// Makes images that people see, with their manifests, byte for byte.
    ///
    /// # Errors
    /// Of store and storage.
    pub fn release(&self, release: &Release) -> Result<()> {
        let images = self.engine().image_store();
        for (index, image) in release.images.iter().enumerate() {
            let layers = match &image.state {
                Some(state) => self.layers(state)?,
                None => Vec::new(),
            };
            let mut manifests = vec![image.manifest.clone()];
            if index == 0 {
                manifests.extend(release.further.iter().cloned());
            }
            images.register(
                &NewImage {
                    config: image.config.clone(),
                    layers,
                    parent: None,
                    references: if index == 0 { release.names.clone() } else { Vec::new() },
                    manifest: Some(image.manifest.0.clone()),
                    manifests,
                    how: How::Build,
                    from: self.id().to_owned(),
                    event: Some("create"),
                },
                self.by(),
            )?;
            self.note_made(image.config.id());
        }
        self.engine().store.write(|tx| {
            let Some(first) = release.images.first() else { return Ok(()) };
            let id = first.config.id();
            for name in &release.names {
                tx.set_target(&name.to_string(), Some(&release.target))?;
                for other in release.images.iter().skip(1) {
                    tx.add_variant(&name.to_string(), other.config.id())?;
                }
            }
            let Some(mut row) = tx.image::<Record>(id)? else { return Ok(()) };
            let own: Vec<Digest> = [&first.manifest.0]
                .into_iter()
                .chain(release.further.iter().map(|(digest, _)| digest))
                .cloned()
                .collect();
            // What an earlier build of the same image was attested with goes when no name stands for it.
            let named = tx.tags()?.into_iter().filter(|t| t.image == *id);
            if named.filter_map(|t| t.target).all(|target| own.contains(&target)) {
                row.doc.manifests = own;
                row.doc.blobs.clear();
            }
            for blob in &release.blobs {
                if !row.doc.blobs.contains(blob) {
                    row.doc.blobs.push(blob.clone());
                }
            }
            row.doc.tagged = Some(Timestamp::now());
            tx.put_image(&row)
        })
    }
}

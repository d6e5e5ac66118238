//! `GET /images/get` and `GET /images/{name}/get`.

use super::{Images, LayerRecord, layers::Hold, resolve};
use base::{Digest, Error, ImageId, Kind, Principal, Reference, Result, Timestamp};
use image::{LayerSource, SavedImage, lookup::Query};
use std::{io::Write, sync::Arc};

/// Images chosen to be saved; their layers stay until this is dropped.
#[derive(Debug)]
pub struct Saving {
    images: Arc<Images>,
    chosen: Vec<SavedImage>,
    _hold: Hold,
}

impl Images {
    /// Looks up what `names` mean: a repository stands for all its tags, an id for an image without name.
    ///
    /// # Errors
    /// `NotFound` when one is not here.
    pub fn saving(self: &Arc<Self>, names: &[String]) -> Result<Saving> {
        if names.is_empty() {
            return Err(Error::invalid("no images specified for export"));
        }
        let mut wanted: Vec<(ImageId, Vec<Reference>)> = Vec::new();
        let mut add = |id: ImageId, reference: Option<Reference>| {
            let at = wanted.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                wanted.push((id, Vec::new()));
                wanted.len() - 1
            });
            if let Some(reference) =
                reference.filter(|r| r.tag().is_some() && !wanted[at].1.contains(r))
            {
                wanted[at].1.push(reference);
            }
        };
        self.store.read(|tx| {
            for name in names {
                let asked: Option<Reference> = name.parse().ok();
                if Query::parse(name)?.id.is_none()
                    && let Some(repository) = asked.as_ref().filter(|r| r.is_name_only())
                {
                    let prefix = format!("{repository}:");
                    let tags: Vec<_> = tx
                        .tags()?
                        .into_iter()
                        .filter(|t| t.reference.starts_with(&prefix))
                        .collect();
                    if !tags.is_empty() {
                        for tag in tags {
                            add(tag.image, Some(tag.reference.parse()?));
                        }
                        continue;
                    }
                }
                let id = resolve(tx, name).map_err(|e| {
                    match (e.kind(), asked.as_ref().map(Reference::tag)) {
                        (Kind::NotFound, Some(Some(_))) => {
                            Error::not_found("reference does not exist")
                        }
                        (Kind::NotFound, _) => Error::not_found(format!("No such image: {name}")),
                        _ => e,
                    }
                })?;
                let named = asked.map(|r| image::lookup::stored_form(&r));
                let named = match named {
                    Some(reference) => tx.tag(&reference.to_string())?.map(|_| reference),
                    None => None,
                };
                add(id, named);
            }
            Ok(())
        })?;
        let mut hold = self.hold();
        let mut chosen = Vec::new();
        for (id, references) in wanted {
            let held = self.take(id.as_str(), None)?;
            held.layers.iter().for_each(|layer| hold.add(layer));
            chosen.push(SavedImage { config: held.config, layers: held.layers, references });
        }
        Ok(Saving { images: Arc::clone(self), chosen, _hold: hold })
    }
}

impl Saving {
    /// Writes the archive.
    ///
    /// # Errors
    /// Of the disk and of `out`.
    pub fn write(&self, out: &mut dyn Write, by: &Principal) -> Result<()> {
        image::save(&self.chosen, self.images.as_ref(), out)?;
        let now = Timestamp::now();
        self.images.store.write(|tx| {
            for image in &self.chosen {
                let id = image.config.id();
                tx.touch_image(id, now)?;
                let labels = &image.config.config().config.labels;
                tx.emit(self.images.event("save", id, id.as_str(), labels).by(by));
            }
            Ok(())
        })
    }
}

impl LayerSource for Images {
    fn tar_size(&self, layer: &Digest) -> Result<u64> {
        self.store
            .read(|tx| tx.layer::<LayerRecord>(layer))?
            .map(|row| row.doc.tar_size)
            .ok_or_else(|| Error::not_found(format!("layer {layer} is not here")))
    }

    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        self.layers.write_tar(layer, out)
    }
}

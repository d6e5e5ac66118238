//! `POST /images/load`.

use super::{How, Images, NewImage};
use base::{Platform, Principal, Reference, Result};
use image::{LoadedImage, archive};
use serde_json::{Value, json};
use std::{io::Read, sync::Arc};

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// No progress of layers.
    pub quiet: bool,
    /// Platform to take from an index of several.
    pub platform: Option<Platform>,
}

impl Images {
    /// Loads an archive; `say` gets the messages of the reply. Nothing is registered before the whole
    /// archive was found good.
    ///
    /// # Errors
    /// `Invalid` for a broken archive, `Exhausted` for a full disk.
    pub fn load(
        self: &Arc<Self>,
        source: impl Read + Send,
        options: &LoadOptions,
        by: &Principal,
        say: &mut dyn FnMut(Value),
    ) -> Result<()> {
        let hold = self.hold();
        let reading = archive::Options { platform: options.platform.clone(), limits: self.limits };
        let quiet = options.quiet;
        let mut progress = |step: archive::Progress| {
            let archive::Progress::Layer { diff_id, bytes } = step;
            if !quiet {
                say(json!({
                    "status": "Loading layer", "id": diff_id.short(),
                    "progressDetail": {"current": bytes, "total": bytes},
                }));
            }
        };
        let images = image::load(source, &self.content.ingest(), &hold, &reading, &mut progress)?;
        let fresh = images.iter().any(|i| i.layers.iter().any(|l| l.fresh));
        let images: Vec<NewImage> = images.into_iter().map(new_image).collect();
        let moved = self.register_for_good(&images, fresh, by)?;
        for (image, moved) in images.iter().zip(moved) {
            let (id, references) = (image.config.id(), &image.references);
            for moved in moved {
                say(json!({"stream": format!(
                    "The image {} already exists, renaming the old one with ID {} to empty string\n",
                    moved.reference.familiar(), moved.from
                )}));
            }
            if references.is_empty() {
                say(json!({"stream": format!("Loaded image ID: {id}\n")}));
            }
            for reference in references {
                say(
                    json!({"stream": format!("Loaded image: {}\n", Reference::familiar(reference))}),
                );
            }
        }
        Ok(())
    }
}

fn new_image(loaded: LoadedImage) -> NewImage {
    let from = match loaded.origin {
        archive::Origin::DockerArchive => "docker-archive",
        archive::Origin::OciLayout => "oci-layout",
        archive::Origin::Dir => "dir",
    };
    NewImage {
        config: loaded.config,
        layers: loaded.layers.into_iter().map(Into::into).collect(),
        parent: None,
        references: loaded.references,
        manifest: loaded.manifest,
        manifests: loaded.manifests,
        how: How::Load,
        from: from.into(),
        event: Some("load"),
    }
}

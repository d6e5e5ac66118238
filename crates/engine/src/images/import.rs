//! `POST /images/create?fromSrc=...`: an image of one layer from a plain tar.

use super::{How, Images, NewImage, tag};
use base::{Digest, Error, ImageId, Platform, Principal, Result, Timestamp};
use image::{
    change,
    config::{History, ImageConfig},
    decompress,
};
use std::{io::Read, sync::Arc};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Repository to tag, empty for none.
    pub repository: String,
    /// Tag, empty for `latest`.
    pub tag: String,
    /// Message of the history, "Imported from SOURCE" when empty.
    pub message: String,
    /// Where the bytes come from: `-` for the request's body, or a URL.
    pub source: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Platform written into the config.
    pub platform: Option<Platform>,
}

impl Images {
    /// Imports a tar, compressed or not, as an image.
    ///
    /// # Errors
    /// `Invalid` for a broken archive, a bad instruction or reference; `Exhausted` for a full disk.
    pub fn import(
        self: &Arc<Self>,
        source: impl Read + Send,
        options: &ImportOptions,
        by: &Principal,
    ) -> Result<ImageId> {
        let mut config = import_config(options)?;
        let references = match options.repository.as_str() {
            "" => Vec::new(),
            repository => vec![tag::target(repository, &options.tag)?],
        };
        let hold = self.hold();
        let layer = decompress::piped(source, &self.limits, |tar| hold.apply(&[], tar))?;
        let message = match options.message.as_str() {
            "" => format!("Imported from {}", options.source),
            message => message.to_owned(),
        };
        config.comment.clone_from(&message);
        let history =
            History { created: Some(Timestamp::now()), comment: message, ..History::default() };
        config.push(history, Some(layer.diff_id.clone()));
        let config = config.seal();
        let id: Digest = config.id().clone();
        let image = NewImage {
            config,
            layers: vec![layer],
            parent: None,
            references,
            manifest: None,
            manifests: Vec::new(),
            how: How::Import,
            from: options.source.clone(),
            event: Some("import"),
        };
        self.register_for_good(std::slice::from_ref(&image), true, by)?;
        Ok(id)
    }
}

/// The config before its layer is known; read first, so that a wrong instruction costs no upload.
fn import_config(options: &ImportOptions) -> Result<ImageConfig> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    if platform.os != "linux" {
        return Err(Error::invalid(format!(
            "operating system is not supported: cannot import a {} image on linux",
            platform.os
        )));
    }
    let mut config = ImageConfig::scratch(&platform);
    change::apply(&mut config.config, &options.changes)?;
    config.docker_version = crate::config::VERSION.into();
    Ok(config)
}

//! `POST /commit`, the image's half: a new image from a container's configuration and changes.

use super::{Held, How, Images, NewImage, NewLayer, convert, tag};
use api::model::ContainerConfig;
use base::{ImageId, Platform, Principal, Result, Timestamp};
use image::{
    change,
    config::{History, ImageConfig},
};

/// How to commit.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The container.
    pub container: String,
    /// Repository to tag, empty for none.
    pub repository: String,
    /// Tag, empty for `latest`.
    pub tag: String,
    /// Message of the history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
}

impl Images {
    /// Makes an image of `base` (nothing for a container without image) with `layer`, the container's
    /// changes if it has any, on top; `config` is the container's, merged with what the request asked.
    ///
    /// # Errors
    /// `Invalid` for a bad instruction or reference.
    pub fn commit(
        &self,
        base: Option<&Held>,
        layers: Vec<NewLayer>,
        layer: Option<NewLayer>,
        config: &ContainerConfig,
        options: &CommitOptions,
        by: &Principal,
    ) -> Result<ImageId> {
        let references = match options.repository.as_str() {
            "" => Vec::new(),
            repository => vec![tag::target(repository, &options.tag)?],
        };
        let mut made = match base {
            Some(base) => base.config.config().clone(),
            None => ImageConfig::scratch(&Platform::host()),
        };
        made.config = convert::from_api(config);
        change::apply(&mut made.config, &options.changes)?;
        made.author.clone_from(&options.author);
        made.comment.clone_from(&options.comment);
        made.docker_version = crate::config::VERSION.into();
        made.rest.remove("container_config");
        made.rest.insert("container".into(), options.container.clone().into());
        let step = History {
            created: Some(Timestamp::now()),
            author: options.author.clone(),
            created_by: config.cmd.as_deref().unwrap_or_default().join(" "),
            comment: options.comment.clone(),
            empty_layer: layer.is_none(),
        };
        made.push(step, layer.as_ref().map(|l| l.diff_id.clone()));
        let image = NewImage {
            config: made.seal(),
            layers: layers.into_iter().chain(layer).collect(),
            parent: base.map(|b| b.id.clone()),
            references,
            manifest: None,
            manifests: Vec::new(),
            how: How::Commit,
            from: options.container.clone(),
            event: Some("create"),
        };
        self.register_for_good(std::slice::from_ref(&image), true, by)?;
        Ok(image.config.id().clone())
    }
}

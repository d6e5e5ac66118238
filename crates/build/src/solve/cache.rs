//! Finding a step's image again: locally by parent and content key, in `--cache-from` images by history.

use super::stage::Stage;
use crate::{
    graph::{Op, State},
    host::{CacheKey, Commit, Host, Image},
};
use base::Result;
use image::{RunConfig, config::History};

impl<H: Host> Stage<'_, H> {
    /// The key of an operation here.
    pub(super) fn key(&self, op: &Op) -> CacheKey {
        CacheKey { parent: self.image.id.clone(), step: op.digest() }
    }

    /// The state that the step starts from.
    pub(super) fn input(&self) -> State {
        State::of(self.image.id.as_ref())
    }

    /// Looks for the image of a step; on a hit the stage goes on from it.
    pub(super) async fn hit(&mut self, key: &CacheKey, recorded: &RunConfig) -> Result<bool> {
        if self.build.options.no_cache || self.missed {
            return Ok(false);
        }
        let Some(found) = self.find(key, recorded).await? else {
            self.missed = true;
            return Ok(false);
        };
        self.output.text(" ---> Using cache\n").await;
        self.image = found;
        Ok(true)
    }

    async fn find(&self, key: &CacheKey, recorded: &RunConfig) -> Result<Option<Image>> {
        let host = &self.build.host;
        let local = host.cached(key).await?;
        let sources = &self.build.cache_sources;
        if self.build.options.cache_from.is_empty() {
            return Ok(local);
        }
        // With --cache-from only steps on the way to one of its images count.
        if let Some(Image { id: Some(id), .. }) = &local {
            for source in sources.iter().filter_map(|s| s.id.as_ref()) {
                if host.is_ancestor(id, source).await? {
                    return Ok(local);
                }
            }
        }
        let created_by = recorded.cmd.clone().unwrap_or_default().join(" ");
        for source in sources {
            if let Some(step) = next_step(&self.image, source, &created_by) {
                return self.restore(source, step, key, recorded).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Makes the image of a step out of a later image that has the step in its history.
    async fn restore(
        &self,
        source: &Image,
        step: &History,
        key: &CacheKey,
        recorded: &RunConfig,
    ) -> Result<Image> {
        if source.config.history.len() == self.image.config.history.len() + 1 {
            return Ok(source.clone());
        }
        let have = self.image.config.rootfs.diff_ids.len();
        let mut config = self.image.config.clone();
        config.config = self.recordable();
        config.rest.insert("container_config".into(), super::step::json(recorded));
        let layer = match step.empty_layer {
            true => None,
            false => source.config.rootfs.diff_ids.get(have).cloned(),
        };
        config.push(step.clone(), layer);
        let commit = Commit {
            parent: self.image.id.clone(),
            config,
            layer: None,
            layers_of: source.id.clone(),
            key: Some(key.clone()),
        };
        self.build.host.commit(commit).await
    }
}

/// The step of `source` after all those of `image`, when `created_by` is what made it.
fn next_step<'s>(image: &Image, source: &'s Image, created_by: &str) -> Option<&'s History> {
    let (have, all) = (&image.config, &source.config);
    let same_layers = all.rootfs.diff_ids.starts_with(&have.rootfs.diff_ids);
    let same_steps = all.history.starts_with(&have.history);
    let step = all.history.get(have.history.len())?;
    (same_layers && same_steps && step.created_by == created_by).then_some(step)
}

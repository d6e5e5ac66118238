//! `GET /system/df`: what takes the disk.

use crate::{Engine, containers::ListOptions};
use api::model;
use base::Result;
use serde::de::IgnoredAny;
use std::sync::Arc;

/// Which kinds are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

impl Engine {
    /// Disk usage of the kinds asked for.
    ///
    /// # Errors
    /// Of the store and the disk.
    pub async fn disk_usage(self: &Arc<Self>, kinds: Kinds) -> Result<model::DiskUsage> {
        let mut usage = model::DiskUsage::default();
        if kinds.images {
            let (images, layers) = self.images_usage().await?;
            usage.images = Some(images);
            usage.layers_size = layers as i64;
        }
        if kinds.containers {
            let all = ListOptions { all: true, size: true, ..ListOptions::default() };
            usage.containers = Some(self.containers_list(&all).await?);
        }
        if kinds.volumes {
            usage.volumes = Some(self.volumes_usage().await?);
        }
        if kinds.build_cache {
            usage.build_cache = Some(self.build_cache_usage()?);
        }
        Ok(usage)
    }

    /// The entries of the build cache. They point to images, so they take no space of their own.
    fn build_cache_usage(&self) -> Result<Vec<model::BuildCache>> {
        let entries = self.store.read(|tx| tx.cache_entries::<IgnoredAny>())?;
        Ok(entries
            .into_iter()
            .map(|entry| model::BuildCache {
                id: entry.key,
                r#type: "regular".into(),
                description: entry.image.map(|i| format!("step that made {i}")).unwrap_or_default(),
                shared: true,
                created_at: entry.used.to_string(),
                last_used_at: Some(entry.used.to_string()),
                ..model::BuildCache::default()
            })
            .collect())
    }
}

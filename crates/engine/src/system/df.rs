//! `GET /system/df`: what takes the disk.

use crate::{Engine, containers::ListOptions};
use api::model;
use base::Result;
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
}

impl Engine {
    /// Disk usage of the kinds asked for; the build cache's is the builder's to tell.
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
        Ok(usage)
    }
}

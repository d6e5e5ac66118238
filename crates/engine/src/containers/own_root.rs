//! Containers of plugins: a root of their own instead of an image's layers, and in no list.

use super::{Container, Facts, Mounted, Places, Record, State, facts::Deed, networking, settle};
use crate::{Engine, lifecycle::private_dir};
use api::model::{ContainerConfig, HostConfig};
use base::{ContainerId, Digest, Platform, Principal, Result, Timestamp};
use std::{path::PathBuf, sync::Arc};

/// What such a container is.
pub(crate) struct Own {
    pub(crate) id: ContainerId,
    /// What stands for its image.
    pub(crate) image: Digest,
    /// Its root.
    pub(crate) root: PathBuf,
}

impl Container {
    pub(super) fn is_plugin(&self) -> bool {
        self.record().root.is_some()
    }
}

impl Engine {
    /// Makes a container that is called by its id.
    ///
    /// # Errors
    /// `Conflict` when it is there; `Invalid` for options that contradict each other.
    pub(crate) fn container_of_own(
        &self,
        own: Own,
        config: ContainerConfig,
        host: HostConfig,
        mounts: Vec<Mounted>,
        by: &Principal,
    ) -> Result<Arc<Container>> {
        let runtimes = &self.reloadable().runtimes;
        let (host, _warnings) = settle::settle(host, &self.config, &self.kernel, runtimes)?;
        settle::check(&config, &host)?;
        let Own { id, image, root } = own;
        private_dir(&Places::of(&self.config, &id).data)?;
        let record = Record {
            name: id.to_string(),
            id,
            created: Timestamp::now(),
            image,
            image_reference: config.image.clone(),
            platform: Platform::host(),
            endpoints: networking::asked(&host, networking::Asked::default()),
            config,
            host,
            layers: Vec::new(),
            mounts,
            overlays: Vec::new(),
            state: State::default(),
            attached: Vec::new(),
            facts: Facts { created: Some(Deed::now(by)), ..Facts::default() },
            hidden: true,
            root: Some(root),
            // A plugin is not confined, as in docker.
            process_label: String::new(),
            mount_label: String::new(),
            secret_env: Vec::new(),
        };
        self.containers.claim(&record.name, &record.id)?;
        let row = record.row();
        self.store
            .write(|tx| tx.put_container(&row))
            .inspect_err(|_| self.containers.release(&record.name, &record.id))?;
        let container = Container::new(record);
        self.containers.insert(Arc::clone(&container));
        Ok(container)
    }
}

//! Which containers hold a local volume that has a file system of its own: it is mounted with the first and
//! unmounted with the last.
//!
//! Nothing is written down: the holders are the containers that live, so that a daemon that comes back counts
//! them again and takes off what nobody holds.

use super::{LOCAL, Record};
use crate::{Engine, containers};
use base::{ContainerId, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};
use store::Volume;

/// Volumes in use and by whom. The lock is held while something is mounted or unmounted.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<BTreeMap<String, BTreeSet<ContainerId>>>);

impl Engine {
    /// Mounts volume `name` for `container` when it has a file system of its own. Blocks: a server of files may
    /// be slow.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` with the kernel's reason.
    pub(crate) fn volume_hold(&self, name: &str, container: &ContainerId) -> Result<()> {
        let row = self.volume_row(name)?;
        let Some(device) = row.doc.device(name)? else { return Ok(()) };
        let mut held = self.volume_holders.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.volumes.mount(name, &device)?;
        held.entry(name.to_owned()).or_default().insert(container.clone());
        Ok(())
    }

    /// Lets go of it; the last one unmounts it.
    pub(crate) fn volume_release(&self, name: &str, container: &ContainerId) {
        let mut held = self.volume_holders.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = held.get_mut(name) else { return };
        all.remove(container);
        if !all.is_empty() {
            return;
        }
        held.remove(name);
        if let Err(err) = self.volumes.unmount(name) {
            tracing::warn!(
                vol = name,
                err = err.chain(),
                "the volume stays mounted until the next start"
            );
        }
    }

    /// Mounts what a container's volumes need; for most there is nothing to do.
    ///
    /// # Errors
    /// As [`Self::volume_hold`]; what was held until then is let go of by [`Self::volumes_release`].
    pub(crate) fn volumes_hold(&self, record: &containers::Record) -> Result<()> {
        record
            .mounts
            .iter()
            .filter(|m| m.kind == "volume" && m.driver == LOCAL)
            .try_for_each(|m| self.volume_hold(&m.name, &record.id))
    }

    /// Lets go of all volumes of a container that ended.
    pub(crate) fn volumes_release(&self, record: &containers::Record) {
        for mount in record.mounts.iter().filter(|m| m.kind == "volume" && m.driver == LOCAL) {
            self.volume_release(&mount.name, &record.id);
        }
    }

    /// Counts the holders again after a start of the daemon and takes off what nobody holds.
    pub(super) fn volumes_recover(&self, rows: &[Volume<Record>]) {
        let mut held = self.volume_holders.0.lock().unwrap_or_else(PoisonError::into_inner);
        for container in self.containers.all() {
            let record = container.record();
            if !record.state.status.alive() {
                continue;
            }
            for mount in record.mounts.iter().filter(|m| m.kind == "volume") {
                held.entry(mount.name.clone()).or_default().insert(record.id.clone());
            }
        }
        for row in rows.iter().filter(|r| !held.contains_key(&r.name)) {
            if let Err(err) = self.volumes.unmount(&row.name) {
                tracing::warn!(vol = row.name, err = err.chain(), "the volume stays mounted");
            }
        }
        held.retain(|name, _| {
            rows.iter().any(|r| r.name == *name && matches!(r.doc.device(name), Ok(Some(_))))
        });
    }
}

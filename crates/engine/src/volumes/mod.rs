//! Volumes: what `docker volume` asks for, over the local driver of `storage` and over plugins.
//!
//! Flow: a volume is a row in the store and a folder of its driver; the row is made after the folder and
//! goes before it, so that a folder without row is all that a crash can leave, and the next start sweeps it.
//! A plugin has its volumes itself: the row says what it does not know (labels, options), and a volume without
//! row, which something else made, is found by asking.

mod copies;
mod create;
mod holders;
mod plugged;

pub(crate) use create::Wanted;
pub(crate) use holders::Holders;
pub(crate) use plugged::{Mounts, has_plugged};

use crate::Engine;
use api::model;
use base::{
    ContainerId, Error, Kind, Principal, Result, Timestamp, event::Event, filters::Filters, names,
};
use plugin::volume::Shown;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use store::Volume;

/// The driver of volumes that are folders of this engine.
pub(crate) const LOCAL: &str = "local";

/// How long until it is tried again to remove what a failed create has made.
const TAKEN_BACK: std::time::Duration = std::time::Duration::from_secs(2);

/// What is kept of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) driver: String,
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
    /// Made for one container, without a name of its own.
    anonymous: bool,
    created_by: Principal,
    last_used: Timestamp,
    /// The name that it had before; while a row of that name is there too, the rename is not finished.
    renamed_from: String,
    /// The container that it comes with, or goes with, while it does: a start that finds nobody using the volume then
    /// removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tied_to: Option<ContainerId>,
}

const LABEL_ANONYMOUS: &str = "com.docker.volume.anonymous";
const LIST: &[&str] = &["dangling", "driver", "label", "label!", "name"];
const PRUNE: &[&str] = &["all", "label", "label!"];

impl Record {
    fn is_local(&self) -> bool {
        self.driver == LOCAL
    }

    /// The file system that a local volume is, when it is one of its own.
    fn device(&self, name: &str) -> Result<Option<storage::Device>> {
        match &self.options {
            Some(options) if self.is_local() => device(name, options),
            _ => Ok(None),
        }
    }
}

impl Engine {
    /// Whether the level of defaults lets containers have volume `name`, which may be the host's path in disguise.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn permit_volume(&self, name: &str) -> Result<()> {
        let Some(row) = self.store.read(|tx| tx.volume::<Record>(name))? else { return Ok(()) };
        self.permit_device(name, row.doc.device(name)?.as_ref())
    }

    fn permit_device(&self, name: &str, device: Option<&storage::Device>) -> Result<()> {
        if device.is_some_and(storage::Device::is_of_host) {
            self.config.safeguards.permit_path(&format!("behind volume {name}"))?;
        }
        Ok(())
    }

    /// A plugin's volume, as the plugin and its row show it.
    fn plugged_shown(&self, row: &Volume<Record>, shown: &Shown, scope: String) -> model::Volume {
        let created = shown.created_at.parse().unwrap_or(row.created);
        let known = created != Timestamp::default();
        model::Volume {
            created_at: if known { created.to_string() } else { String::new() },
            driver: row.doc.driver.clone(),
            labels: row.doc.labels.clone(),
            mountpoint: shown.mountpoint.clone(),
            name: row.name.clone(),
            options: row.doc.options.clone(),
            scope,
            status: shown.status.clone().filter(|s| !s.is_null()),
            usage_data: None,
        }
    }

    fn volume_shown(&self, row: &Volume<Record>) -> model::Volume {
        model::Volume {
            created_at: Timestamp::from_unix(row.created.unix(), 0).to_string(),
            driver: row.doc.driver.clone(),
            labels: row.doc.labels.clone(),
            mountpoint: Some(&row.name)
                .filter(|_| row.doc.is_local())
                .and_then(|name| self.volumes.mountpoint(name).ok())
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            name: row.name.clone(),
            options: row.doc.options.clone(),
            scope: "local".into(),
            status: None,
            usage_data: None,
        }
    }

    /// Most bytes of a local volume, by its option `size`.
    ///
    /// # Errors
    /// `Invalid` for a bad size, and where the file system cannot; in docker's words.
    fn volume_bound(&self, name: &str, options: &BTreeMap<String, String>) -> Result<Option<u64>> {
        let failed = |why: String| Error::invalid(format!("create {name}: {why}"));
        let Some(text) = options.get("size") else { return Ok(None) };
        let bytes = base::units::parse_bytes(text).map_err(|e| failed(e.to_string()))?;
        if bytes > 0 && !self.volumes.can_bound() {
            return Err(failed(
                "quota size requested but no quota support: give the volume a file system of its own (type=tmpfs with o=size=...), or a data root with project quota (xfs with pquota; ext4 with the features project and quota, and prjquota)".into(),
            ));
        }
        Ok(Some(bytes.unsigned_abs()).filter(|bytes| *bytes > 0))
    }

    fn volume_row(&self, name: &str) -> Result<Volume<Record>> {
        self.store
            .read(|tx| tx.volume::<Record>(name))?
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// Containers that mount volume `name`.
    fn volume_users(&self, name: &str) -> Vec<ContainerId> {
        let uses = |c: &Arc<crate::containers::Container>| {
            c.record().mounts.iter().any(|m| m.name == name)
        };
        self.containers.all().iter().filter(|c| uses(c)).map(|c| c.id().clone()).collect()
    }

    /// `GET /volumes`.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn volumes_list(&self, filters: &Filters) -> Result<model::VolumeList> {
        filters.only(LIST)?;
        let dangling = filters.bool("dangling")?;
        let mut all: Vec<(Volume<Record>, Option<model::Volume>)> = self
            .store
            .read(|tx| tx.volumes::<Record>())?
            .into_iter()
            .map(|row| (row, None))
            .collect();
        let mut warnings = Vec::new();
        for listed in self.plugged_list().await {
            let shown = match listed.volumes {
                Ok(shown) => shown,
                Err(err) => {
                    warnings.push(format!("list {}: {}", listed.driver, err.chain()));
                    continue;
                }
            };
            // A volume that its plugin does not have any more is none.
            all.retain(|(row, _)| {
                row.doc.driver != listed.driver || shown.iter().any(|s| s.name == row.name)
            });
            for one in &shown {
                let show = |row: &_| Some(self.plugged_shown(row, one, listed.scope.clone()));
                match all.iter_mut().find(|(row, _)| row.name == one.name) {
                    Some((row, seen)) if row.doc.driver == listed.driver => *seen = show(row),
                    // Of several volumes with one name the known one counts.
                    Some(_) => {}
                    None => {
                        let row = plugged::found(&listed.driver, &one.name, one);
                        let seen = show(&row);
                        all.push((row, seen));
                    }
                }
            }
        }
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let label = |row: &Volume<Record>| {
            filters
                .labels(|key| row.doc.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str))
        };
        let volumes = all
            .into_iter()
            .filter(|(row, _)| filters.any("name", |n| row.name.contains(n)))
            .filter(|(row, _)| filters.exact("driver", &row.doc.driver))
            .filter(|(row, _)| label(row))
            .filter(|(row, _)| {
                dangling.is_none_or(|d| self.volume_users(&row.name).is_empty() == d)
            })
            .map(|(row, seen)| seen.unwrap_or_else(|| self.volume_shown(&row)))
            .collect();
        Ok(model::VolumeList { volumes, warnings: (!warnings.is_empty()).then_some(warnings) })
    }

    /// `GET /volumes/{name}`.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when its plugin cannot be asked.
    pub async fn volume_inspect(&self, name: &str) -> Result<model::Volume> {
        let missing = || Error::not_found(format!("get {name}: no such volume"));
        let row = self.store.read(|tx| tx.volume::<Record>(name))?;
        let (row, shown) = match row {
            Some(row) if row.doc.is_local() => return Ok(self.volume_shown(&row)),
            Some(row) => {
                let shown = self.plugged_get(&row.doc.driver, name).await?;
                (row, shown.ok_or_else(missing)?)
            }
            None => self.plugged_find(name).await.ok_or_else(missing)?,
        };
        let scope = self.volume_driver(&row.doc.driver).await?.scope().await;
        Ok(self.plugged_shown(&row, &shown, scope))
    }

    /// `DELETE /volumes/{name}`. With `force` a volume goes from here even when its plugin does not remove it.
    ///
    /// # Errors
    /// `NotFound` unless `force`; `Conflict` while a container uses it; the plugin's.
    pub async fn volume_remove(&self, name: &str, force: bool, by: &Principal) -> Result<()> {
        let row = match self.store.read(|tx| tx.volume::<Record>(name))? {
            Some(row) => row,
            None => match self.plugged_find(name).await {
                Some((row, _)) => row,
                None if force => return Ok(()),
                None => return Err(Error::not_found(format!("get {name}: no such volume"))),
            },
        };
        let users = self.volume_users(name);
        if !users.is_empty() {
            let list = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{list}]")));
        }
        if row.doc.is_local() {
            // Before the row goes: what is mounted there is not ours to delete.
            self.volumes.unmount(name)?;
            self.volume_forget(&row, by)?;
            return self.volumes.remove(name);
        }
        match self.plugged_remove(&row.doc.driver, name).await {
            Ok(()) => {}
            Err(err) if force => {
                tracing::warn!(
                    vol = name,
                    err = err.chain(),
                    "the volume may stay with its plugin"
                );
                self.plugged_forget(name)?;
            }
            Err(err) => return Err(Error::wrap(format!("remove {name}"), err)),
        }
        self.volume_forget(&row, by)
    }

    /// Deletes the row, with its event.
    fn volume_forget(&self, row: &Volume<Record>, by: &Principal) -> Result<()> {
        let event =
            Event::new("volume", "destroy", &row.name).with("driver", &row.doc.driver).by(by);
        self.store.write(|tx| {
            tx.delete_volume(&row.name)?;
            tx.emit(event);
            Ok(())
        })
    }

    /// The volumes of `names` have their container: called in the transaction that writes its row.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn volumes_given<'a>(
        tx: &store::Tx<'_>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        for name in names {
            if let Some(mut row) = tx.volume::<Record>(name)?
                && row.doc.tied_to.take().is_some()
            {
                tx.put_volume(&row)?;
            }
        }
        Ok(())
    }

    /// The anonymous volumes of `names` go with `container`: called in the transaction that deletes its row.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn volumes_going<'a>(
        tx: &store::Tx<'_>,
        names: impl Iterator<Item = &'a str>,
        container: &ContainerId,
    ) -> Result<()> {
        for name in names {
            if let Some(mut row) = tx.volume::<Record>(name)?
                && row.doc.is_local()
            {
                row.doc.tied_to = Some(container.clone());
                tx.put_volume(&row)?;
            }
        }
        Ok(())
    }

    /// A volume that was to go stays: somebody uses it.
    fn volume_kept(&self, name: &str) -> Result<()> {
        self.store.write(|tx| Self::volumes_given(tx, std::iter::once(name)))
    }

    /// Removes the volumes that were made for a container which did not come to be; again and again while that fails, as
    /// on a full disk, where the next start would do it otherwise.
    pub(crate) fn volumes_taken_back(self: &Arc<Self>, container: &ContainerId) {
        let Err(err) = self.volumes_not_given(container) else { return };
        tracing::warn!(
            ctr = container.short(),
            err = err.chain(),
            "volumes of a failed create stay for now"
        );
        let (engine, container) = (Arc::clone(self), container.clone());
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = engine.stop.cancelled() => return,
                    () = tokio::time::sleep(TAKEN_BACK) => {}
                }
                if engine.volumes_not_given(&container).is_ok() {
                    return;
                }
            }
        });
    }

    fn volumes_not_given(&self, container: &ContainerId) -> Result<()> {
        for row in self.store.read(|tx| tx.volumes::<Record>())? {
            if row.doc.tied_to.as_ref() == Some(container) {
                self.volume_abandon(&row)?;
            }
        }
        Ok(())
    }

    /// Removes a local volume that came or went with a container that is not there.
    fn volume_abandon(&self, row: &Volume<Record>) -> Result<()> {
        self.volumes.unmount(&row.name)?;
        self.volume_forget(row, &row.doc.created_by)?;
        self.volumes.remove(&row.name)
    }

    /// Removes a container's anonymous volume, unless another container uses it.
    pub(crate) async fn volume_remove_anonymous(&self, name: &str, by: &Principal) -> Result<()> {
        match self.volume_remove(name, true, by).await {
            Err(err) if err.kind() == Kind::Conflict => self.volume_kept(name),
            other => other,
        }
    }

    /// `POST /volumes/prune`: anonymous volumes without user, or with `everything` named ones too.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn volumes_prune(
        &self,
        filters: &Filters,
        everything: bool,
        by: &Principal,
    ) -> Result<model::VolumesPruned> {
        filters.only(PRUNE)?;
        let everything = everything || filters.bool("all")?.unwrap_or(false);
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        let mut deleted = Vec::new();
        let mut reclaimed = 0;
        for row in rows {
            let label =
                |key: &str| row.doc.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
            // compat(docker 28): what a plugin has is not pruned.
            if !row.doc.is_local()
                || !(everything || row.doc.anonymous)
                || !filters.labels(label)
                || !self.volume_users(&row.name).is_empty()
            {
                continue;
            }
            let bytes = self.volumes.usage(&row.name).map_or(0, |u| u.bytes);
            match self.volume_remove(&row.name, false, by).await {
                Ok(()) => {
                    reclaimed += bytes;
                    deleted.push(row.name);
                }
                Err(err) => {
                    tracing::warn!(vol = row.name, err = err.chain(), "prune skips the volume");
                }
            }
        }
        let event =
            Event::new("volume", "prune", "").with("reclaimed", reclaimed.to_string()).by(by);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(model::VolumesPruned { volumes_deleted: Some(deleted), space_reclaimed: reclaimed })
    }

    /// Volumes with their use, for `system df`.
    pub(crate) async fn volumes_usage(&self) -> Result<Vec<model::Volume>> {
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        Ok(rows
            .iter()
            .filter(|row| row.doc.is_local())
            .map(|row| {
                let mut shown = self.volume_shown(row);
                shown.usage_data = Some(model::VolumeUsage {
                    ref_count: self.volume_users(&row.name).len() as i64,
                    size: self.volumes.usage(&row.name).map_or(-1, |u| u.bytes as i64),
                });
                shown
            })
            .collect())
    }

    /// Takes off what is mounted for containers that ended while the daemon was away, and removes folders
    /// that no row knows: a crash between folder and row left them.
    pub(crate) fn sweep_volumes(self: &Arc<Self>) -> Result<()> {
        self.finish_renames()?;
        self.plugged_recover()?;
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        for row in rows.iter().filter(|row| row.doc.tied_to.is_some()) {
            if self.volume_users(&row.name).is_empty() {
                self.volume_abandon(row)?;
            } else {
                self.volume_kept(&row.name)?;
            }
        }
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        self.volumes_recover(&rows);
        self.mend_volumes(&rows);
        for name in self.volumes.list()? {
            if !rows.iter().any(|row| row.name == name) {
                self.volumes.remove(&name)?;
            }
        }
        Ok(())
    }

    /// A volume's row may reach the disk before its folder: after a power cut it is there and empty.
    fn mend_volumes(&self, rows: &[Volume<Record>]) {
        let mend = |row: &Volume<Record>| -> Result<()> {
            if self.volumes.mountpoint(&row.name)?.exists() {
                return Ok(());
            }
            let options = row.doc.options.clone().unwrap_or_default();
            let bound = self.volume_bound(&row.name, &options)?;
            self.volumes.create(&row.name, bound).map(drop)
        };
        for row in rows.iter().filter(|row| row.doc.is_local()) {
            if let Err(err) = mend(row) {
                tracing::error!(vol = row.name, err = err.chain(), "a volume has no folder");
            }
        }
    }
}

/// What docker adds where a path may have been meant.
pub(crate) const HINT: &str = ". If you intended to pass a host directory, use absolute path";

/// Whether `name` can be a volume's.
///
/// # Errors
/// `Invalid` in docker's words, which end with `hint`.
pub(crate) fn check_name(name: &str, hint: &str) -> Result<()> {
    names::check("volume", name).map(drop).map_err(|_| {
        Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed{hint}"
        ))
    })
}

/// What a local volume's options ask to be mounted.
fn device(name: &str, options: &BTreeMap<String, String>) -> Result<Option<storage::Device>> {
    storage::Device::parse(options).map_err(|e| Error::new(e.kind(), format!("create {name}: {e}")))
}

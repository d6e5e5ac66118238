//! Volumes: what `docker volume` asks for, over the drivers of `storage`.
//!
//! Flow: a volume is a row in the store and a folder of its driver; the row is made after the folder and
//! goes before it, so that a folder without row is all that a crash can leave, and the next start sweeps it.

mod copies;
mod holders;

pub(crate) use holders::Holders;

use crate::{Engine, images::blocking};
use api::model;
use base::{
    ContainerId, Error, Kind, Principal, Result, Timestamp, event::Event, filters::Filters, names,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use store::Volume;

/// What is kept of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    driver: String,
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
    /// Made for one container, without a name of its own.
    anonymous: bool,
    created_by: Principal,
    last_used: Timestamp,
    /// The name that it had before; while a row of that name is there too, the rename is not finished.
    renamed_from: String,
}

const LABEL_ANONYMOUS: &str = "com.docker.volume.anonymous";
const LIST: &[&str] = &["dangling", "driver", "label", "label!", "name"];
const PRUNE: &[&str] = &["all", "label", "label!"];

impl Engine {
    fn volume_shown(&self, row: &Volume<Record>) -> model::Volume {
        model::Volume {
            created_at: Timestamp::from_unix(row.created.unix(), 0).to_string(),
            driver: row.doc.driver.clone(),
            labels: row.doc.labels.clone(),
            mountpoint: self
                .volumes
                .mountpoint(&row.name)
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            name: row.name.clone(),
            options: row.doc.options.clone(),
            scope: "local".into(),
            status: None,
            usage_data: None,
        }
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
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        let label = |row: &Volume<Record>| {
            filters
                .labels(|key| row.doc.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str))
        };
        let volumes = rows
            .iter()
            .filter(|row| filters.any("name", |n| row.name.contains(n)))
            .filter(|row| filters.exact("driver", &row.doc.driver))
            .filter(|row| label(row))
            .filter(|row| dangling.is_none_or(|d| self.volume_users(&row.name).is_empty() == d))
            .map(|row| self.volume_shown(row))
            .collect();
        Ok(model::VolumeList { volumes, warnings: None })
    }

    /// `GET /volumes/{name}`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn volume_inspect(&self, name: &str) -> Result<model::Volume> {
        Ok(self.volume_shown(&self.volume_row(name)?))
    }

    /// `POST /volumes/create`; creating a volume that is there answers with it.
    ///
    /// # Errors
    /// `Invalid` for a bad name or option; `NotFound` for an unknown driver; `Conflict` when it exists
    /// with another driver.
    pub async fn volume_create(
        &self,
        request: model::VolumeCreate,
        by: &Principal,
    ) -> Result<model::Volume> {
        let anonymous = request.name.is_empty();
        let name = if anonymous { base::id::random_hex() } else { request.name.clone() };
        let driver = if request.driver.is_empty() { "local" } else { &request.driver };
        let row = self.volume_make(
            &name,
            driver,
            request.driver_opts,
            request.labels,
            anonymous,
            None,
            by,
        )?;
        Ok(self.volume_shown(&row))
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of the row")]
    fn volume_make(
        &self,
        name: &str,
        driver: &str,
        options: Option<BTreeMap<String, String>>,
        labels: Option<BTreeMap<String, String>>,
        anonymous: bool,
        container: Option<&ContainerId>,
        by: &Principal,
    ) -> Result<Volume<Record>> {
        check_name(name, HINT)?;
        if driver != "local" {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        device(name, options.as_ref())?;
        if let Some(row) = self.store.read(|tx| tx.volume::<Record>(name))? {
            if row.doc.driver != driver {
                return Err(Error::conflict(format!(
                    "create {name}: conflict: volume name must be unique"
                )));
            }
            return Ok(row);
        }
        self.volumes.create(name)?;
        let mut labels = labels;
        if anonymous {
            labels.get_or_insert_default().insert(LABEL_ANONYMOUS.into(), String::new());
        }
        let now = Timestamp::now();
        let doc = Record {
            driver: driver.to_owned(),
            labels,
            options: options.filter(|o| !o.is_empty()),
            anonymous,
            created_by: by.clone(),
            last_used: now,
            renamed_from: String::new(),
        };
        let row = Volume { name: name.to_owned(), created: now, doc };
        let mut event = Event::new("volume", "create", name).with("driver", driver).by(by);
        if let Some(container) = container {
            event = event.with("container", container.as_str());
        }
        self.store.write(|tx| {
            tx.put_volume(&row)?;
            tx.emit(event);
            Ok(())
        })?;
        Ok(row)
    }

    /// A volume for a container's mount: found, or made.
    pub(crate) async fn volume_for_container(
        &self,
        name: Option<String>,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
        container: &ContainerId,
        by: &Principal,
    ) -> Result<model::Volume> {
        let anonymous = name.is_none();
        let name = name.unwrap_or_else(base::id::random_hex);
        let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
        let row = self.volume_make(
            &name,
            driver,
            some(options),
            some(labels),
            anonymous,
            Some(container),
            by,
        )?;
        Ok(self.volume_shown(&row))
    }

    /// Fills an empty volume with what the image has at `target`, for a container that is being made.
    pub(crate) async fn volume_fill(
        self: &Arc<Self>,
        name: &str,
        active: &storage::Active,
        target: &str,
        container: &ContainerId,
    ) -> Result<()> {
        let (engine, name, target, layers, container) = (
            Arc::clone(self),
            name.to_owned(),
            target.to_owned(),
            active.layers.clone(),
            container.clone(),
        );
        blocking(move || {
            engine.volume_hold(&name, &container)?;
            let image = engine.snapshots.view(&layers)?;
            let filled = engine.volumes.copy_up(&name, &image, Path::new(&target));
            engine.volume_release(&name, &container);
            filled
        })
        .await
    }

    /// `DELETE /volumes/{name}`.
    ///
    /// # Errors
    /// `NotFound` unless `force`; `Conflict` while a container uses it.
    pub async fn volume_remove(&self, name: &str, force: bool, by: &Principal) -> Result<()> {
        if let Err(err) = self.volume_row(name) {
            return if force && err.kind() == Kind::NotFound { Ok(()) } else { Err(err) };
        }
        let users = self.volume_users(name);
        if !users.is_empty() {
            let list = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{list}]")));
        }
        self.volume_drop(name, by)
    }

    fn volume_drop(&self, name: &str, by: &Principal) -> Result<()> {
        // Before the row goes: what is mounted there is not ours to delete.
        self.volumes.unmount(name)?;
        let event = Event::new("volume", "destroy", name).with("driver", "local").by(by);
        self.store.write(|tx| {
            tx.delete_volume(name)?;
            tx.emit(event);
            Ok(())
        })?;
        self.volumes.remove(name)
    }

    /// Removes a container's anonymous volume, unless another container uses it.
    pub(crate) async fn volume_remove_anonymous(&self, name: &str, by: &Principal) -> Result<()> {
        match self.volume_remove(name, true, by).await {
            Err(err) if err.kind() == Kind::Conflict => Ok(()),
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
            if !(everything || row.doc.anonymous)
                || !filters.labels(label)
                || !self.volume_users(&row.name).is_empty()
            {
                continue;
            }
            let bytes = self.volumes.usage(&row.name).map_or(0, |u| u.bytes);
            match self.volume_drop(&row.name, by) {
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
        Ok(model::VolumesPruned {
            volumes_deleted: (!deleted.is_empty()).then_some(deleted),
            space_reclaimed: reclaimed,
        })
    }

    /// Volumes with their use, for `system df`.
    pub(crate) async fn volumes_usage(&self) -> Result<Vec<model::Volume>> {
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        Ok(rows
            .iter()
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
    pub(crate) fn sweep_volumes(&self) -> Result<()> {
        self.finish_renames()?;
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        self.volumes_recover(&rows);
        for name in self.volumes.list()? {
            if !rows.iter().any(|row| row.name == name) {
                self.volumes.remove(&name)?;
            }
        }
        Ok(())
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

/// What a volume's options ask to be mounted.
fn device(
    name: &str,
    options: Option<&BTreeMap<String, String>>,
) -> Result<Option<storage::Device>> {
    let none = BTreeMap::new();
    storage::Device::parse(options.unwrap_or(&none))
        .map_err(|e| Error::new(e.kind(), format!("create {name}: {e}")))
}

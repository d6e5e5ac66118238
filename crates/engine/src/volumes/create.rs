//! How volumes come to be: made by `docker volume create`, made or found for a container, filled from its image.

use super::{HINT, LABEL_ANONYMOUS, LOCAL, Record, check_name, device};
use crate::{Engine, images::blocking};
use api::model;
use base::{ContainerId, Error, Principal, Result, Timestamp, event::Event};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use store::Volume;

/// A volume as it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Without name it is one container's alone, or anonymous.
    pub(crate) name: Option<String>,
    /// Without driver any volume of this name is meant, else a local one is made.
    pub(crate) driver: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// The container that it is for.
    pub(crate) container: Option<ContainerId>,
}

impl Engine {
    /// `POST /volumes/create`; creating a volume that is there answers with it.
    ///
    /// # Errors
    /// `Invalid` for a bad name or option; `NotFound` for an unknown driver; `Conflict` when it exists
    /// with another driver; the plugin's.
    pub async fn volume_create(
        &self,
        request: model::VolumeCreate,
        by: &Principal,
    ) -> Result<model::Volume> {
        let wanted = Wanted {
            name: Some(request.name).filter(|name| !name.is_empty()),
            driver: request.driver,
            options: request.driver_opts.unwrap_or_default(),
            labels: request.labels,
            container: None,
        };
        self.volume_made(wanted, by).await
    }

    /// A volume, found or made, as clients see it.
    ///
    /// # Errors
    /// As [`Self::volume_create`].
    pub(crate) async fn volume_made(
        &self,
        wanted: Wanted,
        by: &Principal,
    ) -> Result<model::Volume> {
        let row = self.volume_make(wanted, by).await?;
        let mut shown = self.volume_shown(&row);
        if !row.doc.is_local() {
            let driver = self.volume_driver(&row.doc.driver).await?;
            let (scope, path) =
                futures_util::future::join(driver.scope(), driver.path(&row.name)).await;
            shown.scope = scope;
            // Many plugins know the path when it is mounted only.
            shown.mountpoint = path.unwrap_or_default();
        }
        Ok(shown)
    }

    pub(super) async fn volume_make(
        &self,
        wanted: Wanted,
        by: &Principal,
    ) -> Result<Volume<Record>> {
        let anonymous = wanted.name.is_none();
        let name = wanted.name.clone().unwrap_or_else(base::id::random_hex);
        check_name(&name, HINT)?;
        let failed = |err| Error::wrap(format!("create {name}"), err);
        let known = match self.store.read(|tx| tx.volume::<Record>(&name))? {
            Some(row) if row.doc.is_local() || self.plugin_has(&row).await? => Some(row),
            // compat(docker 28): what its plugin lost is made anew.
            _ => None,
        };
        let mut driver = match wanted.driver.as_str() {
            known @ ("" | LOCAL) => known.to_owned(),
            // A managed one is kept with its tag.
            other => self.plugins.get(other).name().to_owned(),
        };
        if let Some(row) = known {
            if !driver.is_empty() && driver != row.doc.driver {
                return Err(Error::conflict(format!(
                    "create {name}: conflict: volume name must be unique"
                )));
            }
            if row.doc.is_local() {
                device(&name, &wanted.options)?;
                self.volume_bound(&name, &wanted.options)?;
            }
            return Ok(row);
        }
        if driver.is_empty() {
            let found = if anonymous { None } else { self.plugged_find(&name).await };
            driver = found.map_or_else(|| LOCAL.to_owned(), |(row, _)| row.doc.driver);
        }
        let made = if driver == LOCAL {
            let asked = device(&name, &wanted.options)?;
            self.permit_device(&name, asked.as_ref())?;
            let bound = self.volume_bound(&name, &wanted.options)?;
            self.volumes
                .create(&name, bound)
                .inspect_err(|_| self.volume_folder_taken_back(&name))?;
            true
        } else {
            let plugin = self.volume_driver(&driver).await.map_err(failed)?;
            self.plugged_create(&plugin, &name, &wanted.options).await.map_err(failed)?
        };
        let mut labels = wanted.labels;
        if anonymous {
            labels.get_or_insert_default().insert(LABEL_ANONYMOUS.into(), String::new());
        }
        let now = Timestamp::now();
        let doc = Record {
            driver: driver.clone(),
            labels,
            options: Some(wanted.options).filter(|o| !o.is_empty()),
            anonymous,
            created_by: by.clone(),
            last_used: now,
            renamed_from: String::new(),
            // A plugin's volume is not taken back without asking it.
            tied_to: wanted.container.clone().filter(|_| anonymous && driver == LOCAL),
        };
        let row = Volume { name: name.clone(), created: now, doc };
        let mut event = Event::new("volume", "create", &name).with("driver", &driver).by(by);
        if let Some(container) = &wanted.container {
            event = event.with("container", container.as_str());
        }
        self.store
            .write(|tx| {
                tx.put_volume(&row)?;
                if made {
                    tx.emit(event);
                }
                Ok(())
            })
            .inspect_err(|_| {
                if row.doc.is_local() {
                    self.volume_folder_taken_back(&name);
                }
            })?;
        Ok(row)
    }

    /// Removes the folder of a volume that could not be made; not that of one which somebody else has made meanwhile.
    fn volume_folder_taken_back(&self, name: &str) {
        let nobody = self.store.read(|tx| tx.volume::<Record>(name)).is_ok_and(|row| row.is_none());
        if nobody && let Err(err) = self.volumes.remove(name) {
            tracing::warn!(vol = name, err = err.chain(), "its folder stays until the next start");
        }
    }

    async fn plugin_has(&self, row: &Volume<Record>) -> Result<bool> {
        let has = self.plugged_get(&row.doc.driver, &row.name).await?.is_some();
        if !has && !self.volume_users(&row.name).is_empty() {
            return Err(Error::conflict(format!(
                "create {}: the plugin {} does not have this volume any more, and containers use it: remove them first",
                row.name, row.doc.driver
            )));
        }
        Ok(has)
    }

    /// Fills an empty volume with what the image has at `target`, for a container that is being made.
    pub(crate) async fn volume_fill(
        self: &Arc<Self>,
        volume: &model::Volume,
        active: &storage::Active,
        target: &str,
        container: &ContainerId,
    ) -> Result<()> {
        let (engine, name, target, layers, holder) = (
            Arc::clone(self),
            volume.name.clone(),
            target.to_owned(),
            active.layers.clone(),
            container.clone(),
        );
        if volume.driver == LOCAL {
            return blocking(move || {
                engine.volume_hold(&name, &holder)?;
                let image = engine.snapshots.view(&layers)?;
                let filled = engine.volumes.copy_up(&name, &image, Path::new(&target));
                engine.volume_release(&name, &holder);
                filled
            })
            .await;
        }
        let place = self.plugged_hold(&volume.name, &volume.driver, container).await?;
        let filled = blocking(move || {
            let image = engine.snapshots.view(&layers)?;
            storage::fill_empty(&place, &image, Path::new(&target))
        })
        .await;
        self.plugged_release(&volume.name, &volume.driver, container).await;
        filled
    }
}

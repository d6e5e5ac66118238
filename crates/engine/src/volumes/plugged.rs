//! Volumes of plugins: what they are asked, and who holds a mount of theirs.
//!
//! Flow: a container that starts holds each volume (`VolumeDriver.Mount` with the container's id) and releases it when
//! it has ended (`Unmount`). A mount is noted in the journal before the plugin is asked for it and forgotten after the
//! plugin has taken it off, so that a daemon that died knows what its containers do not need any more.
//! Invariants: one question at a time about a volume and a holder; nobody waits without a bound for a plugin; a plugin
//! that does not answer an `Unmount` is asked again until it does.
//! Source: Moby `volume/service` and `volume/drivers` (order of questions, texts, bounds).
//! Not here: local volumes (`holders.rs`), the protocol (crate `plugin`).

use super::Record;
use crate::{
    Engine,
    containers::{self, Container},
};
use base::{ContainerId, Error, Result, Timestamp};
use futures_util::future::join_all;
use plugin::volume::{Driver, Shown, answered};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{Journal, Volume};
use tokio::sync::OwnedMutexGuard;

/// The name of noted mounts in the journal.
const NOTED: &str = "volume-mount";
/// Creating and mounting may take this many times a call's bound.
const SLOW: u32 = 2;
/// A plugin that a volume is known to be of is waited for that long: it may be starting.
const PATIENCE: Duration = Duration::from_secs(15);
/// Lists wait that long for a plugin.
const GLANCE: Duration = Duration::from_secs(5);
/// The end of a container waits that long for plugins; they go on being asked.
const PARTING: Duration = Duration::from_secs(5);
/// How long to wait before a plugin is asked again to unmount: from, to.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Who asks about which volume just now, and whether the holder has it.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Mutex<HashMap<(String, String), Turn>>);

/// A volume's and a holder's.
type Turn = Arc<tokio::sync::Mutex<bool>>;

impl Mounts {
    /// Waits for one's turn. What is locked tells whether the holder has the volume.
    async fn turn(&self, volume: &str, holder: &str) -> OwnedMutexGuard<bool> {
        let mutex = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody asks about these and nobody has them.
            all.retain(|_, turn| {
                Arc::strong_count(turn) > 1 || turn.try_lock().is_ok_and(|held| *held)
            });
            Arc::clone(all.entry((volume.to_owned(), holder.to_owned())).or_default())
        };
        mutex.lock_owned().await
    }
}

/// A mount that a plugin was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Noted {
    driver: String,
    volume: String,
    holder: String,
}

impl Noted {
    fn id(&self) -> String {
        format!("{NOTED}/{}/{}", self.volume, self.holder)
    }
}

/// What a plugin has to say of its volumes.
pub(super) struct Listed {
    pub(super) driver: String,
    pub(super) scope: String,
    pub(super) volumes: Result<Vec<Shown>>,
}

/// A container's volumes that are of plugins.
fn plugged(record: &containers::Record) -> impl Iterator<Item = (&str, &str)> {
    let of = |m: &&containers::Mounted| m.kind == "volume" && m.driver != super::LOCAL;
    record.mounts.iter().filter(of).map(|m| (m.name.as_str(), m.driver.as_str()))
}

/// Whether a container has volumes of plugins.
pub(crate) fn has_plugged(record: &containers::Record) -> bool {
    plugged(record).next().is_some()
}

fn lookup(driver: &str, err: Error) -> Error {
    Error::wrap(format!("error looking up volume plugin {driver}"), err)
}

impl Engine {
    /// A plugin for new volumes.
    pub(super) async fn volume_driver(&self, name: &str) -> Result<Driver> {
        Driver::find(&self.plugins, name).await.map_err(|err| lookup(name, err))
    }

    /// The plugin of a volume that there is.
    fn known_driver(&self, name: &str) -> Driver {
        Driver::known(&self.plugins, name, PATIENCE.min(self.plugins.limit()))
    }

    fn glance(&self) -> Duration {
        GLANCE.min(self.plugins.limit())
    }

    /// A volume as its plugin shows it; nothing when the plugin says that it has none.
    ///
    /// # Errors
    /// The plugin cannot be asked.
    pub(super) async fn plugged_get(&self, driver: &str, name: &str) -> Result<Option<Shown>> {
        match self.volume_driver(driver).await?.get(name).await {
            Ok(shown) => Ok(Some(shown)),
            Err(err) if answered(&err) => Ok(None),
            Err(err) => Err(Error::wrap(
                format!(
                    "get {name}: error while checking if volume {name:?} exists in driver {driver:?}"
                ),
                err,
            )),
        }
    }

    /// The first plugin that has a volume which no row knows: another engine, or the plugin's own tool, made it.
    pub(super) async fn plugged_find(&self, name: &str) -> Option<(Volume<Record>, Shown)> {
        for driver in Driver::all(&self.plugins, self.glance()).await {
            if let Ok(shown) = driver.get(name).await {
                return Some((found(driver.name(), name, &shown), shown));
            }
        }
        None
    }

    /// What all plugins have.
    pub(super) async fn plugged_list(&self) -> Vec<Listed> {
        let asked =
            Driver::all(&self.plugins, self.glance()).await.into_iter().map(|driver| async move {
                let (scope, volumes) =
                    futures_util::future::join(driver.scope(), driver.list()).await;
                Listed { driver: driver.name().to_owned(), scope, volumes }
            });
        join_all(asked).await
    }

    /// Names of all plugins for volumes.
    pub(crate) async fn volume_plugins(&self, limit: Duration) -> Vec<String> {
        let all = Driver::all(&self.plugins, limit).await;
        all.iter().map(|driver| driver.name().to_owned()).collect()
    }

    /// Makes a volume, unless the plugin has it; whether it was made.
    pub(super) async fn plugged_create(
        &self,
        driver: &Driver,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let _turn = self.plugin_mounts.turn(name, "").await;
        match driver.get(name).await {
            Ok(_) => return Ok(false),
            Err(err) if answered(&err) => {}
            Err(err) => return Err(err),
        }
        driver.within(self.plugins.limit() * SLOW).create(name, options).await?;
        Ok(true)
    }

    /// Removes a volume from its plugin, after what is still to be unmounted.
    ///
    /// # Errors
    /// The plugin's; it cannot be asked.
    pub(super) async fn plugged_remove(&self, driver: &str, name: &str) -> Result<()> {
        let plugin = self.volume_driver(driver).await?;
        for noted in self.noted()?.into_iter().filter(|n| n.volume == name) {
            let held = self.plugin_mounts.turn(name, &noted.holder).await;
            if !*held {
                self.take_off(&plugin, &noted).await?;
            }
        }
        plugin.remove(name).await
    }

    /// Forgets what is noted of a volume whose plugin is given up.
    pub(super) fn plugged_forget(&self, name: &str) -> Result<()> {
        for noted in self.noted()?.into_iter().filter(|n| n.volume == name) {
            self.store.write(|tx| tx.journal_done(&noted.id()))?;
        }
        Ok(())
    }

    /// Makes a volume's content appear for `holder`; where.
    ///
    /// # Errors
    /// The plugin's; it cannot be asked; it names a path that is none.
    pub(crate) async fn plugged_hold(
        self: &Arc<Self>,
        volume: &str,
        driver: &str,
        holder: &ContainerId,
    ) -> Result<PathBuf> {
        let noted =
            Noted { driver: driver.into(), volume: volume.into(), holder: holder.to_string() };
        let failed = |err| Error::wrap(format!("error while mounting volume '{volume}'"), err);
        let plugin = self.known_driver(driver);
        let mut held = self.plugin_mounts.turn(volume, &noted.holder).await;
        if !*held && self.noted()?.iter().any(|n| n.id() == noted.id()) {
            // Its last end is not through yet.
            self.take_off(&plugin, &noted).await.map_err(failed)?;
        }
        let entry = Journal {
            id: noted.id(),
            operation: NOTED.into(),
            subject: volume.into(),
            since: Timestamp::now(),
            doc: noted.clone(),
        };
        self.store.write(|tx| tx.journal(&entry))?;
        let slow = plugin.within(self.plugins.limit() * SLOW);
        let mounted = match slow.mount(volume, &noted.holder).await {
            Ok(path) => self.is_folder(driver, path).await.map_err(|err| (true, err)),
            Err(err) => Err((!answered(&err), err)),
        };
        match mounted {
            Ok(path) => {
                *held = true;
                Ok(path)
            }
            Err((false, err)) => {
                self.store.write(|tx| tx.journal_done(&noted.id()))?;
                Err(failed(err))
            }
            Err((true, err)) => {
                // It may be mounted now: the plugin is told that it is not needed.
                drop(held);
                let engine = Arc::clone(self);
                self.tasks.spawn(async move { engine.let_go(noted).await });
                Err(failed(err))
            }
        }
    }

    /// Whether there is something at the path that a plugin gave; a server of files may be silent.
    async fn is_folder(&self, driver: &str, path: PathBuf) -> Result<PathBuf> {
        let shown = path.display().to_string();
        if !path.is_absolute() {
            return Err(Error::internal(format!(
                "plugin {driver} mounted it at {shown:?}, which is no absolute path"
            )));
        }
        let looked = crate::images::blocking(move || Ok(path.is_dir().then_some(path)));
        match tokio::time::timeout(self.plugins.limit(), looked).await {
            Ok(found) => found?.ok_or_else(|| {
                Error::internal(format!(
                    "plugin {driver} mounted it at {shown}, which is no directory"
                ))
            }),
            Err(_) => Err(Error::unavailable(format!(
                "plugin {driver} mounted it at {shown}, which does not answer"
            ))),
        }
    }

    /// Says that `holder` needs a volume no more. Waits a moment for the plugin, which goes on being asked after that.
    pub(crate) async fn plugged_release(
        self: &Arc<Self>,
        volume: &str,
        driver: &str,
        holder: &ContainerId,
    ) {
        let noted =
            Noted { driver: driver.into(), volume: volume.into(), holder: holder.to_string() };
        let engine = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            *engine.plugin_mounts.turn(&noted.volume, &noted.holder).await = false;
            if !engine.let_go_once(&noted).await {
                tracing::warn!(vol = noted.volume, "the plugin is asked again to unmount");
                let own = Arc::clone(&engine);
                engine.tasks.spawn(async move { own.let_go(noted).await });
            }
        });
        let _ = tokio::time::timeout(PARTING, task).await;
    }

    /// Holds all of a container's volumes of plugins; the record then says where they are.
    ///
    /// # Errors
    /// As [`Self::plugged_hold`]; what is held until then goes by [`Self::plugged_release_all`].
    pub(crate) async fn plugged_hold_all(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<Arc<containers::Record>> {
        let record = container.record();
        let mut places = BTreeMap::new();
        for (volume, driver) in plugged(&record) {
            if !places.contains_key(volume) {
                let path = self.plugged_hold(volume, driver, &record.id).await?;
                places.insert(volume.to_owned(), path);
            }
        }
        let place = |record: &mut containers::Record| put(record, &places);
        container.change(&self.store, place, |_, _| Ok(()))
    }

    /// Releases all of a container's volumes of plugins.
    pub(crate) async fn plugged_release_all(self: &Arc<Self>, record: &containers::Record) {
        let of: BTreeMap<_, _> = plugged(record).collect();
        join_all(of.into_iter().map(|(v, driver)| self.plugged_release(v, driver, &record.id)))
            .await;
    }

    /// A container's record as it is while its volumes of plugins are there, for somebody who looks at the files of one
    /// that does not run. `holder` has them until it releases them.
    ///
    /// # Errors
    /// As [`Self::plugged_hold`]; then nothing is held.
    pub(crate) async fn plugged_look(
        self: &Arc<Self>,
        record: &Arc<containers::Record>,
        holder: &ContainerId,
    ) -> Result<Arc<containers::Record>> {
        let mut places = BTreeMap::new();
        let all: BTreeMap<_, _> = plugged(record).collect();
        for (volume, driver) in all {
            match self.plugged_hold(volume, driver, holder).await {
                Ok(path) => _ = places.insert(volume.to_owned(), path),
                Err(err) => {
                    self.plugged_leave(record, holder).await;
                    return Err(err);
                }
            }
        }
        let mut seen = containers::Record::clone(record);
        put(&mut seen, &places);
        Ok(Arc::new(seen))
    }

    /// The end of [`Self::plugged_look`].
    pub(crate) async fn plugged_leave(
        self: &Arc<Self>,
        record: &containers::Record,
        holder: &ContainerId,
    ) {
        let of: BTreeMap<_, _> = plugged(record).collect();
        join_all(of.into_iter().map(|(v, driver)| self.plugged_release(v, driver, holder))).await;
    }

    /// After a start of the daemon: what living containers hold is theirs, the rest is taken off.
    pub(super) fn plugged_recover(self: &Arc<Self>) -> Result<()> {
        for noted in self.noted()? {
            let alive = self
                .containers
                .all()
                .iter()
                .any(|c| c.id().as_str() == noted.holder && c.record().state.status.alive());
            let engine = Arc::clone(self);
            if alive {
                let mut all = self.plugin_mounts.0.lock().unwrap_or_else(PoisonError::into_inner);
                let key = (noted.volume, noted.holder);
                all.insert(key, Arc::new(tokio::sync::Mutex::new(true)));
            } else {
                self.tasks.spawn(async move { engine.let_go(noted).await });
            }
        }
        Ok(())
    }

    /// Asks a plugin to unmount until it answers, or somebody holds the volume under this name again.
    async fn let_go(&self, noted: Noted) {
        let mut pause = AGAIN.0;
        while !self.let_go_once(&noted).await {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// Asks once, if it is still to be asked; false when it has to be asked again.
    async fn let_go_once(&self, noted: &Noted) -> bool {
        let held = self.plugin_mounts.turn(&noted.volume, &noted.holder).await;
        let Ok(all) = self.noted() else { return true };
        if *held || !all.iter().any(|n| n.id() == noted.id()) {
            return true;
        }
        let driver = Driver::known(&self.plugins, &noted.driver, Duration::ZERO);
        let asked = tokio::select! {
            asked = self.take_off(&driver, noted) => asked,
            () = self.stop.cancelled() => return true,
        };
        asked
            .inspect_err(|err| {
                tracing::debug!(
                    vol = noted.volume,
                    err = err.chain(),
                    "it is asked again to unmount"
                );
            })
            .is_ok()
    }

    /// Asks once. A plugin that refuses has been told: what it does is its own affair.
    async fn take_off(&self, driver: &Driver, noted: &Noted) -> Result<()> {
        match driver.unmount(&noted.volume, &noted.holder).await {
            Err(err) if !answered(&err) => return Err(err),
            Err(err) => tracing::warn!(
                vol = noted.volume,
                err = err.chain(),
                "the plugin refused to unmount the volume"
            ),
            Ok(()) => {}
        }
        self.store.write(|tx| tx.journal_done(&noted.id()))
    }

    fn noted(&self) -> Result<Vec<Noted>> {
        let entries = self.store.read(|tx| tx.journal_entries::<Noted>(NOTED))?;
        Ok(entries.into_iter().map(|entry| entry.doc).collect())
    }
}

/// Says in a record where volumes are.
fn put(record: &mut containers::Record, places: &BTreeMap<String, PathBuf>) {
    let plugged =
        record.mounts.iter_mut().filter(|m| m.kind == "volume" && m.driver != super::LOCAL);
    for mount in plugged {
        if let Some(path) = places.get(&mount.name).and_then(|p: &PathBuf| Path::to_str(p)) {
            mount.source = path.to_owned();
        }
    }
}

/// The row of a volume that a plugin has.
pub(super) fn found(driver: &str, name: &str, shown: &Shown) -> Volume<Record> {
    let doc = Record { driver: driver.to_owned(), ..Record::default() };
    let created = shown.created_at.parse().unwrap_or_default();
    Volume { name: name.to_owned(), created, doc }
}

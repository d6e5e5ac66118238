//! What Docker's volumes cannot do: another name, a copy, a copy of a moment, a tar out and in.
//!
//! A copy is made under a name of its own and gets its own when its row is written; when anything fails the folder
//! goes, and a crash leaves a folder without row, which the next start removes.

use super::{LOCAL, Record, create::Wanted};
use crate::{
    Engine,
    containers::Outgoing,
    images::{Bytestream, Pieces, blocking, reader},
    lifecycle::LIMITS,
};
use api::model;
use base::{ContainerId, Error, Principal, Result, Timestamp, event::Event};
use std::{path::Path, sync::Arc};
use store::Volume;
use sys::root::Root;

/// A volume's content, held for as long as somebody reads or writes it.
struct Open {
    root: Arc<Root>,
    name: String,
    driver: String,
    holder: ContainerId,
}

/// The volume that a copy was made of.
const LABEL_OF: &str = "gantry.volume.copy-of";

impl Engine {
    /// `POST /volumes/{name}/clone` (Gantry's own): a new volume with the content of this one. Containers that
    /// run with it are paused meanwhile, unless `pause` is false, so that the copy is of one moment.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a bad name, or for a volume that is a file system of its own; `Conflict` when the
    /// new name is taken.
    pub async fn volume_clone(
        self: &Arc<Self>,
        name: &str,
        request: model::VolumeClone,
        by: &Principal,
    ) -> Result<model::Volume> {
        let row = self.volume_row(name)?;
        self.volume_is_folder(&row, "clone")?;
        let new = request.name;
        self.volume_is_new(name, &new, "clone")?;
        let paused = if request.pause { self.pause_users(name, by).await } else { Vec::new() };
        let draft = base::id::random_hex();
        let copied = {
            let (engine, from, into) = (Arc::clone(self), name.to_owned(), draft.clone());
            let options = row.doc.options.clone().unwrap_or_default();
            blocking(move || {
                let bound = engine.volume_bound(&from, &options)?;
                engine.volumes.create(&into, bound)?;
                engine.volumes.copy(&from, &into)
            })
            .await
        };
        for container in paused {
            if let Err(err) = self.container_unpause(container.as_str(), by).await {
                tracing::warn!(
                    ctr = container.short(),
                    err = err.chain(),
                    "the container stays paused"
                );
            }
        }
        let mut labels = row.doc.labels.unwrap_or_default();
        labels.remove(super::LABEL_ANONYMOUS);
        labels.extend(request.labels.unwrap_or_default());
        labels.insert(LABEL_OF.into(), name.to_owned());
        let now = Timestamp::now();
        let doc = Record {
            driver: row.doc.driver,
            labels: Some(labels),
            options: row.doc.options,
            created_by: by.clone(),
            last_used: now,
            ..Record::default()
        };
        let made = Volume { name: new.clone(), created: now, doc };
        let event =
            Event::new("volume", "create", &new).with("driver", "local").with("from", name).by(by);
        let mut folder = &draft;
        let kept = copied.and_then(|()| {
            self.store.write(|tx| {
                // Another request may have made it meanwhile.
                if tx.volume::<Record>(&new)?.is_some() {
                    return Err(taken(name, &new, "clone"));
                }
                self.volumes.rename(&draft, &new)?;
                folder = &new;
                tx.put_volume(&made)?;
                tx.emit(event);
                Ok(())
            })
        });
        if let Err(err) = kept {
            if let Err(left) = self.volumes.remove(folder) {
                tracing::warn!(
                    vol = folder,
                    err = left.chain(),
                    "a copy stays until the next start"
                );
            }
            return Err(err);
        }
        Ok(self.volume_shown(&made))
    }

    /// `POST /volumes/{name}/rename` (Gantry's own).
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a bad name; `Conflict` when the new name is taken or a container uses the volume.
    pub async fn volume_rename(
        &self,
        name: &str,
        new: &str,
        by: &Principal,
    ) -> Result<model::Volume> {
        let mut row = self.volume_row(name)?;
        if !row.doc.is_local() {
            self.volume_is_folder(&row, "rename")?;
        }
        self.volume_is_new(name, new, "rename")?;
        let users = self.volume_users(name);
        if !users.is_empty() {
            let list = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::conflict(format!(
                "rename {name}: volume is in use - [{list}]: remove these containers first, their mounts bear its name"
            )));
        }
        // The row of the new name first: it says what is under way, and the next start finishes it.
        new.clone_into(&mut row.name);
        name.clone_into(&mut row.doc.renamed_from);
        row.doc.anonymous = false;
        if let Some(labels) = &mut row.doc.labels {
            labels.remove(super::LABEL_ANONYMOUS);
        }
        self.store.write(|tx| tx.put_volume(&row))?;
        if let Err(err) = self.volumes.rename(name, new) {
            self.store.write(|tx| tx.delete_volume(new))?;
            return Err(err);
        }
        row.doc.renamed_from.clear();
        let event = Event::new("volume", "rename", new).with("oldName", name).by(by);
        self.store.write(|tx| {
            tx.delete_volume(name)?;
            tx.put_volume(&row)?;
            tx.emit(event);
            Ok(())
        })?;
        Ok(self.volume_shown(&row))
    }

    /// `GET /volumes/{name}/export` (Gantry's own): the content as a tar. Containers that run with the volume run on.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when its file system cannot be mounted.
    pub async fn volume_export(self: &Arc<Self>, name: &str) -> Result<Outgoing> {
        let held = self.volume_open(name).await?;
        let (mut pieces, receiver) = Pieces::new();
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            let root = Arc::clone(&held.root);
            let exported = blocking(move || {
                let done = storage::export_tree(&root, &mut pieces);
                drop(root);
                pieces.finish(done);
                Ok(())
            });
            if let Err(err) = exported.await {
                tracing::warn!(vol = held.name, err = err.chain(), "the export broke off");
            }
            engine.volume_close(held).await;
        });
        Ok(receiver)
    }

    /// `PUT /volumes/{name}/import` (Gantry's own): unpacks a tar, compressed or not, over the volume's content.
    /// A volume that is not there is made, and goes again when the archive is wrong.
    ///
    /// # Errors
    /// `Invalid` for a bad name or archive.
    pub async fn volume_import(
        self: &Arc<Self>,
        name: &str,
        body: Bytestream,
        by: &Principal,
    ) -> Result<model::Volume> {
        super::check_name(name, "")?;
        let existed = self.store.read(|tx| tx.volume::<Record>(name))?.is_some();
        let wanted = Wanted { name: Some(name.to_owned()), ..Wanted::default() };
        let shown = self.volume_made(wanted, by).await?;
        let source = reader(body);
        let unpacked = match self.volume_open(name).await {
            Ok(held) => {
                let root = Arc::clone(&held.root);
                let done = blocking(move || {
                    let (_, mut plain) =
                        image::decompress::open(source, &image::Limits::default())?;
                    storage::extract_into(&root, Path::new("/"), &mut plain, &LIMITS)?;
                    std::io::copy(&mut plain, &mut std::io::sink())
                        .map_err(|e| Error::invalid("cannot read the archive").caused_by(e))?;
                    Ok(())
                })
                .await;
                self.volume_close(held).await;
                done
            }
            Err(err) => Err(err),
        };
        if let Err(err) = unpacked {
            if !existed && let Err(left) = self.volume_remove(name, true, by).await {
                tracing::warn!(vol = name, err = left.chain(), "a half imported volume stays");
            }
            return Err(err);
        }
        Ok(shown)
    }

    /// Opens a volume's content and keeps it there until [`Self::volume_close`].
    async fn volume_open(self: &Arc<Self>, name: &str) -> Result<Open> {
        let row = self.volume_row(name)?;
        let (name, holder) = (name.to_owned(), ContainerId::random());
        if row.doc.is_local() {
            let (engine, own, who) = (Arc::clone(self), name.clone(), holder.clone());
            let root = blocking(move || {
                engine.volume_hold(&own, &who)?;
                engine.volumes.root(&own)
            });
            let root = root.await.inspect_err(|_| self.volume_release(&name, &holder))?;
            return Ok(Open { root: Arc::new(root), name, driver: LOCAL.into(), holder });
        }
        let driver = row.doc.driver;
        let place = self.plugged_hold(&name, &driver, &holder).await?;
        let root = blocking(move || {
            Root::open(&place).map_err(|e| {
                Error::internal(format!("cannot open {}", place.display())).caused_by(e)
            })
        });
        match root.await {
            Ok(root) => Ok(Open { root: Arc::new(root), name, driver, holder }),
            Err(err) => {
                self.plugged_release(&name, &driver, &holder).await;
                Err(err)
            }
        }
    }

    async fn volume_close(self: &Arc<Self>, open: Open) {
        let Open { root, name, driver, holder } = open;
        drop(root);
        match driver.as_str() {
            LOCAL => self.volume_release(&name, &holder),
            _ => self.plugged_release(&name, &driver, &holder).await,
        }
    }

    /// Finishes what a crash left half renamed.
    pub(super) fn finish_renames(&self) -> Result<()> {
        let rows = self.store.read(|tx| tx.volumes::<Record>())?;
        for mut row in rows.into_iter().filter(|r| !r.doc.renamed_from.is_empty()) {
            let old = std::mem::take(&mut row.doc.renamed_from);
            if !self.volumes.list()?.contains(&row.name) {
                self.volumes.rename(&old, &row.name)?;
            }
            self.store.write(|tx| {
                tx.delete_volume(&old)?;
                tx.put_volume(&row)
            })?;
        }
        Ok(())
    }

    /// Whether a volume may be called `new`.
    fn volume_is_new(&self, name: &str, new: &str, what: &str) -> Result<()> {
        super::check_name(new, "")?;
        match self.store.read(|tx| tx.volume::<Record>(new))? {
            Some(_) => Err(taken(name, new, what)),
            None => Ok(()),
        }
    }

    fn volume_is_folder(&self, row: &Volume<Record>, what: &str) -> Result<()> {
        if !row.doc.is_local() {
            return Err(Error::invalid(format!(
                "{what} {}: the volume is the plugin {}'s, not a folder of this engine",
                row.name, row.doc.driver
            )));
        }
        if row.doc.device(&row.name)?.is_some() {
            return Err(Error::invalid(format!(
                "{what} {}: the volume is the file system {:?}, not a folder of this engine",
                row.name,
                row.doc.options.clone().unwrap_or_default()
            )));
        }
        Ok(())
    }

    /// Pauses the containers that run with volume `name`; those that it paused.
    async fn pause_users(&self, name: &str, by: &Principal) -> Vec<ContainerId> {
        let mut paused = Vec::new();
        for id in self.volume_users(name) {
            // One that does not run, or is paused already, needs nothing.
            if self.container_pause(id.as_str(), by).await.is_ok() {
                paused.push(id);
            }
        }
        paused
    }
}

fn taken(name: &str, new: &str, what: &str) -> Error {
    Error::conflict(format!("{what} {name}: the volume {new} exists"))
}

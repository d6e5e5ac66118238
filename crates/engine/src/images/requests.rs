//! The image calls of the API, from the async side: each runs the work of [`super::Images`] on a thread
//! that may block.

use super::{Bytestream, ImportOptions, ListOptions, LoadOptions, RemoveOptions, User, stream};
use crate::Engine;
use api::model;
use base::{Error, ImageId, Platform, Principal, Result, filters::Filters};
use bytes::Bytes;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;

/// Runs `work` where blocking is allowed; a panic there is an error here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(err) => {
            Err(Error::internal("internal error: a task broke off; the engine's log has more")
                .caused_by(err))
        }
    }
}

impl Engine {
    /// Containers as the rules of image removal see them.
    pub(crate) fn image_users(&self) -> Vec<User> {
        self.containers.all().iter().flat_map(|c| c.record().as_image_users()).collect()
    }

    /// `GET /images/json`.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn images_list(
        self: &Arc<Self>,
        options: ListOptions,
    ) -> Result<Vec<model::ImageSummary>> {
        let engine = Arc::clone(self);
        blocking(move || {
            let mut images = engine.images.list(&options)?;
            if options.containers {
                super::list::count(&mut images, &engine.image_users());
            }
            Ok(images)
        })
        .await
    }

    /// `GET /images/{name}/json`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_inspect(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<model::ImageInspect> {
        let (images, name) = (Arc::clone(&self.images), name.to_owned());
        blocking(move || images.inspect(&name, platform.as_ref())).await
    }

    /// `GET /images/{name}/history`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_history(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Vec<model::HistoryItem>> {
        let (images, name) = (Arc::clone(&self.images), name.to_owned());
        blocking(move || images.history(&name, platform.as_ref())).await
    }

    /// `POST /images/{name}/tag`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a malformed name.
    pub async fn image_tag(
        &self,
        name: &str,
        repository: &str,
        tag: &str,
        by: &Principal,
    ) -> Result<()> {
        let (images, by) = (Arc::clone(&self.images), by.clone());
        let [name, repository, tag] = [name, repository, tag].map(str::to_owned);
        blocking(move || images.tag(&name, &repository, &tag, &by)).await
    }

    /// `DELETE /images/{name}`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` by docker's rules.
    pub async fn image_remove(
        self: &Arc<Self>,
        name: &str,
        options: RemoveOptions,
        by: &Principal,
    ) -> Result<Vec<model::ImageDeleted>> {
        let (engine, name, by) = (Arc::clone(self), name.to_owned(), by.clone());
        let lines = blocking(move || {
            Ok(engine.images.remove(&name, options, &engine.image_users(), &by)?.lines)
        })
        .await?;
        self.collect_soon();
        Ok(lines)
    }

    /// `POST /images/prune`.
    ///
    /// # Errors
    /// `Invalid` for bad filters.
    pub async fn images_prune(
        self: &Arc<Self>,
        filters: Filters,
        by: &Principal,
    ) -> Result<model::ImagesPruned> {
        let (engine, by) = (Arc::clone(self), by.clone());
        let pruned = blocking(move || {
            engine.images.forget_unfinished(&engine.transfers.active())?;
            engine.images.prune(&filters, &engine.image_users(), &by)
        })
        .await?;
        self.collect_soon();
        Ok(pruned)
    }

    /// Drops layers and blobs that nothing needs, in the background.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.tasks.spawn_blocking(move || {
            if let Err(err) = engine.images.collect(&|| engine.image_users()) {
                tracing::warn!(err = err.chain(), "unused layers stay until the next collection");
            }
        });
    }

    /// `POST /images/load`: the messages of the reply.
    ///
    /// # Errors
    /// None before the first message; what fails comes in the stream.
    pub async fn images_load(
        self: &Arc<Self>,
        body: Bytestream,
        options: LoadOptions,
        by: &Principal,
    ) -> mpsc::Receiver<Result<Bytes>> {
        let (engine, by) = (Arc::clone(self), by.clone());
        self.talk(move |say| {
            let mut source = stream::reader(body);
            let outcome = engine.images.load(&mut source, &options, &by, say);
            engine.after_upload(outcome, source)
        })
    }

    /// `POST /images/create?fromSrc=-`: the messages of the reply.
    ///
    /// # Errors
    /// None before the first message; what fails comes in the stream.
    pub async fn image_import(
        self: &Arc<Self>,
        body: Bytestream,
        options: ImportOptions,
        by: &Principal,
    ) -> mpsc::Receiver<Result<Bytes>> {
        let (engine, by) = (Arc::clone(self), by.clone());
        self.talk(move |say| {
            let mut source = stream::reader(body);
            let outcome = engine.images.import(&mut source, &options, &by);
            let outcome = outcome.map(|id| say(serde_json::json!({ "status": id.to_string() })));
            engine.after_upload(outcome, source)
        })
    }

    /// What a refused archive left is collected, and the rest of it is read beside the reply: a client
    /// that is still sending would otherwise see a broken pipe instead of the reason.
    fn after_upload(
        self: &Arc<Self>,
        outcome: Result<()>,
        mut source: impl std::io::Read + Send + 'static,
    ) -> Result<()> {
        if outcome.is_err() {
            self.collect_soon();
            self.tasks.spawn_blocking(move || std::io::copy(&mut source, &mut std::io::sink()));
        } else if self.images.collect_again() {
            self.collect_soon();
        }
        outcome
    }

    /// Runs `work` on a blocking thread; what it says and how it fails goes to the receiver.
    pub(crate) fn talk(
        &self,
        work: impl FnOnce(&mut dyn FnMut(Value)) -> Result<()> + Send + 'static,
    ) -> mpsc::Receiver<Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(stream::MESSAGES);
        self.tasks.spawn_blocking(move || {
            let mut say = |message: Value| {
                // A client that went away misses the message; the work goes on.
                let _ = sender.blocking_send(Ok(Bytes::from(format!("{message}\r\n"))));
            };
            if let Err(err) = work(&mut say) {
                let _ = sender.blocking_send(Err(err));
            }
        });
        receiver
    }

    /// `GET /images/get`: the archive in pieces.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn images_save(
        &self,
        names: Vec<String>,
        by: &Principal,
    ) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let images = Arc::clone(&self.images);
        let saving = blocking(move || images.saving(&names)).await?;
        let (mut pieces, receiver) = stream::Pieces::new();
        let by = by.clone();
        self.tasks.spawn_blocking(move || {
            let outcome = saving.write(&mut pieces, &by);
            pieces.finish(outcome);
        });
        Ok(receiver)
    }

    /// Ids of the named images and of all that were built on them, for the `ancestor` filter.
    pub(crate) fn image_descendants(&self, names: &[String]) -> Result<Vec<ImageId>> {
        let mut ids: Vec<ImageId> =
            names.iter().filter_map(|name| self.images.resolve(name).ok()).collect();
        let wanted = ids.clone();
        self.store.read(|tx| {
            let all = tx.images::<serde::de::IgnoredAny>()?;
            for ancestor in &wanted {
                let Some(row) = all.iter().find(|row| row.id == *ancestor) else { continue };
                ids.extend(
                    all.iter()
                        .filter(|r| r.layers.starts_with(&row.layers) && !row.layers.is_empty())
                        .map(|r| r.id.clone()),
                );
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// What references mean now, in the words that containers were created with.
    pub(crate) fn image_names(&self) -> Result<BTreeMap<String, ImageId>> {
        let tags = self.store.read(|tx| tx.tags())?;
        let mut names = BTreeMap::new();
        for tag in tags {
            let Ok(reference) = tag.reference.parse::<base::Reference>() else { continue };
            if reference.tag() == Some("latest") {
                names.insert(reference.familiar_name(), tag.image.clone());
            }
            names.insert(reference.familiar(), tag.image.clone());
            names.insert(tag.reference, tag.image);
        }
        Ok(names)
    }

    /// Images with their use, and the bytes of all layers, for `system df`.
    pub(crate) async fn images_usage(self: &Arc<Self>) -> Result<(Vec<model::ImageSummary>, u64)> {
        let engine = Arc::clone(self);
        blocking(move || engine.images.usage(&engine.image_users())).await
    }

    /// Bytes of an image's layers.
    pub(crate) fn image_bytes(&self, id: &ImageId) -> u64 {
        self.images.row(id).map_or(0, |row| row.doc.size)
    }
}

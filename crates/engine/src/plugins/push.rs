//! `POST /plugins/{name}/push`: what a plugin came as, byte for byte.

use super::{Places, pull::spoken};
use crate::{
    Engine,
    images::{
        Voice,
        push::{PIECES, feed},
    },
};
use base::{Error, Principal, Reference, Result};
use bytes::Bytes;
use image::{
    manifest::{self, Descriptor, Either},
    registry::{Action, Begun, Credentials, Repository, Upload},
};
use serde_json::json;
use std::{fs::File, path::PathBuf, sync::Arc};
use tokio::sync::mpsc;

impl Engine {
    /// The messages of the reply.
    ///
    /// # Errors
    /// `NotFound`. All else is said in the reply.
    pub fn plugin_push(
        self: &Arc<Self>,
        name: &str,
        credentials: Credentials,
        by: &Principal,
    ) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let plugin = self.plugin_record(name)?;
        let to: Reference = plugin.name.parse()?;
        let (engine, by) = (Arc::clone(self), by.clone());
        Ok(spoken(self, move |voice| async move {
            let places = Places::of(&engine.config, &plugin);
            let repository = engine.registries.repository(&to, &credentials, Action::Push)?;
            voice
                .say(json!({"status": format!("The push refers to repository [{}]", to.name())}))
                .await;
            let place = places.blob(&plugin.manifest);
            let raw = tokio::fs::read(&place)
                .await
                .map_err(|e| Error::io(format!("cannot read {}", place.display()), e))?;
            let Either::Manifest(parsed) = manifest::parse(&raw)? else {
                return Err(Error::internal("a plugin's manifest is an index"));
            };
            for blob in parsed.layers.iter().chain([&parsed.config]) {
                send(&repository, blob, places.blob(&blob.digest), &voice).await?;
            }
            let tag = to.tag().unwrap_or("latest");
            let raw = Bytes::from(raw);
            repository.put_manifest(tag, &parsed.media_type, &raw).await?;
            let size = raw.len();
            voice
                .say(json!({"status": format!("{tag}: digest: {} size: {size}", plugin.manifest)}))
                .await;
            let aux = json!({"Tag": tag, "Digest": plugin.manifest, "Size": size});
            voice.say(json!({"progressDetail": {}, "aux": aux})).await;
            engine.store.write(|tx| {
                tx.emit(plugin.event("push", &by));
                Ok(())
            })
        }))
    }
}

/// Sees to it that the registry has a blob.
async fn send(
    repository: &Repository,
    blob: &Descriptor,
    place: PathBuf,
    voice: &Voice,
) -> Result<()> {
    let id = blob.digest.short();
    if repository.has_blob(&blob.digest).await? {
        voice.of(id, "Layer already exists").await;
        return Ok(());
    }
    voice.of(id, "Pushing").await;
    let Begun::Open(mut upload) = repository.begin_upload(None).await? else { return Ok(()) };
    let file =
        File::open(&place).map_err(|e| Error::io(format!("cannot read {}", place.display()), e))?;
    let ((sender, pieces), (told, _)) = (mpsc::channel(PIECES), mpsc::channel(1));
    tokio::task::spawn_blocking(move || feed(file, &sender, &told));
    upload.send(Upload::Stream(pieces, Some(blob.size))).await?;
    upload.finish(&blob.digest).await?;
    voice.of(id, "Pushed").await;
    Ok(())
}

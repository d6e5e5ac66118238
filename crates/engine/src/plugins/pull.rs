//! Plugins from registries: what they want, installing, upgrading.

use super::{
    Places, Record, agreed,
    digesting::Digesting,
    install::{CONFIG, Draft, Made, check},
    named, privileges,
};
use crate::{
    Engine,
    images::{Voice, blocking, pull::unprompted},
    lifecycle::LIMITS,
};
use api::model::{PluginConfig, PluginPrivilege};
use base::{ContainerId, Digest, Error, Principal, Reference, Result};
use bytes::Bytes;
use image::{
    Limits, decompress,
    manifest::{self, Descriptor, Either, Manifest},
    registry::{Action, Credentials, Failed, Fetched, Repository},
};
use serde_json::json;
use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use sys::root::Root;
use tokio::sync::mpsc;

/// Messages that may wait for a slow client.
const MESSAGES: usize = 16;
/// Tries of one download, and the wait before the second; it doubles.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_secs(1);
/// Pieces of a download that may wait for the disk.
const PIECES: usize = 8;

/// What to install.
#[derive(Debug)]
pub struct PluginPull {
    /// The registry's name of it.
    pub remote: Reference,
    /// What it is called here; as there when empty. Of an upgrade: the plugin.
    pub name: String,
    /// What was agreed to.
    pub privileges: Vec<PluginPrivilege>,
    /// Who asks.
    pub credentials: Credentials,
}

/// Runs `work` and gives what it says; an error ends it. It ends too when nobody listens.
pub(super) fn spoken<W>(
    engine: &Arc<Engine>,
    work: impl FnOnce(Voice) -> W,
) -> mpsc::Receiver<Result<Bytes>>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let work = work(Voice::new(sender.clone()));
    let stop = engine.stop.clone();
    engine.tasks.spawn(async move {
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = sender.closed() => return,
            () = stop.cancelled() => Err(Error::cancelled("the daemon is stopping")),
        };
        if let Err(err) = outcome {
            let _ = sender.send(Err(unprompted(err))).await;
        }
    });
    receiver
}

/// A plugin at its registry.
struct Found {
    repository: Repository,
    top: Fetched,
    manifest: Manifest,
    raw: Bytes,
    config: PluginConfig,
}

impl Engine {
    async fn plugin_at(&self, remote: &Reference, credentials: &Credentials) -> Result<Found> {
        let remote = remote.clone().or_latest();
        let limits = Limits::default();
        let repository = self.registries.repository(&remote, credentials, Action::Pull)?;
        let name = match remote.digest() {
            Some(digest) => digest.to_string(),
            None => remote.tag().unwrap_or("latest").to_owned(),
        };
        let top = repository.manifest(&name, &limits).await.map_err(|e| e.of_pull(&remote))?;
        let Either::Manifest(manifest) = manifest::parse(&top.bytes)? else {
            return Err(Error::invalid(format!("{} is an index and no plugin", remote.familiar())));
        };
        let kind = manifest.config.media_type.as_str();
        if kind != CONFIG {
            return Err(Error::invalid(format!(
                "{} is no plugin: its configuration is of the type {kind:?}, want {CONFIG:?}",
                remote.familiar()
            )));
        }
        let of = &manifest.config;
        let raw = repository.small_blob(&of.digest, of.size, limits.config_bytes).await?;
        let config: PluginConfig = api::decode(&raw)?;
        check(&config)?;
        Ok(Found { repository, top, manifest, raw, config })
    }

    /// `GET /plugins/privileges`.
    ///
    /// # Errors
    /// Of the registry; `Invalid` for what is no plugin.
    pub async fn plugin_privileges(
        &self,
        remote: &Reference,
        credentials: &Credentials,
    ) -> Result<Vec<PluginPrivilege>> {
        let found = self.plugin_at(remote, credentials).await.map_err(unprompted)?;
        Ok(privileges(&found.config))
    }

    /// `POST /plugins/pull`: its name here, and the messages of the reply.
    ///
    /// # Errors
    /// `Invalid` for a bad name; `Conflict` for one that is taken. All else is said in the reply.
    pub fn plugin_pull(
        self: &Arc<Self>,
        asked: PluginPull,
        by: &Principal,
    ) -> Result<(String, mpsc::Receiver<Result<Bytes>>)> {
        let name = match asked.name.as_str() {
            "" => asked.remote.repository_with_tag().or_latest().familiar(),
            name => named(name)?,
        };
        self.plugin_name_is_free(&name)?;
        let (engine, by, own) = (Arc::clone(self), by.clone(), name.clone());
        let receiver = spoken(self, |voice| async move {
            let made = engine.plugin_fetch(&asked, &voice).await?;
            let _turn = engine.plugin_turn.lock().await;
            engine.plugin_name_is_free(&own)?;
            engine.plugin_settle(ContainerId::random(), own, made, ("pull", &by))?;
            let status = format!("Status: Downloaded newer plugin for {}", asked.remote.familiar());
            voice.say(json!({ "status": status })).await;
            Ok(())
        });
        Ok((name, receiver))
    }

    /// `POST /plugins/{name}/upgrade`: the messages of the reply. The plugin keeps its id and loses its settings.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is enabled.
    pub fn plugin_upgrade(
        self: &Arc<Self>,
        asked: PluginPull,
        by: &Principal,
    ) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let disabled = |engine: &Self, name: &str| -> Result<Record> {
            let plugin = engine.plugin_record(name)?;
            if plugin.enabled {
                return Err(Error::conflict(format!(
                    "plugin {} is enabled: disable it before upgrading it",
                    plugin.name
                )));
            }
            Ok(plugin)
        };
        disabled(self, &asked.name)?;
        let (engine, by) = (Arc::clone(self), by.clone());
        Ok(spoken(self, move |voice| async move {
            let made = engine.plugin_fetch(&asked, &voice).await?;
            let _turn = engine.plugin_turn.lock().await;
            let plugin = disabled(&engine, &asked.name)?;
            let old = Places::of(&engine.config, &plugin).data;
            engine.plugin_settle(plugin.id, plugin.name, made, ("upgrade", &by))?;
            engine.trash_path(&old)?;
            let status = format!("Status: Upgraded plugin to {}", asked.remote.familiar());
            voice.say(json!({ "status": status })).await;
            Ok(())
        }))
    }

    /// A plugin's folder, filled from its registry.
    async fn plugin_fetch(self: &Arc<Self>, asked: &PluginPull, voice: &Voice) -> Result<Made> {
        let remote = asked.remote.clone().or_latest();
        let found = self.plugin_at(&remote, &asked.credentials).await?;
        agreed(&found.config, &asked.privileges)?;
        let tag = remote.tag().unwrap_or_default();
        voice.pulling(tag, remote.path()).await;
        let draft = Draft::new(self)?;
        draft.put(&found.raw)?;
        let digest = draft.put(&found.top.bytes)?;
        for layer in &found.manifest.layers {
            let id = layer.digest.short();
            voice.of(id, "Downloading").await;
            fetch_blob(&found.repository, layer, &draft.blob(&layer.digest)).await?;
            voice.of(id, "Download complete").await;
        }
        let diff_ids = found.config.rootfs.clone().unwrap_or_default().diff_ids;
        if diff_ids.len() != found.manifest.layers.len() {
            return Err(Error::invalid(format!(
                "the plugin has {} layers, its configuration says {}",
                found.manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let blobs = found.manifest.layers.iter().map(|l| draft.blob(&l.digest));
        let layers: Vec<(PathBuf, String)> = blobs.zip(diff_ids).collect();
        let root = draft.root();
        blocking(move || {
            layers.iter().try_for_each(|(blob, diff_id)| unpack(blob, diff_id, &root))
        })
        .await?;
        voice.say(json!({"status": format!("Digest: {digest}")})).await;
        Ok(Made { draft, config: found.config, manifest: digest, reference: remote.to_string() })
    }
}

/// Unpacks a layer whose tar must have the digest `diff_id`.
fn unpack(blob: &Path, diff_id: &str, root: &Path) -> Result<()> {
    let file = File::open(blob).map_err(|e| Error::io("cannot read the plugin's layer", e))?;
    let root = Root::open(root)
        .map_err(|e| Error::internal("cannot open the plugin's root").caused_by(e))?;
    let found = decompress::piped(file, &Limits::default(), |tar| {
        let mut tar = Digesting::new(tar);
        storage::extract_into(&root, Path::new("/"), &mut tar, &LIMITS)?;
        // What fills a tar up to its block counts too.
        io::copy(&mut tar, &mut io::sink())
            .map_err(|e| decompress::unwrap("cannot read the plugin's layer", e))?;
        Ok(tar.finish().0)
    })?;
    if found.to_string() == diff_id {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the plugin's layer unpacks to {found}, its configuration says {diff_id}"
    )))
}

/// A blob into a file, checked.
async fn fetch_blob(repository: &Repository, blob: &Descriptor, place: &Path) -> Result<()> {
    let mut tried = 1;
    loop {
        match try_fetch(repository, blob, place).await {
            Err(err) if err.is_transient() && tried < TRIES => {
                tokio::time::sleep(err.wait().unwrap_or(WAIT * 2_u32.pow(tried - 1))).await;
                tried += 1;
            }
            done => return done.map_err(Error::from),
        }
    }
}

async fn try_fetch(repository: &Repository, blob: &Descriptor, place: &Path) -> Result<(), Failed> {
    let mut coming = repository.blob(&blob.digest, blob.size, 0, None).await?.response;
    let (sender, pieces) = mpsc::channel(PIECES);
    let place = place.to_owned();
    let kept = tokio::task::spawn_blocking(move || keep(&place, pieces));
    let mut bytes = 0;
    while let Some(piece) = coming.piece().await? {
        bytes += piece.len() as u64;
        // The writer that ended early says why.
        if bytes > blob.size || sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    let kept = kept.await.map_err(|e| Error::internal("a download broke off").caused_by(e))?;
    let digest = kept?;
    if digest != blob.digest || bytes != blob.size {
        return Err(Error::invalid(format!(
            "digest mismatch: blob {} of {} bytes came as {digest} with {bytes}",
            blob.digest, blob.size
        ))
        .into());
    }
    Ok(())
}

fn keep(place: &Path, mut pieces: mpsc::Receiver<Bytes>) -> Result<Digest> {
    let failed = |e| Error::io("cannot write the plugin's layer", e);
    let mut file = Digesting::new(File::create(place).map_err(failed)?);
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok(file.finish().0)
}

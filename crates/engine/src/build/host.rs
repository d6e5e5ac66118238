//! The host that builds run on: images, layers and the cache of this engine.

use super::{Job, run::RunContainer};
use crate::{
    Engine,
    images::{Held, Hold, How, NewImage, NewLayer, Record, pull::PullRequest},
};
use base::{Digest, Error, ImageId, Reference, Result, Timestamp};
use build::{
    host::{CacheKey, Commit, Exec, Host, Image, Layer, Lookup, View, Workspace},
    output::{Message, Output},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use store::CacheEntry;
use sys::root::Root;

/// One build's host.
pub struct BuildHost {
    engine: Arc<Engine>,
    job: Arc<Job>,
    /// Keeps the layers that steps make.
    hold: Arc<Hold>,
    /// Keeps the images that stages stand on.
    held: Mutex<Vec<Held>>,
    /// Layers of images that this build has seen.
    known: Mutex<HashMap<ImageId, Vec<NewLayer>>>,
    trees: AtomicUsize,
    /// Images that people see and this build made.
    made: Mutex<Vec<ImageId>>,
}

impl std::fmt::Debug for BuildHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildHost").field("build", &self.job.id).finish_non_exhaustive()
    }
}

/// What the store keeps with a cache entry.
#[derive(Debug, Serialize, Deserialize)]
struct Cached {
    created: Timestamp,
}

/// What is kept with an entry of BuildKit's cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheFact {
    /// When the step was done.
    pub created: Timestamp,
    /// What it was, in words.
    #[serde(default)]
    pub description: String,
    /// What the step's key was made of, by name: why a later one misses.
    #[serde(default)]
    pub parts: Vec<(String, String)>,
    /// Hits so far.
    #[serde(default)]
    pub uses: u64,
    /// The state before it.
    #[serde(default)]
    pub parent: Option<ImageId>,
    /// Bytes that it added.
    #[serde(default)]
    pub size: u64,
}

/// What keys of BuildKit's cache begin with.
pub(super) const STEPS: &str = "bk/";

/// Runs blocking work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => Err(Error::internal("a step of the build ended early").caused_by(err)),
    }
}

/// A stored layer in the words of builds.
pub(super) fn layer(new: NewLayer) -> Layer {
    Layer { id: new.layer, diff_id: new.diff_id, size: new.size }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BuildHost {
    pub(super) fn new(engine: &Arc<Engine>, job: &Arc<Job>) -> Self {
        Self {
            engine: Arc::clone(engine),
            job: Arc::clone(job),
            hold: Arc::new(engine.images.hold()),
            held: Mutex::default(),
            known: Mutex::default(),
            trees: AtomicUsize::new(0),
            made: Mutex::default(),
        }
    }

    /// Makes what was built survive a power cut: once, before the client is told.
    pub(super) async fn finish(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.images.settle()).await
    }

    pub(super) fn layers(&self, image: &ImageId) -> Result<Vec<NewLayer>> {
        if let Some(layers) = lock(&self.known).get(image) {
            return Ok(layers.clone());
        }
        let held = self.engine.images.take(image.as_str(), None)?;
        let layers = self.engine.images.layers_of(&held)?;
        lock(&self.held).push(held);
        lock(&self.known).insert(image.clone(), layers.clone());
        Ok(layers)
    }

    fn layer_ids(&self, image: Option<&ImageId>) -> Result<Vec<Digest>> {
        match image {
            Some(image) => Ok(self.layers(image)?.into_iter().map(|l| l.layer).collect()),
            None => Ok(Vec::new()),
        }
    }

    /// Pulls what a stage stands on; a name that can only be an id is looked for here alone.
    async fn pull(&self, name: &str, lookup: &Lookup, output: &Output) -> Result<()> {
        let reference: Reference = name.parse()?;
        let request = PullRequest {
            credentials: lock(&self.job.credentials).of(reference.domain()),
            reference: reference.or_latest(),
            all_tags: false,
            platform: lookup.platform.clone(),
        };
        let mut messages = self.engine.image_pull(request, &self.job.by);
        while let Some(message) = messages.recv().await {
            if let Ok(json) = serde_json::from_slice(&message?) {
                output.send(Message::Progress(json)).await;
            }
        }
        Ok(())
    }

    fn held_image(&self, name: &str, lookup: &Lookup) -> Result<Image> {
        let held = self.engine.images.take(name, lookup.platform.as_ref())?;
        let image = Image { id: Some(held.id.clone()), config: held.config.config().clone() };
        let layers = self.engine.images.layers_of(&held)?;
        lock(&self.known).insert(held.id.clone(), layers);
        lock(&self.held).push(held);
        Ok(image)
    }
}

impl Host for BuildHost {
    type Workspace = BuildTree;
    type Container = RunContainer;

    async fn image(&self, name: &str, lookup: &Lookup, output: &Output) -> Result<Image> {
        let found = if lookup.pull && !lookup.local {
            Err(Error::not_found("to be asked for"))
        } else {
            self.held_image(name, lookup)
        };
        let image = match found {
            Err(err) if err.kind() == base::Kind::NotFound && !lookup.local => {
                self.pull(name, lookup, output).await?;
                self.held_image(name, lookup)?
            }
            found => found?,
        };
        if let Some(id) = &image.id {
            self.engine.images.used(id)?;
        }
        Ok(image)
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<Image>> {
        let mut found = self.engine.store.read(|tx| tx.cache_below::<Cached>(&prefix(key)))?;
        found.sort_by_key(|entry| std::cmp::Reverse(entry.doc.created));
        for entry in found {
            let Some(id) = entry.image else { continue };
            // One that was removed meanwhile is no hit.
            match self.held_image(id.as_str(), &Lookup::default()) {
                Ok(image) => return Ok(Some(image)),
                Err(err) if err.kind() == base::Kind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
        Ok(None)
    }

    async fn is_ancestor(&self, image: &ImageId, descendant: &ImageId) -> Result<bool> {
        let mut at = Some(descendant.clone());
        // History is bounded, so a longer chain of parents is damage.
        for _ in 0..image::limits::ENTRIES {
            let Some(id) = at else { return Ok(false) };
            if id == *image {
                return Ok(true);
            }
            let row = self.engine.store.read(|tx| tx.image::<Record>(&id))?;
            at = row.and_then(|row| row.parent);
        }
        Ok(false)
    }

    async fn workspace(&self, image: Option<&ImageId>) -> Result<BuildTree> {
        self.tree(image, true).await
    }

    async fn view(&self, image: &ImageId) -> Result<View> {
        let layers = self.layer_ids(Some(image))?;
        let engine = Arc::clone(&self.engine);
        blocking(move || Ok(View { root: engine.snapshots.view(&layers)?, guard: Box::new(()) }))
            .await
    }

    async fn commit(&self, commit: Commit) -> Result<Image> {
        let mut layers = match (&commit.layers_of, &commit.parent) {
            (Some(source), _) => {
                let mut layers = self.layers(source)?;
                layers.truncate(commit.config.rootfs.diff_ids.len());
                layers
            }
            (None, Some(parent)) => self.layers(parent)?,
            (None, None) => Vec::new(),
        };
        if let Some(layer) = &commit.layer {
            layers.push(self.stored(layer)?);
        }
        let config = commit.config.seal();
        let id = config.id().clone();
        let image = NewImage {
            config,
            layers: layers.clone(),
            parent: commit.parent,
            references: Vec::new(),
            manifest: None,
            manifests: Vec::new(),
            how: How::Build,
            from: self.job.id.clone(),
            event: Some("create"),
        };
        self.engine.images.register(&image, &self.job.by)?;
        if let Some(key) = &commit.key {
            let now = Timestamp::now();
            let entry = CacheEntry {
                key: format!("{}{}", prefix(key), id.hex()),
                image: Some(id.clone()),
                used: now,
                doc: Cached { created: now },
            };
            self.engine.store.write(|tx| tx.put_cache(&entry))?;
        }
        lock(&self.known).insert(id.clone(), layers);
        Ok(Image { id: Some(id), config: image.config.config().clone() })
    }

    async fn container(&self, exec: Exec) -> Result<RunContainer> {
        RunContainer::create(&self.engine, &self.job, &self.hold, exec).await
    }

    fn unpack(&self, archive: File, into: &Root) -> Result<()> {
        super::context::unpack(archive, into)
    }

    fn scratch(&self) -> PathBuf {
        self.job.dir.clone()
    }
}

impl Engine {
    /// The host of a build whose front is elsewhere; [`BuildHost::close`] ends it.
    ///
    /// # Errors
    /// Of the disk.
    pub fn build_host(self: &Arc<Self>, by: &base::Principal) -> Result<Arc<BuildHost>> {
        let job = self.build_job(
            by,
            api::model::HostConfig::default(),
            crate::images::KnownCredentials::default(),
        )?;
        Ok(Arc::new(BuildHost::new(self, &job)))
    }
}

impl BuildHost {
    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    pub(super) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    pub(super) fn host_defaults(&self) -> api::model::HostConfig {
        self.job.host.clone()
    }

    /// A writable tree over a state that is not mounted here: a container will.
    pub(super) async fn unmounted(&self, image: Option<&ImageId>) -> Result<BuildTree> {
        self.tree(image, false).await
    }

    /// A writable tree over a state.
    async fn tree(&self, image: Option<&ImageId>, mounted: bool) -> Result<BuildTree> {
        let number = self.trees.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}.tree-{number}", self.job.id);
        let layers = self.layer_ids(image)?;
        let (engine, hold) = (Arc::clone(&self.engine), Arc::clone(&self.hold));
        blocking(move || {
            let active = engine.snapshots.prepare_build(&id, &layers)?;
            let root = mounted.then(|| engine.snapshots.mount(&active)).transpose()?;
            Ok(BuildTree { engine, hold, active, root })
        })
        .await
    }

    /// Notes an image that people see.
    pub(super) fn note_made(&self, image: &ImageId) {
        let mut made = lock(&self.made);
        if !made.contains(image) {
            made.push(image.clone());
        }
    }

    pub(super) fn made(&self) -> Vec<ImageId> {
        lock(&self.made).clone()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.job.id
    }

    /// Who asked.
    pub fn by(&self) -> &base::Principal {
        &self.job.by
    }

    /// Who the client is to the registry of `domain`.
    pub fn allow(&self, domain: &str, credentials: crate::images::Credentials) {
        lock(&self.job.credentials).set(domain, credentials);
    }

    /// Whether somebody said who the client is to the registry of `domain`.
    pub fn knows(&self, domain: &str) -> bool {
        lock(&self.job.credentials).has(domain)
    }

    /// What `domain`'s registry is shown.
    pub fn credentials(&self, domain: &str) -> crate::images::Credentials {
        lock(&self.job.credentials).of(domain)
    }

    /// Removes the folder of the build.
    pub fn close(&self) {
        if let Err(err) = self.engine.trash_path(&self.job.dir) {
            tracing::warn!(
                build = self.job.id,
                err = err.chain(),
                "the folder of a build stays until the next start"
            );
        }
    }

    /// The state that has `layer` above those of `parent`.
    ///
    /// # Errors
    /// Of store and storage.
    pub fn state(&self, parent: Option<&ImageId>, layers: &[Layer]) -> Result<Image> {
        let mut all = match parent {
            Some(parent) => self.layers(parent)?,
            None => Vec::new(),
        };
        for layer in layers {
            all.push(self.stored(layer)?);
        }
        self.state_of(parent, all)
    }

    /// The state of these layers, lowest first.
    ///
    /// # Errors
    /// Of store and storage.
    fn state_of(&self, parent: Option<&ImageId>, layers: Vec<NewLayer>) -> Result<Image> {
        let mut config = image::ImageConfig::scratch(&base::Platform::host());
        config.rootfs.diff_ids = layers.iter().map(|l| l.diff_id.clone()).collect();
        let config = config.seal();
        let id = config.id().clone();
        let image = NewImage {
            config,
            layers: layers.clone(),
            parent: parent.filter(|parent| **parent != id).cloned(),
            references: Vec::new(),
            manifest: None,
            manifests: Vec::new(),
            how: How::Step,
            from: self.job.id.clone(),
            event: None,
        };
        self.engine.images.register(&image, &self.job.by)?;
        lock(&self.known).insert(id.clone(), layers);
        Ok(Image { id: Some(id), config: image.config.config().clone() })
    }

    /// A layer without files: what a step made that changed nothing.
    ///
    /// # Errors
    /// Of storage.
    pub async fn empty_layer(self: &Arc<Self>) -> Result<Layer> {
        const END_OF_TAR: [u8; 1024] = [0; 1024];
        let hold = Arc::clone(&self.hold);
        blocking(move || hold.apply(&[], &mut &END_OF_TAR[..]).map(layer)).await
    }

    /// The layers of `upper` laid over those of `lower`, deletions included.
    ///
    /// # Errors
    /// Of storage.
    pub async fn stack(
        self: &Arc<Self>,
        lower: Option<&ImageId>,
        upper: &[Layer],
    ) -> Result<Image> {
        let mut layers = match lower {
            Some(lower) => self.layers(lower)?,
            None => Vec::new(),
        };
        let (host, upper) = (Arc::clone(self), upper.to_vec());
        let layers = blocking(move || {
            for layer in &upper {
                let parents: Vec<Digest> = layers.iter().map(|l| l.layer.clone()).collect();
                let made =
                    host.piped(&parents, |out| host.engine.layers.write_tar(&layer.id, out))?;
                layers.push(made);
            }
            Ok(layers)
        })
        .await?;
        self.state_of(lower, layers)
    }

    /// The layers of `state` with no time later than `epoch`, in seconds since 1970; the lowest `keep` stay as
    /// they are.
    ///
    /// # Errors
    /// Of storage.
    pub async fn retimed(
        self: &Arc<Self>,
        state: &ImageId,
        keep: usize,
        epoch: i64,
    ) -> Result<Image> {
        let (host, old) = (Arc::clone(self), self.layers(state)?);
        let layers = blocking(move || {
            let mut layers: Vec<NewLayer> = old.iter().take(keep).cloned().collect();
            for layer in old.iter().skip(keep) {
                let parents: Vec<Digest> = layers.iter().map(|l| l.layer.clone()).collect();
                let made = host.piped(&parents, |out| {
                    let times = storage::Times::NotAfter(epoch);
                    storage::through(
                        |tar| host.engine.layers.write_tar(&layer.layer, tar),
                        |tar| storage::retime(tar, times, out),
                    )
                })?;
                layers.push(made);
            }
            Ok(layers)
        })
        .await?;
        self.state_of(None, layers)
    }

    /// The layer over `parents` of the tar that `write` writes.
    fn piped(
        &self,
        parents: &[Digest],
        write: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    ) -> Result<NewLayer> {
        storage::through(write, |tar| self.hold.apply(parents, tar))
    }

    /// The layers of an image, lowest first.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub fn image_layers(&self, image: &ImageId) -> Result<Vec<Layer>> {
        Ok(self.layers(image)?.into_iter().map(layer).collect())
    }

    /// Makes an image that people see, with these names.
    ///
    /// # Errors
    /// Of store and storage.
    pub fn register(
        &self,
        config: image::ConfigBlob,
        state: Option<&ImageId>,
        references: &[Reference],
        manifests: Vec<(Digest, Vec<u8>)>,
        manifest: Option<Digest>,
    ) -> Result<()> {
        let layers = match state {
            Some(state) => self.layers(state)?,
            None => Vec::new(),
        };
        let image = NewImage {
            config,
            layers,
            parent: None,
            references: references.to_vec(),
            manifest,
            manifests,
            how: How::Build,
            from: self.job.id.clone(),
            event: Some("create"),
        };
        self.engine.images.register(&image, &self.job.by)?;
        self.note_made(image.config.id());
        Ok(())
    }

    /// The manifest that an image came by.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub fn manifest_of(&self, image: &ImageId) -> Result<Option<Digest>> {
        Ok(self.engine.images.row(image)?.doc.manifest)
    }

    /// The state that the step with `key` led to before.
    ///
    /// # Errors
    /// Of the store.
    pub fn recall(&self, key: &str) -> Result<Option<(Image, Timestamp)>> {
        let key = format!("{STEPS}{key}");
        let Some(entry) = self.engine.store.read(|tx| tx.cache::<CacheFact>(&key))? else {
            return Ok(None);
        };
        let Some(id) = &entry.image else { return Ok(None) };
        let created = entry.doc.created;
        match self.held_image(id.as_str(), &Lookup::default()) {
            Ok(image) => {
                let doc = CacheFact { uses: entry.doc.uses + 1, ..entry.doc };
                let row = CacheEntry { key, image: entry.image, used: Timestamp::now(), doc };
                self.engine.store.write(|tx| tx.put_cache(&row))?;
                Ok(Some((image, created)))
            }
            // One that was removed meanwhile is no hit.
            Err(err) if err.kind() == base::Kind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Remembers what the step with `key` led to.
    ///
    /// # Errors
    /// Of the store.
    pub fn remember(&self, key: &str, image: &ImageId, fact: CacheFact) -> Result<()> {
        let entry = CacheEntry {
            key: format!("{STEPS}{key}"),
            image: Some(image.clone()),
            used: Timestamp::now(),
            doc: fact,
        };
        self.engine.store.write(|tx| tx.put_cache(&entry))
    }

    /// Makes what was built survive a power cut: once, before the client is told.
    ///
    /// # Errors
    /// Of the disk.
    pub async fn settle(&self) -> Result<()> {
        self.finish().await
    }

    fn stored(&self, layer: &Layer) -> Result<NewLayer> {
        let row = self.engine.store.read(|tx| tx.layer::<crate::images::LayerRecord>(&layer.id))?;
        let row =
            row.ok_or_else(|| Error::internal(format!("layer {} has lost its row", layer.id)))?;
        Ok(NewLayer {
            bound: row.id != row.diff_id,
            layer: row.id,
            diff_id: row.diff_id,
            size: row.size,
            tar_size: row.doc.tar_size,
        })
    }
}

/// Whether nothing was written into a tree.
pub(super) fn untouched(active: &storage::Active) -> Result<bool> {
    let mut entries = std::fs::read_dir(&active.upper)
        .map_err(|e| Error::io(format!("cannot look at the tree of {}", active.id), e))?;
    Ok(entries.next().is_none())
}

/// What the keys of all images of one step begin with.
fn prefix(key: &CacheKey) -> String {
    let parent = key.parent.as_ref().map_or("scratch", |id| id.hex());
    format!("{parent}/{}/", key.step.hex())
}

/// A tree that a step writes; it goes when this is dropped.
pub struct BuildTree {
    engine: Arc<Engine>,
    hold: Arc<Hold>,
    active: storage::Active,
    /// Nothing once the tree is unmounted.
    root: Option<Root>,
}

impl BuildTree {
    pub(super) fn lower(&self) -> &[PathBuf] {
        &self.active.lower
    }

    pub(super) fn upper(&self) -> &std::path::Path {
        &self.active.upper
    }

    pub(super) fn work(&self) -> &std::path::Path {
        &self.active.work
    }
}

impl std::fmt::Debug for BuildTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildTree").field("id", &self.active.id).finish_non_exhaustive()
    }
}

impl Workspace for BuildTree {
    fn root(&self) -> &Root {
        self.root.as_ref().expect("the tree is unmounted only when it is consumed")
    }

    async fn commit(mut self) -> Result<Option<Layer>> {
        blocking(move || {
            // The overlay goes before its upper folder is taken away.
            self.root = None;
            if untouched(&self.active)? {
                return Ok(None);
            }
            let take = storage::Commit::Take;
            let made = self
                .hold
                .make(|_| Ok(NewLayer::from(self.engine.snapshots.commit(&self.active, take)?)))?;
            Ok(Some(layer(made)))
        })
        .await
    }
}

impl Drop for BuildTree {
    fn drop(&mut self) {
        self.root = None;
        if let Err(err) = self.engine.snapshots.remove(&self.active) {
            tracing::warn!(
                err = err.chain(),
                "the tree of a build step stays until the next start"
            );
        }
    }
}

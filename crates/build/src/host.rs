//! What a build needs from whoever runs it: images, layers, containers. The engine implements these over
//! its parts; tests implement them over plain folders.
//!
//! Invariants: a [`Workspace`] or [`Container`] that is dropped without being committed or removed leaves
//! nothing behind; a [`Layer`] that was made stays until the host is told that the build is over, at least.

use crate::output::Output;
use base::{Digest, ImageId, Platform, Result};
use image::{ImageConfig, RunConfig};
use std::{any::Any, fmt, fs::File, future::Future, path::PathBuf};
use sys::root::Root;

/// Runs builds.
pub trait Host: Send + Sync + 'static {
    /// A folder tree that becomes a layer.
    type Workspace: Workspace;
    /// A container that runs one command.
    type Container: Container;

    /// The image called `name`, pulled if it is not here or must be fresh.
    ///
    /// # Errors
    /// `NotFound` with docker's wording; `Invalid` for a malformed name.
    fn image(
        &self,
        name: &str,
        lookup: &Lookup,
        output: &Output,
    ) -> impl Future<Output = Result<Image>> + Send;

    /// The image that a step made before from the same parent with the same key, newest first.
    ///
    /// # Errors
    /// Of the store.
    fn cached(&self, key: &CacheKey) -> impl Future<Output = Result<Option<Image>>> + Send;

    /// Whether `image` was built, step by step, on the way to `descendant`.
    ///
    /// # Errors
    /// Of the store.
    fn is_ancestor(
        &self,
        image: &ImageId,
        descendant: &ImageId,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// A writable tree over `image`.
    ///
    /// # Errors
    /// Of the storage.
    fn workspace(
        &self,
        image: Option<&ImageId>,
    ) -> impl Future<Output = Result<Self::Workspace>> + Send;

    /// The tree of `image`, to be read.
    ///
    /// # Errors
    /// Of the storage.
    fn view(&self, image: &ImageId) -> impl Future<Output = Result<View>> + Send;

    /// Makes an image.
    ///
    /// # Errors
    /// Of store and storage.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<Image>> + Send;

    /// Makes a container, not started yet.
    ///
    /// # Errors
    /// As creating a container gives them.
    fn container(&self, exec: Exec) -> impl Future<Output = Result<Self::Container>> + Send;

    /// Unpacks an archive, compressed or not, below `into`. Blocks.
    ///
    /// # Errors
    /// `Invalid` for an archive that is malformed, escapes or bursts the limits.
    fn unpack(&self, archive: File, into: &Root) -> Result<()>;

    /// A folder for downloads and scripts of this build; the host removes it when the build is over.
    fn scratch(&self) -> PathBuf;
}

/// A tree being written.
pub trait Workspace: Send + 'static {
    /// The whole tree, image included.
    fn root(&self) -> &Root;

    /// Makes a layer of what was written; nothing written is no layer.
    ///
    /// # Errors
    /// Of the storage.
    fn commit(self) -> impl Future<Output = Result<Option<Layer>>> + Send;
}

/// A container of the build.
pub trait Container: Send + 'static {
    /// Its id.
    fn id(&self) -> &str;

    /// What the engine had to say when it was made.
    fn warnings(&self) -> &[String];

    /// Runs it to its end, its output going to `output`; gives the exit code.
    ///
    /// # Errors
    /// As starting a container gives them.
    fn run(&mut self, output: &Output) -> impl Future<Output = Result<i64>> + Send;

    /// Makes a layer of what it changed; nothing changed is no layer.
    ///
    /// # Errors
    /// Of the storage.
    fn commit(&mut self) -> impl Future<Output = Result<Option<Layer>>> + Send;

    /// Removes it.
    ///
    /// # Errors
    /// As removing a container gives them.
    fn remove(self) -> impl Future<Output = Result<()>> + Send;

    /// Lets it stay although the build is done with it (`--rm=false`).
    fn keep(self);
}

/// How an image is looked for.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Only this platform will do.
    pub platform: Option<Platform>,
    /// Ask the registry even when it is here.
    pub pull: bool,
    /// Never ask the registry.
    pub local: bool,
}

/// An image, or `scratch` when it has no id.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Digest of its config.
    pub id: Option<ImageId>,
    /// Its config.
    pub config: ImageConfig,
}

impl Image {
    /// The empty image.
    pub fn scratch(platform: &Platform) -> Self {
        Self { id: None, config: ImageConfig::scratch(platform) }
    }
}

/// A layer that a step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its id in storage.
    pub id: Digest,
    /// Digest of its tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
}

/// What a step is found again by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The image before it; none for scratch.
    pub parent: Option<ImageId>,
    /// Digest of the operation.
    pub step: Digest,
}

/// An image to make.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The image before the step.
    pub parent: Option<ImageId>,
    /// Its config, history and DiffIDs complete.
    pub config: ImageConfig,
    /// The layer above the parent's.
    pub layer: Option<Layer>,
    /// Takes all layers from this image instead (a step restored from `--cache-from`).
    pub layers_of: Option<ImageId>,
    /// What it will be found by; none when it is no step.
    pub key: Option<CacheKey>,
}

/// A container to make.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The image to run.
    pub image: Option<ImageId>,
    /// How: command, environment, user, folder, all complete.
    pub config: RunConfig,
    /// A script to be seen at `/dev/pipes/<name>`: name and path on the host.
    pub script: Option<(String, PathBuf)>,
}

/// A tree to read, and what keeps it there.
pub struct View {
    /// The tree.
    pub root: Root,
    /// Dropped when the view is.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("root", &self.root).finish_non_exhaustive()
    }
}

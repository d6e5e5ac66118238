//! `POST /build`: the classic builder over this engine.
//!
//! Flow of [`Engine::image_build`]: the request is checked; the body (or the remote place) becomes a context
//! folder (`context`); crate `build` solves the Dockerfile through `host::BuildHost`; the image gets its
//! names; a [`Record`] of it all goes to the store. Failures before the first message are the request's
//! answer, later ones a message of the stream.
//!
//! Invariants: everything of a build is below `builds/<id>` and goes with it, whatever happens; its layers
//! are held until rows name them; the build stops when its client goes, and what it runs is removed.

mod blobs;
mod cache;
mod context;
mod git;
mod host;
mod names;
mod policy;
mod record;
mod release;
mod request;
mod run;
mod step;
mod stream;
mod talk;

pub use blobs::Compression;
pub use cache::CacheStep;
pub use git::Repository;
pub use host::{BuildHost, BuildTree, CacheFact};
pub use policy::{Builder, CachePolicy};
pub use record::{Outcome, Record, Told};
pub use release::{Release, ReleaseImage};
pub use request::BuildRequest;
pub use step::{Done, Network, Source, Step, StepMount};
pub use talk::{Attached, Beside, Talk};

use crate::{
    Engine,
    containers::RemoveOptions,
    images::{Bytestream, KnownCredentials},
};
use api::model;
use base::{ContainerId, Error, Principal, Result, Timestamp};
use build::{
    output::{Message, Output},
    solve::{self, Built, Failure, Options},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
};
use stream::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Folder of a build with a file for each of its containers.
const CONTAINERS: &str = "containers";
/// Messages that may wait for a slow client.
const MESSAGES: usize = 256;

/// The messages of a build; dropping them stops it.
#[derive(Debug)]
pub struct BuildStream {
    messages: mpsc::Receiver<Value>,
    first: Option<Value>,
    _stop: tokio_util::sync::DropGuard,
}

impl BuildStream {
    /// The next message, as docker's JSON.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Value> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.messages.recv().await,
        }
    }
}

/// A build under way: everything its parts share.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) by: Principal,
    pub(crate) dir: PathBuf,
    pub(crate) started: Timestamp,
    pub(crate) host: model::HostConfig,
    pub(crate) credentials: Mutex<KnownCredentials>,
}

impl Engine {
    /// A build that begins, with a folder of its own.
    fn build_job(
        &self,
        by: &Principal,
        host: model::HostConfig,
        credentials: KnownCredentials,
    ) -> Result<Arc<Job>> {
        let id = ContainerId::random().to_string();
        let dir = self.config.data_root.join("builds").join(&id);
        crate::lifecycle::private_dir(&dir)?;
        let (by, started) = (by.clone(), Timestamp::now());
        Ok(Arc::new(Job { id, by, dir, started, host, credentials: Mutex::new(credentials) }))
    }

    /// Builds an image.
    ///
    /// # Errors
    /// Whatever stops it before it has anything to tell: malformed parameters, context or Dockerfile.
    pub async fn image_build(
        self: &Arc<Self>,
        request: BuildRequest,
        body: Option<Bytestream>,
        by: &Principal,
    ) -> Result<BuildStream> {
        let tags = names::parse(&request.tags)?;
        let job = self.build_job(by, request.host_config(), request.credentials.clone())?;
        let (sender, mut messages) = mpsc::channel(MESSAGES);
        let stop = self.stop.child_token();
        let (failed, early) = tokio::sync::oneshot::channel();
        let stream = Stream::new(sender, request.quiet, failed);
        let engine = Arc::clone(self);
        let token = stop.clone();
        self.tasks.spawn(async move {
            engine.run_build(job, request, body, tags, stream, token).await;
        });
        let stop = stop.drop_guard();
        // The first message decides whether the request has succeeded.
        match messages.recv().await {
            Some(first) => Ok(BuildStream { messages, first: Some(first), _stop: stop }),
            None => match early.await {
                Ok(err) => Err(err),
                Err(_) => Ok(BuildStream { messages, first: None, _stop: stop }),
            },
        }
    }

    async fn run_build(
        self: Arc<Self>,
        job: Arc<Job>,
        request: BuildRequest,
        body: Option<Bytestream>,
        tags: Vec<base::Reference>,
        mut stream: Stream,
        stop: CancellationToken,
    ) {
        let (sender, mut receiver) = mpsc::channel::<Message>(MESSAGES);
        let output = Output::new(sender);
        let mut record = Record::new(&job, &request, &tags);
        self.counters.builds.fetch_add(1, Ordering::Relaxed);
        if !request.build_id.is_empty() {
            self.builds.start(&request.build_id, &stop);
        }
        let quiet = request.quiet;
        let build_id = request.build_id.clone();
        let work = self.solve_build(&job, request, body, &tags, &mut record, output);
        let mut outcome = None;
        {
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    message = receiver.recv() => match message {
                        Some(message) => stream.send(&message).await,
                        None if outcome.is_some() => break,
                        None => outcome = Some(work.as_mut().await),
                    },
                    done = work.as_mut(), if outcome.is_none() => outcome = Some(done),
                    () = stop.cancelled() => {
                        outcome = Some(Err(Error::cancelled("build cancelled").into()));
                        break;
                    }
                }
                if stream.is_gone() {
                    stop.cancel();
                }
            }
        }
        let outcome =
            outcome.unwrap_or_else(|| Err(Error::internal("the build ended early").into()));
        if !build_id.is_empty() {
            self.builds.end(&build_id);
        }
        self.close_build(&job, &mut record, &outcome);
        match outcome {
            Ok(built) => {
                if quiet && let Some(id) = built.image.id {
                    stream.last(format!("{id}\n")).await;
                }
            }
            Err(failure) => {
                self.counters.builds_failed.fetch_add(1, Ordering::Relaxed);
                stream.fail(failure).await;
            }
        }
    }

    async fn solve_build(
        self: &Arc<Self>,
        job: &Arc<Job>,
        request: BuildRequest,
        body: Option<Bytestream>,
        tags: &[base::Reference],
        record: &mut Record,
        output: Output,
    ) -> Result<Built, Failure> {
        let options = Options {
            dockerfile: context::name(&request.dockerfile),
            args: request.build_args.clone(),
            labels: request.labels.clone(),
            target: Some(request.target.clone()),
            platform: request.platform.clone(),
            no_cache: request.no_cache,
            cache_from: request.cache_from.clone(),
            pull: request.pull,
            rm: request.remove || request.force_remove,
            force_rm: request.force_remove,
            squash: request.squash,
            version: crate::config::VERSION.into(),
        };
        let context = context::receive(job, &request, body, &output).await?;
        record.dockerfile = String::from_utf8_lossy(&context.dockerfile).into_owned();
        record.dockerfile_digest = Some(base::Digest::sha256(&context.dockerfile));
        record.context = context.digest.clone();
        let host = Arc::new(BuildHost::new(self, job));
        let built =
            solve::build(Arc::clone(&host), &context.dockerfile, context.root, options, &output)
                .await?;
        let Some(id) = &built.image.id else {
            return Err(Error::internal("the build made no image").into());
        };
        host.finish().await?;
        solve::announce(&output, id).await;
        for tag in tags {
            let repository = tag.familiar_name();
            let name = tag.tag().unwrap_or_default();
            self.image_tag(id.as_str(), &repository, name, &job.by).await?;
            solve::announce_tag(&output, tag).await;
        }
        Ok(built)
    }

    /// Writes down what came of it and removes its folder.
    fn close_build(&self, job: &Job, record: &mut Record, outcome: &Result<Built, Failure>) {
        record.finish(outcome);
        let row = store::Build {
            id: job.id.clone(),
            started: job.started,
            image: record.image.clone(),
            doc: record,
        };
        if let Err(err) = self.store.write(|tx| tx.put_build(&row)) {
            tracing::warn!(build = job.id, err = err.chain(), "the record of a build was not kept");
        }
        if let Err(err) = self.trash_path(&job.dir) {
            tracing::warn!(
                build = job.id,
                err = err.chain(),
                "the folder of a build stays until the next start"
            );
        }
    }

    /// Stops the build that its client named `build_id`; one that is over is fine.
    pub fn build_cancel(&self, build_id: &str) {
        self.builds.cancel(build_id);
    }

    /// What BuildKit's clients are told of builds that are over, newest first.
    ///
    /// # Errors
    /// Of the database.
    pub fn build_history(&self) -> Result<Vec<Vec<u8>>> {
        self.store.read(|tx| tx.build_history())
    }

    /// Keeps what BuildKit's clients are told of a build.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_build_history(&self, reference: &str, created: Timestamp, doc: &[u8]) -> Result<()> {
        self.store.write(|tx| tx.put_build_history(reference, created, doc))
    }

    /// Forgets one; whether it was there.
    ///
    /// # Errors
    /// Of the database.
    pub fn drop_build_history(&self, reference: &str) -> Result<bool> {
        self.store.write(|tx| tx.delete_build_history(reference))
    }

    /// Sweeps what builds of a killed daemon left: their containers, then their folders.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) async fn recover_builds(self: &Arc<Self>) -> Result<()> {
        for build in entries(&self.config.data_root.join("builds"))? {
            for container in entries(&build.join(CONTAINERS))? {
                let id = container.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let options = RemoveOptions { force: true, volumes: true };
                match self.container_remove(&id, options, &Principal::daemon()).await {
                    Err(err) if err.kind() != base::Kind::NotFound => {
                        let err = err.chain();
                        tracing::warn!(
                            ctr = id,
                            err,
                            "a container of a killed build was not removed"
                        );
                    }
                    _ => {}
                }
            }
            self.trash_path(&build)?;
        }
        Ok(())
    }
}

/// What is in a folder; nothing when it is not there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e| Error::io(format!("cannot list {}", dir.display()), e);
    match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(fail),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(fail(err)),
    }
}

impl Job {
    /// Writes down that container `id` is the build's, so that it goes with it even if the daemon dies.
    fn note_container(&self, id: &str) -> Result<()> {
        let dir = self.dir.join(CONTAINERS);
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join(id), ""))
            .map_err(|e| Error::io("cannot note the container of a build step", e))
    }

    fn forget_container(&self, id: &str) {
        // It goes with the folder of the build anyway, and a container that is gone is fine.
        let _left = std::fs::remove_file(self.dir.join(CONTAINERS).join(id));
    }
}

/// Builds that can be cancelled by name.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<BTreeMap<String, CancellationToken>>);

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn start(&self, id: &str, stop: &CancellationToken) {
        self.lock().insert(id.to_owned(), stop.clone());
    }

    fn end(&self, id: &str) {
        self.lock().remove(id);
    }

    fn cancel(&self, id: &str) {
        if let Some(stop) = self.lock().get(id) {
            stop.cancel();
        }
    }
}

//! The solver: does the operations of a definition, each as soon as its inputs are there.
//!
//! Flow: [`solve`] reads the graph and starts a task for every vertex that the build does not know yet; a
//! task waits for its inputs, names its operation by content ([`key`]), looks for it in the cache, and else
//! does it. Invariants: a vertex is done once in a build, and an operation with the same key once in all
//! builds; the first failure is what everybody who waits hears; keys are made of content, never of time.

mod exec;
mod file;
pub(crate) mod key;
pub(crate) mod layout;
mod merge;
pub(crate) mod mounts;
mod secret;
pub(crate) mod source;

pub(crate) use exec::{Talking, talk};

use crate::{
    cache,
    explain::Outcome,
    failure::Failure,
    filesync::Lease,
    graph::{Graph, Vertex},
    job::{Job, Reference},
    progress,
    proto::pb,
};
use base::{Digest, Error, ImageId, Result};
use build::{
    host::Image,
    output::{Message, Output},
};
use engine::build::CacheFact;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};
use sys::root::{Root, Stat};
use tokio::sync::{mpsc, watch};

/// What a vertex came to, once it has.
pub(crate) type Slot = watch::Receiver<Option<Result<Arc<Vec<Out>>, Arc<Failure>>>>;

/// An output of an operation.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// A stack of layers.
    State(State),
    /// A folder that is no layer yet: a client's, a checked-out repository, a download.
    Folder(Folder),
}

/// A stack of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The image that holds it; nothing is no layer at all.
    pub(crate) image: Option<ImageId>,
    /// What it is by content.
    pub(crate) chain: String,
}

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Where it is on the host.
    pub(crate) path: PathBuf,
    /// Its files.
    pub(crate) root: Arc<Root>,
    /// Keeps a client's folder from being used by others.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl State {
    /// No layer.
    pub(crate) fn scratch() -> Self {
        Self { image: None, chain: "scratch".into() }
    }

    /// The layers of an image.
    pub(crate) fn of(image: &Image) -> Self {
        let chain = image.config.chain_ids().pop();
        Self { image: image.id.clone(), chain: chain.map_or("scratch".into(), |c| c.to_string()) }
    }
}

impl Folder {
    fn known(&self, path: &Path, stat: &Stat) -> Option<[u8; 32]> {
        self.lease.as_ref()?.known(path, stat)
    }
}

/// What a task did.
struct Did {
    outs: Vec<Out>,
    cached: bool,
}

/// Solves a definition: starts what is to be done and waits for what is wanted.
///
/// # Errors
/// The first failure on the way.
pub(crate) async fn solve(
    job: &Arc<Job>,
    definition: &pb::Definition,
) -> Result<Option<Out>, Arc<Failure>> {
    let graph = Graph::read(definition).map_err(|e| Arc::new(Failure::from(e)))?;
    let Some((target, index)) = graph.target.clone() else { return Ok(None) };
    job.progress.announce(graph.vertices.iter().map(|v| v.shown()).collect());
    let mut wanted = None;
    for vertex in &graph.vertices {
        let slot = start(job, vertex);
        if vertex.digest == target {
            wanted = Some(slot);
        }
    }
    let Some(slot) = wanted else {
        return Err(Arc::new(Error::internal("the definition lost its target").into()));
    };
    let outs = wait(job, slot).await?;
    pick(&outs, index, &target).map(Some).map_err(|e| Arc::new(e.into()))
}

/// The output of a state that a front end speaks of, solved if it was not yet.
///
/// # Errors
/// The first failure on the way.
pub(crate) async fn evaluate(
    job: &Arc<Job>,
    reference: &Reference,
) -> Result<Option<Out>, Arc<Failure>> {
    match (&reference.out, &reference.definition) {
        (Some(out), _) => Ok(Some(out.clone())),
        (None, Some(definition)) => solve(job, definition).await,
        (None, None) => Ok(None),
    }
}

async fn wait(job: &Job, mut slot: Slot) -> Result<Arc<Vec<Out>>, Arc<Failure>> {
    tokio::select! {
        done = slot.wait_for(Option::is_some) => match done.ok().and_then(|d| d.clone()) {
            Some(done) => done,
            None => Err(Arc::new(Error::cancelled("the build was stopped").into())),
        },
        () = job.stop.cancelled() => Err(Arc::new(Error::cancelled("the build was stopped").into())),
    }
}

fn pick(outs: &[Out], index: i64, digest: &str) -> Result<Out> {
    let found = usize::try_from(index).ok().and_then(|i| outs.get(i)).cloned();
    found.ok_or_else(|| Error::invalid(format!("the operation {digest} has no output {index}")))
}

/// The slot of a vertex, its task started if need be.
fn start(job: &Arc<Job>, vertex: &Arc<Vertex>) -> Slot {
    let mut slots = job.slots.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = slots.get(&vertex.digest) {
        return slot.clone();
    }
    let (sender, slot) = watch::channel(None);
    slots.insert(vertex.digest.clone(), slot.clone());
    let inputs: Vec<(Option<Slot>, pb::Input)> =
        vertex.op.inputs.iter().map(|i| (slots.get(&i.digest).cloned(), i.clone())).collect();
    drop(slots);
    let (work, vertex) = (Arc::clone(job), Arc::clone(vertex));
    job.spawn(async move {
        let done = run(&work, &vertex, inputs).await;
        sender.send_replace(Some(done));
    });
    slot
}

async fn run(
    job: &Arc<Job>,
    vertex: &Arc<Vertex>,
    inputs: Vec<(Option<Slot>, pb::Input)>,
) -> Result<Arc<Vec<Out>>, Arc<Failure>> {
    let mut ins = Vec::with_capacity(inputs.len());
    for (slot, input) in inputs {
        let slot = slot.ok_or_else(|| {
            let why = format!("invalid missing input digest {}", input.digest);
            Arc::new(Failure::from(Error::invalid(why)))
        })?;
        let outs = wait(job, slot).await?;
        ins.push(pick(&outs, input.index, &input.digest).map_err(|e| Arc::new(e.into()))?);
    }
    job.recorder.begin(vertex);
    let run = Run { job: Arc::clone(job), vertex: Arc::clone(vertex), ins };
    let done = run.act().await;
    let outcome = match &done {
        Ok(did) if did.cached => Outcome::Cached,
        Ok(_) => Outcome::Ran,
        Err(err) if err.kind() == base::Kind::Cancelled => Outcome::Begun,
        Err(_) => Outcome::Failed,
    };
    job.recorder.end(&vertex.digest, outcome);
    if let (Some(pb::op::Op::Source(_)), Ok(Did { outs, .. })) = (&vertex.op.op, &done)
        && let Some(Out::State(state)) = outs.first()
    {
        job.recorder.found(&vertex.digest, &state.chain);
    }
    let error = done.as_ref().err().map(|e: &Error| e.chain());
    job.progress.done(&vertex.digest, done.as_ref().is_ok_and(|did| did.cached), error.as_deref());
    match done {
        Ok(did) => Ok(Arc::new(did.outs)),
        Err(error) => Err(Arc::new(Failure {
            error,
            vertex: Some(vertex.digest.clone()),
            sources: vertex.sources.clone(),
            details: Vec::new(),
        })),
    }
}

/// One vertex being done.
struct Run {
    job: Arc<Job>,
    vertex: Arc<Vertex>,
    ins: Vec<Out>,
}

impl Run {
    async fn act(&self) -> Result<Did> {
        match &self.vertex.op.op {
            Some(pb::op::Op::Source(source)) => {
                self.start();
                let (out, cached) = self.source(source).await?;
                Ok(Did { outs: vec![out], cached })
            }
            Some(pb::op::Op::Exec(exec)) => self.exec(exec).await,
            Some(pb::op::Op::File(file)) => self.file(file).await,
            Some(pb::op::Op::Merge(merge)) => self.merge(merge).await,
            Some(pb::op::Op::Diff(diff)) => self.diff(diff).await,
            Some(pb::op::Op::Build(build)) => {
                self.start();
                let out = self.nested(build).await?;
                Ok(Did { outs: vec![out], cached: false })
            }
            None => Err(Error::invalid("the operation says nothing to do")),
        }
    }

    fn start(&self) {
        self.job.progress.start(&self.vertex.digest);
    }

    /// The input at `index`; a negative one is nothing.
    fn input(&self, index: i64) -> Result<Option<&Out>> {
        if index < 0 {
            return Ok(None);
        }
        let found = usize::try_from(index).ok().and_then(|i| self.ins.get(i));
        found.map(Some).ok_or_else(|| Error::invalid(format!("the operation has no input {index}")))
    }

    /// An input as a stack of layers; a folder becomes a layer.
    async fn state(&self, out: Option<&Out>) -> Result<State> {
        match out {
            None => Ok(State::scratch()),
            Some(Out::State(state)) => Ok(state.clone()),
            Some(Out::Folder(folder)) => layered(&self.job, folder).await,
        }
    }

    /// The outputs that operations with this key led to before, here or in a cache elsewhere.
    async fn recall(&self, key: &key::Key, outputs: usize) -> Result<Option<Vec<Out>>> {
        let (job, vertex, noted) = (Arc::clone(&self.job), Arc::clone(&self.vertex), key.clone());
        blocking(move || {
            job.recorder.key(&vertex, &noted);
            Ok(())
        })
        .await?;
        if self.vertex.meta.ignore_cache {
            return Ok(None);
        }
        let mut outs = Vec::new();
        for index in 0..outputs {
            let name = key.output(index);
            let (image, created) = match self.job.host.recall(&name)? {
                Some(found) => found,
                None => {
                    let found = self.elsewhere(&name).await?;
                    let Some(image) = found else { return Ok(None) };
                    let state = State::of(&image);
                    let size = match &state.image {
                        Some(id) => self.job.host.image_layers(id)?.last().map_or(0, |l| l.size),
                        None => 0,
                    };
                    let now = base::Timestamp::now();
                    self.store(key, index, &state, size, &State::scratch(), now)?;
                    (image, now)
                }
            };
            let state = State::of(&image);
            self.keep(&name, &state, created);
            outs.push(Out::State(state));
        }
        Ok(Some(outs))
    }

    async fn elsewhere(&self, name: &str) -> Result<Option<Image>> {
        if self.job.cache.imports.is_empty() {
            return Ok(None);
        }
        let name = Digest::sha256(name.as_bytes());
        cache::find(&self.job, &name, &self.vertex.digest).await
    }

    /// Notes what a step came to, and when, for images' histories and caches elsewhere.
    fn keep(&self, name: &str, state: &State, created: base::Timestamp) {
        if let Some(image) = &state.image {
            self.job.note(cache::Kept {
                key: Digest::sha256(name.as_bytes()),
                image: image.clone(),
                created,
            });
        }
    }

    /// Keeps what an operation led to.
    fn remember(&self, key: &key::Key, outs: &[(State, u64)], parent: &State) -> Result<()> {
        let now = base::Timestamp::now();
        for (index, (state, size)) in outs.iter().enumerate() {
            self.store(key, index, state, *size, parent, now)?;
            self.keep(&key.output(index), state, now);
        }
        Ok(())
    }

    fn store(
        &self,
        key: &key::Key,
        index: usize,
        state: &State,
        size: u64,
        parent: &State,
        created: base::Timestamp,
    ) -> Result<()> {
        let image = self.image_of(state)?;
        let fact = CacheFact {
            created,
            description: self.vertex.name(),
            parts: key.parts(),
            uses: 0,
            parent: parent.image.clone(),
            size,
        };
        self.job.host.remember(&key.output(index), &image, fact)
    }

    /// The image that holds a state: one without layers gets one.
    fn image_of(&self, state: &State) -> Result<ImageId> {
        match &state.image {
            Some(image) => Ok(image.clone()),
            None => {
                let image = self.job.host.state(None, &[])?;
                image.id.ok_or_else(|| Error::internal("a state has no image"))
            }
        }
    }

    /// A place for messages of the engine, which are shown as the vertex's.
    fn output(&self) -> (Output, impl Future<Output = ()> + Send + use<>) {
        let (sender, mut messages) = mpsc::channel::<Message>(64);
        let (progress, digest) = (Arc::clone(&self.job.progress), self.vertex.digest.clone());
        let pump = async move {
            while let Some(message) = messages.recv().await {
                show(&progress, &digest, message);
            }
        };
        (Output::new(sender), pump)
    }
}

/// Shows a message of the engine as a vertex's.
pub(crate) fn show(progress: &progress::Progress, vertex: &str, message: Message) {
    match message {
        Message::Stdout(text) => progress.log(vertex, 1, text.as_bytes()),
        Message::Stderr(text) => progress.log(vertex, 2, text.as_bytes()),
        Message::Progress(value) => {
            let (Some(id), status) = (value["id"].as_str(), value["status"].as_str().unwrap_or(""))
            else {
                return;
            };
            let number = |key: &str| value["progressDetail"][key].as_i64().unwrap_or_default();
            let ended = matches!(status, "Pull complete" | "Download complete" | "Already exists");
            if matches!(status, "Downloading" | "Extracting") || ended {
                let name = match status {
                    "Downloading" | "Download complete" => format!("sha256:{id}"),
                    _ => format!("extracting sha256:{id}"),
                };
                progress.status(progress::item(
                    vertex,
                    &name,
                    number("current"),
                    number("total"),
                    ended,
                ));
            }
        }
        Message::Aux(_) => {}
    }
}

/// Runs a future while its messages are shown.
async fn shown<T>(work: impl Future<Output = T>, pump: impl Future<Output = ()>) -> T {
    let (done, ()) = tokio::join!(work, pump);
    done
}

/// A folder as a stack of one layer.
pub(crate) async fn layered(job: &Arc<Job>, folder: &Folder) -> Result<State> {
    use build::host::{Host as _, Workspace as _};
    let tree = job.host.workspace(None).await?;
    let folder = folder.clone();
    let tree = blocking(move || {
        let action = build::copy::Action {
            src: "/".into(),
            dest: "/".into(),
            contents: true,
            make_parents: true,
            ..build::copy::Action::default()
        };
        let found = action.select(&folder.root)?;
        found.run(&action, tree.root(), &|_, _| Ok(()))?;
        Ok(tree)
    })
    .await?;
    let layer = tree.commit().await?;
    let image = job.host.state(None, layer.as_slice())?;
    Ok(State::of(&image))
}

/// A tree to read, and what keeps it there.
pub(crate) struct Reading {
    pub(crate) root: Arc<Root>,
    folder: Option<Folder>,
    _guard: Option<Box<dyn std::any::Any + Send + Sync>>,
}

impl Reading {
    /// The hash of a file's bytes, when it is known without reading them.
    pub(crate) fn known(&self, path: &Path, stat: &Stat) -> Option<[u8; 32]> {
        self.folder.as_ref()?.known(path, stat)
    }
}

/// Opens an output for reading.
///
/// # Errors
/// Of the storage.
pub(crate) async fn read(job: &Job, out: Option<&Out>) -> Result<Reading> {
    use build::host::Host as _;
    match out {
        Some(Out::Folder(folder)) => Ok(Reading {
            root: Arc::clone(&folder.root),
            folder: Some(folder.clone()),
            _guard: None,
        }),
        Some(Out::State(State { image: Some(image), .. })) => {
            let view = job.host.view(image).await?;
            Ok(Reading { root: Arc::new(view.root), folder: None, _guard: Some(view.guard) })
        }
        Some(Out::State(State { image: None, .. })) | None => {
            let image = job.host.state(None, &[])?;
            let id = image.id.ok_or_else(|| Error::internal("a state has no image"))?;
            let view = job.host.view(&id).await?;
            Ok(Reading { root: Arc::new(view.root), folder: None, _guard: Some(view.guard) })
        }
    }
}

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => Err(Error::internal("a step of the build ended early").caused_by(err)),
    }
}

/// A short name for something by content.
pub(crate) fn name_of(text: &str) -> String {
    Digest::sha256(text.as_bytes()).hex()[..32].to_owned()
}

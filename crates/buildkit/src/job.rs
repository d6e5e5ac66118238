//! A build under way: what its steps, its front end and its client share.
//!
//! Invariants: everything that a build starts ends with it: tasks are aborted, containers and trees go with
//! the values that hold them, its folder is removed.

use crate::{
    attest::{self, Material},
    cache::{self, Imported, Kept},
    desk::Desk,
    explain::{Recorder, Trace},
    failure::Failure,
    progress::Progress,
    session::{Session, Sessions},
    site::Site,
    solve::{Out, Slot},
};
use base::{Error, Result};
use engine::build::BuildHost;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a front end came to: states by platform, and what is known of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The one state, or none when there are several.
    pub(crate) single: Option<Reference>,
    /// States by platform.
    pub(crate) several: Vec<(String, Reference)>,
    /// `containerimage.config`, `refs.platforms`, ...
    pub(crate) metadata: HashMap<String, Vec<u8>>,
    /// What the front end attests of them.
    pub(crate) said: Vec<attest::Said>,
}

/// A state that a front end speaks of; an empty one has no output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    /// What it is, once it was solved.
    pub(crate) out: Option<Out>,
    /// What it is made by.
    pub(crate) definition: Option<crate::proto::pb::Definition>,
}

/// A build.
#[derive(Debug)]
pub(crate) struct Job {
    /// What the client calls it.
    pub(crate) id: String,
    /// Its session, when it has one.
    pub(crate) session: Option<Arc<Session>>,
    /// All others, for definitions that name one.
    pub(crate) sessions: Arc<Sessions>,
    /// Images, layers and containers.
    pub(crate) host: Arc<BuildHost>,
    /// What the client sees.
    pub(crate) progress: Arc<Progress>,
    /// What all builds share.
    pub(crate) site: Arc<Site>,
    /// What steps may be allowed (`security.insecure`, `network.host`).
    pub(crate) entitlements: BTreeSet<String>,
    /// What the client's front end has of it.
    pub(crate) desk: Arc<Desk>,
    /// Caches outside this engine.
    pub(crate) cache: cache::Options,
    /// What is to be attested.
    pub(crate) attest: attest::Request,
    /// When it began.
    pub(crate) started: base::Timestamp,
    /// What sources turned out to be, by vertex.
    materials: Mutex<HashMap<String, Material>>,
    /// What the history keeps of its results.
    attachments: Mutex<Vec<crate::history::Attachment>>,
    /// The front end and what it was given.
    frontend: Mutex<(String, HashMap<String, String>)>,
    /// The file that is built, once it is read.
    dockerfile: Mutex<Vec<u8>>,
    /// The name of the image that its result stands on.
    base: Mutex<String>,
    /// What its steps were made of.
    pub(crate) recorder: Recorder,
    imported: tokio::sync::OnceCell<Vec<Imported>>,
    kept: Mutex<Vec<Kept>>,
    /// It is over.
    pub(crate) stop: CancellationToken,
    /// Steps by digest.
    pub(crate) slots: Mutex<HashMap<String, Slot>>,
    /// Seconds since 1970 that stand for every time, as the front end was told.
    epoch: Mutex<Option<i64>>,
    tasks: Mutex<JoinSet<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a context is an archive that came with the build, whose address means nothing later.
fn is_passing(context: &str) -> bool {
    use crate::{endpoint::BODIES, solve::source::UPLOADS};
    context.starts_with(UPLOADS) || context.starts_with(BODIES)
}

/// What a job is made of.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) host: Arc<BuildHost>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) site: Arc<Site>,
    pub(crate) entitlements: BTreeSet<String>,
    pub(crate) inputs: HashMap<String, crate::proto::pb::Definition>,
    pub(crate) cache: cache::Options,
    pub(crate) attest: attest::Request,
}

impl Job {
    /// A build that begins.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            id,
            session,
            sessions,
            host,
            progress,
            site,
            entitlements,
            inputs,
            cache,
            attest,
        } = parts;
        Arc::new(Self {
            id,
            session,
            sessions,
            host,
            progress,
            site,
            entitlements,
            desk: Desk::new(inputs, 0),
            cache,
            attest,
            started: base::Timestamp::now(),
            materials: Mutex::default(),
            attachments: Mutex::default(),
            frontend: Mutex::default(),
            dockerfile: Mutex::default(),
            base: Mutex::default(),
            recorder: Recorder::default(),
            imported: tokio::sync::OnceCell::new(),
            kept: Mutex::default(),
            stop: CancellationToken::new(),
            slots: Mutex::default(),
            epoch: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Runs `work` until the build ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        if self.stop.is_cancelled() {
            return;
        }
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Ends it: what still runs is dropped, and with it all that it holds.
    pub(crate) fn end(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.abort_all();
        let host = Arc::clone(&self.host);
        lock(&self.slots).clear();
        self.desk.clear();
        tokio::spawn(async move {
            // Steps go first, then the folder that they are in.
            while tasks.join_next().await.is_some() {}
            drop(tokio::task::spawn_blocking(move || host.close()).await);
        });
    }

    /// The caches outside this engine, which are read when the first step asks.
    pub(crate) async fn imported(self: &Arc<Self>) -> &[Imported] {
        self.imported.get_or_init(|| cache::load(self)).await
    }

    /// Notes what a source turned out to be.
    pub(crate) fn note_material(&self, vertex: &str, material: Material) {
        lock(&self.materials).insert(vertex.to_owned(), material);
    }

    /// What sources turned out to be, by vertex.
    pub(crate) fn materials(&self) -> HashMap<String, Material> {
        lock(&self.materials).clone()
    }

    /// Notes which front end is at work, with what it was given.
    pub(crate) fn set_frontend(&self, name: &str, options: &HashMap<String, String>) {
        *lock(&self.frontend) = (name.to_owned(), options.clone());
    }

    /// Notes the file that is built.
    pub(crate) fn set_dockerfile(&self, bytes: &[u8]) {
        *lock(&self.dockerfile) = bytes.to_vec();
    }

    /// Notes the image that its result stands on.
    pub(crate) fn set_base(&self, name: String) {
        *lock(&self.base) = name;
    }

    /// What the engine is to keep of it, for whoever asks who made an image from what.
    pub(crate) fn told(
        &self,
        exporters: &[crate::proto::control::Exporter],
        failure: Option<String>,
    ) -> engine::build::Told {
        let (name, options) = self.frontend();
        let option = |key: &str| options.get(key).cloned().unwrap_or_default();
        let frontend = match name.as_str() {
            "gateway.v0" => option("source"),
            "" => "llb".into(),
            _ => name,
        };
        let mut args: Vec<String> = options
            .keys()
            .filter_map(|k| k.strip_prefix("build-arg:"))
            .map(str::to_owned)
            .collect();
        args.sort();
        let names = exporters.iter().filter_map(|e| e.attrs.get("name"));
        let tags = names.flat_map(|n| n.split(',')).filter(|n| !n.is_empty());
        let remote = Some(option("context"))
            .filter(|c| c.contains("://") && !c.starts_with("input:") && !is_passing(c));
        engine::build::Told {
            frontend,
            dockerfile: lock(&self.dockerfile).clone(),
            remote: remote.unwrap_or_default(),
            args,
            target: option("target"),
            platform: option("platform"),
            tags: tags.map(str::to_owned).collect(),
            base: lock(&self.base).clone(),
            failure,
        }
    }

    /// What its steps were made of, for whoever asks why they were done.
    pub(crate) fn trace(&self) -> Trace {
        let (_, options) = self.frontend();
        let option = |key: &str| options.get(key).cloned().unwrap_or_default();
        let own = self.session.as_ref().map(|s| s.shared_key.clone()).unwrap_or_default();
        let remote = Some(option("context")).filter(|c| c.contains("://") && !is_passing(c));
        let place = if own.is_empty() { remote.unwrap_or_default() } else { own };
        let mut trace = self.recorder.take(&self.materials());
        if !place.is_empty() {
            let whole = [place, option("filename"), option("target")].join("\0");
            trace.project = base::Digest::sha256(whole.as_bytes()).short().to_owned();
        }
        let given = options.keys().filter_map(|k| k.strip_prefix("build-arg:"));
        trace.arguments = given.map(str::to_owned).collect();
        trace
    }

    /// Keeps something for the history.
    pub(crate) fn attach(&self, attachment: crate::history::Attachment) {
        lock(&self.attachments).push(attachment);
    }

    /// What the history is to keep of its results.
    pub(crate) fn attachments(&self) -> Vec<crate::history::Attachment> {
        std::mem::take(&mut *lock(&self.attachments))
    }

    /// The front end, and what it was given.
    pub(crate) fn frontend(&self) -> (String, HashMap<String, String>) {
        lock(&self.frontend).clone()
    }

    /// Notes what a step came to.
    pub(crate) fn note(&self, kept: Kept) {
        lock(&self.kept).push(kept);
    }

    /// What steps came to so far.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        lock(&self.kept).clone()
    }

    /// Notes the time that stands for every time.
    pub(crate) fn set_epoch(&self, epoch: Option<i64>) {
        if epoch.is_some() {
            *lock(&self.epoch) = epoch;
        }
    }

    /// The time that stands for every time.
    pub(crate) fn epoch(&self) -> Option<i64> {
        *lock(&self.epoch)
    }

    /// The session called `id`, or the build's own.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) async fn session(&self, id: &str) -> Result<Arc<Session>> {
        match &self.session {
            Some(own) if id.is_empty() || id == own.id => Ok(Arc::clone(own)),
            _ if !id.is_empty() => self.sessions.get(id).await,
            _ => {
                Err(Error::invalid("the build has no session: nothing can be asked of its client"))
            }
        }
    }

    /// What the front end on the client's side comes to.
    ///
    /// # Errors
    /// What it failed with; `Cancelled` when the client goes.
    pub(crate) async fn returned(&self) -> Result<Outcome, Arc<Failure>> {
        let gone = async {
            match &self.session {
                Some(session) => session.gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = self.desk.returned() => outcome,
            () = gone => Err(Arc::new(Error::cancelled("the client of the build has gone").into())),
            () = self.stop.cancelled() => {
                Err(Arc::new(Error::cancelled("the build was stopped").into()))
            }
        }
    }
}

//! BuildKit's front: what buildx, `docker build` with the plugin and `docker compose build` speak.
//!
//! Flow: a client opens a session ([`session`]), on which the engine asks it for files, credentials and
//! secrets, and calls `Control.Solve` ([`control`]). The front end is the client itself, which calls the
//! gateway ([`gateway`]) and there mostly the built-in Dockerfile front end ([`front`]). That makes LLB
//! ([`graph`]), which the solver does ([`solve`]); what comes of it is exported ([`export`]). What happens is
//! told by [`progress`].
//!
//! Invariants: all of a build ends with its request, whoever ends it; keys of the cache are made of content;
//! secrets are in no layer, key, record or log; what a client sends is bounded and checked.
//! Not here: images, layers, containers and the cache's rows (engine); the language of Dockerfiles and
//! copying (build); HTTP/1 and the upgrade (server).

mod attest;
mod cache;
mod capabilities;
mod containers;
mod contents;
mod control;
mod desk;
mod endpoint;
mod explain;
mod export;
mod failure;
mod filesync;
mod front;
mod gateway;
mod graph;
mod history;
mod job;
mod progress;
mod proto;
mod serve;
mod session;
mod site;
mod solve;
mod tunnel;
mod usage;

pub use endpoint::{Destination, Extra, Told};
pub use graph::check_definition;
pub use session::Hello;
pub use usage::{Reclaimed, Usage};

use base::{Error, Result};
use engine::Engine;
use history::History;
use job::Job;
use progress::Progress;
use session::Sessions;
use site::Site;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a call waits for the build that it names.
const COMES: Duration = Duration::from_secs(5);
/// Builds whose story is kept for a while after their end, for clients that come late.
const RECENT: usize = 8;

/// The builder that BuildKit's clients see.
#[derive(Debug)]
pub struct BuildKit {
    pub(crate) site: Arc<Site>,
    pub(crate) sessions: Arc<Sessions>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    came: Notify,
    stories: Mutex<HashMap<String, Weak<Progress>>>,
    recent: Mutex<VecDeque<Arc<Progress>>>,
    gateway: String,
    pub(crate) history: Arc<History>,
    /// Builds by the names that their clients gave them over HTTP.
    pub(crate) named: Mutex<HashMap<String, CancellationToken>>,
    /// The cache is being collected.
    pub(crate) collecting: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BuildKit {
    /// The builder over `engine`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn new(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            site: Site::open(engine)?,
            sessions: Arc::default(),
            jobs: Mutex::default(),
            came: Notify::new(),
            stories: Mutex::default(),
            recent: Mutex::default(),
            history: History::open(engine)?,
            named: Mutex::default(),
            collecting: AtomicBool::new(false),
            gateway: engine.host_gateway().map(|a| a.to_string()).unwrap_or_default(),
        }))
    }

    pub(crate) fn id(&self) -> &str {
        self.site.engine.id()
    }

    pub(crate) fn gateway_address(&self) -> &str {
        &self.gateway
    }

    /// The story of a build, which may be about to begin.
    pub(crate) fn progress(&self, id: &str) -> Arc<Progress> {
        let mut stories = lock(&self.stories);
        stories.retain(|_, story| story.strong_count() > 0);
        match stories.get(id).and_then(Weak::upgrade) {
            Some(story) => story,
            None => {
                let story = Arc::new(Progress::default());
                stories.insert(id.to_owned(), Arc::downgrade(&story));
                story
            }
        }
    }

    /// Whether a build's story is at hand.
    pub(crate) fn tells(&self, id: &str) -> bool {
        let known = lock(&self.stories).get(id).is_some_and(|story| story.strong_count() > 0);
        known || lock(&self.jobs).contains_key(id)
    }

    /// Lists a build; false when its name is taken.
    pub(crate) fn enter(&self, job: &Arc<Job>) -> bool {
        {
            let mut jobs = lock(&self.jobs);
            if jobs.contains_key(&job.id) {
                return false;
            }
            jobs.insert(job.id.clone(), Arc::clone(job));
        }
        self.came.notify_waiters();
        true
    }

    /// Takes a build off the list.
    pub(crate) fn forget(&self, id: &str) {
        let job = lock(&self.jobs).remove(id);
        if let Some(job) = job {
            let mut recent = lock(&self.recent);
            recent.push_back(Arc::clone(&job.progress));
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
    }

    /// Whether no build runs.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.jobs).is_empty()
    }

    /// The build called `id`, which may be about to begin.
    ///
    /// # Errors
    /// `NotFound` when it does not.
    pub(crate) async fn job(&self, id: &str) -> Result<Arc<Job>> {
        let find = async {
            loop {
                let came = self.came.notified();
                let mut came = std::pin::pin!(came);
                came.as_mut().enable();
                if let Some(job) = lock(&self.jobs).get(id) {
                    return Arc::clone(job);
                }
                came.await;
            }
        };
        tokio::time::timeout(COMES, find)
            .await
            .map_err(|_| Error::not_found(format!("no such job {id}")))
    }
}

//! What clients see of a build: vertices, their logs and states, kept from the beginning so that whoever
//! comes late sees all of it.
//!
//! Invariants: nothing here waits; logs of one vertex are bounded by [`LOG_BYTES`].

use crate::proto::{self, control, pb};
use base::Digest;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// What one vertex may print; the rest is cut off.
const LOG_BYTES: usize = 2 << 20;
/// Messages put into one answer.
const BATCH: usize = 256;

/// One build's story.
#[derive(Debug)]
pub(crate) struct Progress {
    inner: Mutex<Inner>,
    version: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    told: Vec<Arc<control::StatusResponse>>,
    vertices: HashMap<String, control::Vertex>,
    printed: HashMap<String, usize>,
    closed: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { inner: Mutex::default(), version: watch::Sender::new(0) }
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, inner: &mut Inner, status: control::StatusResponse) {
        inner.told.push(Arc::new(status));
        self.version.send_replace(inner.told.len());
    }

    fn vertex(&self, digest: &str, change: impl FnOnce(&mut control::Vertex)) {
        let mut inner = self.lock();
        let Some(vertex) = inner.vertices.get_mut(digest) else { return };
        change(vertex);
        let vertex = vertex.clone();
        let vertexes = vec![vertex];
        self.tell(&mut inner, control::StatusResponse { vertexes, ..Default::default() });
    }

    /// Says that there are vertices to be done; those that are known already are left as they are.
    pub(crate) fn announce(&self, vertices: Vec<control::Vertex>) {
        let mut inner = self.lock();
        let mut new = Vec::new();
        for vertex in vertices {
            if !inner.vertices.contains_key(&vertex.digest) {
                inner.vertices.insert(vertex.digest.clone(), vertex.clone());
                new.push(vertex);
            }
        }
        if !new.is_empty() {
            self.tell(&mut inner, control::StatusResponse { vertexes: new, ..Default::default() });
        }
    }

    /// A vertex begins.
    pub(crate) fn start(&self, digest: &str) {
        self.vertex(digest, |v| {
            v.started = Some(proto::now());
            v.completed = None;
        });
    }

    /// A vertex is done.
    pub(crate) fn done(&self, digest: &str, cached: bool, error: Option<&str>) {
        self.vertex(digest, |v| {
            let now = proto::now();
            v.started.get_or_insert(now);
            v.completed = Some(now);
            v.cached = cached;
            v.error = error.unwrap_or_default().to_owned();
        });
    }

    /// A vertex has printed something (1 is standard output, 2 standard error).
    pub(crate) fn log(&self, digest: &str, stream: i64, text: &[u8]) {
        let mut inner = self.lock();
        let printed = inner.printed.entry(digest.to_owned()).or_default();
        if *printed > LOG_BYTES {
            return;
        }
        *printed += text.len();
        let cut = *printed > LOG_BYTES;
        let msg = match cut {
            true => format!("[output clipped, log limit {LOG_BYTES} bytes reached]\n").into_bytes(),
            false => text.to_vec(),
        };
        let log = control::VertexLog {
            vertex: digest.to_owned(),
            timestamp: Some(proto::now()),
            stream,
            msg,
        };
        self.tell(&mut inner, control::StatusResponse { logs: vec![log], ..Default::default() });
    }

    /// Something within a vertex goes on.
    pub(crate) fn status(&self, status: control::VertexStatus) {
        let statuses = vec![status];
        let mut inner = self.lock();
        self.tell(&mut inner, control::StatusResponse { statuses, ..Default::default() });
    }

    /// The author should be told something.
    pub(crate) fn warn(&self, warning: control::VertexWarning) {
        let warnings = vec![warning];
        let mut inner = self.lock();
        self.tell(&mut inner, control::StatusResponse { warnings, ..Default::default() });
    }

    /// A thing to do that is no vertex of a graph, with an end that is told whatever happens.
    pub(crate) fn task(self: &Arc<Self>, name: &str, group: Option<pb::ProgressGroup>) -> Task {
        let digest = Digest::sha256(format!("task {name}").as_bytes()).to_string();
        let vertex = control::Vertex {
            digest: digest.clone(),
            name: name.to_owned(),
            progress_group: group,
            ..control::Vertex::default()
        };
        self.announce(vec![vertex]);
        self.start(&digest);
        Task { progress: Arc::clone(self), digest, done: false }
    }

    /// All that was told.
    pub(crate) fn told(&self) -> Vec<Arc<control::StatusResponse>> {
        self.lock().told.clone()
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        self.version.send_modify(|v| *v += 1);
    }

    /// From the beginning to the end.
    pub(crate) fn follow(self: &Arc<Self>) -> Follow {
        Follow { version: self.version.subscribe(), progress: Arc::clone(self), next: 0 }
    }
}

/// Reads a build's story.
#[derive(Debug)]
pub(crate) struct Follow {
    progress: Arc<Progress>,
    version: watch::Receiver<usize>,
    next: usize,
}

impl Follow {
    /// Whether anything was told so far.
    pub(crate) fn has_begun(&self) -> bool {
        !self.progress.lock().told.is_empty() || self.progress.lock().closed
    }

    /// What has come meanwhile; nothing when the build is over.
    pub(crate) async fn next(&mut self) -> Option<control::StatusResponse> {
        loop {
            self.version.borrow_and_update();
            {
                let inner = self.progress.lock();
                if self.next < inner.told.len() {
                    let end = inner.told.len().min(self.next + BATCH);
                    let mut all = control::StatusResponse::default();
                    for told in &inner.told[self.next..end] {
                        all.vertexes.extend(told.vertexes.iter().cloned());
                        all.statuses.extend(told.statuses.iter().cloned());
                        all.logs.extend(told.logs.iter().cloned());
                        all.warnings.extend(told.warnings.iter().cloned());
                    }
                    self.next = end;
                    return Some(all);
                }
                if inner.closed {
                    return None;
                }
            }
            if self.version.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// A thing to do that is shown as a vertex.
#[derive(Debug)]
pub(crate) struct Task {
    progress: Arc<Progress>,
    digest: String,
    done: bool,
}

impl Task {
    /// Something within it goes on: what, how far, of how much.
    pub(crate) fn item(&self, name: &str, current: i64, total: i64, ended: bool) {
        self.progress.status(item(&self.digest, name, current, total, ended));
    }

    /// The vertex that clients see.
    pub(crate) fn vertex(&self) -> &str {
        &self.digest
    }

    /// Shows what it says on its standard error.
    pub(crate) fn log(&self, text: &[u8]) {
        self.progress.log(&self.digest, 2, text);
    }

    /// It is done.
    pub(crate) fn end<T, E: std::fmt::Display>(mut self, outcome: &Result<T, E>) {
        self.done = true;
        let error = outcome.as_ref().err().map(ToString::to_string);
        self.progress.done(&self.digest, false, error.as_deref());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.done {
            self.progress.done(&self.digest, false, Some("context canceled"));
        }
    }
}

/// A state of something within a vertex.
pub(crate) fn item(
    vertex: &str,
    name: &str,
    current: i64,
    total: i64,
    ended: bool,
) -> control::VertexStatus {
    let now = proto::now();
    control::VertexStatus {
        id: name.to_owned(),
        vertex: vertex.to_owned(),
        name: name.to_owned(),
        current,
        total,
        timestamp: Some(now),
        started: Some(now),
        completed: ended.then_some(now),
    }
}

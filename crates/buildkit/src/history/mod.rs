//! What became of builds: kept after their end, for `docker buildx history`.
//!
//! Flow: a build is listed while it runs ([`History::begin`]); its end ([`Entry::finish`]) writes its story and
//! what else clients may read of it into files named by digest below `buildkit/history`, and then its record
//! into the store. Records are BuildKit's own messages.
//! Invariants: a record is there before the client hears that its build is over; files without a record go;
//! the newest [`ENTRIES`] records stay, those of the last [`AGE`] up to [`MOST`], and those that are pinned.
//! Source: BuildKit `solver/llbsolver/history.go`.

mod filter;

use crate::{
    explain::{self, Trace},
    failure::Failure,
    progress::Progress,
    proto::{
        self,
        control::{self, BuildHistoryEvent, BuildHistoryEventType as Type, BuildHistoryRecord},
        google,
    },
    site::private,
};
use base::{Digest, Error, Result, Timestamp};
use engine::Engine;
use prost::Message as _;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufReader, Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{broadcast, mpsc};
use tonic::Code;

/// Records that stay however old they are.
const ENTRIES: usize = 50;
/// How long records stay beyond that.
const AGE: Duration = Duration::from_secs(48 * 3600);
/// Records that stay however young they are.
const MOST: usize = 1000;
/// Events that a slow listener may lag behind.
const EVENTS: usize = 256;
/// Bytes of one message of a story.
const MESSAGE: usize = 16 << 20;
/// Media type of a story.
const STORY: &str = "application/vnd.buildkit.status.v0";
/// Media types of what the steps of a build were made of.
const TRACE: &str = "application/vnd.gantry.build.steps.v1+json";
const LIST: &str = "application/vnd.gantry.build.list.v1+zlib";
/// Media type of why a build failed.
const WHY: &str = "application/vnd.googeapis.google.rpc.status+proto";

/// All builds that are remembered.
#[derive(Debug)]
pub(crate) struct History {
    engine: Arc<Engine>,
    home: PathBuf,
    active: Mutex<HashMap<String, BuildHistoryRecord>>,
    events: broadcast::Sender<BuildHistoryEvent>,
    /// Taken while files and records are put in step.
    gate: Mutex<()>,
}

/// Something small that clients may read of a build.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    /// Platform that it is about; nothing when there is one without a name.
    pub(crate) platform: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) annotations: HashMap<String, String>,
}

/// How a build ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// What its client was told.
    pub(crate) response: HashMap<String, String>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) failure: Option<Arc<Failure>>,
    /// What its steps were made of.
    pub(crate) trace: Option<Trace>,
}

/// A build that is listed; one that is dropped was cancelled.
#[derive(Debug)]
pub(crate) struct Entry {
    history: Arc<History>,
    record: Option<BuildHistoryRecord>,
    story: Arc<Progress>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn event(kind: Type, record: BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent { r#type: kind as i32, record: Some(record) }
}

impl History {
    /// The history that earlier processes kept; what they left half-written goes.
    ///
    /// # Errors
    /// Of disk and store.
    pub(crate) fn open(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        let home = engine.data_root().join("buildkit").join("history");
        private(&home)?;
        let history = Self {
            engine: Arc::clone(engine),
            home,
            active: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            gate: Mutex::default(),
        };
        history.sweep()?;
        Ok(Arc::new(history))
    }

    /// Lists a build that begins.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: &control::SolveRequest,
        story: &Arc<Progress>,
    ) -> Entry {
        let record = BuildHistoryRecord {
            r#ref: request.r#ref.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: request.frontend_attrs.clone(),
            exporters: request.exporters.clone(),
            created_at: Some(proto::now()),
            ..BuildHistoryRecord::default()
        };
        if !request.internal {
            lock(&self.active).insert(record.r#ref.clone(), record.clone());
            // Nobody may be listening.
            drop(self.events.send(event(Type::Started, record.clone())));
        }
        let record = (!request.internal).then_some(record);
        Entry { history: Arc::clone(self), record, story: Arc::clone(story) }
    }

    /// Records of builds that are over, newest first.
    pub(crate) fn records(&self) -> Result<Vec<BuildHistoryRecord>> {
        let docs = self.engine.build_history()?;
        let read = docs.iter().filter_map(|doc| match BuildHistoryRecord::decode(doc.as_slice()) {
            Ok(record) => Some(record),
            Err(err) => {
                tracing::warn!(err = base::error::chain(&err), "a build's record cannot be read");
                None
            }
        });
        Ok(read.collect())
    }

    /// What a listener hears at first: builds under way, and those that are over.
    ///
    /// # Errors
    /// `Invalid` for a malformed filter; of the store. Blocks.
    pub(crate) fn events(
        &self,
        request: &control::BuildHistoryRequest,
    ) -> Result<Vec<BuildHistoryEvent>> {
        let wanted =
            |record: &BuildHistoryRecord| request.r#ref.is_empty() || request.r#ref == record.r#ref;
        let active: Vec<_> = lock(&self.active).values().filter(|r| wanted(r)).cloned().collect();
        let mut all: Vec<_> = active.into_iter().map(|r| event(Type::Started, r)).collect();
        if request.active_only {
            return Ok(all);
        }
        let filters = filter::parse(&request.filter)?;
        let limit = usize::try_from(request.limit)
            .map_err(|_| Error::invalid(format!("invalid limit {}", request.limit)))?;
        let over = self.records()?.into_iter().filter(|r| wanted(r) && filters.fit(r));
        let limit = if limit == 0 { usize::MAX } else { limit };
        all.extend(over.take(limit).map(|r| event(Type::Complete, r)));
        Ok(all)
    }

    /// What happens from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<BuildHistoryEvent> {
        self.events.subscribe()
    }

    /// Forgets or pins a build. Blocks.
    ///
    /// # Errors
    /// `NotFound` when there is no such build; of disk and store.
    pub(crate) fn update(&self, request: &control::UpdateBuildHistoryRequest) -> Result<()> {
        let name = &request.r#ref;
        if request.finalize && !request.delete {
            // Records are whole when they are written.
            return Ok(());
        }
        let missing = || Error::not_found(format!("no record found for ref {name:?}"));
        let _gate = lock(&self.gate);
        if request.delete {
            if !self.engine.drop_build_history(name)? {
                return Err(missing());
            }
            let record =
                BuildHistoryRecord { r#ref: name.clone(), ..BuildHistoryRecord::default() };
            drop(self.events.send(event(Type::Deleted, record)));
            return self.sweep();
        }
        let mut record =
            self.records()?.into_iter().find(|r| r.r#ref == *name).ok_or_else(missing)?;
        record.pinned = request.pinned;
        record.generation += 1;
        self.put(&record)?;
        drop(self.events.send(event(Type::Complete, record)));
        Ok(())
    }

    /// The story of a build that is over, message by message; nothing when it is not known. Blocks.
    ///
    /// # Errors
    /// Of disk and store.
    pub(crate) fn story(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<Option<mpsc::Receiver<control::StatusResponse>>> {
        let record = self.records()?.into_iter().find(|r| r.r#ref == name);
        let Some(logs) = record.and_then(|r| r.logs) else { return Ok(None) };
        let (file, _) = self.blob(&logs.digest.parse()?)?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::task::spawn_blocking(move || {
            let mut file = BufReader::new(file);
            let mut head = [0; 4];
            while file.read_exact(&mut head).is_ok() {
                let length = u32::from_le_bytes(head) as usize;
                let mut bytes = vec![0; length.min(MESSAGE)];
                if length > MESSAGE || file.read_exact(&mut bytes).is_err() {
                    return;
                }
                let Ok(message) = control::StatusResponse::decode(bytes.as_slice()) else { return };
                if sender.blocking_send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Some(receiver))
    }

    /// A file of a record, and its size. Blocks.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(format!("content {digest}: not found"))
            }
            _ => Error::io(format!("cannot open {digest}"), e),
        };
        let file = File::open(self.home.join(digest.hex())).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok((file, size))
    }

    fn keep(&self, media_type: &str, bytes: &[u8]) -> Result<control::Descriptor> {
        let digest = Digest::sha256(bytes);
        let path = self.home.join(digest.hex());
        let fail = |e| Error::io(format!("cannot write {}", path.display()), e);
        let mut file = tempfile::NamedTempFile::new_in(&self.home).map_err(fail)?;
        file.write_all(bytes).map_err(fail)?;
        file.persist(&path).map_err(|e| fail(e.error))?;
        Ok(control::Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        })
    }

    fn put(&self, record: &BuildHistoryRecord) -> Result<()> {
        let created = created(record);
        self.engine.put_build_history(&record.r#ref, created, &record.encode_to_vec())
    }

    /// Drops records beyond the limits, and files that no record names.
    fn sweep(&self) -> Result<()> {
        let oldest = Timestamp::now().minus(AGE);
        let mut kept = 0;
        let mut wanted = HashSet::new();
        for record in self.records()? {
            kept += usize::from(!record.pinned);
            let stays = kept <= ENTRIES || (kept <= MOST && created(&record) > oldest);
            if !record.pinned && !stays {
                self.engine.drop_build_history(&record.r#ref)?;
                continue;
            }
            let results = record.result.iter().chain(record.results.values());
            let attached = results.flat_map(|r| r.attestations.iter());
            let own = [&record.logs, &record.trace, &record.external_error];
            let own = own.into_iter().flatten().chain(attached);
            let traced = record.logs.iter().flat_map(|l| l.annotations.values());
            wanted.extend(
                traced
                    .flat_map(|all| all.split(','))
                    .filter_map(|digest| digest.parse::<Digest>().ok())
                    .map(|d| d.hex().to_owned()),
            );
            wanted.extend(
                own.filter_map(|d| d.digest.parse::<Digest>().ok()).map(|d| d.hex().to_owned()),
            );
        }
        let fail = |e| Error::io(format!("cannot clear {}", self.home.display()), e);
        for entry in std::fs::read_dir(&self.home).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !wanted.contains(&*entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path()).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Keeps what the steps of a build were made of, and why they were done; gives what finds it again.
    fn keep_trace(&self, trace: Trace) -> Result<HashMap<String, String>> {
        let trace = explain::conclude(self, trace)?;
        for (digest, packed) in &trace.lists {
            // Most builds share theirs with the one before.
            if !self.home.join(digest.parse::<Digest>()?.hex()).exists() {
                self.keep(LIST, packed)?;
            }
        }
        let json = serde_json::to_vec(&trace)
            .map_err(|e| Error::internal("cannot write the steps of a build").caused_by(e))?;
        let lists: Vec<&str> = trace.lists.keys().map(String::as_str).collect();
        Ok(HashMap::from([
            (explain::STEPS.to_owned(), self.keep(TRACE, &json)?.digest),
            (explain::LISTS.to_owned(), lists.join(",")),
        ]))
    }

    /// A file of a record, whole. Blocks.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        let (mut file, _) = self.blob(&digest.parse()?)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|e| Error::io("cannot read what is kept of a build", e))?;
        Ok(bytes)
    }

    fn finish(
        &self,
        mut record: BuildHistoryRecord,
        story: &Progress,
        ending: Ending,
    ) -> Result<()> {
        let _gate = lock(&self.gate);
        let told = story.told();
        let mut bytes = Vec::new();
        for message in &told {
            let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            message
                .encode(&mut bytes)
                .map_err(|e| Error::internal("cannot write the story of a build").caused_by(e))?;
        }
        let mut logs = self.keep(STORY, &bytes)?;
        if let Some(trace) = ending.trace {
            logs.annotations = self.keep_trace(trace)?;
        }
        record.logs = Some(logs);
        count(&mut record, &told);
        record.completed_at = Some(proto::now());
        record.exporter_response = ending.response;
        if let Some(failure) = &ending.failure {
            let status = failure.status();
            let mut message = status.message().to_owned();
            if status.code() == Code::Cancelled {
                // Clients tell cancelled builds by these words.
                message = format!("context canceled: {message}");
            }
            let why = google::rpc::Status { code: status.code() as i32, message, details: vec![] };
            let details = match status.details() {
                [] => why.encode_to_vec(),
                details => details.to_vec(),
            };
            record.external_error = Some(self.keep(WHY, &details)?);
            record.error = Some(why);
        }
        for attachment in ending.attachments {
            let mut descriptor = self.keep(&attachment.media_type, &attachment.bytes)?;
            descriptor.annotations = attachment.annotations;
            let info = match attachment.platform.as_str() {
                "" => record.result.get_or_insert_default(),
                name => record.results.entry(name.to_owned()).or_default(),
            };
            info.attestations.push(descriptor);
        }
        self.put(&record)?;
        lock(&self.active).remove(&record.r#ref);
        drop(self.events.send(event(Type::Complete, record)));
        self.sweep()
    }
}

fn created(record: &BuildHistoryRecord) -> Timestamp {
    let at = record.created_at.unwrap_or_default();
    Timestamp::from_unix(at.seconds, u32::try_from(at.nanos).unwrap_or_default())
}

/// Counts steps and warnings.
fn count(record: &mut BuildHistoryRecord, told: &[Arc<control::StatusResponse>]) {
    let mut vertices: HashMap<&str, (bool, bool)> = HashMap::new();
    let mut warnings = 0;
    for message in told {
        warnings += message.warnings.len();
        for vertex in &message.vertexes {
            let known = vertices.entry(&vertex.digest).or_default();
            known.0 |= vertex.completed.is_some();
            known.1 |= vertex.cached;
        }
    }
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    record.num_total_steps = number(vertices.len());
    record.num_completed_steps = number(vertices.values().filter(|v| v.0).count());
    record.num_cached_steps = number(vertices.values().filter(|v| v.1).count());
    record.num_warnings = number(warnings);
}

impl Entry {
    /// Writes down how the build ended.
    pub(crate) async fn finish(&mut self, ending: Ending) {
        if let Some(work) = self.end(ending) {
            // Its failure is told below.
            drop(tokio::task::spawn_blocking(work).await);
        }
    }

    fn end(&mut self, ending: Ending) -> Option<impl FnOnce() + Send + 'static> {
        let record = self.record.take()?;
        let (history, story) = (Arc::clone(&self.history), Arc::clone(&self.story));
        Some(move || {
            let name = record.r#ref.clone();
            if let Err(err) = history.finish(record, &story, ending) {
                lock(&history.active).remove(&name);
                tracing::warn!(
                    build = name,
                    err = err.chain(),
                    "the history of a build was not kept"
                );
            }
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let failure = Failure::from(Error::cancelled("the client of the build has gone"));
        let ending = Ending { failure: Some(Arc::new(failure)), ..Ending::default() };
        if let (Some(work), Ok(runtime)) = (self.end(ending), tokio::runtime::Handle::try_current())
        {
            runtime.spawn_blocking(work);
        }
    }
}

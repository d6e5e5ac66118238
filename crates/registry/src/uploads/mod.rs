//! Uploads under way: received into a spool on the local disk, resumable after any break.
//!
//! Flow: [`Uploads::begin`] makes a session; each request [checks it out](Uploads::check_out), which gives it
//! the only [`Lease`] on it (a newer request takes the session over from an older one whose client may be
//! long gone), appends what comes, and gives it back by dropping the lease; [`Uploads::finish`] verifies
//! the digest and makes the bytes a blob of the repository; [`Uploads::cancel`] drops them.
//!
//! Invariants: the spool's files are the truth about how much came, so that a killed server goes on where it
//! was; a session belongs to one repository, whose hash is part of its id; nothing of an upload can be
//! read as a blob before its digest was verified and its row is committed.
//! Not here: HTTP (`http::uploads`), who may upload (`auth`).

mod parts;
mod spool;

use crate::{
    hash::{Algorithm, Hasher},
    meta::{Database, Grace, NewBlob, Tx},
    storage::{Storage, files_blocking as blocking},
};
use base::{Digest, Error, Result, Timestamp, hex};
use bytes::Bytes;
use parts::PartsUnderWay;
use spool::Spool;
use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder},
    io::{ErrorKind, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, futures::OwnedNotified};
use tokio_util::sync::CancellationToken;

/// Blobs up to this many bytes are kept in the database: configs and tiny layers. A file of its own would
/// cost each of them two flushes of the disk.
pub const INLINE: u64 = 32 << 10;
/// Parts that are in memory on their way to an object store, at most.
const PARTS_AT_ONCE: usize = 3;

/// Names a session; safe as a file's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    fn new(repository: &str) -> Result<Self> {
        Ok(Self(format!("{}{}", random_hex::<16>()?, mark(repository))))
    }

    /// The id, when it is one and belongs to `repository`.
    pub fn parse(text: &str, repository: &str) -> Option<Self> {
        let fine = text.len() == 48 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (fine && text.ends_with(&mark(repository))).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What ties an id to its repository: 16 hexadecimal digits.
fn mark(repository: &str) -> String {
    Digest::sha256(repository.as_bytes()).hex()[..16].to_owned()
}

fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::internal("the system gives no random bytes").caused_by(e.to_string())
    })?;
    Ok(hex(&bytes))
}

/// Settings of uploads.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions at the same time.
    pub sessions: usize,
    /// Bytes that must stay free on the spool's disk.
    pub reserve_bytes: u64,
    /// A session that got nothing for this time is dropped.
    pub expiry: Duration,
    /// Bytes of one blob.
    pub blob_bytes: u64,
}

/// What is to be written down in the transaction that makes a blob of an upload.
pub type With = Box<dyn FnOnce(&Tx<'_>) -> Result<()> + Send>;

/// All uploads.
#[derive(Debug)]
pub struct Uploads {
    dir: PathBuf,
    database: Arc<Database>,
    storage: Arc<dyn Storage>,
    limits: Limits,
    grace: Grace,
    open: Arc<Mutex<HashMap<UploadId, Slot>>>,
    sessions: AtomicUsize,
    /// Places of objects that are stored, or about to be, and not written down yet.
    storing: Mutex<HashSet<String>>,
    memory: Arc<Semaphore>,
}

#[derive(Debug)]
enum Slot {
    /// Nobody works on it; what is known of it.
    Idle(Box<State>),
    /// A request has it.
    Taken { stop: CancellationToken, returned: Arc<Notify>, came: Arc<AtomicU64> },
}

/// What is known of a session.
#[derive(Debug)]
struct State {
    spool: Spool,
    /// Of all bytes so far; absent when some of them came before a restart.
    hasher: Option<Hasher>,
    parts: Option<PartsUnderWay>,
}

impl State {
    fn offset(&self) -> u64 {
        self.spool.offset()
    }
}

/// What a request for a session came to.
enum Take {
    /// Another has it and was told to give it back.
    Wait(OwnedNotified),
    /// It is ours, with what was known of it.
    Taken(Lease, Option<Box<State>>),
}

type Open = Arc<Mutex<HashMap<UploadId, Slot>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The map is whole after every statement that changes it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request's hold on a session.
#[derive(Debug)]
pub struct Lease {
    id: UploadId,
    state: Option<Box<State>>,
    open: Open,
    returned: Arc<Notify>,
    stop: CancellationToken,
    /// As much as is known to have come, for those who only want to know.
    came: Arc<AtomicU64>,
}

impl Lease {
    /// The session.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// Bytes that came so far.
    pub fn offset(&self) -> u64 {
        self.state.as_ref().map_or(0, |s| s.offset())
    }

    /// Set when a newer request wants the session.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        match self.state.take() {
            Some(state) => open.insert(self.id.clone(), Slot::Idle(state)),
            // Used up, or in doubt: the next request reads the spool anew.
            None => open.remove(&self.id),
        };
        drop(open);
        self.returned.notify_waiters();
    }
}

impl Uploads {
    /// Opens the spool below `dir`, made when absent.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(
        dir: &Path,
        database: Arc<Database>,
        storage: Arc<dyn Storage>,
        limits: Limits,
        grace: Grace,
    ) -> Result<Self> {
        let fail = |e| Error::io(format!("cannot open the spool {}", dir.display()), e);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        let uploads = Self {
            dir: dir.to_owned(),
            database,
            storage,
            limits,
            grace,
            open: Arc::default(),
            sessions: AtomicUsize::new(0),
            storing: Mutex::default(),
            memory: Arc::new(Semaphore::new(PARTS_AT_ONCE)),
        };
        uploads.sessions.store(uploads.on_disk()?.len(), Ordering::Relaxed);
        Ok(uploads)
    }

    /// Ids of all sessions that the disk knows.
    fn on_disk(&self) -> Result<HashSet<String>> {
        let fail = |e| Error::io("cannot list the spool", e);
        let mut found = HashSet::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            if let Ok(name) = entry.map_err(fail)?.file_name().into_string()
                && !name.contains('.')
            {
                found.insert(name);
            }
        }
        Ok(found)
    }

    /// Sessions at the moment.
    pub fn count(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Begins a session, for a digest of `algorithm` as far as the client said.
    ///
    /// # Errors
    /// `Exhausted` when there are too many sessions or the disk is full.
    pub async fn begin(&self, repository: &str, algorithm: Algorithm) -> Result<UploadId> {
        if self.count() >= self.limits.sessions {
            return Err(Error::exhausted("too many uploads are under way"));
        }
        self.check_reserve()?;
        let id = UploadId::new(repository)?;
        let (dir, name, part) = (self.dir.clone(), id.clone(), self.part_bytes());
        let spool = blocking(move || Spool::create(&dir, name.as_str(), part)).await?;
        let hasher = Some(Hasher::new(algorithm));
        let state = Box::new(State { spool, hasher, parts: None });
        self.sessions.fetch_add(1, Ordering::Relaxed);
        locked(&self.open).insert(id.clone(), Slot::Idle(state));
        Ok(id)
    }

    fn part_bytes(&self) -> Option<u64> {
        self.storage.multipart().map(|m| m.part_bytes())
    }

    /// Fails when the disk is as full as it may be.
    ///
    /// # Errors
    /// `Exhausted` then.
    pub fn check_reserve(&self) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|e| Error::io("cannot ask the disk for its free space", e.into()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < self.limits.reserve_bytes {
            return Err(Error::exhausted("no space left on the registry's disk"));
        }
        Ok(())
    }

    /// Takes the session for one request; `None` when there is none.
    ///
    /// # Errors
    /// Of the disk.
    pub async fn check_out(&self, id: &UploadId) -> Result<Option<Lease>> {
        loop {
            let (mut lease, known) = match self.try_take(id) {
                Take::Wait(returned) => {
                    returned.await;
                    continue;
                }
                Take::Taken(lease, known) => (lease, known),
            };
            lease.state = match known {
                Some(state) => Some(state),
                None => self.load(id).await?.map(Box::new),
            };
            lease.came.store(lease.offset(), Ordering::Relaxed);
            return Ok(lease.state.is_some().then_some(lease));
        }
    }

    fn try_take(&self, id: &UploadId) -> Take {
        let mut open = locked(&self.open);
        if let Some(Slot::Taken { stop, returned, .. }) = open.get(id) {
            stop.cancel();
            return Take::Wait(Arc::clone(returned).notified_owned());
        }
        let lease = self.lease(id);
        match open.insert(id.clone(), taken(&lease)) {
            Some(Slot::Idle(state)) => Take::Taken(lease, Some(state)),
            _ => Take::Taken(lease, None),
        }
    }

    /// Bytes that came so far, without taking the session from a request that has it; `None` when there is
    /// no such session.
    ///
    /// # Errors
    /// Of the disk.
    pub async fn came(&self, id: &UploadId) -> Result<Option<u64>> {
        match locked(&self.open).get(id) {
            Some(Slot::Idle(state)) => return Ok(Some(state.offset())),
            Some(Slot::Taken { came, .. }) => return Ok(Some(came.load(Ordering::Relaxed))),
            None => {}
        }
        Ok(self.check_out(id).await?.map(|lease| lease.offset()))
    }

    fn lease(&self, id: &UploadId) -> Lease {
        Lease {
            id: id.clone(),
            state: None,
            open: Arc::clone(&self.open),
            returned: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            came: Arc::default(),
        }
    }

    /// What the disk and the database say of a session.
    async fn load(&self, id: &UploadId) -> Result<Option<State>> {
        let (dir, name, part) = (self.dir.clone(), id.clone(), self.part_bytes());
        let known = match part {
            Some(_) => {
                let name = name.0.clone();
                self.database.read(move |tx| tx.parts(&name)).await?
            }
            None => None,
        };
        let sent: Vec<u64> =
            known.as_ref().map(|k| k.parts.iter().map(|p| p.size).collect()).unwrap_or_default();
        let spool = blocking(move || Spool::load(&dir, name.as_str(), part, &sent)).await?;
        let parts = known.map(PartsUnderWay::known);
        Ok(spool.map(|spool| State { spool, hasher: None, parts }))
    }

    /// Appends `batch` to the session.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, `Unavailable` when the object store does not take a part; what
    /// came before is kept.
    ///
    /// # Cancel safety
    /// Not to be dropped half-way: call it from a task that runs to its end.
    pub async fn append(&self, lease: &mut Lease, mut batch: Vec<Bytes>) -> Result<()> {
        while !batch.is_empty() {
            // Gone from the lease while in doubt: after a failure the next request reads the disk.
            let mut state =
                lease.state.take().ok_or_else(|| Error::unavailable("the upload is in doubt"))?;
            let (back, rest, written) = tokio::task::spawn_blocking(move || {
                let (rest, written) = state.write(batch);
                (state, rest, written)
            })
            .await
            .map_err(|e| Error::internal("writing an upload ended early").caused_by(e))?;
            state = back;
            written?;
            batch = rest;
            if state.spool.is_full() {
                self.send_part(&lease.id, &mut state).await?;
            }
            lease.came.store(state.offset(), Ordering::Relaxed);
            lease.state = Some(state);
        }
        Ok(())
    }

    /// Verifies that the session holds the bytes of `digest` and makes them a blob of `repository`; the
    /// session is over, however this ends.
    ///
    /// # Errors
    /// `Invalid` when the digest is another; of disk, object store and database, after which the client
    /// may try again.
    pub async fn finish(
        &self,
        mut lease: Lease,
        repository: &str,
        digest: &Digest,
        with: With,
    ) -> Result<()> {
        let mut state =
            lease.state.take().ok_or_else(|| Error::unavailable("the upload is in doubt"))?;
        let known = state.hasher.take().filter(|h| h.algorithm() == Algorithm::of(digest));
        if let Some(hasher) = known {
            if hasher.finish() != *digest {
                self.discard(lease.id.clone(), state).await;
                return Err(mismatch(digest));
            }
        } else if state.parts.is_none() {
            let (back, found) = rehash(state, Algorithm::of(digest)).await?;
            state = back;
            if found != *digest {
                self.discard(lease.id.clone(), state).await;
                return Err(mismatch(digest));
            }
        } else {
            return self.finish_unhashed(lease, state, repository, digest, with).await;
        }
        self.keep(&lease.id, state, repository, digest, with).await
    }

    /// Makes verified bytes a blob.
    async fn keep(
        &self,
        id: &UploadId,
        mut state: Box<State>,
        repository: &str,
        digest: &Digest,
        with: With,
    ) -> Result<()> {
        let size = state.offset();
        if state.parts.is_none() && size <= INLINE {
            let bytes = state.spool.read_small().await?;
            self.add(repository, digest, NewBlob::Inline(bytes), None, with).await?;
        } else if let Some(with) = self.link_known(repository, digest, with).await? {
            let (place, parts) = match &mut state.parts {
                Some(_) => (self.complete_parts(id, &mut state).await?, Some(id.0.clone())),
                None => {
                    let place = self.storage.place(digest, id.as_str());
                    (place, None)
                }
            };
            let storing = Storing::new(&self.storing, &place);
            if parts.is_none() {
                self.storage.keep(state.spool.only_file(), &place).await?;
            }
            self.add(repository, digest, NewBlob::Stored { place, size }, parts, with).await?;
            drop(storing);
        }
        self.discard(id.clone(), state).await;
        Ok(())
    }

    /// Parts were sent before a restart, so nobody has hashed the whole: the object is read back.
    async fn finish_unhashed(
        &self,
        lease: Lease,
        mut state: Box<State>,
        repository: &str,
        digest: &Digest,
        with: With,
    ) -> Result<()> {
        let size = state.offset();
        let place = self.complete_parts(&lease.id, &mut state).await?;
        let found =
            crate::scrub::hash_object(&*self.storage, &place, size, Algorithm::of(digest)).await?;
        let parts = Some(lease.id.0.clone());
        if found == *digest {
            self.add(repository, digest, NewBlob::Stored { place, size }, parts, with).await?;
        }
        self.discard(lease.id.clone(), state).await;
        if found == *digest { Ok(()) } else { Err(mismatch(digest)) }
    }

    /// Stores a small blob that came in one request, without a session.
    ///
    /// # Errors
    /// `Invalid` when the digest is another; of the database.
    pub async fn store_small(
        &self,
        repository: &str,
        digest: &Digest,
        bytes: Vec<u8>,
        with: With,
    ) -> Result<()> {
        if Algorithm::of(digest).digest(&bytes) != *digest {
            return Err(mismatch(digest));
        }
        self.add(repository, digest, NewBlob::Inline(bytes), None, with).await
    }

    async fn add(
        &self,
        repository: &str,
        digest: &Digest,
        new: NewBlob,
        parts: Option<String>,
        with: With,
    ) -> Result<()> {
        let (repository, digest, grace) = (repository.to_owned(), digest.clone(), self.grace);
        self.database
            .write(move |tx| {
                if let Some(upload) = parts {
                    tx.end_parts(&upload)?;
                }
                tx.add_blob(&repository, &digest, &new, Timestamp::now(), grace)?;
                with(tx)
            })
            .await
    }

    /// A blob that is here already needs no second object: nothing is left to write down then.
    async fn link_known(
        &self,
        repository: &str,
        digest: &Digest,
        with: With,
    ) -> Result<Option<With>> {
        let (name, wanted, grace) = (repository.to_owned(), digest.clone(), self.grace);
        let here = {
            let wanted = wanted.clone();
            self.database.read(move |tx| tx.repositories_with(&wanted, 1)).await?
        };
        if here.is_empty() {
            return Ok(Some(with));
        }
        self.database
            .write(move |tx| {
                if !tx.link_known(&name, &wanted, Timestamp::now(), grace)? {
                    return Ok(Some(with));
                }
                with(tx).map(|()| None)
            })
            .await
    }

    /// Drops a session with all that came.
    ///
    /// # Errors
    /// Of the disk.
    pub async fn cancel(&self, mut lease: Lease) -> Result<()> {
        if let Some(state) = lease.state.take() {
            self.discard(lease.id.clone(), state).await;
        }
        Ok(())
    }

    /// Removes what is left of a session; what cannot be removed is found again by [`Uploads::sweep`].
    async fn discard(&self, id: UploadId, mut state: Box<State>) {
        if let Some(parts) = state.parts.take()
            && let Err(err) = self.drop_parts(&id, parts).await
        {
            tracing::warn!(err = err.chain(), "parts of an upload stay until the next sweep");
        }
        let removed = blocking(move || state.spool.remove()).await;
        if let Err(err) = removed {
            tracing::warn!(err = err.chain(), "the spool of an upload stays until the next sweep");
        }
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Drops sessions that got nothing for the expiry time, and parts whose session is gone. How many.
    ///
    /// # Errors
    /// Of the disk and the database.
    pub async fn sweep(&self) -> Result<usize> {
        let (dir, expiry) = (self.dir.clone(), self.limits.expiry);
        let old = blocking(move || spool::older_than(&dir, expiry)).await?;
        let mut dropped = 0;
        for name in old {
            let id = UploadId(name);
            if matches!(locked(&self.open).get(&id), Some(Slot::Taken { .. })) {
                continue;
            }
            if let Some(lease) = self.check_out(&id).await? {
                self.cancel(lease).await?;
                dropped += 1;
            }
        }
        let here = self.on_disk()?;
        for id in self.database.read(|tx| tx.multipart_uploads()).await? {
            if here.contains(&id) {
                continue;
            }
            let name = id.clone();
            if let Some(parts) = self.database.read(move |tx| tx.parts(&name)).await? {
                self.drop_parts(&UploadId(id), PartsUnderWay::known(parts)).await?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

impl Uploads {
    /// Whether the object is stored, or about to be, and perhaps not written down yet. Whoever looks for
    /// objects that nobody knows asks this before he asks the database.
    pub(crate) fn is_storing(&self, place: &str) -> bool {
        locked(&self.storing).contains(place)
    }
}

/// Marks a place as one that is being stored.
struct Storing<'u> {
    all: &'u Mutex<HashSet<String>>,
    place: String,
}

impl<'u> Storing<'u> {
    fn new(all: &'u Mutex<HashSet<String>>, place: &str) -> Self {
        locked(all).insert(place.to_owned());
        Self { all, place: place.to_owned() }
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        locked(self.all).remove(&self.place);
    }
}

impl State {
    /// Writes what fits into the spool's file; the rest comes back.
    fn write(&mut self, batch: Vec<Bytes>) -> (Vec<Bytes>, Result<()>) {
        let mut rest = Vec::new();
        for mut piece in batch {
            if rest.is_empty() && !self.spool.is_full() {
                let fits = self.spool.room().min(piece.len() as u64) as usize;
                let now = piece.split_to(fits);
                if let Err(err) = self.spool.write(&now) {
                    return (rest, Err(err));
                }
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&now);
                }
            }
            if !piece.is_empty() {
                rest.push(piece);
            }
        }
        (rest, Ok(()))
    }
}

fn taken(lease: &Lease) -> Slot {
    Slot::Taken {
        stop: lease.stop.clone(),
        returned: Arc::clone(&lease.returned),
        came: Arc::clone(&lease.came),
    }
}

fn mismatch(digest: &Digest) -> Error {
    Error::invalid(format!("the uploaded bytes do not have the digest {digest}"))
}

async fn rehash(state: Box<State>, algorithm: Algorithm) -> Result<(Box<State>, Digest)> {
    blocking(move || {
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; 256 << 10];
        for path in state.spool.files() {
            let fail = |e| Error::io("cannot read an upload back", e);
            let mut file = match fs::File::open(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                file => file.map_err(fail)?,
            };
            loop {
                match file.read(&mut buffer).map_err(fail)? {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
        }
        Ok((state, hasher.finish()))
    })
    .await
}

#[cfg(test)]
mod tests;

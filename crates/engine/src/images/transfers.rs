//! Layers that are coming from registries: each is downloaded, checked and unpacked once, however many want it.
//!
//! Flow: [`Transfers::join`] gives a [`Follower`] of the layer's transfer and begins it when there is none. The
//! transfer is a task: it waits for its turn, downloads into the content store while a thread behind it hashes,
//! inflates and unpacks, and tells its [`Phase`]. With its last follower it stops; what has come stays and is
//! continued by the next.
//! Invariants: a layer that is told as done is held by what the follower holds; a blob is kept only under the
//! digest that was found in it.

use super::{Hold, Images, NewLayer};
use base::{Digest, Error, Kind, Result, Timestamp};
use image::{
    Limits,
    download::{self, Order, Step},
    layer::Tried,
    manifest::Descriptor,
    registry::{Failed, Repository},
};
use std::{
    collections::HashMap,
    fmt,
    io::{self, Read},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{Blob, Lease};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long what an unfinished pull has verified is kept for the next try.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Who holds it meanwhile.
pub(super) const HOLDER: &str = "unfinished pulls";

/// Where a transfer is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Waiting,
    Downloading(u64),
    Retrying(Duration),
    Downloaded,
    /// Bytes of the blob that were unpacked.
    Extracting(u64),
    Done(Arc<Arrived>),
    Failed(Arc<Error>),
}

/// A blob that is here.
#[derive(Debug)]
pub(super) struct Arrived {
    /// The layer it unpacks to, or why it does not when nothing is below it.
    pub(super) layer: std::result::Result<NewLayer, Arc<Error>>,
    /// What it was unpacked on.
    pub(super) parents: Vec<Digest>,
    /// Keeps blob and layer.
    pub(super) _hold: Hold,
}

/// All transfers of one engine.
pub(crate) struct Transfers {
    images: Arc<Images>,
    running: Mutex<HashMap<Digest, Weak<Interest>>>,
    turns: Arc<Semaphore>,
    /// Turns that there are in all.
    most: AtomicUsize,
    tries: AtomicUsize,
    tasks: TaskTracker,
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers").finish_non_exhaustive()
    }
}

/// Stops the transfer when nobody is interested any more.
struct Interest {
    phase: watch::Receiver<Phase>,
    stop: CancellationToken,
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One who wants a layer.
pub(super) struct Follower {
    pub(super) phase: watch::Receiver<Phase>,
    _interest: Arc<Interest>,
}

/// What is wanted.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) descriptor: Descriptor,
    /// Layers below, when they are all here.
    pub(super) parents: Vec<Digest>,
    pub(super) repository: Arc<Repository>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transfers {
    /// Transfers of `downloads` layers at once.
    pub(crate) fn new(
        images: Arc<Images>,
        downloads: usize,
        tries: usize,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            images,
            running: Mutex::default(),
            turns: Arc::new(Semaphore::new(downloads.max(1))),
            most: AtomicUsize::new(downloads.max(1)),
            tries: AtomicUsize::new(tries.max(1)),
            tasks,
        }
    }

    /// Takes other limits. Downloads under way go on; fewer turns count once enough of them have ended.
    pub(crate) fn set_limits(&self, downloads: usize, tries: usize) {
        self.tries.store(tries.max(1), Ordering::Relaxed);
        let (now, before) = (downloads.max(1), self.most.swap(downloads.max(1), Ordering::Relaxed));
        if now >= before {
            return self.turns.add_permits(now - before);
        }
        let busy = before - now - self.turns.forget_permits(before - now);
        if let Ok(busy @ 1..) = u32::try_from(busy) {
            let turns = Arc::clone(&self.turns);
            self.tasks.spawn(async move {
                if let Ok(turn) = turns.acquire_many(busy).await {
                    turn.forget();
                }
            });
        }
    }

    /// Blobs that are being downloaded.
    pub(crate) fn active(&self) -> Vec<Digest> {
        let mut running = lock(&self.running);
        running.retain(|_, interest| interest.strong_count() > 0);
        running.keys().cloned().collect()
    }

    /// Follows the transfer of a layer, which begins when there is none. The answer says whether it is
    /// somebody else's: one that failed may succeed from another repository.
    pub(super) fn join(self: &Arc<Self>, wanted: &Wanted) -> (Follower, bool) {
        let digest = &wanted.descriptor.digest;
        let mut running = lock(&self.running);
        if let Some(interest) = running.get(digest).and_then(Weak::upgrade)
            && !matches!(&*interest.phase.borrow(), Phase::Done(_) | Phase::Failed(_))
        {
            return (Follower { phase: interest.phase.clone(), _interest: interest }, true);
        }
        let (tell, phase) = watch::channel(Phase::Waiting);
        let stop = CancellationToken::new();
        let interest = Arc::new(Interest { phase: phase.clone(), stop: stop.clone() });
        running.insert(digest.clone(), Arc::downgrade(&interest));
        let (this, wanted) = (Arc::clone(self), wanted.clone());
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = this.carry(&wanted, &tell) => outcome,
                () = stop.cancelled() => Err(Error::cancelled("the pull was cancelled")),
            };
            tell.send_replace(match outcome {
                Ok(arrived) => Phase::Done(Arc::new(arrived)),
                Err(err) => Phase::Failed(Arc::new(err)),
            });
        });
        (Follower { phase, _interest: interest }, false)
    }

    async fn carry(&self, wanted: &Wanted, tell: &watch::Sender<Phase>) -> Result<Arrived> {
        // Never closed.
        let turn = self.turns.acquire().await;
        let digest = &wanted.descriptor.digest;
        let hold = self.images.hold();
        hold.keep(digest);
        let hold = Arc::new(hold);
        let (tried, turn) = if self.images.content().has(digest) {
            tell.send_replace(Phase::Downloaded);
            drop(turn);
            let (file, _) = self.images.content().blob(digest)?;
            (self.unpack(file, wanted, &hold, tell, None).await??, None)
        } else {
            (self.download(wanted, &hold, tell).await?, Some(turn))
        };
        drop(turn);
        if tried.blob != *digest {
            let text = format!("blob {digest} is damaged");
            self.images.content().remove(digest)?;
            return Err(Error::internal(text));
        }
        let layer = tried.applied.map(NewLayer::from).map_err(Arc::new);
        self.note(wanted, layer.as_ref().ok())?;
        let hold = Arc::into_inner(hold)
            .ok_or_else(|| Error::internal("a layer's hold is held by another"))?;
        Ok(Arrived { layer, parents: wanted.parents.clone(), _hold: hold })
    }

    /// Downloads and unpacks at once.
    async fn download(
        &self,
        wanted: &Wanted,
        hold: &Arc<Hold>,
        tell: &watch::Sender<Phase>,
    ) -> Result<Tried> {
        let Descriptor { digest, size, urls, .. } = &wanted.descriptor;
        let order = Order {
            tries: u32::try_from(self.tries.load(Ordering::Relaxed)).unwrap_or(5),
            lanes: 4,
            urls: urls.clone(),
        };
        loop {
            let (content, wanted_digest, size) =
                (self.images.content().clone(), digest.clone(), *size);
            let incoming = super::blocking(move || content.incoming(&wanted_digest, size)).await?;
            let incoming = Arc::new(incoming);
            // Whoever leaves, the thread behind must not wait for bytes that never come.
            let _end = EndOnDrop(Arc::clone(&incoming));
            let downloaded = Arc::new(AtomicU64::new(0));
            let unpacking =
                self.unpack(incoming.reader(), wanted, hold, tell, Some(Arc::clone(&downloaded)));
            tokio::pin!(unpacking);
            let told = |step| match step {
                Step::Bytes(here) => _ = tell.send_replace(Phase::Downloading(here)),
                Step::Retry(wait) => _ = tell.send_replace(Phase::Retrying(wait)),
            };
            let mut early = None;
            // Unpacking ends first only when the disk is full, or a moment before the last word of the download.
            let fetched: std::result::Result<(), Failed> = tokio::select! {
                done = download::fetch(&wanted.repository, &incoming, &order, &told) => done,
                done = &mut unpacking => {
                    early = Some(done);
                    Ok(())
                }
            };
            if let Err(err) = fetched {
                let lied = matches!(err, Failed::Wrong(_));
                let err: Error = err.into();
                incoming.end(&err.chain());
                let _unpacked = unpacking.await;
                if lied {
                    // What a liar has sent is nothing to continue.
                    incoming.discard();
                }
                return Err(err);
            }
            if early.is_none() {
                downloaded.store(1, Ordering::Relaxed);
                tell.send_replace(Phase::Downloaded);
            }
            let tried = match early {
                Some(done) => done,
                None => unpacking.await,
            };
            let tried = tried??;
            let (found, resumed) = (tried.blob.clone(), incoming.resumed() > 0);
            let done = super::blocking(move || incoming.commit(&found)).await;
            match done {
                Ok(()) => return Ok(tried),
                // What an earlier download left may have been lost in a power cut: once more from nothing.
                Err(err) if resumed && err.kind() == Kind::Invalid => {
                    tracing::info!(digest = digest.as_str(), "a continued download was not whole");
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// Unpacks on a thread of its own.
    fn unpack<R: Read + Send + 'static>(
        &self,
        source: R,
        wanted: &Wanted,
        hold: &Arc<Hold>,
        tell: &watch::Sender<Phase>,
        after: Option<Arc<AtomicU64>>,
    ) -> impl Future<Output = Result<Result<Tried>>> + use<R> {
        let (hold, parents) = (Arc::clone(hold), wanted.parents.clone());
        let limits: Limits = self.images.limits;
        let counted = Counted { source, read: 0, told: 0, tell: tell.clone(), after };
        let work = tokio::task::spawn_blocking(move || {
            image::layer::unpack(counted, &parents, hold.as_ref(), &limits)
        });
        async move {
            work.await.map_err(|err| {
                Error::internal("internal error: unpacking broke off").caused_by(err)
            })
        }
    }

    /// Writes down what was verified, and keeps it for a day should the pull end early.
    fn note(&self, wanted: &Wanted, layer: Option<&NewLayer>) -> Result<()> {
        let Descriptor { digest, media_type, size, .. } = &wanted.descriptor;
        let until = Timestamp::now().plus(KEPT_FOR);
        let lease = |kind: &str, object: &Digest| Lease {
            holder: HOLDER.into(),
            kind: kind.into(),
            object: object.to_string(),
        };
        self.images.store.write(|tx| {
            tx.lease_until(&lease("blob", digest), until)?;
            let Some(layer) = layer else { return Ok(()) };
            tx.lease_until(&lease("layer", &layer.layer), until)?;
            tx.put_blob(&Blob {
                digest: digest.clone(),
                diff_id: layer.diff_id.clone(),
                media_type: media_type.clone(),
                size: *size,
            })
        })
    }
}

struct EndOnDrop(Arc<download::Incoming>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end("the download was given up");
    }
}

/// Tells how far the unpacking is, once the download is over.
struct Counted<R> {
    source: R,
    read: u64,
    told: u64,
    tell: watch::Sender<Phase>,
    after: Option<Arc<AtomicU64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        self.read += n as u64;
        let may_tell = self.after.as_ref().is_none_or(|a| a.load(Ordering::Relaxed) > 0);
        if may_tell && (self.read >= self.told + (1 << 20) || n == 0) {
            self.told = self.read;
            self.tell.send_replace(Phase::Extracting(self.read));
        }
        Ok(n)
    }
}

/// A copy of an error that several hear.
pub(super) fn copied(err: &Error) -> Error {
    Error::new(err.kind(), err.chain())
}

//! Unpacking layers side by side while the archive still arrives.
//!
//! Members that look like layers are queued as their first bytes come and unpacked by a few threads, each
//! as if it were the lowest layer; most layers do not depend on those below. The few that do are unpacked
//! again once it is known what is below them.

use super::spool::Spool;
use crate::{
    Applied, LayerSink, Limits,
    decompress::{self, Kind},
};
use base::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

/// A member that may be a layer.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) kind: Kind,
    /// Digest that the member's name promises.
    pub(super) promised: Option<Digest>,
}

/// A layer that was unpacked, and the digest of the member it came from.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    pub(super) applied: Applied,
    pub(super) blob: Digest,
}

/// What became of the jobs, by offset.
pub(super) type Outcomes = HashMap<u64, Result<Unpacked>>;

/// Jobs waiting and outcomes.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    outcomes: Outcomes,
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.more.notify_one();
    }

    /// No more jobs come; workers end when none is left.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// Drops jobs that nobody has begun.
    pub(super) fn abandon(&self) {
        self.lock().jobs.clear();
    }

    pub(super) fn into_outcomes(self) -> Outcomes {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).outcomes
    }

    /// Works until the queue is closed and empty.
    pub(super) fn work(&self, spool: &Spool, sink: &dyn LayerSink, limits: &Limits) {
        while let Some(job) = self.take() {
            let outcome = first_try(&job, spool, sink, limits);
            self.lock().outcomes.insert(job.offset, outcome);
        }
    }

    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer that is here already under the promised digest is only checked, not unpacked.
fn first_try(job: &Job, spool: &Spool, sink: &dyn LayerSink, limits: &Limits) -> Result<Unpacked> {
    if job.kind == Kind::Plain
        && let Some(promised) = &job.promised
        && let Some(applied) = sink.find(promised)?
    {
        let mut hashed = Hashed::new(spool.reader(job.offset, job.size));
        let blob = hashed.finish().map_err(|e| decompress::unwrap("cannot read the layer", e))?;
        if blob != *promised {
            return Err(Error::invalid(format!(
                "digest mismatch: expected {promised}, got {blob}"
            )));
        }
        return Ok(Unpacked { applied, blob });
    }
    unpack(job, &[], spool, sink, limits)
}

/// Unpacks one layer on top of `parents`.
pub(super) fn unpack(
    job: &Job,
    parents: &[Digest],
    spool: &Spool,
    sink: &dyn LayerSink,
    limits: &Limits,
) -> Result<Unpacked> {
    if job.kind == Kind::Plain {
        let mut reader = spool.reader(job.offset, job.size);
        let applied = sink.apply(parents, &mut reader)?;
        if !reader.at_end() {
            return Err(Error::internal("the layer was not read to its end"));
        }
        return Ok(Unpacked { blob: applied.diff_id.clone(), applied });
    }
    let mut hashed = Hashed::new(spool.reader(job.offset, job.size));
    let (_, tar) = decompress::open(&mut hashed, limits)?;
    let applied = piped(tar, |tar| sink.apply(parents, tar))?;
    let blob = hashed.finish().map_err(|e| decompress::unwrap("cannot read the layer", e))?;
    Ok(Unpacked { applied, blob })
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads the rest and gives the digest of all.
    fn finish(&mut self) -> io::Result<Digest> {
        // 256 KiB: fewer calls than 8 KiB, and still in the second-level cache.
        let mut buf = vec![0; 256 << 10];
        while self.read(&mut buf)? > 0 {}
        Ok(Digest::from_sha256(self.hash.finalize_reset().into()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

/// Bytes handed over at once between the two threads, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// Runs `body` over `source`, which is read (decompressed) by a thread of its own meanwhile.
pub(crate) fn piped<'s, T>(
    mut source: Box<dyn Read + Send + 's>,
    body: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    thread::scope(|scope| {
        let (full, pieces) = mpsc::sync_channel::<io::Result<Vec<u8>>>(PIECES);
        let (empty, recycled) = mpsc::channel::<Vec<u8>>();
        scope.spawn(move || {
            loop {
                let mut piece = recycled.try_recv().unwrap_or_default();
                piece.resize(PIECE, 0);
                let read = fill(&mut source, &mut piece).map(|n| piece.truncate(n));
                let last = read.is_err() || piece.is_empty();
                // The other side hangs up when it wants no more.
                if full.send(read.map(|()| piece)).is_err() || last {
                    return;
                }
            }
        });
        body(&mut Pieces { pieces, empty, current: Vec::new(), at: 0, ended: false })
    })
}

fn fill(source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match source.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

struct Pieces {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    empty: mpsc::Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            if self.ended {
                return Ok(0);
            }
            let piece = match self.pieces.recv() {
                Ok(piece) => piece?,
                Err(_) => return Err(io::Error::other("the reading thread has died")),
            };
            self.ended = piece.is_empty();
            let used = std::mem::replace(&mut self.current, piece);
            self.at = 0;
            let _ = self.empty.send(used);
        }
        let n = (self.current.len() - self.at).min(buf.len());
        buf[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

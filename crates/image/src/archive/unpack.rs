//! Unpacking layers side by side while the archive still arrives.
//!
//! Members that look like layers are queued as their first bytes come and unpacked by a few threads, each
//! as if it were the lowest layer; most layers do not depend on those below. The few that do are unpacked
//! again once it is known what is below them.

use super::spool::Spool;
use crate::{
    LayerSink, Limits,
    decompress::{self, Kind},
    layer::{self, Hashed, Unpacked},
};
use base::{Digest, Error, Result};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
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
    let tried = layer::unpack(spool.reader(job.offset, job.size), parents, sink, limits)?;
    Ok(Unpacked { applied: tried.applied?, blob: tried.blob })
}

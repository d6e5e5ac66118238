//! Why a step was not found in the cache: what each step's name by content was made of is kept with the record of its
//! build, and compared with the nearest earlier build that had the same step.
//!
//! Flow: while a build runs its steps are noted ([`trace::Recorder`]); at its end [`conclude`] looks for each step that
//! ran in the builds before and writes down what differs ([`compare`]); [`BuildKit::explain`] reads that.
//! Invariants: values of arguments and variables are kept as hashes, secrets not at all; what is kept of a build is
//! bounded by [`trace::STEPS`] and [`trace::ENTRIES`], and lists of files that several builds share are kept once.

mod compare;
mod trace;

pub(crate) use trace::{List, Outcome, Recorder, Trace};

use crate::{BuildKit, history::History, solve::blocking};
use api::model::{BuildExplanation, BuildMiss, BuildStep};
use base::{Error, Result};
use std::sync::Arc;

/// Under which a record names its trace.
pub(crate) const STEPS: &str = "gantry.steps";
/// Under which it names the lists of files, with commas between them.
pub(crate) const LISTS: &str = "gantry.lists";
/// Earlier builds that are looked at.
const BUILDS: usize = 30;

/// Why a step was done.
pub(crate) type Reason = trace::Reason;

/// Finds out why the steps of a build were done, and gives what is to be kept: the trace, and its lists by digest.
pub(crate) fn conclude(history: &History, mut trace: Trace) -> Result<Trace> {
    let ran = |s: &trace::Step| matches!(s.outcome, Outcome::Ran | Outcome::Failed);
    if !trace.steps.iter().any(|s| ran(s) && !s.key.is_empty()) {
        return Ok(trace);
    }
    let mut earlier = Vec::new();
    for record in history.records()? {
        let Some(digest) = record.logs.as_ref().and_then(|l| l.annotations.get(STEPS)) else {
            continue;
        };
        // One that cannot be read explains nothing.
        if let Ok(bytes) = history.bytes(digest)
            && let Ok(read) = serde_json::from_slice::<Trace>(&bytes)
        {
            earlier.push(read);
        }
        if earlier.len() == BUILDS {
            break;
        }
    }
    let list = |digest: &str| match trace.lists.get(digest) {
        Some(bytes) => trace::unpack(bytes),
        None => history.bytes(digest).and_then(|bytes| trace::unpack(&bytes)),
    };
    let found: Vec<(usize, Vec<Reason>)> = trace
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| ran(step) && !step.key.is_empty())
        .map(|(at, step)| (at, compare::reasons(&trace, step, &earlier, &list)))
        .collect();
    for (at, reasons) in found {
        trace.steps[at].why = reasons;
    }
    Ok(trace)
}

impl BuildKit {
    /// Why the steps of a build were done: of the one called `name` (or what its name begins with), of the newest for an empty
    /// name, of the n-th before it for `^n`.
    ///
    /// # Errors
    /// `NotFound` when there is no such build, or nothing was kept of its steps.
    pub async fn explain(&self, name: &str) -> Result<BuildExplanation> {
        let (history, name) = (Arc::clone(&self.history), name.to_owned());
        blocking(move || explain(&history, &name)).await
    }
}

fn explain(history: &History, name: &str) -> Result<BuildExplanation> {
    let mut records = history.records()?.into_iter();
    let back = name.strip_prefix('^').map(|n| n.parse::<usize>());
    let record = match back {
        Some(Ok(back)) => records.nth(back),
        Some(Err(_)) => {
            return Err(Error::invalid(format!("{name:?} is no number of builds to go back")));
        }
        None if name.is_empty() => records.next(),
        None => {
            let fits: Vec<_> = records.filter(|r| r.r#ref.starts_with(name)).collect();
            if fits.len() > 1 && !fits.iter().any(|r| r.r#ref == name) {
                return Err(Error::invalid(format!("{} builds begin with {name:?}", fits.len())));
            }
            let whole = fits.iter().position(|r| r.r#ref == name).unwrap_or_default();
            fits.into_iter().nth(whole)
        }
    };
    let what = if name.is_empty() {
        "no build is remembered".into()
    } else {
        format!("no record found for ref {name:?}")
    };
    let record = record.ok_or_else(|| Error::not_found(what))?;
    let kept = record.logs.as_ref().and_then(|l| l.annotations.get(STEPS));
    let kept = kept.ok_or_else(|| {
        Error::not_found(format!(
            "nothing is kept of the steps of build {}: it was cancelled, or is older than what keeps them",
            record.r#ref
        ))
    })?;
    let trace: Trace = serde_json::from_slice(&history.bytes(kept)?)
        .map_err(|e| Error::internal("cannot read what is kept of a build's steps").caused_by(e))?;
    let step = |step: trace::Step| BuildStep {
        name: step.name,
        state: step.outcome.word().to_owned(),
        misses: step
            .why
            .into_iter()
            .map(|r| BuildMiss { kind: r.kind, name: r.name, detail: r.detail })
            .collect(),
    };
    let steps = trace.steps.into_iter().filter(|s| !s.key.is_empty()).map(step).collect();
    Ok(BuildExplanation { r#ref: record.r#ref, steps })
}

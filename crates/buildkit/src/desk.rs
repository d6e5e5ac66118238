//! What one front end has of a build: the states that it speaks of, what it was given, the containers that it asked
//! for, and what it came to. The client has one; a front end in a container has one of its own, so that neither
//! reaches the other's.
//!
//! Invariant: all of it is counted; a front end that asks without end is refused, not served.

use crate::{
    containers::Containers,
    failure::Failure,
    job::{Outcome, Reference},
    proto::pb,
};
use base::{Error, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// States that a front end may speak of at once.
const REFERENCES: usize = 20_000;

type Returned = Option<Result<Outcome, Arc<Failure>>>;

/// A front end's part of a build.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Definitions that it was given.
    pub(crate) inputs: HashMap<String, pb::Definition>,
    /// Containers that it asked for.
    pub(crate) containers: Containers,
    /// Front ends that stand above it.
    pub(crate) depth: usize,
    references: Mutex<HashMap<String, Reference>>,
    returned: watch::Sender<Returned>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// An empty one.
    pub(crate) fn new(inputs: HashMap<String, pb::Definition>, depth: usize) -> Arc<Self> {
        Arc::new(Self {
            inputs,
            containers: Containers::default(),
            depth,
            references: Mutex::default(),
            returned: watch::Sender::new(None),
        })
    }

    /// Keeps a state for the front end; gives its name.
    ///
    /// # Errors
    /// `Exhausted` when there are too many.
    pub(crate) fn keep(&self, reference: Reference) -> Result<String> {
        let id = base::ContainerId::random().to_string();
        let mut all = lock(&self.references);
        if all.len() >= REFERENCES {
            return Err(Error::exhausted(format!(
                "the front end speaks of more than {REFERENCES} states"
            )));
        }
        all.insert(id.clone(), reference);
        Ok(id)
    }

    /// The state that the front end calls `id`.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn reference(&self, id: &str) -> Result<Reference> {
        if id.is_empty() {
            return Ok(Reference::default());
        }
        let found = lock(&self.references).get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("return reference {id:?} not found")))
    }

    /// Tells what the front end came to; the first word counts.
    pub(crate) fn give(&self, outcome: Result<Outcome, Failure>) {
        self.returned.send_if_modified(|returned| {
            let first = returned.is_none();
            if first {
                *returned = Some(outcome.map_err(Arc::new));
            }
            first
        });
    }

    /// What the front end has come to so far.
    pub(crate) fn given(&self) -> Returned {
        self.returned.borrow().clone()
    }

    /// What the front end comes to.
    pub(crate) async fn returned(&self) -> Result<Outcome, Arc<Failure>> {
        let mut returned = self.returned.subscribe();
        match returned.wait_for(Option::is_some).await.ok().and_then(|given| given.clone()) {
            Some(outcome) => outcome,
            None => Err(Arc::new(Error::cancelled("the build was stopped").into())),
        }
    }

    /// Drops what it holds.
    pub(crate) fn clear(&self) {
        lock(&self.references).clear();
        self.containers.clear();
    }
}

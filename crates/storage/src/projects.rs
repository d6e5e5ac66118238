//! Folders that may hold only so much, by project quota.
//!
//! A bounded folder has a project number of its own. No list of numbers is kept: one is free when nothing on the file
//! system has it and it has no limit, so what is in the trash keeps its number until it is gone.
//! Not here: how the kernel is asked (`sys::quota`).

use crate::error::io;
use base::{Error, Result};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use sys::{
    quota,
    root::{self, Dir},
};

/// Our first number; administrators count theirs from 1.
const FIRST: u32 = 1 << 20;
/// So many numbers in use by others are passed over.
const TRIES: u32 = 1 << 20;

/// The projects of a data root's file system; none where it has no project quota that is enforced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projects {
    /// Where the search for a free number begins.
    next: Option<Arc<Mutex<u32>>>,
}

impl Projects {
    /// Those of the file system of `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        let there = Dir::open(folder).is_ok_and(|dir| quota::enforced(&dir));
        Self { next: there.then(|| Arc::new(Mutex::new(FIRST))) }
    }

    pub(crate) fn are_there(&self) -> bool {
        self.next.is_some()
    }

    /// Lets `folder`, in which nothing is yet, hold at most `bytes`.
    ///
    /// # Errors
    /// `Invalid` where the file system cannot; of the kernel.
    pub(crate) fn bound(&self, folder: &Dir, what: &str, bytes: u64) -> Result<()> {
        let Some(next) = &self.next else {
            return Err(Error::invalid(format!(
                "{what} cannot be bounded: its file system has no project quota"
            )));
        };
        let tried =
            |call, errno| io(format!("cannot bound {what}"), root::Error::new(call, what, errno));
        // Held until the folder has its number, by which the number is taken.
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (*next..next.saturating_add(TRIES)).find_map(|number| {
            match quota::usage(folder, number) {
                Ok(used) => (used == quota::Use::default()).then_some(Ok(number)),
                Err(errno) => Some(Err(errno)),
            }
        });
        let number = free
            .ok_or_else(|| Error::internal(format!("cannot bound {what}: no project is free")))?
            .map_err(|e| tried("quotactl", e))?;
        quota::set_project(folder, number).map_err(|e| tried("set the project", e))?;
        *next = number.saturating_add(1);
        quota::set_limit(folder, number, bytes).map_err(|e| tried("set the limit", e))
    }

    /// Takes the limit of `folder` away, so that its number is free when it is gone. One without is fine.
    pub(crate) fn forget(&self, folder: &Dir) {
        if !self.are_there() {
            return;
        }
        if let Ok(Some(number)) = quota::project(folder)
            && number >= FIRST
            && let Err(err) = quota::set_limit(folder, number, 0)
        {
            tracing::warn!(number, %err, "a project keeps its limit");
        }
    }
}

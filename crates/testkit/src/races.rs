//! Checks that what many clients were told at once can be explained by one order of operations.
//!
//! Flow: [`Recorder`] lets clients do random operations on few containers' names and keeps who was told what, when
//! ([`Record`]); [`check`] looks for an order that fits the model of a container's life (`model.rs`) and the times.
//! An operation that is several steps inside the engine (a forced removal kills, then removes) is several steps of
//! the model, in order. Names of different groups never meet, so that groups are checked apart.
//!
//! Invariants: an answer that no order explains is a fault of the engine, whatever the seed; a status of 5xx that
//! Docker does not document is one at once. Source: Wing and Gong's search, run forward over the record as in
//! Lowe's "Testing for linearizability" (2017). Not here: lists and streams, which show several containers at
//! several moments.

mod model;
mod recorder;
mod search;

pub use recorder::{Outcome, Recorder};
pub use search::{Record, check};

/// What a client asks for. Names are numbers within a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// `POST /containers/create?name=`.
    Create(u8),
    /// `POST start`.
    Start(u8),
    /// `POST stop?t=0`.
    Stop(u8),
    /// `POST kill`.
    Kill(u8),
    /// `POST restart?t=0`.
    Restart(u8),
    /// `POST pause`.
    Pause(u8),
    /// `POST unpause`.
    Unpause(u8),
    /// `POST rename?name=`, from the first to the second.
    Rename(u8, u8),
    /// `DELETE`.
    Remove(u8),
    /// `DELETE ?force=1`.
    RemoveForced(u8),
    /// `GET json`.
    Inspect(u8),
    /// `POST exec`.
    Exec(u8),
    /// `POST wait`, given up after a moment.
    Wait(u8),
}

/// What it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// Done; for a creation and an inspection with the container's number in the order of ids seen.
    Done(Option<u32>),
    /// Inspected: whose id, and its status.
    Seen(u32, Status),
    /// `304`: it is so already.
    Already,
    /// `404`.
    Missing,
    /// `409`, or what Docker answers instead.
    Conflict,
    /// `409` because of a removal that another has begun.
    BeingRemoved,
}

/// The states of a container that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Never started.
    Created,
    /// Its process lives.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Exited,
    /// Being removed, whether it was ever started or not; shown of a removal under way, never a container's own.
    Removing,
}

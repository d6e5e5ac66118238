//! The words that all other crates share: identifiers, digests, image references, kinds of error,
//! times, sizes, filters, signals, events and mounts.
//!
//! Invariants: no I/O (except reading the clock and random bytes), no async, no wire JSON beyond the
//! string forms that Docker's API fixes. Every parser here is total: bad input is an error, never a panic.

pub mod digest;
pub mod error;
pub mod event;
pub mod filters;
pub mod id;
pub mod names;
pub mod platform;
pub mod principal;
pub mod reference;
pub mod signal;
pub mod time;
pub mod units;

pub use digest::{Digest, hex};
pub use error::{Error, Kind, Kinded, Result};
pub use id::{ContainerId, EndpointId, ExecId, ImageId, NetworkId};
pub use platform::Platform;
pub use principal::Principal;
pub use reference::Reference;
pub use time::Timestamp;

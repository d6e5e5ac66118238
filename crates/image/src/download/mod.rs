//! Downloading blobs: by several lanes at once, continued after a break, read while they come.
//!
//! Flow: an [`Incoming`] is a file below `partial/` of the content store; [`fetch()`] fills it from a repository,
//! and a [`Reader`] on another thread takes its bytes in order, hashes and unpacks them; [`Incoming::commit`]
//! makes it a blob when the hash is the one that was promised.
//! Invariants: nothing leaves `partial/` under a digest that was not found in its bytes; no more bytes are
//! taken than the manifest announced; a break costs only what was on the way.
//! Not here: which blobs are wanted, who shares a download (the engine's).

mod incoming;
mod lanes;
mod ranges;

pub use incoming::{Incoming, Reader};
pub use lanes::{Order, Step, fetch};

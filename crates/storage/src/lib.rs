//! Everything that yields a root file system: layers, containers' writable trees over them, volumes.
//!
//! Flow: a tar becomes a folder in `layers/` ([`Layers::apply`]) that no one changes again; a container
//! gets an upper folder over a stack of them ([`Snapshots::prepare`]); what it wrote is told
//! ([`Snapshots::changes`]), streamed ([`Snapshots::diff`]) or made a layer itself
//! ([`Snapshots::commit`]). [`Snapshots::mount`] and [`Snapshots::view`] give the merged tree as a
//! [`sys::root::Root`] for file operations.
//!
//! Invariants: whatever exists under its final name is whole (made in `tmp/`, then renamed); whatever is
//! deleted is first renamed to `trash/`; nothing is mounted in the host's mount table. A layer is sure to
//! survive a power cut only after [`Layers::sync`], so whoever records a layer syncs first, and a layer
//! folder without a record is swept at start.
//! Units: sizes in bytes. Everything here blocks; async callers use blocking threads.
//! Not here: which image has which layers, references and leases (engine), compression (image).

mod copy;
mod error;
mod export;
mod extract;
mod folders;
mod layers;
mod pack;
mod pipe;
mod place;
mod projects;
mod relabel;
mod snapshots;
mod tar;
mod trash;
mod usage;
mod volumes;
mod walk;

#[cfg(test)]
mod testing;

pub use export::{Part, export_parts, export_path, export_tree};
pub use extract::{Manner, extract_beside, extract_into};
pub use layers::{Applied, Layers, Limits};
pub use pipe::through;
pub use relabel::relabel;
pub use snapshots::{Active, Change, ChangeKind, Commit, Snapshots};
pub use tar::times::{Times, retime};
pub use trash::Trash;
pub use usage::Usage;
pub use volumes::{Device, Volumes, fill_empty};

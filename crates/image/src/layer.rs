//! The seam to layer storage: the engine implements these over `storage`, so that images and storage do
//! not know each other.

use base::{Digest, Result};
use std::io::{Read, Write};

/// A layer that is in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Layer id: the DiffID, or the chain id of a layer bound to its chain.
    pub layer: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// The content depends on the layers below (a folder implied and not listed, a hard link to a file
    /// below), so it holds only on top of the parents it was unpacked with.
    pub bound: bool,
    /// It was not in storage before.
    pub fresh: bool,
}

/// Where layers are unpacked to. Several layers are applied at once, from several threads.
///
/// What a sink has applied stays at least until the sink is dropped; whoever owns the sink decides what
/// is kept for longer.
pub trait LayerSink: Sync {
    /// The layer with this DiffID, if it is in storage already and not bound to a chain.
    ///
    /// # Errors
    /// Of the storage.
    fn find(&self, diff_id: &Digest) -> Result<Option<Applied>>;

    /// Unpacks an uncompressed `tar` on top of `parents` (layer ids, lowest first) and reads it to its
    /// end. The digest found is in the answer; checking it is the caller's part.
    ///
    /// # Errors
    /// `Invalid` for a tar that is malformed, escapes its root or needs parents which are not given;
    /// nothing is kept then.
    fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<Applied>;
}

/// Where the tar of a layer comes from again, byte for byte.
pub trait LayerSource: Sync {
    /// Bytes of the tar.
    ///
    /// # Errors
    /// `NotFound` when there is no such layer.
    fn tar_size(&self, layer: &Digest) -> Result<u64>;

    /// Writes the tar.
    ///
    /// # Errors
    /// Of storage and of `out`.
    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()>;
}

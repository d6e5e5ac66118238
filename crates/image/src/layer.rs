//! The seam to layer storage: the engine implements these over `storage`, so that images and storage do
//! not know each other.

use crate::{Limits, decompress};
use base::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};

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

/// A layer that was unpacked from its blob, and the digest of that blob.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// The layer.
    pub applied: Applied,
    /// Digest of the bytes that were read.
    pub blob: Digest,
}

/// What became of a blob that should be a layer: its digest, and the layer or why it is none.
#[derive(Debug)]
pub struct Tried {
    /// Digest of the bytes that were read.
    pub blob: Digest,
    /// The layer.
    pub applied: Result<Applied>,
}

/// Unpacks a blob, compressed or not, on top of `parents`, and hashes it on the way. A blob that is no layer
/// is read to its end all the same: that it is not the blob which was promised is the better reason.
///
/// # Errors
/// Of reading `source`.
pub fn unpack(
    source: impl Read + Send,
    parents: &[Digest],
    sink: &dyn LayerSink,
    limits: &Limits,
) -> Result<Tried> {
    let mut hashed = Hashed::new(source);
    let applied = decompress::piped(&mut hashed, limits, |tar| sink.apply(parents, tar));
    if hashed.failed {
        return Err(applied.err().unwrap_or_else(|| Error::internal("cannot read the layer")));
    }
    let blob = hashed.finish().map_err(|e| decompress::unwrap("cannot read the layer", e))?;
    Ok(Tried { blob, applied })
}

/// Hashes what is read through it.
#[derive(Debug)]
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    /// Reading failed: whatever comes of it is the source's doing.
    failed: bool,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), failed: false }
    }

    /// Reads the rest and gives the digest of all.
    pub(crate) fn finish(&mut self) -> io::Result<Digest> {
        // 256 KiB: fewer calls than 8 KiB, and still in the second-level cache.
        let mut buf = vec![0; 256 << 10];
        while self.read(&mut buf)? > 0 {}
        Ok(Digest::from_sha256(self.hash.finalize_reset().into()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf).inspect_err(|e| {
            self.failed |= e.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

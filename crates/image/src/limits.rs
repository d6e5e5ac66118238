//! Bounds on what comes from outside. Each number has its unit and reason; the engine may hand in others.

use base::{Error, Result};
use std::fs::File;

/// Most layers of one image: the kernel stacks at most 500 lower folders (`OVL_MAX_STACK`).
pub const LAYERS: usize = 500;
/// Most entries of a list in a config or manifest that is not the list of layers.
pub const ENTRIES: usize = 100_000;

/// Bounds for one archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that any one stream may decompress to.
    pub unpacked_bytes: u64,
    /// Most output bytes per input byte, once more than `ratio_from_bytes` have come out.
    pub ratio: u64,
    /// Below this many bytes the ratio does not count: small things compress well.
    pub ratio_from_bytes: u64,
    /// Bytes of a config.
    pub config_bytes: u64,
    /// Bytes of a manifest or index (4 MiB is what registries must accept).
    pub manifest_bytes: u64,
    /// Bytes of `manifest.json` and `index.json` of an archive.
    pub listing_bytes: u64,
    /// Members of an archive.
    pub members: usize,
    /// Bytes that must stay free on the disk spooled to.
    pub reserve_bytes: u64,
    /// Threads that unpack layers.
    pub unpackers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            unpacked_bytes: 256 << 30,
            ratio: 500,
            ratio_from_bytes: 1 << 30,
            config_bytes: 8 << 20,
            manifest_bytes: 4 << 20,
            listing_bytes: 16 << 20,
            members: 100_000,
            reserve_bytes: 256 << 20,
            unpackers: cores.clamp(2, 6),
        }
    }
}

impl Limits {
    /// Fails when the disk that holds `file` has less than the reserve free.
    ///
    /// # Errors
    /// `Exhausted`, docker's "no space left on device".
    pub(crate) fn check_reserve(&self, file: &File) -> Result<()> {
        let stat = rustix::fs::fstatvfs(file)
            .map_err(|e| Error::io("cannot ask the disk for its free space", e.into()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < self.reserve_bytes {
            return Err(Error::exhausted("no space left on device: the reserve would be used up"));
        }
        Ok(())
    }
}

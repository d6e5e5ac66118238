//! The tar format: what the layers of images are written in.
//!
//! Reads v7, ustar, GNU (long names, old sparse, base-256 numbers) and PAX (with GNU's sparse 0.0, 0.1
//! and 1.0); writes ustar with PAX records where ustar cannot say it.
//! Invariants: memory per archive is bounded by [`reader::EXTRA`] however the headers lie; every number
//! is checked; a payload is never longer than its header said.
//! Source: POSIX pax(1), the GNU tar manual ("Basic Tar Format", "Storing Sparse Files").
//! Not here: what an entry does to a folder (`layers::unpack`, `extract`).

pub(crate) mod header;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sparse;
pub(crate) mod times;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use sys::root::Time;

/// Tar works in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Hardlink,
    Symlink,
    Char(u32, u32),
    Block(u32, u32),
    Dir,
    Fifo,
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// As written, not yet cleaned.
    pub(crate) name: Vec<u8>,
    /// Target of a hard link or symlink.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Bytes of the file once unpacked.
    pub(crate) size: u64,
    /// Where the payload's bytes go; empty for a plain file, whose payload is its content.
    pub(crate) sparse: Option<Vec<Segment>>,
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// A run of content in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Bytes that fill the last block of a payload.
pub(crate) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

//! The archive on disk while it arrives: one unnamed file that is appended to and read at the same time.
//!
//! A reader that has caught up waits for the writer. The file has no name, so nothing of it outlives the
//! process, and its pages are mostly dropped again before they reach the disk.

use crate::Limits;
use base::{Error, Result};
use std::{
    fs::File,
    io::{self, Read, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Condvar, Mutex, PoisonError},
};

/// How often the disk is asked for its free space: after so many bytes.
const RESERVE_CHECK_BYTES: u64 = 32 << 20;

pub(super) struct Spool {
    file: File,
    progress: Mutex<Written>,
    more: Condvar,
    limits: Limits,
}

#[derive(Default)]
struct Written {
    bytes: u64,
    ended: bool,
}

impl Spool {
    /// A new spool in folder `dir`.
    pub(super) fn new(dir: &Path, limits: &Limits) -> Result<Self> {
        let file = tempfile::tempfile_in(dir).map_err(|e| {
            Error::io(format!("cannot create a spool file in {}", dir.display()), e)
        })?;
        Ok(Self { file, progress: Mutex::default(), more: Condvar::new(), limits: *limits })
    }

    /// Bytes written so far. Only the one writer asks.
    pub(super) fn written(&self) -> u64 {
        self.lock().bytes
    }

    /// Appends `data`.
    pub(super) fn append(&self, data: &[u8]) -> Result<()> {
        let before = self.written();
        if before / RESERVE_CHECK_BYTES != (before + data.len() as u64) / RESERVE_CHECK_BYTES {
            self.limits.check_reserve(&self.file)?;
        }
        (&self.file).write_all(data).map_err(|e| Error::io("cannot spool the archive", e))?;
        self.lock().bytes += data.len() as u64;
        self.more.notify_all();
        Ok(())
    }

    /// No more will come; readers that wait for more get an error.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.more.notify_all();
    }

    /// Reads `size` bytes from `offset`, waiting for those that have not come yet.
    pub(super) fn reader(&self, offset: u64, size: u64) -> Reader<'_> {
        Reader { spool: self, offset, end: offset + size, known: 0 }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Written> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A window of the spool.
pub(super) struct Reader<'s> {
    spool: &'s Spool,
    offset: u64,
    end: u64,
    /// How far the spool was written when last asked.
    known: u64,
}

impl Reader<'_> {
    /// Whether everything was read.
    pub(super) fn at_end(&self) -> bool {
        self.offset == self.end
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.end || buf.is_empty() {
            return Ok(0);
        }
        if self.known <= self.offset {
            let mut written = self.spool.lock();
            while written.bytes <= self.offset {
                if written.ended {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                written = self.spool.more.wait(written).unwrap_or_else(PoisonError::into_inner);
            }
            self.known = written.bytes;
        }
        let there = self.known.min(self.end) - self.offset;
        let wanted = usize::try_from(there).map_or(buf.len(), |there| there.min(buf.len()));
        let n = self.spool.file.read_at(&mut buf[..wanted], self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

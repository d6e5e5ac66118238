//! Compresses the newest rotated file bit by bit, between writes: the shim has no second thread, and a
//! container must not wait for a whole file to be compressed.
//!
//! INVARIANT: `<path>.1` stays until `<path>.1.gz` is complete under its final name; a reader that
//! finds both takes the plain one.

use super::names;
use flate2::{Compression, write::GzEncoder};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

pub(super) struct Squeeze {
    from: File,
    into: GzEncoder<File>,
    plain: PathBuf,
    partial: PathBuf,
    done: PathBuf,
}

const BLOCK: usize = 64 * 1024;

impl Squeeze {
    /// Begins with `<path>.1` if there is one. Failing to is no error: the file stays plain.
    pub(super) fn begin(path: &Path) -> Option<Self> {
        let plain = names::numbered(path, 1, false);
        let done = names::numbered(path, 1, true);
        let mut partial = done.clone().into_os_string();
        partial.push(".tmp");
        let partial = PathBuf::from(partial);
        let from = File::open(&plain).ok()?;
        let into = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&partial)
            .ok()?;
        Some(Self { from, into: GzEncoder::new(into, Compression::new(3)), plain, partial, done })
    }

    /// Compresses about `budget` bytes more; true when nothing is left to do.
    pub(super) fn step(&mut self, mut budget: usize) -> bool {
        let mut block = [0; BLOCK];
        while budget > 0 {
            match self.from.read(&mut block) {
                Ok(0) => {
                    if self.finish().is_err() {
                        let _ = fs::remove_file(&self.partial);
                    }
                    return true;
                }
                Ok(n) => {
                    if self.into.write_all(&block[..n]).is_err() {
                        let _ = fs::remove_file(&self.partial);
                        return true;
                    }
                    budget = budget.saturating_sub(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    let _ = fs::remove_file(&self.partial);
                    return true;
                }
            }
        }
        false
    }

    fn finish(&mut self) -> io::Result<()> {
        self.into.try_finish()?;
        fs::rename(&self.partial, &self.done)?;
        fs::remove_file(&self.plain)
    }
}

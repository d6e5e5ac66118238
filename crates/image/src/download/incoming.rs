//! A blob while it comes: a file with holes, what of it is here, and readers that wait for the rest.
//!
//! On disk: `partial/<hex>` and `partial/<hex>.marks`, to which every stretch that was written is appended
//! (two numbers of 8 bytes). A killed engine loses only stretches that were not marked yet; a power cut may
//! leave marks without their bytes, which the digest finds out.

use super::ranges::Ranges;
use crate::Content;
use base::{Digest, Error, Result};
use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// A stretch is marked when it has grown by so many bytes.
pub(super) const MARK_BYTES: u64 = 128 << 10;
/// Bytes of marks that are read: 64 Ki stretches.
const MARKS_BYTES: u64 = 1 << 20;

/// A blob on its way into the content store.
#[derive(Debug)]
pub struct Incoming {
    content: Content,
    digest: Digest,
    size: u64,
    file: File,
    marks: Mutex<File>,
    path: PathBuf,
    state: Mutex<State>,
    more: Condvar,
    /// Bytes that were here when this began.
    resumed: u64,
}

#[derive(Debug, Default)]
struct State {
    have: Ranges,
    ended: Option<String>,
}

impl Content {
    /// Opens the blob `digest` of `size` bytes to be filled, with what an earlier download left of it.
    ///
    /// # Errors
    /// Of the disk; `Invalid` for an algorithm that is not kept here.
    pub fn incoming(&self, digest: &Digest, size: u64) -> Result<Incoming> {
        self.path(digest)?;
        let fail = |e| Error::io(format!("cannot begin blob {digest}"), e);
        let path = self.partial().join(digest.hex());
        let open = |path: &PathBuf, append: bool| {
            let mut options = File::options();
            options.create(true).truncate(false).read(true).write(true).append(append);
            options.mode(0o600).open(path)
        };
        let file = open(&path, false).map_err(fail)?;
        let mut marks = open(&marks_of(&path), true).map_err(fail)?;
        // A mark that was cut off would shift all that follow.
        let whole = marks.metadata().map_err(fail)?.len() / 16 * 16;
        marks.set_len(whole).map_err(fail)?;
        let mut have = Ranges::default();
        let mut bytes = Vec::new();
        (&mut marks).take(MARKS_BYTES).read_to_end(&mut bytes).map_err(fail)?;
        for pair in bytes.chunks_exact(16) {
            let number = |at: usize| pair[at..at + 8].try_into().map(u64::from_le_bytes);
            if let (Ok(from), Ok(to)) = (number(0), number(8)) {
                have.add(from, to);
            }
        }
        have.clip(size.min(file.metadata().map_err(fail)?.len()));
        // One that was begun under another size is another's lie; the file never grows beyond.
        file.set_len(size.min(file.metadata().map_err(fail)?.len())).map_err(fail)?;
        let resumed = have.bytes();
        Ok(Incoming {
            content: self.clone(),
            digest: digest.clone(),
            size,
            file,
            marks: Mutex::new(marks),
            path,
            state: Mutex::new(State { have, ended: None }),
            more: Condvar::new(),
            resumed,
        })
    }
}

fn marks_of(path: &std::path::Path) -> PathBuf {
    path.with_extension("marks")
}

impl Incoming {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its digest, promised.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size, promised.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are here.
    pub fn bytes(&self) -> u64 {
        self.lock().have.bytes()
    }

    /// Bytes that an earlier download had left.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// What is missing, in order.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        self.lock().have.missing(self.size)
    }

    /// Writes bytes that came; `mark` is where the stretch began that is to be marked now.
    pub(super) fn write(&self, at: u64, bytes: &[u8], mark: Option<u64>) -> Result<()> {
        let fail = |e| Error::io(format!("cannot write blob {}", self.digest), e);
        let end = at + bytes.len() as u64;
        if end > self.size {
            return Err(Error::invalid(format!(
                "blob {} is larger than the {} bytes that its manifest says",
                self.digest, self.size
            )));
        }
        self.file.write_all_at(bytes, at).map_err(fail)?;
        self.lock().have.add(at, end);
        self.more.notify_all();
        if let Some(from) = mark {
            self.mark(from, end)?;
        }
        Ok(())
    }

    /// Notes for a later engine that a stretch is here.
    pub(super) fn mark(&self, from: u64, to: u64) -> Result<()> {
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&from.to_le_bytes());
        pair[8..].copy_from_slice(&to.to_le_bytes());
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks
            .write_all(&pair)
            .map_err(|e| Error::io(format!("cannot write blob {}", self.digest), e))
    }

    /// No more will come: readers that wait for more get `why`.
    pub fn end(&self, why: &str) {
        self.lock().ended.get_or_insert_with(|| why.to_owned());
        self.more.notify_all();
    }

    /// Reads from the first byte on, waiting for what has not come yet. Blocks.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader { incoming: Arc::clone(self), at: 0, known: 0 }
    }

    /// Makes it a blob, when `found` is its digest.
    ///
    /// # Errors
    /// `Invalid` when it is another's; nothing of it is kept then.
    pub fn commit(&self, found: &Digest) -> Result<()> {
        if *found != self.digest {
            self.discard();
            return Err(Error::invalid(format!(
                "filesystem layer verification failed for digest {}",
                self.digest
            ))
            .caused_by(format!("the registry sent {found}")));
        }
        let fail = |e| Error::io(format!("cannot store blob {}", self.digest), e);
        fs::rename(&self.path, self.content.path(&self.digest)?).map_err(fail)?;
        let _ = fs::remove_file(marks_of(&self.path));
        Ok(())
    }

    /// Drops all of it.
    pub fn discard(&self) {
        for path in [self.path.clone(), marks_of(&self.path)] {
            if let Err(err) = fs::remove_file(&path)
                && err.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(
                    digest = self.digest.as_str(),
                    err = err.to_string(),
                    "an unfinished blob stays"
                );
            }
        }
    }
}

/// Reads a blob in order while it comes.
#[derive(Debug)]
pub struct Reader {
    incoming: Arc<Incoming>,
    at: u64,
    known: u64,
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let incoming = &self.incoming;
        if self.at == incoming.size || buf.is_empty() {
            return Ok(0);
        }
        if self.known <= self.at {
            let mut state = incoming.lock();
            loop {
                self.known = state.have.prefix();
                if self.known > self.at {
                    break;
                }
                if let Some(why) = &state.ended {
                    return Err(io::Error::other(Error::cancelled(why.clone())));
                }
                state = incoming.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let there = usize::try_from(self.known - self.at).unwrap_or(usize::MAX);
        let wanted = there.min(buf.len());
        let n = incoming.file.read_at(&mut buf[..wanted], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(&dir.path().join("content")).unwrap();
        (dir, content)
    }

    #[test]
    fn a_reader_follows_what_comes_in_any_order() {
        let (_dir, content) = content();
        let data: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        let digest = Digest::sha256(&data);
        let incoming = Arc::new(content.incoming(&digest, 1000).unwrap());
        let mut reader = incoming.reader();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        incoming.write(500, &data[500..], Some(500)).unwrap();
        incoming.write(0, &data[..500], Some(0)).unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), data);
        assert!(incoming.write(999, b"xx", None).is_err());
        incoming.commit(&digest).unwrap();
        assert_eq!(content.read(&digest, 1000).unwrap(), data);
        assert_eq!(fs::read_dir(content.partial()).unwrap().count(), 0);
    }

    #[test]
    fn a_later_engine_continues_where_it_was_marked() {
        let (dir, content) = content();
        let digest = Digest::sha256(b"0123456789");
        let first = content.incoming(&digest, 10).unwrap();
        first.write(0, b"0123", Some(0)).unwrap();
        first.write(6, b"67", Some(6)).unwrap();
        first.write(8, b"8", None).unwrap();
        drop(first);
        let content = Content::open(&dir.path().join("content")).unwrap();
        let second = content.incoming(&digest, 10).unwrap();
        assert_eq!((second.missing(), second.resumed()), (vec![(4, 6), (8, 10)], 6));
        second.discard();
        assert_eq!(content.incoming(&digest, 10).unwrap().missing(), [(0, 10)]);
    }

    #[test]
    fn another_s_bytes_are_dropped() {
        let (_dir, content) = content();
        let digest = Digest::sha256(b"right");
        let incoming = content.incoming(&digest, 5).unwrap();
        incoming.write(0, b"wrong", Some(0)).unwrap();
        let err = incoming.commit(&Digest::sha256(b"wrong")).unwrap_err().to_string();
        assert!(err.starts_with("filesystem layer verification failed"), "{err}");
        assert!(!content.has(&digest));
        assert_eq!(content.incoming(&digest, 5).unwrap().missing(), [(0, 5)]);
    }

    #[test]
    fn the_end_wakes_who_waits() {
        let (_dir, content) = content();
        let incoming = Arc::new(content.incoming(&Digest::sha256(b"x"), 1).unwrap());
        let mut reader = incoming.reader();
        let reading = std::thread::spawn(move || reader.read(&mut [0; 8]));
        incoming.end("cancelled");
        assert!(reading.join().unwrap().is_err());
    }
}

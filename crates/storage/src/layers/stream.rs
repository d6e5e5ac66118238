//! The stream of a tar, hashed on a second thread while it is unpacked on this one.
//!
//! Flow: chunks of 256 KiB are read, handed to the hashing thread and to the unpacker at once, and used
//! again when both are done with them. A tar that fits into one chunk never starts the thread.
//! Invariants: at most [`CHUNKS`] chunks exist, so a slow hash slows the reading and costs no memory.

use base::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, BufRead, Read},
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// Fits the second-level cache together with what is written from it.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 8;

pub(crate) struct Hashing<'r> {
    inner: &'r mut dyn Read,
    chunk: Arc<Chunk>,
    at: usize,
    total: u64,
    limit: u64,
    free: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
    made: usize,
    hash: Hash,
    ended: bool,
}

/// Goes back to the pool when its last user drops it.
struct Chunk {
    bytes: Vec<u8>,
    pool: Option<SyncSender<Vec<u8>>>,
}

enum Hash {
    Idle(Sha256),
    Running(SyncSender<Arc<Chunk>>, JoinHandle<Sha256>),
    Gone,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let _ = pool.try_send(mem::take(&mut self.bytes));
        }
    }
}

impl<'r> Hashing<'r> {
    /// Reads at most `limit` bytes of `inner`.
    pub(crate) fn new(inner: &'r mut dyn Read, limit: u64) -> Self {
        let (give_back, free) = sync_channel(CHUNKS);
        Self {
            inner,
            chunk: Arc::new(Chunk { bytes: Vec::new(), pool: None }),
            at: 0,
            total: 0,
            limit,
            free,
            give_back,
            made: 0,
            hash: Hash::Idle(Sha256::new()),
            ended: false,
        }
    }

    /// Digest and length of all that was read.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let chunk =
            mem::replace(&mut self.chunk, Arc::new(Chunk { bytes: Vec::new(), pool: None }));
        let state = match mem::replace(&mut self.hash, Hash::Gone) {
            Hash::Idle(mut state) => {
                state.update(&chunk.bytes);
                state
            }
            Hash::Running(feed, thread) => {
                drop(feed);
                thread.join().map_err(|_| io::Error::other("the hashing thread died"))?
            }
            Hash::Gone => return Err(io::Error::other("the hash is gone")),
        };
        Ok((Digest::from_sha256(state.finalize().into()), self.total))
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut bytes = match self.free.try_recv() {
            Ok(bytes) => bytes,
            Err(_) if self.made < CHUNKS => {
                self.made += 1;
                Vec::new()
            }
            // All are with the hashing thread: wait for one.
            Err(_) => self.free.recv().map_err(io::Error::other)?,
        };
        bytes.resize(CHUNK, 0);
        let mut have = 0;
        while have < CHUNK {
            match self.inner.read(&mut bytes[have..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(have);
        self.total += have as u64;
        if self.total > self.limit {
            let text = format!("the layer is larger than the limit of {} bytes", self.limit);
            return Err(io::Error::other(base::Error::exhausted(text)));
        }
        let new = Arc::new(Chunk { bytes, pool: Some(self.give_back.clone()) });
        let old = mem::replace(&mut self.chunk, new);
        self.at = 0;
        self.feed(old)
    }

    /// Hands the chunks on; the very first waits, in case it is the only one.
    fn feed(&mut self, old: Arc<Chunk>) -> io::Result<()> {
        if let Hash::Idle(_) = self.hash
            && !old.bytes.is_empty()
            && !self.chunk.bytes.is_empty()
        {
            let Hash::Idle(mut state) = mem::replace(&mut self.hash, Hash::Gone) else {
                return Err(io::Error::other("the hash is gone"));
            };
            let (feed, chunks) = sync_channel::<Arc<Chunk>>(CHUNKS);
            let thread =
                std::thread::Builder::new().name("layer-hash".into()).spawn(move || {
                    for chunk in chunks {
                        state.update(&chunk.bytes);
                    }
                    state
                })?;
            self.hash = Hash::Running(feed, thread);
            self.send(old)?;
        } else if !old.bytes.is_empty() && self.chunk.bytes.is_empty() {
            // The end: the one chunk there was stays to be hashed here.
            if let Hash::Idle(state) = &mut self.hash {
                state.update(&old.bytes);
            }
        }
        if matches!(self.hash, Hash::Running(..)) && !self.chunk.bytes.is_empty() {
            let chunk = Arc::clone(&self.chunk);
            self.send(chunk)?;
        }
        Ok(())
    }

    fn send(&self, chunk: Arc<Chunk>) -> io::Result<()> {
        match &self.hash {
            Hash::Running(feed, _) => {
                feed.send(chunk).map_err(|_| io::Error::other("the hashing thread died"))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let length = have.len().min(out.len());
        out[..length].copy_from_slice(&have[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Hashing<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.bytes.len() && !self.ended {
            self.next_chunk()?;
        }
        Ok(&self.chunk.bytes[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

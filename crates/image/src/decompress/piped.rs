//! Decompressing in a thread of its own, so that it runs beside whoever uses the bytes.

use super::{Kind, open};
use crate::Limits;
use base::Result;
use std::{
    io::{self, Read},
    sync::mpsc,
    thread,
};

/// Bytes handed over at once between the two threads, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// Runs `body` over the decompressed bytes of `source`.
///
/// # Errors
/// Those of [`open`] and of `body`.
pub fn piped<T>(
    source: impl Read + Send,
    limits: &Limits,
    body: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (kind, mut source) = open(source, limits)?;
    if kind == Kind::Plain {
        return body(&mut source);
    }
    thread::scope(|scope| {
        let (full, pieces) = mpsc::sync_channel::<io::Result<Vec<u8>>>(PIECES);
        let (empty, recycled) = mpsc::channel::<Vec<u8>>();
        scope.spawn(move || {
            loop {
                let mut piece = recycled.try_recv().unwrap_or_default();
                piece.resize(PIECE, 0);
                let read = fill(&mut source, &mut piece).map(|n| piece.truncate(n));
                let last = read.is_err() || piece.is_empty();
                // The other side hangs up when it wants no more.
                if full.send(read.map(|()| piece)).is_err() || last {
                    return;
                }
            }
        });
        body(&mut Pieces { pieces, empty, current: Vec::new(), at: 0, ended: false })
    })
}

fn fill(source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match source.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

struct Pieces {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    empty: mpsc::Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            if self.ended {
                return Ok(0);
            }
            let piece = match self.pieces.recv() {
                Ok(piece) => piece?,
                Err(_) => return Err(io::Error::other("the reading thread has died")),
            };
            self.ended = piece.is_empty();
            let used = std::mem::replace(&mut self.current, piece);
            self.at = 0;
            let _ = self.empty.send(used);
        }
        let n = (self.current.len() - self.at).min(buf.len());
        buf[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

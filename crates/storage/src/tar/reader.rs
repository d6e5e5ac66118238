//! Reads an archive entry by entry from a buffered stream, without copying payloads.
//!
//! Flow: [`Reader::next`] gives an entry; its payload is taken with [`Reader::fill`] and
//! [`Reader::consume`] up to its end, then `next` again. Every byte that is not payload is kept in
//! [`Reader::raw`] until it is taken, so that a layer can remember how its tar was written.
//! Invariants: a raw run is at most [`EXTRA`] bytes and a few blocks between two entries.

use super::{
    BLOCK, Entry, EntryKind, Segment,
    header::{Dialect, Header},
    padding,
    pax::{self, Pax},
    sparse,
};
use base::{Error, Result};
use std::io::BufRead;
use sys::root::Time;

/// Most bytes of one extended header (PAX records or a long name). Go's reader has the same limit.
pub(crate) const EXTRA: u64 = 1 << 20;

/// A kept run of bytes between payloads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A header block.
    Block(Box<[u8; BLOCK]>),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// An archive being read.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    remaining: u64,
    padding: usize,
    raw: Vec<Raw>,
    current: Vec<u8>,
    read: u64,
    ended: bool,
    /// The padding behind the last payload may be missing.
    lenient: bool,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            remaining: 0,
            padding: 0,
            raw: Vec::new(),
            current: Vec::new(),
            read: 0,
            ended: false,
            lenient: false,
        }
    }

    /// Accepts an archive that ends right behind its last payload.
    // compat(docker 28): the CLI sends such contexts for `-f -`, and Go reads them.
    pub(crate) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Bytes of the archive read so far.
    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// Bytes of payload that are left of the current entry.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// All bytes since the last call that were not payload.
    pub(crate) fn take_raw(&mut self) -> Vec<Raw> {
        std::mem::take(&mut self.raw)
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, `None` at the end. What is left of the current payload must have been consumed.
    ///
    /// # Errors
    /// `Invalid` for a malformed archive; whatever the stream says.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        debug_assert_eq!(self.remaining, 0, "payload left");
        self.finish_payload()?;
        if self.ended {
            return Ok(None);
        }
        let mut pax = Pax::default();
        let (mut name, mut link) = (None, None);
        loop {
            let Some(block) = self.block()? else {
                // No mark of the end: accepted, as GNU tar and Go do.
                self.ended = true;
                return Ok(None);
            };
            if block.iter().all(|b| *b == 0) {
                self.end(&block)?;
                return Ok(None);
            }
            let Some(header) = Header::check(&block) else {
                return Err(Error::invalid("malformed tar: invalid header checksum"));
            };
            self.raw.push(Raw::Block(Box::new(block)));
            match header.flag() {
                b'x' | b'X' => {
                    let data = self.extra(&header)?;
                    pax = Pax::parse(&data).map_err(|e| malformed(&header.name(), &e))?;
                }
                // compat(docker 28): global headers are read and not applied.
                b'g' => drop(self.extra(&header)?),
                b'L' => name = Some(long(self.extra(&header)?)),
                b'K' => link = Some(long(self.extra(&header)?)),
                // A volume label names the archive.
                b'V' => drop(self.extra(&header)?),
                _ => return self.entry(&header, pax, name, link).map(Some),
            }
        }
    }

    /// Bytes of payload at hand; empty only when all are consumed.
    ///
    /// # Errors
    /// `Invalid` when the archive ends too early; whatever the stream says.
    pub(crate) fn fill(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let buffer = fill(&mut self.inner)?;
        if buffer.is_empty() {
            return Err(cut(&self.current));
        }
        let length = usize::try_from(self.remaining).map_or(buffer.len(), |n| n.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// Marks `length` bytes of [`Self::fill`] as used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.remaining -= length as u64;
        self.read += length as u64;
    }

    /// Keeps the whole payload as raw bytes: for entries that make no file.
    ///
    /// # Errors
    /// As [`Self::fill`]; `Invalid` when it is too long.
    pub(crate) fn keep_payload(&mut self) -> Result<()> {
        if self.remaining > EXTRA {
            return Err(malformed(&self.current, "content where none belongs"));
        }
        let mut kept = Vec::new();
        while self.remaining > 0 {
            let part = self.fill()?;
            kept.extend_from_slice(part);
            let length = part.len();
            self.consume(length);
        }
        self.raw.push(Raw::Bytes(kept));
        Ok(())
    }

    /// What follows the end mark, in pieces; empty at the end of the stream.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub(crate) fn trailing(&mut self) -> Result<Vec<u8>> {
        let piece = fill(&mut self.inner)?.to_vec();
        self.inner.consume(piece.len());
        self.read += piece.len() as u64;
        Ok(piece)
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        mut pax: Pax,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let written = header.name();
        let name = pax.sparse.name.take().or(pax.path.take()).or(name).unwrap_or(written);
        let bad = |what: &str| malformed(&name, what);
        let size = match pax.size {
            Some(size) => size,
            None => header
                .size()
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| bad("malformed size"))?,
        };
        if size > i64::MAX as u64 {
            return Err(bad("malformed size"));
        }
        let kind = kind(header, &name).map_err(|what| bad(&what))?;
        let id = |own: Option<u64>, field: Option<i64>, what: &str| {
            own.or(field.and_then(|n| u64::try_from(n).ok()))
                .and_then(|n| u32::try_from(n).ok())
                // The largest number stands for "no owner" in the kernel's calls.
                .filter(|n| *n != u32::MAX)
                .ok_or_else(|| bad(what))
        };
        let mut entry = Entry {
            uid: id(pax.uid, header.uid(), "malformed owner")?,
            gid: id(pax.gid, header.gid(), "malformed group")?,
            mode: (header.mode().ok_or_else(|| bad("malformed mode"))? & 0o7777) as u32,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => {
                    let seconds = header.mtime().ok_or_else(|| bad("malformed time"))?;
                    Time { seconds, nanos: 0 }
                }
            },
            link: pax.link.take().or(link).unwrap_or_else(|| header.link().to_vec()),
            xattrs: std::mem::take(&mut pax.xattrs),
            size: 0,
            sparse: None,
            kind,
            name: Vec::new(),
        };
        self.current.clone_from(&name);
        entry.name = name;
        if entry.kind == EntryKind::File {
            self.remaining = size;
            self.padding = padding(size);
            self.sparse(header, &pax, &mut entry)?;
        }
        Ok(entry)
    }

    /// Finds out whether the file is sparse, and reads its map from wherever it is.
    fn sparse(&mut self, header: &Header<'_>, pax: &Pax, entry: &mut Entry) -> Result<()> {
        let bad = |what: &str| malformed(&entry.name, what);
        let keys = &pax.sparse;
        let segments = if header.flag() == b'S' {
            let area = header.sparse_area();
            let mut segments = Vec::new();
            sparse::pairs(&area[..96], &mut segments).map_err(|e| bad(&e))?;
            let real = super::header::number(&area[97..109]).and_then(|n| u64::try_from(n).ok());
            entry.size = keys.real_size.or(real).ok_or_else(|| bad("malformed size"))?;
            let mut more = area[96] != 0;
            while more {
                if self.raw.len() > pax::SEGMENTS / 16 {
                    return Err(bad("too many parts in its sparse map"));
                }
                let block = self.block()?.ok_or_else(|| cut(&entry.name))?;
                sparse::pairs(&block[..504], &mut segments).map_err(|e| bad(&e))?;
                more = block[504] != 0;
                self.raw.push(Raw::Bytes(block.to_vec()));
            }
            segments
        } else if (keys.major, keys.minor) == (Some(1), Some(0)) {
            entry.size = keys.real_size.ok_or_else(|| bad("no size in its sparse map"))?;
            self.leading_map(entry)?
        } else if keys.blocks.is_some() || !keys.segments.is_empty() {
            if keys.blocks.is_some_and(|n| n != keys.segments.len() as u64) {
                return Err(bad("malformed sparse map"));
            }
            entry.size = keys.real_size.ok_or_else(|| bad("no size in its sparse map"))?;
            keys.segments.clone()
        } else {
            entry.size = self.remaining;
            return Ok(());
        };
        if entry.size > i64::MAX as u64 {
            return Err(bad("malformed size"));
        }
        sparse::check(&segments, entry.size, self.remaining).map_err(|e| bad(&e))?;
        entry.sparse = Some(segments.into_iter().filter(|s| s.length > 0).collect());
        Ok(())
    }

    fn leading_map(&mut self, entry: &Entry) -> Result<Vec<Segment>> {
        let mut map = sparse::Map::default();
        loop {
            let left = self.remaining.checked_sub(BLOCK as u64);
            let left = left.ok_or_else(|| malformed(&entry.name, "malformed sparse map"))?;
            let block = self.block()?.ok_or_else(|| cut(&entry.name))?;
            self.remaining = left;
            self.raw.push(Raw::Bytes(block.to_vec()));
            if let Some(map) = map.feed(&block).map_err(|e| malformed(&entry.name, &e))? {
                return Ok(map);
            }
        }
    }

    /// The content of a header that is only about the next one.
    fn extra(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let name = header.name();
        let size = header.size().and_then(|n| u64::try_from(n).ok());
        let size = size.ok_or_else(|| malformed(&name, "malformed size"))?;
        if size > EXTRA || self.raw.len() > 16 {
            return Err(malformed(&name, "extended header too large"));
        }
        let padded = size as usize + padding(size);
        let mut data = Vec::with_capacity(padded);
        while data.len() < padded {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() {
                return Err(cut(&name));
            }
            let length = buffer.len().min(padded - data.len());
            data.extend_from_slice(&buffer[..length]);
            self.inner.consume(length);
            self.read += length as u64;
        }
        self.raw.push(Raw::Bytes(data.clone()));
        data.truncate(size as usize);
        Ok(data)
    }

    fn end(&mut self, first: &[u8; BLOCK]) -> Result<()> {
        self.ended = true;
        self.raw.push(Raw::Bytes(first.to_vec()));
        if let Some(second) = self.block()? {
            self.raw.push(Raw::Bytes(second.to_vec()));
            if second.iter().any(|b| *b != 0) {
                return Err(Error::invalid("malformed tar: one empty block amid the archive"));
            }
        }
        Ok(())
    }

    fn finish_payload(&mut self) -> Result<()> {
        if self.padding == 0 {
            return Ok(());
        }
        let mut pad = Vec::with_capacity(self.padding);
        while pad.len() < self.padding {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() && self.lenient {
                self.ended = true;
                break;
            }
            if buffer.is_empty() {
                return Err(cut(&self.current));
            }
            let length = buffer.len().min(self.padding - pad.len());
            pad.extend_from_slice(&buffer[..length]);
            self.inner.consume(length);
            self.read += length as u64;
        }
        self.padding = 0;
        self.raw.push(Raw::Bytes(pad));
        Ok(())
    }

    /// A whole block, `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() {
                return if have == 0 { Ok(None) } else { Err(cut(&self.current)) };
            }
            let length = buffer.len().min(BLOCK - have);
            block[have..have + length].copy_from_slice(&buffer[..length]);
            self.inner.consume(length);
            self.read += length as u64;
            have += length;
        }
        Ok(Some(block))
    }
}

fn kind(header: &Header<'_>, name: &[u8]) -> Result<EntryKind, String> {
    let device = || {
        let (major, minor) = header.device()?;
        Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
    };
    Ok(match header.flag() {
        // Before ustar a folder was a file with a slash at its end.
        0 if name.ends_with(b"/") => EntryKind::Dir,
        b'0' if name.ends_with(b"/") && header.dialect() == Dialect::V7 => EntryKind::Dir,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::Hardlink,
        b'2' => EntryKind::Symlink,
        b'3' => device().map(|(a, b)| EntryKind::Char(a, b)).ok_or("malformed device number")?,
        b'4' => device().map(|(a, b)| EntryKind::Block(a, b)).ok_or("malformed device number")?,
        b'5' => EntryKind::Dir,
        b'6' => EntryKind::Fifo,
        other => return Err(format!("unknown type {:?}", char::from(other))),
    })
}

fn long(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

/// Says what is wrong with which entry.
pub(crate) fn malformed(name: &[u8], what: &str) -> Error {
    Error::invalid(format!("malformed tar: entry \"{}\": {what}", name.escape_ascii()))
}

fn cut(name: &[u8]) -> Error {
    if name.is_empty() {
        return Error::invalid("malformed tar: unexpected end of the archive");
    }
    malformed(name, "unexpected end of the archive")
}

fn fill<R: BufRead>(inner: &mut R) -> Result<&[u8]> {
    loop {
        match inner.fill_buf() {
            // The borrow checker wants the buffer asked for anew.
            Ok(_) => break,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(stream(e)),
        }
    }
    inner.fill_buf().map_err(stream)
}

/// An error of ours that went through `Read` comes out as it was.
fn stream(err: std::io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(ours) => ours,
        Err(err) => Error::io("cannot read the tar", err),
    }
}

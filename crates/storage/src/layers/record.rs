//! How a layer's tar was written: all that is not in the layer's files, so that the same bytes can be
//! written again.
//!
//! Form of `meta`: the magic, records, a zero byte, the [`Trailer`] as JSON, its length (u32, little end).
//! A record is a raw run (header blocks as difference to the block before, runs of zeros counted) or a
//! payload (path, prefix shared with the one before, and where in the file the bytes are). A 10,000-entry
//! tar needs some 700 KB.
//! Invariants: payload paths are real ones (no symlink on the way). Where a tar holds the same name twice,
//! the earlier file is kept in `spare/` and found by the trailer's `moved` list.

use crate::{
    error::io,
    folders::{Folders, split},
    tar::{BLOCK, Segment, reader::Raw},
};
use base::{Digest, Error, Result};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};
use sys::root::Dir;

const MAGIC: &[u8; 8] = b"gantry1\n";
const END: u8 = 0;
const BYTES: u8 = 1;
const HEADER: u8 = 2;
const PAYLOAD: u8 = 3;

/// What is known of a layer as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trailer {
    /// Digest of the tar.
    pub(crate) diff_id: Digest,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Bytes of the tar.
    pub(crate) tar_size: u64,
    /// Content was taken from the layers below.
    pub(crate) bound: bool,
    /// The tar says what the root folder is like.
    pub(crate) root_listed: bool,
    /// The root folder hides all that is below.
    pub(crate) opaque_root: bool,
    /// Payload records.
    pub(crate) payloads: u64,
    /// Files that were replaced later in the same tar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) moved: Vec<Moved>,
}

/// Payloads numbered below `before` at or below `path` are in `spare/<to>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) before: u64,
    pub(crate) path: Vec<u8>,
    pub(crate) to: u64,
}

/// Writes `meta` while a tar is read or made.
#[derive(Debug)]
pub(crate) struct Recorder {
    out: BufWriter<File>,
    block: Box<[u8; BLOCK]>,
    path: Vec<u8>,
    scratch: Vec<u8>,
    payloads: u64,
}

fn fail(err: std::io::Error) -> Error {
    Error::io("cannot write the layer's record", err)
}

impl Recorder {
    pub(crate) fn new(file: File) -> Result<Self> {
        let mut out = BufWriter::with_capacity(64 << 10, file);
        out.write_all(MAGIC).map_err(fail)?;
        Ok(Self {
            out,
            block: Box::new([0; BLOCK]),
            path: Vec::new(),
            scratch: Vec::new(),
            payloads: 0,
        })
    }

    /// Payloads so far.
    pub(crate) fn payloads(&self) -> u64 {
        self.payloads
    }

    pub(crate) fn raw(&mut self, raw: &Raw) -> Result<()> {
        match raw {
            Raw::Block(block) => self.header(block),
            Raw::Bytes(bytes) => self.bytes(bytes),
        }
    }

    pub(crate) fn header(&mut self, block: &[u8; BLOCK]) -> Result<()> {
        let mut difference = [0; BLOCK];
        for at in 0..BLOCK {
            difference[at] = block[at] ^ self.block[at];
        }
        self.block.copy_from_slice(block);
        self.scratch.clear();
        self.scratch.push(HEADER);
        squeeze(&difference, &mut self.scratch);
        self.out.write_all(&self.scratch).map_err(fail)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.scratch.clear();
        self.scratch.push(BYTES);
        varint(bytes.len() as u64, &mut self.scratch);
        squeeze(bytes, &mut self.scratch);
        self.out.write_all(&self.scratch).map_err(fail)
    }

    /// A payload: the whole file of `size` bytes, or `segments` of it.
    pub(crate) fn payload(
        &mut self,
        path: &[u8],
        size: u64,
        segments: Option<&[Segment]>,
    ) -> Result<()> {
        let shared = path.iter().zip(&self.path).take_while(|(a, b)| a == b).count();
        let out = &mut self.scratch;
        out.clear();
        out.push(PAYLOAD);
        varint(shared as u64, out);
        varint((path.len() - shared) as u64, out);
        out.extend_from_slice(&path[shared..]);
        varint(size, out);
        match segments {
            None => varint(0, out),
            Some(segments) => {
                varint(segments.len() as u64 + 1, out);
                for segment in segments {
                    varint(segment.offset, out);
                    varint(segment.length, out);
                }
            }
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(&path[shared..]);
        self.payloads += 1;
        self.out.write_all(out).map_err(fail)
    }

    pub(crate) fn finish(mut self, trailer: &Trailer) -> Result<()> {
        let json = serde_json::to_vec(trailer)
            .map_err(|e| Error::internal("cannot encode the layer's record").caused_by(e))?;
        let mut end = vec![END];
        end.extend_from_slice(&json);
        end.extend_from_slice(&(json.len() as u32).to_le_bytes());
        self.out.write_all(&end).and_then(|()| self.out.flush()).map_err(fail)
    }
}

fn damaged() -> Error {
    Error::internal("the layer's record is damaged")
}

/// Reads the trailer alone.
pub(crate) fn trailer(file: &File) -> Result<Trailer> {
    const LONGEST: u64 = 64 << 20;
    let broken = |e| damaged().caused_by(Error::io("cannot read it", e));
    let length = file.metadata().map_err(broken)?.len();
    let mut tail = [0; 4];
    file.read_exact_at(&mut tail, length.saturating_sub(4)).map_err(broken)?;
    let json = u64::from(u32::from_le_bytes(tail));
    if json > LONGEST || json + 4 > length {
        return Err(damaged());
    }
    let mut text = vec![0; json as usize];
    file.read_exact_at(&mut text, length - 4 - json).map_err(broken)?;
    serde_json::from_slice(&text).map_err(|e| damaged().caused_by(e))
}

/// Writes the tar again from `meta` and the layer's folders.
pub(crate) struct Replay<'o> {
    meta: BufReader<File>,
    files: Folders,
    spare: Option<Folders>,
    moved: HashMap<Vec<u8>, Vec<(u64, u64)>>,
    out: &'o mut dyn Write,
    payloads: u64,
}

impl<'o> Replay<'o> {
    /// `spare` is the folder of replaced files, where there is one.
    pub(crate) fn new(
        mut meta: File,
        fs: Dir,
        spare: Option<Dir>,
        out: &'o mut dyn Write,
    ) -> Result<Self> {
        let trailer = trailer(&meta)?;
        meta.seek(SeekFrom::Start(0)).map_err(|e| Error::io("cannot read the record", e))?;
        let mut moved: HashMap<_, Vec<_>> = HashMap::new();
        for one in trailer.moved {
            moved.entry(one.path).or_default().push((one.before, one.to));
        }
        let meta = BufReader::with_capacity(64 << 10, meta);
        let files = Folders::new(fs);
        Ok(Self { meta, files, spare: spare.map(Folders::new), moved, out, payloads: 0 })
    }

    pub(crate) fn run(mut self) -> Result<()> {
        let mut magic = [0; 8];
        self.meta.read_exact(&mut magic).map_err(|_| damaged())?;
        if &magic != MAGIC {
            return Err(damaged());
        }
        let mut block = [0; BLOCK];
        let mut path = Vec::new();
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                END => return Ok(()),
                HEADER => {
                    self.expand(BLOCK, &mut bytes)?;
                    for (at, byte) in bytes.iter().enumerate() {
                        block[at] ^= byte;
                    }
                    self.write(&block)?;
                }
                BYTES => {
                    let length = self.small(crate::tar::reader::EXTRA + BLOCK as u64)?;
                    self.expand(length, &mut bytes)?;
                    self.write(&bytes)?;
                }
                PAYLOAD => self.payload(&mut path)?,
                _ => return Err(damaged()),
            }
        }
    }

    fn payload(&mut self, path: &mut Vec<u8>) -> Result<()> {
        let shared = self.small(path.len() as u64)?;
        let more = self.small(8192)?;
        path.truncate(shared);
        path.resize(shared + more, 0);
        self.meta.read_exact(&mut path[shared..]).map_err(|_| damaged())?;
        let size = self.varint()?;
        let count = self.varint()?;
        let file = if size == 0 && count == 0 { None } else { Some(self.open(path)?) };
        self.payloads += 1;
        match (count, file) {
            (0, None) => Ok(()),
            (0, Some(file)) => self.copy(&file, Segment { offset: 0, length: size }, path),
            (count, Some(file)) => {
                for _ in 1..count {
                    let segment = Segment { offset: self.varint()?, length: self.varint()? };
                    self.copy(&file, segment, path)?;
                }
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    /// The file that held this payload when the tar was read.
    fn open(&mut self, path: &[u8]) -> Result<File> {
        let gone = |e| io(format!("the layer lacks {}", path.escape_ascii()), e);
        let number = self.payloads;
        let flags = OFlags::RDONLY;
        if !self.moved.is_empty() {
            let mut first: Option<(u64, u64, usize)> = None;
            let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                let moves = self.moved.get(&path[..end]).into_iter().flatten();
                for (before, to) in moves.filter(|(before, _)| *before > number) {
                    if first.is_none_or(|known| (*before, *to) < (known.0, known.1)) {
                        first = Some((*before, *to, end));
                    }
                }
            }
            if let (Some((_, to, end)), Some(spare)) = (first, &mut self.spare) {
                let rest = &path[end..];
                let path = [to.to_string().as_bytes(), rest].concat();
                let (parent, name) = split(&path);
                return spare.find(parent).and_then(|dir| dir.open_file(name, flags)).map_err(gone);
            }
        }
        let (parent, name) = split(path);
        self.files.find(parent).and_then(|dir| dir.open_file(name, flags)).map_err(gone)
    }

    fn copy(&mut self, file: &File, segment: Segment, path: &[u8]) -> Result<()> {
        copy_range(file, segment, self.out)
            .map_err(|e| e.above(|| format!("cannot read {} of the layer", path.escape_ascii())))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(outside)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.meta.read_exact(&mut byte).map_err(|_| damaged())?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn small(&mut self, most: u64) -> Result<usize> {
        let value = self.varint()?;
        if value > most { Err(damaged()) } else { Ok(value as usize) }
    }

    fn expand(&mut self, length: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        while out.len() < length {
            let literal = self.small((length - out.len()) as u64)?;
            let from = out.len();
            out.resize(from + literal, 0);
            self.meta.read_exact(&mut out[from..]).map_err(|_| damaged())?;
            let zeros = self.small((length - out.len()) as u64)?;
            if literal == 0 && zeros == 0 {
                return Err(damaged());
            }
            out.resize(out.len() + zeros, 0);
        }
        Ok(())
    }
}

/// What went wrong while copying from a file of ours to somewhere else.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(std::io::Error),
    Short,
    Write(std::io::Error),
}

impl CopyError {
    pub(crate) fn above(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Read(e) => Error::io(what(), e),
            Self::Short => Error::internal(format!("{}: it is too short", what())),
            Self::Write(e) => outside(e),
        }
    }
}

fn outside(err: std::io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(ours) => ours,
        Err(err) => Error::io("cannot write the tar", err),
    }
}

/// Copies `segment` of `file` to `out`.
pub(crate) fn copy_range(
    file: &File,
    segment: Segment,
    out: &mut dyn Write,
) -> std::result::Result<(), CopyError> {
    const BUFFER: u64 = 256 << 10;
    thread_local! {
        static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|buffer| {
        let (mut at, end) = (segment.offset, segment.offset.saturating_add(segment.length));
        while at < end {
            let want = (end - at).min(BUFFER) as usize;
            if buffer.len() < want {
                buffer.resize(want, 0);
            }
            let have = match file.read_at(&mut buffer[..want], at) {
                Ok(0) => return Err(CopyError::Short),
                Ok(have) => have,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(CopyError::Read(e)),
            };
            out.write_all(&buffer[..have]).map_err(CopyError::Write)?;
            at += have as u64;
        }
        Ok(())
    })
}

/// Literal run, its bytes, zero run, and so on. Zero runs below four bytes stay literal.
fn squeeze(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let mut end = at;
        let mut zeros = 0;
        while end < bytes.len() {
            if bytes[end] != 0 {
                end += 1;
                continue;
            }
            zeros = bytes[end..].iter().take_while(|b| **b == 0).count();
            if zeros >= 4 || end + zeros == bytes.len() {
                break;
            }
            end += zeros;
            zeros = 0;
        }
        varint((end - at) as u64, out);
        out.extend_from_slice(&bytes[at..end]);
        varint(zeros as u64, out);
        at = end + zeros;
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

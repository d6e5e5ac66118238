//! Makes headers: ustar, with PAX records before it where ustar cannot say it.

use super::{BLOCK, Entry, EntryKind, Segment, padding, pax};
use std::os::unix::ffi::OsStrExt as _;

/// Blocks and bytes that come before an entry's payload.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The extended header's block and its records, padded.
    pub(crate) extended: Option<(Box<[u8; BLOCK]>, Vec<u8>)>,
    /// The entry's own block.
    pub(crate) block: Box<Block>,
    /// A sparse file's map, padded: the first part of its payload.
    pub(crate) map: Vec<u8>,
}

/// A header block.
#[derive(Debug)]
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Default for Block {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

const OCTAL_7: u64 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;

/// The head of `entry`. Names of folders get their slash here.
pub(crate) fn head(entry: &Entry) -> Head {
    let mut records = Vec::new();
    let mut name = entry.name.clone();
    if entry.kind == EntryKind::Dir && !name.ends_with(b"/") {
        name.push(b'/');
    }
    let base = name.split(|b| *b == b'/').rfind(|part| !part.is_empty()).unwrap_or(b"root");
    let mut map = Vec::new();
    let mut payload = if entry.kind == EntryKind::File { entry.size } else { 0 };
    let mut short = name.clone();
    if let Some(segments) = &entry.sparse {
        map = sparse_map(segments);
        payload = map.len() as u64 + segments.iter().map(|s| s.length).sum::<u64>();
        pax::push(&mut records, b"GNU.sparse.major", b"1");
        pax::push(&mut records, b"GNU.sparse.minor", b"0");
        pax::push(&mut records, b"GNU.sparse.name", &name);
        pax::push(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
        short = [b"GNUSparseFile.0/", base].concat();
        short.truncate(100);
    } else if name.len() > 100 {
        pax::push(&mut records, b"path", &name);
    }
    if entry.link.len() > 100 {
        pax::push(&mut records, b"linkpath", &entry.link);
    }
    if payload > OCTAL_11 {
        pax::push(&mut records, b"size", payload.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(id) > OCTAL_7 {
            pax::push(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    let plain_time = entry.mtime.nanos == 0
        && u64::try_from(entry.mtime.seconds).is_ok_and(|seconds| seconds <= OCTAL_11);
    if !plain_time {
        pax::push(&mut records, b"mtime", pax::time_text(entry.mtime).as_bytes());
    }
    for (key, value) in &entry.xattrs {
        pax::push(&mut records, &[b"SCHILY.xattr.", key.as_bytes()].concat(), value);
    }
    let extended = (!records.is_empty()).then(|| {
        let mut name = [b"PaxHeaders.0/", base].concat();
        name.truncate(100);
        let size = records.len() as u64;
        let block = Fields { name: &name, flag: b'x', size, mode: 0o644, ..Fields::default() };
        records.resize(records.len() + padding(size), 0);
        (Box::new(block.encode()), records)
    });
    let (flag, device) = match entry.kind {
        EntryKind::File => (b'0', (0, 0)),
        EntryKind::Hardlink => (b'1', (0, 0)),
        EntryKind::Symlink => (b'2', (0, 0)),
        EntryKind::Char(a, b) => (b'3', (a, b)),
        EntryKind::Block(a, b) => (b'4', (a, b)),
        EntryKind::Dir => (b'5', (0, 0)),
        EntryKind::Fifo => (b'6', (0, 0)),
    };
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0).min(OCTAL_11);
    let fields = Fields {
        name: &short,
        link: &entry.link,
        flag,
        mode: u64::from(entry.mode),
        uid: u64::from(entry.uid).min(OCTAL_7),
        gid: u64::from(entry.gid).min(OCTAL_7),
        size: payload.min(OCTAL_11),
        mtime: seconds,
        device,
    };
    Head { extended, block: Box::new(Block(fields.encode())), map }
}

#[derive(Default)]
struct Fields<'f> {
    name: &'f [u8],
    link: &'f [u8],
    flag: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    device: (u32, u32),
}

impl Fields<'_> {
    fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut text = |from: usize, to: usize, value: &[u8]| {
            let length = value.len().min(to - from);
            block[from..from + length].copy_from_slice(&value[..length]);
        };
        text(0, 100, self.name);
        text(100, 108, format!("{:07o}", self.mode).as_bytes());
        text(108, 116, format!("{:07o}", self.uid).as_bytes());
        text(116, 124, format!("{:07o}", self.gid).as_bytes());
        text(124, 136, format!("{:011o}", self.size).as_bytes());
        text(136, 148, format!("{:011o}", self.mtime).as_bytes());
        text(156, 157, &[self.flag]);
        text(157, 257, self.link);
        text(257, 265, b"ustar\x0000");
        text(329, 337, format!("{:07o}", self.device.0).as_bytes());
        text(337, 345, format!("{:07o}", self.device.1).as_bytes());
        sum(&mut block);
        block
    }
}

/// Writes the checksum of a block that is otherwise whole.
pub(super) fn sum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A time in seconds as a header's field: octal, or GNU's base-256 where that does not hold it.
pub(super) fn time_field(seconds: i64) -> [u8; 12] {
    let mut field = [0; 12];
    match u64::try_from(seconds) {
        Ok(seconds) if seconds <= OCTAL_11 => {
            field[..11].copy_from_slice(format!("{seconds:011o}").as_bytes());
        }
        _ => {
            field.fill(if seconds < 0 { 0xff } else { 0 });
            field[4..].copy_from_slice(&seconds.to_be_bytes());
            field[0] |= 0x80;
        }
    }
    field
}

fn sparse_map(segments: &[Segment]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for segment in segments {
        map.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

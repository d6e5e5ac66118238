//! Whether a layer on disk still is what it was: its tar is made again, hashed, read, and each entry
//! compared with the file it stands for.
//!
//! Source of truth: the DiffID. What the tar cannot say (an implied folder's mode) is not checked.

use super::{Layers, WHITEOUT, stream::Hashing};
use crate::{
    folders::{clean, split},
    tar::{Entry, EntryKind, reader::Reader},
};
use base::{Digest, Error, Result};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufWriter, Write as _},
    os::unix::ffi::OsStrExt as _,
};
use sys::root::{Kind, Root, Stat};

/// Most differences that are named.
const NAMED: usize = 10;

pub(super) fn verify(layers: &Layers, layer: &Digest) -> Result<()> {
    let trailer = layers.trailer(layer)?;
    let root = Root::open(&layers.path(layer))
        .map_err(|e| crate::error::io(format!("cannot open the layer {layer}"), e))?;
    let (reader, writer) = std::io::pipe().map_err(|e| Error::io("cannot check the layer", e))?;
    let (made, read) = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let mut writer = BufWriter::with_capacity(64 << 10, writer);
            layers.write_tar(layer, &mut writer)?;
            writer.flush().map_err(|e| Error::io("cannot check the layer", e))
        });
        let mut reader = reader;
        let read = compare(&mut reader, &root);
        // A reader that gave up lets the writer end.
        drop(reader);
        (made.join(), read)
    });
    let made = made.map_err(|_| Error::internal("the check of the layer died"))?;
    let (diff_id, differences) = match (made, read) {
        // Its failure is the cause of the cut stream.
        (Err(err), Ok(_)) => return Err(err),
        (Err(err), Err(_)) => return Err(err),
        (Ok(()), read) => read?,
    };
    if diff_id != trailer.diff_id {
        return Err(Error::internal(format!(
            "its content does not match its digest: its tar is {diff_id}"
        )));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let mut named: Vec<_> = differences.into_values().take(NAMED + 1).collect();
    if named.len() > NAMED {
        named[NAMED] = "more".into();
    }
    Err(Error::internal(named.join(", ")))
}

fn compare(
    stream: &mut dyn std::io::Read,
    root: &Root,
) -> Result<(Digest, BTreeMap<Vec<u8>, String>)> {
    let mut tar = Reader::new(Hashing::new(stream, u64::MAX));
    let mut differences = BTreeMap::new();
    while let Some(entry) = tar.next()? {
        tar.take_raw();
        while tar.remaining() > 0 {
            let length = tar.fill()?.len();
            tar.consume(length);
        }
        let Some(path) = clean(&entry.name) else { continue };
        let (_, name) = split(&path);
        if name.as_bytes().starts_with(WHITEOUT) || entry.kind == EntryKind::Hardlink {
            continue;
        }
        // Of names that come twice the last one counts.
        match difference(root, &path, &entry) {
            Some(text) => drop(differences.insert(path, text)),
            None => drop(differences.remove(&path)),
        }
    }
    while !tar.trailing()?.is_empty() {}
    let sum = tar.into_inner().finish();
    let (diff_id, _) = sum.map_err(|e| Error::io("cannot check the layer", e))?;
    Ok((diff_id, differences))
}

fn difference(root: &Root, path: &[u8], entry: &Entry) -> Option<String> {
    let shown = path.escape_ascii();
    let at = if path.is_empty() { OsStr::new("/") } else { OsStr::from_bytes(path) };
    let stat = match root.lstat(at) {
        Ok(stat) => stat,
        Err(e) => return Some(format!("{shown}: {}", base::error::chain(&e))),
    };
    let link = (stat.kind == Kind::Symlink).then(|| root.readlink(at).ok()).flatten();
    let what = match link {
        Some(link) if link.as_os_str().as_bytes() != entry.link => "its target",
        _ => unlike(&stat, entry)?,
    };
    Some(format!("{shown}: {what} has changed"))
}

fn unlike(stat: &Stat, entry: &Entry) -> Option<&'static str> {
    let (kind, rdev) = match entry.kind {
        EntryKind::File | EntryKind::Hardlink => (Kind::File, (0, 0)),
        EntryKind::Symlink => (Kind::Symlink, (0, 0)),
        EntryKind::Char(a, b) => (Kind::Char, (a, b)),
        EntryKind::Block(a, b) => (Kind::Block, (a, b)),
        EntryKind::Dir => (Kind::Dir, (0, 0)),
        EntryKind::Fifo => (Kind::Fifo, (0, 0)),
    };
    if stat.kind != kind || matches!(kind, Kind::Char | Kind::Block) && stat.rdev != rdev {
        return Some("its kind");
    }
    if kind != Kind::Symlink && stat.mode != entry.mode {
        return Some("its mode");
    }
    if (stat.uid, stat.gid) != (entry.uid, entry.gid) {
        return Some("its owner");
    }
    if kind == Kind::File && stat.size != entry.size {
        return Some("its size");
    }
    // The disk may hold less than the tar says: a file system's range, and its grain.
    let kept = (-(1_i64 << 31)..1 << 33).contains(&entry.mtime.seconds);
    (kept && stat.mtime.seconds != entry.mtime.seconds).then_some("its time")
}

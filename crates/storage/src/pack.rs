//! From a folder to a tar: containers' changes as layers, exports, copies out.
//!
//! Invariants: same tree, same bytes (names sorted, attributes sorted, no time but the files'); sockets
//! and overlayfs's own attributes are left out, as are names that a reader would take for deletion marks.

use crate::{
    copy::portable,
    layers::{OPAQUE, OPAQUE_XATTR, WHITEOUT},
    tar::{BLOCK, Entry, EntryKind, Segment, padding, pax, writer},
    walk::{Here, walk},
};
use base::{Error, Result};
use rustix::fs::OFlags;
use std::{collections::HashMap, ffi::OsStr, fs::File, io::Write, os::unix::ffi::OsStrExt as _};
use sys::{
    idmap::Maps,
    root::{self, Dir, Kind, Stat},
};

/// Takes the parts of a tar.
pub(crate) trait Sink {
    /// A header block.
    fn header(&mut self, block: &[u8; BLOCK]) -> Result<()>;
    /// Other bytes that are not content.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()>;
    /// Content: `segments` of `file`, or all `size` bytes of it.
    fn payload(
        &mut self,
        path: &[u8],
        file: Option<&File>,
        size: u64,
        segments: Option<&[Segment]>,
    ) -> Result<()>;
}

/// How the tree is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// As it is.
    Plain,
    /// An overlay's upper folder: its marks become deletion marks.
    Upper,
    /// The same, ours alone: what the tar cannot hold is deleted, and overlayfs's notes on where files
    /// came from are too, so that the folder is what unpacking the tar would give.
    Own,
}

/// Packs all below `dir`, each name below `prefix` (empty or ending with a slash). With `maps` the tree is seen from
/// outside their user namespace, and the tar gets the owners as they are inside.
pub(crate) fn pack(
    dir: &Dir,
    prefix: &[u8],
    tree: Tree,
    maps: Option<&Maps>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let root = dir.try_clone().map_err(|e| failed(b"", e))?;
    let device = root.stat_self().map(|stat| stat.dev).ok();
    let mut packer = Packer { prefix, tree, maps, sink, linked: HashMap::new(), device };
    walk(root, |here| packer.entry(here)).map_err(|e| e.0)
}

/// The end mark.
pub(crate) fn end(sink: &mut dyn Sink) -> Result<()> {
    sink.bytes(&[0; 2 * BLOCK])
}

fn failed(path: &[u8], err: root::Error) -> Error {
    crate::error::io(format!("cannot read {}", path.escape_ascii()), err)
}

/// So that [`walk`] can report both its own and our failures.
pub(crate) struct Stop(pub(crate) Error);

impl From<root::Error> for Stop {
    fn from(err: root::Error) -> Self {
        Self(crate::error::io("cannot read the tree", err))
    }
}

impl From<Error> for Stop {
    fn from(err: Error) -> Self {
        Self(err)
    }
}

struct Packer<'s> {
    prefix: &'s [u8],
    tree: Tree,
    maps: Option<&'s Maps>,
    sink: &'s mut dyn Sink,
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The file system that the walk is on.
    device: Option<u64>,
}

impl Packer<'_> {
    fn entry(&mut self, here: &Here<'_>) -> Result<bool, Stop> {
        let Here { dir, name, path, stat } = here;
        let fail = |e| Stop(failed(path, e));
        if self.tree != Tree::Plain {
            if stat.is_whiteout() {
                self.deletion(here)?;
                return Ok(false);
            }
            if name.as_bytes().starts_with(WHITEOUT) || stat.kind == Kind::Socket {
                if self.tree == Tree::Own {
                    drop_quietly(dir, name).map_err(fail)?;
                }
                return Ok(false);
            }
        }
        let full = [self.prefix, path].concat();
        let inode = (stat.dev, stat.ino);
        if stat.nlink > 1
            && stat.kind != Kind::Dir
            && let Some(first) = self.linked.get(&inode)
        {
            let mut entry = bare(EntryKind::Hardlink, full, stat);
            entry.link.clone_from(first);
            self.head(&entry)?;
            return Ok(true);
        }
        let kind = match stat.kind {
            Kind::File => EntryKind::File,
            Kind::Dir => EntryKind::Dir,
            Kind::Symlink => EntryKind::Symlink,
            Kind::Char => EntryKind::Char(stat.rdev.0, stat.rdev.1),
            Kind::Block => EntryKind::Block(stat.rdev.0, stat.rdev.1),
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => return Ok(false),
        };
        let mut entry = bare(kind, full, stat);
        // A tree that is alive may lose a name between two looks at it.
        let lost = |e: &root::Error| self.tree == Tree::Plain && e.is_missing();
        let mut xattrs = match dir.xattrs(*name) {
            Err(e) if lost(&e) => return Ok(false),
            found => found.map_err(fail)?,
        };
        let opaque = self.tree != Tree::Plain
            && xattrs.iter().any(|(key, value)| key == OPAQUE_XATTR && value == b"y");
        if self.tree == Tree::Own {
            for (key, _) in xattrs.iter().filter(|(key, _)| note(key, opaque)) {
                dir.remove_xattr(*name, key).map_err(fail)?;
            }
        }
        xattrs.retain(|(key, _)| portable(key));
        entry.xattrs = xattrs;
        match stat.kind {
            Kind::File => {
                let file = match (entry.size, dir.open_file(name, OFlags::RDONLY)) {
                    (0, _) => None,
                    (_, Err(e)) if lost(&e) => return Ok(false),
                    (_, opened) => Some(opened.map_err(fail)?),
                };
                self.file(here, &mut entry, file)?;
            }
            Kind::Symlink => {
                entry.link = match dir.readlink(*name) {
                    Err(e) if lost(&e) => return Ok(false),
                    target => target.map_err(fail)?.as_bytes().to_vec(),
                };
                self.head(&entry)?;
            }
            _ => self.head(&entry)?,
        }
        if self.tree == Tree::Plain
            && stat.kind == Kind::Dir
            && *self.device.get_or_insert(stat.dev) != stat.dev
            && dir.open_dir(*name).is_ok_and(|own| is_made_up(&own))
        {
            return Ok(false);
        }
        if opaque {
            let mark = [&entry.name[..], b"/", OPAQUE].concat();
            self.mark(mark, stat)?;
        }
        if stat.nlink > 1 && stat.kind != Kind::Dir {
            self.linked.insert(inode, entry.name);
        }
        Ok(true)
    }

    fn deletion(&mut self, here: &Here<'_>) -> Result<()> {
        let parent = &here.path[..here.path.len() - here.name.len()];
        let mark = [self.prefix, parent, WHITEOUT, here.name.as_bytes()].concat();
        self.mark(mark, &here.stat)
    }

    fn mark(&mut self, name: Vec<u8>, stat: &Stat) -> Result<()> {
        let mut entry = bare(EntryKind::File, name, stat);
        entry.size = 0;
        entry.mode = 0o600;
        self.head(&entry)
    }

    fn file(&mut self, here: &Here<'_>, entry: &mut Entry, file: Option<File>) -> Result<()> {
        let Some(file) = file else {
            self.head(entry)?;
            return self.sink.payload(here.path, None, 0, None);
        };
        let fail = |e| failed(here.path, e);
        entry.sparse = holes(&file, &here.stat).map_err(fail)?;
        let segments = entry.sparse.clone();
        self.head(entry)?;
        let length = match &segments {
            Some(segments) => segments.iter().map(|s| s.length).sum(),
            None => entry.size,
        };
        self.sink.payload(here.path, Some(&file), entry.size, segments.as_deref())?;
        self.sink.bytes(&[0; BLOCK][..padding(length)])
    }

    fn head(&mut self, entry: &Entry) -> Result<()> {
        let mapped;
        let entry = match self.maps {
            Some(maps) => {
                let (uid, gid) = (maps.user_inside(entry.uid), maps.group_inside(entry.gid));
                mapped = Entry { uid, gid, ..entry.clone() };
                &mapped
            }
            None => entry,
        };
        let head = writer::head(entry);
        if let Some((block, records)) = &head.extended {
            self.sink.header(block)?;
            self.sink.bytes(records)?;
        }
        self.sink.header(&head.block.0)?;
        self.sink.bytes(&head.map)
    }
}

/// Packs one thing that is not a folder, under the name given.
pub(crate) fn pack_one(
    dir: &Dir,
    name: &OsStr,
    as_name: &[u8],
    maps: Option<&Maps>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let path = name.as_bytes();
    let stat = dir.stat(name).map_err(|e| failed(path, e))?;
    let parent = as_name.len() - as_name.iter().rev().take_while(|b| **b != b'/').count();
    let mut packer = Packer {
        prefix: &as_name[..parent],
        tree: Tree::Plain,
        maps,
        sink,
        linked: HashMap::new(),
        device: None,
    };
    let here = Here { dir, name, path: &as_name[parent..], stat };
    packer.entry(&here).map(|_| ()).map_err(|e| e.0)
}

/// The head of a folder, under the name given.
pub(crate) fn pack_folder(
    dir: &Dir,
    as_name: &[u8],
    maps: Option<&Maps>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let fail = |e| failed(as_name, e);
    let stat = dir.stat_self().map_err(fail)?;
    let mut entry = bare(EntryKind::Dir, as_name.to_vec(), &stat);
    entry.xattrs = dir.xattrs_self().map_err(fail)?;
    entry.xattrs.retain(|(key, _)| portable(key));
    Packer { prefix: b"", tree: Tree::Plain, maps, sink, linked: HashMap::new(), device: None }
        .head(&entry)
}

/// A file of root's that is on no disk; nothing says when it was made.
pub(crate) fn pack_bytes(name: &[u8], content: &[u8], sink: &mut dyn Sink) -> Result<()> {
    let head = writer::head(&Entry {
        kind: EntryKind::File,
        name: name.to_vec(),
        link: Vec::new(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: root::Time { seconds: 0, nanos: 0 },
        size: content.len() as u64,
        sparse: None,
        xattrs: Vec::new(),
    });
    if let Some((block, records)) = &head.extended {
        sink.header(block)?;
        sink.bytes(records)?;
    }
    sink.header(&head.block.0)?;
    sink.bytes(content)?;
    sink.bytes(&[0; BLOCK][..padding(content.len() as u64)])
}

/// Whether a folder's file system is the kernel's own account of something, not anybody's files.
fn is_made_up(dir: &Dir) -> bool {
    const CGROUP: i64 = 0x27_e0eb;
    const CGROUP2: i64 = 0x6367_7270;
    const MQUEUE: i64 = 0x1980_0202;
    const SECURITY: i64 = 0x7363_6673;
    const DEBUG: i64 = 0x6462_6720;
    use sys::mount::{DEVPTS_MAGIC, PROC_MAGIC, SYSFS_MAGIC, fs_magic};
    fs_magic(dir).is_ok_and(|magic| {
        [PROC_MAGIC, SYSFS_MAGIC, DEVPTS_MAGIC, CGROUP, CGROUP2, MQUEUE, SECURITY, DEBUG]
            .contains(&magic)
    })
}

/// Whether an attribute is overlayfs's and of no use in a layer.
fn note(key: &OsStr, opaque: bool) -> bool {
    key.as_bytes().starts_with(b"trusted.overlay.") && !(opaque && key == OPAQUE_XATTR)
}

/// Deletes a name; the folder's time, which is in the tar already, stays.
fn drop_quietly(dir: &Dir, name: &OsStr) -> Result<(), root::Error> {
    let before = dir.stat_self()?;
    dir.remove_all(name)?;
    root::set_open_mtime(dir, before.mtime)
}

fn bare(kind: EntryKind, name: Vec<u8>, stat: &Stat) -> Entry {
    Entry {
        size: if kind == EntryKind::File { stat.size } else { 0 },
        kind,
        name,
        link: Vec::new(),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        sparse: None,
        xattrs: Vec::new(),
    }
}

/// The parts with content, when holes are worth a map.
fn holes(file: &File, stat: &Stat) -> Result<Option<Vec<Segment>>, root::Error> {
    const WORTH: u64 = 64 << 10;
    if stat.size < WORTH || stat.blocks.saturating_mul(512).saturating_add(WORTH) > stat.size {
        return Ok(None);
    }
    let mut segments = Vec::new();
    let mut at = 0;
    while at < stat.size {
        let Some((start, end)) = root::next_data(file, at)? else { break };
        let end = end.min(stat.size);
        if start >= end {
            break;
        }
        segments.push(Segment { offset: start, length: end - start });
        at = end;
        if segments.len() > pax::SEGMENTS / 16 {
            return Ok(None);
        }
    }
    if at < stat.size {
        // GNU tar takes the end of the last part for the file's.
        segments.push(Segment { offset: stat.size, length: 0 });
    }
    Ok(Some(segments))
}

/// Writes a tar to somewhere else.
pub(crate) struct Stream<'o>(pub(crate) &'o mut dyn Write);

impl Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => ours,
            Err(e) => Error::io("cannot write the tar", e),
        })
    }
}

impl Sink for Stream<'_> {
    fn header(&mut self, block: &[u8; BLOCK]) -> Result<()> {
        self.write(block)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }

    fn payload(
        &mut self,
        path: &[u8],
        file: Option<&File>,
        size: u64,
        segments: Option<&[Segment]>,
    ) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let whole = [Segment { offset: 0, length: size }];
        for segment in segments.unwrap_or(&whole) {
            exact(path, file, *segment, self.0)?;
        }
        Ok(())
    }
}

/// Copies a segment; a file that has become shorter meanwhile is filled with zeros, because the header is
/// out already.
pub(crate) fn exact(path: &[u8], file: &File, segment: Segment, out: &mut dyn Write) -> Result<()> {
    use crate::layers::record::{CopyError, copy_range};
    let mut counted = Counted { out, count: 0 };
    match copy_range(file, segment, &mut counted) {
        Ok(()) => Ok(()),
        Err(CopyError::Short) => {
            let left = segment.length - counted.count;
            std::io::copy(&mut std::io::Read::take(std::io::repeat(0), left), &mut counted)
                .map(|_| ())
                .map_err(|e| CopyError::Write(e).above(String::new))
        }
        Err(e) => Err(e.above(|| format!("cannot read {}", path.escape_ascii()))),
    }
}

struct Counted<'o> {
    out: &'o mut dyn Write,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(buf)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

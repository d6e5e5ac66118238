//! From a tar to a layer's folder.
//!
//! Flow: entries are placed one by one while the stream is hashed beside ([`super::stream`]) and what is
//! not in the files is recorded ([`super::record`]); then folders get their times. Whiteouts
//! become overlayfs's: a character device 0:0, and `trusted.overlay.opaque` on a folder.
//! Invariants: nothing is made outside the given folder: names are cleaned, each step down is by
//! descriptor, a symlink on the way is resolved inside the folder only. Folders that the tar implies
//! without listing and links to files it does not have are left to [`super::bind`].
//! Source: OCI image-spec layer.md; Moby pkg/archive (behaviour).

use super::{Limits, bind::Borrowed, record::Moved, record::Recorder, stream::Hashing};
use crate::{
    error::io,
    folders::{Folders, clean, split},
    place::{self, Ours, Owed, Refused, failed},
    tar::{
        Entry, EntryKind,
        reader::{Reader, malformed},
    },
};
use base::{Error, Result};
use rustix::io::Errno;
use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt as _};
use sys::root::{Dir, Node, PATH_MAX, Root, Stat};

/// Begins the name of a deletion mark in a tar.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Begins the names that are about the folder, of which only one is ours.
pub(crate) const META: &[u8] = b".wh..wh.";
/// The mark of a folder that hides what is below.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// The same in overlayfs's form.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Most folders in one tar: their times are kept until the end, some 100 bytes each.
const FOLDERS: usize = 1 << 20;
/// Most names that one tar may hold twice.
const REPLACED: usize = 10_000;
/// How often the disk's free space is looked at, in bytes.
const LOOK: u64 = 64 << 20;
/// Most symlinks on the way to one entry.
const HOPS: usize = 40;

/// What unpacking found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) size: u64,
    pub(crate) owed: Vec<Owed>,
    pub(crate) dead: HashMap<Vec<u8>, usize>,
    pub(crate) borrowed: Borrowed,
    pub(crate) moved: Vec<Moved>,
    pub(crate) root_listed: bool,
    pub(crate) opaque_root: bool,
    pub(crate) recorder: Recorder,
}

pub(crate) struct Unpack<'a, 'r> {
    tar: Reader<Hashing<'r>>,
    ours: Ours,
    root: Root,
    folders: Folders,
    work: &'a Dir,
    spare: Option<Dir>,
    limits: &'a Limits,
    entries: u64,
    looked: u64,
    found: Found,
    replaced: bool,
}

impl<'a, 'r> Unpack<'a, 'r> {
    /// Unpacks into `fs`; `work` is the folder around it.
    pub(crate) fn new(
        tar: Hashing<'r>,
        work: &'a Dir,
        fs: Dir,
        recorder: Recorder,
        limits: &'a Limits,
    ) -> Result<Self> {
        let root = fs.try_clone().map(Root::from).map_err(|e| io("cannot unpack", e))?;
        let found = Found {
            size: 0,
            owed: Vec::new(),
            dead: HashMap::new(),
            borrowed: Borrowed::default(),
            moved: Vec::new(),
            root_listed: false,
            opaque_root: false,
            recorder,
        };
        Ok(Self {
            tar: Reader::new(tar),
            ours: Ours::now(),
            root,
            folders: Folders::new(fs),
            work,
            spare: None,
            limits,
            entries: 0,
            looked: 0,
            found,
            replaced: false,
        })
    }

    /// Reads the whole stream.
    pub(crate) fn run(mut self) -> Result<(Found, Hashing<'r>)> {
        self.look()?;
        while let Some(entry) = self.tar.next()? {
            self.keep_raw()?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                let most = self.limits.entries;
                return Err(Error::exhausted(format!("the layer has more than {most} entries")));
            }
            if self.tar.position() - self.looked > LOOK || self.entries.is_multiple_of(65_536) {
                self.look()?;
            }
            self.entry(&entry)?;
        }
        self.keep_raw()?;
        let mut garbage = 0;
        loop {
            let piece = self.tar.trailing()?;
            if piece.is_empty() {
                break;
            }
            // Blocking factors fill with zeros; anything else is kept too, but not without end.
            garbage += piece.iter().filter(|b| **b != 0).count();
            if garbage > 1 << 20 {
                return Err(Error::invalid("malformed tar: data after its end"));
            }
            self.found.recorder.bytes(&piece)?;
        }
        if self.replaced {
            self.found.size = crate::usage::measure(self.folders.root())
                .map_err(|e| io("cannot measure the layer", e))?
                .bytes;
        }
        Ok((self.found, self.tar.into_inner()))
    }

    fn keep_raw(&mut self) -> Result<()> {
        self.tar.take_raw().iter().try_for_each(|raw| self.found.recorder.raw(raw))
    }

    fn look(&mut self) -> Result<()> {
        self.looked = self.tar.position();
        let (bytes, inodes) = self.work.free().map_err(|e| io("cannot ask for free space", e))?;
        // A file system without a limit on inodes says zero.
        if bytes < self.limits.reserve || (inodes > 0 && inodes < 1024) {
            return Err(Error::exhausted("no space left on device for the layer"));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let outside = || malformed(&entry.name, "it reaches outside the layer's root");
        if entry.name.contains(&0) || entry.link.contains(&0) {
            return Err(malformed(&entry.name, "NUL in a name"));
        }
        if entry.name.len() > PATH_MAX || entry.link.len() > PATH_MAX {
            return Err(malformed(&entry.name, "its name is too long"));
        }
        let path = clean(&entry.name).ok_or_else(outside)?;
        if let Some((key, _)) =
            entry.xattrs.iter().find(|(key, _)| key.as_bytes().starts_with(b"trusted.overlay."))
        {
            let key = key.as_bytes().escape_ascii();
            return Err(malformed(&entry.name, &format!("the attribute {key} is overlayfs's own")));
        }
        if path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent, name) = split(&path);
        if parent.split(|b| *b == b'/').any(|part| part.starts_with(META)) {
            // AUFS's own folders.
            return self.ignore();
        }
        if parent.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(malformed(&entry.name, "a folder named as a deletion mark"));
        }
        let parent = self.real(parent, entry)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.mark(&parent, name, entry);
        }
        match entry.kind {
            EntryKind::Char(0, 0) => {
                Err(malformed(&entry.name, "a character device 0:0 is overlayfs's own"))
            }
            EntryKind::Hardlink => self.hardlink(&parent, name, entry),
            _ => self.place(&parent, name, entry),
        }
    }

    fn ignore(&mut self) -> Result<()> {
        self.tar.keep_payload()?;
        self.keep_raw()
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(malformed(&entry.name, "the root is not a folder"));
        }
        self.found.root_listed = true;
        let owed = place::rewrite(self.folders.root(), entry, b"")?;
        self.owe(owed, entry)
    }

    /// Makes the entry, clearing the way first if something is in it.
    fn place(&mut self, parent: &[u8], name: &OsStr, entry: &Entry) -> Result<()> {
        let path = join(parent, name);
        let mut opaque = false;
        for attempt in 0..3 {
            match self.make(parent, name, entry, &path) {
                Ok(()) => {
                    if opaque && entry.kind == EntryKind::Dir {
                        self.hide(&path, entry)?;
                    }
                    return Ok(());
                }
                Err(Refused::Call(e)) if e.is_taken() && attempt < 2 => {
                    let dir = self.folders.find(parent).map_err(|e| failed(entry, e))?;
                    let there = dir.stat(name).map_err(|e| failed(entry, e))?;
                    if there.kind == sys::root::Kind::Dir && entry.kind == EntryKind::Dir {
                        let owed = place::refolder(dir, name, entry, &path)?;
                        return self.owe(owed, entry);
                    }
                    opaque = there.is_whiteout();
                    self.clear(parent, name, &there, entry)?;
                }
                Err(other) => return Err(other.into_error(entry)),
            }
        }
        Err(malformed(&entry.name, "its name cannot be cleared"))
    }

    fn make(
        &mut self,
        parent: &[u8],
        name: &OsStr,
        entry: &Entry,
        path: &[u8],
    ) -> Result<(), Refused> {
        let dir = self.folders.find(parent).map_err(|e| Refused::Other(failed(entry, e)))?;
        match entry.kind {
            EntryKind::File => {
                place::file(self.ours, dir, name, entry, &mut self.tar)?;
                self.found.size += entry.size;
                let segments = entry.sparse.as_deref();
                self.found.recorder.payload(path, entry.size, segments)?;
            }
            EntryKind::Dir => {
                let owed = place::folder(self.ours, dir, name, entry, path)?;
                self.owe(owed, entry)?;
            }
            _ => {
                place::special(self.ours, dir, name, entry)?;
                self.found.size += entry.link.len() as u64;
            }
        }
        Ok(())
    }

    fn owe(&mut self, owed: Owed, entry: &Entry) -> Result<()> {
        if self.found.owed.len() >= FOLDERS {
            let text = format!("entry \"{}\": too many folders", entry.name.escape_ascii());
            return Err(Error::exhausted(text));
        }
        self.found.owed.push(owed);
        Ok(())
    }

    /// Takes what is at a name out of the way. Earlier content of the same tar is kept aside, because
    /// the tar has it.
    fn clear(&mut self, parent: &[u8], name: &OsStr, there: &Stat, entry: &Entry) -> Result<()> {
        let fail = |e| failed(entry, e);
        let dir = self.folders.find(parent).map_err(fail)?;
        if there.is_whiteout() {
            return dir.unlink(name).map_err(fail);
        }
        if self.found.moved.len() >= REPLACED {
            return Err(malformed(&entry.name, "too many names more than once"));
        }
        let to = self.found.moved.len() as u64;
        if self.spare.is_none() {
            let make = self.work.mkdir("spare", 0o700).and_then(|()| self.work.open_dir("spare"));
            self.spare = Some(make.map_err(fail)?);
        }
        if let Some(spare) = &self.spare {
            dir.rename(name, spare, to.to_string()).map_err(fail)?;
        }
        let path = join(parent, name);
        self.folders.forget();
        self.replaced = true;
        if there.kind == sys::root::Kind::Dir {
            self.found.dead.insert(path.clone(), self.found.owed.len());
            self.found.borrowed.forget(&path);
        }
        let before = self.found.recorder.payloads();
        self.found.moved.push(Moved { before, path, to });
        Ok(())
    }

    /// A deletion mark.
    fn mark(&mut self, parent: &[u8], name: &OsStr, entry: &Entry) -> Result<()> {
        if self.tar.remaining() > 0 {
            return Err(malformed(&entry.name, "a deletion mark with content"));
        }
        if entry.kind == EntryKind::File {
            // Nothing is on disk for it, so its empty payload needs no record.
            self.keep_raw()?;
        }
        if name.as_bytes() == OPAQUE {
            if parent.is_empty() {
                self.found.opaque_root = true;
                return Ok(());
            }
            return self.hide(parent, entry);
        }
        if name.as_bytes().starts_with(META) {
            return Ok(());
        }
        let target = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
        if matches!(target.as_bytes(), b"" | b"." | b"..") {
            return Err(malformed(&entry.name, "a deletion mark without a name"));
        }
        let dir = self.folders.find(parent).map_err(|e| failed(entry, e))?;
        match dir.mknod(target, Node::Char(0, 0), 0) {
            Ok(()) => Ok(()),
            Err(e) if e.is_taken() => {
                // What the same layer has stays; of a folder only what is below goes.
                let there = dir.stat(target).map_err(|e| failed(entry, e))?;
                if there.kind == sys::root::Kind::Dir {
                    let path = join(parent, target);
                    return self.hide(&path, entry);
                }
                Ok(())
            }
            Err(e) => Err(failed(entry, e)),
        }
    }

    fn hide(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let dir = self.folders.find(path).map_err(|e| failed(entry, e))?;
        dir.set_xattr_self(OsStr::new(OPAQUE_XATTR), b"y").map_err(|e| failed(entry, e))
    }

    fn hardlink(&mut self, parent: &[u8], name: &OsStr, entry: &Entry) -> Result<()> {
        let outside = || malformed(&entry.name, "its hard link reaches outside the layer's root");
        let target = clean(&entry.link).ok_or_else(outside)?;
        let (from, last) = split(&target);
        let path = join(parent, name);
        if last.is_empty() || last.as_bytes().starts_with(WHITEOUT) {
            return Err(malformed(&entry.name, "its hard link has no target"));
        }
        let source = match self.real_existing(from) {
            Ok(source) => source,
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => {
                return self.borrow(parent, name, entry, &target);
            }
            Err(e) => return Err(failed(entry, e)),
        };
        if join(&source, last) == path {
            return Err(malformed(&entry.name, "a hard link to itself"));
        }
        for attempt in 0..3 {
            let fail = |e| failed(entry, e);
            let held = self.folders.find(&source).and_then(Dir::try_clone).map_err(fail)?;
            let there = match held.stat(last) {
                Ok(there) => there,
                Err(e) if e.is_missing() => return self.borrow(parent, name, entry, &target),
                Err(e) => return Err(fail(e)),
            };
            if there.is_whiteout() || there.kind == sys::root::Kind::Dir {
                return Err(malformed(&entry.name, "its hard link's target is not a file"));
            }
            let dir = self.folders.find(parent).map_err(fail)?;
            match held.link(last, dir, name) {
                Ok(()) => return Ok(()),
                Err(e) if e.is_taken() && attempt < 2 => {
                    let old = dir.stat(name).map_err(fail)?;
                    self.clear(parent, name, &old, entry)?;
                }
                Err(e) => return Err(fail(e)),
            }
        }
        Err(malformed(&entry.name, "its name cannot be cleared"))
    }

    /// The target must be in a layer below.
    fn borrow(&mut self, parent: &[u8], name: &OsStr, entry: &Entry, target: &[u8]) -> Result<()> {
        self.found.borrowed.link(join(parent, name), target.to_vec()).ok_or_else(|| {
            malformed(&entry.name, "too many hard links to files that the layer does not have")
        })
    }

    /// The real path of an entry's folder, made if the tar only implies it.
    fn real(&mut self, parent: &[u8], entry: &Entry) -> Result<Vec<u8>> {
        let mut path = parent.to_vec();
        for _ in 0..HOPS {
            let way = self.way(&path, entry)?;
            match way {
                Way::Open => return Ok(path),
                Way::Through(to) => path = to,
            }
        }
        Err(malformed(&entry.name, "too many symlinks on its way"))
    }

    fn way(&mut self, path: &[u8], entry: &Entry) -> Result<Way> {
        let (found, root) = (&mut self.found, &self.root);
        let mut through = None;
        let done = self.folders.open(path, |dir, name, at, errno| {
            match errno {
                Errno::NOENT => {
                    dir.mkdir(name, 0o755)?;
                    found.borrowed.folder(at.to_vec(), entry.mtime);
                    return Ok(());
                }
                Errno::NOTDIR | Errno::LOOP => {}
                errno => return Err(sys::root::Error::new("open", name, errno)),
            }
            let there = dir.stat(name)?;
            if there.is_whiteout() {
                // Deleted below, made anew here.
                dir.unlink(name)?;
                dir.mkdir(name, 0o755)?;
                let own = dir.open_dir(name)?;
                own.set_xattr_self(OsStr::new(OPAQUE_XATTR), b"y")?;
                found.owed.push(Owed::time(at, entry.mtime));
                return Ok(());
            }
            if there.kind == sys::root::Kind::Symlink {
                let real = root.canonical(OsStr::from_bytes(at))?;
                let mut real = real.as_os_str().as_bytes()[1..].to_vec();
                real.extend_from_slice(&path[at.len()..]);
                through = clean(&real);
            }
            Err(sys::root::Error::new("open", name, Errno::NOTDIR))
        });
        match (done.map(|_| ()), through) {
            (Ok(()), _) => Ok(Way::Open),
            (Err(_), Some(to)) if to.len() <= PATH_MAX => Ok(Way::Through(to)),
            (Err(e), _) => Err(failed(entry, e)),
        }
    }

    /// The real path of a folder that must exist.
    fn real_existing(&mut self, path: &[u8]) -> Result<Vec<u8>, sys::root::Error> {
        if self.folders.find(path).is_ok() {
            return Ok(path.to_vec());
        }
        let real = self.root.canonical(OsStr::from_bytes(path))?;
        Ok(real.as_os_str().as_bytes()[1..].to_vec())
    }
}

enum Way {
    Open,
    Through(Vec<u8>),
}

/// Pays all folders what they are owed, but those that were replaced since.
pub(crate) fn settle(
    folders: &mut Folders,
    owed: &[Owed],
    dead: &HashMap<Vec<u8>, usize>,
) -> Result<()> {
    folders.forget();
    for (number, owed) in owed.iter().enumerate() {
        if !dead.is_empty() && died(&owed.path, number, dead) {
            continue;
        }
        let done = folders.find(&owed.path).and_then(|dir| owed.settle(dir));
        match done {
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => {}
            done => done.map_err(|e| {
                io(format!("cannot finish the folder {}", owed.path.escape_ascii()), e)
            })?,
        }
    }
    Ok(())
}

fn died(path: &[u8], number: usize, dead: &HashMap<Vec<u8>, usize>) -> bool {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).any(|end| dead.get(&path[..end]).is_some_and(|until| number < *until))
}

fn join(parent: &[u8], name: &OsStr) -> Vec<u8> {
    if parent.is_empty() {
        return name.as_bytes().to_vec();
    }
    [parent, b"/", name.as_bytes()].concat()
}

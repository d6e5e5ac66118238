//! Unpacking an archive into a tree: build contexts, `ADD` of an archive, `docker cp` into a container.
//!
//! Unlike a layer, an archive means files as they are: no whiteouts, nothing bound to what lies below.
//! Names and link targets are resolved inside the tree; a name with `..` is refused; what is in the way of
//! another kind is replaced.

use crate::{
    Limits,
    error::io,
    folders::clean,
    place::{self, Ours, Owed, Refused},
    tar::{Entry, EntryKind, reader::Reader},
};
use base::{Error, Result};
use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};
use sys::idmap::Maps;
use sys::root::{Dir, Kind, Root};

/// Mode of folders that the archive implies.
const FOLDER: u32 = 0o755;
/// Bytes read from the archive at once.
const BUFFER: usize = 128 << 10;

/// Unpacks an uncompressed `tar` below `path`, which is made if need be; reading ends with the archive.
///
/// # Errors
/// `Invalid` for an archive that is malformed, reaches outside or passes the limits; of the disk.
pub fn extract_into(root: &Root, path: &Path, tar: &mut dyn Read, limits: &Limits) -> Result<()> {
    root.mkdir_all(path, FOLDER, Some((0, 0)))
        .map_err(|e| io("cannot make the folder to unpack to", e))?;
    let root = root.subroot(path).map_err(|e| io("cannot open the folder to unpack to", e))?;
    extract_beside(&root, Path::new("/"), tar, limits, &Manner::default())
}

/// How an archive meets what is there.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Gives everything to this user and group instead of the archive's.
    pub owner: Option<(u32, u32)>,
    /// A folder is not replaced by something else, nor the other way round.
    pub keep_kinds: bool,
    /// Those of the container whose tree it is, when it is seen as the host sees it: owners, those of `owner` too, are
    /// as they are inside.
    pub maps: Option<Maps>,
}

/// Unpacks an uncompressed `tar` below the folder at `path`, which is there. Symlinks on the way are followed as a
/// process in `root` would follow them, also out of `path`; names and hard links of the archive stay below it.
///
/// # Errors
/// `Invalid` for an archive that is malformed, reaches outside, passes the limits or is against the manner; of the
/// disk.
pub fn extract_beside(
    root: &Root,
    path: &Path,
    tar: &mut dyn Read,
    limits: &Limits,
    manner: &Manner,
) -> Result<()> {
    let root = root.try_clone().map_err(|e| io("cannot open the folder to unpack to", e))?;
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, tar)).lenient();
    let mut extract = Extract {
        root,
        base: path.to_owned(),
        manner: manner.clone(),
        ours: Ours::now(),
        parent: None,
        folders: HashMap::new(),
    };
    let mut entries = 0;
    while let Some(mut entry) = reader.next()? {
        // These would tell overlayfs what is in a layer.
        entry.xattrs.retain(|(key, _)| !key.as_bytes().starts_with(b"trusted.overlay."));
        if let Some((uid, gid)) = manner.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(maps) = &manner.maps {
            let nobody = |what: &str, id: u32| {
                Error::invalid(format!(
                    "{what} {id} of {} is not mapped into the container",
                    entry.name.escape_ascii()
                ))
            };
            let user = maps.user_outside(entry.uid).ok_or_else(|| nobody("user", entry.uid))?;
            let group = maps.group_outside(entry.gid).ok_or_else(|| nobody("group", entry.gid))?;
            (entry.uid, entry.gid) = (user, group);
        }
        entries += 1;
        if entries > limits.entries {
            return Err(Error::invalid("the archive has too many entries"));
        }
        if reader.position().saturating_add(reader.remaining()) > limits.tar_bytes {
            return Err(Error::invalid("the archive is larger than is allowed"));
        }
        extract.one(&entry, &mut reader)?;
        drain(&mut reader)?;
        // What was kept to write the same archive again is of no use here.
        drop(reader.take_raw());
    }
    extract.finish()
}

/// Passes over what is left of an entry.
fn drain(reader: &mut Reader<BufReader<&mut dyn Read>>) -> Result<()> {
    while reader.remaining() > 0 {
        let length = reader.fill()?.len();
        reader.consume(length);
    }
    Ok(())
}

/// One archive on its way into a tree.
struct Extract {
    root: Root,
    /// Where the archive's names begin.
    base: PathBuf,
    manner: Manner,
    ours: Ours,
    /// The folder that the last entry went to.
    parent: Option<(PathBuf, Dir)>,
    /// What folders get at the end, when nothing more changes them.
    folders: HashMap<PathBuf, Owed>,
}

impl Extract {
    fn one(&mut self, entry: &Entry, tar: &mut Reader<BufReader<&mut dyn Read>>) -> Result<()> {
        let shown = || entry.name.escape_ascii().to_string();
        let outside = || Error::invalid(format!("\"{}\": the archive reaches outside", shown()));
        let up = |name: &[u8]| name.split(|b| *b == b'/').any(|part| part == b"..");
        if up(&entry.name) {
            return Err(outside());
        }
        let inner = clean(&entry.name).ok_or_else(outside)?;
        let path = self.base.join(OsStr::from_bytes(&inner));
        let Some(name) = path.file_name().filter(|_| !inner.is_empty()) else { return Ok(()) };
        let root = self.root.try_clone().map_err(|e| place::failed(entry, e))?;
        let fail = |e| place::failed(entry, e);
        let kept = self.clear(&path, name, entry)?;
        let dir = self.parent(&path, entry)?;
        let made = match &entry.kind {
            EntryKind::File => place::file(self.ours, &dir, name, entry, tar),
            EntryKind::Dir if kept => {
                let owed = place::refolder(&dir, name, entry, path.as_os_str().as_bytes())?;
                self.folders.insert(path.clone(), owed);
                Ok(())
            }
            EntryKind::Dir => {
                let owed = place::folder(self.ours, &dir, name, entry, path.as_os_str().as_bytes());
                owed.map(|owed| drop(self.folders.insert(path.clone(), owed)))
            }
            EntryKind::Hardlink => {
                let target = clean(&entry.link).ok_or_else(|| {
                    Error::invalid(format!("\"{}\": the archive links outside", shown()))
                })?;
                let target = self.base.join(OsStr::from_bytes(&target));
                root.link(&target, &path).map_err(Refused::Call)
            }
            EntryKind::Symlink | EntryKind::Char(..) | EntryKind::Block(..) | EntryKind::Fifo => {
                place::special(self.ours, &dir, name, entry)
            }
        };
        made.map_err(|refused| match refused {
            Refused::Call(e) => fail(e),
            Refused::Other(err) => err,
        })
    }

    /// Removes what is in the way; says whether a folder is there that stays.
    fn clear(&mut self, path: &Path, name: &OsStr, entry: &Entry) -> Result<bool> {
        let fail = |e| place::failed(entry, e);
        let dir = self.parent(path, entry)?;
        match dir.stat(name) {
            Ok(stat) if stat.kind == Kind::Dir && entry.kind == EntryKind::Dir => Ok(true),
            Ok(stat)
                if self.manner.keep_kinds
                    && (stat.kind == Kind::Dir) != (entry.kind == EntryKind::Dir) =>
            {
                let (there, new) = match stat.kind {
                    Kind::Dir => ("directory", "non-directory"),
                    _ => ("non-directory", "directory"),
                };
                Err(Error::invalid(format!(
                    "cannot overwrite {there} {:?} with {new} {:?}",
                    path.display(),
                    self.base.display()
                )))
            }
            Ok(stat) => {
                dir.remove_all(name).map_err(fail)?;
                if stat.kind == Kind::Dir {
                    self.folders.retain(|folder, _| !folder.starts_with(path));
                }
                // What was removed may have been on the way to the folder that is at hand.
                self.parent = None;
                Ok(false)
            }
            Err(err) if err.is_missing() => Ok(false),
            Err(err) => Err(fail(err)),
        }
    }

    /// The folder that `path` goes to, symlinks followed inside the tree, made if need be.
    fn parent(&mut self, path: &Path, entry: &Entry) -> Result<Dir> {
        let fail = |e| place::failed(entry, e);
        let parent = path.parent().unwrap_or(Path::new("/"));
        if let Some((at, dir)) = &self.parent
            && at == parent
        {
            return dir.try_clone().map_err(fail);
        }
        if !self.root.exists(parent).map_err(fail)? {
            self.root.mkdir_all(parent, FOLDER, Some((0, 0))).map_err(fail)?;
        }
        let dir = self.root.open_dir(parent).map_err(fail)?;
        let own = dir.try_clone().map_err(fail)?;
        self.parent = Some((parent.to_owned(), dir));
        Ok(own)
    }

    /// Gives folders what they are owed.
    fn finish(self) -> Result<()> {
        for (path, owed) in &self.folders {
            let fail = |e| io(format!("cannot unpack {}", path.display()), e);
            // One that something else replaced is owed nothing.
            let Ok(own) = self.root.open_dir(path) else { continue };
            owed.settle(&own).map_err(fail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType;

    const LIMITS: Limits = Limits { entries: 100, tar_bytes: 1 << 20, reserve: 0 };

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header
    }

    fn unpack(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> (tempfile::TempDir, Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let done = extract_into(&root, Path::new("/in"), &mut &bytes[..], &LIMITS);
        (dir, done)
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        use std::os::unix::fs::MetadataExt as _;
        let (dir, done) = unpack(|tar| {
            tar.append_data(&mut header(EntryType::Directory, 0), "d", &b""[..]).unwrap();
            tar.append_data(&mut header(EntryType::Regular, 2), "d/f", &b"hi"[..]).unwrap();
            tar.append_link(&mut header(EntryType::Link, 0), "l", "d/f").unwrap();
            tar.append_link(&mut header(EntryType::Symlink, 0), "s", "../../out").unwrap();
            tar.append_data(&mut header(EntryType::Fifo, 0), "p", &b""[..]).unwrap();
        });
        done.unwrap();
        let stat =
            |path: &str| std::fs::symlink_metadata(dir.path().join("in").join(path)).unwrap();
        let file = stat("d/f");
        assert_eq!(
            (file.mode() & 0o7777, file.uid(), file.gid(), file.mtime()),
            (0o4755, 7, 8, 1_000_000_000)
        );
        assert_eq!(stat("l").ino(), file.ino());
        assert_eq!(stat("d").mtime(), 1_000_000_000);
        assert!(stat("s").is_symlink());
    }

    #[test]
    fn nothing_leaves_the_tree() {
        let raw = |name: &str, kind: EntryType, link: &str| {
            let mut header = header(kind, 0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            header
        };
        let (dir, done) =
            unpack(|tar| tar.append(&raw("../x", EntryType::Regular, ""), &b""[..]).unwrap());
        assert!(done.unwrap_err().chain().contains("reaches outside"));
        assert!(!dir.path().join("x").exists());
        let (_dir, done) = unpack(|tar| {
            tar.append(&raw("l", EntryType::Link, "../../etc/passwd"), &b""[..]).unwrap();
        });
        assert!(done.unwrap_err().chain().contains("links outside"));
        let (dir, done) = unpack(|tar| {
            tar.append(&raw("s", EntryType::Symlink, "/"), &b""[..]).unwrap();
            tar.append(&raw("s/escaped", EntryType::Regular, ""), &b""[..]).unwrap();
        });
        done.unwrap();
        assert!(dir.path().join("in/escaped").exists() && !Path::new("/escaped").exists());
    }

    #[test]
    fn an_archive_may_end_behind_its_last_content_but_not_within() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 2), "f", &b"hi"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let run = |end: usize| extract_into(&root, Path::new("/"), &mut &bytes[..end], &LIMITS);
        for end in [514, 520, 1024, 1030 + 506] {
            run(end).unwrap();
            assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"hi");
        }
        for end in [100, 512, 513] {
            assert!(run(end).is_err(), "{end}");
        }
    }

    #[test]
    fn broken_and_endless_archives_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let run = |bytes: &[u8]| extract_into(&root, Path::new("/"), &mut &bytes[..], &LIMITS);
        run(&[]).unwrap();
        run(&[0; 1024]).unwrap();
        assert!(run(&[1; 512]).is_err());
        let (_dir, done) = unpack(|tar| {
            for number in 0..101 {
                let name = format!("{number}");
                tar.append_data(&mut header(EntryType::Regular, 0), name, &b""[..]).unwrap();
            }
        });
        assert!(done.unwrap_err().chain().contains("too many entries"));
    }
}

//! Unpacking an archive into a tree: build contexts, `ADD` of an archive.
//!
//! Unlike a layer, an archive means files as they are: no whiteouts, nothing bound to what lies below.
//! Names and link targets are resolved inside the tree; a name with `..` is refused; what is in the way of
//! another kind is replaced.

use crate::{Limits, error::io};
use base::{Error, Result};
use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{Read, copy},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};
use sys::root::{Kind, Node, Root, Time, chmod_open, chown_open, set_open_mtime, set_open_xattr};
use tar::EntryType;

/// Mode of folders that the archive implies.
const FOLDER: u32 = 0o755;

/// Unpacks an uncompressed `tar` below `path`, which is made if need be.
///
/// # Errors
/// `Invalid` for an archive that is malformed, reaches outside or passes the limits; of the disk.
pub fn extract_into(root: &Root, path: &Path, tar: &mut dyn Read, limits: &Limits) -> Result<()> {
    let malformed = |e: std::io::Error| Error::invalid("malformed archive").caused_by(e);
    root.mkdir_all(path, FOLDER, Some((0, 0)))
        .map_err(|e| io("cannot make the folder to unpack to", e))?;
    let top = root.subroot(path).map_err(|e| io("cannot open the folder to unpack to", e))?;
    let mut archive = tar::Archive::new(tar.take(limits.tar_bytes));
    let mut folders: HashMap<PathBuf, Time> = HashMap::new();
    for (number, entry) in archive.entries().map_err(malformed)?.enumerate() {
        let mut entry = entry.map_err(malformed)?;
        if number as u64 >= limits.entries {
            return Err(Error::invalid("the archive has too many entries"));
        }
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let Some(target) = clean(&name) else {
            return Err(Error::invalid(format!("{}: the archive reaches outside", name.display())));
        };
        if let Some(time) = one(&top, &mut entry, &target)? {
            folders.insert(target, time);
        }
    }
    // Deepest first, so that setting one does not touch another.
    let mut folders: Vec<_> = folders.into_iter().collect();
    folders.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    for (path, time) in folders {
        top.set_mtime(&path, time)
            .map_err(|e| io(format!("cannot unpack {}", path.display()), e))?;
    }
    Ok(())
}

fn clean(name: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::from("/");
    for part in name.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => return None,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

/// Unpacks one entry; gives the time of a folder, which is set at the end.
fn one(root: &Root, entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> Result<Option<Time>> {
    let fail = |e| io(format!("cannot unpack {}", path.display()), e);
    let malformed = |e: std::io::Error| {
        Error::invalid(format!("malformed archive entry {}", path.display())).caused_by(e)
    };
    let kind = entry.header().entry_type();
    if path == Path::new("/") {
        return Ok(None);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    if !root.exists(parent).map_err(fail)? {
        root.mkdir_all(parent, FOLDER, Some((0, 0))).map_err(fail)?;
    }
    let (dir, name) = root.parent(path).map_err(fail)?;
    match dir.stat(&name) {
        Ok(stat) if stat.kind == Kind::Dir && kind == EntryType::Directory => {}
        Ok(_) => dir.remove_all(&name).map_err(fail)?,
        Err(err) if err.is_missing() => {}
        Err(err) => return Err(fail(err)),
    }
    let header = entry.header();
    let number = |n: std::io::Result<u64>| n.map_err(malformed).map(|n| n as u32);
    let (uid, gid) = (number(header.uid())?, number(header.gid())?);
    let mode = header.mode().map_err(malformed)? & 0o7777;
    let mtime = Time { seconds: header.mtime().map_err(malformed)? as i64, nanos: 0 };
    let device = || -> Result<(u32, u32)> {
        let part =
            |n: std::io::Result<Option<u32>>| n.map_err(malformed).map(Option::unwrap_or_default);
        Ok((part(header.device_major())?, part(header.device_minor())?))
    };
    let link = |entry: &tar::Entry<'_, _>| -> Result<PathBuf> {
        let bytes = entry.link_name_bytes();
        let bytes =
            bytes.ok_or_else(|| Error::invalid(format!("{} links to nothing", path.display())))?;
        Ok(PathBuf::from(OsStr::from_bytes(&bytes)))
    };
    match kind {
        EntryType::Directory => match dir.mkdir(&name, 0o700) {
            Err(err) if err.is_taken() => {}
            other => other.map_err(fail)?,
        },
        EntryType::Symlink => {
            dir.symlink(link(entry)?, &name).map_err(fail)?;
            dir.chown(&name, uid, gid).map_err(fail)?;
            return dir.set_mtime(&name, mtime).map_err(fail).map(|()| None);
        }
        EntryType::Link => {
            let target = clean(&link(entry)?).ok_or_else(|| {
                Error::invalid(format!("{}: the archive links outside", path.display()))
            })?;
            return root.link(&target, path).map_err(fail).map(|()| None);
        }
        EntryType::Char => {
            let (major, minor) = device()?;
            dir.mknod(&name, Node::Char(major, minor), 0o600).map_err(fail)?;
        }
        EntryType::Block => {
            let (major, minor) = device()?;
            dir.mknod(&name, Node::Block(major, minor), 0o600).map_err(fail)?;
        }
        EntryType::Fifo => dir.mknod(&name, Node::Fifo, 0o600).map_err(fail)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = dir.create_new(&name, 0o600).map_err(fail)?;
            let attributes = attributes(entry).map_err(malformed)?;
            copy(entry, &mut file)
                .map_err(|e| Error::io(format!("cannot unpack {}", path.display()), e))?;
            chown_open(&file, uid, gid).map_err(fail)?;
            chmod_open(&file, mode).map_err(fail)?;
            for (key, value) in attributes {
                set_open_xattr(&file, OsStr::from_bytes(&key), &value).map_err(fail)?;
            }
            return set_open_mtime(&file, mtime).map_err(fail).map(|()| None);
        }
        // Headers that describe others, and kinds that nobody knows, are no files.
        _ => return Ok(None),
    }
    dir.chown(&name, uid, gid).map_err(fail)?;
    dir.chmod(&name, mode).map_err(fail)?;
    if kind == EntryType::Directory {
        return Ok(Some(mtime));
    }
    dir.set_mtime(&name, mtime).map_err(fail).map(|()| None)
}

/// Capabilities and `user.` attributes; others have no place in a context.
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    const PREFIX: &[u8] = b"SCHILY.xattr.";
    let mut found = Vec::new();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        if let Some(key) = record.key_bytes().strip_prefix(PREFIX)
            && (key == b"security.capability" || key.starts_with(b"user."))
        {
            found.push((key.to_vec(), record.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            tar.append(&raw("l", EntryType::Link, "../../etc/passwd"), &b""[..]).unwrap()
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

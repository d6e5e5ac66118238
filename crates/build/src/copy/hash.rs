//! Names of files by content: path, type, mode, owner, size, link target, attributes and bytes, never
//! times. This decides when a `COPY` is found in the cache.

use super::{attributes, failed, in_root, walk};
use base::{Digest, Error, Result, hex};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};
use sys::root::{Dir, Kind, Root, Stat};

/// Hash of one file that symlinks may lead to.
pub(super) fn file(root: &Root, path: &Path) -> Result<String> {
    let fail = |e| failed(format!("cannot read {}", path.display()), e);
    // The path that is actually copied counts, not the symlink that leads to it.
    let real = root.canonical(in_root(path)).map_err(fail)?;
    let (dir, name) = root.parent(&real).map_err(fail)?;
    let stat = dir.stat(&name).map_err(fail)?;
    let rel = real.strip_prefix("/").unwrap_or(&real);
    entry(&dir, name.as_ref(), rel, &stat).map(|sum| hex(&sum))
}

/// Hash of a folder with all that is in it, whatever the order.
pub(super) fn tree(root: &Root, path: &Path) -> Result<String> {
    let fail = |e| failed(format!("cannot read {}", path.display()), e);
    let real = root.canonical(in_root(path)).map_err(fail)?;
    let top: PathBuf = real.strip_prefix("/").unwrap_or(&real).to_owned();
    let mut hashes = Vec::new();
    if top.as_os_str() != "" {
        let (dir, name) = root.parent(&real).map_err(fail)?;
        let stat = dir.stat(&name).map_err(fail)?;
        hashes.push(entry(&dir, name.as_ref(), &top, &stat)?);
    }
    walk::below(root, &top, |e| {
        hashes.push(entry(e.dir, e.name.as_ref(), e.path, &e.stat)?);
        Ok(true)
    })?;
    hashes.sort_unstable();
    let mut all = Sha256::new();
    hashes.iter().for_each(|hash| all.update(hash));
    Ok(hex(&all.finalize()))
}

fn entry(dir: &Dir, name: &Path, path: &Path, stat: &Stat) -> Result<[u8; 32]> {
    let fail = |e| failed(format!("cannot read {}", path.display()), e);
    let kind = match stat.kind {
        Kind::File => '0',
        Kind::Dir => '5',
        Kind::Symlink => '2',
        Kind::Char => '3',
        Kind::Block => '4',
        Kind::Fifo => '6',
        Kind::Socket => 's',
    };
    let size = if stat.kind == Kind::File { stat.size } else { 0 };
    let mut hasher = Sha256::new();
    hasher.update(path.as_os_str().as_bytes());
    hasher.update(format!(
        "\0{kind}\0{:o}\0{}\0{}\0{size}\0{}\0{}\0",
        stat.mode, stat.uid, stat.gid, stat.rdev.0, stat.rdev.1
    ));
    attributes::hash(&mut hasher, &attributes::of(dir, name.as_os_str()).map_err(fail)?);
    match stat.kind {
        Kind::Symlink => hasher.update(dir.readlink(name).map_err(fail)?.as_bytes()),
        Kind::File => {
            let file = dir.open_file(name, read_only()).map_err(fail)?;
            read_into(&mut hasher, file, path)?;
        }
        Kind::Dir | Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => {}
    }
    Ok(hasher.finalize().into())
}

pub(super) fn read_only() -> rustix::fs::OFlags {
    use rustix::fs::OFlags;
    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}

fn read_into(hasher: &mut Sha256, mut file: File, path: &Path) -> Result<()> {
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(format!("cannot read {}", path.display()), e)),
        }
    }
}

/// Digest of a file's bytes alone.
///
/// # Errors
/// Of the disk.
pub fn digest_of_file(file: File, path: &Path) -> Result<Digest> {
    let mut hasher = Sha256::new();
    read_into(&mut hasher, file, path)?;
    Ok(Digest::from_sha256(hasher.finalize().into()))
}

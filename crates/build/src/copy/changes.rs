//! What one tree has more, less or different than another, put into a third: how images are squashed.

use super::{failed, in_root, place::Placer, walk};
use base::Result;
use std::path::Path;
use sys::root::{Kind, Root, Stat};

/// Makes `to`, which looks like `base`, look like `from`. Blocks.
///
/// # Errors
/// Of the disk.
pub fn transfer_changes(from: &Root, base: &Root, to: &Root) -> Result<()> {
    let mut gone = Vec::new();
    walk::below(base, Path::new(""), |entry| {
        let there = lstat(from, entry.path)?;
        if there.is_none() {
            gone.push(in_root(entry.path));
        }
        Ok(there.is_some_and(|s| s.kind == Kind::Dir))
    })?;
    for path in gone {
        to.remove_all(&path).map_err(|e| failed(format!("cannot remove {}", path.display()), e))?;
    }
    let mut placer = Placer::new(to, None, None);
    walk::below(from, Path::new(""), |entry| {
        let before = lstat(base, entry.path)?;
        if !before.is_some_and(|before| same(&before, &entry.stat)) {
            placer.put(entry)?;
        }
        Ok(true)
    })?;
    placer.finish()
}

fn lstat(root: &Root, path: &Path) -> Result<Option<Stat>> {
    match root.lstat(in_root(path)) {
        Ok(stat) => Ok(Some(stat)),
        Err(err) if super::is_absent(&err) => Ok(None),
        Err(err) => Err(failed(format!("cannot look at {}", path.display()), err)),
    }
}

/// The comparison of docker's squash: times are trusted to tell of new content.
fn same(a: &Stat, b: &Stat) -> bool {
    let size = a.kind == Kind::Dir || a.size == b.size;
    let time = a.kind == Kind::Dir || a.mtime == b.mtime;
    a.kind == b.kind
        && a.mode == b.mode
        && (a.uid, a.gid, a.rdev) == (b.uid, b.gid, b.rdev)
        && size
        && time
}

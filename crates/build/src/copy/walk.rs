//! Walking a tree in Go's order, without recursion and without following symlinks.

use super::{failed, in_root};
use crate::go;
use base::{Error, Result};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};
use sys::root::{Dir, Kind, Root, Stat};

/// Entries of one walk: beyond this a tree is refused.
const ENTRIES: usize = 10_000_000;

/// One entry, seen from the folder that it is in.
#[derive(Debug)]
pub(super) struct Entry<'d> {
    pub dir: &'d Dir,
    pub name: &'d OsStr,
    /// Relative to the root of the tree.
    pub path: &'d Path,
    pub stat: Stat,
}

/// Calls `visit` for everything below the folder `top` (relative), a folder before its content; a folder
/// is entered when `visit` says so.
pub(super) fn below(
    root: &Root,
    top: &Path,
    mut visit: impl FnMut(&Entry<'_>) -> Result<bool>,
) -> Result<()> {
    let mut open: Vec<PathBuf> = vec![top.to_owned()];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        let fail = |e| failed(format!("cannot list {}", folder.display()), e);
        let dir = root.open_dir(in_root(&folder)).map_err(fail)?;
        let mut inner: Vec<PathBuf> = Vec::new();
        for (name, _) in dir.entries().map_err(fail)? {
            let path = folder.join(&name);
            let stat = dir
                .stat(&name)
                .map_err(|e| failed(format!("cannot look at {}", path.display()), e))?;
            seen += 1;
            if seen > ENTRIES {
                return Err(Error::invalid(format!("{} holds too many files", top.display())));
            }
            let enter = visit(&Entry { dir: &dir, name: &name, path: &path, stat })?;
            if enter && stat.kind == Kind::Dir {
                inner.push(path);
            }
        }
        open.extend(inner.into_iter().rev());
    }
    Ok(())
}

/// Paths in the tree that match `pattern`, in lexical order.
pub(super) fn matching(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let depth = Path::new(pattern).components().count();
    let mut found = Vec::new();
    // A pattern that cannot be read matches nothing, as in Docker.
    if go::path_match(pattern, "").is_err() {
        return Ok(found);
    }
    below(root, Path::new(""), |entry| {
        let path = entry.path.to_string_lossy();
        if go::path_match(pattern, &path).unwrap_or(false) {
            found.push(path.into_owned());
        }
        Ok(entry.path.components().count() < depth)
    })?;
    found.sort_by(|a, b| Path::new(a).cmp(Path::new(b)));
    Ok(found)
}

//! Paths inside a tree that may not exist yet.

use super::failed;
use base::{Error, Result};
use std::{
    collections::VecDeque,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};
use sys::root::{Kind, Root};

/// Symlinks followed on one path, as the kernel has it twice over.
const LINKS: usize = 80;

/// `path` without `.` and `..`, relative; nothing when it leads outside.
pub(super) fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

/// The destination `dest`, relative to `working_dir`, as an absolute path.
pub(super) fn join(working_dir: &str, dest: &str) -> PathBuf {
    Path::new("/").join(working_dir).join(dest)
}

/// Where `path` leads: symlinks are followed inside the root, also where they lead to nothing yet.
pub(super) fn resolve(root: &Root, path: &Path) -> Result<PathBuf> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let prepend = |todo: &mut VecDeque<OsString>, path: &Path| {
        for part in path.components().rev() {
            match part {
                Component::Normal(name) => todo.push_front(name.to_owned()),
                Component::ParentDir => todo.push_front("..".into()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
    };
    prepend(&mut todo, path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match root.lstat(&next) {
            Ok(stat) if stat.kind == Kind::Symlink => {
                links += 1;
                if links > LINKS {
                    return Err(Error::invalid(format!(
                        "{}: too many levels of symbolic links",
                        path.display()
                    )));
                }
                let target = root
                    .readlink(&next)
                    .map_err(|e| failed(format!("cannot follow {}", next.display()), e))?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                prepend(&mut todo, &target);
            }
            Ok(_) => at = next,
            Err(err) if super::is_absent(&err) => at = next,
            Err(err) => return Err(failed(format!("cannot look at {}", next.display()), err)),
        }
    }
    Ok(at)
}

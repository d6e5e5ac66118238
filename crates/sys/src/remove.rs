//! Deletes trees of any depth with a bounded number of descriptors.
//!
//! Flow: walk down by descriptor, deleting files; a folder deeper than [`DEPTH`] is renamed up beside the
//! tree's top and deleted from there, so that neither the stack nor the descriptor table limits what a
//! container may have nested.
//! Invariants: symlinks are deleted, never followed; the folders walked are those opened.

use crate::dir::{Dir, Error, Kind, Result};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};

const DEPTH: usize = 48;

/// Deletes `name` below `top`.
pub(crate) fn remove_all(top: &Dir, name: &OsStr) -> Result<()> {
    match top.unlink(name) {
        Ok(()) => return Ok(()),
        Err(e) if e.is_missing() => return Ok(()),
        Err(e) if matches!(e.errno(), Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let mut work = Work { top, lifted: vec![name.to_owned()], count: 0, first: None };
    while let Some(next) = work.lifted.pop() {
        work.remove(top, &next, 0);
    }
    work.first.map_or(Ok(()), Err)
}

struct Work<'t> {
    top: &'t Dir,
    lifted: Vec<OsString>,
    count: u64,
    first: Option<Error>,
}

impl Work<'_> {
    fn remove(&mut self, parent: &Dir, name: &OsStr, depth: usize) {
        let done = parent.open_dir(name).and_then(|dir| {
            for (child, kind) in dir.entries()? {
                self.child(&dir, &child, kind, depth);
            }
            Ok(())
        });
        let done = match done {
            Ok(()) => parent.rmdir(name),
            Err(e) => Err(e),
        };
        self.note(done);
    }

    fn child(&mut self, dir: &Dir, child: &OsStr, kind: Option<Kind>, depth: usize) {
        if kind != Some(Kind::Dir) {
            match dir.unlink(child) {
                Err(e) if matches!(e.errno(), Errno::ISDIR | Errno::PERM) && kind.is_none() => {}
                done => return self.note(done),
            }
        }
        if depth < DEPTH {
            return self.remove(dir, child, depth + 1);
        }
        self.count += 1;
        let lifted = OsString::from(format!(".lifted-{}-{}", std::process::id(), self.count));
        match dir.rename(child, self.top, &lifted) {
            Ok(()) => self.lifted.push(lifted),
            Err(e) => self.note(Err(e)),
        }
    }

    fn note(&mut self, done: Result<()>) {
        if let Err(e) = done
            && !e.is_missing()
            && self.first.is_none()
        {
            self.first = Some(e);
        }
    }
}

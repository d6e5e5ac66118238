//! What a tree takes, counted as Docker counts: content of all but folders, each file once.

use crate::walk::walk;
use std::collections::HashSet;
use sys::root::{Dir, Error, Kind};

/// What a folder takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of file content, a file with several names once.
    pub bytes: u64,
    /// Files, folders and the rest.
    pub inodes: u64,
}

/// Measures all below `dir`.
pub(crate) fn measure(dir: &Dir) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    walk(dir.try_clone()?, |here| {
        let stat = &here.stat;
        if stat.nlink > 1 && stat.kind != Kind::Dir && !seen.insert((stat.dev, stat.ino)) {
            return Ok(false);
        }
        usage.inodes += 1;
        if stat.kind != Kind::Dir {
            usage.bytes += stat.size;
        }
        Ok::<_, Error>(true)
    })?;
    Ok(usage)
}

//! Extended attributes that belong to a file wherever it is: they are copied with it, and decide with its content whether a copy is
//! found in the cache.
//!
//! Not among them: what belongs to the overlay that the file lies in, and labels of the host's security modules. Source: BuildKit's
//! copying, which takes all and passes over what the target refuses; its content hash leaves access lists out, which would find
//! another list's copy.

use sha2::{Digest as _, Sha256};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt as _,
};
use sys::root::{Dir, Result, xattrs_open};

/// Names and values.
pub(super) type Attributes = Vec<(OsString, Vec<u8>)>;

/// Those of one file, sorted by name.
pub(super) fn of(dir: &Dir, name: &OsStr) -> Result<Attributes> {
    dir.xattrs(name).map(belonging)
}

/// Those of an open file, sorted by name.
pub(super) fn of_open(file: &File) -> Result<Attributes> {
    xattrs_open(file).map(belonging)
}

/// Those of a folder, sorted by name.
pub(super) fn of_folder(dir: &Dir) -> Result<Attributes> {
    dir.xattrs_self().map(belonging)
}

fn belonging(mut all: Attributes) -> Attributes {
    all.retain(|(key, _)| {
        let key = key.as_bytes();
        let of_host = key.starts_with(b"security.") && key != b"security.capability";
        !of_host && !key.starts_with(b"trusted.overlay.")
    });
    all.sort();
    all
}

/// Adds them to a hash.
pub(super) fn hash(hasher: &mut Sha256, attributes: &Attributes) {
    for (key, value) in attributes {
        hasher.update(key.as_bytes());
        hasher.update(format!("\0{}\0", value.len()));
        hasher.update(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_of_a_file_is_not_the_files() {
        let all = ["user.b", "trusted.overlay.opaque", "trusted.a", "security.selinux"];
        let more = ["security.capability", "system.posix_acl_access"];
        let all = all.iter().chain(&more).map(|k| (OsString::from(k), Vec::new())).collect();
        let kept: Vec<OsString> = belonging(all).into_iter().map(|(k, _)| k).collect();
        assert_eq!(kept, ["security.capability", "system.posix_acl_access", "trusted.a", "user.b"]);
    }
}

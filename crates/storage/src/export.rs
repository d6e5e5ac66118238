//! Archives of a tree or a part of it: `docker export`, `docker cp` out of a container.

use crate::{
    error::io,
    pack::{self, Stream, Tree},
};
use base::Result;
use std::{ffi::OsStr, io::Write, os::unix::ffi::OsStrExt as _, path::Path};
use sys::{
    idmap::Maps,
    root::{Kind, Root},
};

/// Writes all below `root` as a tar.
///
/// # Errors
/// Of the disk and of `out`.
pub fn export_tree(root: &Root, out: &mut dyn Write) -> Result<()> {
    let mut sink = Stream(out);
    let dir = root.dir().map_err(|e| io("cannot read the tree", e))?;
    pack::pack(&dir, b"", Tree::Plain, None, &mut sink)?;
    pack::end(&mut sink)
}

/// Something in an archive with others.
#[derive(Clone, Copy, Debug)]
pub enum Part<'p> {
    /// All below a root, in a folder of this name; not in one when it is empty.
    Tree(&'p OsStr, &'p Root),
    /// A file of root's, and what is in it.
    File(&'p OsStr, &'p [u8]),
}

/// Writes several things as one tar.
///
/// # Errors
/// Of the disk and of `out`.
pub fn export_parts(parts: &[Part<'_>], out: &mut dyn Write) -> Result<()> {
    let mut sink = Stream(out);
    for part in parts {
        match part {
            Part::Tree(name, root) => {
                let dir = root.dir().map_err(|e| io("cannot read the tree", e))?;
                let prefix = match name.as_bytes() {
                    b"" => Vec::new(),
                    name => {
                        pack::pack_folder(&dir, name, None, &mut sink)?;
                        [name, b"/"].concat()
                    }
                };
                pack::pack(&dir, &prefix, Tree::Plain, None, &mut sink)?;
            }
            Part::File(name, content) => pack::pack_bytes(name.as_bytes(), content, &mut sink)?,
        }
    }
    pack::end(&mut sink)
}

/// Writes what is at `path`, a folder with all in it, as a tar whose first entry is `name` (`/` puts a slash before
/// all names). A symlink at `path` is written as such. `maps` are those of the container whose tree it is, when it
/// is seen as the host sees it: the tar has the owners as they are inside. What the kernel makes up (`/proc` and its kin) is left out.
///
/// # Errors
/// `NotFound` when there is nothing at `path`; of the disk and of `out`.
pub fn export_path(
    root: &Root,
    path: &Path,
    name: &OsStr,
    maps: Option<&Maps>,
    out: &mut dyn Write,
) -> Result<()> {
    let mut sink = Stream(out);
    let tried = |e: sys::root::Error| {
        let text = format!("cannot read {}", path.display());
        if e.is_missing() { base::Error::not_found(text).caused_by(e) } else { io(text, e) }
    };
    let stat = root.lstat(path).map_err(tried)?;
    if stat.kind == Kind::Dir {
        let dir = root.open_dir(path).map_err(tried)?;
        pack::pack_folder(&dir, name.as_bytes(), maps, &mut sink)?;
        let name = name.as_bytes().strip_suffix(b"/").unwrap_or(name.as_bytes());
        pack::pack(&dir, &[name, b"/"].concat(), Tree::Plain, maps, &mut sink)?;
    } else {
        let (dir, own) = root.parent(path).map_err(tried)?;
        pack::pack_one(&dir, &own, name.as_bytes(), maps, &mut sink)?;
    }
    pack::end(&mut sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, Smith, gnu_tar};

    #[test]
    fn a_part_of_a_tree_is_named_as_asked() {
        let host = Host::new();
        let tar = Smith::default()
            .dir("a")
            .dir("a/b")
            .file("a/b/f", b"content")
            .link("a/b/g", b"a/b/f")
            .symlink("a/s", b"/etc")
            .end();
        let view = host.snapshots.view(&[host.layer(&[], &tar)]).unwrap();
        let names = |path: &str, name: &str| {
            let mut out = Vec::new();
            export_path(&view, Path::new(path), OsStr::new(name), None, &mut out).unwrap();
            let file = host.dir.path().join("out.tar");
            std::fs::write(&file, out).unwrap();
            let list = gnu_tar(host.dir.path(), &["-tf", file.to_str().unwrap()]);
            String::from_utf8(list).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names("/a/b", "new"), ["new/", "new/f", "new/g"]);
        assert_eq!(names("/a/b/f", "x"), ["x"]);
        assert_eq!(names("a/s", "s"), ["s"]);
        let none = export_path(&view, Path::new("/no"), OsStr::new("no"), None, &mut Vec::new());
        assert_eq!(none.unwrap_err().kind(), base::Kind::NotFound);
        let mut several = Vec::new();
        let name = OsStr::new("x");
        let parts =
            [Part::Tree(name, &view), Part::Tree(OsStr::new(""), &view), Part::File(name, b"1")];
        export_parts(&parts, &mut several).unwrap();
        let file = host.dir.path().join("several.tar");
        std::fs::write(&file, several).unwrap();
        let list = gnu_tar(host.dir.path(), &["-tf", file.to_str().unwrap()]);
        let list = String::from_utf8(list).unwrap();
        for want in ["x/", "x/a/b/f", "a/b/g", "x"] {
            assert_eq!(list.lines().filter(|l| *l == want).count(), 1, "{want}: {list}");
        }
        let mut whole = Vec::new();
        export_tree(&view, &mut whole).unwrap();
        assert_eq!(host.layer(&[], &whole), base::Digest::sha256(&whole));
    }
}

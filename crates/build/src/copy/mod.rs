//! `COPY` and `ADD`: finding sources, naming them by content, and putting them into a tree.
//!
//! Flow: [`gather`] resolves patterns over a source tree and hashes what it finds; the hashes make the
//! history comment, and with it the cache key; on a miss [`Transfer::run`] writes into a workspace.
//! Invariants: all paths are resolved inside their root, by the kernel for what exists and by
//! [`scoped`] for what does not yet; nothing is read from a special file; times are never hashed.
//! Source: docker 28 `builder/dockerfile/copy.go` (behaviour).

mod action;
mod attributes;
mod changes;
mod files;
mod hash;
mod owner;
mod place;
mod scoped;
mod walk;

pub use action::{Action, Selection, contents};
pub use changes::transfer_changes;
pub use hash::digest_of_file;
pub use owner::{Mode, Owner};

use crate::{draft::Copy, go};
use base::{Error, Result, hex};
use place::Placer;
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::root::{Kind, Root};

/// A source that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// `file:<hex>` or `dir:<hex>`.
    pub hash: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// In a tree; `path` is relative and its last component names the copy.
    Tree { root: Arc<Root>, path: PathBuf, archive: Archive },
    /// A here-document.
    Inline { name: String, content: String },
}

/// Whether an archive is unpacked or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// As it is: `COPY`, and downloads.
    Keep,
    /// Into the destination: `ADD` of a local file.
    Unpack,
}

/// Whose tree sources come from; it decides the words of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// The build context.
    Context,
    /// A stage or an image.
    Image,
}

/// Finds what `pattern` means in `root` and hashes it. Blocks.
///
/// # Errors
/// `NotFound` with docker's wording; `Invalid` for a path that leads outside.
pub fn gather(root: &Arc<Root>, tree: Tree, pattern: &str, archive: Archive) -> Result<Vec<Found>> {
    let path = pattern.strip_prefix('/').unwrap_or(pattern);
    let path = path.strip_prefix("./").unwrap_or(path);
    if !has_wildcards(path) {
        return Ok(vec![single(root, tree, path, archive)?]);
    }
    let found = walk::matching(root, path)?;
    found.iter().map(|rel| single(root, tree, rel, archive)).collect()
}

/// Paths in a tree that match a pattern, absolute, in lexical order. Blocks.
///
/// # Errors
/// Of the disk.
pub fn matching(root: &Root, pattern: &str) -> Result<Vec<String>> {
    Ok(walk::matching(root, pattern)?.into_iter().map(|path| format!("/{path}")).collect())
}

/// The file of exactly this name. Blocks.
///
/// # Errors
/// `NotFound` when there is none.
pub fn exact(root: &Arc<Root>, name: &str) -> Result<Found> {
    single(root, Tree::Image, name, Archive::Keep)
}

/// A here-document as a source.
pub fn inline(name: &str, content: &str) -> Found {
    let mut hasher = Sha256::new();
    hasher.update(format!("inline\0{name}\0{}\0", content.len()));
    hasher.update(content);
    Found {
        hash: format!("file:{}", hex(&hasher.finalize())),
        what: What::Inline { name: name.to_owned(), content: content.to_owned() },
    }
}

/// The one word that stands for all sources in history and cache.
pub fn joint_hash(found: &[Found]) -> String {
    match found {
        [one] => one.hash.clone(),
        many => {
            let hashes: Vec<&str> = many.iter().map(|f| f.hash.as_str()).collect();
            format!("multi:{}", hex(&Sha256::digest(hashes.join(","))))
        }
    }
}

fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

fn single(root: &Arc<Root>, tree: Tree, path: &str, archive: Archive) -> Result<Found> {
    let clean = scoped::clean(Path::new(path)).ok_or_else(|| {
        Error::invalid(format!("forbidden path outside the build context: {path} ()"))
    })?;
    let stat = match root.stat(in_root(&clean)) {
        Ok(stat) => stat,
        Err(err) if is_absent(&err) => {
            let missing = Error::not_found(format!("stat {path}: file does not exist"));
            return Err(match tree {
                Tree::Context => {
                    Error::not_found("file not found in build context or excluded by .dockerignore")
                        .caused_by(missing)
                }
                Tree::Image => missing,
            });
        }
        Err(err) => return Err(failed(format!("cannot look at {path}"), err)),
    };
    let hash = match stat.kind {
        Kind::Dir => format!("dir:{}", hash::tree(root, &clean)?),
        _ => format!("file:{}", hash::file(root, &clean)?),
    };
    Ok(Found { hash, what: What::Tree { root: root.clone(), path: clean, archive } })
}

fn is_absent(err: &sys::root::Error) -> bool {
    let err: std::io::Error = err.clone().into();
    matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Absolute form of a path relative to the root; the empty path is the root itself.
fn in_root(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

pub(crate) fn failed(what: String, err: sys::root::Error) -> Error {
    Error::io(what, err.into())
}

/// A copy that is about to be made.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Transfer<'c> {
    /// The instruction.
    pub copy: &'c Copy,
    /// Its sources.
    pub found: &'c [Found],
    /// The working folder, which a relative destination starts from.
    pub working_dir: &'c str,
    /// Unpacks an archive into a tree.
    pub unpack: &'c UnpackFn<'c>,
}

/// Unpacks an archive, compressed or not, into a tree.
pub type UnpackFn<'c> = dyn Fn(File, &Root) -> Result<()> + 'c;

impl Transfer<'_> {
    /// Writes all sources into `to`. Blocks.
    ///
    /// # Errors
    /// `Invalid` for an unknown owner; of the disk.
    pub fn run(&self, to: &Root) -> Result<()> {
        let owner = match &self.copy.chown {
            Some(chown) => Some(Owner::parse(chown, to).map_err(|cause| {
                Error::invalid("unable to convert uid/gid chown string to host mapping")
                    .caused_by(cause)
            })?),
            // What comes from another image keeps its owner, what comes from outside is root's.
            None if self.copy.from.is_some() => None,
            None => Some(Owner { uid: 0, gid: 0 }),
        };
        let mode = self.copy.chmod.as_deref().map(owner::parse_mode).transpose()?;
        let mode = mode.map(Mode::Set);
        let dest = scoped::join(self.working_dir, &self.copy.dest);
        let into_dir = self.copy.dest.ends_with('/')
            || self.copy.dest.ends_with("/.")
            || self.copy.dest == ".";
        let path = scoped::resolve(to, &dest)?;
        let mut placer = Placer::new(to, owner, mode);
        for found in self.found {
            self.one(&mut placer, found, &path, into_dir).map_err(|cause| {
                Error::new(cause.kind(), "failed to copy files").caused_by(cause)
            })?;
        }
        placer.finish()
    }

    fn one(
        &self,
        placer: &mut Placer<'_>,
        found: &Found,
        dest: &Path,
        into_dir: bool,
    ) -> Result<()> {
        let named = |name: &Path| -> Result<PathBuf> {
            if into_dir || placer.is_dir(dest)? {
                let name = name.file_name().map_or_else(|| OsString::from("_"), OsString::from);
                return Ok(dest.join(name));
            }
            Ok(dest.to_owned())
        };
        match &found.what {
            What::Inline { name, content } => {
                let target = named(Path::new(name))?;
                placer.content(content.as_bytes(), &target)
            }
            What::Tree { root, path, archive } => {
                let source = root.canonical(in_root(path)).map_err(|e| {
                    failed(
                        format!("source path not found: {}", go::quote(&path.to_string_lossy())),
                        e,
                    )
                })?;
                let stat = root
                    .stat(&source)
                    .map_err(|e| failed(format!("cannot look at {}", path.display()), e))?;
                if stat.kind == Kind::Dir {
                    return placer.tree(root, &source, dest);
                }
                if *archive == Archive::Unpack
                    && stat.kind == Kind::File
                    && is_archive(root, &source)
                {
                    let file = root
                        .open_file(&source)
                        .map_err(|e| failed(format!("cannot read {}", path.display()), e))?;
                    let target = placer.folder(dest)?;
                    return (self.unpack)(file, &target);
                }
                let target = named(path)?;
                placer.file(root, &source, &target)
            }
        }
    }
}

/// Whether a file is a tar archive, compressed or not: its first header can be read. Blocks.
pub fn is_archive(root: &Root, path: &Path) -> bool {
    use std::io::Read as _;
    let Ok(file) = root.open_file(path) else { return false };
    let Ok((_, mut plain)) = image::decompress::open(file, &image::Limits::default()) else {
        return false;
    };
    let mut header = [0_u8; 512];
    plain.read_exact(&mut header).is_ok() && is_tar_header(&header)
}

/// Whether the checksum of a tar header is right.
fn is_tar_header(header: &[u8; 512]) -> bool {
    let field = std::str::from_utf8(&header[148..156]).unwrap_or_default();
    let digits = field.trim_matches(|c: char| c == ' ' || c == '\0');
    let Ok(want) = i64::from_str_radix(digits, 8) else { return false };
    let byte = |index: usize, b: u8| if (148..156).contains(&index) { b' ' } else { b };
    let sum = |value: fn(u8) -> i64| -> i64 {
        header.iter().enumerate().map(|(i, b)| value(byte(i, *b))).sum()
    };
    // Old tars added signed bytes.
    header[0] != 0 && (sum(i64::from) == want || sum(|b| i64::from(b as i8)) == want)
}

#[cfg(test)]
mod tests;

//! One copy as BuildKit's LLB says it (`FileActionCopy`): a source path or pattern of one tree, with what to
//! take of it, to a path of another.
//!
//! Flow: [`Action::select`] finds the sources; [`Selection::hash`] names them by content for the cache;
//! [`Selection::run`] writes. Source: BuildKit `solver/llbsolver/file` and fsutil's `copy` (behaviour).

use super::{
    Mode, Owner, UnpackFn, attributes, failed, hash::read_only, in_root, is_absent, is_archive,
    place::Placer, scoped, walk,
};
use crate::ignore::Ignore;
use base::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::root::{Dir, Kind, Root, Stat, Time};

/// What is copied, and how.
#[derive(Clone, Debug, Default)]
pub struct Action {
    /// Path or pattern in the source tree.
    pub src: String,
    /// Path in the target tree; a `/` at its end means a folder.
    pub dest: String,
    /// A symlink at the end of `src` is followed.
    pub follow: bool,
    /// What is in a folder is copied, not the folder.
    pub contents: bool,
    /// Archives are unpacked.
    pub unpack: bool,
    /// Folders above `dest` are made.
    pub make_parents: bool,
    /// `src` is a pattern.
    pub wildcard: bool,
    /// A pattern may match nothing.
    pub empty: bool,
    /// Only what matches is copied; everything when there are none.
    pub include: Vec<String>,
    /// What matches is left out.
    pub exclude: Vec<String>,
    /// Something of another kind in the way is replaced.
    pub replace: bool,
    /// Whose the copies are; their own otherwise.
    pub owner: Option<Owner>,
    /// Mode of the copies; their own otherwise.
    pub mode: Option<Mode>,
    /// Time of the copies; their own otherwise.
    pub time: Option<Time>,
}

/// Hashes of files' bytes that are known without reading them.
pub type Known<'k> = dyn Fn(&Path, &Stat) -> Option<[u8; 32]> + Sync + 'k;

/// Hears what stands for a file or folder: its path in the tree, and its hash.
pub type Tell<'t> = dyn FnMut(&Path, &[u8; 32]) + 't;

/// Sources that were found.
#[derive(Debug)]
pub struct Selection {
    root: Arc<Root>,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    /// What the copy is called after.
    name: PathBuf,
    /// Where it really is, absolute.
    path: PathBuf,
    stat: Stat,
    /// What of a folder is taken, below it; all when absent.
    chosen: Option<HashSet<PathBuf>>,
}

impl Action {
    /// Finds the sources in `root`. Blocks.
    ///
    /// # Errors
    /// `NotFound` when there is nothing; `Invalid` for a malformed pattern.
    pub fn select(&self, root: &Arc<Root>) -> Result<Selection> {
        let src = self.src.trim_start_matches('/');
        let clean = scoped::clean(Path::new(src)).unwrap_or_default();
        let mut paths = vec![clean.clone()];
        if self.wildcard && super::has_wildcards(src) {
            paths = walk::matching(root, &clean.to_string_lossy())?
                .into_iter()
                .map(Into::into)
                .collect();
            if paths.is_empty() && !self.empty {
                return Err(Error::not_found(format!(
                    "lstat {}: no such file or directory",
                    self.src
                )));
            }
        }
        let mut sources = Vec::new();
        for name in paths {
            sources.push(self.source(root, name)?);
        }
        Ok(Selection { root: Arc::clone(root), sources })
    }

    fn source(&self, root: &Root, name: PathBuf) -> Result<Source> {
        let absolute = in_root(&name);
        let found = match self.follow {
            true => root.canonical(&absolute).and_then(|path| Ok((root.lstat(&path)?, path))),
            false => {
                parent_followed(root, &absolute).and_then(|path| Ok((root.lstat(&path)?, path)))
            }
        };
        let (stat, path) = match found {
            Ok(found) => found,
            Err(err) if is_absent(&err) => {
                return Err(Error::not_found(format!("\"/{}\": not found", name.display())));
            }
            Err(err) => return Err(failed(format!("cannot look at {}", name.display()), err)),
        };
        let mut source = Source { name, path, stat, chosen: None };
        if source.stat.kind == Kind::Dir && !(self.include.is_empty() && self.exclude.is_empty()) {
            source.chosen = Some(self.choose(root, &source.path)?);
        }
        Ok(source)
    }

    /// Paths below the folder `top` that the patterns leave, with the folders above them.
    fn choose(&self, root: &Root, top: &Path) -> Result<HashSet<PathBuf>> {
        let include = Ignore::parse(&self.include.join("\n"))?;
        let exclude = Ignore::parse(&self.exclude.join("\n"))?;
        let top = top.strip_prefix("/").unwrap_or(top).to_owned();
        let mut chosen = HashSet::new();
        walk::below(root, &top, |entry| {
            let rel = entry.path.strip_prefix(&top).unwrap_or(entry.path);
            let text = rel.to_string_lossy();
            let wanted = self.include.is_empty() || include.excludes(&text);
            if wanted && !exclude.excludes(&text) {
                for above in rel.ancestors() {
                    if above.as_os_str().is_empty() || !chosen.insert(above.to_owned()) {
                        break;
                    }
                }
            }
            Ok(true)
        })?;
        Ok(chosen)
    }
}

/// `path` with the symlinks of its folders resolved, but not one at its end.
fn parent_followed(root: &Root, path: &Path) -> sys::root::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(root.canonical(parent)?.join(name)),
        _ => Ok(PathBuf::from("/")),
    }
}

impl Selection {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Names what was found by content: names, types, modes, owners and bytes; never times. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn hash(&self, known: &Known<'_>) -> Result<[u8; 32]> {
        self.hash_told(known, &mut |_, _| {})
    }

    /// As [`hash`](Self::hash); `tell` hears of each file and folder what stands for it. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn hash_told(&self, known: &Known<'_>, tell: &mut Tell<'_>) -> Result<[u8; 32]> {
        let mut all = Sha256::new();
        for source in &self.sources {
            all.update(source.name.file_name().unwrap_or_default().as_bytes());
            all.update(b"\0");
            all.update(hash_of(&self.root, source, known, tell)?);
        }
        Ok(all.finalize().into())
    }

    /// Writes what was found into `to`. Blocks.
    ///
    /// # Errors
    /// `Invalid` for what cannot be copied; of the disk.
    pub fn run(&self, action: &Action, to: &Root, unpack: &UnpackFn<'_>) -> Result<()> {
        let dest = scoped::join("/", &action.dest);
        let into_dir = action.dest.ends_with('/') || action.dest.ends_with("/.");
        let path = scoped::resolve(to, &dest)?;
        let mut placer = Placer::new(to, action.owner, action.mode.clone()).at(action.time);
        if let (false, Some(parent)) = (action.make_parents, path.parent())
            && !placer.is_dir(parent)?
        {
            return Err(Error::not_found(format!(
                "{}: no such file or directory",
                parent.display()
            )));
        }
        for source in &self.sources {
            self.one(&mut placer, action, source, &path, into_dir, unpack)?;
        }
        placer.finish()
    }

    fn one(
        &self,
        placer: &mut Placer<'_>,
        action: &Action,
        source: &Source,
        dest: &Path,
        into_dir: bool,
        unpack: &UnpackFn<'_>,
    ) -> Result<()> {
        if action.unpack && source.stat.kind == Kind::File && is_archive(&self.root, &source.path) {
            let read = |e| failed(format!("cannot read {}", source.name.display()), e);
            let file = self.root.open_file(&source.path).map_err(read)?;
            return unpack(file, &placer.folder(dest)?);
        }
        let below = |dest: &Path| match source.name.file_name() {
            Some(name) => dest.join(name),
            None => dest.to_owned(),
        };
        if source.stat.kind == Kind::Dir {
            let target = match action.contents {
                true => dest.to_owned(),
                false if into_dir || placer.is_dir(dest)? => below(dest),
                false => dest.to_owned(),
            };
            if !placer.is_dir(&target)? && placer.exists(&target)? {
                if !action.replace {
                    return Err(Error::invalid(format!(
                        "cannot copy to non-directory: {}",
                        target.display()
                    )));
                }
                placer.remove(&target)?;
            }
            let choose =
                |rel: &Path, _: bool| source.chosen.as_ref().is_none_or(|c| c.contains(rel));
            return placer.chosen(&self.root, &source.path, &target, Some(&source.stat), &choose);
        }
        let target = match into_dir || placer.is_dir(dest)? {
            true => below(dest),
            false => dest.to_owned(),
        };
        if placer.is_dir(&target)? && !action.replace {
            return Err(Error::invalid(format!(
                "cannot overwrite directory {} with file",
                target.display()
            )));
        }
        placer.file(&self.root, &source.path, &target)
    }
}

/// Names the tree at `path` (a file or a folder with all in it) by content. Blocks.
///
/// # Errors
/// `NotFound` when there is nothing; of the disk.
pub fn contents(
    root: &Arc<Root>,
    path: &Path,
    known: &Known<'_>,
    tell: &mut Tell<'_>,
) -> Result<[u8; 32]> {
    let action =
        Action { follow: true, src: path.to_string_lossy().into_owned(), ..Action::default() };
    action.select(root)?.hash_told(known, tell)
}

fn hash_of(
    root: &Root,
    source: &Source,
    known: &Known<'_>,
    tell: &mut Tell<'_>,
) -> Result<[u8; 32]> {
    let fail = |e| failed(format!("cannot read {}", source.name.display()), e);
    if source.stat.kind != Kind::Dir {
        let (dir, name) = root.parent(&source.path).map_err(fail)?;
        let sum = entry(&dir, name.as_ref(), Path::new(""), &source.path, &source.stat, known)?;
        tell(&source.path, &sum);
        return Ok(sum);
    }
    let top = source.path.strip_prefix("/").unwrap_or(&source.path).to_owned();
    let mut hashes = Vec::new();
    walk::below(root, &top, |e| {
        let rel = e.path.strip_prefix(&top).unwrap_or(e.path);
        if source.chosen.as_ref().is_some_and(|c| !c.contains(rel)) {
            return Ok(false);
        }
        let sum = entry(e.dir, e.name.as_ref(), rel, &in_root(e.path), &e.stat, known)?;
        tell(e.path, &sum);
        hashes.push(sum);
        Ok(true)
    })?;
    hashes.sort_unstable();
    let mut all = Sha256::new();
    all.update(format!("dir\0{:o}\0{}\0{}\0", source.stat.mode, source.stat.uid, source.stat.gid));
    let own = root.open_dir(&source.path).and_then(|dir| attributes::of_folder(&dir));
    attributes::hash(&mut all, &own.map_err(fail)?);
    hashes.iter().for_each(|hash| all.update(hash));
    Ok(all.finalize().into())
}

fn entry(
    dir: &Dir,
    name: &Path,
    rel: &Path,
    path: &Path,
    stat: &Stat,
    known: &Known<'_>,
) -> Result<[u8; 32]> {
    let fail = |e| failed(format!("cannot read {}", path.display()), e);
    let size = if stat.kind == Kind::File { stat.size } else { 0 };
    let mut hasher = Sha256::new();
    hasher.update(rel.as_os_str().as_bytes());
    hasher.update(format!(
        "\0{:?}\0{:o}\0{}\0{}\0{size}\0{}\0{}\0",
        stat.kind, stat.mode, stat.uid, stat.gid, stat.rdev.0, stat.rdev.1
    ));
    attributes::hash(&mut hasher, &attributes::of(dir, name.as_os_str()).map_err(fail)?);
    match stat.kind {
        Kind::Symlink => hasher.update(dir.readlink(name).map_err(fail)?.as_bytes()),
        Kind::File => {
            let sum = match known(path, stat) {
                Some(sum) => sum,
                None => {
                    let file = dir.open_file(name, read_only()).map_err(fail)?;
                    bytes(file)
                        .map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?
                }
            };
            hasher.update(sum);
        }
        Kind::Dir | Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => {}
    }
    Ok(hasher.finalize().into())
}

fn bytes(mut file: std::fs::File) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

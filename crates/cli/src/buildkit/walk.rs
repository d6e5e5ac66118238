//! Which files of a folder are told to the engine: those that patterns leave, in the order of their names,
//! folders before what is in them.
//!
//! Source: fsutil's walker and `FollowLinks` (behaviour).

use super::wire::fsutil;
use crate::ignore::Ignore;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Symlinks followed for one path.
const LINKS: usize = 255;

/// What of a folder is wanted, as the engine says it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) follow: Vec<String>,
}

/// A walk under way.
struct Walk<'w> {
    root: &'w Path,
    /// Nothing means everything.
    include: Option<Include>,
    exclude: Ignore,
    tell: &'w mut dyn FnMut(PathBuf, fsutil::Stat) -> io::Result<()>,
    /// First names of files that have several.
    names: HashMap<(u64, u64), String>,
    /// Folders that were told of.
    told: HashSet<String>,
}

struct Include {
    patterns: Ignore,
    /// Paths without wildcards, for which alone folders are entered; nothing means all are.
    plain: Option<Vec<String>>,
}

impl Include {
    fn of(paths: &BTreeSet<String>) -> Self {
        let lines: Vec<&str> = paths.iter().map(String::as_str).collect();
        let plain = paths.iter().all(|p| !p.contains(['*', '?', '[', '!', '\\']));
        Self {
            patterns: Ignore::parse(&lines.join("\n")),
            plain: plain.then(|| paths.iter().cloned().collect()),
        }
    }

    fn takes(&self, path: &str) -> bool {
        match &self.plain {
            Some(paths) => paths.iter().any(|p| p.is_empty() || is_at_or_below(path, p)),
            None => self.patterns.ignores(path),
        }
    }

    fn enters(&self, folder: &str) -> bool {
        match &self.plain {
            Some(paths) => paths
                .iter()
                .any(|p| p.is_empty() || is_at_or_below(folder, p) || is_at_or_below(p, folder)),
            None => true,
        }
    }
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Tells of what is wanted of the folder `root`: where it is, and what it is. Blocks.
///
/// # Errors
/// Of the disk, and of `tell`.
pub(super) fn walk(
    root: &Path,
    wanted: &Wanted,
    tell: &mut dyn FnMut(PathBuf, fsutil::Stat) -> io::Result<()>,
) -> io::Result<()> {
    let mut include: BTreeSet<String> = wanted.include.iter().map(|p| straight(p)).collect();
    for path in &wanted.follow {
        follow(root, &straight(path), &mut include)?;
    }
    let restricted = !(wanted.include.is_empty() && wanted.follow.is_empty());
    let mut walk = Walk {
        root,
        include: restricted.then(|| Include::of(&include)),
        exclude: Ignore::parse(&wanted.exclude.join("\n")),
        tell,
        names: HashMap::new(),
        told: HashSet::new(),
    };
    walk.folder("")
}

fn straight(path: &str) -> String {
    let parts = path.split('/').filter(|p| !p.is_empty() && *p != ".");
    parts.collect::<Vec<_>>().join("/")
}

impl Walk<'_> {
    fn folder(&mut self, at: &str) -> io::Result<()> {
        let path = self.root.join(at);
        let mut names: Vec<_> =
            fs::read_dir(&path).map_err(|e| named(&path, &e))?.collect::<io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let Ok(name) = entry.file_name().into_string() else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: the name is not UTF-8", entry.path().display()),
                ));
            };
            let inner = if at.is_empty() { name } else { format!("{at}/{name}") };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // What has gone since the folder was read is not there.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(named(&entry.path(), &err)),
            };
            let ignored = self.exclude.ignores(&inner);
            let taken = !ignored && self.include.as_ref().is_none_or(|i| i.takes(&inner));
            if taken {
                self.entry(&inner, &meta)?;
            }
            if meta.is_dir()
                && (!ignored || self.exclude.may_keep_below(&inner))
                && self.include.as_ref().is_none_or(|i| i.enters(&inner))
            {
                self.folder(&inner)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, meta: &fs::Metadata) -> io::Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/')
            && !self.told.contains(parent)
        {
            let above = fs::symlink_metadata(self.root.join(parent))?;
            self.entry(parent, &above)?;
        }
        if meta.is_dir() && !self.told.insert(path.to_owned()) {
            return Ok(());
        }
        let place = self.root.join(path);
        let mut stat = fsutil::Stat {
            path: path.to_owned(),
            mode: sys::go_mode::of_raw(meta.mode()),
            // Who owns the files here means nothing there.
            uid: 0,
            gid: 0,
            size: if meta.is_file() { i64::try_from(meta.len()).unwrap_or(i64::MAX) } else { 0 },
            mod_time: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            ..fsutil::Stat::default()
        };
        if meta.is_symlink() {
            let target = fs::read_link(&place).map_err(|e| named(&place, &e))?;
            stat.linkname = target.to_string_lossy().into_owned();
        } else if meta.is_file() && meta.nlink() > 1 {
            let key = (meta.dev(), meta.ino());
            match self.names.get(&key) {
                Some(first) => {
                    stat.linkname = first.clone();
                    stat.size = 0;
                }
                None => drop(self.names.insert(key, path.to_owned())),
            }
        } else if !meta.is_dir() && !meta.is_file() {
            stat.devmajor = i64::from(rustix::fs::major(meta.rdev()));
            stat.devminor = i64::from(rustix::fs::minor(meta.rdev()));
        }
        (self.tell)(place, stat)
    }
}

fn named(path: &Path, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {}", path.display(), crate::error::text(err)))
}

/// Adds a path, and what symlinks on it lead to.
fn follow(root: &Path, path: &str, into: &mut BTreeSet<String>) -> io::Result<()> {
    let mut open = vec![(String::new(), path.to_owned())];
    let mut links = 0;
    while let Some((mut done, rest)) = open.pop() {
        let mut parts: Vec<String> =
            rest.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        parts.reverse();
        let mut whole = true;
        while let Some(part) = parts.pop() {
            let join = |name: &str| match done.is_empty() {
                true => name.to_owned(),
                false => format!("{done}/{name}"),
            };
            if part == ".." {
                done = done.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned());
                continue;
            }
            if part.contains(['*', '?', '[']) {
                parts.reverse();
                let rest = parts.join("/");
                let pattern = Ignore::parse(&part);
                for entry in fs::read_dir(root.join(&done)).into_iter().flatten() {
                    let name = entry?.file_name().to_string_lossy().into_owned();
                    if pattern.ignores(&name) {
                        open.push((done.clone(), format!("{name}/{rest}")));
                    }
                }
                whole = false;
                break;
            }
            let next = join(&part);
            let target = fs::read_link(root.join(&next));
            if let Ok(target) = target {
                into.insert(next);
                links += 1;
                if links > LINKS {
                    return Err(io::Error::other(format!("{path}: too many symlinks")));
                }
                let target = target.to_string_lossy().into_owned();
                parts.reverse();
                let rest = format!("{target}/{}", parts.join("/"));
                let from = if target.starts_with('/') { String::new() } else { done.clone() };
                open.push((from, rest));
                whole = false;
                break;
            }
            done = next;
        }
        if whole {
            into.insert(done);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(root: &Path, wanted: &Wanted) -> Vec<String> {
        let mut all = Vec::new();
        walk(root, wanted, &mut |_, stat| {
            all.push(stat.path);
            Ok(())
        })
        .unwrap();
        all
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn what_is_wanted_is_told_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["a/deep", "out", "real"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["a/deep/x", "a/y", "a.txt", "out/o", "real/r", "real/s"] {
            fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        fs::hard_link(at("real/r"), at("zz")).unwrap();
        let all = told(dir.path(), &Wanted::default());
        let want =
            ["a", "a/deep", "a/deep/x", "a/y", "a.txt", "link", "out", "out/o", "real", "real/r"];
        assert_eq!(all[..10], want);
        let wanted = Wanted { exclude: list(&["out", "a/*", "!a/y"]), ..Wanted::default() };
        assert_eq!(told(dir.path(), &wanted)[..3], ["a", "a/y", "a.txt"]);
        let wanted = Wanted { follow: list(&["link/r", "a/deep"]), ..Wanted::default() };
        assert_eq!(
            told(dir.path(), &wanted),
            ["a", "a/deep", "a/deep/x", "link", "real", "real/r"]
        );
        let wanted = Wanted { follow: list(&["*.txt", "none"]), ..Wanted::default() };
        assert_eq!(told(dir.path(), &wanted), ["a.txt"]);
        let mut linked = None;
        walk(dir.path(), &Wanted::default(), &mut |_, stat| {
            if stat.path == "zz" {
                linked = Some(stat.linkname);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(linked.as_deref(), Some("real/r"));
    }
}

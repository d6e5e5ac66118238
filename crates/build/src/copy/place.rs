//! Writing copies into a tree: files, folders, links and special files with mode, owner, attributes and
//! times, replacing what is in the way as unpacking a tar does.

use super::{
    Mode, Owner,
    attributes::{self, Attributes},
    failed,
    files::{Dress, Files},
    walk,
};
use base::{Error, Result};
use std::{
    collections::HashMap,
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::root::{Dir, Kind, Node, Root, Stat, Time, chmod_open, chown_open, set_open, set_xattrs};

/// Mode of folders that are made on the way.
const FOLDER: u32 = 0o755;

/// Puts copies into one tree.
pub(super) struct Placer<'r> {
    root: &'r Root,
    /// What all get instead of their own.
    dress: Dress,
    /// Times and attributes of folders, set when nothing more goes into them: files would inherit access lists.
    folders: Vec<(PathBuf, Time, Attributes)>,
    /// First copy of each file with several names.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'r> Placer<'r> {
    pub(super) fn new(root: &'r Root, owner: Option<Owner>, mode: Option<Mode>) -> Self {
        let dress = Dress { owner, mode, time: None };
        Self { root, dress, folders: Vec::new(), links: HashMap::new() }
    }

    /// Gives all files this time instead of their own.
    pub(super) fn at(mut self, time: Option<Time>) -> Self {
        self.dress.time = time;
        self
    }

    /// Whether `path` is a folder.
    pub(super) fn is_dir(&self, path: &Path) -> Result<bool> {
        match self.root.stat(path) {
            Ok(stat) => Ok(stat.kind == Kind::Dir),
            Err(err) if super::is_absent(&err) => Ok(false),
            Err(err) => Err(failed(format!("cannot look at {}", path.display()), err)),
        }
    }

    /// Whether there is anything at `path`.
    pub(super) fn exists(&self, path: &Path) -> Result<bool> {
        self.root.exists(path).map_err(|e| failed(format!("cannot look at {}", path.display()), e))
    }

    /// Removes what is at `path`.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        self.root
            .remove_all(path)
            .map_err(|e| failed(format!("cannot remove {}", path.display()), e))
    }

    /// The folder at `path`, made if it is not there.
    pub(super) fn folder(&self, path: &Path) -> Result<Root> {
        self.make_folders(path, None)?;
        self.root.subroot(path).map_err(|e| failed(format!("cannot open {}", path.display()), e))
    }

    fn make_folders(&self, path: &Path, owner: Option<Owner>) -> Result<bool> {
        let owner = owner.map_or((0, 0), |o| (o.uid, o.gid));
        self.root
            .mkdir_all(path, FOLDER, Some(owner))
            .map(|made| !made.is_empty())
            .map_err(|e| failed(format!("cannot create {}", path.display()), e))
    }

    /// Copies one file to `to`.
    pub(super) fn file(&mut self, root: &Root, from: &Path, to: &Path) -> Result<()> {
        let read = |e| failed(format!("cannot read {}", from.display()), e);
        let (dir, name) = root.parent(from).map_err(read)?;
        let stat = dir.stat(&name).map_err(read)?;
        let (into, target) = self.target(to)?;
        self.entry(&dir, &name, &stat, &into, &target, to)
    }

    /// Writes a file with this content.
    pub(super) fn content(&mut self, content: &[u8], to: &Path) -> Result<()> {
        let fail = |e| Error::io(format!("cannot write {}", to.display()), e);
        let (into, name) = self.target(to)?;
        clear(&into, &name, Kind::File).map_err(|e| fail(e.into()))?;
        let mut file = into.create_new(&name, 0o600).map_err(|e| fail(e.into()))?;
        file.write_all(content).map_err(fail)?;
        let owner = self.dress.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        set_open(&file, (owner.uid, owner.gid), self.dress.mode(0o644, false), self.dress.time)
            .map_err(|e| fail(e.into()))
    }

    /// The folder and name that `to` stands for, the folder made if need be.
    fn target(&self, to: &Path) -> Result<(Dir, std::ffi::OsString)> {
        let parent = to.parent().unwrap_or(Path::new("/"));
        self.make_folders(parent, self.dress.owner)?;
        self.root.parent(to).map_err(|e| failed(format!("cannot open {}", parent.display()), e))
    }

    /// Copies what is in the folder `from` into `to`.
    pub(super) fn tree(&mut self, root: &Root, from: &Path, to: &Path) -> Result<()> {
        self.chosen(root, from, to, None, &|_, _| true)
    }

    /// Copies what `choose` picks (path below `from`, whether it is a folder) of the folder `from` into `to`,
    /// which gets the mode `own` if it has to be made.
    pub(super) fn chosen(
        &mut self,
        root: &Root,
        from: &Path,
        to: &Path,
        own: Option<&Stat>,
        choose: &dyn Fn(&Path, bool) -> bool,
    ) -> Result<()> {
        if self.make_folders(to, None)? {
            let change = |e| failed(format!("cannot change {}", to.display()), e);
            let dir = self.root.open_dir(to).map_err(change)?;
            if let Some(owner) = self.dress.owner {
                chown_open(&dir, owner.uid, owner.gid).map_err(change)?;
            }
            if let (None, Some(stat)) = (self.dress.owner, own) {
                chown_open(&dir, stat.uid, stat.gid).map_err(change)?;
            }
            if own.is_some() || self.dress.mode.is_some() {
                let mode = self.dress.mode(own.map_or(FOLDER, |stat| stat.mode), true);
                chmod_open(&dir, mode).map_err(change)?;
            }
            if let Some(time) = self.dress.time.or(own.map(|stat| stat.mtime)) {
                let kept = match own {
                    Some(_) => root.open_dir(from).and_then(|dir| attributes::of_folder(&dir)),
                    None => Ok(Attributes::new()),
                };
                self.folders.push((to.to_owned(), time, kept.map_err(change)?));
            }
        }
        let top = from.strip_prefix("/").unwrap_or(from).to_owned();
        let mut current: Option<(PathBuf, Arc<Dir>)> = None;
        let mut files = Files::new(self.dress.clone());
        walk::below(root, &top, |entry| {
            let rel = entry.path.strip_prefix(&top).unwrap_or(entry.path);
            if !choose(rel, entry.stat.kind == Kind::Dir) {
                return Ok(false);
            }
            let target = to.join(rel);
            let parent = target.parent().unwrap_or(to);
            if current.as_ref().is_none_or(|(path, _)| path != parent) {
                let dir = self
                    .root
                    .open_dir(parent)
                    .map_err(|e| failed(format!("cannot open {}", parent.display()), e))?;
                current = Some((parent.to_owned(), Arc::new(dir)));
            }
            let Some((_, into)) = &current else { return Ok(false) };
            let name = target.file_name().unwrap_or_default();
            if entry.stat.kind == Kind::File && entry.stat.nlink == 1 {
                files.add((entry.dir, entry.name), &entry.stat, (into, name), parent)?;
            } else {
                self.entry(entry.dir, entry.name, &entry.stat, into, name, &target)?;
            }
            Ok(true)
        })?;
        files.finish()
    }

    /// Copies one entry of a tree to the same path here.
    pub(super) fn put(&mut self, entry: &walk::Entry<'_>) -> Result<()> {
        let path = super::in_root(entry.path);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let into = self
            .root
            .open_dir(parent)
            .map_err(|e| failed(format!("cannot open {}", parent.display()), e))?;
        self.entry(entry.dir, entry.name, &entry.stat, &into, entry.name, &path)
    }

    fn entry(
        &mut self,
        dir: &Dir,
        from: &OsStr,
        stat: &Stat,
        into: &Dir,
        name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        let fail = |e| failed(format!("cannot write {}", path.display()), e);
        if stat.kind == Kind::Socket {
            return Ok(());
        }
        if stat.is_whiteout() {
            return Err(Error::invalid(format!(
                "{}: a 0:0 device cannot be copied",
                path.display()
            )));
        }
        clear(into, name, stat.kind).map_err(fail)?;
        let owner = self.dress.owner(stat);
        let mode = self.dress.mode(stat.mode, stat.kind == Kind::Dir);
        match stat.kind {
            Kind::File => {
                if stat.nlink > 1 {
                    let key = (stat.dev, stat.ino);
                    if let Some(first) = self.links.get(&key) {
                        return self.root.link(first, path).map_err(fail);
                    }
                    self.links.insert(key, path.to_owned());
                }
                return self.dress.file((dir, from), stat, (into, name), path);
            }
            Kind::Dir => {
                match into.mkdir(name, 0o700) {
                    Err(err) if err.is_taken() => {}
                    other => other.map_err(fail)?,
                }
                let kept = attributes::of(dir, from).map_err(fail)?;
                self.folders.push((path.to_owned(), self.dress.time(stat.mtime), kept));
            }
            Kind::Symlink => {
                let target = dir.readlink(from).map_err(fail)?;
                into.symlink(target, name).map_err(fail)?;
                into.chown(name, owner.uid, owner.gid).map_err(fail)?;
                return into.set_mtime(name, self.dress.time(stat.mtime)).map_err(fail);
            }
            Kind::Char => {
                into.mknod(name, Node::Char(stat.rdev.0, stat.rdev.1), 0o600).map_err(fail)?;
            }
            Kind::Block => {
                into.mknod(name, Node::Block(stat.rdev.0, stat.rdev.1), 0o600).map_err(fail)?;
            }
            Kind::Fifo => into.mknod(name, Node::Fifo, 0o600).map_err(fail)?,
            Kind::Socket => {}
        }
        into.chown(name, owner.uid, owner.gid).map_err(fail)?;
        into.chmod(name, mode).map_err(fail)?;
        if stat.kind == Kind::Dir {
            return Ok(());
        }
        let kept = attributes::of(dir, from).map_err(fail)?;
        set_xattrs(&kept, |key, value| into.set_xattr(name, key, value)).map_err(fail)?;
        into.set_mtime(name, self.dress.time(stat.mtime)).map_err(fail)
    }

    /// Sets what can only be set when everything is there: times and attributes of folders.
    pub(super) fn finish(self) -> Result<()> {
        for (path, mtime, kept) in self.folders.iter().rev() {
            let fail = |e| failed(format!("cannot change {}", path.display()), e);
            if !kept.is_empty() {
                let own = self.root.open_dir(path).map_err(fail)?;
                set_xattrs(kept, |key, value| own.set_xattr_self(key, value)).map_err(fail)?;
            }
            self.root.set_mtime(path, *mtime).map_err(fail)?;
        }
        Ok(())
    }
}

/// Removes what stands where something of `kind` is to go; a folder stays for a folder.
pub(super) fn clear(into: &Dir, name: &OsStr, kind: Kind) -> sys::root::Result<()> {
    match into.stat(name) {
        Err(err) if err.is_missing() => Ok(()),
        Err(err) => Err(err),
        Ok(stat) if stat.kind == Kind::Dir && kind == Kind::Dir => Ok(()),
        Ok(_) => into.remove_all(name),
    }
}

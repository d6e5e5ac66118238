//! For this crate's tests: a data root of their own, and a maker of tars, well-formed and not.

use crate::tar::{Entry, EntryKind, padding, writer};
use crate::{Layers, Limits, Snapshots, Trash};
use base::Digest;
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};
use sys::root::{Dir, Kind, Time};

/// A data root that goes when it is dropped.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) trash: Trash,
    pub(crate) layers: Layers,
    pub(crate) snapshots: Snapshots,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::limited(Limits::default())
    }

    pub(crate) fn limited(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let trash = Trash::open(&root).unwrap();
        let layers = Layers::open(&root, &trash, limits).unwrap();
        let snapshots = Snapshots::open(&root, &layers, &trash).unwrap();
        Self { dir, trash, layers, snapshots }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Applies a tar and gives its layer.
    pub(crate) fn layer(&self, parents: &[Digest], tar: &[u8]) -> Digest {
        self.layers.apply(parents, &mut &tar[..]).unwrap().layer
    }

    /// Waits for the trash and names all that is left of unfinished work.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        self.trash.settle();
        let list = |dir: PathBuf| {
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()
        };
        let mut left = list(self.root().join("trash"));
        left.extend(list(self.root().join("layers/tmp")));
        left
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.trash.settle();
    }
}

/// A tar being made.
#[derive(Default)]
pub(crate) struct Smith(pub(crate) Vec<u8>);

impl Smith {
    pub(crate) fn add(mut self, entry: &Entry, content: &[u8]) -> Self {
        let head = writer::head(entry);
        if let Some((block, records)) = &head.extended {
            self.0.extend_from_slice(&block[..]);
            self.0.extend_from_slice(records);
        }
        self.0.extend_from_slice(&head.block.0);
        self.0.extend_from_slice(&head.map);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len() + padding(content.len() as u64), 0);
        self
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let mut entry = entry(EntryKind::File, name, b"");
        entry.size = content.len() as u64;
        self.add(&entry, content)
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Self {
        let mut entry = entry(EntryKind::Dir, name, b"");
        entry.mode = 0o755;
        self.add(&entry, b"")
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: &[u8]) -> Self {
        self.add(&entry(EntryKind::Symlink, name, target), b"")
    }

    pub(crate) fn link(self, name: impl AsRef<[u8]>, target: &[u8]) -> Self {
        self.add(&entry(EntryKind::Hardlink, name, target), b"")
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(crate) fn entry(kind: EntryKind, name: impl AsRef<[u8]>, link: &[u8]) -> Entry {
    Entry {
        kind,
        name: name.as_ref().to_vec(),
        link: link.to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1_600_000_000, nanos: 0 },
        size: 0,
        sparse: None,
        xattrs: Vec::new(),
    }
}

/// Runs GNU tar, an independent reader and writer.
pub(crate) fn gnu_tar(dir: &Path, args: &[&str]) -> Vec<u8> {
    let out = std::process::Command::new("tar").arg("-C").arg(dir).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Everything about a tree that a layer must keep.
pub(crate) fn portrait(dir: &Dir) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut first = BTreeMap::new();
    crate::walk::walk(dir.try_clone().unwrap(), |here| {
        let stat = &here.stat;
        let mut text = format!(
            "{:?} {:o} {}:{} {:?} {:?}",
            stat.kind, stat.mode, stat.uid, stat.gid, stat.mtime, stat.rdev
        );
        for (key, value) in here.dir.xattrs(here.name)? {
            text.push_str(&format!(" {key:?}={}", Digest::sha256(&value).short()));
        }
        match stat.kind {
            Kind::File => {
                let mut content = Vec::new();
                let flags = rustix::fs::OFlags::RDONLY;
                here.dir.open_file(here.name, flags)?.read_to_end(&mut content).unwrap();
                text.push_str(&format!(" {} {}", content.len(), Digest::sha256(&content).short()));
            }
            Kind::Symlink => text.push_str(&format!(" -> {:?}", here.dir.readlink(here.name)?)),
            _ => {}
        }
        if stat.kind != Kind::Dir {
            let name = first.entry((stat.dev, stat.ino)).or_insert_with(|| here.path.to_vec());
            text.push_str(&format!(" = {}", name.escape_ascii()));
        }
        all.insert(here.path.to_vec(), text);
        Ok::<_, sys::root::Error>(true)
    })
    .unwrap();
    all
}

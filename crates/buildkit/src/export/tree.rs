//! Trees of files to the client's disk, in the protocol of its file synchronisation.
//!
//! Flow: all that there is is told first ([`list`]), then the client asks for the files that it wants.
//! Invariant: names come in the order that the client checks: sorted in each folder, folders with what is in them.
//! Source: fsutil's `send.go` and `validator.go`.

use super::sending::mark;
use crate::{
    failure::from_status,
    job::Job,
    proto::{fsutil, fsutil::packet::PacketType},
    solve::Reading,
};
use base::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::{
    go_mode,
    root::{Kind, Root, Stat},
};
use tokio::sync::mpsc;
use tonic::Request;

/// Bytes of one message.
const PIECE: usize = 32 << 10;
/// Folders deeper than this are refused.
const DEPTH: usize = 1000;

/// A tree, and where it goes.
pub(super) struct Tree {
    /// The platform that it is of, for words.
    pub(super) platform: String,
    /// The folder that it goes to; trees of the same folder are laid into one another.
    pub(super) folder: String,
    pub(super) reading: Reading,
    /// Files beside its own, by name.
    pub(super) beside: BTreeMap<String, Vec<u8>>,
}

/// What the client may ask for, by number.
enum Item {
    File { tree: usize, path: PathBuf },
    Beside { tree: usize, name: String },
}

/// Sends trees to the exporter at `index`; `time` (seconds since 1970) stands for the times of all files.
///
/// # Errors
/// Of the storage, and when the client cannot take them.
pub(super) async fn send(
    job: &Arc<Job>,
    trees: Vec<Tree>,
    index: usize,
    time: Option<i64>,
) -> Result<()> {
    let session = job.session("").await?;
    session.needs("/moby.filesync.v1.FileSend/DiffCopy")?;
    let (sender, receiver) = mpsc::channel::<fsutil::Packet>(64);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let mut request = Request::new(stream);
    mark(&mut request, index)?;
    let what = "cannot send the result to the client";
    let (asked, mut wanted) = mpsc::channel::<u32>(1024);
    let mut client = session.tree_sink();
    let trees = Arc::new(trees);
    let own = Arc::clone(&trees);
    let lister = sender.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut list = List { trees: &own, time, out: &lister, items: Vec::new() };
        list.all()?;
        let items = list.items;
        while let Some(id) = wanted.blocking_recv() {
            let item = usize::try_from(id).ok().and_then(|i| items.get(i));
            let item =
                item.ok_or_else(|| Error::invalid("the client asks for a file that is not there"))?;
            match item {
                Item::File { tree, path } => file(&own[*tree].reading.root, path, id, &lister)?,
                Item::Beside { tree, name } => bytes(&own[*tree].beside[name], id, &lister)?,
            }
        }
        Ok::<_, Error>(())
    });
    let mut answers =
        client.diff_copy(request).await.map_err(|s| from_status(what, &s))?.into_inner();
    let mut ended = false;
    while let Some(packet) = answers.message().await.map_err(|s| from_status(what, &s))? {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) if asked.send(packet.id).await.is_err() => break,
            Ok(PacketType::PacketReq) => {}
            Ok(PacketType::PacketFin) => {
                ended = true;
                break;
            }
            Ok(PacketType::PacketErr) => {
                let why = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Error::invalid(format!("{what}: {why}")));
            }
            _ => {}
        }
    }
    drop(asked);
    match writer.await {
        Ok(written) => written?,
        Err(err) => return Err(Error::internal("sending a result ended early").caused_by(err)),
    }
    if !ended {
        return Err(Error::invalid(format!("{what}: it ended before it had all")));
    }
    let fin = fsutil::Packet { r#type: PacketType::PacketFin as i32, ..Default::default() };
    // The client may have closed already.
    let _closed = sender.send(fin).await;
    drop(sender);
    while answers.message().await.is_ok_and(|m| m.is_some()) {}
    Ok(())
}

fn tell(out: &mpsc::Sender<fsutil::Packet>, packet: fsutil::Packet) -> Result<()> {
    out.blocking_send(packet).map_err(|_| Error::cancelled("the client has gone"))
}

fn stat_packet(stat: Option<fsutil::Stat>) -> fsutil::Packet {
    fsutil::Packet { r#type: PacketType::PacketStat as i32, stat, ..fsutil::Packet::default() }
}

/// Trees being told.
struct List<'l> {
    trees: &'l [Tree],
    time: Option<i64>,
    out: &'l mpsc::Sender<fsutil::Packet>,
    items: Vec<Item>,
}

/// Files with several names: where the first is, by tree, device and number.
type Links = HashMap<(usize, u64, u64), String>;

impl List<'_> {
    fn all(&mut self) -> Result<()> {
        let mut folders: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, tree) in self.trees.iter().enumerate() {
            folders.entry(&tree.folder).or_default().push(index);
        }
        for (folder, trees) in folders {
            if !folder.is_empty() {
                let stat = fsutil::Stat {
                    path: folder.to_owned(),
                    mode: go_mode::DIR | 0o755,
                    mod_time: self.nanos(0),
                    ..fsutil::Stat::default()
                };
                self.items.push(Item::File { tree: trees[0], path: PathBuf::from("/") });
                tell(self.out, stat_packet(Some(stat)))?;
            }
            self.folder(&trees, folder, Path::new(""), &mut Links::new(), 0)?;
        }
        tell(self.out, stat_packet(None))
    }

    fn nanos(&self, own: i64) -> i64 {
        self.time.map_or(own, |seconds| seconds.saturating_mul(1_000_000_000))
    }

    /// Tells what is at `folder` in any of `trees`.
    fn folder(
        &mut self,
        trees: &[usize],
        prefix: &str,
        folder: &Path,
        links: &mut Links,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::invalid("the result has folders nested too deeply"));
        }
        let fail =
            |e: sys::root::Error| Error::io(format!("cannot read {}", folder.display()), e.into());
        let at = Path::new("/").join(folder);
        let mut names: BTreeMap<OsString, Vec<(usize, Stat, String)>> = BTreeMap::new();
        for tree in trees {
            let dir = self.trees[*tree].reading.root.open_dir(&at).map_err(fail)?;
            for (name, _) in dir.entries().map_err(fail)? {
                let stat = dir.stat(&name).map_err(fail)?;
                let mut link = String::new();
                if stat.kind == Kind::Symlink {
                    link = dir.readlink(&name).map_err(fail)?.to_string_lossy().into_owned();
                }
                if stat.kind != Kind::Socket {
                    names.entry(name).or_default().push((*tree, stat, link));
                }
            }
        }
        if depth == 0 {
            for tree in trees {
                for name in self.trees[*tree].beside.keys() {
                    names.insert(name.into(), Vec::new());
                }
            }
        }
        for (name, owners) in names {
            let rel = folder.join(&name);
            let shown = match prefix {
                "" => rel.to_string_lossy().into_owned(),
                prefix => format!("{prefix}/{}", rel.to_string_lossy()),
            };
            let Some((tree, stat, link)) = owners.first() else {
                self.beside(trees, &name.to_string_lossy(), shown)?;
                continue;
            };
            if let Some((other, ..)) = owners
                .iter()
                .skip(1)
                .find(|(_, other, _)| other.kind != Kind::Dir || stat.kind != Kind::Dir)
            {
                return Err(Error::invalid(format!(
                    "cannot overwrite {shown} of {} with that of {} when platform-split is off",
                    self.trees[*tree].platform, self.trees[*other].platform
                )));
            }
            self.one(*tree, &rel, shown, stat, link, links)?;
            if stat.kind == Kind::Dir {
                let below: Vec<usize> = owners.iter().map(|(tree, ..)| *tree).collect();
                self.folder(&below, prefix, &rel, links, depth + 1)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        tree: usize,
        rel: &Path,
        shown: String,
        stat: &Stat,
        link: &str,
        links: &mut Links,
    ) -> Result<()> {
        let own = stat.mtime.seconds.saturating_mul(1_000_000_000) + i64::from(stat.mtime.nanos);
        let mut told = fsutil::Stat {
            path: shown.clone(),
            mode: go_mode::of(stat.kind, stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            mod_time: self.nanos(own),
            linkname: link.to_owned(),
            devmajor: i64::from(stat.rdev.0),
            devminor: i64::from(stat.rdev.1),
            ..fsutil::Stat::default()
        };
        if stat.kind == Kind::File {
            told.size = i64::try_from(stat.size).unwrap_or(i64::MAX);
            if stat.nlink > 1 {
                match links.get(&(tree, stat.dev, stat.ino)) {
                    Some(first) => told.linkname.clone_from(first),
                    None => {
                        links.insert((tree, stat.dev, stat.ino), shown);
                    }
                }
            }
        }
        self.items.push(Item::File { tree, path: Path::new("/").join(rel) });
        tell(self.out, stat_packet(Some(told)))
    }

    fn beside(&mut self, trees: &[usize], name: &str, shown: String) -> Result<()> {
        let owner = trees.iter().find(|tree| self.trees[**tree].beside.contains_key(name));
        let Some(tree) = owner.copied() else { return Ok(()) };
        let size = self.trees[tree].beside[name].len();
        let stat = fsutil::Stat {
            path: shown,
            mode: 0o600,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mod_time: self.nanos(0),
            ..fsutil::Stat::default()
        };
        self.items.push(Item::Beside { tree, name: name.to_owned() });
        tell(self.out, stat_packet(Some(stat)))
    }
}

fn data(id: u32, data: &[u8]) -> fsutil::Packet {
    fsutil::Packet {
        r#type: PacketType::PacketData as i32,
        id,
        data: data.to_vec(),
        ..fsutil::Packet::default()
    }
}

fn bytes(content: &[u8], id: u32, out: &mpsc::Sender<fsutil::Packet>) -> Result<()> {
    for piece in content.chunks(PIECE) {
        tell(out, data(id, piece))?;
    }
    tell(out, data(id, &[]))
}

fn file(root: &Root, path: &Path, id: u32, out: &mpsc::Sender<fsutil::Packet>) -> Result<()> {
    let fail = |e: std::io::Error| Error::io(format!("cannot read {}", path.display()), e);
    let mut file = root.open_file(path).map_err(|e| fail(e.into()))?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = file.read(&mut buffer).map_err(fail)?;
        tell(out, data(id, &buffer[..count]))?;
        if count == 0 {
            return Ok(());
        }
    }
}

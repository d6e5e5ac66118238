//! Folders of the client: kept here from build to build, and brought up to date by what changed.
//!
//! Flow: [`Trees::sync`] takes a kept tree (or an empty one) for the folder, the client tells what is in the
//! folder (`STAT`), what differs is asked for (`REQ`) and written (`DATA`), the rest is deleted. A tree is
//! used by one build at a time and goes back when the build lets go of it.
//! Invariants: a file with the same type, mode, owner, size and time is the same file; every path stays
//! inside the tree; a tree whose update failed is thrown away; trees do not outlive the engine's process.
//! Source: fsutil's protocol (`moby.filesync.v1.FileSync/DiffCopy`).

use crate::{
    proto::fsutil::{self, packet::PacketType},
    session::Session,
};
use base::{Digest, Error, Result, Timestamp};
use build::go;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io::Write as _,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use sys::{
    go_mode::{self, CHAR, DEVICE, DIR, IRREGULAR, PIPE, SOCKET, SYMLINK},
    root::{Kind, Node, Root, Stat, Time},
};
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;

/// Files asked for at once.
const ASKED: usize = 256;
/// Messages between connection and disk.
const QUEUE: usize = 128;
/// Entries of one folder tree.
const ENTRIES: usize = 5_000_000;
/// Trees kept that nobody uses.
const KEPT: usize = 24;

/// What of a folder is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What the client calls the folder.
    pub(crate) name: String,
    /// Only what matches.
    pub(crate) include: Vec<String>,
    /// Not what matches.
    pub(crate) exclude: Vec<String>,
    /// Only these paths, and what symlinks on them lead to.
    pub(crate) follow: Vec<String>,
    /// What kept trees are found by, besides all that.
    pub(crate) hint: String,
}

/// An entry of a tree, as the client told it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    size: i64,
    time: i64,
    link: String,
    device: (i64, i64),
    /// Of the bytes of a file.
    sum: Option<[u8; 32]>,
}

impl Entry {
    fn of(stat: &fsutil::Stat) -> Self {
        Self {
            mode: stat.mode,
            owner: (stat.uid, stat.gid),
            size: if kind(stat.mode) == Some(Kind::File) { stat.size } else { 0 },
            time: stat.mod_time,
            link: stat.linkname.clone(),
            device: (stat.devmajor, stat.devminor),
            sum: None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        Self { sum: None, ..self.clone() } == Self { sum: None, ..other.clone() }
    }
}

/// A kept tree.
#[derive(Debug)]
struct Tree {
    path: PathBuf,
    root: Arc<Root>,
    entries: BTreeMap<String, Entry>,
    /// When a build last used it.
    used: Timestamp,
}

/// All kept trees.
#[derive(Debug)]
pub(crate) struct Trees {
    home: PathBuf,
    free: Mutex<VecDeque<(String, Tree)>>,
    number: std::sync::atomic::AtomicUsize,
}

/// A tree in use; it is kept when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    trees: Arc<Trees>,
    key: String,
    tree: Option<Tree>,
}

impl Lease {
    fn tree(&self) -> &Tree {
        self.tree.as_ref().expect("the tree goes only when the lease does")
    }

    /// Its files.
    pub(crate) fn root(&self) -> &Arc<Root> {
        &self.tree().root
    }

    /// Where it is on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.tree().path
    }

    /// The hash of a file's bytes, taken when they came.
    pub(crate) fn known(&self, path: &Path, stat: &Stat) -> Option<[u8; 32]> {
        let name = path.to_str()?.trim_start_matches('/');
        let entry = self.tree().entries.get(name)?;
        (stat.kind == Kind::File && u64::try_from(entry.size).ok()? == stat.size)
            .then_some(entry.sum)
            .flatten()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(tree) = self.tree.take() {
            self.trees.give_back(std::mem::take(&mut self.key), tree);
        }
    }
}

impl Trees {
    /// Trees below `home`, none at first.
    pub(crate) fn new(home: PathBuf) -> Arc<Self> {
        Arc::new(Self { home, free: Mutex::default(), number: 0.into() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Tree)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, key: String, mut tree: Tree) {
        tree.used = Timestamp::now();
        let old = {
            let mut free = self.lock();
            free.push_back((key, tree));
            if free.len() > KEPT { free.pop_front() } else { None }
        };
        if let Some((_, tree)) = old {
            std::thread::spawn(move || discard(tree));
        }
    }

    /// Drops the tree that nobody uses and that `key` finds; whether there was one.
    pub(crate) fn drop_one(&self, key: &str) -> bool {
        let found = {
            let mut free = self.lock();
            let at = free.iter().position(|(known, _)| known == key);
            at.and_then(|at| free.remove(at))
        };
        match found {
            Some((_, tree)) => {
                discard(tree);
                true
            }
            None => false,
        }
    }

    /// Trees that nobody uses: what they are found by, the bytes of their files, when they were last used.
    pub(crate) fn list(&self) -> Vec<(String, u64, Timestamp)> {
        let size = |tree: &Tree| {
            tree.entries.values().map(|e| u64::try_from(e.size).unwrap_or(0)).sum::<u64>()
        };
        self.lock().iter().map(|(key, tree)| (key.clone(), size(tree), tree.used)).collect()
    }

    fn take(&self, key: &str) -> Result<Tree> {
        {
            let mut free = self.lock();
            if let Some(at) = free.iter().rposition(|(k, _)| k == key)
                && let Some((_, tree)) = free.remove(at)
            {
                return Ok(tree);
            }
        }
        let number = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.home.join(number.to_string());
        let fail = |e| Error::io(format!("cannot make {}", path.display()), e);
        std::fs::create_dir_all(&path).map_err(fail)?;
        let root = Root::open(&path).map_err(|e| fail(e.into()))?;
        let used = Timestamp::now();
        Ok(Tree { path, root: Arc::new(root), entries: BTreeMap::new(), used })
    }

    /// The folder `wanted` of the client, up to date. `told` hears how many bytes have come.
    ///
    /// # Errors
    /// `Invalid` when the client cannot give it or breaks the protocol; of the disk.
    pub(crate) async fn sync(
        self: &Arc<Self>,
        session: &Session,
        wanted: &Wanted,
        told: impl Fn(i64),
    ) -> Result<Lease> {
        session.needs("/moby.filesync.v1.FileSync/DiffCopy")?;
        let owner = match (wanted.hint.is_empty(), session.shared_key.is_empty()) {
            (_, false) => session.shared_key.clone(),
            (false, true) => wanted.hint.clone(),
            (true, true) => session.id.clone(),
        };
        let patterns = format!("{:?}{:?}{:?}", wanted.include, wanted.exclude, wanted.follow);
        let key =
            format!("{owner} {} {}", wanted.name, Digest::sha256(patterns.as_bytes()).short());
        let tree = self.take(&key)?;
        let (requests, outgoing) = mpsc::channel::<fsutil::Packet>(ASKED + 8);
        let stream = futures_util::stream::unfold(outgoing, |mut outgoing| async move {
            Some((outgoing.recv().await?, outgoing))
        });
        let mut request = tonic::Request::new(stream);
        let lists = [
            ("include-patterns", &wanted.include),
            ("exclude-patterns", &wanted.exclude),
            ("followpaths", &wanted.follow),
        ];
        let metadata = request.metadata_mut();
        for (key, values) in lists {
            let plain =
                values.iter().all(|v| v.is_ascii() && !v.contains(|c: char| c.is_ascii_control()));
            if !plain {
                metadata
                    .append(key_of(&format!("{key}-encoded"))?, MetadataValue::from_static("1"));
            }
            for value in values {
                let value = if plain { value.clone() } else { escape(value) };
                metadata.append(key_of(key)?, value_of(&value)?);
            }
        }
        metadata.append("dir-name", value_of(&wanted.name)?);
        let what = move || format!("cannot get the folder {:?} from the client", wanted.name);
        let mut incoming = session
            .files()
            .diff_copy(request)
            .await
            .map_err(|s| crate::failure::from_status(what(), &s))?
            .into_inner();
        let (packets, queue) = mpsc::channel::<fsutil::Packet>(QUEUE);
        let writer = tokio::task::spawn_blocking(move || Receiver::new(tree, requests).run(queue));
        let mut writer = std::pin::pin!(writer);
        let feed = async move {
            let mut bytes = 0;
            loop {
                let packet = incoming
                    .message()
                    .await
                    .map_err(|s| crate::failure::from_status(what(), &s))?;
                let Some(packet) = packet else { return Ok::<_, Error>(()) };
                bytes += i64::try_from(packet.data.len()).unwrap_or_default() + 64;
                told(bytes);
                // The queue is short so that a slow disk slows the client.
                if packets.send(packet).await.is_err() {
                    return Ok(());
                }
            }
        };
        let mut feed = std::pin::pin!(feed);
        let done = tokio::select! {
            done = writer.as_mut() => done,
            fed = feed.as_mut() => {
                fed?;
                writer.await
            }
        };
        let tree = match done {
            Ok(tree) => tree.map_err(|e| Error::new(e.kind(), what()).caused_by(e))?,
            Err(err) => {
                return Err(Error::internal("the update of a folder ended early").caused_by(err));
            }
        };
        Ok(Lease { trees: Arc::clone(self), key, tree: Some(tree) })
    }
}

fn key_of(key: &str) -> Result<tonic::metadata::MetadataKey<tonic::metadata::Ascii>> {
    key.parse().map_err(|_| Error::internal(format!("{key} is no header")))
}

fn value_of(value: &str) -> Result<MetadataValue<tonic::metadata::Ascii>> {
    value.parse().map_err(|_| Error::invalid(format!("{value:?} cannot be told to the client")))
}

/// What headers cannot carry, as percent escapes.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/*!".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn discard(tree: Tree) {
    drop(tree.root);
    if let Err(err) = std::fs::remove_dir_all(&tree.path) {
        tracing::debug!(err = err.to_string(), "a kept context stays until the next start");
    }
}

/// A file that is coming.
struct Coming {
    file: File,
    path: String,
    hash: Sha256,
}

/// The disk's side of one update.
struct Receiver {
    tree: Option<Tree>,
    new: BTreeMap<String, Entry>,
    requests: mpsc::Sender<fsutil::Packet>,
    /// Files by their place in the list of the client.
    listed: u32,
    waiting: VecDeque<(u32, String)>,
    coming: HashMap<u32, Coming>,
    /// Folders whose times must be set in the end.
    touched: std::collections::BTreeSet<String>,
}

impl Receiver {
    fn new(tree: Tree, requests: mpsc::Sender<fsutil::Packet>) -> Self {
        Self {
            tree: Some(tree),
            new: BTreeMap::new(),
            requests,
            listed: 0,
            waiting: VecDeque::new(),
            coming: HashMap::new(),
            touched: std::collections::BTreeSet::new(),
        }
    }

    fn run(mut self, queue: mpsc::Receiver<fsutil::Packet>) -> Result<Tree> {
        match self.update(queue) {
            Ok(()) => {
                let mut tree =
                    self.tree.take().ok_or_else(|| Error::internal("the tree is gone"))?;
                tree.entries = std::mem::take(&mut self.new);
                Ok(tree)
            }
            Err(err) => {
                let data = err.chain().into_bytes();
                let told = fsutil::Packet {
                    r#type: PacketType::PacketErr as i32,
                    data,
                    ..Default::default()
                };
                // The client may be gone.
                let _gone = self.requests.blocking_send(told);
                self.tree.take().into_iter().for_each(discard);
                Err(err)
            }
        }
    }

    fn root(&self) -> Result<Arc<Root>> {
        let tree = self.tree.as_ref().ok_or_else(|| Error::internal("the tree is gone"))?;
        Ok(Arc::clone(&tree.root))
    }

    fn update(&mut self, mut queue: mpsc::Receiver<fsutil::Packet>) -> Result<()> {
        let (mut listed, mut finished) = (false, false);
        while let Some(packet) = queue.blocking_recv() {
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::PacketStat) => match packet.stat {
                    Some(stat) if !listed => self.listed(&stat)?,
                    Some(_) => {
                        return Err(Error::invalid(
                            "the client lists files after the end of its list",
                        ));
                    }
                    None => {
                        listed = true;
                        self.sweep()?;
                    }
                },
                Ok(PacketType::PacketData) => self.data(packet.id, &packet.data)?,
                Ok(PacketType::PacketErr) => {
                    return Err(Error::invalid(format!(
                        "error from sender: {}",
                        String::from_utf8_lossy(&packet.data)
                    )));
                }
                Ok(PacketType::PacketFin) if finished => return Ok(()),
                Ok(PacketType::PacketFin) => {
                    return Err(Error::invalid("the client ended before all was sent"));
                }
                Ok(PacketType::PacketReq) | Err(_) => {
                    return Err(Error::invalid("the client sent a packet of an unknown kind"));
                }
            }
            if listed && !finished && self.coming.is_empty() && self.waiting.is_empty() {
                finished = true;
                self.times()?;
                self.send(PacketType::PacketFin, 0)?;
            }
        }
        Err(Error::invalid("the client went away in the middle of its files"))
    }

    fn send(&self, kind: PacketType, id: u32) -> Result<()> {
        let packet = fsutil::Packet { r#type: kind as i32, id, ..Default::default() };
        self.requests.blocking_send(packet).map_err(|_| Error::cancelled("the client has gone"))
    }

    /// One line of the client's list.
    fn listed(&mut self, stat: &fsutil::Stat) -> Result<()> {
        let id = self.listed;
        self.listed += 1;
        if self.new.len() >= ENTRIES {
            return Err(Error::invalid(format!("the folder has more than {ENTRIES} entries")));
        }
        let path = clean(&stat.path)?;
        let Some(kind) = kind(stat.mode) else { return Ok(()) };
        if let Some((parent, _)) = path.rsplit_once('/')
            && self.new.get(parent).is_none_or(|e| self::kind(e.mode) != Some(Kind::Dir))
        {
            return Err(Error::invalid(format!("{path:?} comes without its folder")));
        }
        let mut entry = Entry::of(stat);
        let before = self.tree.as_ref().and_then(|t| t.entries.get(&path));
        if let Some(before) = before.filter(|before| before.same(&entry)) {
            entry.sum = before.sum;
            // A second name of a file that came anew must be made anew too.
            let moved = kind == Kind::File && !entry.link.is_empty() && entry.sum.is_none();
            if !moved {
                self.new.insert(path, entry);
                return Ok(());
            }
        }
        let was = before.map(|b| self::kind(b.mode));
        self.new.insert(path.clone(), entry);
        self.make(&path, kind, was, stat, id)
    }

    fn make(
        &mut self,
        path: &str,
        kind: Kind,
        was: Option<Option<Kind>>,
        stat: &fsutil::Stat,
        id: u32,
    ) -> Result<()> {
        let root = self.root()?;
        let fail = |e: sys::root::Error| Error::io(format!("cannot write {path}"), e.into());
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.touched.insert(parent.to_owned());
        }
        let stays = kind == Kind::Dir && was == Some(Some(Kind::Dir));
        if was.is_some() && !stays {
            match root.remove_all(path) {
                Err(err) if !err.is_missing() => return Err(fail(err)),
                _ => {}
            }
        }
        match kind {
            Kind::Dir => {
                if !stays {
                    root.mkdir(path, 0o700).map_err(fail)?;
                }
                self.touched.insert(path.to_owned());
            }
            Kind::Symlink => root.symlink(&stat.linkname, path).map_err(fail)?,
            Kind::File if !stat.linkname.is_empty() => {
                let first = clean(&stat.linkname)?;
                if !self.new.contains_key(&first) {
                    return Err(Error::invalid(format!(
                        "{path:?} is a link to what did not come: {first:?}"
                    )));
                }
                // The first name may still be on its way; its file is made when it is asked for.
                if let Some(at) = self.waiting.iter().position(|(_, p)| *p == first)
                    && let Some((id, first)) = self.waiting.remove(at)
                {
                    self.ask(id, first)?;
                }
                return root.link(&first, path).map_err(fail);
            }
            Kind::File => {
                self.waiting.push_back((id, path.to_owned()));
                return self.ask_more();
            }
            Kind::Fifo => root.mknod(path, Node::Fifo, 0o600).map_err(fail)?,
            Kind::Char | Kind::Block => {
                let number = |n: i64| u32::try_from(n).unwrap_or_default();
                let (major, minor) = (number(stat.devmajor), number(stat.devminor));
                let node = match kind {
                    Kind::Char => Node::Char(major, minor),
                    _ => Node::Block(major, minor),
                };
                root.mknod(path, node, 0o600).map_err(fail)?;
            }
            Kind::Socket => return Ok(()),
        }
        root.chown(path, stat.uid, stat.gid).map_err(fail)?;
        if kind != Kind::Symlink {
            root.chmod(path, go_mode::permissions(stat.mode)).map_err(fail)?;
        }
        if kind != Kind::Dir {
            root.set_mtime(path, Time::from_nanos(stat.mod_time)).map_err(fail)?;
        }
        Ok(())
    }

    fn ask_more(&mut self) -> Result<()> {
        while self.coming.len() < ASKED {
            let Some((id, path)) = self.waiting.pop_front() else { return Ok(()) };
            self.ask(id, path)?;
        }
        Ok(())
    }

    fn ask(&mut self, id: u32, path: String) -> Result<()> {
        let mode = self.new.get(&path).map_or(0o600, |entry| entry.mode & 0o777);
        let file = self
            .root()?
            .create(&path, mode)
            .map_err(|e| Error::io(format!("cannot write {path}"), e.into()))?;
        self.coming.insert(id, Coming { file, path, hash: Sha256::new() });
        self.send(PacketType::PacketReq, id)
    }

    fn data(&mut self, id: u32, data: &[u8]) -> Result<()> {
        let Some(coming) = self.coming.get_mut(&id) else {
            return Err(Error::invalid(format!(
                "the client sent bytes of file {id}, which it was not asked for"
            )));
        };
        let fail = |e| Error::io(format!("cannot write {}", coming.path), e);
        if !data.is_empty() {
            coming.hash.update(data);
            return coming.file.write_all(data).map_err(fail);
        }
        let Some(done) = self.coming.remove(&id) else { return Ok(()) };
        let Some(entry) = self.new.get_mut(&done.path) else {
            return Err(Error::internal(format!("{} is not listed", done.path)));
        };
        entry.sum = Some(done.hash.finalize().into());
        let fail =
            |e: sys::root::Error| Error::io(format!("cannot change {}", done.path), e.into());
        let (mode, time) = (go_mode::permissions(entry.mode), Time::from_nanos(entry.time));
        sys::root::set_open(&done.file, entry.owner, mode, Some(time)).map_err(fail)?;
        self.ask_more()
    }

    /// Deletes what the client has no more.
    fn sweep(&mut self) -> Result<()> {
        let root = self.root()?;
        let Some(tree) = &self.tree else { return Ok(()) };
        for path in tree.entries.keys().rev() {
            if self.new.contains_key(path) {
                continue;
            }
            if let Some((parent, _)) = path.rsplit_once('/') {
                self.touched.insert(parent.to_owned());
            }
            match root.remove_all(path) {
                Err(err) if !err.is_missing() => {
                    return Err(Error::io(format!("cannot remove {path}"), err.into()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets the times of folders, when nothing more goes into them.
    fn times(&mut self) -> Result<()> {
        let root = self.root()?;
        for path in self.touched.iter().rev() {
            if let Some(entry) = self.new.get(path) {
                root.set_mtime(path, Time::from_nanos(entry.time))
                    .map_err(|e| Error::io(format!("cannot change {path}"), e.into()))?;
            }
        }
        Ok(())
    }
}

/// A path of the client, relative and without detours.
fn clean(path: &str) -> Result<String> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let joined = Path::new(path)
        .components()
        .map(|c| c.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/");
    match plain && !path.is_empty() && !path.contains('\0') && joined == path {
        true => Ok(joined),
        false => {
            Err(Error::invalid(format!("the client sent a malformed path: {}", go::quote(path))))
        }
    }
}

/// The type in a mode of Go's; nothing for what no tree can hold.
fn kind(mode: u32) -> Option<Kind> {
    match mode {
        m if m & DIR != 0 => Some(Kind::Dir),
        m if m & SYMLINK != 0 => Some(Kind::Symlink),
        m if m & DEVICE != 0 && m & CHAR != 0 => Some(Kind::Char),
        m if m & DEVICE != 0 => Some(Kind::Block),
        m if m & PIPE != 0 => Some(Kind::Fifo),
        m if m & (SOCKET | IRREGULAR) != 0 => None,
        _ => Some(Kind::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32, size: i64, time: i64) -> fsutil::Packet {
        let stat =
            fsutil::Stat { path: path.into(), mode, size, mod_time: time, ..Default::default() };
        fsutil::Packet {
            r#type: PacketType::PacketStat as i32,
            stat: Some(stat),
            ..Default::default()
        }
    }

    fn packet(kind: PacketType, id: u32, data: &[u8]) -> fsutil::Packet {
        fsutil::Packet { r#type: kind as i32, id, data: data.to_vec(), ..Default::default() }
    }

    /// Plays a client: its packets in order; gives the update's outcome and what was asked for.
    fn play(tree: Tree, packets: Vec<fsutil::Packet>) -> (Result<Tree>, Vec<(i32, u32)>) {
        let (requests, mut asked) = mpsc::channel(1000);
        let (send, queue) = mpsc::channel(1000);
        packets.into_iter().for_each(|p| send.try_send(p).unwrap());
        drop(send);
        let done = Receiver::new(tree, requests).run(queue);
        let mut seen = Vec::new();
        while let Ok(packet) = asked.try_recv() {
            seen.push((packet.r#type, packet.id));
        }
        (done, seen)
    }

    fn empty(dir: &tempfile::TempDir) -> Tree {
        let path = dir.path().join("tree");
        std::fs::create_dir_all(&path).unwrap();
        let used = Timestamp::now();
        Tree { root: Arc::new(Root::open(&path).unwrap()), path, entries: BTreeMap::new(), used }
    }

    #[test]
    fn only_what_changed_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let end = || fsutil::Packet { r#type: PacketType::PacketStat as i32, ..Default::default() };
        let list = |time| {
            vec![
                stat("a", 1 << 31 | 0o755, 0, 1),
                stat("a/one", 0o644, 3, 1),
                stat("a/two", 0o600, 3, time),
                end(),
            ]
        };
        let mut first = list(1);
        first.extend([
            packet(PacketType::PacketData, 1, b"one"),
            packet(PacketType::PacketData, 2, b"two"),
            packet(PacketType::PacketData, 1, b""),
            packet(PacketType::PacketData, 2, b""),
            packet(PacketType::PacketFin, 0, b""),
        ]);
        let (tree, asked) = play(empty(&dir), first);
        let req = PacketType::PacketReq as i32;
        assert_eq!(asked, [(req, 1), (req, 2), (PacketType::PacketFin as i32, 0)]);
        let mut second = list(2);
        second.extend([
            packet(PacketType::PacketData, 2, b"TWO"),
            packet(PacketType::PacketData, 2, b""),
            packet(PacketType::PacketFin, 0, b""),
        ]);
        let (tree, asked) = play(tree.unwrap(), second);
        assert_eq!(asked[0], (req, 2));
        assert_eq!(std::fs::read(dir.path().join("tree/a/two")).unwrap(), b"TWO");
        let third = vec![
            stat("b", 0o644, 0, 1),
            end(),
            packet(PacketType::PacketData, 0, b""),
            packet(PacketType::PacketFin, 0, b""),
        ];
        let (tree, _) = play(tree.unwrap(), third);
        tree.unwrap();
        assert!(!dir.path().join("tree/a").exists() && dir.path().join("tree/b").exists());
    }

    #[test]
    fn a_lying_client_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (path, why) in [
            ("../x", "malformed path"),
            ("/etc/passwd", "malformed path"),
            ("a//b", "malformed path"),
            ("", "malformed path"),
            ("no/folder", "without its folder"),
        ] {
            let (done, _) = play(empty(&dir), vec![stat(path, 0o644, 0, 0)]);
            assert!(done.unwrap_err().chain().contains(why), "{path}");
        }
        let (done, _) = play(empty(&dir), vec![packet(PacketType::PacketData, 7, b"x")]);
        assert!(done.unwrap_err().chain().contains("not asked for"));
        let (done, _) =
            play(empty(&dir), vec![packet(PacketType::PacketErr, 0, b"no such folder")]);
        assert!(done.unwrap_err().chain().contains("error from sender: no such folder"));
        let mut link = stat("l", 1 << 27 | 0o777, 0, 0);
        link.stat.get_or_insert_default().linkname = "/etc".into();
        let (done, _) = play(empty(&dir), vec![link, stat("l/x", 0o644, 0, 0)]);
        assert!(done.unwrap_err().chain().contains("without its folder"), "through a symlink");
        let (done, _) = play(empty(&dir), vec![stat("a", 0o644, 0, 0)]);
        assert!(done.unwrap_err().chain().contains("went away"));
    }
}

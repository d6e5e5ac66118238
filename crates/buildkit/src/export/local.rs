//! Files to the client's disk: `-o type=local`, `-o type=tar`, and the stream under archives.

use super::Product;
use crate::{
    failure::from_status,
    filesync::go_mode,
    job::Job,
    proto::{filesync, fsutil, fsutil::packet::PacketType},
    solve::{Reading, blocking, read},
};
use base::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::root::{Kind, Root};
use tokio::sync::mpsc;
use tonic::{Request, metadata::MetadataValue};

/// Bytes of one message to the client.
const PIECE: usize = 1 << 20;
/// Bytes of one message of a tree.
const TREE_PIECE: usize = 32 << 10;
/// What clients tell exporters apart by.
const EXPORTER: &str = "buildkit-attachable-exporter-id";

/// A stream of bytes to the client.
pub(super) struct Sending {
    sender: mpsc::Sender<filesync::BytesMessage>,
    answer: tokio::task::JoinHandle<Result<()>>,
}

impl Sending {
    /// Opens the stream of the exporter at `index`; `told` goes with it.
    ///
    /// # Errors
    /// When the client takes no files.
    pub(super) async fn open(
        job: &Arc<Job>,
        index: usize,
        told: &HashMap<String, String>,
    ) -> Result<Self> {
        let session = job.session("").await?;
        session.needs("/moby.filesync.v1.FileSend/DiffCopy")?;
        let (sender, receiver) = mpsc::channel::<filesync::BytesMessage>(4);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let mut request = Request::new(stream);
        mark(&mut request, index)?;
        for (key, value) in told {
            if let (Ok(key), Ok(value)) = (
                format!("exporter-md-{key}")
                    .parse::<tonic::metadata::MetadataKey<tonic::metadata::Ascii>>(),
                value.parse::<MetadataValue<tonic::metadata::Ascii>>(),
            ) {
                request.metadata_mut().insert(key, value);
            }
        }
        let mut client = session.sink();
        let what = "cannot send the result to the client";
        // The answer's head may come only when the client has taken all.
        let answer = tokio::spawn(async move {
            let answer = client.diff_copy(request).await.map_err(|s| from_status(what, &s))?;
            let mut answer = answer.into_inner();
            while answer.message().await.map_err(|s| from_status(what, &s))?.is_some() {}
            Ok(())
        });
        Ok(Self { sender, answer })
    }

    /// Writes with `work`, on a thread that may block, and waits until the client has taken all.
    ///
    /// # Errors
    /// Those of `work`, and of the client.
    pub(super) async fn write(
        self,
        work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let Self { sender, answer } = self;
        let written = blocking(move || {
            let mut pieces = Pieces { sender, buffer: Vec::with_capacity(PIECE) };
            work(&mut pieces)?;
            pieces.flush().map_err(|e| Error::io("cannot send the result to the client", e))
        })
        .await;
        let answered = match answer.await {
            Ok(answered) => answered,
            Err(err) => Err(Error::internal("sending a result ended early").caused_by(err)),
        };
        // What the client says is the better reason why writing failed.
        answered.and(written)
    }
}

struct Pieces {
    sender: mpsc::Sender<filesync::BytesMessage>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let taken = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(filesync::BytesMessage { data })
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

fn mark<T>(request: &mut Request<T>, index: usize) -> Result<()> {
    let value = index.to_string().parse().map_err(|_| Error::internal("malformed index"))?;
    request.metadata_mut().insert(EXPORTER, value);
    Ok(())
}

/// The folder of each product in a result: none when there is one without a platform.
fn folders(products: &[Product]) -> Vec<String> {
    products.iter().map(|p| p.name.replace('/', "_")).collect()
}

/// Sends the files as a tar archive.
///
/// # Errors
/// Of the storage, and when the client cannot take it.
pub(super) async fn tar(
    job: &Arc<Job>,
    products: &[Product],
    index: usize,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to client tarball", None);
    let work = async {
        let mut readings = Vec::new();
        for product in products {
            readings.push(read(job, product.out.as_ref()).await?);
        }
        let folders = folders(products);
        let sending = Sending::open(job, index, &HashMap::new()).await?;
        sending
            .write(move |out| match readings.as_slice() {
                [one] if folders[0].is_empty() => storage::export_tree(&one.root, out),
                many => {
                    for (reading, folder) in many.iter().zip(&folders) {
                        storage::export_path(
                            &reading.root,
                            Path::new("/"),
                            folder.as_ref(),
                            None,
                            out,
                        )?;
                    }
                    Ok(())
                }
            })
            .await
    };
    let done = work.await;
    if done.is_ok() {
        task.item("sending tarball", 0, 0, true);
    }
    task.end(&done);
    done.map(|()| HashMap::new())
}

/// Sends the files as a tree.
///
/// # Errors
/// Of the storage, and when the client cannot take them.
pub(super) async fn local(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    index: usize,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to client directory", None);
    let split = attrs.get("platform-split").is_none_or(|v| v != "false");
    let work = async {
        let mut trees = Vec::new();
        for (product, folder) in products.iter().zip(folders(products)) {
            let folder = if split { folder } else { String::new() };
            trees.push((folder, read(job, product.out.as_ref()).await?));
        }
        send(job, trees, index).await
    };
    let done = work.await;
    if done.is_ok() {
        task.item("copying files", 0, 0, true);
    }
    task.end(&done);
    done.map(|()| HashMap::new())
}

/// A file of a tree that is being sent.
struct Item {
    tree: usize,
    path: PathBuf,
}

async fn send(job: &Arc<Job>, trees: Vec<(String, Reading)>, index: usize) -> Result<()> {
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
        let mut items = Vec::new();
        list(&own, &lister, &mut items)?;
        while let Some(id) = wanted.blocking_recv() {
            let item = usize::try_from(id).ok().and_then(|i| items.get(i));
            let item =
                item.ok_or_else(|| Error::invalid("the client asks for a file that is not there"))?;
            file(&own[item.tree].1.root, &item.path, id, &lister)?;
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

fn list(
    trees: &[(String, Reading)],
    out: &mpsc::Sender<fsutil::Packet>,
    items: &mut Vec<Item>,
) -> Result<()> {
    let mut order: Vec<usize> = (0..trees.len()).collect();
    order.sort_by(|a, b| trees[*a].0.cmp(&trees[*b].0));
    for tree in order {
        let (folder, reading) = &trees[tree];
        if !folder.is_empty() {
            let stat = fsutil::Stat {
                path: folder.clone(),
                mode: 1 << 31 | 0o755,
                ..fsutil::Stat::default()
            };
            items.push(Item { tree, path: PathBuf::from("/") });
            tell(out, stat_packet(Some(stat)))?;
        }
        let mut links = HashMap::new();
        walk(&reading.root, tree, folder, Path::new(""), out, items, &mut links, 0)?;
    }
    tell(out, stat_packet(None))
}

fn stat_packet(stat: Option<fsutil::Stat>) -> fsutil::Packet {
    fsutil::Packet { r#type: PacketType::PacketStat as i32, stat, ..fsutil::Packet::default() }
}

/// Folders deeper than this are refused.
const DEPTH: usize = 1000;

#[expect(clippy::too_many_arguments, reason = "one walk, with what it carries along")]
fn walk(
    root: &Root,
    tree: usize,
    prefix: &str,
    folder: &Path,
    out: &mpsc::Sender<fsutil::Packet>,
    items: &mut Vec<Item>,
    links: &mut HashMap<(u64, u64), String>,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::invalid("the result has folders nested too deeply"));
    }
    let fail =
        |e: sys::root::Error| Error::io(format!("cannot read {}", folder.display()), e.into());
    let at = Path::new("/").join(folder);
    let dir = root.open_dir(&at).map_err(fail)?;
    let mut names: Vec<_> = dir.entries().map_err(fail)?.into_iter().map(|(n, _)| n).collect();
    names.sort();
    for name in names {
        let rel = folder.join(&name);
        let stat = dir.stat(&name).map_err(fail)?;
        if stat.kind == Kind::Socket {
            continue;
        }
        let shown = match prefix {
            "" => rel.to_string_lossy().into_owned(),
            prefix => format!("{prefix}/{}", rel.to_string_lossy()),
        };
        let mut told = fsutil::Stat {
            path: shown.clone(),
            mode: go_mode(&stat),
            uid: stat.uid,
            gid: stat.gid,
            size: i64::try_from(stat.size).unwrap_or(i64::MAX),
            mod_time: stat.mtime.seconds.saturating_mul(1_000_000_000)
                + i64::from(stat.mtime.nanos),
            devmajor: i64::from(stat.rdev.0),
            devminor: i64::from(stat.rdev.1),
            ..fsutil::Stat::default()
        };
        if stat.kind != Kind::File {
            told.size = 0;
        }
        if stat.kind == Kind::Symlink {
            told.linkname = dir.readlink(&name).map_err(fail)?.to_string_lossy().into_owned();
        }
        if stat.kind == Kind::File && stat.nlink > 1 {
            match links.get(&(stat.dev, stat.ino)) {
                Some(first) => told.linkname.clone_from(first),
                None => {
                    links.insert((stat.dev, stat.ino), shown);
                }
            }
        }
        items.push(Item { tree, path: Path::new("/").join(&rel) });
        tell(out, stat_packet(Some(told)))?;
        if stat.kind == Kind::Dir {
            walk(root, tree, prefix, &rel, out, items, links, depth + 1)?;
        }
    }
    Ok(())
}

fn file(root: &Root, path: &Path, id: u32, out: &mpsc::Sender<fsutil::Packet>) -> Result<()> {
    let fail = |e: std::io::Error| Error::io(format!("cannot read {}", path.display()), e);
    let mut file = root.open_file(path).map_err(|e| fail(e.into()))?;
    let data = |data: Vec<u8>| fsutil::Packet {
        r#type: PacketType::PacketData as i32,
        id,
        data,
        ..fsutil::Packet::default()
    };
    let mut buffer = vec![0; TREE_PIECE];
    loop {
        let count = file.read(&mut buffer).map_err(fail)?;
        tell(out, data(buffer[..count].to_vec()))?;
        if count == 0 {
            return Ok(());
        }
    }
}

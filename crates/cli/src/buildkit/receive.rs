//! Results for our disk: folders file by file, archives as one stream.
//!
//! Invariant: whatever the engine sends, nothing is written outside the folder that was named.
//! Source: fsutil's protocol and BytesMessages (`moby.filesync.v1.FileSend/DiffCopy`).

use super::wire::{filesync, fsutil, packet};
use fsutil::packet::PacketType;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
};
use sys::{
    go_mode,
    root::{Root, Time},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// What requests name the exporter by.
pub(super) const EXPORTER: &str = "buildkit-attachable-exporter-id";
/// Messages on their way.
const QUEUE: usize = 64;

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Into this folder, file by file.
    Folder(PathBuf),
    /// Into this file, as an archive.
    File(PathBuf),
    /// To standard output, as an archive.
    Stdout,
}

/// Where results go, by exporter.
#[derive(Clone, Debug)]
pub(super) struct Targets(pub(super) Arc<HashMap<usize, Target>>);

type Packets =
    Pin<Box<dyn futures_util::Stream<Item = Result<fsutil::Packet, Status>> + std::marker::Send>>;
type Bytes = Pin<
    Box<
        dyn futures_util::Stream<Item = Result<filesync::BytesMessage, Status>> + std::marker::Send,
    >,
>;

impl Targets {
    /// Where the result of a request goes; an engine that names no exporter means the only one.
    pub(super) fn of(&self, headers: &http::HeaderMap) -> Option<&Target> {
        let index = headers.get(EXPORTER).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        match index {
            Some(index) => self.0.get(&index),
            None if self.0.len() == 1 => self.0.values().next(),
            None => None,
        }
    }

    fn wanted<T>(&self, request: &Request<T>) -> Result<Target, Status> {
        let found = self.of(request.metadata().as_ref()).cloned();
        found.ok_or_else(|| Status::not_found("the result was not asked for"))
    }
}

fn told(err: io::Error) -> Status {
    Status::unknown(err.to_string())
}

#[tonic::async_trait]
impl filesync::file_send_server::FileSend for Targets {
    type DiffCopyStream = Bytes;

    async fn diff_copy(
        &self,
        request: Request<Streaming<filesync::BytesMessage>>,
    ) -> Result<Response<Bytes>, Status> {
        let target = self.wanted(&request)?;
        let mut incoming = request.into_inner();
        let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(8);
        let writing = tokio::task::spawn_blocking(move || {
            let mut out: Box<dyn io::Write> = match &target {
                Target::Stdout => Box::new(io::stdout().lock()),
                Target::File(path) | Target::Folder(path) => {
                    let fail = |e: io::Error| {
                        let text = format!("cannot write {}: {e}", path.display());
                        io::Error::new(e.kind(), text)
                    };
                    Box::new(File::create(path).map_err(fail)?)
                }
            };
            while let Some(piece) = pieces.blocking_recv() {
                out.write_all(&piece)?;
            }
            out.flush()
        });
        while let Some(message) = incoming.message().await? {
            if sender.send(message.data).await.is_err() {
                break;
            }
        }
        drop(sender);
        writing.await.map_err(|e| Status::internal(e.to_string()))?.map_err(told)?;
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }
}

#[tonic::async_trait]
impl packet::file_send_server::FileSend for Targets {
    type DiffCopyStream = Packets;

    async fn diff_copy(
        &self,
        request: Request<Streaming<fsutil::Packet>>,
    ) -> Result<Response<Packets>, Status> {
        let Target::Folder(folder) = self.wanted(&request)? else {
            return Err(Status::invalid_argument("the result is wanted as an archive"));
        };
        let mut incoming = request.into_inner();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (packets, queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Ok(Some(packet)) = incoming.message().await {
                if packets.send(packet).await.is_err() {
                    return;
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            let (failed, done) = (sender.clone(), receive(&folder, queue, sender));
            if let Err(err) = done {
                // The engine may be gone.
                drop(failed.blocking_send(Err(told(err))));
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A tree on its way.
struct Tree {
    root: Arc<Root>,
    asked: mpsc::Sender<Result<fsutil::Packet, Status>>,
    files: HashMap<u32, (File, fsutil::Stat)>,
    folders: Vec<fsutil::Stat>,
    links: Vec<fsutil::Stat>,
}

fn receive(
    folder: &Path,
    mut queue: mpsc::Receiver<fsutil::Packet>,
    asked: mpsc::Sender<Result<fsutil::Packet, Status>>,
) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let root = Arc::new(Root::open(folder)?);
    let mut tree =
        Tree { root, asked, files: HashMap::new(), folders: Vec::new(), links: Vec::new() };
    let (mut listed, mut count) = (false, 0_u32);
    while let Some(packet) = queue.blocking_recv() {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) => match packet.stat {
                Some(stat) => {
                    tree.listed(count, stat)?;
                    count += 1;
                }
                None => listed = true,
            },
            Ok(PacketType::PacketData) => tree.data(packet.id, &packet.data)?,
            Ok(PacketType::PacketFin) => return Ok(()),
            Ok(PacketType::PacketErr) => {
                return Err(io::Error::other(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            _ => return Err(io::Error::other("the engine sent a packet of an unknown kind")),
        }
        if listed && tree.files.is_empty() {
            tree.finish()?;
            listed = false;
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine ended before all had come"))
}

impl Tree {
    fn send(&self, kind: PacketType, id: u32) -> io::Result<()> {
        let packet = fsutil::Packet { r#type: kind as i32, id, ..fsutil::Packet::default() };
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine has gone");
        self.asked.blocking_send(Ok(packet)).map_err(gone)
    }

    fn listed(&mut self, id: u32, stat: fsutil::Stat) -> io::Result<()> {
        const OTHER: u32 =
            go_mode::DEVICE | go_mode::PIPE | go_mode::SOCKET | go_mode::CHAR | go_mode::IRREGULAR;
        let path = Path::new(&stat.path);
        if stat.path.is_empty() || !path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(io::Error::other(format!("malformed path {:?}", stat.path)));
        }
        if stat.mode & go_mode::DIR != 0 {
            match self.root.mkdir(path, 0o700) {
                Err(_) if self.root.lstat(path)?.kind == sys::root::Kind::Dir => {}
                made => made?,
            }
            self.folders.push(stat);
            return Ok(());
        }
        match self.root.remove_all(path) {
            Err(err) if !err.is_missing() => return Err(err.into()),
            _ => {}
        }
        if stat.mode & go_mode::SYMLINK != 0 {
            self.root.symlink(&stat.linkname, path)?;
            return Ok(self.root.set_mtime(path, Time::from_nanos(stat.mod_time))?);
        }
        if stat.mode & OTHER != 0 {
            return Err(io::Error::other(format!(
                "{:?} is a device, pipe or socket, which is not made here: use type=tar",
                stat.path
            )));
        }
        if !stat.linkname.is_empty() {
            self.links.push(stat);
            return Ok(());
        }
        let file = self.root.create(path, 0o600)?;
        self.files.insert(id, (file, stat));
        self.send(PacketType::PacketReq, id)
    }

    fn data(&mut self, id: u32, data: &[u8]) -> io::Result<()> {
        let Some((file, _)) = self.files.get_mut(&id) else {
            return Err(io::Error::other(format!("bytes of file {id} came unasked")));
        };
        if !data.is_empty() {
            return file.write_all(data);
        }
        let Some((file, stat)) = self.files.remove(&id) else { return Ok(()) };
        sys::root::chmod_open(&file, go_mode::permissions(stat.mode))?;
        Ok(sys::root::set_open_mtime(&file, Time::from_nanos(stat.mod_time))?)
    }

    fn finish(&mut self) -> io::Result<()> {
        for link in std::mem::take(&mut self.links) {
            self.root.link(&link.linkname, &link.path)?;
        }
        for folder in self.folders.iter().rev() {
            self.root.chmod(&folder.path, go_mode::permissions(folder.mode))?;
            self.root.set_mtime(&folder.path, Time::from_nanos(folder.mod_time))?;
        }
        self.send(PacketType::PacketFin, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(folder: &Path, packets: Vec<fsutil::Packet>) -> io::Result<()> {
        let (sender, queue) = mpsc::channel(100);
        let (asked, _answers) = mpsc::channel(100);
        for packet in packets {
            sender.try_send(packet).unwrap();
        }
        drop(sender);
        receive(folder, queue, asked)
    }

    fn stat(path: &str, mode: u32, link: &str) -> fsutil::Packet {
        let linkname = link.to_owned();
        let stat = fsutil::Stat { path: path.into(), mode, linkname, ..fsutil::Stat::default() };
        fsutil::Packet { stat: Some(stat), ..packet(PacketType::PacketStat, 0, b"") }
    }

    fn packet(kind: PacketType, id: u32, data: &[u8]) -> fsutil::Packet {
        fsutil::Packet { r#type: kind as i32, id, data: data.to_vec(), ..Default::default() }
    }

    #[test]
    fn a_tree_comes_and_nothing_leaves_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        play(
            &out,
            vec![
                stat("d", 1 << 31 | 0o750, ""),
                stat("d/f", 0o640, ""),
                stat("d/g", 0o640, "d/f"),
                packet(PacketType::PacketStat, 0, b""),
                packet(PacketType::PacketData, 1, b"bytes"),
                packet(PacketType::PacketData, 1, b""),
                packet(PacketType::PacketFin, 0, b""),
            ],
        )
        .unwrap();
        assert_eq!(std::fs::read(out.join("d/g")).unwrap(), b"bytes");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(out.join("d").metadata().unwrap().permissions().mode() & 0o777, 0o750);
        std::fs::create_dir(dir.path().join("victim")).unwrap();
        let victim = dir.path().join("victim");
        let through = vec![
            stat("l", 1 << 27 | 0o777, victim.to_str().unwrap()),
            stat("l/f", 0o644, ""),
            packet(PacketType::PacketStat, 0, b""),
        ];
        play(&out, through).unwrap_err();
        assert!(!victim.join("f").exists());
        for path in ["../x", "/x", ""] {
            assert!(play(&out, vec![stat(path, 0o644, "")]).is_err(), "{path}");
        }
    }
}

//! Folders of ours for the engine: the list of files at first, then the bytes of those that it asks for.
//!
//! Source: fsutil's protocol (`moby.filesync.v1.FileSync/DiffCopy`).

use super::{
    walk::{Wanted, walk},
    wire::{fsutil, packet},
};
use fsutil::packet::PacketType;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, mpsc as std_mpsc},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of a file in one message.
const PIECE: usize = 64 << 10;
/// Messages on their way.
const QUEUE: usize = 64;

/// The folders, by the names that the engine knows them by.
#[derive(Clone, Debug)]
pub(super) struct Folders(pub(super) Arc<HashMap<String, PathBuf>>);

type Packets =
    Pin<Box<dyn futures_util::Stream<Item = Result<fsutil::Packet, Status>> + std::marker::Send>>;

fn wanted(headers: &tonic::metadata::MetadataMap) -> Result<Wanted, Status> {
    let list = |key: &str| -> Result<Vec<String>, Status> {
        let escaped = headers.get(format!("{key}-encoded").as_str()).is_some_and(|v| v == "1");
        let values = headers.get_all(key).iter();
        let mut all = Vec::new();
        for value in values {
            let text = value.to_str().map_err(|_| Status::invalid_argument("malformed pattern"))?;
            all.push(if escaped { unescape(text) } else { text.to_owned() });
        }
        Ok(all)
    };
    Ok(Wanted {
        include: list("include-patterns")?,
        exclude: list("exclude-patterns")?,
        follow: list("followpaths")?,
    })
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (byte, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[tonic::async_trait]
impl packet::file_sync_server::FileSync for Folders {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn diff_copy(
        &self,
        request: Request<Streaming<fsutil::Packet>>,
    ) -> Result<Response<Packets>, Status> {
        let name = request.metadata().get("dir-name").and_then(|v| v.to_str().ok());
        let name = name.unwrap_or_default();
        let folder = self
            .0
            .get(name)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let wanted = wanted(request.metadata())?;
        let mut asked = request.into_inner();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (ids, queue) = std_mpsc::channel();
        tokio::spawn(async move {
            while let Ok(Some(packet)) = asked.message().await {
                if ids.send(packet).is_err() {
                    return;
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            if let Err(err) = send(&folder, &wanted, &queue, &sender) {
                let data = err.to_string().into_bytes();
                let told = packet_of(PacketType::PacketErr, 0, data);
                // The engine may be gone.
                drop(sender.blocking_send(Ok(told)));
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<fsutil::Packet>>,
    ) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("folders are sent by DiffCopy"))
    }
}

fn packet_of(kind: PacketType, id: u32, data: Vec<u8>) -> fsutil::Packet {
    fsutil::Packet { r#type: kind as i32, id, data, ..fsutil::Packet::default() }
}

fn send(
    folder: &std::path::Path,
    wanted: &Wanted,
    queue: &std_mpsc::Receiver<fsutil::Packet>,
    sender: &mpsc::Sender<Result<fsutil::Packet, Status>>,
) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the engine has gone");
    let put = |packet| sender.blocking_send(Ok(packet)).map_err(|_| gone());
    let mut files: HashMap<u32, PathBuf> = HashMap::new();
    let mut count = 0_u32;
    walk(folder, wanted, &mut |path, stat| {
        // Only what has bytes of its own is asked for.
        if stat.mode & !sys::go_mode::PERMISSIONS == 0 && stat.linkname.is_empty() {
            files.insert(count, path);
        }
        count += 1;
        put(fsutil::Packet { stat: Some(stat), ..packet_of(PacketType::PacketStat, 0, Vec::new()) })
    })?;
    put(packet_of(PacketType::PacketStat, 0, Vec::new()))?;
    while let Ok(packet) = queue.recv() {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) => {
                let path = files.get(&packet.id).ok_or_else(|| {
                    io::Error::other(format!("the engine asked for the unknown file {}", packet.id))
                })?;
                let fail = |e: io::Error| {
                    io::Error::new(
                        e.kind(),
                        format!("{}: {}", path.display(), crate::error::text(&e)),
                    )
                };
                let mut file = File::open(path).map_err(fail)?;
                loop {
                    let mut data = vec![0; PIECE];
                    let read = file.read(&mut data).map_err(fail)?;
                    data.truncate(read);
                    put(packet_of(PacketType::PacketData, packet.id, data))?;
                    if read == 0 {
                        break;
                    }
                }
            }
            Ok(PacketType::PacketFin) => {
                return put(packet_of(PacketType::PacketFin, 0, Vec::new()));
            }
            Ok(PacketType::PacketErr) => {
                let why = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(io::Error::other(format!(
                    "the engine could not take the files: {why}"
                )));
            }
            _ => return Err(io::Error::other("the engine sent a packet of an unknown kind")),
        }
    }
    // It has what it wanted of us.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_they_were_escaped() {
        assert_eq!(unescape("a%C3%A4/b%"), "aä/b%");
        let mut headers = tonic::metadata::MetadataMap::new();
        headers.append("exclude-patterns", "a".parse().unwrap());
        headers.append("exclude-patterns", "%62".parse().unwrap());
        assert_eq!(wanted(&headers).unwrap().exclude, ["a", "%62"]);
        headers.append("exclude-patterns-encoded", "1".parse().unwrap());
        assert_eq!(wanted(&headers).unwrap().exclude, ["a", "b"]);
    }
}

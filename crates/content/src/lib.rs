//! containerd's content service on the wire: what clients of BuildKit offer folders of blobs by, and are told of builds
//! that are over by. Messages and streams for both ends; who has which blob is theirs.
//!
//! Source: containerd's `containerd.services.content.v1.Content` (only what BuildKit's sessions use of it).

use bollard_buildkit_proto::google;
use futures_util::Stream;
use prost::Message;
use std::{
    collections::HashMap,
    io::{self, Read},
    pin::Pin,
};
use tokio::sync::mpsc;
use tonic::Status;

/// What requests name the store by, in their metadata.
pub const STORE: &str = "buildkit-attachable-store-id";
/// The size of a blob.
pub const INFO: &str = "/containerd.services.content.v1.Content/Info";
/// Its bytes.
pub const READ: &str = "/containerd.services.content.v1.Content/Read";
/// A blob comes.
pub const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// Bytes of one message of [`pieces`].
const PIECE: usize = 256 << 10;

/// Asks for [`Info`].
#[derive(Clone, PartialEq, Message)]
pub struct InfoRequest {
    /// Of the blob.
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// What is known of a blob.
#[derive(Clone, PartialEq, Message)]
pub struct Info {
    /// Of the blob.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Bytes.
    #[prost(int64, tag = "2")]
    pub size: i64,
}

/// Answers [`InfoRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct InfoResponse {
    /// Always there.
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

/// Asks for the bytes of a blob.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// Of the blob.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Where to begin.
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// How many; 0 for all.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A piece of a blob.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// Where in the blob.
    #[prost(int64, tag = "1")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// What a [`WriteRequest`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    /// To hear how far the write has come.
    Stat = 0,
    /// These bytes written.
    Write = 1,
    /// These bytes written, and the blob kept.
    Commit = 2,
}

/// A step of a write.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// An [`Action`].
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// What the write is called.
    #[prost(string, tag = "2")]
    pub reference: String,
    /// Bytes of the whole blob.
    #[prost(int64, tag = "3")]
    pub total: i64,
    /// The digest that it must have; empty for any.
    #[prost(string, tag = "4")]
    pub expected: String,
    /// Where these bytes are in it.
    #[prost(int64, tag = "5")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
    /// Of the blob.
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
}

/// How far a write has come.
#[derive(Clone, PartialEq, Message)]
pub struct WriteResponse {
    /// The [`Action`] that is answered.
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// When the write was begun.
    #[prost(message, optional, tag = "2")]
    pub started_at: Option<google::protobuf::Timestamp>,
    /// Bytes that have come.
    #[prost(int64, tag = "4")]
    pub offset: i64,
    /// Bytes that are expected.
    #[prost(int64, tag = "5")]
    pub total: i64,
    /// Of a blob that is kept.
    #[prost(string, tag = "6")]
    pub digest: String,
}

/// An answer of many messages.
pub type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// An answer of what `receiver` brings.
pub fn many<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>) -> Many<T> {
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    }))
}

/// Answers a [`ReadRequest`] with what is left of `file`, which stands at `offset` of its blob; `fail` says what an error of the
/// disk is to the asker. To be called in a runtime.
pub fn pieces(
    mut file: impl Read + Send + 'static,
    mut offset: i64,
    fail: impl Fn(&io::Error) -> Status + Send + 'static,
) -> Many<ReadResponse> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut data = vec![0; PIECE];
            let piece = match file.read(&mut data) {
                Ok(0) => return,
                Ok(count) => {
                    data.truncate(count);
                    let piece = ReadResponse { offset, data };
                    offset += i64::try_from(count).unwrap_or_default();
                    Ok(piece)
                }
                Err(err) => Err(fail(&err)),
            };
            let ended = piece.is_err();
            if sender.blocking_send(piece).is_err() || ended {
                return;
            }
        }
    });
    many(receiver)
}

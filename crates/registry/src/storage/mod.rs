//! Where the bytes of large blobs are: objects under keys (places) that are used once and never changed.
//!
//! Flow: an upload is received into a spool on the local disk. A [`Storage`] either takes the whole spool
//! at the end ([`Storage::keep`]), or, when it offers [`Multipart`], part after part while the upload goes
//! on, so that the local disk never holds more than two parts of any upload.
//!
//! Invariants: an object is whole and durable when `keep` or `complete` returns; removing one that is not
//! there is no error; nothing here decides whether an object is needed.
//! To add a kind of storage: one file here, one line in [`KINDS`]; it runs the contract of `contract.rs`.

mod files;
mod objects;

pub use files::Files;
pub(crate) use files::blocking as files_blocking;
pub use objects::Objects;

use base::{Digest, Error, Result, Timestamp};
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use std::{collections::BTreeMap, fmt, fs::File, ops::Range, path::Path, sync::Arc};

/// Where blobs are to be kept, as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `file:PATH`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`.
    pub url: String,
    /// Options of the object store's client, by the names that `object_store` gives them.
    pub options: BTreeMap<String, String>,
}

/// Opens one kind of storage for an address without its scheme.
type Open = fn(&Settings, &str) -> Result<Arc<dyn Storage>>;

/// All kinds, by the scheme of their addresses.
static KINDS: &[(&str, Open)] = &[
    ("file", |_, path| Ok(Arc::new(Files::open(Path::new(path.trim_start_matches("//")))?))),
    ("s3", |settings, _| Ok(Arc::new(Objects::s3(settings)?))),
    ("gs", |settings, _| Ok(Arc::new(Objects::gcs(settings)?))),
    ("az", |settings, _| Ok(Arc::new(Objects::azure(settings)?))),
    ("memory", |_, _| Ok(Arc::new(Objects::memory()))),
];

/// Opens the storage that `settings` name.
///
/// # Errors
/// `Invalid` for an address or an option that is none; of the disk.
pub fn open(settings: &Settings) -> Result<Arc<dyn Storage>> {
    let (scheme, rest) = settings.url.split_once(':').unwrap_or(("file", &settings.url));
    let Some((_, open)) = KINDS.iter().find(|(kind, _)| *kind == scheme) else {
        let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        return Err(Error::invalid(format!(
            "unknown kind of storage {scheme:?} in {:?}: want one of {}",
            settings.url,
            known.join(", ")
        )));
    };
    open(settings, rest)
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub place: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// Bytes of an object.
pub enum Content {
    /// A range of an open file.
    File(Arc<File>, Range<u64>),
    /// From elsewhere, as they come.
    Stream(BoxStream<'static, Result<Bytes>>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(..) => "Content::File",
            Self::Stream(_) => "Content::Stream",
        })
    }
}

/// Objects under keys.
pub trait Storage: Send + Sync + fmt::Debug {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// A key for a blob that was received as upload `upload`, never used before.
    fn place(&self, digest: &Digest, upload: &str) -> String;

    /// Makes the file `spool` the object `place`, whole and durable; the file is used up.
    fn keep<'a>(&'a self, spool: &'a Path, place: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Reads `range`, which lies within the object.
    fn read<'a>(&'a self, place: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Content>>;

    /// Bytes of an object, `None` when it is not there.
    fn size<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<Option<u64>>>;

    /// Deletes an object; one that is not there is no error.
    fn remove<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<()>>;

    /// All objects, in no order.
    fn list(&self) -> BoxStream<'_, Result<Object>>;

    /// Whether it answers.
    fn check(&self) -> BoxFuture<'_, Result<()>>;

    /// The means to take uploads part by part, where there are such.
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }
}

/// Uploads that a storage takes part by part.
pub trait Multipart: Send + Sync {
    /// Bytes of every part but the last.
    fn part_bytes(&self) -> u64;

    /// A key for an upload whose digest is not known yet.
    fn place(&self, upload: &str) -> String;

    /// Begins: the storage's id for the upload.
    fn begin<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<String>>;

    /// Uploads part `number`, counted from 0: what the storage calls it.
    fn put<'a>(
        &'a self,
        place: &'a str,
        id: &'a str,
        number: usize,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<String>>;

    /// Makes the parts one object.
    fn complete<'a>(
        &'a self,
        place: &'a str,
        id: &'a str,
        parts: Vec<String>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Drops the parts; an upload that is not there is no error.
    fn abort<'a>(&'a self, place: &'a str, id: &'a str) -> BoxFuture<'a, Result<()>>;
}

#[cfg(test)]
mod contract;

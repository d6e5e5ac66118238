//! Reads everything that is stored and compares it with its digest.
//!
//! What does not fit is marked: it is not served any more, clients that push it again are asked for its bytes,
//! and the fresh ones take its place. What fits again (a disk that was away) loses its mark.

use crate::{
    hash::{Algorithm, Hasher},
    meta::{Blob, Database, Place},
    storage::{Content, Storage},
};
use base::{Digest, Error, Kind, Result, Timestamp};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use std::os::unix::fs::FileExt as _;
use tokio_util::sync::CancellationToken;

/// Rows that are read at once.
const PAGE: usize = 100;
/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;

/// Something whose bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// `blob` or `manifest`.
    pub kind: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// In which repositories it is.
    pub repositories: Vec<String>,
    /// What is wrong with it.
    pub fault: String,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Blobs that were read.
    pub blobs: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// Hashes an object of `size` bytes.
pub(crate) async fn hash_object(
    storage: &dyn Storage,
    place: &str,
    size: u64,
    algorithm: Algorithm,
) -> Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    if size == 0 {
        return Ok(hasher.finish());
    }
    match storage.read(place, 0..size).await? {
        Content::Stream(mut stream) => {
            while let Some(bytes) = stream.try_next().await? {
                hasher.update(&bytes);
            }
        }
        Content::File(file, range) => {
            let whole = tokio::task::spawn_blocking(move || {
                let mut buffer = vec![0; PIECE as usize];
                let mut at = range.start;
                while at < range.end {
                    let piece = PIECE.min(range.end - at) as usize;
                    file.read_exact_at(&mut buffer[..piece], at)
                        .map_err(|e| Error::io("cannot read a blob", e))?;
                    hasher.update(&buffer[..piece]);
                    at += piece as u64;
                }
                Ok::<_, Error>(hasher)
            });
            let ended = |e| Error::internal("reading a blob ended early").caused_by(e);
            hasher = whole.await.map_err(ended)??;
        }
    }
    Ok(hasher.finish())
}

/// Scrubs everything, until `stop`.
///
/// # Errors
/// `Unavailable` when storage does not answer, which says nothing about what it holds; of the database.
pub async fn scrub(
    database: &Database,
    storage: &dyn Storage,
    stop: &CancellationToken,
) -> Result<Report> {
    // A bucket that is gone or not reached says nothing about the blobs.
    storage.check().await?;
    let mut report = Report::default();
    scrub_blobs(database, storage, stop, &mut report).await?;
    scrub_manifests(database, stop, &mut report).await?;
    Ok(report)
}

async fn scrub_blobs(
    database: &Database,
    storage: &dyn Storage,
    stop: &CancellationToken,
    report: &mut Report,
) -> Result<()> {
    let mut after = 0;
    loop {
        let page = database.read(move |tx| tx.blobs_after(after, PAGE)).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = last.id;
        for (blob, was_damaged) in page {
            if stop.is_cancelled() {
                return Ok(());
            }
            let fault = examine(database, storage, &blob).await?;
            report.blobs += 1;
            report.bytes += blob.size;
            if fault.is_none() && !was_damaged {
                continue;
            }
            let (digest, damaged) = (blob.digest.clone(), fault.is_some());
            let marked = database
                .write(move |tx| {
                    let repositories = tx.holders(blob.id, PAGE)?;
                    Ok(tx.mark_blob(&blob, damaged, Timestamp::now())?.then_some(repositories))
                })
                .await?;
            // Collected or replaced while we read it: nothing to tell.
            if let (Some(fault), Some(repositories)) = (fault, marked) {
                tracing::error!(%digest, fault, "a blob is damaged");
                report.damaged.push(Damage { kind: "blob", digest, repositories, fault });
            }
        }
    }
}

async fn examine(
    database: &Database,
    storage: &dyn Storage,
    blob: &Blob,
) -> Result<Option<String>> {
    let found = match &blob.place {
        Place::Inline => {
            let id = blob.id;
            let bytes = database.read(move |tx| tx.blob_bytes(id)).await?;
            bytes.map(|bytes| Algorithm::of(&blob.digest).digest(&bytes))
        }
        Place::Stored(place) => match storage.size(place).await? {
            None => None,
            Some(size) if size != blob.size => {
                return Ok(Some(format!("it has {size} bytes, {} were stored", blob.size)));
            }
            Some(_) => {
                let algorithm = Algorithm::of(&blob.digest);
                match hash_object(storage, place, blob.size, algorithm).await {
                    Ok(digest) => Some(digest),
                    Err(err) if err.kind() == Kind::NotFound => None,
                    Err(err) if err.kind() == Kind::Internal => return Ok(Some(err.chain())),
                    Err(err) => return Err(err),
                }
            }
        },
    };
    Ok(match found {
        None => Some("its bytes are gone".to_owned()),
        Some(digest) if digest != blob.digest => {
            Some(format!("its bytes have the digest {digest}"))
        }
        Some(_) => None,
    })
}

async fn scrub_manifests(
    database: &Database,
    stop: &CancellationToken,
    report: &mut Report,
) -> Result<()> {
    let mut after = 0;
    loop {
        let page = database.read(move |tx| tx.manifests_after(after, PAGE)).await?;
        let Some((_, last)) = page.last() else { return Ok(()) };
        after = last.id;
        for (repository, manifest) in page {
            if stop.is_cancelled() {
                return Ok(());
            }
            report.manifests += 1;
            report.bytes += manifest.size;
            let id = manifest.id;
            // Deleted while we look: nothing to tell.
            let Some(bytes) = database.read(move |tx| tx.manifest_bytes(id)).await? else {
                continue;
            };
            let found = Algorithm::of(&manifest.digest).digest(&bytes);
            let damaged = found != manifest.digest;
            if damaged {
                let digest = manifest.digest;
                tracing::error!(%digest, repository, "a manifest is damaged");
                let fault = format!("its bytes have the digest {found}");
                let repositories = vec![repository];
                report.damaged.push(Damage { kind: "manifest", digest, repositories, fault });
                database.write(move |tx| tx.mark_manifest(id, true, Timestamp::now())).await?;
            }
        }
    }
}

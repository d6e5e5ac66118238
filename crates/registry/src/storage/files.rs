//! Blobs on a local disk: `<root>/sha256/<first two digits>/<digest>.<upload>`.
//!
//! Invariants: a file under this root is whole, because it was renamed into place after its bytes were
//! flushed; the folder's entry is flushed before the blob is acknowledged. The spool must be on the same
//! file system.

use super::{Content, Object, Storage};
use base::{Digest, Error, Result, Timestamp};
use futures_util::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    ops::Range,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A folder of blobs.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Opens the folder, made when absent.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(root: &Path) -> Result<Self> {
        make_dir(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Places come from the database alone, and were made here; a stray one is refused all the same.
    fn path(&self, place: &str) -> Result<PathBuf> {
        let fine = place.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.'))
            && place.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if fine {
            Ok(self.root.join(place))
        } else {
            Err(Error::internal(format!("bad place {place:?}")))
        }
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::io(format!("cannot create {}", dir.display()), e))
}

/// Runs what waits for the disk on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("work on the disk ended early").caused_by(e))?
}

fn keep(spool: &Path, to: &Path) -> Result<()> {
    let fail = |e| Error::io("cannot store a blob", e);
    File::open(spool).and_then(|file| file.sync_data()).map_err(fail)?;
    let dir = to.parent().ok_or_else(|| Error::internal("a blob's place has no folder"))?;
    match fs::rename(spool, to) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            make_dir(dir)?;
            for above in [dir.parent(), dir.parent().and_then(Path::parent)].into_iter().flatten() {
                File::open(above).and_then(|d| d.sync_all()).map_err(fail)?;
            }
            fs::rename(spool, to).map_err(fail)?;
        }
        done => done.map_err(fail)?,
    }
    File::open(dir).and_then(|d| d.sync_all()).map_err(fail)
}

fn list(root: &Path) -> Result<Vec<Object>> {
    let fail = |e| Error::io("cannot list the blobs", e);
    let mut found = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let folders = match fs::read_dir(root.join(algorithm)) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            folders => folders.map_err(fail)?,
        };
        for folder in folders {
            let folder = folder.map_err(fail)?.path();
            for file in fs::read_dir(&folder).map_err(fail)? {
                let file = file.map_err(fail)?;
                let path = file.path();
                let place = path.strip_prefix(root).ok().and_then(Path::to_str);
                // Deleted while we look: not there.
                let (Some(place), Ok(meta)) = (place, file.metadata()) else { continue };
                let modified = meta.modified().ok().and_then(|t| {
                    let since = t.duration_since(std::time::UNIX_EPOCH).ok()?;
                    Some(Timestamp::from_unix_nanos(since.as_nanos() as i128))
                });
                found.push(Object {
                    place: place.to_owned(),
                    size: meta.len(),
                    modified: modified.unwrap_or_default(),
                });
            }
        }
    }
    Ok(found)
}

impl Storage for Files {
    fn describe(&self) -> String {
        format!("files below {}", self.root.display())
    }

    fn place(&self, digest: &Digest, upload: &str) -> String {
        let hex = digest.hex();
        format!("{}/{}/{hex}.{upload}", digest.algorithm(), &hex[..2])
    }

    fn keep<'a>(&'a self, spool: &'a Path, place: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (spool, to) = (spool.to_owned(), self.path(place)?);
            blocking(move || keep(&spool, &to)).await
        })
    }

    fn read<'a>(&'a self, place: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Content>> {
        Box::pin(async move {
            let path = self.path(place)?;
            blocking(move || {
                let fail = |e: std::io::Error| match e.kind() {
                    ErrorKind::NotFound => Error::not_found("the blob's file is gone"),
                    _ => Error::io("cannot open a blob", e),
                };
                let file = File::open(&path).map_err(fail)?;
                if file.metadata().map_err(fail)?.len() < range.end {
                    return Err(Error::internal("the blob's file is too short"));
                }
                Ok(Content::File(Arc::new(file), range))
            })
            .await
        })
    }

    fn size<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let path = self.path(place)?;
            blocking(move || match fs::metadata(&path) {
                Ok(meta) => Ok(Some(meta.len())),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::io("cannot look at a blob", e)),
            })
            .await
        })
    }

    fn remove<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = self.path(place)?;
            blocking(move || match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    Err(Error::io("cannot delete a blob", e))
                }
                _ => Ok(()),
            })
            .await
        })
    }

    fn list(&self) -> BoxStream<'_, Result<Object>> {
        let root = self.root.clone();
        let all = async move {
            match blocking(move || list(&root)).await {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(err) => vec![Err(err)],
            }
        };
        stream::once(all).flat_map(stream::iter).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let root = self.root.clone();
            blocking(move || {
                fs::read_dir(&root)
                    .map(drop)
                    .map_err(|e| Error::io(format!("cannot read {}", root.display()), e))
            })
            .await
        })
    }
}

//! The content store: blobs by digest under `<root>/blobs/sha256/<hex>`.
//!
//! Flow: a [`Writer`] hashes into a file below `<root>/ingest/`; [`Writer::commit`] compares digest and
//! size and renames it into place. Two writers of one blob are safe: both rename the same bytes.
//! Invariants: what stands under a digest was checked against it when it came and is checked again on
//! [`Content::read`]; a leftover of `ingest` is dropped at the next open.
//! Durability: a rename alone may be lost by a power cut; [`Content::sync`] before the row that points to a
//! blob is committed makes it last.
//! A blob that is downloaded grows below `<root>/partial/` and is continued there ([`crate::download`]).
//! Not here: who needs which blob (the engine's leases and rows decide; [`Content::remove`] asks nobody).

use base::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Blobs on one disk.
#[derive(Clone, Debug)]
pub struct Content {
    root: PathBuf,
}

impl Content {
    /// Opens the store below `root` (made when absent) and drops what an earlier run left half-written.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(root: &Path) -> Result<Self> {
        let content = Self { root: root.to_owned() };
        let ingest = content.ingest();
        match fs::remove_dir_all(&ingest) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("cannot clear {}", ingest.display()), e));
            }
            _ => {}
        }
        for dir in [content.blobs(), ingest, content.partial()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|e| Error::io(format!("cannot create {}", dir.display()), e))?;
        }
        Ok(content)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Folder for files that are being written; also where archives are spooled.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Folder of blobs that are not whole yet and may be continued, also by a later engine.
    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Drops what was begun, not touched for `age`, and is not in `active`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn drop_partial(&self, age: std::time::Duration, active: &[Digest]) -> Result<()> {
        let fail = |e| Error::io("cannot clear unfinished blobs", e);
        for entry in fs::read_dir(self.partial()).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let hex = name.split('.').next().unwrap_or_default();
            if active.iter().any(|digest| digest.hex() == hex) {
                continue;
            }
            let touched = entry.metadata().and_then(|m| m.modified()).ok();
            let old = touched.and_then(|t| t.elapsed().ok()).is_none_or(|t| t >= age);
            if old {
                fs::remove_file(entry.path()).map_err(fail)?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self, digest: &Digest) -> Result<PathBuf> {
        match digest.algorithm() {
            "sha256" => Ok(self.blobs().join(digest.hex())),
            other => Err(Error::invalid(format!("unsupported digest algorithm {other}"))),
        }
    }

    /// Begins a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// Of the disk.
    pub fn writer(&self, limit: u64) -> Result<Writer<'_>> {
        let file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(self.ingest())
            .map_err(|e| Error::io("cannot create a blob", e))?;
        Ok(Writer { content: self, file, hash: Sha256::new(), bytes: 0, limit })
    }

    /// Stores `bytes` and returns their digest. A damaged blob of that name is replaced.
    ///
    /// # Errors
    /// Of the disk.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        if self.read(&digest, bytes.len() as u64).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.writer(bytes.len() as u64)?;
        writer.write_all(bytes).map_err(|e| Error::io(format!("cannot write blob {digest}"), e))?;
        writer.commit(Some(&digest), None)
    }

    /// Opens a blob, with its size.
    ///
    /// # Errors
    /// `NotFound` when it is not here.
    pub fn blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.path(digest)?;
        let fail = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                Error::not_found(format!("blob {digest} is not in the content store"))
            }
            _ => Error::io(format!("cannot open blob {digest}"), e),
        };
        let file = File::open(path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok((file, size))
    }

    /// Reads a small blob whole and checks it against its digest.
    ///
    /// # Errors
    /// `NotFound` when it is not here, `Invalid` beyond `limit` bytes, `Internal` when it was damaged.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let (file, size) = self.blob(digest)?;
        if size > limit {
            return Err(Error::invalid(format!(
                "blob {digest} has {size} bytes, {limit} are allowed"
            )));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format!("cannot read blob {digest}"), e))?;
        if Digest::sha256(&bytes) != *digest {
            return Err(Error::internal(format!("blob {digest} is damaged")));
        }
        Ok(bytes)
    }

    /// Whether the blob is here and its bytes are what its name says.
    pub fn is_sound(&self, digest: &Digest) -> bool {
        self.blob(digest).is_ok_and(|(mut file, _)| hash(&mut file).is_ok_and(|h| h == *digest))
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_ok_and(|p| p.exists())
    }

    /// Drops a blob; one that is not here is no error.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        match fs::remove_file(self.path(digest)?) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot remove blob {digest}"), e))
            }
            _ => Ok(()),
        }
    }

    /// All blobs with their sizes, in no order. Files that are not named by a digest are passed over.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let fail = |e| Error::io("cannot list the content store", e);
        let mut found = Vec::new();
        for entry in fs::read_dir(self.blobs()).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(name) = entry.file_name().to_str().map(|n| format!("sha256:{n}")) else {
                continue;
            };
            if let (Ok(digest), Ok(meta)) = (name.parse(), entry.metadata()) {
                found.push((digest, meta.len()));
            }
        }
        Ok(found)
    }

    /// Blobs whose bytes do not match their name.
    ///
    /// # Errors
    /// Of the disk.
    pub fn damaged(&self) -> Result<Vec<Digest>> {
        let mut damaged = Vec::new();
        for (digest, _) in self.list()? {
            let (mut file, _) = self.blob(&digest)?;
            let found =
                hash(&mut file).map_err(|e| Error::io(format!("cannot read blob {digest}"), e))?;
            if found != digest {
                damaged.push(digest);
            }
        }
        Ok(damaged)
    }

    /// Makes these blobs survive a power cut, whatever else the disk still has to write.
    ///
    /// # Errors
    /// `NotFound` when one is not here; of the disk.
    pub fn sync_blobs<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        let fail = |e| Error::io("cannot flush the content store", e);
        for digest in digests {
            self.blob(digest)?.0.sync_data().map_err(fail)?;
        }
        File::open(self.blobs()).and_then(|dir| dir.sync_all()).map_err(fail)
    }

    /// Makes everything written so far on this disk survive a power cut.
    ///
    /// # Errors
    /// Of the disk.
    pub fn sync(&self) -> Result<()> {
        let fail = |e| Error::io("cannot flush the content store", e);
        let root = File::open(&self.root).map_err(fail)?;
        rustix::fs::syncfs(&root).map_err(|e| fail(e.into()))
    }
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hash = Hashing(Sha256::new());
    io::copy(file, &mut hash)?;
    Ok(Digest::from_sha256(hash.0.finalize().into()))
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that is being written; dropped without commit it leaves nothing.
#[derive(Debug)]
pub struct Writer<'c> {
    content: &'c Content,
    file: NamedTempFile,
    hash: Sha256,
    bytes: u64,
    limit: u64,
}

impl Writer<'_> {
    /// Puts the blob into the store.
    ///
    /// # Errors
    /// `Invalid` when digest or size are not as `expected`; then nothing is kept.
    pub fn commit(mut self, expected: Option<&Digest>, size: Option<u64>) -> Result<Digest> {
        let found = Digest::from_sha256(self.hash.finalize().into());
        if let Some(expected) = expected
            && found != *expected
        {
            return Err(Error::invalid(format!(
                "digest mismatch: expected {expected}, got {found}"
            )));
        }
        if let Some(size) = size
            && self.bytes != size
        {
            return Err(Error::invalid(format!(
                "blob {found} has {} bytes, {size} were announced",
                self.bytes
            )));
        }
        let fail = |e| Error::io(format!("cannot store blob {found}"), e);
        self.file.flush().map_err(fail)?;
        self.file.persist(self.content.path(&found)?).map_err(|e| fail(e.error))?;
        Ok(found)
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.bytes + buf.len() as u64 > self.limit {
            return Err(io::Error::other(Error::invalid(format!(
                "blob is larger than {} bytes",
                self.limit
            ))));
        }
        let n = self.file.as_file_mut().write(buf)?;
        self.hash.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(&dir.path().join("content")).unwrap();
        (dir, content)
    }

    fn leftovers(content: &Content) -> usize {
        fs::read_dir(content.ingest()).unwrap().count()
    }

    #[test]
    fn only_the_promised_bytes_get_in() {
        let (_dir, content) = content();
        let digest = content.put(b"hello").unwrap();
        assert_eq!(content.read(&digest, 10).unwrap(), b"hello");
        assert!(content.read(&digest, 4).is_err());
        let cases = [
            (Some(Digest::sha256(b"other")), None),
            (None, Some(4)),
            (Some(digest.clone()), Some(6)),
        ];
        for (expected, size) in cases {
            let mut writer = content.writer(100).unwrap();
            writer.write_all(b"hallo").unwrap();
            assert!(writer.commit(expected.as_ref(), size).is_err());
        }
        let mut writer = content.writer(3).unwrap();
        assert!(writer.write_all(b"hello").is_err());
        drop(writer);
        assert_eq!(content.list().unwrap(), [(digest, 5)]);
        assert_eq!(leftovers(&content), 0);
    }

    #[test]
    fn two_writers_of_one_blob_both_succeed() {
        let (_dir, content) = content();
        let mut a = content.writer(9).unwrap();
        let mut b = content.writer(9).unwrap();
        a.write_all(b"same").unwrap();
        b.write_all(b"same").unwrap();
        assert_eq!(a.commit(None, None).unwrap(), b.commit(None, None).unwrap());
        assert_eq!(content.list().unwrap().len(), 1);
    }

    #[test]
    fn damage_is_found_and_mended_by_the_next_put() {
        let (_dir, content) = content();
        let digest = content.put(b"hello").unwrap();
        fs::write(content.path(&digest).unwrap(), b"hexxo").unwrap();
        assert!(content.read(&digest, 10).is_err());
        assert_eq!(content.damaged().unwrap(), std::slice::from_ref(&digest));
        content.put(b"hello").unwrap();
        assert_eq!(content.read(&digest, 10).unwrap(), b"hello");
        assert!(content.damaged().unwrap().is_empty());
        content.remove(&digest).unwrap();
        content.remove(&digest).unwrap();
        assert!(!content.has(&digest));
        content.sync().unwrap();
        assert!(content.sync_blobs([&digest]).is_err());
        content.put(b"hello").unwrap();
        content.sync_blobs([&digest]).unwrap();
    }

    #[test]
    fn opening_drops_half_written_blobs() {
        let (dir, content) = content();
        fs::write(content.ingest().join("half"), b"x").unwrap();
        let again = Content::open(&dir.path().join("content")).unwrap();
        assert_eq!(leftovers(&again), 0);
    }
}

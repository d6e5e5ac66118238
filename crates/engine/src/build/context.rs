//! The context: from the request's body, a URL or a repository to a folder, and the Dockerfile in it.
//!
//! Invariants: a body is read once, by stream, and unpacked into `builds/<id>/context` inside its root; a
//! Dockerfile is a regular file of bounded size or an error.

use super::{BuildRequest, Job, git, host::blocking};
use crate::images;
use base::{Digest, Error, Kind as ErrorKind, Result};
use build::{
    download::{self, Remote},
    ignore::Ignore,
    limits,
    output::Output,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::Arc,
};
use sys::root::{Kind, Root};

/// The name of a Dockerfile that nobody names.
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

/// What a build starts from.
pub(super) struct Context {
    pub dockerfile: Vec<u8>,
    pub root: Option<Arc<Root>>,
    pub digest: Option<Digest>,
}

/// The name that messages use.
pub(super) fn name(dockerfile: &str) -> String {
    if dockerfile.is_empty() { DOCKERFILE.into() } else { dockerfile.into() }
}

/// Gets the context of `request`.
///
/// # Errors
/// `Invalid` with docker's wording; of the disk.
pub(super) async fn receive(
    job: &Arc<Job>,
    request: &BuildRequest,
    body: Option<images::Bytestream>,
    output: &Output,
) -> Result<Context> {
    let folder = job.dir.join("context");
    let dockerfile = request.dockerfile.clone();
    let remote = request.remote.clone();
    if remote.is_empty() {
        let body = body.ok_or_else(|| Error::invalid("the request has no build context"))?;
        let reader = images::reader(body);
        return blocking(move || {
            crate::lifecycle::private_dir(&folder)?;
            let (root, digest) = unpack_stream(reader, &folder)?;
            from_folder(root, &dockerfile, Some(digest))
        })
        .await;
    }
    if let Some(repository) = git::Repository::parse(&remote)? {
        return blocking(move || {
            let root = repository.check_out(&folder)?;
            from_folder(root, &dockerfile, None)
        })
        .await;
    }
    if remote.starts_with("http://") || remote.starts_with("https://") {
        let output = output.clone();
        return blocking(move || {
            crate::lifecycle::private_dir(&folder)?;
            from_url(&remote, &folder, &dockerfile, &output)
        })
        .await;
    }
    Err(Error::invalid(format!("remoteURL ({remote}) could not be recognized as URL")))
}

/// Reads through, hashing what passes.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    /// Reading failed: whatever comes of it is the sender's doing.
    failed: bool,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf).inspect_err(|e| {
            self.failed |= e.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

fn unpack_stream(source: impl Read + Send, folder: &Path) -> Result<(Root, Digest)> {
    let root = Root::open(folder)
        .map_err(|e| Error::io(format!("cannot open {}", folder.display()), e.into()))?;
    let (_, plain) = image::decompress::open(source, &image::Limits::default())?;
    let mut plain = Hashing { inner: plain, hash: Sha256::new(), failed: false };
    let done = extract(&mut plain, &root);
    done.map_err(|cause| match plain.failed {
        true => Error::invalid("cannot read the build context").caused_by(cause),
        false => cause,
    })?;
    // What follows the end of the archive is read too, so that the client is not cut off in its sentence.
    io::copy(&mut plain, &mut io::sink())
        .map_err(|e| Error::invalid("cannot read the build context").caused_by(e))?;
    Ok((root, Digest::from_sha256(plain.hash.finalize().into())))
}

/// Unpacks an archive of `ADD`.
///
/// # Errors
/// `Invalid` for an archive that is malformed, escapes or bursts the limits.
pub(super) fn unpack(archive: File, into: &Root) -> Result<()> {
    let (_, mut plain) = image::decompress::open(archive, &image::Limits::default())?;
    extract(&mut plain, into)
}

fn extract(tar: &mut dyn Read, into: &Root) -> Result<()> {
    storage::extract_into(into, Path::new("/"), tar, &crate::lifecycle::LIMITS)
}

fn from_url(url: &str, folder: &Path, dockerfile: &str, output: &Output) -> Result<Context> {
    let Remote { body, content_type, length, .. } = download::open(url)?;
    let mut body =
        BufReader::with_capacity(64 << 10, Told { body, output, done: 0, told: 0, length });
    let head = io::BufRead::fill_buf(&mut body)
        .map_err(|e| Error::invalid(format!("failed to GET {url}")).caused_by(e))?;
    let archive =
        image::decompress::Kind::of(head) != image::decompress::Kind::Plain || is_tar(head);
    if archive {
        let (root, digest) = unpack_stream(body, folder)?;
        return from_folder(root, dockerfile, Some(digest));
    }
    if head.contains(&0) {
        return Err(Error::invalid(format!(
            "unsupported Content-Type {content_type:?}: {url} is neither an archive nor a Dockerfile"
        )));
    }
    let bytes = bounded(body, url)?;
    Ok(Context {
        digest: Some(Digest::sha256(&bytes)),
        dockerfile: checked(bytes, DOCKERFILE)?,
        root: None,
    })
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Tells the client how far a download is.
struct Told<'o> {
    body: Box<dyn Read + Send>,
    output: &'o Output,
    done: u64,
    told: u64,
    length: Option<u64>,
}

impl Read for Told<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(buf)?;
        self.done += n as u64;
        if self.done >= self.told + (512 << 10) {
            self.told = self.done;
            self.output.send_blocking(download::progress(
                "Downloading context",
                self.done,
                self.length,
            ));
        }
        Ok(n)
    }
}

/// Finds the Dockerfile in a context and drops what the ignore file names of the two.
fn from_folder(root: Root, dockerfile: &str, digest: Option<Digest>) -> Result<Context> {
    let wanted = name(dockerfile);
    let lower = wanted.to_lowercase();
    let path = match exists(&root, &wanted)? {
        false if wanted == DOCKERFILE && exists(&root, &lower)? => lower,
        false => {
            return Err(Error::invalid(format!("Cannot locate specified Dockerfile: {wanted}")));
        }
        true => wanted,
    };
    let bytes = checked(read(&root, &path)?, &path)?;
    if exists(&root, IGNORE)? {
        let text = read(&root, IGNORE)?;
        let ignore = Ignore::parse(&String::from_utf8_lossy(&text))
            .map_err(|cause| Error::invalid("failed to read .dockerignore").caused_by(cause))?;
        for file in [IGNORE, path.as_str()] {
            if ignore.excludes(file.trim_start_matches("./").trim_start_matches('/')) {
                root.unlink(file)
                    .map_err(|e| Error::io(format!("cannot leave out {file}"), e.into()))?;
            }
        }
    }
    Ok(Context { dockerfile: bytes, root: Some(Arc::new(root)), digest })
}

fn exists(root: &Root, path: &str) -> Result<bool> {
    if Path::new(path).components().any(|c| c == std::path::Component::ParentDir) {
        return Err(Error::invalid(format!("Forbidden path outside the build context: {path} ()")));
    }
    root.exists(path).map_err(|e| Error::io(format!("cannot look at {path}"), e.into()))
}

fn read(root: &Root, path: &str) -> Result<Vec<u8>> {
    let fail = |e: sys::root::Error| Error::io(format!("cannot read {path}"), e.into());
    // Opened without blocking, so that a pipe cannot hold the build up.
    let file = root.open_file(path).map_err(fail)?;
    let stat = sys::root::stat_open(&file).map_err(fail)?;
    if stat.kind != Kind::File {
        return Err(Error::invalid(format!("{path} is not a regular file")));
    }
    bounded(file, path)
}

fn bounded(source: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(limits::DOCKERFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Invalid, format!("cannot read {name}")).caused_by(e))?;
    if bytes.len() as u64 > limits::DOCKERFILE_BYTES {
        return Err(Error::invalid(format!(
            "{name} is larger than {} bytes",
            limits::DOCKERFILE_BYTES
        )));
    }
    Ok(bytes)
}

fn checked(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    if bytes.is_empty() {
        return Err(Error::invalid(format!("the Dockerfile ({name}) cannot be empty")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            std::fs::write(dir.path().join(path), content).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn error(root: Root, dockerfile: &str) -> String {
        from_folder(root, dockerfile, None).map(|_| ()).unwrap_err().chain()
    }

    #[test]
    fn the_dockerfile_is_found_and_may_be_ignored() {
        let (_dir, root) =
            context(&[("dockerfile", "FROM x"), (".dockerignore", "dockerfile\n.d*\n")]);
        let found = from_folder(root, "", None).unwrap();
        assert_eq!(found.dockerfile, b"FROM x");
        let root = found.root.unwrap();
        assert!(!root.exists("dockerfile").unwrap() && !root.exists(".dockerignore").unwrap());
        let (_dir, root) = context(&[("other", "FROM y")]);
        assert_eq!(from_folder(root, "other", None).unwrap().dockerfile, b"FROM y");
    }

    #[test]
    fn what_is_no_dockerfile_is_refused() {
        let (_dir, root) = context(&[("empty", "")]);
        root.mknod("pipe", sys::root::Node::Fifo, 0o644).unwrap();
        root.symlink("/dev/zero", "zero").unwrap();
        root.symlink("pipe", "link").unwrap();
        let again = || root.try_clone().unwrap();
        assert_eq!(error(again(), ""), "Cannot locate specified Dockerfile: Dockerfile");
        assert_eq!(error(again(), "empty"), "the Dockerfile (empty) cannot be empty");
        assert_eq!(error(again(), "pipe"), "pipe is not a regular file");
        assert_eq!(error(again(), "link"), "link is not a regular file");
        assert_eq!(error(again(), "zero"), "Cannot locate specified Dockerfile: zero");
        assert!(error(again(), "../x").starts_with("Forbidden path outside the build context"));
        let large = "#".repeat(usize::try_from(limits::DOCKERFILE_BYTES).unwrap() + 1);
        let (_dir, root) = context(&[("Dockerfile", &large)]);
        assert!(error(root, "").contains("is larger than"));
    }
}

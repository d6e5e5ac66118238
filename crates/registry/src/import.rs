//! Takes over what Docker's registry (distribution) has stored in its folder.
//!
//! Layout read (distribution `registry/storage/paths.go`): `docker/registry/v2/blobs/<algorithm>/<aa>/<hex>/data`, and for
//! each repository `repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link`,
//! `_manifests/tags/<tag>/current/link`, `_layers/<algorithm>/<hex>/link`. Uploads under way are left out.
//!
//! Every blob and manifest is compared with its digest on its way in; what does not fit is reported and left
//! out. An import may be repeated: what is there already is passed over. The source is only read.

use crate::{
    hash::{Algorithm, Hasher},
    manifest,
    meta::{Database, Grace, Missing, NewBlob, NewManifest, Put},
    name::{Repository, Tag},
    storage::Storage,
    uploads::INLINE,
};
use base::{Digest, Error, Result, Timestamp};
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{ErrorKind, Read, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// A link file holds a digest, nothing longer.
const LINK_BYTES: u64 = 256;
/// Folders below each other in a repository's name.
const DEPTH: usize = 64;
/// Imported blobs without a manifest stay as long as those of a push.
const GRACE: Grace = Grace(Duration::from_secs(86_400));

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Repositories.
    pub repositories: usize,
    /// Manifests.
    pub manifests: usize,
    /// Tags.
    pub tags: usize,
    /// Blobs stored.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What was left out, and why.
    pub faults: Vec<String>,
}

/// Imports all repositories below `from`.
///
/// # Errors
/// `NotFound` when `from` is not such a folder; of disk, storage and database.
pub async fn import(
    from: &Path,
    spool: &Path,
    database: &Database,
    storage: &dyn Storage,
) -> Result<Imported> {
    let root = [from.join("docker/registry/v2"), from.join("registry/v2"), from.to_owned()]
        .into_iter()
        .find(|path| path.join("repositories").is_dir() && path.join("blobs").is_dir())
        .ok_or_else(|| {
            Error::not_found(format!(
                "{} does not hold docker/registry/v2/blobs and repositories",
                from.display()
            ))
        })?;
    let mut names = Vec::new();
    repositories(&root.join("repositories"), "", 0, &mut names)?;
    names.sort();
    let mut import = Import { root, spool, database, storage, done: Imported::default() };
    for name in names {
        match Repository::parse(&name) {
            Some(repository) => import.repository(&repository).await?,
            None => import.done.faults.push(format!("{name}: not a repository's name")),
        }
    }
    Ok(import.done)
}

fn repositories(dir: &Path, name: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    if dir.join("_manifests").is_dir() || dir.join("_layers").is_dir() {
        found.push(name.to_owned());
    }
    if depth >= DEPTH {
        return Ok(());
    }
    for part in folders(dir)? {
        if !part.starts_with('_') {
            let below = if name.is_empty() { part.clone() } else { format!("{name}/{part}") };
            repositories(&dir.join(&part), &below, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Names of the folders in `dir`; none when it is not there. Links are not followed.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let fail = |e| Error::io(format!("cannot list {}", dir.display()), e);
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The digest that a link file holds.
fn link(path: &Path) -> Option<Digest> {
    let mut text = String::new();
    File::open(path).ok()?.take(LINK_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Digests that have a folder with a link below `dir`.
fn linked(dir: &Path) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    for algorithm in folders(dir)? {
        for hex in folders(&dir.join(&algorithm))? {
            found.extend(link(&dir.join(&algorithm).join(hex).join("link")));
        }
    }
    Ok(found)
}

struct Import<'i> {
    root: PathBuf,
    spool: &'i Path,
    database: &'i Database,
    storage: &'i dyn Storage,
    done: Imported,
}

impl Import<'_> {
    fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs").join(digest.algorithm()).join(&hex[..2]).join(hex).join("data")
    }

    async fn repository(&mut self, name: &Repository) -> Result<()> {
        let home = self.root.join("repositories").join(name.as_str());
        let revisions = linked(&home.join("_manifests/revisions"))?;
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for text in folders(&home.join("_manifests/tags"))? {
            let target = link(&home.join("_manifests/tags").join(&text).join("current/link"));
            match (Tag::parse(&text), target) {
                (Some(tag), Some(digest)) => tags.entry(digest).or_default().push(tag),
                _ => self.done.faults.push(format!("{name}:{text}: a tag that points nowhere")),
            }
        }
        let manifests: HashSet<&Digest> = revisions.iter().collect();
        for digest in linked(&home.join("_layers"))? {
            if !manifests.contains(&digest) {
                self.blob(name, &digest).await?;
            }
        }
        // An index may come before what it lists: go on as long as something new comes in.
        let mut left = revisions;
        let before = self.done.manifests;
        loop {
            let (mut waiting, count) = (Vec::new(), left.len());
            for digest in left {
                let tags = tags.get(&digest).cloned().unwrap_or_default();
                if let Some(fault) = self.manifest(name, &digest, tags).await? {
                    waiting.push((digest, fault));
                }
            }
            if waiting.is_empty() || waiting.len() == count {
                let told =
                    waiting.into_iter().map(|(digest, why)| format!("{name}@{digest}: {why}"));
                self.done.faults.extend(told);
                break;
            }
            left = waiting.into_iter().map(|(digest, _)| digest).collect();
        }
        self.done.repositories += usize::from(self.done.manifests > before);
        Ok(())
    }

    /// Takes one blob over; a fault is noted.
    async fn blob(&mut self, name: &Repository, digest: &Digest) -> Result<()> {
        let (repository, wanted) = (name.as_str().to_owned(), digest.clone());
        let known = self
            .database
            .write(move |tx| tx.link_known(&repository, &wanted, Timestamp::now(), GRACE))
            .await?;
        if known {
            return Ok(());
        }
        let from = self.data(digest);
        let spool = self.spool.join(format!("import-{}", std::process::id()));
        let (to, wanted) = (spool.clone(), digest.clone());
        let copied = crate::storage::files_blocking(move || copy(&from, &to, &wanted)).await?;
        let size = match copied {
            Ok(size) => size,
            Err(fault) => {
                self.done.faults.push(format!("{name}@{digest}: {fault}"));
                return Ok(());
            }
        };
        let new = if size <= INLINE {
            let bytes = fs::read(&spool).map_err(|e| Error::io("cannot read the spool", e))?;
            fs::remove_file(&spool).map_err(|e| Error::io("cannot clear the spool", e))?;
            NewBlob::Inline(bytes)
        } else {
            self.store(&spool, digest, size).await?
        };
        let (repository, wanted) = (name.as_str().to_owned(), digest.clone());
        self.database
            .write(move |tx| tx.add_blob(&repository, &wanted, &new, Timestamp::now(), GRACE))
            .await?;
        self.done.blobs += 1;
        self.done.bytes += size;
        Ok(())
    }

    /// Moves the spooled blob into storage, in parts where it takes those.
    async fn store(&self, spool: &Path, digest: &Digest, size: u64) -> Result<NewBlob> {
        let upload = crate::http::random_name::<24>();
        let parts = self.storage.multipart().filter(|m| size > m.part_bytes());
        let Some(multipart) = parts else {
            let place = self.storage.place(digest, &upload);
            self.storage.keep(spool, &place).await?;
            return Ok(NewBlob::Stored { place, size });
        };
        let place = multipart.place(&upload);
        let id = multipart.begin(&place).await?;
        let fail = |e| Error::io("cannot read the spool", e);
        let mut file = File::open(spool).map_err(fail)?;
        let mut names = Vec::new();
        loop {
            let mut part = Vec::new();
            Read::by_ref(&mut file)
                .take(multipart.part_bytes())
                .read_to_end(&mut part)
                .map_err(fail)?;
            if part.is_empty() {
                break;
            }
            names.push(multipart.put(&place, &id, names.len(), Bytes::from(part)).await?);
        }
        multipart.complete(&place, &id, names).await?;
        fs::remove_file(spool).map_err(|e| Error::io("cannot clear the spool", e))?;
        Ok(NewBlob::Stored { place, size })
    }

    /// Takes one manifest over with its blobs; why not, when it cannot be yet.
    async fn manifest(
        &mut self,
        name: &Repository,
        digest: &Digest,
        tags: Vec<Tag>,
    ) -> Result<Option<String>> {
        let bytes = match read_small(&self.data(digest)) {
            Ok(bytes) => bytes,
            Err(fault) => return Ok(Some(fault)),
        };
        if Algorithm::of(digest).digest(&bytes) != *digest {
            return Ok(Some("its bytes have another digest".to_owned()));
        }
        let parsed = match manifest::parse(&bytes, "") {
            Ok(parsed) => parsed,
            Err(fault) => return Ok(Some(fault)),
        };
        // Blobs that were pushed under another name only have no link here.
        for blob in &parsed.blobs {
            self.blob(name, &blob.digest).await?;
        }
        let count = tags.len();
        let new = NewManifest {
            repository: name.as_str().to_owned(),
            digest: digest.clone(),
            manifest: parsed,
            bytes,
            tags,
            who: String::new(),
            client: "import".to_owned(),
            sparse: false,
        };
        Ok(match self.database.write(move |tx| tx.put_manifest(&new, Timestamp::now())).await? {
            Put::Done { .. } => {
                self.done.manifests += 1;
                self.done.tags += count;
                None
            }
            Put::Missing(Missing::Unknown(missing)) => {
                let list: Vec<String> = missing.iter().map(Digest::to_string).collect();
                Some(format!("what it points to is missing: {}", list.join(", ")))
            }
            Put::Missing(Missing::Size(blob)) => {
                Some(format!("{blob} has another size than it says"))
            }
        })
    }
}

fn read_small(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = manifest::MAX_BYTES as u64;
    let file = File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > limit {
        Err(format!("it has more than {limit} bytes"))
    } else {
        Ok(bytes)
    }
}

/// Copies and verifies a blob: its size, or what is wrong with it.
fn copy(from: &Path, to: &Path, digest: &Digest) -> Result<std::result::Result<u64, String>> {
    let mut source = match File::open(from) {
        Ok(file) => file,
        Err(e) => return Ok(Err(format!("cannot be read: {e}"))),
    };
    let fail = |e| Error::io("cannot write to the spool", e);
    let mut target = File::create(to).map_err(fail)?;
    let mut hasher = Hasher::new(Algorithm::of(digest));
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) => {
                fs::remove_file(to).map_err(fail)?;
                return Ok(Err(format!("cannot be read: {e}")));
            }
        };
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count]).map_err(fail)?;
        size += count as u64;
    }
    if hasher.finish() != *digest {
        fs::remove_file(to).map_err(fail)?;
        return Ok(Err("its bytes have another digest".to_owned()));
    }
    Ok(Ok(size))
}

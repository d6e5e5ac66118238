//! `/containers/{id}/archive` and `/export`: files out of a container and into it, as tar.
//!
//! Source: Docker's `daemon/archive_unix.go` and `pkg/archive/copy.go` (behaviour and texts).
//! Not here: the tree itself (`tree.rs`), the tar format (crate `storage`).

use super::{
    Container, Record,
    tree::{Tree, found},
};
use crate::{
    Engine,
    images::{Bytestream, Pieces, blocking, reader},
    lifecycle::LIMITS,
};
use api::model::PathStat;
use base::{Error, Principal, Result, Timestamp};
use bytes::Bytes;
use std::{
    ffi::OsStr,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use storage::Manner;
use sys::root::{Kind, Root};
use tokio::sync::{mpsc, oneshot};

/// Longest passwd or group file that is read for an owner's name.
const LONGEST_FILE: u64 = 8 << 20;

/// How files go into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// A folder is not replaced by a file, nor the other way round.
    pub keep_kinds: bool,
    /// Everything belongs to the container's user.
    pub to_user: bool,
}

/// A tar on its way out.
pub type Outgoing = mpsc::Receiver<Result<Bytes>>;

impl Engine {
    /// What is at `path` of container `name`; a symlink itself.
    ///
    /// # Errors
    /// `NotFound` for the container or the path; `Invalid` for an empty path.
    pub async fn container_path(self: &Arc<Self>, name: &str, path: &str) -> Result<PathStat> {
        let container = self.containers.find(name)?;
        let (asked, name) = (Asked::new(path)?, name.to_owned());
        let at = asked.whole.clone();
        self.in_tree(&container, &at, move |tree, _| asked.stat(&tree.root, &name)).await
    }

    /// What is at `path` of container `name`, and a tar of it.
    ///
    /// # Errors
    /// As [`Engine::container_path`].
    pub async fn container_archive(
        self: &Arc<Self>,
        name: &str,
        path: &str,
        by: &Principal,
    ) -> Result<(PathStat, Outgoing)> {
        let container = self.containers.find(name)?;
        let asked = Asked::new(path)?;
        let event = container.record().event("archive-path").with("path", path).by(by);
        let (mut pieces, receiver) = Pieces::new();
        let (tell, told) = oneshot::channel();
        // Told once: what is there, or why it is not to be had.
        let tell = Arc::new(Mutex::new(Some(tell)));
        let (engine, name, at) = (Arc::clone(self), name.to_owned(), asked.whole.clone());
        self.tasks.spawn(async move {
            let first = Arc::clone(&tell);
            let work = move |tree: &Tree, _: &Record| {
                let stat = asked.stat(&tree.root, &name)?;
                if answer(&first, Ok(stat)) {
                    let (path, base) = (Path::new(&asked.whole), OsStr::new(asked.base()));
                    let done = storage::export_path(
                        &tree.root,
                        path,
                        base,
                        tree.maps.as_ref(),
                        &mut pieces,
                    );
                    pieces.finish(done);
                }
                Ok(())
            };
            if let Err(err) = engine.in_tree(&container, &at, work).await {
                answer(&tell, Err(err));
            }
        });
        let stat =
            told.await.map_err(|_| Error::internal(format!("reading {path} broke off")))??;
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok((stat, receiver))
    }

    /// Unpacks the tar `body`, compressed or not, in the folder at `path` of container `name`.
    ///
    /// # Errors
    /// `NotFound` for the container or the path; `Invalid` when it is no folder or the archive is wrong;
    /// `Forbidden` when nothing may be written there.
    pub async fn container_extract(
        self: &Arc<Self>,
        name: &str,
        path: &str,
        options: ExtractOptions,
        body: Bytestream,
        by: &Principal,
    ) -> Result<()> {
        let container = self.containers.find(name)?;
        let asked = Asked::new(path)?;
        let event = container.record().event("extract-to-dir").with("path", path).by(by);
        let (source, name, at) = (reader(body), name.to_owned(), asked.whole.clone());
        let work = move |tree: &Tree, record: &Record| {
            let target = found(tree.root.canonical(&asked.whole), &asked.text, &name)?;
            let stat = found(tree.root.stat(&target), &asked.text, &name)?;
            if stat.kind != Kind::Dir {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            writable(record, &target)?;
            let manner = Manner {
                owner: if options.to_user { owner(&tree.root, record)? } else { None },
                keep_kinds: options.keep_kinds,
                maps: tree.maps.clone(),
            };
            let _acting = tree.act_as_root()?;
            let (_, mut plain) = image::decompress::open(source, &image::Limits::default())?;
            storage::extract_beside(&tree.root, &target, &mut plain, &LIMITS, &manner)?;
            // What follows the end of the archive is read too, so that the client is not cut off.
            std::io::copy(&mut plain, &mut std::io::sink())
                .map_err(|e| Error::invalid("cannot read the archive").caused_by(e))?;
            Ok(())
        };
        self.in_tree(&container, &at, work).await?;
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })
    }

    /// A tar of container `name`'s root file system, without volumes.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is dead or being removed.
    pub async fn container_export(
        self: &Arc<Self>,
        name: &str,
        by: &Principal,
    ) -> Result<Outgoing> {
        let container = self.containers.find(name)?;
        let record = container.record();
        if matches!(record.state.status, super::Status::Dead | super::Status::Removing) {
            return Err(Error::conflict(format!(
                "You cannot export container {} which is {}",
                record.id,
                record.state.status.word()
            )));
        }
        let event = record.event("export").by(by);
        let (mut pieces, receiver) = Pieces::new();
        let (engine, own): (_, Arc<Container>) = (Arc::clone(self), Arc::clone(&container));
        let (ready, waiting) = oneshot::channel();
        self.tasks.spawn(async move {
            let ops = own.ops.lock().await;
            let record = own.record();
            // What runs is read through its own mounts: it needs no lock.
            let held = (!record.state.status.alive()).then_some(ops);
            let work = blocking(move || {
                let root = match engine.bare_tree(&record) {
                    Ok(root) => root,
                    Err(err) => {
                        let _ = ready.send(Err(err));
                        return Ok(());
                    }
                };
                if ready.send(Ok(())).is_ok() {
                    let done = storage::export_tree(&root, &mut pieces);
                    pieces.finish(done);
                }
                Ok(())
            });
            let done = work.await;
            drop(held);
            done
        });
        waiting
            .await
            .map_err(|_| Error::internal(format!("the export of container {name} broke off")))??;
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(receiver)
    }
}

type Tell = Arc<Mutex<Option<oneshot::Sender<Result<PathStat>>>>>;

/// Answers the request, if nobody has yet; says whether somebody listens.
fn answer(tell: &Tell, outcome: Result<PathStat>) -> bool {
    let sender = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
    sender.is_some_and(|sender| sender.send(outcome).is_ok())
}

/// A path as it was asked for.
struct Asked {
    /// As given, for messages.
    text: String,
    /// Absolute and cleaned, but for a slash or `/.` at its end, which says that a symlink is to be followed.
    whole: String,
}

impl Asked {
    fn new(path: &str) -> Result<Self> {
        if path.is_empty() {
            return Err(Error::invalid("bad parameter: path cannot be empty"));
        }
        if path.contains('\0') {
            return Err(Error::invalid("the path contains a NUL byte"));
        }
        let mut whole = build::go::clean(&format!("/{path}"));
        // `.` asks for what is in a folder; a slash for a folder, not for the symlink to it.
        if path.trim_end_matches('/').rsplit('/').next() == Some(".") {
            whole.push_str(if whole == "/" { "." } else { "/." });
        } else if path.ends_with('/') && whole != "/" {
            whole.push('/');
        }
        Ok(Self { text: path.to_owned(), whole })
    }

    /// Go's `filepath.Base`: what the first entry of an archive is called.
    fn base(&self) -> &str {
        let trimmed = self.whole.trim_end_matches('/');
        match trimmed.rsplit('/').next() {
            Some("") | None => "/",
            Some(base) => base,
        }
    }

    fn stat(&self, root: &Root, container: &str) -> Result<PathStat> {
        let stat = found(root.lstat(&self.whole), &self.text, container)?;
        let target = match stat.kind {
            Kind::Symlink => self.target(root)?,
            _ => String::new(),
        };
        let mtime = Timestamp::from_unix(stat.mtime.seconds, stat.mtime.nanos);
        Ok(PathStat {
            name: self.base().to_owned(),
            size: i64::try_from(stat.size).unwrap_or(i64::MAX),
            mode: sys::go_mode::of(stat.kind, stat.mode),
            mtime: mtime.to_string(),
            link_target: target,
        })
    }

    /// Where a symlink leads, as an absolute path in the container; one that leads nowhere tells where that is.
    fn target(&self, root: &Root) -> Result<String> {
        let failed =
            |e| Error::internal(format!("cannot follow the symlink {}", self.text)).caused_by(e);
        if let Ok(path) = root.canonical(&self.whole) {
            return Ok(path.display().to_string());
        }
        let own = Path::new(&self.whole);
        let link = root.readlink(own).map_err(failed)?;
        let parent = own.parent().unwrap_or(Path::new("/"));
        let parent = root.canonical(parent).unwrap_or_else(|_| PathBuf::from(parent));
        Ok(build::go::clean(&parent.join(link).display().to_string()))
    }
}

/// Refuses what the container itself could not write.
fn writable(record: &Record, target: &Path) -> Result<()> {
    let over = record
        .mounts
        .iter()
        .filter(|m| target.starts_with(&m.target))
        .max_by_key(|m| m.target.len());
    match over {
        Some(mount) if mount.read_only => {
            Err(Error::forbidden("mounted volume is marked read-only"))
        }
        None if record.host.readonly_rootfs => {
            Err(Error::forbidden("container rootfs is marked read-only"))
        }
        _ => Ok(()),
    }
}

/// The container's user in its own passwd; nothing when it has none.
fn owner(root: &Root, record: &Record) -> Result<Option<(u32, u32)>> {
    if record.config.user.is_empty() {
        return Ok(None);
    }
    let read = |path: &str| -> Result<Vec<u8>> {
        let Ok(file) = root.open_file(path) else { return Ok(Vec::new()) };
        let failed = |e| Error::io(format!("cannot read {path} in the container"), e);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::invalid(format!("{path} in the container is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    };
    let user =
        runtime::spec::User { name: record.config.user.clone(), additional_groups: Vec::new() };
    let who = runtime::user::resolve(&user, &read("/etc/passwd")?, &read("/etc/group")?)
        .map_err(|e| Error::invalid(e.text))?;
    Ok(Some((who.uid, who.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_what_asks_to_follow_and_are_named_as_go_names_them() {
        for (text, whole, base) in [
            ("a", "/a", "a"),
            ("/a/b/", "/a/b/", "b"),
            ("/a/./b/.", "/a/b/.", "."),
            ("/", "/", "/"),
            ("../..", "/", "/"),
            ("/.", "/.", "."),
            ("./", "/.", "."),
        ] {
            let asked = Asked::new(text).unwrap();
            assert_eq!((asked.whole.as_str(), asked.base()), (whole, base), "{text}");
        }
        assert!(Asked::new("").is_err() && Asked::new("a\0").is_err());
    }
}

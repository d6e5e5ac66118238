//! A container's files as a process in it sees them, for the engine's own file operations.
//!
//! A running container is entered through `/proc/<pid>/root`, with all that is mounted in it. A stopped one is put
//! together in a mount namespace of its own: the writable tree, over it volumes, binds and the names' files. Nothing
//! is mounted where the host sees it.
//! Invariants: paths are resolved in the tree's root only ([`sys::root::Root`]); a stopped container's operation
//! lock is held while its tree is in use, so that it is not started over it.
//! Not here: what is done with the files (`archive.rs`).

use super::{Container, Mounted, Places, Record, Status};
use crate::{Engine, images::blocking};
use base::{ContainerId, Error, Result};
use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};
use sys::{
    idmap::{self, Maps},
    mntns,
    mount::{self, Depth, attr},
    root::Root,
};

/// A container's tree; what was mounted for it goes with it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Root,
    /// Those of the container's user namespace, when the tree is seen from outside it.
    pub(crate) maps: Option<Maps>,
    _mounts: Option<mntns::Held>,
}

impl Engine {
    /// Runs `work` on a thread that may block, on the tree of `container` in which `path` is wanted. It runs to its end
    /// even when the caller goes away.
    ///
    /// # Errors
    /// `Conflict` for a container that is dead or being removed; those of `work`.
    pub(crate) async fn in_tree<T: Send + 'static>(
        self: &Arc<Self>,
        container: &Arc<Container>,
        path: &str,
        work: impl FnOnce(&Tree, &Record) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (engine, container, path) =
            (Arc::clone(self), Arc::clone(container), build::go::clean(path));
        let task = self.tasks.spawn(async move {
            let ops = container.ops.lock().await;
            let record = container.record();
            match record.state.status {
                Status::Dead | Status::Removing => Err(Error::conflict(format!(
                    "cannot use the files of container {}, which is {}",
                    record.id,
                    record.state.status.word()
                ))),
                _ if container.watch().borrow().removed => {
                    Err(Error::not_found(format!("No such container: {}", record.id)))
                }
                Status::Running | Status::Paused => {
                    drop(ops);
                    blocking(move || work(&engine.live_tree(&record)?, &record)).await
                }
                Status::Created | Status::Exited | Status::Restarting => {
                    let holder = ContainerId::random();
                    let seen = engine.plugged_look(&record, &holder).await?;
                    let (own, looked) = (Arc::clone(&engine), Arc::clone(&seen));
                    let done =
                        blocking(move || work(&own.still_tree(&looked, &path)?, &looked)).await;
                    engine.plugged_leave(&seen, &holder).await;
                    done
                }
            }
        });
        task.await.map_err(|e| Error::internal("a file operation broke off").caused_by(e))?
    }

    fn live_tree(&self, record: &Record) -> Result<Tree> {
        let failed =
            |e| Error::internal(format!("cannot enter container {}", record.id)).caused_by(e);
        let path = format!("/proc/{}/root", record.state.pid);
        let process = self.live_process(record)?;
        let root = Root::open(Path::new(&path)).map_err(|e| failed(e.into()))?;
        // The pid was still its own when the root was opened.
        sys::process::kill(&process, 0).map_err(failed)?;
        let maps = live_maps(record)?;
        Ok(Tree { root, maps, _mounts: None })
    }

    fn live_process(&self, record: &Record) -> Result<OwnedFd> {
        u32::try_from(record.state.pid)
            .map_err(|_| std::io::ErrorKind::NotFound.into())
            .and_then(sys::process::open)
            .map_err(|e| {
                Error::conflict(format!("container {} is not running", record.id)).caused_by(e)
            })
    }

    /// The root file system alone, without volumes and what else is mounted over it.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn bare_tree(&self, record: &Record) -> Result<Root> {
        if !record.state.status.alive() {
            let active = self.snapshots.get(record.id.as_str(), &record.layers)?;
            return self.snapshots.mount(&active);
        }
        if live_maps(record)?.is_some() {
            // Its mounts are locked together, so none can be had alone: the folders are laid over each other anew,
            // to be read only. They are not mapped then.
            let active = self.snapshots.get(record.id.as_str(), &record.layers)?;
            let folders: Vec<PathBuf> = std::iter::once(active.upper).chain(active.lower).collect();
            let tree = sys::overlay::mount(&folders, None, None).map_err(|e| {
                Error::internal(format!("cannot read container {}", record.id)).caused_by(e)
            })?;
            return Ok(Root::from(tree));
        }
        let process = self.live_process(record)?;
        mntns::root_of(process.as_fd()).map(Root::from).map_err(|e| {
            Error::internal(format!("cannot enter container {}", record.id)).caused_by(e)
        })
    }

    fn still_tree(&self, record: &Record, path: &str) -> Result<Tree> {
        let active = self.snapshots.get(record.id.as_str(), &record.layers)?;
        let root = self.snapshots.mount(&active)?;
        let places = Places::of(&self.config, &record.id);
        let layers = over(record, &places, path);
        if layers.is_empty() {
            return Ok(Tree { root, maps: None, _mounts: None });
        }
        let failed = |e| {
            Error::internal(format!("cannot put the files of container {} together", record.id))
                .caused_by(e)
        };
        let at = places.data;
        let (root, held) = mntns::copy(move || assemble(root, &at, &layers)).map_err(failed)?;
        Ok(Tree { root: root.map_err(failed)?, maps: None, _mounts: Some(held) })
    }
}

impl Tree {
    /// Until the answer is dropped this thread makes files as the container's root.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn act_as_root(&self) -> Result<Acting> {
        let Some(maps) = &self.maps else { return Ok(Acting(false)) };
        let (Some(user), Some(group)) = (maps.user_outside(0), maps.group_outside(0)) else {
            return Err(Error::internal("the container's root is nobody"));
        };
        let acting = Acting(true);
        idmap::act_as(user, group)
            .map_err(|e| Error::io("cannot act as the container's root", e))?;
        Ok(acting)
    }
}

/// A thread that acts as somebody else.
#[derive(Debug)]
pub(crate) struct Acting(bool);

impl Drop for Acting {
    fn drop(&mut self) {
        if self.0
            && let Err(err) = idmap::act_as(0, 0)
        {
            tracing::error!(%err, "a thread goes on acting as a container's root");
        }
    }
}

/// The users of a running container, if they are not the host's.
///
/// # Errors
/// `Conflict` when it does not run any more.
pub(crate) fn live_maps(record: &Record) -> Result<Option<Maps>> {
    Maps::of_process(u32::try_from(record.state.pid).unwrap_or(0)).map_err(|e| {
        Error::conflict(format!("container {} is not running", record.id)).caused_by(e)
    })
}

/// Something that lies over a container's own tree.
struct Over {
    source: PathBuf,
    target: String,
    read_only: bool,
    /// Whether its place is made when it is missing.
    wanted: bool,
}

/// What lies over the tree of a container that does not run, parents first.
fn over(record: &Record, places: &Places, path: &str) -> Vec<Over> {
    let leads = |target: &str| Path::new(path).starts_with(target);
    let files = ["resolv.conf", "hostname", "hosts"].into_iter().map(|name| Over {
        source: places.data.join(name),
        target: format!("/etc/{name}"),
        read_only: false,
        wanted: false,
    });
    let own = record.mounts.iter().filter(|m| matches!(m.kind.as_str(), "bind" | "volume")).map(
        |m: &Mounted| Over {
            source: m.host_path(),
            target: m.target.clone(),
            read_only: m.read_only,
            wanted: leads(&m.target),
        },
    );
    let mut all: Vec<Over> = files.filter(|o| o.source.exists()).chain(own).collect();
    all.sort_by_key(|o| o.target.split('/').count());
    all
}

/// Attaches `root` at `at` and the rest in it. Runs in the namespace that holds the mounts.
fn assemble(root: Root, at: &Path, layers: &[Over]) -> std::io::Result<Root> {
    use rustix::fs::{Mode, OFlags};
    let place =
        rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Taken before the tree covers the folder that some of them are in.
    let clones: Vec<_> = layers
        .iter()
        .map(|layer| mount::clone_path(&layer.source, Depth::Recursive).ok())
        .collect();
    mount::attach(&root, &place)?;
    for (layer, clone) in layers.iter().zip(clones) {
        // A source that is gone is what the next start will complain of.
        let Some(clone) = clone else { continue };
        if layer.read_only {
            mount::set_attr(&clone, attr::RDONLY, 0, 0, Depth::One)?;
        }
        if layer.wanted && !root.exists(&layer.target)? && fs::metadata(&layer.source)?.is_dir() {
            root.mkdir_all(&layer.target, 0o755, None)?;
        }
        match root.open_with(&layer.target, OFlags::PATH, 0) {
            Ok(target) => mount::attach(&clone, &target)?,
            Err(e) if e.is_missing() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(root)
}

impl Mounted {
    /// Where it is on the host, a path inside a volume included.
    pub(crate) fn host_path(&self) -> PathBuf {
        let source = PathBuf::from(&self.source);
        let Some(inner) = Some(self.subpath.trim_matches('/')).filter(|p| !p.is_empty()) else {
            return source;
        };
        // Resolved inside the volume; what leads nowhere stays as it is, and is missing.
        let resolved = Root::open(&source).and_then(|root| root.canonical(inner));
        match resolved {
            Ok(path) => source.join(path.strip_prefix("/").unwrap_or(&path)),
            Err(_) => source.join(inner),
        }
    }
}

/// What `path` is in a container, if it can be told: Docker's answer when something is missing.
pub(crate) fn found<T>(
    outcome: Result<T, sys::root::Error>,
    path: &str,
    container: &str,
) -> Result<T> {
    use rustix::io::Errno;
    outcome.map_err(|err| match err.errno() {
        Errno::NOENT => {
            Error::not_found(format!("Could not find the file {path} in container {container}"))
        }
        Errno::NOTDIR => Error::invalid(format!(
            "cannot use {path} in container {container}: a part of it is not a directory"
        )),
        Errno::LOOP => Error::invalid(format!(
            "cannot use {path} in container {container}: too many levels of symbolic links"
        )),
        Errno::NAMETOOLONG => {
            Error::invalid(format!("the path in container {container} is too long"))
        }
        _ => Error::internal(format!("cannot use {path} in container {container}")).caused_by(err),
    })
}

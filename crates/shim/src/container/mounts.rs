//! Mounts inside the root: each is made detached and given its flags, its target opened inside the root,
//! and then one is attached to the other by descriptor.
//!
//! Binds are cloned from the host before the clone of the process ([`clone_source`]), the rest is made
//! in the container's namespaces ([`attach_all`]).

use super::{
    Step, Tried, cgroups, copyup,
    users::{self, Space},
};
use runtime::{
    plan::{Attach, Mount, MountKind, Plan},
    shim::StartError,
    spec::{Maps, Namespace, Overlay},
};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use sys::{
    mount::{self, Depth, propagation},
    overlay::{self, Upper},
    root::{self, Root},
};

/// A part of the host's tree, ready to be attached.
#[derive(Debug)]
pub(crate) struct Bind {
    tree: OwnedFd,
    folder: bool,
    /// What of the tree is wanted: older kernels copy no part of a mount that is attached nowhere, so the whole
    /// is attached first and the part over it.
    part: Option<File>,
}

/// Clones the sources of all binds, in the order of the plan's mounts, with the users of `space` or of their own where
/// that is wanted. `place` is any folder of the host.
pub(crate) fn clone_sources(
    plan: &Plan,
    space: Option<&Space>,
    place: &Path,
) -> Step<Vec<Option<Bind>>> {
    // Mounts mostly have the same maps: one namespace for all of these.
    let mut own: Vec<Space> = Vec::new();
    plan.mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Bind { source, recursive, inner } => {
                let space = match &mount.maps {
                    Some(maps) => Some(space_of(maps, &mut own)?),
                    None => space,
                };
                clone_source(mount, source, *recursive, inner, space).map(Some)
            }
            MountKind::Layers { lower, inner } => {
                mount_layers(plan, mount, (lower, inner), space, place).map(Some)
            }
            MountKind::Overlay(overlay) => lay(plan, mount, overlay, space, place).map(Some),
            _ => Ok(None),
        })
        .collect()
}

fn space_of<'a>(maps: &Maps, made: &'a mut Vec<Space>) -> Step<&'a Space> {
    let at = match made.iter().position(|space| space.maps == *maps) {
        Some(at) => at,
        None => {
            made.push(Space::of(maps)?);
            made.len() - 1
        }
    };
    Ok(&made[at])
}

/// Layers as one read-only tree, or what is at a path inside it.
fn mount_layers(
    plan: &Plan,
    mount: &Mount,
    (lower, inner): (&[PathBuf], &Path),
    space: Option<&Space>,
    place: &Path,
) -> Step<Bind> {
    let what = || format!("error mounting an image to rootfs at \"{}\"", mount.target.display());
    let tree = match space {
        Some(space) => users::mapped_overlay(lower, None, plan.label(), space, place)?,
        None => overlay::mount(lower, None, plan.label()).tried(what)?,
    };
    mount::set_attr(&tree, mount.attach.set, 0, propagation::PRIVATE, Depth::One).tried(what)?;
    if inner.as_os_str().is_empty() {
        return Ok(Bind { tree, folder: true, part: None });
    }
    let root = Root::from(tree);
    let part =
        part_of(&root, inner).tried(|| format!("{}: subpath {}", what(), inner.display()))?;
    let (folder, tree) = (part.1, OwnedFd::from(root.dir().tried(what)?));
    Ok(Bind { tree, folder, part: Some(part.0) })
}

/// What is at `inner` inside a source, by descriptor, and whether it is a folder.
fn part_of(source: &Root, inner: &Path) -> root::Result<(File, bool)> {
    let part = source.open_with(inner, OFlags::PATH, 0)?;
    let folder = source.stat(inner)?.kind == root::Kind::Dir;
    Ok((part, folder))
}

fn clone_source(
    mount: &Mount,
    source: &Path,
    recursive: bool,
    inner: &Path,
    space: Option<&Space>,
) -> Step<Bind> {
    let what = || {
        let target = mount.target.display();
        format!("error mounting \"{}\" to rootfs at \"{target}\"", source.display())
    };
    let depth = if recursive { Depth::Recursive } else { Depth::One };
    let tree = match inner.as_os_str().is_empty() {
        true => mount::clone_path(source, depth).tried(what)?,
        false => {
            let below = || format!("{}: cannot access subpath \"{}\"", what(), inner.display());
            let (part, _) = Root::open(source).and_then(|r| part_of(&r, inner)).tried(below)?;
            mount::clone_at(part, depth).tried(below)?
        }
    };
    let stat = rustix::fs::fstat(&tree).tried(what)?;
    if let (true, Some(space)) = (mount.attach.mapped, space) {
        let depth = if mount.attach.mapped_recursive { Depth::Recursive } else { Depth::One };
        users::map(&tree, &space.user, depth, what)?;
    }
    change(&tree, &mount.attach).tried(what)?;
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(Bind { tree, folder, part: None })
}

/// Makes an overlay, attached nowhere; what of it is wanted is found in [`part`].
fn lay(
    plan: &Plan,
    mount: &Mount,
    overlay: &Overlay,
    space: Option<&Space>,
    place: &Path,
) -> Step<Bind> {
    let what = || format!("error mounting overlay to rootfs at \"{}\"", mount.target.display());
    overlay::forget_volatile(&overlay.work).tried(what)?;
    let upper = Upper { upper: &overlay.upper, work: &overlay.work, volatile: true };
    let tree = match space {
        Some(space) => {
            users::mapped_overlay(&overlay.lower, Some(upper), plan.label(), space, place)?
        }
        None => overlay::mount(&overlay.lower, Some(upper), plan.label()).tried(what)?,
    };
    Ok(Bind { tree, folder: true, part: None })
}

/// What is at `path` of a detached tree, as a tree of its own. Older kernels clone only what is attached in
/// this mount namespace, so the whole lies on a folder that every container has for a moment.
fn part(root: &Root, tree: OwnedFd, path: &Path) -> std::io::Result<Bind> {
    if path == Path::new("/") {
        return Ok(Bind { tree, folder: true, part: None });
    }
    let place = root.open_with("/sys", OFlags::PATH | OFlags::DIRECTORY, 0)?;
    mount::attach(&tree, &place)?;
    let whole = Root::from(tree);
    let cloned =
        whole.open_with(path, OFlags::PATH, 0).map_err(std::io::Error::from).and_then(|found| {
            let folder =
                FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Directory;
            Ok(Bind { tree: mount::clone_at(&found, Depth::One)?, folder, part: None })
        });
    mount::detach_open(&whole)?;
    cloned
}

fn change(tree: &OwnedFd, attach: &Attach) -> std::io::Result<()> {
    if attach.set | attach.clear != 0 {
        mount::set_attr(tree, attach.set, attach.clear, 0, Depth::One)?;
    }
    if attach.set_recursive != 0 {
        mount::set_attr(tree, attach.set_recursive, 0, 0, Depth::Recursive)?;
    }
    if attach.propagation != 0 {
        let depth = if attach.propagation_recursive { Depth::Recursive } else { Depth::One };
        mount::set_attr(tree, 0, 0, attach.propagation, depth)?;
    }
    Ok(())
}

/// Whose the new file systems of a container are that has a user namespace.
#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    maps: &'a Maps,
    /// The message queues are its own, not those of another container or the host.
    queues: bool,
}

/// Makes and attaches all mounts of the plan, for the users of `maps`.
pub(crate) fn attach_all(
    root: &Root,
    plan: &Plan,
    binds: Vec<Option<Bind>>,
    groups: &cgroups::View,
    maps: Option<&Maps>,
) -> Step {
    let queues = plan.namespaces.ipc == Namespace::New;
    let owner = maps.map(|maps| Owner { maps, queues });
    for (mount, bind) in plan.mounts.iter().zip(binds) {
        attach_one(root, mount, bind, groups, (owner, plan.label()))?;
    }
    Ok(())
}

fn attach_one(
    root: &Root,
    mount: &Mount,
    bind: Option<Bind>,
    groups: &cgroups::View,
    (owner, label): (Option<Owner<'_>>, Option<&str>),
) -> Step {
    let what = || {
        let source = match &mount.kind {
            MountKind::Bind { source, .. } => source.display().to_string(),
            MountKind::New { source, .. } => source.clone(),
            MountKind::Overlay(_) => "overlay".to_owned(),
            MountKind::Cgroup => "cgroup".to_owned(),
            MountKind::Layers { .. } => "image".to_owned(),
        };
        format!("error mounting \"{source}\" to rootfs at \"{}\"", mount.target.display())
    };
    match (&mount.kind, bind) {
        (MountKind::Bind { .. } | MountKind::Layers { .. }, Some(bind)) => {
            let open = || match bind.folder {
                true => folder(root, &mount.target),
                false => file(root, &mount.target, 0o755),
            };
            let target = open().tried(what)?;
            allowed(&mount.target, &target)?;
            let Some(part) = bind.part else {
                return mount::attach(&bind.tree, &target).tried(what);
            };
            // For a moment the whole tree lies on a folder that every root has.
            let place = folder(root, Path::new("/proc")).tried(what)?;
            mount::attach(&bind.tree, &place).tried(what)?;
            let copy = mount::clone_at(&part, Depth::One).tried(what)?;
            mount::detach_open(&bind.tree).tried(what)?;
            mount::attach(&copy, &target).tried(what)
        }
        (MountKind::Overlay(overlay), Some(bind)) => {
            let bind = part(root, bind.tree, &overlay.path).tried(what)?;
            change(&bind.tree, &mount.attach).tried(what)?;
            let target = match bind.folder {
                true => folder(root, &mount.target),
                false => file(root, &mount.target, 0o755),
            };
            let target = target.tried(what)?;
            allowed(&mount.target, &target)?;
            mount::attach(&bind.tree, &target).tried(what)
        }
        (MountKind::Bind { .. } | MountKind::Layers { .. } | MountKind::Overlay(_), None) => {
            Err(StartError::setup(what()))
        }
        (MountKind::New { fs, source, options }, _) => {
            // One that is made for a tmpfs lends it no mode: the kernel's is 1777.
            let covers = fs != "tmpfs" || root.exists(&mount.target).tried(what)?;
            let target = match fs.as_str() {
                "proc" | "sysfs" => plain_folder(root, &mount.target, fs)?,
                _ => folder(root, &mount.target).tried(what)?,
            };
            allowed(&mount.target, &target)?;
            let mut options = match covers {
                true => with_mode(fs, options, &target).tried(what)?,
                false => options.clone(),
            };
            if let Some(owner) = owner {
                users::map_options(fs, &mut options, owner.maps)?;
            }
            let copied = fs == "tmpfs" && copyup::asked(&mut options);
            let covered = match copied {
                true => Some(root.open_with(&mount.target, OFlags::RDONLY, 0).tried(what)?),
                false => None,
            };
            if let Some(label) = label.filter(|_| is_labelled(fs)) {
                labelled(&mut options, label);
            }
            let tree = mount::new_fs(fs, source, &options, mount.attach.set).tried(what)?;
            if let ("mqueue", Some(label)) = (fs.as_str(), label) {
                label_queues(&tree, label).tried(what)?;
            }
            if let ("mqueue", Some(Owner { maps, queues: true })) = (fs.as_str(), owner) {
                users::give_to_root(&tree, maps).tried(what)?;
            }
            if mount.attach.propagation != 0 {
                mount::set_attr(&tree, 0, 0, mount.attach.propagation, Depth::One).tried(what)?;
            }
            mount::attach(&tree, &target).tried(what)?;
            match covered {
                Some(covered) => fill(&tree, &covered, mount, what),
                None => Ok(()),
            }
        }
        (MountKind::Cgroup, _) => groups.attach(root, &mount.target, mount.attach.set),
    }
}

/// Whether files of such a file system take the label of the mount: those of `proc` and `sysfs` are the policy's to
/// label, and message queues are labelled by themselves.
fn is_labelled(fs: &str) -> bool {
    !matches!(fs, "proc" | "sysfs" | "mqueue")
}

/// Adds the option that labels every file of a mount, unless the caller has a label of its own.
pub(super) fn labelled(options: &mut Vec<(String, Option<String>)>, label: &str) {
    if !options.iter().any(|(key, _)| key == "context") {
        options.push(("context".to_owned(), Some(label.to_owned())));
    }
}

/// Labels the folder of message queues. The file system is that of an IPC namespace, so no mount can label it.
fn label_queues(tree: &OwnedFd, label: &str) -> sys::root::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(tree, ".", flags, Mode::empty())
        .map_err(|e| root::Error::new("open", "mqueue", e))?;
    match sys::selinux::set_open_label(folder, label) {
        // A policy need not label them.
        Err(e) if e.errno() == Errno::OPNOTSUPP => Ok(()),
        done => done,
    }
}

/// Copies what a new tmpfs covers into it, which may be read-only from then on.
fn fill(tree: &OwnedFd, covered: &File, mount: &Mount, what: impl Fn() -> String) -> Step {
    use sys::mount::attr::RDONLY;
    let readonly = mount.attach.set & RDONLY;
    if readonly != 0 {
        mount::set_attr(tree, 0, RDONLY, 0, Depth::One).tried(&what)?;
    }
    let inner = rustix::fs::openat(
        tree,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .tried(&what)?;
    copyup::copy(covered, inner, &mount.target.display().to_string())?;
    mount::set_attr(tree, readonly, 0, 0, Depth::One).tried(&what)
}

/// Attaches the source of `mount` at `place` below `root` instead of its own target.
pub(crate) fn attach_source(root: &Root, mount: &Mount, bind: Bind, place: &Path) -> Step {
    let moved = Mount { target: place.to_owned(), ..mount.clone() };
    let none = cgroups::View::default();
    attach_one(root, &moved, Some(bind), &none, (None, None))
}

/// Opens the folder `path` as a mount's target, and makes it when it is missing.
pub(crate) fn folder(root: &Root, path: &Path) -> root::Result<File> {
    let open = || root.open_with(path, OFlags::PATH | OFlags::DIRECTORY, 0);
    match open() {
        Err(e) if e.errno() == Errno::NOENT => {
            root.mkdir_all(path, 0o755, None)?;
            open()
        }
        found => found,
    }
}

/// Opens the file `path` as a mount's target, and makes it when it is missing.
pub(crate) fn file(root: &Root, path: &Path, mode: u32) -> root::Result<File> {
    match root.open_with(path, OFlags::PATH, 0) {
        Err(e) if e.errno() == Errno::NOENT => {
            if let Some(parent) = path.parent() {
                root.mkdir_all(parent, 0o755, None)?;
            }
            drop(root.open_with(path, OFlags::RDONLY | OFlags::CREATE, mode)?);
            root.open_with(path, OFlags::PATH, 0)
        }
        found => found,
    }
}

/// `/proc` and `/sys` go onto a folder of that very place: an image that puts a link there wants them
/// elsewhere, and with them what is written to them.
fn plain_folder(root: &Root, path: &Path, fs: &str) -> Step<File> {
    match root.open_with(path, OFlags::PATH | OFlags::NOFOLLOW, 0) {
        Ok(found) => {
            let stat = rustix::fs::fstat(&found).tried(|| format!("stat {}", path.display()))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(found),
                _ => Err(StartError::setup(format!(
                    "filesystem {fs:?} must be mounted on ordinary directory"
                ))),
            }
        }
        Err(_) => folder(root, path).tried(|| format!("mkdir {}", path.display())),
    }
}

/// Whether a mount may go onto what was opened. The plan judged the path as it is written; a link of the
/// image may have led it into `proc` or `sysfs` all the same, where a mount decides what the kernel's
/// files seem to say, or where later writes to them go.
pub(crate) fn allowed(path: &Path, target: &File) -> Step {
    let magic = mount::fs_magic(target).tried(|| format!("stat {}", path.display()))?;
    let (fs, place) = match magic {
        mount::PROC_MAGIC => ("proc", "/proc"),
        mount::SYSFS_MAGIC => ("sysfs", "/sys"),
        _ => return Ok(()),
    };
    match path.starts_with(place) {
        true => Ok(()),
        false => {
            Err(StartError::setup(format!("{path:?} cannot be mounted because it leads into {fs}")))
        }
    }
}

/// A tmpfs without a mode takes that of the folder which it covers, if that was there.
fn with_mode(
    fs: &str,
    options: &[(String, Option<String>)],
    target: &File,
) -> Result<Vec<(String, Option<String>)>, Errno> {
    let mut options = options.to_vec();
    if fs == "tmpfs" && !options.iter().any(|(key, _)| key == "mode") {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(target)?.st_mode).bits() & 0o7777;
        options.push(("mode".into(), Some(format!("{mode:o}"))));
    }
    Ok(options)
}

//! User namespaces: made or found before the container, entered last.
//!
//! A holder makes the user namespace, and in it those that are to belong to it (network, IPC, host name), and ends
//! once they are open here. The first process is still the host's root while it sets everything up in them, but
//! acts on files as the container's ([`act_as_root`]), for only mapped users may own files on mapped mounts. As the
//! last step before it changes user it enters the user namespace and takes a mount namespace of its own there
//! ([`Space::enter`]): whatever is mounted by then is locked. The pid namespace stays the host's, so that
//! processes in the container cannot mount `proc` anew.
//! Layers are mapped as mounts, below the overlay, so what is stored is the same with and without
//! ([`mapped_overlay`]). This happens in a mount namespace of a moment, because kernels before 6.15 take layers from
//! attached mounts only.
//! Source: user_namespaces(7), mount_setattr(2), Documentation/filesystems/idmappings.rst.

use super::{
    Step, Tried,
    sync::{Message, Sync},
};
use runtime::{
    plan::Plan,
    shim::StartError,
    spec::{Maps, Namespace, UserNamespace},
    user::Identity,
};
use rustix::fs::{Mode, OFlags};
use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};
use sys::{
    idmap,
    mount::{self, Depth, propagation},
    overlay::{self, Upper},
    process::{self as kernel, Child, Forked, ns},
    root::Root,
};

/// A user namespace and those that belong to it.
#[derive(Debug)]
pub(crate) struct Space {
    /// The user namespace.
    pub(super) user: File,
    /// Who is who in it.
    pub(super) maps: Maps,
    /// The others, to be born in.
    pub(super) others: Vec<(u64, File)>,
}

impl Space {
    /// Makes what the plan asks for.
    pub(super) fn new(plan: &Plan) -> Step<Option<Self>> {
        let Some(wanted) = &plan.namespaces.user else { return Ok(None) };
        let spaces = &plan.namespaces;
        let new: Vec<u64> =
            [(ns::NET, &spaces.net), (ns::IPC, &spaces.ipc), (ns::UTS, &spaces.uts)]
                .into_iter()
                .filter(|(_, space)| **space == Namespace::New)
                .map(|(bit, _)| bit)
                .collect();
        Self::make(wanted, &new).map(Some)
    }

    /// One that nobody is in, for mounts that are shown by it.
    pub(super) fn of(maps: &Maps) -> Step<Self> {
        Self::make(&UserNamespace { path: None, maps: maps.clone() }, &[])
    }

    fn make(wanted: &UserNamespace, new: &[u64]) -> Step<Self> {
        let (ours, theirs) = Sync::pair().tried(|| "make a socket".into())?;
        let flags = new.iter().fold(0, |flags, bit| flags | bit);
        let made = kernel::clone(0, None).tried(|| "unable to clone a process".into())?;
        let holder = match made {
            Forked::Child => {
                drop(ours);
                let said = match hold(wanted, flags) {
                    Ok(()) => Message::Made,
                    Err(err) => Message::Failed(err),
                };
                let _ = theirs.send(&said, None);
                // Until the shim has opened all, or is gone.
                let _ = theirs.receive();
                kernel::exit(0)
            }
            Forked::Parent(holder) => holder,
        };
        drop(theirs);
        let space = Self::open(&ours, &holder, wanted, new);
        drop(ours);
        let _ = kernel::wait(holder.pid);
        space
    }

    fn open(sync: &Sync, holder: &Child, wanted: &UserNamespace, new: &[u64]) -> Step<Self> {
        answer(sync, "the holder of the user namespace")?;
        let maps = match &wanted.path {
            Some(path) => maps_of_joined(path, holder.pid, &wanted.maps)?,
            None => {
                let written = wanted.maps.write(holder.pid);
                written.tried(|| "write the maps of the user namespace".into())?;
                wanted.maps.clone()
            }
        };
        let open = |bit: u64| {
            let path = format!("/proc/{}/ns/{}", holder.pid, ns::file(bit));
            File::open(&path).tried(|| format!("open namespace {path}"))
        };
        let others = new.iter().map(|bit| Ok((*bit, open(*bit)?))).collect::<Step<_>>()?;
        Ok(Self { user: open(ns::USER)?, maps, others })
    }

    /// Enters it for good, to become `who` there, with a mount namespace that belongs to it; gives the root there.
    pub(super) fn enter(&self, who: &Identity) -> Step<Root> {
        take_groups(who, &self.maps)?;
        kernel::join(&self.user, ns::USER).tried(|| "error joining user namespace".into())?;
        kernel::unshare(ns::MOUNT).tried(|| "error unsharing mount namespace".into())?;
        Root::open(Path::new("/")).tried(|| "open the container's root".into())
    }
}

/// In the holder: is in the user namespace, with new others.
fn hold(wanted: &UserNamespace, others: u64) -> Step {
    kernel::set_parent_death_signal(super::first::KILL)
        .tried(|| "set parent death signal".into())?;
    match &wanted.path {
        None => kernel::unshare(ns::USER).tried(|| "error making a user namespace".into())?,
        Some(path) => {
            let space = File::open(path).tried(|| format!("open namespace {}", path.display()))?;
            let what = || format!("error joining user namespace {}", path.display());
            if same(&space, "/proc/self/ns/user").tried(what)? {
                return Err(StartError::setup(format!(
                    "{}: it is the runtime's own (hint: leave out the user namespace)",
                    what()
                )));
            }
            kernel::join(&space, ns::USER).tried(what)?;
        }
    }
    kernel::unshare(others).tried(|| "error making namespaces".into())
}

fn same(one: &File, path: &str) -> rustix::io::Result<bool> {
    let (one, two) = (rustix::fs::fstat(one)?, rustix::fs::stat(path)?);
    Ok((one.st_dev, one.st_ino) == (two.st_dev, two.st_ino))
}

/// The maps of the namespace behind `path`, which the process `pid` is in; `told` has to be the same, or nothing.
fn maps_of_joined(path: &Path, pid: u32, told: &Maps) -> Step<Maps> {
    let what = || format!("error joining user namespace {}", path.display());
    let found = Maps::of_process(pid).tried(|| format!("{}: read its maps", what()))?;
    let found = found.unwrap_or_default();
    let refuse = |why: &str| Err(StartError::setup(format!("{}: {why}", what())));
    if found.user_outside(0).is_none() || found.group_outside(0).is_none() {
        return refuse("its root is nobody: user and group 0 are not mapped there");
    }
    if *told != Maps::default() && sorted(told) != sorted(&found) {
        return refuse(
            "its maps are others than linux.uidMappings and linux.gidMappings (hint: leave these out)",
        );
    }
    Ok(found)
}

/// The kernel tells many ranges in an order of its own.
fn sorted(maps: &Maps) -> Maps {
    let mut maps = maps.clone();
    maps.users.sort_by_key(|r| r.inside);
    maps.groups.sort_by_key(|r| r.inside);
    maps
}

/// Refuses a user or group that the namespace does not have, and takes the groups while it is still the host's to
/// allow that: a namespace may forbid it (`/proc/PID/setgroups`).
pub(super) fn take_groups(who: &Identity, maps: &Maps) -> Step {
    let refuse = |what: &str, id: u32, map: &str| {
        StartError::setup(format!(
            "unable to become user {}:{}: {what} {id} is not mapped in the user namespace (hint: see {map})",
            who.uid, who.gid
        ))
    };
    if maps.user_outside(who.uid).is_none() {
        return Err(refuse("user", who.uid, "uidMappings"));
    }
    let group = |id: u32| maps.group_outside(id).ok_or_else(|| refuse("group", id, "gidMappings"));
    group(who.gid)?;
    let groups = who.groups.iter().map(|id| group(*id)).collect::<Step<Vec<u32>>>()?;
    kernel::set_groups(&groups).tried(|| format!("set groups of user {}:{}", who.uid, who.gid))
}

/// What a helper has to say; with it the mount that it sends.
fn answer(sync: &Sync, who: &str) -> Step<Option<OwnedFd>> {
    match sync.receive() {
        Ok(Some((Message::Made, fd))) => Ok(fd),
        Ok(Some((Message::Failed(err), _))) => Err(err),
        _ => Err(StartError::setup(format!("{who} was killed"))),
    }
}

/// From here on files are made and used as the container's root.
pub(super) fn act_as_root(maps: &Maps) -> Step {
    let (Some(user), Some(group)) = (maps.user_outside(0), maps.group_outside(0)) else {
        return Err(StartError::setup("the user namespace's root is nobody"));
    };
    idmap::act_as(user, group).tried(|| "act as the container's root".into())?;
    // Changing user forgot it.
    kernel::set_parent_death_signal(super::first::KILL).tried(|| "set parent death signal".into())
}

/// Owners among a new file system's options, as the host numbers them.
///
/// The group of terminals is left out where it is not mapped: they are their user's then, as `runc spec --rootless` has
/// it.
pub(super) fn map_options(
    fs: &str,
    options: &mut Vec<(String, Option<String>)>,
    maps: &Maps,
) -> Step {
    let mut kept = Vec::with_capacity(options.len());
    for (key, value) in options.drain(..) {
        let id = value.as_ref().and_then(|v| v.parse().ok());
        let outside = match (key.as_str(), id) {
            ("uid", Some(id)) => maps.user_outside(id),
            ("gid", Some(id)) => maps.group_outside(id),
            _ => {
                kept.push((key, value));
                continue;
            }
        };
        match outside {
            Some(id) => kept.push((key, Some(id.to_string()))),
            None if fs == "devpts" => {}
            None => {
                let id = value.unwrap_or_default();
                return Err(StartError::setup(format!(
                    "option {key}={id} of {fs}: it is not mapped in the user namespace"
                )));
            }
        }
    }
    *options = kept;
    Ok(())
}

/// The message queues' folder was made with the namespace, when its root was not mapped yet.
pub(super) fn give_to_root(tree: &OwnedFd, maps: &Maps) -> rustix::io::Result<()> {
    let user = maps.user_outside(0).map(rustix::fs::Uid::from_raw);
    let group = maps.group_outside(0).map(rustix::fs::Gid::from_raw);
    rustix::fs::chownat(tree, "", user, group, rustix::fs::AtFlags::EMPTY_PATH)
}

/// An overlay of mapped folders, attached nowhere. `place` is any folder of the host.
pub(super) fn mapped_overlay(
    lower: &[PathBuf],
    upper: Option<Upper<'_>>,
    label: Option<&str>,
    space: &Space,
    place: &Path,
) -> Step<OwnedFd> {
    let (ours, theirs) = Sync::pair().tried(|| "make a socket".into())?;
    let helper =
        match kernel::clone(ns::MOUNT, None).tried(|| "unable to clone a process".into())? {
            Forked::Child => {
                drop(ours);
                let _ = match lay_mapped(lower, upper, label, space, place) {
                    Ok(tree) => theirs.send(&Message::Made, Some(tree.as_fd())),
                    Err(err) => theirs.send(&Message::Failed(err), None),
                };
                kernel::exit(0)
            }
            Forked::Parent(helper) => helper,
        };
    drop(theirs);
    let tree = answer(&ours, "the helper that mounts layers");
    let _ = kernel::wait(helper.pid);
    tree?.ok_or_else(|| StartError::setup("the helper that mounts layers sent no mount"))
}

/// In the helper: puts the mapped folders under `place` and lays them over each other.
fn lay_mapped(
    lower: &[PathBuf],
    upper: Option<Upper<'_>>,
    label: Option<&str>,
    space: &Space,
    place: &Path,
) -> Step<OwnedFd> {
    kernel::set_parent_death_signal(super::first::KILL)
        .tried(|| "set parent death signal".into())?;
    mount::set_propagation_of_all(propagation::PRIVATE)
        .tried(|| "error making the mounts of the host private".into())?;
    // Cloned first: what is under `place` cannot be seen any more afterwards.
    let lower: Vec<OwnedFd> =
        lower.iter().map(|path| mapped(path, &space.user)).collect::<Step<_>>()?;
    let upper = upper.map(|upper| writable(upper, &space.user)).transpose()?;
    let what = || format!("prepare {}", place.display());
    let tmpfs = mount::new_fs("tmpfs", "layers", &[], 0).tried(what)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(place, flags, Mode::empty()).tried(what)?;
    mount::attach(&tmpfs, &target).tried(what)?;
    let put = |tree: &OwnedFd, name: &str| -> Step<PathBuf> {
        rustix::fs::mkdirat(&tmpfs, name, Mode::RWXU).tried(what)?;
        let folder = rustix::fs::openat(&tmpfs, name, flags, Mode::empty()).tried(what)?;
        mount::attach(tree, &folder).tried(what)?;
        Ok(place.join(name))
    };
    let mut folders = Vec::new();
    for (n, tree) in lower.iter().enumerate() {
        folders.push(put(tree, &n.to_string())?);
    }
    let upper = match upper {
        None => None,
        Some(Writable { tree, upper, work, volatile }) => {
            let at = put(&tree, "rw")?;
            Some((at.join(upper), at.join(work), volatile))
        }
    };
    // overlayfs goes on acting as whoever mounted it.
    act_as_root(&space.maps)?;
    let upper = upper.as_ref();
    let upper = upper.map(|(upper, work, volatile)| Upper { upper, work, volatile: *volatile });
    overlay::mount(&folders, upper, label).tried(|| "error mounting root file system".into())
}

/// The parent of the writable and the scratch folder, which have to be on one mount.
struct Writable {
    tree: OwnedFd,
    upper: PathBuf,
    work: PathBuf,
    volatile: bool,
}

fn writable(wanted: Upper<'_>, space: &File) -> Step<Writable> {
    let Upper { upper, work, volatile } = wanted;
    let parent = upper.ancestors().skip(1).find(|parent| work.starts_with(parent));
    let parent = parent.unwrap_or_else(|| Path::new("/"));
    let below = |path: &Path| path.strip_prefix(parent).unwrap_or(path).to_owned();
    Ok(Writable { tree: mapped(parent, space)?, upper: below(upper), work: below(work), volatile })
}

fn mapped(path: &Path, space: &File) -> Step<OwnedFd> {
    let what = || format!("error mounting {} with the users of the container", path.display());
    let tree = mount::clone_path(path, Depth::One).tried(what)?;
    map(&tree, space, Depth::One, what)?;
    Ok(tree)
}

/// Shows the owners on a detached mount, and with `depth` on those below it, as the user namespace has them.
pub(super) fn map(tree: &OwnedFd, space: &File, depth: Depth, what: impl Fn() -> String) -> Step {
    match mount::set_idmap(tree, space, depth) {
        Err(e) if e.raw_os_error() == Some(EINVAL) => Err(StartError::setup(format!(
            "{}: its file system cannot map owners (hint: keep it on ext4, xfs or btrfs, or do without the mapping: --userns=host, no idmap)",
            what()
        ))),
        Err(e) if e.raw_os_error() == Some(EPERM) => Err(StartError::setup(format!(
            "{}: its owners cannot be mapped: the mount is mapped already, or its file system belongs to another user namespace",
            what()
        ))),
        done => done.tried(what),
    }
}

const EINVAL: i32 = 22;
const EPERM: i32 = 1;

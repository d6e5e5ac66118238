//! What belongs into `/dev`: device nodes and the links that programs expect.

use super::{Step, Tried, mounts};
use runtime::{plan::Plan, shim::StartError, spec::Device};
use rustix::{fs::FileType, io::Errno};
use std::{os::fd::OwnedFd, path::Path};
use sys::{
    caps, idmap,
    mount::{self, Depth},
    root::{Node, Root},
};

/// Links that runc makes as well.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// The host's nodes of the plan's devices, in their order, where none can be made: only the first user namespace has
/// devices, and only with `CAP_MKNOD`. Empty where they can.
pub(super) fn of_host(plan: &Plan) -> Step<Vec<Option<OwnedFd>>> {
    let own = caps::current().tried(|| "unable to read capabilities".into())?;
    if !plan.own_dev || idmap::in_first() && own.effective >> caps::MKNOD & 1 == 1 {
        return Ok(Vec::new());
    }
    plan.devices.iter().map(host_node).collect()
}

fn host_node(device: &Device) -> Step<Option<OwnedFd>> {
    let what = || {
        let path = device.path.display();
        format!(
            "error creating device nodes: {path} cannot be made here, and binding the host's failed"
        )
    };
    let kind = match device.kind {
        'c' => FileType::CharacterDevice,
        'b' => FileType::BlockDevice,
        _ => return Ok(None),
    };
    let tree = mount::clone_path(&device.path, Depth::One).tried(what)?;
    let stat = rustix::fs::fstat(&tree).tried(what)?;
    let found = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) == kind && found == (device.major, device.minor) {
        true => Ok(Some(tree)),
        false => Err(StartError::setup(format!("{}: it is another device", what()))),
    }
}

/// Fills `/dev` when it is the container's own; nothing is ever made in a `/dev` of the host. `host` has the host's
/// nodes for devices that cannot be made.
pub(crate) fn fill(root: &Root, plan: &Plan, host: &[Option<OwnedFd>]) -> Step {
    if !plan.own_dev {
        return Ok(());
    }
    for (at, device) in plan.devices.iter().enumerate() {
        match host.get(at).and_then(Option::as_ref) {
            Some(tree) => bind(root, device, tree)?,
            None => node(root, device)?,
        }
    }
    for (target, link) in LINKS {
        symlink(root, target, link)?;
    }
    if root.exists("/proc/kcore").unwrap_or(false) {
        symlink(root, "/proc/kcore", "/dev/core")?;
    }
    Ok(())
}

fn bind(root: &Root, device: &Device, tree: &OwnedFd) -> Step {
    let what = || format!("error creating device nodes: {}", device.path.display());
    // As with a node: what was put there on purpose stays.
    if root.exists(&device.path).tried(what)? {
        return Ok(());
    }
    let target = mounts::file(root, &device.path, 0o666).tried(what)?;
    mounts::allowed(&device.path, &target)?;
    mount::attach(tree, &target).tried(what)
}

fn symlink(root: &Root, target: &str, link: &str) -> Step {
    match root.symlink(target, link) {
        Err(e) if !e.is_taken() => Err(e).tried(|| format!("error creating link {link}")),
        _ => Ok(()),
    }
}

fn node(root: &Root, device: &Device) -> Step {
    let what = || format!("error creating device nodes: {}", device.path.display());
    let node = match device.kind {
        'c' => Node::Char(device.major, device.minor),
        'b' => Node::Block(device.major, device.minor),
        'p' => Node::Fifo,
        other => return Err(StartError::setup(format!("{}: type {other}", what()))),
    };
    let Some((parent, name)) = device.path.parent().zip(device.path.file_name()) else {
        return Err(StartError::setup(what()));
    };
    if parent != Path::new("/dev") {
        root.mkdir_all(parent, 0o755, None).tried(what)?;
    }
    let dir = root.open_dir(parent).tried(what)?;
    match dir.mknod(name, node, 0) {
        // Something that was mounted or made there on purpose (a bind of a host device).
        Err(e) if e.errno() == Errno::EXIST => return Ok(()),
        done => done.tried(what)?,
    }
    if device.uid != 0 || device.gid != 0 {
        dir.chown(name, device.uid, device.gid).tried(what)?;
    }
    dir.chmod(name, device.file_mode).tried(what)
}

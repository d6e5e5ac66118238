//! What belongs into `/dev`: device nodes and the links that programs expect.

use super::{Step, Tried};
use runtime::{plan::Plan, shim::StartError, spec::Device};
use rustix::io::Errno;
use std::path::Path;
use sys::root::{Node, Root};

/// Links that runc makes as well.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Fills `/dev` when it is the container's own; nothing is ever made in a `/dev` of the host.
pub(crate) fn fill(root: &Root, plan: &Plan) -> Step {
    if !plan.own_dev {
        return Ok(());
    }
    for device in &plan.devices {
        node(root, device)?;
    }
    for (target, link) in LINKS {
        symlink(root, target, link)?;
    }
    if root.exists("/proc/kcore").unwrap_or(false) {
        symlink(root, "/proc/kcore", "/dev/core")?;
    }
    Ok(())
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

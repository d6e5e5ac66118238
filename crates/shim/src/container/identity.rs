//! User, groups, capabilities, seccomp: what a process may do.
//!
//! Order: limits and bounding set as root, then the user, then the working folder and the program as that
//! user, then (in [`Confinement::seal`]) seccomp and the last capabilities.
//! Without `no_new_privs` the kernel takes a filter only from `CAP_SYS_ADMIN`, so that one is held until
//! the filter is loaded and dropped right after; with it nothing is held.

use super::{Step, Tried};
use runtime::{
    plan::Process,
    shim::{Class, StartError},
    user::{self, Identity},
};
use rustix::fs::OFlags;
use std::io::Read as _;
use sys::{
    caps,
    process::{self as kernel},
    root::Root,
    seccomp,
};

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, as runc: a filter alone is no reason to slow the processor down.
const SPEC_ALLOW: u32 = 1 << 2;
/// Longest passwd or group file that is read.
const LONGEST_FILE: u64 = 8 << 20;

/// Who the process will be, by the container's own files.
pub(crate) fn resolve(root: &Root, process: &Process) -> Step<Identity> {
    user::resolve(&process.user, &read(root, "/etc/passwd")?, &read(root, "/etc/group")?)
}

/// A file of the container, if it is a plain one; a missing one is empty.
fn read(root: &Root, path: &str) -> Step<Vec<u8>> {
    let Ok(file) = root.open_with(path, OFlags::RDONLY, 0) else { return Ok(Vec::new()) };
    let meta = file.metadata().tried(|| format!("stat {path} in the container"))?;
    let refuse =
        |why: &str| Err(StartError::new(Class::Invalid, format!("{path} in the container {why}")));
    if !meta.is_file() {
        return refuse("is not a regular file");
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST_FILE + 1).read_to_end(&mut bytes);
    read.tried(|| format!("read {path} in the container"))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return refuse("is too long");
    }
    Ok(bytes)
}

/// Sees to it that the program will run under the process's profile and label. While `/proc` is the host's.
pub(super) fn set_profile(process: &Process) -> Step {
    if !process.selinux_label.is_empty() {
        let label = &process.selinux_label;
        sys::selinux::on_exec(label)
            .tried(|| format!("unable to apply SELinux label {label} to the process"))?;
    }
    match process.apparmor.as_str() {
        "" => Ok(()),
        // Without AppArmor everything is.
        "unconfined" if !sys::apparmor::enabled() => Ok(()),
        profile => sys::apparmor::on_exec(profile)
            .tried(|| format!("unable to apply apparmor profile {profile}")),
    }
}

/// What is left to do once the process is the user.
#[derive(Debug)]
pub(crate) struct Confinement {
    caps: caps::Sets,
    ambient: u64,
    no_new_privs: bool,
    program: Option<Vec<seccomp::Instruction>>,
}

/// Sets the limits. Inside a user namespace none can be raised, so they are set before it is entered; to set them there
/// again changes nothing.
pub(super) fn set_limits(process: &Process) -> Step {
    for limit in &process.rlimits {
        kernel::set_rlimit(limit.resource, limit.soft, limit.hard)
            .tried(|| format!("error setting rlimit {}", limit.resource))?;
    }
    Ok(())
}

impl Confinement {
    /// Becomes the user, with no more capabilities than `seal` needs.
    pub(crate) fn enter(process: &Process, filter: Option<&[u8]>, who: &Identity) -> Step<Self> {
        set_limits(process)?;
        caps::bound(process.capabilities).tried(|| "unable to apply bounding set".into())?;
        kernel::set_keep_caps().tried(|| "unable to set keep caps".into())?;
        kernel::set_identity(who.uid, who.gid, &who.groups)
            .tried(|| format!("unable to become user {}:{}", who.uid, who.gid))?;
        let own = caps::current().tried(|| "unable to read capabilities".into())?;
        let (caps, ambient) = match &process.sets {
            Some(sets) => {
                let permitted = sets.permitted & own.permitted;
                let (effective, inheritable) = (sets.effective & permitted, sets.inheritable);
                let ambient = sets.ambient & permitted & inheritable;
                (caps::Sets { effective, permitted, inheritable }, ambient)
            }
            None => {
                // To match what execve does, only root has them in effect.
                let all = if who.uid == 0 { process.capabilities & own.permitted } else { 0 };
                (caps::Sets { effective: all, permitted: all, inheritable: 0 }, 0)
            }
        };
        let program = filter.map(|bytes| {
            bytes
                .chunks_exact(8)
                .map(|c| seccomp::Instruction::from_bytes(c.try_into().expect("chunks of 8")))
                .collect()
        });
        let this = Self { caps, ambient, no_new_privs: process.no_new_privileges, program };
        let admin = if this.needs_admin() { 1 << caps::SYS_ADMIN & own.permitted } else { 0 };
        let held = caps::Sets {
            effective: caps.effective | admin,
            permitted: caps.permitted | admin,
            ..caps
        };
        caps::set(held).tried(|| "unable to apply caps".into())?;
        caps::raise_ambient(this.ambient).tried(|| "unable to apply ambient caps".into())?;
        if this.no_new_privs {
            kernel::set_no_new_privs().tried(|| "unable to set no new privileges".into())?;
        }
        Ok(this)
    }

    fn needs_admin(&self) -> bool {
        self.program.is_some() && !self.no_new_privs
    }

    /// Loads the filter and lets go of the rest.
    pub(crate) fn seal(&self) -> Step {
        if let Some(program) = &self.program {
            seccomp::load(program, SPEC_ALLOW).tried(|| "unable to init seccomp".into())?;
        }
        if self.needs_admin() {
            caps::set(self.caps).tried(|| "unable to apply caps".into())?;
        }
        Ok(())
    }
}

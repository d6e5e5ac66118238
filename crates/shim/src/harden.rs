//! The shim's first moments: nothing inherited, nothing to be read or written by a container.
//!
//! A process of a container can open `/proc/PID/exe` of what joins it. So the program must not be
//! writable through that link: it runs from a read-only mount of its own (made by the daemon), or makes
//! that mount, or copies itself into sealed memory.
//! Source: CVE-2019-5736 (the class of attack).

use crate::container::{Step, Tried as _};
use rustix::fs::{MemfdFlags, SealFlags};
use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::Path,
};
use sys::{mount, process as kernel};

/// First descriptor after standard input (the daemon's socket), output and error.
const FIRST: u32 = 3;

/// Closes what was inherited, protects the program, leaves the daemon's session.
pub(crate) fn prepare() -> io::Result<()> {
    kernel::close_from(FIRST)?;
    kernel::set_undumpable()?;
    if !is_protected()? {
        return Err(run_protected());
    }
    kernel::set_name(c"gantry-shim")?;
    // A leader of a group cannot; then it has a session of its own already, or the caller's is meant.
    let _ = rustix::process::setsid();
    rustix::process::umask(0o077.into());
    kernel::set_subreaper()
}

/// For a call of the runtime that makes a process: only the program is protected; descriptors and session are
/// the caller's to give.
pub(crate) fn protect_call() -> Step {
    let what = || "protect the runtime's program".to_owned();
    kernel::set_undumpable().tried(what)?;
    if !is_protected().tried(what)? {
        return Err(run_protected()).tried(what);
    }
    Ok(())
}

fn is_protected() -> io::Result<bool> {
    let own = File::open("/proc/self/exe")?;
    if mount::is_readonly(&own)? {
        return Ok(true);
    }
    Ok(rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Starts anew from where nothing can be written; returns only when that fails.
fn run_protected() -> io::Error {
    let protected = mount::readonly_clone(Path::new("/proc/self/exe")).or_else(|_| sealed_copy());
    let args =
        std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect::<Vec<_>>();
    match protected {
        Ok(program) => kernel::exec_fd(program.as_fd(), &args, &environment()),
        Err(err) => err,
    }
}

fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            CString::new(pair.into_vec()).ok()
        })
        .collect()
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let copy =
        rustix::fs::memfd_create("gantry-shim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

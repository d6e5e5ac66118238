//! Seccomp: from a profile (Docker's JSON, or the built-in default) to a kernel filter.
//!
//! Flow: [`Profile::default_profile`] or [`Profile::parse`] -> [`Profile::rules`] drops what does not
//! count for this container's capabilities -> [`compile`] makes a [`Program`] that the shim loads just
//! before exec. [`Cache`] keeps the programs of the default profile by capability set.
//! Invariants: the program is a binary search over system call numbers (about 10 steps), at most 4096
//! instructions; a call through another architecture's entry is judged by that architecture's table; a
//! number beyond all the profile names answers ENOSYS, so that libc's fallbacks work on newer kernels.
//! Source: seccomp(2), the OCI runtime specification, Moby `profiles/seccomp` (profile form, verdicts).
//! Not here: loading (`sys::seccomp`).

mod arch;
mod assemble;
mod compile;
mod default;
mod interpret;
pub mod oci;
mod profile;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use compile::compile;
pub use profile::{Action, Condition, Op, Profile, Rule};

use crate::defaults::Capabilities;
use base::Result;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
pub use sys::seccomp::Instruction;

/// A compiled filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// What the kernel runs.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` to load it with.
    pub flags: u32,
}

impl Program {
    /// The instructions as the kernel's bytes, as `Spec::seccomp` wants them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|i| i.to_bytes()).collect()
    }
}

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;
/// What a process of an exec still does when it is born into the container: all of it without arguments that a
/// sensible profile looks at.
const AFTER_BIRTH: &[&str] = &[
    "capget",
    "capset",
    "clone",
    "close",
    "execve",
    "exit_group",
    "ioctl",
    "prctl",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendmsg",
    "setsid",
    "write",
];
/// `CLONE_PARENT`, the only flag of that clone.
const CLONE_PARENT: u64 = 0x8000;

/// Whether a filter may be loaded before an exec's process is born into the container: it lets through all that is
/// left to do then.
pub fn lets_be_born(filter: &[u8]) -> bool {
    let program: Vec<Instruction> = filter
        .chunks_exact(8)
        .filter_map(|bytes| Some(Instruction::from_bytes(bytes.try_into().ok()?)))
        .collect();
    let Ok(arch) = Arch::native() else { return false };
    let allowed = |number: u32, name: &str| {
        let first = if name == "clone" { CLONE_PARENT } else { 0 };
        let call =
            interpret::Call { audit: arch.audit(), number, arguments: [first, 0, 0, 0, 0, 0] };
        interpret::run(&program, call).is_some_and(|(verdict, _)| verdict == ALLOW)
    };
    let needed = arch.syscalls().filter(|(_, name)| AFTER_BIRTH.contains(name));
    let (mut seen, mut all) = (0, true);
    for (number, name) in needed {
        seen += 1;
        all &= allowed(number, name);
    }
    all && seen == AFTER_BIRTH.len()
}

/// Compiled default profiles by capability set.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<Capabilities, Arc<Program>>>);

/// Capability sets beyond this are compiled each time: bounds what clients can make us keep.
const KEPT: usize = 64;

impl Cache {
    /// The default profile for a container that has `capabilities` in its bounding set.
    ///
    /// # Errors
    /// `Internal` if the profile does not compile (tests exclude it).
    pub fn default_program(&self, capabilities: Capabilities) -> Result<Arc<Program>> {
        if let Some(found) = self.lock().get(&capabilities) {
            return Ok(Arc::clone(found));
        }
        let arch = Arch::native()?;
        let profile = Profile::default_profile(arch);
        let made = Arc::new(compile(&profile, capabilities, arch)?);
        let mut kept = self.lock();
        if kept.len() < KEPT {
            kept.insert(capabilities, Arc::clone(&made));
        }
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Capabilities, Arc<Program>>> {
        // A map of finished programs is right even if another thread panicked meanwhile.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

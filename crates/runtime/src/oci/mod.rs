//! The OCI runtime specification: a plan written as `config.json` for another runtime's program, and a
//! `config.json` read as a spec when this one is called.
//!
//! Flow: the shim makes the root and the sources of the mounts, knows who the user is, and asks
//! [`config()`] (for a further process [`process()`]) for what it puts into the bundle. The other way
//! [`read()`] and [`spec()`] make what [`crate::plan()`] takes.
//! Invariants: pure; what the own runtime would do and what is written here come from one [`crate::Plan`].
//! Source: opencontainers/runtime-spec 1.2 `config.md`, `config-linux.md`.
//! Not here: calling a runtime (crate `shim`).

mod model;
mod read;
#[cfg(test)]
mod tests;
mod users;
mod write;

pub use model::{
    Capabilities, Config, ConsoleSize, Device, Hook, Hooks, Linux, Mount, Namespace, Process,
    Rlimit, Root, User,
};
pub use read::{MOUNT_OPTIONS, parse_process, read, seccomp, spec, spec_process};
pub use write::{Made, config, for_hooks, process};

/// Version of the specification that is written.
pub const VERSION: &str = "1.0.2";
/// Version of the specification that is read.
pub const SPEC: &str = "1.2.0";

//! From what to run to a running process: the spec, the pure plan, and the protocol of the shim that
//! carries it out.
//!
//! Flow: the engine fills a [`spec::Spec`]; [`plan()`] checks it and turns names into numbers, touching
//! nothing; `shim::Shim::spawn` (feature `client`) hands the plan to a `gantry-shim` process, which does
//! the rest and outlives the daemon.
//! Not here: carrying the plan out (crate `shim`), system calls (`sys`), log files (`logging`).

mod bytes64;
pub mod defaults;
pub mod oci;
pub mod plan;
pub mod seccomp;
pub mod shim;
pub mod spec;
pub mod user;

pub use plan::{ExecPlan, Features, Plan, plan, plan_exec};
pub use spec::Spec;

//! Real containers through the real shim: busybox in a root made up on the spot. They need root.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; figures are printed"
)]

mod exec;
mod faults;
mod measure;
mod rig;
mod run;
mod sandbox;

//! Real containers through the real shim: busybox in a root made up on the spot. They need root.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod exec;
mod faults;
mod rig;
mod run;
mod sandbox;

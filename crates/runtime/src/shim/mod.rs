//! The shim: one small process per container, which holds its stdio, writes its log, reaps it, records
//! its exit, and lives on when the daemon dies.
//!
//! A folder per container (`dir`) is the meeting place: `shim.sock` while the shim lives, `exit.json`
//! when the container's first process has ended. [`protocol`] is spoken on the socket by the shim and by
//! the [`Shim`] client (feature `client`).

#[cfg(feature = "client")]
mod attach;
#[cfg(feature = "client")]
mod client;
mod failure;
pub mod protocol;

#[cfg(feature = "client")]
pub use attach::{Attach, Frame};
#[cfg(feature = "client")]
pub use client::{Binary, Launch, Running, Shim};
pub use failure::{Class, StartError};
pub use protocol::{AttachOptions, Exit, OciRuntime, Phase, Spawned, State, Stdin, Stream, Target};

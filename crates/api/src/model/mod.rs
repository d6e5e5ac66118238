//! The wire types of the Docker Engine API, newest served version (1.51), Linux.
//!
//! Field names follow the API in snake case; their meaning is the API reference's.

#![allow(missing_docs, reason = "the fields are those of the API reference, under its names")]

mod container;
mod image;
mod network;
mod plugin;
mod reply;
mod stats;
mod stream;
mod system;
mod volume;

pub use container::*;
pub use image::*;
pub use network::*;
pub use plugin::*;
pub use reply::*;
pub use stats::*;
pub use stream::*;
pub use system::*;
pub use volume::*;

use serde::{Deserialize, Serialize};

/// Go's `struct{}`: the value of sets such as `ExposedPorts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

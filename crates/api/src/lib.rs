//! The Docker Engine contract for both ends: wire types of the newest version and lenient decoding.

pub mod decode;
pub mod model;

pub use decode::{decode, decode_value};

//! The Docker Engine contract for both ends: wire types, decoding as lenient as Go's, a typed client.

pub mod client;
pub mod decode;
pub mod model;

pub use decode::{decode, decode_value};

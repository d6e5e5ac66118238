//! The engine as a whole: version, information, disk usage.

mod df;
mod host;
mod info;

pub use df::Kinds;
pub use host::{Host, hostname, open_descriptors};

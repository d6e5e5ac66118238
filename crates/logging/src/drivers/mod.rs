//! The log drivers. To add one: a file here and a line in [`DRIVERS`]; one that sends output elsewhere has its
//! options here and its sending in crate `relay`. Other names may be plugins' (`plugin.rs`).

pub mod fluentd;
pub mod gelf;
mod journald;
mod json_file;
pub(crate) mod local;
mod none;
pub mod plugin;
pub mod syslog;

use crate::{Driver, Sink};
use base::Error;

/// All drivers, by the names that `--log-driver` takes.
pub static DRIVERS: &[&dyn Driver] = &[
    &fluentd::Fluentd,
    &gelf::Gelf,
    &journald::Journald,
    &json_file::JsonFile,
    &local::Local,
    &none::None,
    &syslog::Syslog,
];

/// The driver of plugins.
pub(crate) static PLUGIN: plugin::Plugin = plugin::Plugin;

/// A sink that keeps nothing.
pub(crate) fn nowhere() -> Box<dyn Sink> {
    Box::new(none::Nowhere)
}

/// Why there is nothing to read.
fn unreadable() -> Error {
    Error::not_implemented("configured logging driver does not support reading")
}

//! The log drivers. To add one: a file here and a line in [`DRIVERS`].

mod json_file;
pub(crate) mod local;
mod none;

use crate::Driver;

/// All drivers, by the names that `--log-driver` takes.
pub static DRIVERS: &[&dyn Driver] = &[&json_file::JsonFile, &local::Local, &none::None];

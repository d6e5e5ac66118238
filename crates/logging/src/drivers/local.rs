//! `local`: files in a form of our own that costs least to write and to read; bounded and compressed.
//!
//! Also the copy that is kept for drivers which send output elsewhere ([`cache`]).
//! Source: Moby `daemon/logger/local` and `daemon/logger/loggerutils/cache` (options and their defaults).

use super::json_file::NAMES;
use crate::{
    Config, Driver, Options, ReadOptions, Reader, Sink,
    options::ATTRIBUTES,
    rotated::{FileReader, Form, Names, Rotation, Writer},
};
use base::Result;
use std::path::Path;

pub(super) struct Local;

/// Docker's defaults: 5 files of 20 MB.
const DEFAULT: Rotation = Rotation { limit: Some(20_000_000), files: 5, compress: true };
const CACHE: Names =
    Names { size: "cache-max-size", files: "cache-max-file", compress: "cache-compress" };

impl Driver for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn check(&self, options: &Options) -> Result<()> {
        options.only(self.name(), &["max-file", "max-size", "compress"], ATTRIBUTES)?;
        Rotation::parse(options, &NAMES, DEFAULT).map(drop)
    }

    fn sink(&self, config: &Config) -> Result<Box<dyn Sink>> {
        let rotation = Rotation::parse(&config.options, &NAMES, DEFAULT)?;
        open(&config.path.with_file_name("local.log"), rotation)
    }

    fn reader(&self, config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
        read_back(&config.path.with_file_name("local.log"), config, read)
    }
}

/// Checks the options of the copy.
pub(crate) fn check_cache(options: &Options) -> Result<()> {
    options.flag("cache-disabled")?;
    Rotation::parse(options, &CACHE, DEFAULT).map(drop)
}

/// The writing end of the copy; `None` when it is not wanted.
pub(crate) fn cache(config: &Config) -> Result<Option<Box<dyn Sink>>> {
    if config.options.flag("cache-disabled")? == Some(true) {
        return Ok(None);
    }
    let rotation = Rotation::parse(&config.options, &CACHE, DEFAULT)?;
    open(&config.path.with_file_name("cached.log"), rotation).map(Some)
}

/// The reading end of the copy.
pub(crate) fn read_cache(config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
    if config.options.flag("cache-disabled")? == Some(true) {
        return Err(super::unreadable());
    }
    read_back(&config.path.with_file_name("cached.log"), config, read)
}

fn open(path: &Path, rotation: Rotation) -> Result<Box<dyn Sink>> {
    // Attributes are the same for every record of a container: its reader adds them.
    Ok(Box::new(Writer::open(path, Form::Plain, rotation, &Default::default())?))
}

fn read_back(path: &Path, config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
    let attrs = (!config.attrs.is_empty())
        .then(|| serde_json::to_string(&config.attrs).unwrap_or_default());
    Ok(Box::new(FileReader::open(path, Form::Plain, attrs, read.clone())?))
}

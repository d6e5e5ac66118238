//! `json-file`: one JSON object per line, `{"log":"..\n","stream":"stdout","time":".."}`.
//!
//! Files: `<path>` is written, `<path>.1` is the newest rotated one, up to `max-file` files in all;
//! with `compress` a rotated file becomes `<path>.N.gz` while later output is written.
//! Source: Moby `daemon/logger/jsonfilelog` and `loggerutils/logfile.go` (form and rules).

mod files;
mod reader;
mod record;
mod squeeze;
#[cfg(test)]
mod tests;
mod writer;

use crate::{Config, Driver, Options, ReadOptions, Reader, Sink};
use base::{Error, Result};

pub(super) struct JsonFile;

const KNOWN: &[&str] =
    &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

/// The options that concern files.
#[derive(Clone, Copy, Debug)]
struct Rotation {
    /// Bytes after which a new file is begun.
    limit: Option<u64>,
    /// Files in all, at least 1.
    files: u32,
    compress: bool,
}

impl Rotation {
    fn parse(options: &Options) -> Result<Self> {
        let limit = options.size("max-size")?;
        let files = options.number("max-file")?.unwrap_or(1);
        let compress = options.flag("compress")?.unwrap_or(false);
        if files < 1 {
            return Err(Error::invalid("max-file cannot be less than 1"));
        }
        let files = u32::try_from(files)
            .map_err(|_| Error::invalid(format!("max-file is too large: {files}")))?;
        if compress && (files < 2 || limit.is_none()) {
            return Err(Error::invalid(
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ));
        }
        Ok(Self { limit, files, compress })
    }
}

impl Driver for JsonFile {
    fn name(&self) -> &'static str {
        "json-file"
    }

    fn check(&self, options: &Options) -> Result<()> {
        options.only(self.name(), KNOWN)?;
        Rotation::parse(options).map(drop)
    }

    fn sink(&self, config: &Config) -> Result<Box<dyn Sink>> {
        let rotation = Rotation::parse(&config.options)?;
        Ok(Box::new(writer::Writer::open(&config.path, rotation, &config.attrs)?))
    }

    fn reader(&self, config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::FileReader::open(&config.path, read.clone())?))
    }
}

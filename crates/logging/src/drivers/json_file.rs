//! `json-file`: one JSON object per line, `{"log":"..\n","stream":"stdout","time":".."}`.
//!
//! Without any option the files are bounded: [`DEFAULT`]. `max-size=-1` is Docker's "no limit".
//! Source: Moby `daemon/logger/jsonfilelog` (form and rules).

use crate::{
    Config, Driver, Options, ReadOptions, Reader, Sink,
    options::ATTRIBUTES,
    rotated::{FileReader, Form, Names, Rotation, Writer},
};
use base::Result;

pub(super) struct JsonFile;

/// Docker writes one file without end here, which fills disks; 3 files of 100 MB are what we keep.
const DEFAULT: Rotation = Rotation { limit: Some(100_000_000), files: 3, compress: false };
/// The options of files, shared with `local`.
pub(super) const NAMES: Names = Names { size: "max-size", files: "max-file", compress: "compress" };

impl Driver for JsonFile {
    fn name(&self) -> &'static str {
        "json-file"
    }

    fn check(&self, options: &Options) -> Result<()> {
        options.only(self.name(), &["max-file", "max-size", "compress"], ATTRIBUTES)?;
        Rotation::parse(options, &NAMES, DEFAULT).map(drop)
    }

    fn sink(&self, config: &Config) -> Result<Box<dyn Sink>> {
        let rotation = Rotation::parse(&config.options, &NAMES, DEFAULT)?;
        Ok(Box::new(Writer::open(&config.path, Form::Json, rotation, &config.attrs)?))
    }

    fn reader(&self, config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
        Ok(Box::new(FileReader::open(&config.path, Form::Json, None, read.clone())?))
    }
}

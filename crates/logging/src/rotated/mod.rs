//! A log in files: one is written, `<path>.1` is the newest rotated one, up to so many files in all; with
//! compression a rotated file becomes `<path>.N.gz` while later output is written.
//!
//! Used by `json-file`, by `local`, and as the copy that other drivers are read back from. What a record
//! looks like is the [`Form`]; in every form it ends with a line end and has none inside.
//! Source: Moby `daemon/logger/loggerutils/logfile.go` (names and rules).

mod json;
mod names;
mod plain;
mod reader;
mod squeeze;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::FileReader;
pub(crate) use writer::Writer;

use crate::{Options, Stream};
use base::{Error, Result, Timestamp};
use std::ops::Range;

/// What a record looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Docker's JSON objects.
    Json,
    /// Time, stream and the bytes as they are.
    Plain,
}

impl Form {
    /// Appends a record. `attrs` is a JSON object or empty.
    fn encode(
        self,
        out: &mut Vec<u8>,
        (line, ended): (&[u8], bool),
        stream: Stream,
        attrs: &[u8],
        when: &mut When,
    ) {
        match self {
            Self::Json => {
                let tail = &mut when.tails[stream as usize];
                if tail.is_empty() {
                    *tail = json::tail(stream, attrs, &when.text);
                }
                json::encode(out, line, ended, tail);
            }
            Self::Plain => plain::encode(out, line, ended, stream, &when.text),
        }
    }

    /// Reads one record (without its line end) and puts the output bytes into `text`.
    fn decode(self, record: &[u8], text: &mut Vec<u8>) -> Option<Decoded> {
        match self {
            Self::Json => json::decode(record, text),
            Self::Plain => plain::decode(record, text),
        }
    }
}

/// The last time written as text, and what of a record follows from it: a chunk's lines share one.
struct When {
    at: Timestamp,
    /// RFC 3339.
    text: String,
    /// Ends of records by stream, as far as they were needed.
    tails: [Vec<u8>; 2],
}

impl When {
    fn new(at: Timestamp) -> Self {
        Self { at, text: at.to_string(), tails: Default::default() }
    }
}

/// A record read back.
#[derive(Debug)]
struct Decoded {
    stream: Stream,
    /// Where in the input the time stands; empty when `spare` holds it.
    time: Range<usize>,
    attrs: Option<Range<usize>>,
    /// Set when the record was not in the form that is written.
    spare: Option<Spare>,
}

/// What cannot be pointed at in the input.
#[derive(Debug)]
struct Spare {
    time: String,
    attrs: Option<String>,
}

/// When a new file is begun, and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Bytes after which a new file is begun.
    pub(crate) limit: Option<u64>,
    /// Files in all, at least 1.
    pub(crate) files: u32,
    /// Whether rotated files are compressed.
    pub(crate) compress: bool,
}

/// The names of the options that [`Rotation::parse`] reads.
pub(crate) struct Names {
    pub(crate) size: &'static str,
    pub(crate) files: &'static str,
    pub(crate) compress: &'static str,
}

impl Rotation {
    /// Reads the options; what is not given is as in `default`. A size of `-1` is no limit. Where only a
    /// size is given, Docker's rule holds that there is one file.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    pub(crate) fn parse(options: &Options, names: &Names, default: Self) -> Result<Self> {
        let limit = match options.text(names.size) {
            None => default.limit,
            Some(_) => options.size(names.size)?,
        };
        let alone =
            default.limit.is_some() && !default.compress && options.text(names.size).is_some();
        let standard = if alone || limit.is_none() { 1 } else { default.files };
        let files = options.number(names.files)?.unwrap_or(i64::from(standard));
        if files < 1 {
            return Err(Error::invalid(format!("{} cannot be less than 1", names.files)));
        }
        let files = u32::try_from(files)
            .map_err(|_| Error::invalid(format!("{} is too large: {files}", names.files)))?;
        let possible = files > 1 && limit.is_some();
        let compress = options.flag(names.compress)?.unwrap_or(default.compress && possible);
        if compress && !possible {
            return Err(Error::invalid(format!(
                "{} cannot be true when {} is less than 2 or {} is not set",
                names.compress, names.files, names.size
            )));
        }
        Ok(Self { limit, files, compress })
    }
}

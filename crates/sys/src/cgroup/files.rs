//! Reading and writing control files, with errors that name the file and the value.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A control file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} cgroup {}", path.display())]
pub struct Error {
    what: String,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    pub(super) fn new(what: impl Into<String>, path: &Path, source: io::Error) -> Self {
        Self { what: what.into(), path: path.to_owned(), source }
    }

    /// The cause.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// Whether the file or folder was not there.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
            || self.source.raw_os_error() == Some(libc::ENODEV)
    }
}

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

pub(super) fn write(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    let written = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut opened| opened.write_all(value.as_bytes()));
    written.map_err(|e| Error::new(format!("write {value:?} to"), &path, e))
}

pub(super) fn read(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    crate::system::read(&path).map_err(|e| Error::new("read", &path, e))
}

/// A number; `max` and missing files are `None`.
pub(super) fn number(folder: &Path, file: &str) -> Option<u64> {
    read(folder, file).ok()?.trim().parse().ok()
}

/// The value of one key in a file of `key value` lines.
pub(super) fn value(folder: &Path, file: &str, key: &str) -> Option<u64> {
    let text = read(folder, file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

//! Container output from pipe to driver, and back to a reader.
//!
//! Flow: the shim opens a [`Sink`] from a [`Config`] and hands it every chunk read from the container;
//! the sink cuts chunks into lines and stores them. The engine opens a [`Reader`] on the same `Config`.
//! Invariants: everything is synchronous and single-threaded, because it runs in the shim; a failing
//! write never loses more than the chunk at hand and never leaves half a record behind; both ends are
//! bounded in memory. Writer and reader share nothing but the files, so either may die at any time.
//! Source: Moby `daemon/logger` (behaviour, file form, error texts).
//! Output that goes elsewhere is handed to a relay process ([`handover`], crate `relay`).
//! Not here: which attributes a container's records carry (the engine computes `Config::attrs`).

mod address;
pub mod drivers;
pub mod handover;
pub mod lines;
mod options;
mod rotated;

pub use address::Address;
pub use drivers::DRIVERS;
pub use options::Options;

use base::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, os::fd::BorrowedFd, path::PathBuf};

/// Which of the container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// All a driver needs to open a container's log; travels to the shim as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Driver name; empty means `json-file`.
    pub driver: String,
    /// Where file drivers write.
    pub path: PathBuf,
    /// `--log-opt` values.
    #[serde(default)]
    pub options: Options,
    /// Attributes added to each record (from `labels` and `env` options, for some drivers `tag` too).
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// The `tag` option, rendered; the short id when it was not given.
    #[serde(default)]
    pub tag: String,
    /// Whose output it is.
    #[serde(default)]
    pub origin: Origin,
    /// The program that runs as the relay of drivers which send output elsewhere.
    #[serde(default)]
    pub relay: PathBuf,
    /// Says that the driver is a plugin, and what that is told.
    #[serde(default)]
    pub plugin: Option<drivers::plugin::Told>,
}

/// What records that go elsewhere say of their container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Its id, 64 digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its image's id, `sha256:` and 64 digits.
    pub image_id: String,
    /// Its image as it was asked for.
    pub image_name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Entrypoint and arguments, joined by spaces.
    pub command: String,
    /// The name of this machine.
    pub host: String,
}

impl Config {
    /// The driver of this configuration.
    ///
    /// # Errors
    /// `Invalid` for a name that is in no list, with docker's text.
    pub fn driver(&self) -> Result<&'static dyn Driver> {
        let name = if self.driver.is_empty() { "json-file" } else { self.driver.as_str() };
        if self.plugin.is_some() {
            return Ok(&drivers::PLUGIN);
        }
        DRIVERS.iter().copied().find(|d| d.name() == name).ok_or_else(|| {
            Error::invalid(format!("logger: no log driver named '{name}' is registered"))
        })
    }

    /// Checks driver name and options without touching a file.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    pub fn check(&self) -> Result<()> {
        let driver = self.driver()?;
        options::check_common(&self.options)?;
        driver.check(&self.options)
    }

    /// Whether output goes elsewhere, by a relay.
    pub fn is_remote(&self) -> bool {
        self.driver().is_ok_and(Driver::is_remote)
    }

    /// Opens the writing end.
    ///
    /// # Errors
    /// `Invalid` for bad options, else the failing file operation.
    pub fn sink(&self) -> Result<Box<dyn Sink>> {
        self.check()?;
        self.driver()?.sink(self)
    }

    /// Opens the reading end.
    ///
    /// # Errors
    /// `NotImplemented` when the driver keeps nothing to read.
    pub fn reader(&self, read: &ReadOptions) -> Result<Box<dyn Reader>> {
        self.driver()?.reader(self, read)
    }
}

/// One way to keep container output. To add one: a file in `drivers/`, a line in [`DRIVERS`].
pub trait Driver: Sync {
    /// The name used in `--log-driver`.
    fn name(&self) -> &'static str;

    /// Checks options.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    fn check(&self, options: &Options) -> Result<()>;

    /// Whether output goes elsewhere, by a relay. Such a driver keeps nothing itself: what is written and
    /// read here is the copy.
    fn is_remote(&self) -> bool {
        false
    }

    /// Opens the writing end; options were checked.
    ///
    /// # Errors
    /// The failing operation.
    fn sink(&self, config: &Config) -> Result<Box<dyn Sink>> {
        Ok(drivers::local::cache(config)?.unwrap_or_else(drivers::nowhere))
    }

    /// Opens the reading end.
    ///
    /// # Errors
    /// `NotImplemented` when there is nothing to read.
    fn reader(&self, config: &Config, read: &ReadOptions) -> Result<Box<dyn Reader>> {
        drivers::local::read_cache(config, read)
    }
}

impl fmt::Debug for dyn Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.name()).finish()
    }
}

/// The writing end of a log.
pub trait Sink: Send {
    /// Takes a chunk as it was read from the container; cuts it into lines itself. Larger chunks are
    /// cheaper (64 KiB is good).
    ///
    /// # Errors
    /// The failing file operation; what was given may be lost then, later writes are whole again.
    fn write(&mut self, stream: Stream, chunk: &[u8], at: Timestamp) -> Result<()>;

    /// The stream is at its end: stores an unterminated last line.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn end(&mut self, stream: Stream) -> Result<()>;

    /// Opens the file anew (after someone moved it away).
    ///
    /// # Errors
    /// The failing file operation; the old file stays in use then.
    fn reopen(&mut self) -> Result<()>;
}

impl fmt::Debug for dyn Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Wait for more at the end instead of ending.
    pub follow: bool,
    /// Only the last so many records; `None` is all.
    pub tail: Option<usize>,
    /// Skip records before this time.
    pub since: Option<Timestamp>,
    /// End at the first record after this time.
    pub until: Option<Timestamp>,
}

/// A stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// When, RFC 3339 as stored; see [`Entry::at`].
    pub time: &'a str,
    /// The bytes, with the line end if there was one.
    pub line: &'a [u8],
    /// Attributes as a JSON object, if any.
    pub attrs: Option<&'a str>,
}

impl Entry<'_> {
    /// The time, parsed.
    pub fn at(&self) -> Timestamp {
        self.time.parse().unwrap_or_default()
    }
}

/// What [`Reader::next`] found.
#[derive(Debug)]
pub enum Next<'a> {
    /// A record.
    Entry(Entry<'a>),
    /// Nothing now: wait until [`Reader::wake`] is readable, call [`Reader::woken`], then go on.
    Idle,
    /// Nothing more will come.
    End,
}

/// The reading end of a log; never blocks beyond disk reads.
pub trait Reader: Send {
    /// The next record.
    ///
    /// # Errors
    /// The failing file operation. Damaged records are skipped, not errors.
    fn next(&mut self) -> Result<Next<'_>>;

    /// Readable when there may be more; `None` when not following.
    fn wake(&self) -> Option<BorrowedFd<'_>>;

    /// Takes the wake signs from [`Reader::wake`].
    fn woken(&mut self);

    /// The writer has ended: from now on the end of the file is the end.
    fn finish(&mut self);
}

impl fmt::Debug for dyn Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

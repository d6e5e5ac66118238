//! Kinds of error, given where the error is made; the server alone turns a kind into a status code.

use std::{error::Error as StdError, fmt};

/// What sort of failure this is, independent of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong (400).
    Invalid,
    /// The caller is not known (401).
    Unauthorized,
    /// The caller may not do this (403).
    Forbidden,
    /// The named object does not exist (404).
    NotFound,
    /// The object's state, or another object, stands in the way (409).
    Conflict,
    /// The object already is as asked (304).
    NotModified,
    /// This cannot be done here (501).
    NotImplemented,
    /// A part that is needed does not answer or is not active (503).
    Unavailable,
    /// Space, inodes or another resource ran out (507).
    Exhausted,
    /// The caller went away or asked to stop (499, never sent).
    Cancelled,
    /// Our own failure (500).
    Internal,
}

/// An error that knows its [`Kind`].
pub trait Kinded: StdError {
    /// The kind of this error.
    fn kind(&self) -> Kind;
}

/// A plain error: a kind, a message and perhaps a cause. The message says what was tried on what; it
/// never repeats the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error { $( $(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message) } )* }
    };
}

constructors! {
    /// The request is wrong.
    invalid => Invalid,
    /// The caller is not known.
    unauthorized => Unauthorized,
    /// Not allowed.
    forbidden => Forbidden,
    /// No such object.
    not_found => NotFound,
    /// State stands in the way.
    conflict => Conflict,
    /// Already so.
    not_modified => NotModified,
    /// Not available on this system.
    not_implemented => NotImplemented,
    /// A needed part is not there.
    unavailable => Unavailable,
    /// Out of space or another resource.
    exhausted => Exhausted,
    /// Stopped on request.
    cancelled => Cancelled,
    /// Our own failure.
    internal => Internal,
}

impl Error {
    /// Makes an error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps an I/O error with what was tried; running out of space is recognised.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::OutOfMemory => Kind::Exhausted,
            _ => Kind::Internal,
        };
        Self::new(kind, message).caused_by(source)
    }

    /// Wraps any kinded error below a sentence of our own, keeping its kind.
    pub fn wrap<E: Kinded + Send + Sync + 'static>(message: impl Into<String>, source: E) -> Self {
        let kind = source.kind();
        Self::new(kind, message).caused_by(source)
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and all causes, joined by `: `, as a client sees it.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The text of `err` and of all its causes, joined by `: `.
pub fn chain(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&plain(&cause.to_string()));
        next = cause.source();
    }
    text
}

/// The system's words as Go programs print them, which clients match: `no such file or directory`, not
/// `No such file or directory (os error 2)`.
fn plain(cause: &str) -> String {
    let Some((words, _)) = cause.rsplit_once(" (os error ") else { return cause.to_owned() };
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl Kinded for Error {
    fn kind(&self) -> Kind {
        self.kind
    }
}

//! What went wrong on the way to a server, in the words that Go's clients use, because people search for them.

use crate::url;
use base::Kind;
use std::{error::Error as StdError, fmt, io};

/// What sort of failure it was: decides whether trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such host, or nobody listens.
    Connect,
    /// TLS was not agreed on: an unknown authority, another name, no TLS at all.
    Tls,
    /// The connection broke before the answer was whole.
    Broken,
    /// The server was silent or too slow for too long.
    Slow,
    /// The server, the proxy or a redirect leads where this client must not go.
    Forbidden,
    /// The request itself makes no sense.
    Invalid,
}

/// A request that got no answer, or half of one.
#[derive(Debug)]
pub struct Error {
    failure: Failure,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(failure: Failure, what: impl Into<String>) -> Self {
        Self { failure, what: what.into(), source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// `Get "https://host/path"`, as Go begins its message.
    pub(crate) fn of(failure: Failure, method: &http::Method, uri: &http::Uri) -> Self {
        let name = method.as_str();
        let name = format!("{}{}", &name[..1], name[1..].to_ascii_lowercase());
        Self::new(failure, format!("{name} \"{}\"", url::shown(&uri.to_string())))
    }

    /// A body that is not whole.
    pub fn broken(what: &str) -> Self {
        Self::new(Failure::Broken, what)
    }

    /// What sort of failure it was.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// Whether the same request may succeed when it is sent again.
    pub fn is_transient(&self) -> bool {
        matches!(self.failure, Failure::Broken | Failure::Slow)
    }

    /// Whether the server was never reached.
    pub fn is_unreached(&self) -> bool {
        matches!(self.failure, Failure::Connect | Failure::Tls)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<Error> for base::Error {
    fn from(err: Error) -> Self {
        let kind = match err.failure {
            Failure::Invalid => Kind::Invalid,
            Failure::Forbidden => Kind::Forbidden,
            Failure::Connect | Failure::Tls | Failure::Broken | Failure::Slow => Kind::Internal,
        };
        let made = Self::new(kind, err.what);
        match err.source {
            Some(source) => made.caused_by(source),
            None => made,
        }
    }
}

impl From<Error> for io::Error {
    fn from(err: Error) -> Self {
        io::Error::other(err)
    }
}

/// Puts an error of hyper into a [`Failure`]: what it hides inside decides.
pub(crate) fn classify(err: &(dyn StdError + 'static)) -> Failure {
    let mut next = Some(err);
    while let Some(inner) = next {
        if let Some(own) = inner.downcast_ref::<Error>() {
            return own.failure;
        }
        next = inner.source();
    }
    Failure::Broken
}

/// The innermost text worth showing of an error of hyper.
pub(crate) fn reason(err: &(dyn StdError + 'static)) -> String {
    let mut next = Some(err);
    let mut last = err.to_string();
    while let Some(inner) = next {
        if let Some(own) = inner.downcast_ref::<Error>() {
            return base::error::chain(own);
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::UnexpectedEof => return "unexpected EOF".into(),
                io::ErrorKind::ConnectionReset => return "connection reset by peer".into(),
                _ => {}
            }
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed())
        {
            return "unexpected EOF".into();
        }
        last = inner.to_string();
        next = inner.source();
    }
    last
}

//! How a command ends when it does not end well: an exit code, and what is printed.

use std::fmt;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Fail {
    /// The program's exit code.
    pub code: i32,
    /// Printed to standard error; nothing when empty.
    pub message: String,
}

pub(crate) type Result<T, E = Fail> = std::result::Result<T, E>;

impl Fail {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Ends with `code`, everything having been said.
    pub(crate) fn code(code: i32) -> Self {
        Self { code, message: String::new() }
    }

    #[must_use]
    pub(crate) fn with_code(self, code: i32) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<base::Error> for Fail {
    fn from(err: base::Error) -> Self {
        Self::new(err.chain())
    }
}

impl From<crate::client::Error> for Fail {
    fn from(err: crate::client::Error) -> Self {
        Self::new(err.to_string())
    }
}

impl From<std::io::Error> for Fail {
    fn from(err: std::io::Error) -> Self {
        // Whoever reads our output has gone: nobody is left to be told.
        if err.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::code(141);
        }
        Self::new(crate::error::text(&err))
    }
}

/// An I/O error as Go words it: without the number.
pub(crate) fn text(err: &std::io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

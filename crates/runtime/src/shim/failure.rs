//! Why a process did not start, in docker's words.

use base::{Kind, error::Kinded};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the command line makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The program does not exist: exit code 127.
    NotFound,
    /// The program cannot be run: exit code 126.
    NotExecutable,
    /// The user or group is unknown, or another setting is wrong: 125 (exec: 126).
    Invalid,
    /// The shim or a step of the set-up failed.
    #[default]
    Setup,
}

impl Class {
    /// Exit code that Docker records for a container which failed to start so.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Invalid | Self::Setup => 128,
        }
    }
}

/// A failed start. Its text is what Docker prints after `unable to start container process: `.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartError {
    /// What sort.
    pub class: Class,
    /// The text.
    pub text: String,
}

impl StartError {
    /// A failure of `class`.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    /// A failed step of the set-up.
    pub fn setup(text: impl Into<String>) -> Self {
        Self::new(Class::Setup, text)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StartError {}

impl Kinded for StartError {
    fn kind(&self) -> Kind {
        match self.class {
            Class::NotFound | Class::NotExecutable | Class::Invalid => Kind::Invalid,
            Class::Setup => Kind::Internal,
        }
    }
}

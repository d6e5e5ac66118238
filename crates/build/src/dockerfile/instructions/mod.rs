//! The instructions: one file each, complete in itself (syntax, what it does to a draft, what work it
//! leaves), and [`INSTRUCTIONS`], the list of them.

mod add;
pub(crate) mod arg;
mod cmd;
mod copy;
mod entrypoint;
mod env;
mod expose;
pub mod from;
mod healthcheck;
pub(crate) mod label;
mod maintainer;
mod onbuild;
mod run;
mod shell;
mod stopsignal;
mod user;
mod volume;
mod workdir;

use super::{Dialect, Flags, Heredoc, words};
use crate::draft::{Draft, Work};
use base::{Error, Result};
use image::edit::Command;
use std::{fmt, sync::Arc};

/// Every instruction of the language.
pub static INSTRUCTIONS: &[&Syntax] = &[
    &add::ADD,
    &arg::ARG,
    &cmd::CMD,
    &copy::COPY,
    &entrypoint::ENTRYPOINT,
    &env::ENV,
    &expose::EXPOSE,
    &from::FROM,
    &healthcheck::HEALTHCHECK,
    &label::LABEL,
    &maintainer::MAINTAINER,
    &onbuild::ONBUILD,
    &run::RUN,
    &shell::SHELL,
    &stopsignal::STOPSIGNAL,
    &user::USER,
    &volume::VOLUME,
    &workdir::WORKDIR,
];

/// How an instruction is recognised and read.
#[derive(Debug)]
pub struct Syntax {
    /// Its word, in upper case.
    pub name: &'static str,
    /// Whether here-documents may follow.
    pub heredocs: bool,
    /// What its words must look like, whatever they mean.
    pub form: Form,
    /// Reads it.
    pub parse: fn(Raw<'_>) -> Result<Parsed>,
}

/// The shape of an instruction's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any words.
    Plain,
    /// Words, or a JSON list of strings.
    Json,
    /// `name=value`, or `name value`.
    Pairs,
}

impl Form {
    /// Checks the shape, before the instruction itself is looked at.
    ///
    /// # Errors
    /// `Invalid` with docker's wording.
    pub(super) fn check(self, name: &str, rest: &str, escape: char) -> Result<()> {
        match self {
            Self::Pairs if !rest.is_empty() => words::pairs(rest, name, escape).map(|_| ()),
            Self::Json => words::json(rest).transpose().map(|_| ()),
            Self::Plain | Self::Pairs => Ok(()),
        }
    }
}

/// An instruction before it is understood.
#[derive(Debug)]
pub struct Raw<'t> {
    /// What follows word and flags.
    pub rest: &'t str,
    /// Its flags.
    pub flags: Flags,
    /// The whole joined line.
    pub text: &'t str,
    /// Here-documents that follow.
    pub heredocs: &'t [Heredoc],
    /// The escape character.
    pub escape: char,
    /// Whose language it is.
    pub dialect: Dialect,
}

/// An instruction understood.
#[derive(Debug)]
pub enum Parsed {
    /// `FROM`: a stage begins.
    Stage(from::Head),
    /// Any other.
    Step(Arc<dyn Instruction>),
}

/// What all instructions but `FROM` can do.
pub trait Instruction: fmt::Debug + Send + Sync {
    /// Applies itself to the draft and tells what work is left.
    ///
    /// # Errors
    /// `Invalid` with docker's wording.
    fn apply(&self, draft: &mut Draft) -> Result<Work>;

    /// The stage or image that it copies from.
    fn from(&self) -> Option<&str> {
        None
    }

    /// All stages and images that it takes files from.
    fn sources(&self) -> Vec<String> {
        self.from().map(str::to_owned).into_iter().collect()
    }

    /// The arguments that it declares, with defaults.
    fn declares(&self) -> &[(String, Option<String>)] {
        &[]
    }
}

/// The instruction called `word`, in any case.
pub fn find(word: &str) -> Option<&'static Syntax> {
    INSTRUCTIONS.iter().find(|s| s.name.eq_ignore_ascii_case(word)).copied()
}

/// ` (did you mean RUN?)` for a word that is nearly an instruction.
pub(super) fn hint(word: &str) -> String {
    let word = word.to_ascii_uppercase();
    let near = INSTRUCTIONS.iter().map(|s| (distance(&word, s.name), s.name)).min();
    match near {
        Some((distance, name)) if distance <= 2 && distance * 2 <= word.len() => {
            format!(" (did you mean {name}?)")
        }
        _ => String::new(),
    }
}

/// Letters to insert, drop or change to get from `a` to `b`.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    if a.len() > 20 {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn step(instruction: impl Instruction + 'static) -> Parsed {
    Parsed::Step(Arc::new(instruction))
}

fn at_least_one(name: &str) -> Error {
    Error::invalid(format!("{name} requires at least one argument"))
}

fn exactly_one(name: &str) -> Error {
    Error::invalid(format!("{name} requires exactly one argument"))
}

/// The rest of the line as one argument.
fn one_argument(name: &str, rest: &str) -> Result<String> {
    match rest.trim() {
        "" => Err(exactly_one(name)),
        text => Ok(text.to_owned()),
    }
}

/// Shell form or exec form.
fn command(rest: &str) -> Result<Command> {
    match words::json(rest) {
        Some(words) => Ok(Command::Exec(words?)),
        None => Ok(Command::Shell(rest.to_owned())),
    }
}

//! The Dockerfile language: text to stages and steps.
//!
//! Flow: [`lines`] joins continued lines, reads parser directives and here-documents; [`words`] cuts a line
//! into flags and words; [`instructions`] holds one file per instruction and the list of them. What a step
//! then does to an image is decided by its instruction too, over a [`crate::draft::Draft`].
//!
//! Invariants: parsing is total and pure; each error names its line. Lines are counted from 1.
//! Source: the Dockerfile reference; texts and quirks as docker 28's classic builder has them.

mod flags;
mod heredoc;
pub mod instructions;
mod lines;
pub(crate) mod words;

pub use heredoc::Heredoc;
pub use instructions::Instruction;

use crate::limits;
use base::{Error, Result};
use flags::Flags;
use instructions::{Parsed, Raw, from::Head};
use std::{ops::RangeInclusive, sync::Arc};

/// Lines of the file that something is written on.
pub type Lines = RangeInclusive<usize>;

/// Whose Dockerfiles are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The classic builder's: flags of BuildKit are refused by name.
    #[default]
    Classic,
    /// BuildKit's front end, `docker/dockerfile:1`.
    BuildKit,
}

/// A parsed Dockerfile.
#[derive(Debug)]
pub struct Dockerfile {
    /// `ARG`s before the first `FROM`.
    pub args: Vec<Step>,
    /// Stages, in order; never empty.
    pub stages: Vec<Stage>,
    /// The escape character.
    pub escape: char,
    /// What the author should be told.
    pub warnings: Vec<String>,
    /// Lines that are empty where a line goes on.
    pub empty_continuations: Vec<usize>,
    /// Parser directives (`syntax`, `check`, `escape`), as written.
    pub directives: Vec<(String, String)>,
}

/// `FROM` and what follows it.
#[derive(Debug)]
pub struct Stage {
    /// The `FROM` line.
    pub head: Head,
    /// Its text, as shown.
    pub code: String,
    /// Where it is.
    pub lines: Lines,
    /// The instructions.
    pub steps: Vec<Step>,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is.
    pub instruction: Arc<dyn Instruction>,
    /// Its text, as shown: continued lines joined.
    pub code: String,
    /// Where it is.
    pub lines: Lines,
}

impl Dockerfile {
    /// Parses the bytes of the Dockerfile called `name`.
    ///
    /// # Errors
    /// `Invalid`, with the line, for whatever is wrong with it: `failed to parse <name>: ...` for its
    /// form, `dockerfile parse error on line <n>: ...` for an instruction.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        Self::parse_as(name, bytes, Dialect::Classic)
    }

    /// As [`Dockerfile::parse`], in the words of `dialect`.
    ///
    /// # Errors
    /// As [`Dockerfile::parse`].
    pub fn parse_as(name: &str, bytes: &[u8], dialect: Dialect) -> Result<Self> {
        if bytes.len() as u64 > limits::DOCKERFILE_BYTES {
            return Err(Error::invalid(format!(
                "the Dockerfile is larger than {} bytes",
                limits::DOCKERFILE_BYTES
            )));
        }
        let text = String::from_utf8_lossy(bytes);
        let form = |cause| Error::invalid(format!("failed to parse {name}")).caused_by(cause);
        let file = lines::read(&text).map_err(form)?;
        let mut parsed = Self {
            args: Vec::new(),
            stages: Vec::new(),
            escape: file.escape,
            warnings: file.warnings,
            empty_continuations: file.empty,
            directives: file.directives,
        };
        for line in file.lines {
            let at = *line.lines.start();
            shape(&line.text, file.escape).map_err(|e| form(in_line(at, e)))?;
            parsed.add(line, file.escape, dialect).map_err(|cause| on_line(at, cause))?;
        }
        if parsed.stages.is_empty() {
            return Err(Error::invalid("No image was generated. Is your Dockerfile empty?"));
        }
        Ok(parsed)
    }

    fn add(&mut self, line: lines::Logical, escape: char, dialect: Dialect) -> Result<()> {
        let code = line.text.trim().to_owned();
        match instruction(&line.text, &line.heredocs, escape, dialect)? {
            Parsed::Stage(head) => {
                self.stages.push(Stage { head, code, lines: line.lines, steps: Vec::new() });
            }
            Parsed::Step(instruction) => {
                let step = Step { instruction, code, lines: line.lines };
                match self.stages.last_mut() {
                    Some(stage) => stage.steps.push(step),
                    None if !step.instruction.declares().is_empty() => self.args.push(step),
                    None => return Err(Error::invalid("no build stage in current context")),
                }
            }
        }
        Ok(())
    }

    /// The place of the stage named `name` (any case), or numbered so.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let named =
            |s: &Stage| s.head.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.stages
            .iter()
            .position(named)
            .or_else(|| name.parse::<usize>().ok().filter(|index| *index < self.stages.len()))
    }
}

impl Step {
    /// Parses one instruction on its own: an `ONBUILD` trigger.
    ///
    /// # Errors
    /// `Invalid` when it is none, or several, or `FROM`.
    pub fn parse_trigger(text: &str, escape: char, dialect: Dialect) -> Result<Self> {
        let mut file = lines::read(text)?;
        let single = || Error::invalid("onbuild trigger should be a single expression");
        let line = file.lines.pop().ok_or_else(single)?;
        if !file.lines.is_empty() {
            return Err(single());
        }
        match instruction(&line.text, &line.heredocs, escape, dialect)? {
            Parsed::Step(instruction) => {
                Ok(Self { instruction, code: line.text.trim().to_owned(), lines: line.lines })
            }
            Parsed::Stage(_) => Err(Error::invalid("FROM isn't allowed as an ONBUILD trigger")),
        }
    }

    /// A step that is not written in a Dockerfile (`--label`).
    pub fn made(instruction: impl Instruction + 'static, code: String) -> Self {
        Self { instruction: Arc::new(instruction), code, lines: 0..=0 }
    }
}

/// An error in the form of a line.
fn in_line(line: usize, cause: Error) -> Error {
    Error::invalid(format!("{} (line {line})", cause.chain()))
}

/// Checks the form of a joined line.
fn shape(text: &str, escape: char) -> Result<()> {
    let (word, _, rest) = words::split(text, escape);
    match instructions::find(word) {
        Some(syntax) => syntax.form.check(syntax.name, rest, escape),
        None => Ok(()),
    }
}

/// An error on a line.
pub(crate) fn on_line(line: usize, cause: Error) -> Error {
    Error::invalid(format!("dockerfile parse error on line {line}")).caused_by(cause)
}

/// Reads one instruction from a joined line.
fn instruction(text: &str, heredocs: &[Heredoc], escape: char, dialect: Dialect) -> Result<Parsed> {
    let (word, flags, rest) = words::split(text, escape);
    let Some(syntax) = instructions::find(word) else {
        return Err(Error::invalid(format!(
            "unknown instruction: {word}{}",
            instructions::hint(word)
        )));
    };
    let flags = Flags::read(flags);
    (syntax.parse)(Raw { rest, flags, text, heredocs, escape, dialect })
}

/// Whether a joined line may be followed by here-documents.
fn takes_heredocs(text: &str, escape: char) -> bool {
    let (word, _, rest) = words::split(text, escape);
    match instructions::find(word) {
        Some(syntax) if syntax.name == "ONBUILD" => takes_heredocs(rest, escape),
        Some(syntax) => syntax.heredocs && words::json(rest).is_none(),
        None => false,
    }
}

#[cfg(test)]
mod tests;

//! `FROM [--platform=] <image> [AS <name>]`: begins a stage.

use super::{Form, Parsed, Raw, Syntax};
use crate::{dockerfile::words, go};
use base::{Error, Result};

pub(super) static FROM: Syntax = Syntax { name: "FROM", heredocs: false, form: Form::Plain, parse };

/// The head of a stage, not expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Image, earlier stage or `scratch`.
    pub base: String,
    /// Name of the stage, in lower case.
    pub name: Option<String>,
    /// Platform asked for.
    pub platform: Option<String>,
}

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let words = words::plain(raw.rest);
    let (base, name) = match words.as_slice() {
        [base] => (base.clone(), None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => {
            (base.clone(), Some(stage_name(name)?))
        }
        _ => return Err(Error::invalid("FROM requires either one or three arguments")),
    };
    let platform = raw.flags.text("platform")?.filter(|p| !p.is_empty());
    raw.flags.end()?;
    Ok(Parsed::Stage(Head { base, name, platform }))
}

fn stage_name(word: &str) -> Result<String> {
    let name = word.to_lowercase();
    let fine = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if fine {
        return Ok(name);
    }
    Err(Error::invalid(format!(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        go::quote(word)
    )))
}

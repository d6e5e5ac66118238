//! `SHELL ["program", "argument"...]`: the shell of shell forms.

use super::{Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work},
    go,
};
use base::{Error, Result};
use image::edit::Change;

pub(super) static SHELL: Syntax =
    Syntax { name: "SHELL", heredocs: false, form: Form::Json, parse };

#[derive(Debug)]
struct Shell(Vec<String>);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let not_json = || Error::invalid("SHELL requires the arguments to be in JSON form");
    let words = words::json(raw.rest).ok_or_else(not_json)??;
    if words.is_empty() {
        return Err(at_least_one("SHELL"));
    }
    Ok(step(Shell(words)))
}

impl Instruction for Shell {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        draft.edit(Change::Shell(self.0.clone()))?;
        Ok(Work::Config { comment: format!("SHELL {}", go::list(&self.0)) })
    }
}

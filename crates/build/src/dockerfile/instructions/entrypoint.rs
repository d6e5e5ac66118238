//! `ENTRYPOINT`: what the command is handed to.

use super::{Form, Instruction, Parsed, Raw, Syntax, command, step};
use crate::draft::{Draft, Work, words_comment};
use base::Result;
use image::edit::{Change, Command};

pub(super) static ENTRYPOINT: Syntax =
    Syntax { name: "ENTRYPOINT", heredocs: false, form: Form::Json, parse };

#[derive(Debug)]
struct Entrypoint(Command);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(Entrypoint(command(raw.rest)?)))
}

impl Instruction for Entrypoint {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let command = match &self.0 {
            Command::Shell(text) if text.is_empty() => Command::Exec(Vec::new()),
            other => other.clone(),
        };
        draft.edit(Change::Entrypoint(command))?;
        let words = draft.config.entrypoint.as_deref().unwrap_or_default();
        Ok(Work::Config { comment: words_comment("ENTRYPOINT", words) })
    }
}

//! `CMD`: the default command.

use super::{Form, Instruction, Parsed, Raw, Syntax, command, step};
use crate::draft::{Draft, Work, words_comment};
use base::Result;
use image::edit::{Change, Command};

pub(super) static CMD: Syntax = Syntax { name: "CMD", heredocs: false, form: Form::Json, parse };

#[derive(Debug)]
struct Cmd(Command);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(Cmd(command(raw.rest)?)))
}

impl Instruction for Cmd {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        // compat(docker 28): a bare `CMD` is the shell alone.
        let command = match &self.0 {
            Command::Shell(text) if text.is_empty() => Command::Exec(draft.shell()),
            other => other.clone(),
        };
        draft.edit(Change::Cmd(command))?;
        let words = draft.config.cmd.as_deref().unwrap_or_default();
        Ok(Work::Config { comment: words_comment("CMD", words) })
    }
}

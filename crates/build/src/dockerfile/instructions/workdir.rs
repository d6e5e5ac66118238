//! `WORKDIR path`: the working folder of what follows; it is made if it is not there.

use super::{Form, Instruction, Parsed, Raw, Syntax, one_argument, step};
use crate::draft::{Draft, Work};
use base::Result;
use image::edit::Change;

pub(super) static WORKDIR: Syntax =
    Syntax { name: "WORKDIR", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct WorkDir(String);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(WorkDir(one_argument("WORKDIR", raw.rest)?)))
}

impl Instruction for WorkDir {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let path = draft.word(&self.0)?;
        draft.edit(Change::WorkDir(path))?;
        Ok(Work::WorkDir)
    }
}

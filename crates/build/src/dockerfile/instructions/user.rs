//! `USER name[:group]`: who runs the following commands and the container.

use super::{Form, Instruction, Parsed, Raw, Syntax, one_argument, step};
use crate::draft::{Draft, Work};
use base::Result;
use image::edit::Change;

pub(super) static USER: Syntax = Syntax { name: "USER", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct User(String);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(User(one_argument("USER", raw.rest)?)))
}

impl Instruction for User {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let user = draft.word(&self.0)?;
        draft.edit(Change::User(user.clone()))?;
        Ok(Work::Config { comment: format!("USER {user}") })
    }
}

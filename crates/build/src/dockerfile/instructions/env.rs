//! `ENV name=value...` (or the old `ENV name value`): sets environment variables.

use super::{Form, Instruction, Parsed, Raw, Syntax, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work, pairs_comment},
};
use base::Result;
use image::edit::Change;

pub(super) static ENV: Syntax = Syntax { name: "ENV", heredocs: false, form: Form::Pairs, parse };

#[derive(Debug)]
struct Env(Vec<(String, String)>);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(Env(words::named(words::pairs(raw.rest, "ENV", raw.escape)?, "ENV")?)))
}

impl Instruction for Env {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let pairs = draft.pairs(&self.0)?;
        let comment = pairs_comment("ENV", &pairs);
        draft.edit(Change::Env(pairs))?;
        Ok(Work::Config { comment })
    }
}

//! `MAINTAINER name` (deprecated): the image's author.

use super::{Form, Instruction, Parsed, Raw, Syntax, one_argument, step};
use crate::draft::{Draft, Work};
use base::Result;

pub(super) static MAINTAINER: Syntax =
    Syntax { name: "MAINTAINER", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct Maintainer(String);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(Maintainer(one_argument("MAINTAINER", raw.rest)?)))
}

impl Instruction for Maintainer {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        draft.author.clone_from(&self.0);
        Ok(Work::Config { comment: format!("MAINTAINER {}", self.0) })
    }
}

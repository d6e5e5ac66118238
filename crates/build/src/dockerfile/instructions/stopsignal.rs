//! `STOPSIGNAL signal`: the signal that stops the container.

use super::{Form, Instruction, Parsed, Raw, Syntax, exactly_one, one_argument, step};
use crate::draft::{Draft, Work};
use base::Result;
use image::edit::Change;

pub(super) static STOPSIGNAL: Syntax =
    Syntax { name: "STOPSIGNAL", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct StopSignal(String);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let signal = one_argument("STOPSIGNAL", raw.rest)?;
    if signal.contains(char::is_whitespace) {
        return Err(exactly_one("STOPSIGNAL"));
    }
    Ok(step(StopSignal(signal)))
}

impl Instruction for StopSignal {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let signal = draft.word(&self.0)?;
        draft.edit(Change::StopSignal(signal.clone()))?;
        Ok(Work::Config { comment: format!("STOPSIGNAL {signal}") })
    }
}

//! `ONBUILD <instruction>`: an instruction for builds that start from this image.

use super::{Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::draft::{Draft, Work};
use base::{Error, Result};
use image::edit::Change;

pub(super) static ONBUILD: Syntax =
    Syntax { name: "ONBUILD", heredocs: true, form: Form::Plain, parse };

#[derive(Debug)]
struct OnBuild(String);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let word = raw.rest.split_whitespace().next().ok_or_else(|| at_least_one("ONBUILD"))?;
    let upper = word.to_ascii_uppercase();
    match upper.as_str() {
        "ONBUILD" => {
            return Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
        }
        "MAINTAINER" | "FROM" => {
            return Err(Error::invalid(format!("{upper} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    // The trigger is checked now, so that the error is the author's and not the next builder's.
    crate::dockerfile::instruction(raw.rest, raw.heredocs, raw.escape, raw.dialect)?;
    let mut text = raw.rest.trim().to_owned();
    for heredoc in raw.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(step(OnBuild(text)))
}

impl Instruction for OnBuild {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        draft.edit(Change::OnBuild(self.0.clone()))?;
        Ok(Work::Config { comment: format!("ONBUILD {}", self.0) })
    }
}

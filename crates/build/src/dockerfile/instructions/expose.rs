//! `EXPOSE port[/protocol]...`: names ports that the container listens on.

use super::{Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work},
};
use base::Result;
use image::edit::Change;

pub(super) static EXPOSE: Syntax =
    Syntax { name: "EXPOSE", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct Expose(Vec<String>);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let mut ports = words::plain(raw.rest);
    if ports.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    ports.sort();
    Ok(step(Expose(ports)))
}

impl Instruction for Expose {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        // The one instruction whose words may become several: `EXPOSE $PORTS`.
        let words = self.0.iter().map(|p| draft.words(p)).collect::<Result<Vec<_>>>()?;
        let ports = words.concat();
        let comment = format!("EXPOSE {}", ports.join(" "));
        draft.edit(Change::Expose(ports))?;
        Ok(Work::Config { comment })
    }
}

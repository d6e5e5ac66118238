//! `ARG name[=default]...`: declares build arguments.

use super::{Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work},
};
use base::{Error, Result};

pub(super) static ARG: Syntax = Syntax { name: "ARG", heredocs: false, form: Form::Plain, parse };

#[derive(Debug)]
struct Arg {
    args: Vec<(String, Option<String>)>,
}

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let words = words::quoted(raw.rest, raw.escape);
    if words.is_empty() {
        return Err(at_least_one("ARG"));
    }
    let args = words.into_iter().map(|word| match word.split_once('=') {
        Some(("", _)) => Err(Error::invalid("ARG names can not be blank")),
        Some((name, default)) => Ok((name.to_owned(), Some(default.to_owned()))),
        None => Ok((word, None)),
    });
    Ok(step(Arg { args: args.collect::<Result<_>>()? }))
}

impl Instruction for Arg {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let mut shown = Vec::new();
        for (name, default) in &self.args {
            let name = draft.word(name)?;
            let default = default.as_deref().map(|d| draft.word(d)).transpose()?;
            shown.push(match &default {
                Some(default) => format!("{name}={default}"),
                None => name.clone(),
            });
            draft.args.declare(&name, default);
        }
        Ok(Work::Config { comment: format!("ARG {}", shown.join(" ")) })
    }

    fn declares(&self) -> &[(String, Option<String>)] {
        &self.args
    }
}

//! `VOLUME path...` or `VOLUME ["path", ...]`: folders that become volumes.

use super::{Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work},
    go,
};
use base::{Error, Result};
use image::edit::Change;

pub(super) static VOLUME: Syntax =
    Syntax { name: "VOLUME", heredocs: false, form: Form::Json, parse };

#[derive(Debug)]
struct Volume(Vec<String>);

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    let paths: Vec<String> =
        words::json_or_plain(raw.rest)?.iter().map(|path| path.trim().to_owned()).collect();
    if paths.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    if paths.iter().any(String::is_empty) {
        return Err(Error::invalid("VOLUME specified can not be an empty string"));
    }
    Ok(step(Volume(paths)))
}

impl Instruction for Volume {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let paths = draft.each(&self.0)?;
        let comment = format!("VOLUME {}", go::list(&paths));
        draft.edit(Change::Volume(paths))?;
        Ok(Work::Config { comment })
    }
}

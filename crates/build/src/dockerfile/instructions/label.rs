//! `LABEL name=value...`: adds labels.

use super::{Form, Instruction, Parsed, Raw, Syntax, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work, pairs_comment},
};
use base::Result;
use image::edit::Change;

pub(super) static LABEL: Syntax =
    Syntax { name: "LABEL", heredocs: false, form: Form::Pairs, parse };

/// Labels of an instruction, or of `--label`, which are not expanded.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) literal: bool,
}

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    raw.flags.end()?;
    Ok(step(Label {
        labels: words::named(words::pairs(raw.rest, "LABEL", raw.escape)?, "LABEL")?,
        literal: false,
    }))
}

impl Instruction for Label {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let labels = if self.literal { self.labels.clone() } else { draft.pairs(&self.labels)? };
        let comment = pairs_comment("LABEL", &labels);
        draft.edit(Change::Label(labels))?;
        Ok(Work::Config { comment })
    }
}

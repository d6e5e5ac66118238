//! `ADD [--chown=] [--chmod=] [--checksum=] <src>... <dest>`: copies files, fetches URLs and unpacks local
//! archives.

use super::{Form, Instruction, Parsed, Raw, Syntax, copy::Operands, step};
use crate::draft::{Copy, Draft, Source, Work};
use base::Result;

pub(super) static ADD: Syntax = Syntax { name: "ADD", heredocs: true, form: Form::Json, parse };

#[derive(Debug)]
struct Add {
    operands: Operands,
    checksum: Option<String>,
}

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let checksum = raw.flags.text("checksum")?;
    raw.flags.on("keep-git-dir")?;
    Ok(step(Add { operands: Operands::read("ADD", raw)?, checksum }))
}

impl Instruction for Add {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let mut copy =
            Copy { checksum: self.checksum.clone(), ..self.operands.expand("ADD", draft)? };
        for source in &mut copy.sources {
            match source {
                Source::Path(path) if is_url(path) => *source = Source::Url(std::mem::take(path)),
                Source::Path(_) | Source::Url(_) | Source::Inline { .. } => {}
            }
        }
        Ok(Work::Copy(copy))
    }
}

/// Whether a source is fetched rather than copied.
pub(super) fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

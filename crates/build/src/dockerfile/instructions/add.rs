//! `ADD [--chown=] [--chmod=] [--checksum=] <src>... <dest>`: copies files, fetches URLs and unpacks local
//! archives.

use super::{Dialect, Form, Instruction, Parsed, Raw, Syntax, copy::Operands, step};
use crate::draft::{Copy, Draft, Source, Work};
use base::Result;

pub(super) static ADD: Syntax = Syntax { name: "ADD", heredocs: true, form: Form::Json, parse };

#[derive(Debug)]
struct Add {
    operands: Operands,
    checksum: Option<String>,
    keep_git_dir: bool,
    unpack: Option<bool>,
}

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let checksum = raw.flags.text("checksum")?;
    let keep_git_dir = raw.flags.on("keep-git-dir")?;
    let unpack = match raw.dialect {
        Dialect::BuildKit if raw.flags.has("unpack") => Some(raw.flags.on("unpack")?),
        _ => None,
    };
    Ok(step(Add { operands: Operands::read("ADD", raw)?, checksum, keep_git_dir, unpack }))
}

impl Instruction for Add {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let checksum = self.checksum.as_deref().map(|c| draft.word(c)).transpose()?;
        let mut copy = Copy {
            checksum,
            keep_git_dir: self.keep_git_dir,
            unpack: self.unpack,
            ..self.operands.expand("ADD", draft)?
        };
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

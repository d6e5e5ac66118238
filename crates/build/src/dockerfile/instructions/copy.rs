//! `COPY [--from=] [--chown=] [--chmod=] [--link] <src>... <dest>`: copies files of the context, of another
//! stage or of an image.

use super::{Dialect, Form, Instruction, Parsed, Raw, Syntax, add::is_url, step};
use crate::{
    dockerfile::{Heredoc, heredoc, words},
    draft::{Copy, Draft, Source, Work},
};
use base::{Error, Result};

pub(super) static COPY: Syntax = Syntax { name: "COPY", heredocs: true, form: Form::Json, parse };

#[derive(Debug)]
struct CopyFiles {
    operands: Operands,
    from: Option<String>,
    dialect: Dialect,
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug)]
pub(super) struct Operands {
    sources: Vec<Operand>,
    dest: String,
    chown: Option<String>,
    chmod: Option<String>,
    link: bool,
    parents: bool,
    exclude: Vec<String>,
}

#[derive(Debug)]
enum Operand {
    Path(String),
    Inline(Heredoc),
}

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let from = raw.flags.text("from")?.filter(|f| !f.is_empty());
    let dialect = raw.dialect;
    Ok(step(CopyFiles { operands: Operands::read("COPY", raw)?, from, dialect }))
}

impl Operands {
    pub(super) fn read(name: &str, mut raw: Raw<'_>) -> Result<Self> {
        let chown = raw.flags.text("chown")?.filter(|c| !c.is_empty());
        let chmod = raw.flags.text("chmod")?.filter(|c| !c.is_empty());
        // Copying straight into the layer is what the classic builder always does.
        let link = raw.flags.on("link")?;
        let (mut parents, mut exclude) = (false, Vec::new());
        if raw.dialect == Dialect::BuildKit {
            exclude = raw.flags.all("exclude")?;
            if name == "COPY" {
                parents = raw.flags.on("parents")?;
            }
        }
        raw.flags.end()?;
        let mut all = words::json_or_plain(raw.rest)?;
        if all.len() < 2 {
            return Err(Error::invalid(match all.len() {
                0 => format!(
                    "{name} requires at least two arguments, but none were provided. Destination could not be determined."
                ),
                _ => format!(
                    "{name} requires at least two arguments, but only one was provided. Destination could not be determined."
                ),
            }));
        }
        let dest = all.pop().unwrap_or_default();
        if heredoc::opening(&dest).is_some() {
            return Err(Error::invalid(format!("{name} cannot accept a heredoc as a destination")));
        }
        let sources = all.into_iter().map(|word| {
            let opened = heredoc::opening(&word);
            let body = opened.and_then(|o| raw.heredocs.iter().find(|h| h.name == o.name));
            body.map_or_else(|| Operand::Path(word), |h| Operand::Inline(h.clone()))
        });
        Ok(Self { sources: sources.collect(), dest, chown, chmod, link, parents, exclude })
    }

    pub(super) fn expand(&self, name: &'static str, draft: &Draft) -> Result<Copy> {
        let flag = |flag: &Option<String>| flag.as_deref().map(|f| draft.word(f)).transpose();
        let sources = self.sources.iter().map(|source| match source {
            Operand::Path(path) => draft.word(path).map(Source::Path),
            Operand::Inline(heredoc) => {
                Ok(Source::Inline { name: heredoc.name.clone(), content: draft.content(heredoc)? })
            }
        });
        Ok(Copy {
            name,
            sources: sources.collect::<Result<_>>()?,
            dest: draft.word(&self.dest)?,
            chown: flag(&self.chown)?.filter(|c| !c.is_empty()),
            chmod: flag(&self.chmod)?.filter(|c| !c.is_empty()),
            link: self.link,
            parents: self.parents,
            exclude: draft.each(&self.exclude)?,
            ..Copy::default()
        })
    }
}

impl Instruction for CopyFiles {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let from = match (&self.from, self.dialect) {
            (Some(from), Dialect::BuildKit) => Some(draft.word(from)?),
            (from, _) => from.clone(),
        };
        let copy = Copy { from, ..self.operands.expand("COPY", draft)? };
        if copy.sources.iter().any(|s| matches!(s, Source::Path(path) if is_url(path))) {
            return Err(Error::invalid("COPY failed: source can't be a URL for COPY"));
        }
        Ok(Work::Copy(copy))
    }

    fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }
}

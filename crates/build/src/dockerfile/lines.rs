//! Physical lines to logical ones: byte order mark, parser directives, comments, continuation and the
//! bodies of here-documents.

use super::{Heredoc, Lines, heredoc, in_line, takes_heredocs};
use crate::limits;
use base::{Error, Result};

/// A file cut into logical lines.
#[derive(Debug)]
pub(super) struct File {
    pub escape: char,
    pub lines: Vec<Logical>,
    pub warnings: Vec<String>,
    /// Lines that are empty where a line goes on.
    pub empty: Vec<usize>,
    pub directives: Vec<(String, String)>,
}

/// One instruction's text, continued lines joined, and the here-documents after it.
#[derive(Debug)]
pub(super) struct Logical {
    pub text: String,
    pub lines: Lines,
    pub heredocs: Vec<Heredoc>,
}

/// Reads the whole file.
pub(super) fn read(text: &str) -> Result<File> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    if let Some(long) = physical.iter().position(|l| l.len() > limits::LINE_BYTES) {
        let why =
            format!("dockerfile line greater than max allowed size of {}", limits::LINE_BYTES);
        return Err(in_line(long + 1, Error::invalid(why)));
    }
    let (escape, directives) = directives(&physical)?;
    let mut reader = Reader { physical: &physical, at: 0, escape };
    let mut file =
        File { escape, lines: Vec::new(), warnings: Vec::new(), empty: Vec::new(), directives };
    while reader.at < physical.len() {
        if let Some(line) = reader.logical(&mut file.warnings, &mut file.empty)? {
            file.lines.push(line);
        }
        if file.lines.len() > limits::INSTRUCTIONS {
            return Err(Error::invalid("the Dockerfile has too many instructions"));
        }
    }
    if !file.warnings.is_empty() {
        file.warnings.push(
            "[WARNING]: Empty continuation lines will become errors in a future release.".into(),
        );
    }
    if file.lines.is_empty() {
        return Err(Error::invalid("file with no instructions"));
    }
    Ok(file)
}

/// Reads the parser directives at the top; they end at the first line that is none.
fn directives(physical: &[&str]) -> Result<(char, Vec<(String, String)>)> {
    let mut escape = '\\';
    let mut seen: Vec<(String, String)> = Vec::new();
    for (index, line) in physical.iter().enumerate() {
        let Some((key, value)) = directive(line) else { break };
        if !matches!(key.as_str(), "escape" | "syntax" | "check") {
            break;
        }
        let fail = |why: String| Err(in_line(index + 1, Error::invalid(why)));
        if seen.iter().any(|(k, _)| *k == key) {
            return fail(format!("only one {key} parser directive can be used"));
        }
        if key == "escape" {
            escape = match value {
                "\\" => '\\',
                "`" => '`',
                other => {
                    return fail(format!("invalid escape token '{other}' does not match ` or \\"));
                }
            };
        }
        seen.push((key, value.to_owned()));
    }
    Ok((escape, seen))
}

/// `# key = value`, the key in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

struct Reader<'t> {
    physical: &'t [&'t str],
    at: usize,
    escape: char,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let line = self.physical.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    fn logical(
        &mut self,
        warnings: &mut Vec<String>,
        empties: &mut Vec<usize>,
    ) -> Result<Option<Logical>> {
        let start = self.at + 1;
        let Some(first) = self.next() else { return Ok(None) };
        if is_comment(first) {
            return Ok(None);
        }
        let first = chomp(first).trim_start();
        let (piece, mut goes_on) = self.continued(first);
        if !goes_on && piece.is_empty() {
            return Ok(None);
        }
        let mut text = piece.to_owned();
        let mut empty = false;
        while goes_on {
            let Some(line) = self.next() else { break };
            if is_comment(line) {
                continue;
            }
            if line.trim().is_empty() {
                empty = true;
                empties.push(self.at);
                continue;
            }
            let (piece, more) = self.continued(chomp(line));
            text.push_str(piece);
            goes_on = more;
        }
        if empty {
            warnings.push(format!("[WARNING]: Empty continuation line found in:\n    {text}"));
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        let mut heredocs = Vec::new();
        if text.contains("<<") && takes_heredocs(&text, self.escape) {
            heredocs = heredoc::openings(&text).map_err(|e| in_line(start, e))?;
            for opening in &mut heredocs {
                self.body(opening).map_err(|e| in_line(start, e))?;
            }
        }
        Ok(Some(Logical { text, lines: start..=self.at, heredocs }))
    }

    /// The line without its continuation mark, and whether there was one.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(piece) => (piece, true),
            None => (line, false),
        }
    }

    fn body(&mut self, heredoc: &mut Heredoc) -> Result<()> {
        while let Some(line) = self.next() {
            let end = chomp(line);
            let end = if heredoc.chomp { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
        Err(Error::invalid("unterminated heredoc"))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn chomp(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

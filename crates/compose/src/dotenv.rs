//! Files of variables: `.env`, `env_file`, `label_file`.
//!
//! Lines are `NAME=value`, `NAME: value`, `export NAME=value`, or `NAME` alone, which takes its value from outside.
//! Values in single quotes are as they are, in double quotes they have escapes and variables, without quotes they
//! have variables and end at ` #`. Quoted values may have several lines.
//! Source: the Compose specification; observed on docker compose 2.40.3.

use crate::{
    error::{At, Error, Result},
    template::{self, Lookup},
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// The longest file of variables.
const MOST_BYTES: u64 = 4 << 20;

/// Reads a file's text.
pub(crate) fn read(path: &Path, what: &str) -> Result<String> {
    let fail = |err: std::io::Error| {
        let why = base::Error::io(format!("cannot read {what} {}", path.display()), err).chain();
        Error::new(why)
    };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(Error::new(format!("{what} {} is longer than {most} MiB", path.display())));
    }
    std::fs::read_to_string(path).map_err(fail)
}

/// Adds what `text` says to `known`. `outside` is asked before what was read already.
pub(crate) fn parse(
    file: &Path,
    text: &str,
    outside: Lookup<'_>,
    known: &mut Variables,
    unset: &mut dyn FnMut(&str),
) -> Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = Arc::from(file.to_string_lossy().as_ref());
    let mut reader = Reader { file, whole: text, rest: text };
    while let Some(line) = reader.statement(outside, known, unset)? {
        if let (name, Some(value)) = line {
            known.insert(name, value);
        }
    }
    Ok(())
}

/// As `docker run --env-file` reads it: nothing is quoted or completed.
pub(crate) fn parse_raw(text: &str, outside: Lookup<'_>, known: &mut Variables) {
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) => {
                known.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = outside(line.trim_end()) {
                    known.insert(line.trim_end().to_owned(), value);
                }
            }
        }
    }
}

struct Reader<'a> {
    file: Arc<str>,
    whole: &'a str,
    rest: &'a str,
}

type Statement = (String, Option<String>);

impl<'a> Reader<'a> {
    fn wrong(&self, text: impl Into<String>) -> Error {
        let read = &self.whole[..self.whole.len() - self.rest.len()];
        let line = read.bytes().filter(|b| *b == b'\n').count() + 1;
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        Error::at(&At { file: self.file.clone(), line, column: 1 }, text)
    }

    fn statement(
        &mut self,
        outside: Lookup<'_>,
        known: &Variables,
        unset: &mut dyn FnMut(&str),
    ) -> Result<Option<Statement>> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                break;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, behind)| behind);
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = match self.rest.strip_prefix("export") {
            Some(behind) if behind.starts_with(char::is_whitespace) => behind.trim_start(),
            _ => self.rest,
        };
        let end = start.find(['=', ':', '\n']).unwrap_or(start.len());
        let name = start[..end].trim_end();
        let fits = |c: char| c.is_alphanumeric() || "_.-[]".contains(c);
        if let Some(bad) = name.chars().find(|c| !fits(*c) && !c.is_whitespace()) {
            let line = start.lines().next().unwrap_or_default();
            return Err(
                self.wrong(format!("unexpected character {bad:?} in variable name {line:?}"))
            );
        }
        if name.contains(char::is_whitespace) {
            return Err(self.wrong("key cannot contain a space"));
        }
        let separator = start[end..].chars().next();
        if !matches!(separator, Some('=' | ':')) {
            self.rest = &start[end..];
            return Ok(Some((name.to_owned(), outside(name))));
        }
        let behind = start[end + 1..].trim_start_matches([' ', '\t', '\x0b', '\x0c', '\r']);
        self.rest = behind;
        let value = match behind.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote, outside, known, unset)?,
            _ => {
                let (line, rest) = behind.split_once('\n').unwrap_or((behind, ""));
                let value = line.split(" #").next().unwrap_or_default().trim_end();
                let value = self.expand(value, outside, known, unset)?;
                self.rest = rest;
                value
            }
        };
        Ok(Some((name.to_owned(), Some(value))))
    }

    fn quoted(
        &mut self,
        quote: char,
        outside: Lookup<'_>,
        known: &Variables,
        unset: &mut dyn FnMut(&str),
    ) -> Result<String> {
        let mut raw = String::new();
        let mut escaped = false;
        for (at, letter) in self.rest.char_indices().skip(1) {
            if escaped {
                escaped = false;
                if letter != quote {
                    raw.push('\\');
                }
                raw.push(letter);
            } else if letter == '\\' {
                escaped = true;
            } else if letter == quote {
                let value = if quote == '"' {
                    self.expand(&unescape(&raw), outside, known, unset)?
                } else {
                    raw
                };
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            } else {
                raw.push(letter);
            }
        }
        let line = self.rest.lines().next().unwrap_or_default();
        Err(self.wrong(format!("unterminated quoted value {line}")))
    }

    fn expand(
        &self,
        value: &str,
        outside: Lookup<'_>,
        known: &Variables,
        unset: &mut dyn FnMut(&str),
    ) -> Result<String> {
        let lookup = |name: &str| outside(name).or_else(|| known.get(name).cloned());
        template::substitute(value, &lookup, unset).map_err(|e| self.wrong(e.to_string()))
    }
}

/// Escapes of the shell in double quotes; `\$` becomes `$$`, which is a `$` that begins no variable.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let Some(letter) = behind.chars().next() else {
            rest = &rest[at..];
            break;
        };
        let known = match letter {
            'a' => "\x07",
            'b' => "\x08",
            'f' => "\x0c",
            'n' => "\n",
            'r' => "\r",
            't' => "\t",
            'v' => "\x0b",
            '\\' => "\\",
            '"' => "\"",
            '$' => "$$",
            '0' => {
                let digits = behind[1..].bytes().take(3).take_while(u8::is_ascii_digit).count();
                let code = u32::from_str_radix(&behind[1..=digits], 8).ok().filter(|_| digits == 3);
                match code.and_then(char::from_u32).filter(|c| u32::from(*c) < 256) {
                    Some(letter) => out.push(letter),
                    None => out.push_str(&rest[at..at + 2 + digits]),
                }
                rest = &behind[1 + digits..];
                continue;
            }
            _ => {
                out.push('\\');
                rest = behind;
                continue;
            }
        };
        out.push_str(known);
        rest = &behind[1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>> {
        let outside = |name: &str| (name == "OUT").then(|| "side".to_owned());
        let mut known = Variables::new();
        parse(Path::new(".env"), text, &outside, &mut known, &mut |_| {})?;
        Ok(known.into_iter().map(|(k, v)| format!("{k}={v}")).collect())
    }

    #[test]
    fn all_kinds_of_lines_are_read() {
        for (text, want) in [
            ("A=1\n# no\n  export B = two words # note\nC: yaml\n", "A=1|B=two words|C=yaml"),
            ("A='a $OUT # x'\nB=\"a $OUT # x\"", "A=a $OUT # x|B=a side # x"),
            ("A=1\nB=${A}${OUT}", "A=1|B=1side"),
            ("A=\"l1\nl2\"\nB=\"\\t\\\"q\\\" \\$A\\0101\"", "A=l1\nl2|B=\t\"q\" $AA"),
            ("OUT\nNOT\nA=", "A=|OUT=side"),
            ("A=a#b", "A=a#b"),
            ("\u{feff}A=1\r\nB=2\r\n", "A=1|B=2"),
        ] {
            assert_eq!(read(text).unwrap().join("|"), want, "{text}");
        }
    }

    #[test]
    fn wrong_lines_are_told_with_their_number() {
        assert_eq!(
            read("A=1\nB=\"x").unwrap_err().to_string(),
            ".env:2:1: unterminated quoted value \"x"
        );
        assert!(read("A B=1").unwrap_err().to_string().contains("cannot contain a space"));
        assert!(
            read("A\nB/C=1").unwrap_err().to_string().starts_with(".env:2:1: unexpected character")
        );
        assert!(read("A=${X:?needed}").unwrap_err().to_string().contains("needed"));
    }

    #[test]
    fn raw_files_are_taken_as_they_are() {
        let mut known = Variables::new();
        parse_raw("A='q' $B\n#x\nOUT\n", &|_| Some("1".into()), &mut known);
        assert_eq!(known["A"], "'q' $B");
        assert_eq!(known["OUT"], "1");
    }
}

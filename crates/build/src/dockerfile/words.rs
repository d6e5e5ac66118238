//! Cutting a line: instruction, flags, rest; quoted words; `name=value` pairs; JSON lists.

use crate::go;
use base::{Error, Result};

/// Instruction word, flags, and what is left.
pub(crate) fn split(line: &str, escape: char) -> (&str, Vec<String>, &str) {
    let line = line.trim();
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    let (flags, rest) = flags(line[end..].trim(), escape);
    (&line[..end], flags, rest)
}

/// Leading words that start with `--`, up to `--` itself.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (flag, after) = flag(rest, escape);
        rest = after;
        if flag == "--" {
            return (flags, rest.trim_start());
        }
        flags.push(flag);
    }
}

/// One flag, quotes and escapes resolved, and what follows.
fn flag(text: &str, escape: char) -> (String, &str) {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (out, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            Some('\'') => out.push(c),
            _ if c == escape => out.extend(chars.next().map(|(_, c)| c)),
            _ => out.push(c),
        }
    }
    (out, "")
}

/// Words with their quotes and escapes still on them.
pub(crate) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if c == escape && quote != Some('\'') {
            // An escape at the very end escapes nothing and is dropped.
            if let Some(escaped) = chars.next() {
                word.push(c);
                word.push(escaped);
            }
            continue;
        }
        match quote {
            Some(q) if q == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words between blanks, nothing else.
pub(crate) fn plain(text: &str) -> Vec<String> {
    text.split([' ', '\t', '\r', '\x0b', '\x0c'])
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `name=value ...`, or the old `name value` whose value is the rest of the line.
pub(crate) fn pairs(text: &str, instruction: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = quoted(text, escape);
    let Some(first) = words.first() else {
        return Err(Error::invalid(format!("{instruction} requires at least one argument")));
    };
    let pairs = if first.contains('=') {
        words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(Error::invalid(format!(
                    "Syntax error - can't find = in {}. Must be of the form: name=value",
                    go::quote(word)
                ))),
            })
            .collect::<Result<Vec<_>>>()?
    } else {
        let old = text.trim_start().split_once([' ', '\t', '\r', '\x0b', '\x0c']);
        let (name, value) =
            old.ok_or_else(|| Error::invalid(format!("{instruction} must have two arguments")))?;
        vec![(name.to_owned(), value.trim_start().to_owned())]
    };
    Ok(pairs)
}

/// Refuses a blank name.
pub(crate) fn named(
    pairs: Vec<(String, String)>,
    instruction: &str,
) -> Result<Vec<(String, String)>> {
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(Error::invalid(format!("{instruction} names can not be blank")));
    }
    Ok(pairs)
}

/// The strings of a JSON list; `None` when the text is no JSON list at all.
pub(crate) fn json(text: &str) -> Option<Result<Vec<String>>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Error::invalid(
            "when using JSON array syntax, arrays must be comprised of strings only",
        )),
    });
    Some(strings.collect())
}

/// A JSON list, else words between blanks.
pub(crate) fn json_or_plain(text: &str) -> Result<Vec<String>> {
    json(text).unwrap_or_else(|| Ok(plain(text)))
}

//! Which front end a file asks for, before anything of it is parsed: it may be in a language of its own.
//!
//! Source: BuildKit `frontend/dockerfile/parser/directives.go`.

/// Bytes of the file that are looked at.
const LOOKED_AT: usize = 64 << 10;

/// The front end that a file names, with what stands behind it: `# syntax=NAME ...`, the same after `//`, or
/// `{"syntax": "NAME"}`.
pub(super) fn named(file: &[u8]) -> Option<String> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let file = &file[..file.len().min(LOOKED_AT)];
    let text = String::from_utf8_lossy(file);
    let body = match text.strip_prefix("#!") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, body)| body),
        None => &text,
    };
    directive(body, "#").or_else(|| directive(body, "//")).or_else(|| json(body))
}

/// Directives stand at the top, one a line.
fn directive(text: &str, mark: &str) -> Option<String> {
    for line in text.lines() {
        let (key, value) = line.trim_start().strip_prefix(mark)?.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return None;
        }
        if key.eq_ignore_ascii_case("syntax") {
            return Some(value.trim().to_owned()).filter(|v| !v.is_empty());
        }
    }
    None
}

fn json(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value["syntax"].as_str().map(str::to_owned).filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_end_is_named_in_any_language() {
        for (file, want) in [
            ("# syntax=docker/dockerfile:1\nFROM x", Some("docker/dockerfile:1")),
            ("#syntax = a/b:c more words\nkey: value\n", Some("a/b:c more words")),
            ("\u{feff}# check=skip=all\n# syntax=x\n", Some("x")),
            ("#!/usr/bin/env x\n# syntax=x\n", Some("x")),
            ("// syntax=x\n", Some("x")),
            ("{\"syntax\": \"x\", \"a\": 1}", Some("x")),
            ("# a comment\n# syntax=x\n", None),
            ("\n# syntax=x\n", None),
            ("FROM x\n# syntax=y\n", None),
            ("# syntax=\nFROM x", None),
            ("", None),
        ] {
            assert_eq!(named(file.as_bytes()).as_deref(), want, "{file:?}");
        }
        assert_eq!(named(b"\xff\xfe\x00"), None);
    }
}

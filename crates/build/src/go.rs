//! What Go's standard library writes and matches where Docker shows it: `strconv.Quote`, `%v` of lists,
//! `path.Clean` and `filepath.Match`.

use base::{Error, Result};
use std::fmt::Write as _;

/// `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `%q` of a list of strings.
pub fn quote_list<S: AsRef<str>>(list: &[S]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| quote(s.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a list of strings.
pub fn list<S: AsRef<str>>(list: &[S]) -> String {
    let plain: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
    format!("[{}]", plain.join(" "))
}

/// `%q` of an integer: a quoted character.
pub fn quote_char(code: i64) -> String {
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some('\'') => "'\\''".into(),
        Some('"') => "'\"'".into(),
        Some(c) => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
        None => "'\u{fffd}'".into(),
    }
}

/// `path.Clean` of an absolute path; a relative one is taken as one below `/`.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `name` matches `pattern` (`filepath.Match`): `*`, `?` and `[...]` never match a slash.
///
/// # Errors
/// `Invalid`, `syntax error in pattern`, for a malformed pattern.
pub fn path_match(pattern: &str, name: &str) -> Result<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let units = compile(&pattern)?;
    Ok(matches(&units, &name))
}

enum Unit {
    Char(char),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn bad() -> Error {
    Error::invalid("syntax error in pattern")
}

fn compile(pattern: &[char]) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    let mut at = 0;
    while let Some(&c) = pattern.get(at) {
        at += 1;
        units.push(match c {
            '*' => Unit::Star,
            '?' => Unit::Any,
            '\\' => {
                at += 1;
                Unit::Char(*pattern.get(at - 1).ok_or_else(bad)?)
            }
            '[' => class(pattern, &mut at)?,
            c => Unit::Char(c),
        });
    }
    Ok(units)
}

fn class(pattern: &[char], at: &mut usize) -> Result<Unit> {
    let negated = pattern.get(*at) == Some(&'^');
    if negated {
        *at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        if pattern.get(*at) == Some(&']') && !ranges.is_empty() {
            *at += 1;
            return Ok(Unit::Class { negated, ranges });
        }
        let low = class_char(pattern, at)?;
        let high = if pattern.get(*at) == Some(&'-') {
            *at += 1;
            class_char(pattern, at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Result<char> {
    let mut c = *pattern.get(*at).ok_or_else(bad)?;
    if c == '-' || c == ']' {
        return Err(bad());
    }
    *at += 1;
    if c == '\\' {
        c = *pattern.get(*at).ok_or_else(bad)?;
        *at += 1;
    }
    Ok(c)
}

/// Matching with one point of return per star: linear in practice, quadratic at worst.
fn matches(units: &[Unit], name: &[char]) -> bool {
    let (mut u, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        let advanced = match (units.get(u), name.get(n)) {
            (None, None) => return true,
            (Some(Unit::Star), _) => {
                back = Some((u + 1, n));
                u += 1;
                continue;
            }
            (Some(Unit::Char(want)), Some(c)) => want == c,
            (Some(Unit::Any), Some(c)) => *c != '/',
            (Some(Unit::Class { negated, ranges }), Some(c)) => {
                *c != '/' && ranges.iter().any(|(low, high)| low <= c && c <= high) != *negated
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if advanced {
            (u, n) = (u + 1, n + 1);
            continue;
        }
        match back {
            Some((unit, from)) if name.get(from).is_some_and(|c| *c != '/') => {
                back = Some((unit, from + 1));
                (u, n) = (unit, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_straight() {
        for (path, want) in [("", "/"), ("a/../b", "/b"), ("/../x/./y/", "/x/y"), ("..", "/")] {
            assert_eq!(clean(path), want);
        }
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{a0}"), "\"a\\\"b\\\\\\n\\x01é\\u00a0\"");
        assert_eq!(quote_list(&["/bin/sh", "-c", "x y"]), "[\"/bin/sh\" \"-c\" \"x y\"]");
        assert_eq!(quote_char(0), "'\\x00'");
        assert_eq!(quote_char(3), "'\\x03'");
    }

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(path_match(pattern, name).unwrap(), want, "{pattern} {name}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[a", "[", "\\", "[^", "[a-"] {
            assert!(path_match(bad, "a").is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn matching_is_total(pattern in "[a-c*?\\[\\]^\\\\/-]{0,20}", name in "[a-c/]{0,20}") {
            let _ = path_match(&pattern, &name);
        }
    }
}

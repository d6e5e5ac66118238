//! `.dockerignore`: patterns that keep files out of a context, the last one that matches winning, `!`
//! bringing files back.
//!
//! A pattern matches a path or any folder above it; `*`, `?` and `[...]` stay within a component, `**`
//! spans any number of them. Source: Dockerfile reference, ".dockerignore file".

use crate::go;
use base::{Error, Result};
use regex::Regex;

/// The patterns of one file.
#[derive(Debug, Default)]
pub struct Ignore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    keeps: bool,
}

impl Ignore {
    /// Reads the lines of a `.dockerignore`.
    ///
    /// # Errors
    /// `Invalid` for a pattern that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        lines.filter(|line| !line.is_empty()).map(Pattern::parse).collect::<Result<_>>().map(Self)
    }

    /// Whether `path` (relative, with slashes) is kept out.
    pub fn excludes(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut excluded = false;
        for pattern in &self.0 {
            // A pattern can only change what the ones before said.
            if pattern.keeps == excluded && pattern.matches(path, &parts) {
                excluded = !pattern.keeps;
            }
        }
        excluded
    }

    /// Whether something below an excluded folder may be brought back, so that it must be walked.
    pub fn has_exceptions(&self) -> bool {
        self.0.iter().any(|p| p.keeps)
    }
}

impl Pattern {
    fn parse(line: &str) -> Result<Self> {
        let (keeps, text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        let text = clean(text);
        if text.is_empty() || (keeps && line.trim() == "!") {
            return Err(Error::invalid(format!("illegal exclusion pattern: {}", go::quote(line))));
        }
        Ok(Self { regex: compile(&text)?, keeps })
    }

    fn matches(&self, path: &str, parts: &[&str]) -> bool {
        if self.regex.is_match(path) {
            return true;
        }
        (1..parts.len()).any(|depth| self.regex.is_match(&parts[..depth].join("/")))
    }
}

/// Go's `filepath.Clean`, without a leading slash.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_none_or(|p| *p == "..") {
                    parts.push("..");
                } else {
                    parts.pop();
                }
            }
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true if path.is_empty() => String::new(),
        true => ".".into(),
        false => parts.join("/"),
    }
}

fn compile(pattern: &str) -> Result<Regex> {
    let bad = || Error::invalid(format!("syntax error in pattern: {}", go::quote(pattern)));
    let mut regex = String::from("^");
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '*' if !class && chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                    regex.push_str("(.*/)?");
                } else {
                    regex.push_str(".*");
                }
            }
            '*' if !class => regex.push_str("[^/]*"),
            '?' if !class => regex.push_str("[^/]"),
            '\\' => {
                let escaped = chars.next().ok_or_else(bad)?;
                regex.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            }
            '[' if !class => {
                class = true;
                regex.push('[');
            }
            ']' if class => {
                class = false;
                regex.push(']');
            }
            '^' | '-' if class => regex.push(c),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    Regex::new(&regex).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, excluded: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(text).unwrap();
        for path in excluded {
            assert!(ignore.excludes(path), "{path} should be excluded by {text:?}");
        }
        for path in kept {
            assert!(!ignore.excludes(path), "{path} should be kept by {text:?}");
        }
    }

    #[test]
    fn patterns_exclude_files_and_what_is_below() {
        check(
            "node_modules\n*.log\n",
            &["node_modules", "node_modules/a/b", "x.log"],
            &["a/x.log", "src"],
        );
        check("/abs/\n./dot\na/../b\n", &["abs", "abs/x", "dot", "b"], &["a", "x/abs"]);
        check(
            "*/temp*\n*/*/temp*\n",
            &["a/temporary.txt", "a/b/temp", "a/temp/x"],
            &["temp", "a/b/c/temp"],
        );
        check("temp?\n", &["tempa", "tempb/x"], &["temp", "tempab"]);
        check("**/*.go\n", &["a.go", "x/y/a.go"], &["a.rs"]);
        check("a/**\n", &["a/b", "a/b/c"], &["b"]);
        check("a/**/z\n", &["a/z", "a/b/c/z"], &["a/zz"]);
        check("[a-c]x\n\\[y\n", &["ax", "[y"], &["dx"]);
        check("a.b\n", &["a.b"], &["aXb"]);
        check("# comment\n\n  \n#x\n", &[], &["x", "#x"]);
        check("*\n", &["a", "a/b"], &[]);
    }

    #[test]
    fn the_last_match_wins() {
        check("*.md\n!README.md\n", &["x.md"], &["README.md"]);
        check("*.md\n!README*.md\nREADME-secret.md\n", &["README-secret.md"], &["README-x.md"]);
        check("*\n!src\n! src/../doc \n", &["a", "target/src"], &["src", "src/a/b", "doc/x"]);
        check("!a\na\n", &["a"], &[]);
        assert!(Ignore::parse("a\n!b\n").unwrap().has_exceptions());
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for bad in ["!", "[a", "a\\", "[]"] {
            assert!(Ignore::parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn matching_is_total(text in "[!*?a-c/.\\[\\]^\\\\\n#-]{0,30}", path in "[a-c/.]{1,20}") {
            if let Ok(ignore) = Ignore::parse(&text) {
                ignore.excludes(&path);
            }
        }
    }
}

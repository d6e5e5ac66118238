//! Variable expansion and unquoting in Dockerfile words.
//!
//! `$NAME`, `${NAME}`, `${NAME:-x}`, `${NAME-x}`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/a/b` and
//! `//a/b`; single quotes keep everything, double quotes expand, the escape character keeps the next one.
//! Source: Dockerfile reference, "Environment replacement"; texts of errors as docker's.

use base::{Error, Result};
use regex::Regex;

/// Where values come from.
pub trait Variables {
    /// The value of `name`, if it is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for [(String, String)] {
    /// The last of several wins.
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Variables for () {
    fn value(&self, _: &str) -> Option<&str> {
        None
    }
}

/// How quotes and escapes are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Quotes and escapes are resolved: instruction words.
    Resolve,
    /// Quotes and escapes stay in the result, and unset variables too: looking for here-documents.
    Keep,
    /// Quotes are plain characters: contents of here-documents.
    Plain,
}

/// Expands one word: blanks in values stay inside it.
///
/// # Errors
/// `Invalid` for unbalanced quotes or braces, unknown modifiers and unset `?` variables.
pub fn word(text: &str, escape: char, vars: &(impl Variables + ?Sized)) -> Result<String> {
    run(text, escape, vars, Quotes::Resolve).map(|(word, _)| word)
}

/// Expands and splits at blanks, except in quotes.
///
/// # Errors
/// As [`word`].
pub fn words(text: &str, escape: char, vars: &(impl Variables + ?Sized)) -> Result<Vec<String>> {
    run(text, escape, vars, Quotes::Resolve).map(|(_, words)| words)
}

/// Expands the content of a here-document.
///
/// # Errors
/// As [`word`].
pub fn content(text: &str, escape: char, vars: &(impl Variables + ?Sized)) -> Result<String> {
    run(text, escape, vars, Quotes::Plain).map(|(word, _)| word)
}

/// Splits at blanks, leaving quotes, escapes and variables as they are.
///
/// # Errors
/// As [`word`].
pub fn raw_words(text: &str, escape: char) -> Result<Vec<String>> {
    run(text, escape, &(), Quotes::Keep).map(|(_, words)| words)
}

fn run(
    text: &str,
    escape: char,
    vars: &(impl Variables + ?Sized),
    quotes: Quotes,
) -> Result<(String, Vec<String>)> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        escape,
        vars,
        quotes,
        raw: quotes == Quotes::Keep,
        depth: 0,
    };
    let out = lexer.until(None, lexer.raw).map_err(|cause| {
        Error::invalid(format!("failed to process {}", crate::go::quote(text))).caused_by(cause)
    })?;
    Ok((out.text, out.words.done()))
}

/// Nesting of `${a:-${b:-...}}` beyond which a word is refused.
const DEPTH: u32 = 64;

struct Lexer<'v, V: Variables + ?Sized> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    vars: &'v V,
    quotes: Quotes,
    /// Whether escapes stay in the result: always with `Quotes::Keep`, and inside patterns.
    raw: bool,
    depth: u32,
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    open: bool,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.push_raw(c);
        } else if self.open && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.open = false;
        }
    }

    fn push_raw(&mut self, c: char) {
        self.word.push(c);
        self.open = true;
    }

    fn done(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

#[derive(Default)]
struct Out {
    text: String,
    words: Words,
}

impl<V: Variables + ?Sized> Lexer<'_, V> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Processes up to `stop` (which is consumed) or the end.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Out> {
        let outer = std::mem::replace(&mut self.raw, raw);
        let out = self.until_stop(stop);
        self.raw = outer;
        out
    }

    fn until_stop(&mut self, stop: Option<char>) -> Result<Out> {
        let mut out = Out::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                return Ok(out);
            }
            let quoting = self.quotes != Quotes::Plain;
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| out.words.push(c));
                    out.text.push_str(&value);
                }
                '\'' | '"' if quoting => {
                    let value = if c == '"' { self.double()? } else { self.single()? };
                    out.words.word.push_str(&value);
                    out.words.open = true;
                    out.text.push_str(&value);
                }
                _ => self.plain(&mut out),
            }
        }
        match stop {
            Some(stop) => Err(Error::invalid(format!(
                "unexpected end of statement while looking for matching {stop}"
            ))),
            None => Ok(out),
        }
    }

    fn plain(&mut self, out: &mut Out) {
        let Some(c) = self.next() else { return };
        if c != self.escape {
            out.words.push(c);
            out.text.push(c);
            return;
        }
        if self.raw {
            out.words.push_raw(c);
            out.text.push(c);
        }
        if let Some(escaped) = self.next() {
            out.words.push_raw(escaped);
            out.text.push(escaped);
        }
    }

    fn single(&mut self) -> Result<String> {
        let mut value = String::new();
        self.next();
        let keep = self.quotes == Quotes::Keep;
        if keep {
            value.push('\'');
        }
        loop {
            match self.next() {
                None => {
                    return Err(Error::invalid(
                        "unexpected end of statement while looking for matching single-quote",
                    ));
                }
                Some('\'') => {
                    if keep {
                        value.push('\'');
                    }
                    return Ok(value);
                }
                Some(c) => value.push(c),
            }
        }
    }

    fn double(&mut self) -> Result<String> {
        let mut value = String::new();
        self.next();
        let keep = self.quotes == Quotes::Keep;
        if keep {
            value.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    return Err(Error::invalid(
                        "unexpected end of statement while looking for matching double-quote",
                    ));
                }
                Some('"') => {
                    self.next();
                    if keep {
                        value.push('"');
                    }
                    return Ok(value);
                }
                Some('$') => value.push_str(&self.dollar()?),
                Some(c) => {
                    self.next();
                    if c != self.escape {
                        value.push(c);
                        continue;
                    }
                    let escaped = self.peek().filter(|n| *n == '"' || *n == '$' || *n == c);
                    if self.raw || (escaped.is_none() && self.peek().is_some()) {
                        value.push(c);
                    }
                    if let Some(escaped) = escaped {
                        self.next();
                        value.push(escaped);
                    }
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String> {
        self.next();
        let unset_stays = self.quotes == Quotes::Keep;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.vars.value(&name) {
                Some(value) => value.to_owned(),
                None if unset_stays => format!("${name}"),
                None => String::new(),
            });
        }
        self.next();
        match self.peek() {
            None => return Err(Error::invalid("syntax error: missing '}'")),
            Some('{' | '}' | ':') => return Err(Error::invalid("syntax error: bad substitution")),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Error::invalid("syntax error: substitutions are nested too deeply"));
        }
        let value = self.braced(unset_stays);
        self.depth -= 1;
        value
    }

    fn braced(&mut self, unset_stays: bool) -> Result<String> {
        let name = self.name();
        let value = self.vars.value(&name).map(str::to_owned);
        let Some(mut op) = self.next() else {
            return Err(Error::invalid("syntax error: missing '}'"));
        };
        let mut shown = op.to_string();
        let mut empty_is_unset = false;
        match op {
            '}' => {
                return Ok(match value {
                    None if unset_stays => format!("${{{name}}}"),
                    value => value.unwrap_or_default(),
                });
            }
            '/' => return self.replace(&name, value, unset_stays),
            ':' => {
                empty_is_unset = true;
                op = self.next().ok_or_else(|| Error::invalid("syntax error: missing '}'"))?;
                shown.push(op);
            }
            _ => {}
        }
        if !matches!(op, '+' | '-' | '?' | '#' | '%') {
            return Err(Error::invalid(format!("unsupported modifier ({shown}) in substitution")));
        }
        let word =
            self.part('}', self.raw || matches!(op, '#' | '%'), "syntax error: missing '}'")?;
        if unset_stays && value.is_none() {
            return Ok(format!("${{{name}{shown}{word}}}"));
        }
        let missing = value.is_none() || (empty_is_unset && value.as_deref() == Some(""));
        match op {
            '-' => Ok(if missing { word } else { value.unwrap_or_default() }),
            '+' => Ok(if missing { String::new() } else { word }),
            '?' if missing => {
                let reason = match value {
                    None => "is not allowed to be unset",
                    Some(_) => "is not allowed to be empty",
                };
                let reason = if word.is_empty() { reason } else { &word };
                Err(Error::invalid(format!("{name}: {reason}")))
            }
            '?' => Ok(value.unwrap_or_default()),
            side => trim(&value.unwrap_or_default(), &word, side),
        }
    }

    fn replace(&mut self, name: &str, value: Option<String>, unset_stays: bool) -> Result<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let with = self.part('}', true, "syntax error: missing '}'")?;
        let Some(value) = value else {
            return Ok(if unset_stays {
                format!("${{{name}/{pattern}/{with}}}")
            } else {
                String::new()
            });
        };
        let regex = glob(&pattern, Greed::Longest, "")?;
        let with = regex::NoExpand(&with);
        Ok(if all { regex.replace_all(&value, with) } else { regex.replace(&value, with) }
            .into_owned())
    }

    fn part(&mut self, stop: char, raw: bool, missing: &str) -> Result<String> {
        match self.until(Some(stop), raw) {
            Ok(out) => Ok(out.text),
            Err(_) if self.peek().is_none() => Err(Error::invalid(missing)),
            Err(err) => Err(err),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if name.is_empty() && c.is_ascii_digit() {
                while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
                    name.push(digit);
                    self.at += 1;
                }
                break;
            }
            if name.is_empty() && matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                self.at += 1;
                return c.to_string();
            }
            if !c.is_alphanumeric() && c != '_' {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Greed {
    Shortest,
    Longest,
}

fn trim(value: &str, word: &str, side: char) -> Result<String> {
    let (word, greed) = match word.strip_prefix(side) {
        Some(rest) => (rest, Greed::Longest),
        None => (word, Greed::Shortest),
    };
    if side == '#' {
        let regex = glob(word, greed, "^")?;
        return Ok(regex.find(value).map_or(value, |m| &value[m.end()..]).to_owned());
    }
    // The shortest or longest suffix: the same search on reversed text.
    let reversed: String = value.chars().rev().collect();
    let regex = glob(&reverse_pattern(word), greed, "^")?;
    let kept = regex.find(&reversed).map_or(reversed.as_str(), |m| &reversed[m.end()..]);
    Ok(kept.chars().rev().collect())
}

/// Reverses a pattern, keeping each escape before what it escapes.
fn reverse_pattern(pattern: &str) -> String {
    let mut units: Vec<String> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let mut unit = c.to_string();
        if c == '\\' {
            unit.extend(chars.next());
        }
        units.push(unit);
    }
    units.into_iter().rev().collect()
}

/// A shell pattern (`*`, `?`) as a regular expression.
fn glob(pattern: &str, greed: Greed, anchor: &str) -> Result<Regex> {
    let bad =
        |why: String| Error::invalid(format!("invalid pattern ({pattern}) in substitution: {why}"));
    let mut text = anchor.to_owned();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => text.push_str(if greed == Greed::Longest { ".*" } else { ".*?" }),
            '?' => text.push('.'),
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(next @ ('*' | '?' | '\\')) => {
                    text.push('\\');
                    text.push(next);
                }
                Some(next) => return Err(bad(format!("invalid escape '\\{next}'"))),
                None => return Err(bad("invalid escape at the end".into())),
            },
            c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vec<(String, String)> {
        [("A", "1"), ("EMPTY", ""), ("PATH", "/usr/local/bin"), ("TWO", "x y"), ("V", "a.tar.gz")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .to_vec()
    }

    fn check(text: &str, want: &str) {
        let got = match word(text, '\\', &vars()[..]) {
            Ok(value) => value,
            Err(err) => format!("error: {}", err.chain()),
        };
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn words_expand_as_the_reference_says() {
        for (text, want) in [
            ("$A", "1"),
            ("${A}b", "1b"),
            ("$Ab", ""),
            ("\\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            ("\"\\$A \\x\\\"\"", "$A \\x\""),
            ("a\\ b", "a b"),
            ("$", "$"),
            ("$1x", "x"),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${A:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${NO:-${A}x}", "1x"),
            ("${NO:-\"q q\"}", "q q"),
            ("${A:?}", "1"),
            ("${NO:?no way}", "error: failed to process \"${NO:?no way}\": NO: no way"),
            ("${NO?}", "error: failed to process \"${NO?}\": NO: is not allowed to be unset"),
            (
                "${EMPTY:?}",
                "error: failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty",
            ),
            ("${PATH#*/}", "usr/local/bin"),
            ("${PATH##*/}", "bin"),
            ("${PATH%/*}", "/usr/local"),
            ("${PATH%%/*}", ""),
            ("${V%.gz}", "a.tar"),
            ("${V/./-}", "a-tar.gz"),
            ("${V//./-}", "a-tar-gz"),
            (
                "${V/\\./x}",
                "error: failed to process \"${V/\\\\./x}\": invalid pattern (\\.) in substitution: invalid escape '\\.'",
            ),
            ("${PATH//\\//:}", ":usr:local:bin"),
            ("${", "error: failed to process \"${\": syntax error: missing '}'"),
            ("${}", "error: failed to process \"${}\": syntax error: bad substitution"),
            (
                "${A:x}",
                "error: failed to process \"${A:x}\": unsupported modifier (:x) in substitution",
            ),
            (
                "${A!}",
                "error: failed to process \"${A!}\": unsupported modifier (!) in substitution",
            ),
            ("${A:-", "error: failed to process \"${A:-\": syntax error: missing '}'"),
            (
                "'x",
                "error: failed to process \"'x\": unexpected end of statement while looking for matching single-quote",
            ),
            (
                "\"x",
                "error: failed to process \"\\\"x\": unexpected end of statement while looking for matching double-quote",
            ),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn another_escape_character_frees_the_backslash() {
        assert_eq!(word("c:\\x`$A", '`', &vars()[..]).unwrap(), "c:\\x$A");
    }

    #[test]
    fn values_split_at_blanks_outside_quotes() {
        assert_eq!(words("$TWO \"$TWO\" z", '\\', &vars()[..]).unwrap(), ["x", "y", "x y", "z"]);
    }

    #[test]
    fn raw_words_keep_what_they_are_made_of() {
        assert_eq!(
            raw_words("cat <<'E F' \"$A\\\"\\\\\" ${X:-y} a\\ b", '\\').unwrap(),
            ["cat", "<<'E F'", "\"$A\\\"\\\\\"", "${X:-y}", "a\\ b"]
        );
    }

    #[test]
    fn contents_keep_quotes_and_drop_escapes() {
        assert_eq!(
            content("\"q\" 'a' $A \\$A \\\\\n", '\\', &vars()[..]).unwrap(),
            "\"q\" 'a' 1 $A \\\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn expansion_is_total(text in "[${}a-cA:#%/?+'\" \\\\*-]{0,40}") {
            let _ = word(&text, '\\', &vars()[..]);
            let _ = words(&text, '`', &vars()[..]);
            let _ = raw_words(&text, '\\');
            let _ = content(&text, '\\', &vars()[..]);
        }
    }
}

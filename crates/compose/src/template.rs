//! Variables in strings: `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:?why}`, `${X?why}`, `${X:+other}`,
//! `${X+other}`, `$$`.
//!
//! What stands behind an operator may hold variables itself; it is looked at only when it is used. A `$` before
//! anything else stays as it is. Source: the Compose specification; texts of docker compose 2.40.3.

use std::fmt;

/// Gives a variable's value.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string cannot be completed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The braces are wrong.
    Invalid(String),
    /// A variable has to be set.
    Missing { name: String, reason: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "Invalid template: {text:?}"),
            Self::Missing { name, reason } => {
                write!(f, "required variable {name} is missing a value")?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
        }
    }
}

/// How deep defaults may lie in each other.
const MOST_DEPTH: usize = 32;

/// Completes `text`; `unset` is told of variables that are not set and have no default.
pub(crate) fn substitute(
    text: &str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, Fault> {
    expand(text, lookup, unset, 0)
}

fn expand(
    text: &str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, Fault> {
    let invalid = || Fault::Invalid(text.to_owned());
    if depth > MOST_DEPTH {
        return Err(invalid());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (name, behind) = name(inner);
            let end = closing(inner).ok_or_else(invalid)?;
            if name.is_empty() || behind.is_empty() {
                return Err(invalid());
            }
            let operation = inner.get(name.len()..end).ok_or_else(invalid)?;
            let value = lookup(name);
            out.push_str(&applied(name, value, operation, lookup, unset, depth, &invalid)?);
            rest = &inner[end + 1..];
        } else {
            let (name, behind) = name(rest);
            if name.is_empty() {
                out.push('$');
            } else {
                match lookup(name) {
                    Some(value) => out.push_str(&value),
                    None => unset(name),
                }
            }
            rest = behind;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn applied(
    name: &str,
    value: Option<String>,
    operation: &str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
    invalid: &dyn Fn() -> Fault,
) -> Result<String, Fault> {
    if operation.is_empty() {
        if value.is_none() {
            unset(name);
        }
        return Ok(value.unwrap_or_default());
    }
    let (colon, operation) = match operation.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, operation),
    };
    let there = value.as_ref().is_some_and(|v| !colon || !v.is_empty());
    let mut letters = operation.chars();
    let operator = letters.next().ok_or_else(invalid)?;
    let mut other = || expand(letters.as_str(), lookup, unset, depth + 1);
    match operator {
        '-' if there => Ok(value.unwrap_or_default()),
        '-' => other(),
        '+' if there => other(),
        '+' => Ok(value.unwrap_or_default()),
        '?' if there => Ok(value.unwrap_or_default()),
        '?' => Err(Fault::Missing { name: name.to_owned(), reason: other()? }),
        _ => Err(invalid()),
    }
}

/// A variable's name at the front of `text`, and what is behind it.
fn name(text: &str) -> (&str, &str) {
    let mut end = 0;
    for (at, byte) in text.bytes().enumerate() {
        let first = byte == b'_' || byte.is_ascii_alphabetic();
        if !(first || at > 0 && byte.is_ascii_digit()) {
            break;
        }
        end = at + 1;
    }
    text.split_at(end)
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// A variable in a file, for `config --variables`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// Whether it has to be set.
    pub required: bool,
    /// What it is when it is not set.
    pub default: String,
    /// What stands in its place when it is set.
    pub alternate: String,
}

/// The variables in `text`, by name.
pub(crate) fn variables(text: &str, found: &mut std::collections::BTreeMap<String, Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            rest = behind;
            continue;
        }
        let Some(inner) = rest.strip_prefix('{') else {
            let (name, behind) = name(rest);
            if !name.is_empty() {
                found.entry(name.to_owned()).or_default();
            }
            rest = behind;
            continue;
        };
        let (name, _) = name(inner);
        let Some(end) = closing(inner) else { return };
        let operation = &inner[name.len()..end];
        rest = &inner[end + 1..];
        if name.is_empty() {
            continue;
        }
        let operation = operation.strip_prefix(':').unwrap_or(operation);
        let mut variable = Variable::default();
        let other = operation.get(1..).unwrap_or_default().to_owned();
        match operation.chars().next() {
            Some('-') => variable.default = other,
            Some('+') => variable.alternate = other,
            Some('?') => variable.required = true,
            _ => {}
        }
        if let Some(below) = operation.get(1..)
            && below.contains('$')
        {
            variables(below, found);
        }
        found.insert(name.to_owned(), variable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut missing = Vec::new();
        let made = substitute(text, &lookup, &mut |n| missing.push(n.to_owned()));
        made.map(|text| if missing.is_empty() { text } else { format!("{text} !{missing:?}") })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn all_forms_are_completed() {
        for (text, want) in [
            ("$SET/${SET}", "value/value"),
            ("$$SET $ $1 a$", "$SET $ $1 a$"),
            ("${NO:-a}${NO-b}${EMPTY:-c}${EMPTY-d}", "abc"),
            ("${SET:+x}${EMPTY:+y}${EMPTY+z}${NO+w}", "xz"),
            ("${NO:-${SET}-${NO:-in}}", "value-in"),
            ("${SET:?no}${EMPTY?no}", "value"),
            ("${NO:-a:b=c}", "a:b=c"),
            ("${SET:-${NO:?never asked}}", "value"),
            ("${NO:-{\"a\":{}}}", "{\"a\":{}}"),
            ("$NO", " ![\"NO\"]"),
        ] {
            assert_eq!(check(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_told() {
        assert_eq!(
            check("${NO:?set it to $SET}").unwrap_err(),
            "required variable NO is missing a value: set it to value"
        );
        assert_eq!(check("${EMPTY:?}").unwrap_err(), "required variable EMPTY is missing a value");
        for bad in ["${", "${}", "${SET", "${1}", "${SET!x}", "${SET:}", "${a b}"] {
            assert!(check(bad).unwrap_err().starts_with("Invalid template"), "{bad}");
        }
        let deep = "${NO:-".repeat(100) + &"}".repeat(100);
        assert!(check(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends_one_way_or_the_other(text in "[${}a-z:?+_ -]{0,40}") {
            let _ = check(&text);
        }
    }
}

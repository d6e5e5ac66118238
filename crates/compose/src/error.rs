//! What is wrong with a project's files: where, what, and what to do about it.

use std::{fmt, sync::Arc};

/// A place in a file; lines and columns begin at 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file's path.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A mistake in what the user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    at: Option<At>,
    text: String,
    hint: Option<String>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A mistake without a place.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Box::new(Parts { at: None, text: text.into(), hint: None }))
    }

    /// A mistake at a place.
    pub fn at(at: &At, text: impl Into<String>) -> Self {
        Self::new(text).placed(at)
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Gives a place to a mistake that has none.
    #[must_use]
    pub fn placed(mut self, at: &At) -> Self {
        self.0.at.get_or_insert_with(|| at.clone());
        self
    }

    /// Puts words in front.
    #[must_use]
    pub fn within(mut self, words: &str) -> Self {
        self.0.text = format!("{words}: {}", self.0.text);
        self
    }

    /// Where it is.
    pub fn place(&self) -> Option<&At> {
        self.0.at.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.0.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.0.text)?;
        match &self.0.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The one of `known` that `word` was probably meant to be.
pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    let most = match wanted.len() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    known
        .into_iter()
        .map(|k| (distance(&wanted, &plain(k)), k))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, k)| (*d, k.len()))
        .map(|(_, k)| k)
}

/// A hint that names what was probably meant, or what there is.
pub(crate) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(found) = meant(word, known.clone()) {
        return format!("did you mean {found:?}?");
    }
    const MOST: usize = 8;
    let all: Vec<&str> = known.into_iter().collect();
    match all.len() {
        0 => "there are none".to_owned(),
        1..=MOST => format!("there is {}", all.join(", ")),
        _ => "see docs/compose.md for what may stand here".to_owned(),
    }
}

/// How many letters have to change, two neighbours that changed places counting once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best =
                (rows[i][j] + usize::from(x != y)).min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_recognised_and_another_word_is_not() {
        let known = ["networks", "network_mode", "volumes", "image"];
        assert_eq!(meant("netwroks", known), Some("networks"));
        assert_eq!(meant("network-mode", known), Some("network_mode"));
        assert_eq!(meant("imgae", known), Some("image"));
        assert_eq!(meant("build", known), None);
    }
}

//! Here-documents: `<<NAME`, `<<-NAME`, `<<"NAME"`, `3<<NAME`.

use crate::expand;
use base::Result;

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, unquoted.
    pub name: String,
    /// The lines up to it.
    pub content: String,
    /// Whether variables are expanded: the word was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub chomp: bool,
}

impl Heredoc {
    /// The content, without leading tabs if it was opened by `<<-`.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that a line opens, in order, without content yet.
pub(super) fn openings(line: &str) -> Result<Vec<Heredoc>> {
    // Whatever the shell quotes differently is not ours to judge: an unbalanced line opens nothing.
    let Ok(words) = expand::raw_words(line, '\\') else { return Ok(Vec::new()) };
    Ok(words.iter().filter_map(|w| opening(w)).collect())
}

/// Reads one word as the opening of a here-document.
pub(super) fn opening(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = unquoted(rest)?;
    let raw = expand::raw_words(rest, '\\').ok()?;
    if raw.len() != 1 || plain.is_empty() {
        return None;
    }
    let expand = raw[0] == plain;
    Some(Heredoc { name: plain, content: String::new(), expand, chomp })
}

/// The word without quotes and escapes; variables stay as they are written.
fn unquoted(word: &str) -> Option<String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '\\') => out.extend(chars.next()),
            (None, c) if c.is_whitespace() => return None,
            (_, c) => out.push(c),
        }
    }
    quote.is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_found_in_words() {
        let found = |line: &str| {
            openings(line)
                .unwrap()
                .into_iter()
                .map(|h| {
                    format!(
                        "{}{}{}",
                        if h.chomp { "-" } else { "" },
                        h.name,
                        if h.expand { "$" } else { "" }
                    )
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("RUN <<EOF"), "EOF$");
        assert_eq!(found("RUN cat <<-'A B' 3<<\"C\" x"), "-A B C");
        assert_eq!(found("COPY <<a.txt <<b.txt /d/"), "a.txt$ b.txt$");
        assert_eq!(found("RUN echo $((1<<2)) 'x <<EOF'"), "");
        assert_eq!(found("RUN x <<<here"), "");
        assert_eq!(found("RUN <<"), "");
    }
}

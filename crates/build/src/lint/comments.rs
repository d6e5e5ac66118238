//! Comments right before an instruction: what it is for, and which rules do not count there.

use super::Config;

/// The comments of a file, by the line that they stand before.
#[derive(Clone, Debug, Default)]
pub struct Comments<'t> {
    lines: Vec<&'t str>,
}

impl<'t> Comments<'t> {
    /// Of a file's text.
    pub fn of(text: &'t str) -> Self {
        Self { lines: text.lines().collect() }
    }

    /// The comments right before the line `at` (counted from 1), without their mark; parser directives at the
    /// top of the file are none.
    pub fn before(&self, at: usize) -> Vec<&'t str> {
        let above = self.lines.get(..at.saturating_sub(1)).unwrap_or_default();
        let mut found = Vec::new();
        for line in above.iter().rev() {
            match line.trim().strip_prefix('#') {
                Some(comment) => found.push(comment.trim()),
                None => break,
            }
        }
        let whole_top = found.len() == above.len();
        found.reverse();
        if whole_top {
            let is_directive = |c: &&&str| {
                c.split_once('=').is_some_and(|(key, _)| {
                    matches!(
                        key.trim().to_ascii_lowercase().as_str(),
                        "syntax" | "escape" | "check"
                    )
                })
            };
            let count = found.iter().take_while(is_directive).count();
            found.drain(..count);
        }
        found
    }

    /// `config` with what the comments before a line say (`# check=skip=...`).
    pub fn config(&self, config: &Config, at: usize) -> Config {
        for comment in self.before(at) {
            if let Some((key, value)) = comment.split_once('=')
                && key.trim().eq_ignore_ascii_case("check")
            {
                let value = value.split_whitespace().next().unwrap_or_default();
                return Config::parse(value)
                    .map_or_else(|_| config.clone(), |own| config.with(&own));
            }
        }
        config.clone()
    }
}

/// What the last comment says of `name`: `# name what it is for`.
pub fn description(comments: &[&str], name: &str) -> String {
    let last = comments.last().copied().unwrap_or_default();
    let rest = last.strip_prefix(name).filter(|rest| rest.starts_with(' '));
    rest.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_what_follows_at_once() {
        let text = "# syntax=docker/dockerfile:1\n# base what we stand on\nFROM a AS base\n\n# far\n\nRUN x\n# check=skip=all\nRUN y\n";
        let comments = Comments::of(text);
        assert_eq!(comments.before(3), ["base what we stand on"]);
        assert_eq!(description(&comments.before(3), "base"), "what we stand on");
        assert!(comments.before(7).is_empty());
        let config = comments.config(&Config::default(), 9);
        assert!(!config.counts(&crate::lint::rules::MAINTAINER));
        assert_eq!(comments.before(99), Vec::<&str>::new());
    }
}

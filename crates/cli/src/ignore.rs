//! `.dockerignore`: which files of a build context stay at home.
//!
//! Rules (Docker's): one pattern per line, `#` comments, leading and trailing slashes do not matter, `*`
//! and `?` stay within a name, `**` is any number of folders, `[a-z]` classes, `!` takes back; the last
//! pattern that matches a path or a folder above it decides.

/// The patterns of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    keep: bool,
    parts: Vec<String>,
}

impl Ignore {
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let patterns = text.lines().filter_map(|line| {
            if line.starts_with('#') {
                return None;
            }
            let line = line.trim();
            let (keep, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                return None;
            }
            let mut parts: Vec<String> = Vec::new();
            for part in line.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part.to_owned()),
                }
            }
            // A pattern for the context's root itself ignores nothing.
            (!parts.is_empty()).then_some(Pattern { keep, parts })
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether `path` (relative, `/` between names) is ignored.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').filter(|n| !n.is_empty()).collect();
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.keep == ignored && pattern.matches(&names) {
                ignored = !pattern.keep;
            }
        }
        ignored
    }

    /// Whether something inside an ignored folder may be taken back.
    pub(crate) fn may_keep_below(&self, folder: &str) -> bool {
        let names: Vec<&str> = folder.split('/').filter(|n| !n.is_empty()).collect();
        self.patterns.iter().filter(|p| p.keep).any(|p| {
            p.parts
                .iter()
                .zip(&names)
                .take_while(|(part, _)| *part != "**")
                .all(|(part, name)| part_matches(part, name))
        })
    }
}

impl Pattern {
    /// Whether it matches the path or a folder above it.
    fn matches(&self, names: &[&str]) -> bool {
        (1..=names.len()).any(|n| parts_match(&self.parts, &names[..n]))
    }
}

fn parts_match(parts: &[String], names: &[&str]) -> bool {
    match parts.split_first() {
        None => names.is_empty(),
        Some((first, rest)) if first == "**" => {
            (0..=names.len()).any(|skip| parts_match(rest, &names[skip..]))
        }
        Some((first, rest)) => match names.split_first() {
            Some((name, others)) => part_matches(first, name) && parts_match(rest, others),
            None => false,
        },
    }
}

/// One name against one part of a pattern.
fn part_matches(part: &str, name: &str) -> bool {
    let part: Vec<char> = part.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on after the last star: pattern place, name place.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = match part.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => class(&part, p, name[n]),
            Some('\\') => (part.get(p + 1) == Some(&name[n])).then_some(p + 2),
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    part[p..].iter().all(|c| *c == '*')
}

/// A `[class]` at `from`: where it ends if `c` is in it.
fn class(part: &[char], from: usize, c: char) -> Option<usize> {
    let mut at = from + 1;
    let negated = matches!(part.get(at), Some('^' | '!'));
    at += usize::from(negated);
    let mut within = false;
    let mut first = true;
    loop {
        match part.get(at)? {
            ']' if !first => break,
            low => {
                let low = if *low == '\\' {
                    at += 1;
                    part.get(at)?
                } else {
                    low
                };
                let mut high = low;
                if part.get(at + 1) == Some(&'-') && part.get(at + 2).is_some_and(|c| *c != ']') {
                    high = &part[at + 2];
                    at += 2;
                }
                within |= (*low..=*high).contains(&c);
            }
        }
        first = false;
        at += 1;
    }
    (within != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_decide_as_docker_does() {
        let ignore = Ignore::parse(
            "# comment\n/node_modules/\n*.log\n!keep.log\n**/*.tmp\nsrc/*/gen?\ndocs\n!docs/README.md\n[a-c]x\n",
        );
        for (path, want) in [
            ("node_modules", true),
            ("node_modules/a/b", true),
            ("a/node_modules", false),
            ("x.log", true),
            ("a/x.log", false),
            ("keep.log", false),
            ("t.tmp", true),
            ("a/b/t.tmp", true),
            ("src/a/gen1", true),
            ("src/a/b/gen1", false),
            ("docs/a", true),
            ("docs/README.md", false),
            ("bx", true),
            ("dx", false),
        ] {
            assert_eq!(ignore.ignores(path), want, "{path}");
        }
        assert!(ignore.may_keep_below("docs"));
        assert!(!ignore.may_keep_below("node_modules"));
        assert!(Ignore::parse("\n#x\n!\n.\n").patterns.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[a-c*?\\[\\]!/\\\\.-]{0,20}", path in "[a-c/.]{0,12}") {
            let ignore = Ignore::parse(&text);
            ignore.ignores(&path);
            ignore.may_keep_below(&path);
        }
    }
}

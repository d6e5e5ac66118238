//! `--userns-remap`: which users and groups of the host containers' users are.
//!
//! Source: dockerd's reference ("Isolate containers with a user namespace"), subuid(5), subgid(5). Unlike dockerd
//! nothing is written to the host's files: `default` without a range of its own gets the first that nobody has.
//! That does no harm, because layers and volumes are stored as they are and mapped when they are mounted.

use base::{Error, Result};
use std::{fs, path::Path};
use sys::idmap::{MOST_RANGES, Maps, Range};

/// What `default` stands for in dockerd.
const DEFAULT_USER: &str = "dockremap";
/// As many users and groups as a range of our own has.
const SIZE: u32 = 65_536;
/// Where ranges begin that nobody has chosen.
const FIRST: u32 = 100_000;
/// Longest file that is read.
const LONGEST: u64 = 4 << 20;

/// Who containers' users are, by the word of the setting and the files in `etc`; `None` without a word.
///
/// # Errors
/// `Invalid` for users without ranges and for ranges that no namespace can have.
pub(super) fn read(word: &str, etc: &Path) -> Result<Option<Maps>> {
    if word.is_empty() {
        return Ok(None);
    }
    let fail = |why: String| Error::invalid(format!("invalid --userns-remap {word:?}: {why}"));
    let mut parts = word.splitn(2, ':');
    let user = match parts.next() {
        Some("default") => DEFAULT_USER,
        Some(user) if !user.is_empty() => user,
        _ => return Err(fail("want default, a user, or user:group".into())),
    };
    let group = parts.next().unwrap_or(user);
    let file = |name: &str| text(&etc.join(name)).map_err(&fail);
    let (subuid, subgid) = (file("subuid")?, file("subgid")?);
    let mut users = ranges(&subuid, &names(user, &file("passwd")?)).map_err(&fail)?;
    let mut groups = ranges(&subgid, &names(group, &file("group")?)).map_err(&fail)?;
    if groups.is_empty() {
        groups = ranges(&subgid, &names(user, &file("passwd")?)).map_err(&fail)?;
    }
    if word == "default" {
        let free = after_all(&subuid).max(after_all(&subgid));
        let own = || {
            let end = free.checked_add(SIZE);
            end.map(|_| vec![Range { inside: 0, outside: free, size: SIZE }])
                .ok_or_else(|| fail("no range of users is free".into()))
        };
        if users.is_empty() {
            users = own()?;
        }
        if groups.is_empty() {
            groups = own()?;
        }
    }
    for (found, what, file) in [(&users, user, "subuid"), (&groups, group, "subgid")] {
        if found.is_empty() {
            return Err(fail(format!(
                "{what:?} has no range in {} (hint: add the line {what}:{FIRST}:{SIZE})",
                etc.join(file).display()
            )));
        }
    }
    Ok(Some(Maps { users, groups }))
}

fn text(path: &Path) -> Result<String, String> {
    match fs::metadata(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Ok(meta) if meta.len() > LONGEST => return Err(format!("{} is too long", path.display())),
        _ => {}
    }
    fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))
}

/// The words that a range may stand under: the name and the number of whoever is meant.
fn names(wanted: &str, list: &str) -> Vec<String> {
    let mut names = vec![wanted.to_owned()];
    for line in list.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
        if name == wanted || number == wanted {
            names.extend([name.to_owned(), number.to_owned()]);
            break;
        }
    }
    names
}

/// All ranges of these names, one after the other inside.
fn ranges(file: &str, names: &[String]) -> Result<Vec<Range>, String> {
    let mut found: Vec<Range> = Vec::new();
    let mut inside = 0_u32;
    for line in lines(file) {
        let (name, outside, size) = line?;
        if size == 0 || !names.iter().any(|n| n == name) {
            continue;
        }
        let sane = outside > 0 && outside.checked_add(size).is_some();
        let Some(next) = inside.checked_add(size).filter(|_| sane) else {
            return Err(format!("the range {name}:{outside}:{size} cannot be used"));
        };
        found.push(Range { inside, outside, size });
        inside = next;
        if found.len() == MOST_RANGES {
            break;
        }
    }
    Ok(found)
}

/// Name, first number and count of each line.
fn lines(file: &str) -> impl Iterator<Item = Result<(&str, u32, u32), String>> {
    let plain = file.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    plain.map(|line| {
        let mut fields = line.split(':');
        let number = |text: Option<&str>| text.and_then(|t| t.trim().parse().ok());
        match (fields.next(), number(fields.next()), number(fields.next())) {
            (Some(name), Some(first), Some(count)) => Ok((name, first, count)),
            _ => Err(format!("bad line {line:?}: want name:first:count")),
        }
    })
}

/// The first number after all that somebody has.
fn after_all(file: &str) -> u32 {
    let ends =
        lines(file).filter_map(Result::ok).map(|(_, first, size)| first.saturating_add(size));
    ends.max().unwrap_or(FIRST).max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn range(inside: u32, outside: u32, size: u32) -> Range {
        Range { inside, outside, size }
    }

    #[test]
    fn users_have_the_ranges_of_their_name_and_number() {
        let etc = etc(&[
            ("passwd", "root:x:0:0::/:/bin/sh\nann:x:1000:1001::/:/bin/sh\n"),
            ("group", "staff:x:50:\n"),
            ("subuid", "# ours\nann:100000:1000\nbob:200000:10\n1000:300000:5\n"),
            ("subgid", "ann:400000:7\nstaff:500000:9\n"),
        ]);
        let both = vec![range(0, 100_000, 1000), range(1000, 300_000, 5)];
        for (word, groups) in [
            ("ann", vec![range(0, 400_000, 7)]),
            ("1000", vec![range(0, 400_000, 7)]),
            ("ann:staff", vec![range(0, 500_000, 9)]),
            ("1000:50", vec![range(0, 500_000, 9)]),
        ] {
            let maps = read(word, etc.path()).unwrap().unwrap();
            assert_eq!((maps.users, maps.groups), (both.clone(), groups), "{word}");
        }
        assert_eq!(read("", etc.path()).unwrap(), None);
    }

    #[test]
    fn default_is_dockremap_or_the_first_range_that_nobody_has() {
        let with =
            etc(&[("subuid", "dockremap:165536:65536\n"), ("subgid", "dockremap:7:65536\n")]);
        let maps = read("default", with.path()).unwrap().unwrap();
        assert_eq!((maps.users[0].outside, maps.groups[0].outside), (165_536, 7));
        let without = etc(&[("subuid", "ann:100000:65536\n"), ("subgid", "")]);
        let maps = read("default", without.path()).unwrap().unwrap();
        assert_eq!(maps.users, [range(0, 165_536, 65_536)]);
        assert_eq!(maps.groups, maps.users);
        let maps = read("default", etc(&[]).path()).unwrap().unwrap();
        assert_eq!(maps.users, [range(0, 100_000, 65_536)]);
    }

    #[test]
    fn what_cannot_be_mapped_is_said() {
        let etc = etc(&[
            ("subuid", "ann:100000:1000\nzero:0:10\nlast:4294967295:2\n"),
            ("subgid", "ann:1:1\nzero:1:1\nlast:1:1\n"),
        ]);
        for (word, want) in [
            ("eve", "\"eve\" has no range in"),
            (":x", "want default, a user, or user:group"),
            ("zero", "the range zero:0:10 cannot be used"),
            ("last", "the range last:4294967295:2 cannot be used"),
        ] {
            let err = read(word, etc.path()).unwrap_err().to_string();
            assert!(err.contains(want), "{word}: {err}");
        }
        fs::write(etc.path().join("subuid"), "ann:many:1\n").unwrap();
        let err = read("ann", etc.path()).unwrap_err().to_string();
        assert!(err.contains("bad line \"ann:many:1\""), "{err}");
    }
}

//! Go's build information: the section `.go.buildinfo` of a program (inline form, Go 1.18 and later).

use super::Package;

/// What the section begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where the strings begin.
const HEAD: usize = 32;
/// Strings are in the section itself.
const INLINE: u8 = 2;
/// Marks before and after the text about modules.
const MARK: usize = 16;

/// The modules that a program was linked from, and the standard library.
pub(super) fn modules(section: &[u8]) -> Vec<Package> {
    let Some(flags) = section.strip_prefix(MAGIC).and_then(|rest| rest.get(1)) else {
        return Vec::new();
    };
    if flags & INLINE == 0 {
        return Vec::new();
    }
    let Some((version, rest)) = section.get(HEAD..).and_then(string) else { return Vec::new() };
    let mut all =
        vec![package("stdlib", String::from_utf8_lossy(version).trim_start_matches("go"))];
    let text = string(rest).map_or(&[][..], |(text, _)| text);
    let inner = text.get(MARK..text.len().saturating_sub(MARK)).unwrap_or_default();
    let text = String::from_utf8_lossy(inner);
    for line in text.lines() {
        let mut words = line.split('\t');
        let kind = words.next().unwrap_or_default();
        let (Some(path), version) = (words.next(), words.next().unwrap_or_default()) else {
            continue;
        };
        match kind {
            "mod" | "dep" => all.push(package(path, version)),
            // What stands instead of the module before.
            "=>" => {
                if let Some(last) = all.last_mut() {
                    *last = package(path, version);
                }
            }
            _ => {}
        }
    }
    all
}

fn package(path: &str, version: &str) -> Package {
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    Package {
        kind: "golang",
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        ..Package::default()
    }
}

/// A string with its length before it, and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut shift, mut at) = (0_u64, 0_u32, 0_usize);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    Some((bytes.get(at..end)?, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Vec<u8> {
        let text = format!("{0}{text}{0}", "m".repeat(MARK));
        let mut section = MAGIC.to_vec();
        section.extend([8, INLINE]);
        section.resize(HEAD, 0);
        section.push(6);
        section.extend(b"go1.24");
        section.extend([(text.len() & 0x7f) as u8 | 0x80, (text.len() >> 7) as u8]);
        section.extend(text.bytes());
        section
    }

    #[test]
    fn modules_are_read() {
        let text = "path\tx/cmd\nmod\tx\t(devel)\t\ndep\tgithub.com/a/b\tv1.2.3\th1:x=\ndep\told\tv1\n=>\tnew\tv2\th1:\n";
        let found = modules(&section(text));
        let names: Vec<_> =
            found.iter().map(|p| format!("{}/{}@{}", p.namespace, p.name, p.version)).collect();
        assert_eq!(names, ["/stdlib@1.24", "/x@(devel)", "github.com/a/b@v1.2.3", "/new@v2"]);
    }

    #[test]
    fn what_is_cut_off_is_no_program_of_go() {
        let whole = section("mod\tx\tv1\n");
        for length in 0..HEAD {
            assert!(modules(&whole[..length]).is_empty(), "{length}");
        }
        let mut endless = whole[..HEAD].to_vec();
        endless.extend([0xff; 32]);
        assert!(modules(&endless).is_empty());
    }
}

//! Alpine's `apk/db/installed`: paragraphs of one-letter fields.

use super::{Package, release::Release};

/// The packages that are installed.
pub(super) fn packages(text: &str, release: &Release) -> Vec<Package> {
    let package = |paragraph: &str| {
        let field = |letter: &str| {
            let found = paragraph.lines().find_map(|l| l.strip_prefix(letter)?.strip_prefix(':'));
            found.unwrap_or_default().to_owned()
        };
        let mut qualifiers = vec![("arch", field("A"))];
        if !release.id.is_empty() {
            qualifiers.push(("distro", release.distro()));
        }
        Package {
            kind: "apk",
            namespace: release.or("alpine"),
            name: field("P"),
            version: field("V"),
            qualifiers,
            license: field("L"),
            supplier: field("m"),
            ..Package::default()
        }
    };
    text.split("\n\n").map(package).filter(|p| !p.name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_packages() {
        let text = "C:Q1\nP:musl\nV:1.2.5-r9\nA:x86_64\nL:MIT\nm:T <t@x>\nF:lib\nR:ld\n\nP:zlib\nV:1\nA:x86_64\n\n";
        let found = packages(text, &Release::default());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].license.as_str()), ("musl", "MIT"));
        assert_eq!(found[0].namespace, "alpine");
    }
}

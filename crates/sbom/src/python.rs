//! Python's `METADATA` and `PKG-INFO`: fields like a mail's, up to the first empty line.

use super::Package;

/// The package that a file is about.
pub(super) fn package(text: &str) -> Option<Package> {
    let head = || text.lines().take_while(|l| !l.trim().is_empty());
    let field = |name: &str| {
        let found = head().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    };
    let name = field("Name");
    if name.is_empty() {
        return None;
    }
    let license = match field("License-Expression") {
        empty if empty.is_empty() => field("License"),
        expression => expression,
    };
    Some(Package {
        kind: "pypi",
        name,
        version: field("Version"),
        license,
        supplier: field("Author"),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_names_the_package() {
        let text = "Metadata-Version: 2.4\nName: Foo.Bar\nVersion: 1.0\nLicense-Expression: MIT\n\nName: no\n";
        let found = package(text).unwrap();
        assert_eq!(
            (found.name.as_str(), found.version.as_str(), found.license.as_str()),
            ("Foo.Bar", "1.0", "MIT")
        );
        assert_eq!(package("\nName: no\n"), None);
    }
}

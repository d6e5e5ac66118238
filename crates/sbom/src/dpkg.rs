//! Debian's `dpkg/status`: paragraphs of fields.

use super::{Package, release::Release};

/// The packages that are installed.
pub(super) fn packages(text: &str, release: &Release) -> Vec<Package> {
    text.split("\n\n").filter_map(|paragraph| package(paragraph, release)).collect()
}

fn package(paragraph: &str, release: &Release) -> Option<Package> {
    let field = |name: &str| {
        let found = paragraph.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    };
    // A paragraph of `status.d` has no status: it is there because it is installed.
    let status = field("Status");
    if !status.is_empty() && !status.split_whitespace().any(|w| w == "installed") {
        return None;
    }
    let name = field("Package");
    if name.is_empty() {
        return None;
    }
    let mut qualifiers = Vec::new();
    let arch = field("Architecture");
    if !arch.is_empty() {
        qualifiers.push(("arch", arch));
    }
    if !release.id.is_empty() {
        qualifiers.push(("distro", release.distro()));
    }
    Some(Package {
        kind: "deb",
        namespace: release.or("debian"),
        name,
        version: field("Version"),
        qualifiers,
        supplier: field("Maintainer"),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let text = "Package: a\nStatus: install ok installed\nMaintainer: M <m@x>\nVersion: 1\nDescription: x\n Package: no\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 2\n\nPackage: c\nVersion: 3\n";
        let found = packages(text, &Release::default());
        let names: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(names, [("a", "1"), ("c", "3")]);
        assert_eq!(found[0].supplier, "M <m@x>");
    }
}

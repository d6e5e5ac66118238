//! npm's `package.json` of what is installed.

use super::Package;
use serde_json::Value;

/// The package that a file is about.
pub(super) fn package(text: &str) -> Option<Package> {
    let json: Value = serde_json::from_str(text).ok()?;
    let full = json["name"].as_str()?;
    let version = json["version"].as_str()?;
    let (namespace, name) = match full.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => (scope, name),
        _ => ("", full),
    };
    let license = json["license"].as_str().or_else(|| json["license"]["type"].as_str());
    let author = json["author"].as_str().or_else(|| json["author"]["name"].as_str());
    Some(Package {
        kind: "npm",
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.unwrap_or_default().to_owned(),
        supplier: author.unwrap_or_default().to_owned(),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_namespaces() {
        let found = package(
            r#"{"name":"@s/x","version":"1","license":{"type":"MIT"},"author":{"name":"A"}}"#,
        )
        .unwrap();
        assert_eq!(
            [&found.namespace, &found.name, &found.license, &found.supplier],
            ["@s", "x", "MIT", "A"]
        );
        for not in ["{}", "[]", "x", r#"{"name":"private"}"#] {
            assert_eq!(package(not), None, "{not}");
        }
    }
}

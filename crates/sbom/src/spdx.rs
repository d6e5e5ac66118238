//! Packages as an SPDX 2.3 document.
//!
//! Source: the SPDX specification 2.3, the package URL specification. The same packages, name and time give the
//! same document.

use super::Package;
use base::{Digest, Timestamp};
use serde_json::{Value, json};

/// What is not known.
const UNKNOWN: &str = "NOASSERTION";

/// The document of what is called `name`, made at `created` by `tool`.
pub fn document(name: &str, packages: &[Package], created: Timestamp, tool: &str) -> Value {
    let listed: Vec<Value> = packages.iter().map(package).collect();
    let created = Timestamp::from_unix(created.unix(), 0).to_string();
    let sum = Digest::sha256(json!([name, created, listed]).to_string().as_bytes());
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-DocumentRoot",
    })];
    relationships.extend(listed.iter().map(|p| {
        json!({
            "spdxElementId": "SPDXRef-DocumentRoot",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": p["SPDXID"],
        })
    }));
    let root = json!({
        "name": name,
        "SPDXID": "SPDXRef-DocumentRoot",
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": "CONTAINER",
    });
    let packages: Vec<Value> = std::iter::once(root).chain(listed).collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", tool, sum.hex()),
        "creationInfo": { "created": created, "creators": [format!("Tool: {tool}")] },
        "packages": packages,
        "relationships": relationships,
    })
}

fn package(package: &Package) -> Value {
    let purl = purl(package);
    let known = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() };
    let supplier = match package.supplier.as_str() {
        "" => UNKNOWN.to_owned(),
        name => format!("Person: {name}"),
    };
    // A licence that is told in other words than SPDX's is kept as a comment.
    let simple = !package.license.is_empty() && is_expression(&package.license);
    let mut told = json!({
        "name": package.name,
        "SPDXID": id(package, &purl),
        "versionInfo": known(&package.version),
        "supplier": supplier,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "sourceInfo": format!("acquired package info from {}", package.place),
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": if simple { package.license.clone() } else { UNKNOWN.to_owned() },
        "copyrightText": UNKNOWN,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    });
    if !package.license.is_empty() && !simple {
        told["licenseComments"] = format!("declared as: {}", package.license).into();
    }
    told
}

fn id(package: &Package, purl: &str) -> String {
    let clean: String = package
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' })
        .collect();
    let sum = Digest::sha256(format!("{purl} {}", package.place).as_bytes());
    format!("SPDXRef-Package-{}-{clean}-{}", package.kind, &sum.hex()[..16])
}

/// Whether a licence reads as an expression of SPDX.
fn is_expression(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let part = |word: &str| {
        let word = word.trim_matches(['(', ')']);
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
    };
    let Some(first) = words.next() else { return false };
    if !part(first) {
        return false;
    }
    while let Some(operator) = words.next() {
        let Some(next) = words.next() else { return false };
        if !matches!(operator, "AND" | "OR" | "WITH") || !part(next) {
            return false;
        }
    }
    true
}

/// The package URL.
pub fn purl(package: &Package) -> String {
    let mut url = format!("pkg:{}", package.kind);
    let name = match package.kind {
        "pypi" => package.name.to_lowercase().replace('_', "-"),
        "deb" | "apk" => package.name.to_lowercase(),
        _ => package.name.clone(),
    };
    for part in package.namespace.split('/').filter(|p| !p.is_empty()) {
        url.push('/');
        url.push_str(&escaped(part));
    }
    url.push('/');
    url.push_str(&escaped(&name));
    if !package.version.is_empty() {
        url.push('@');
        url.push_str(&escaped(&package.version));
    }
    for (index, (key, value)) in package.qualifiers.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(&format!("{key}={}", escaped(value)));
    }
    url
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_every_package_once() {
        let package = |name: &str, license: &str| Package {
            kind: "npm",
            namespace: "@s".into(),
            name: name.into(),
            version: "1+x".into(),
            license: license.into(),
            ..Package::default()
        };
        let all = [package("a", "MIT OR Apache-2.0"), package("b", "see the file")];
        let time = Timestamp::from_unix(1_700_000_000, 0);
        let document = super::document("img", &all, time, "gantry-1");
        assert_eq!(document["packages"].as_array().unwrap().len(), 3);
        let locator = &document["packages"][1]["externalRefs"][0]["referenceLocator"];
        assert_eq!(locator, "pkg:npm/%40s/a@1%2Bx");
        assert_eq!(document["packages"][1]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(document["packages"][2]["licenseDeclared"], UNKNOWN);
        assert_eq!(document["packages"][2]["licenseComments"], "declared as: see the file");
        assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        assert_eq!(document, super::document("img", &all, time, "gantry-1"));
    }
}

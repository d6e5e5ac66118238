//! Cargo: `Cargo.lock`, and what `cargo auditable` puts into programs (the section `.dep-v0`).

use super::{Package, SMALL};
use serde_json::Value;
use std::io::Read as _;

/// The packages of a lock file.
pub(super) fn locked(text: &str) -> Vec<Package> {
    let mut all = Vec::new();
    for table in text.split("[[package]]").skip(1) {
        let table = table.split("\n[").next().unwrap_or_default();
        let value = |key: &str| {
            let found = table.lines().find_map(|l| {
                l.trim().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim)
            });
            found.unwrap_or_default().trim_matches('"').to_owned()
        };
        all.push(package(value("name"), value("version")));
    }
    all
}

/// The packages that a program was linked from.
pub(super) fn audited(section: &[u8]) -> Vec<Package> {
    let mut text = Vec::new();
    let inflated = flate2::read::ZlibDecoder::new(section).take(SMALL).read_to_end(&mut text);
    let Ok(json) =
        inflated.map_err(drop).and_then(|_| serde_json::from_slice::<Value>(&text).map_err(drop))
    else {
        return Vec::new();
    };
    let one = |p: &Value| {
        // What only built the program is not in it.
        let runs = p["kind"].as_str().is_none_or(|kind| kind == "runtime");
        let (name, version) = (p["name"].as_str()?, p["version"].as_str()?);
        runs.then(|| package(name.to_owned(), version.to_owned()))
    };
    json["packages"].as_array().into_iter().flatten().filter_map(one).collect()
}

fn package(name: String, version: String) -> Package {
    Package { kind: "cargo", name, version, ..Package::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn lock_files_are_read() {
        let text = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = \"registry\"\ndependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"b\"\nversion = \"2.0\"\n\n[metadata]\nname = \"no\"\n";
        let found = locked(text);
        let names: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(names, [("a", "1.0"), ("b", "2.0")]);
    }

    #[test]
    fn programs_say_what_they_are_linked_from() {
        let json = br#"{"packages":[{"name":"a","version":"1"},{"name":"b","version":"2","kind":"build"}]}"#;
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(json).unwrap();
        let found = audited(&out.finish().unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "a");
        assert!(audited(b"odd").is_empty());
    }
}

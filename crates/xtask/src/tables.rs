//! The tables of docs/compatibility.md: every field of a container's configurations has a row, and every case that is
//! named there exists.

use anyhow::{Context as _, Result};
use std::{collections::BTreeSet, fs, path::Path};

const PAGE: &str = "docs/compatibility.md";
const MODEL: &str = "crates/api/src/model/container.rs";
const SUITE: &str = "crates/testkit/tests/e2e";
/// The sections that are checked; the last column of their tables names cases, `file::case` or what belongs to the file
/// named before.
const SECTIONS: [&str; 3] =
    ["## Containers, endpoint by endpoint", "## Fields of Config", "## Fields of HostConfig"];

pub(crate) fn check(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let read =
        |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"));
    let (page, model) = (read(PAGE)?, read(MODEL)?);
    for (section, name) in [(SECTIONS[1], "ContainerConfig"), (SECTIONS[2], "HostConfig")] {
        let rows: Vec<&str> = rows(&page, section).collect();
        let told =
            |field: &str| rows.iter().any(|r| first(r).any(|w| w.eq_ignore_ascii_case(field)));
        let fields = fields(&model, name);
        let missing = fields.iter().filter(|field| !told(field));
        faults.extend(missing.map(|f| format!("{PAGE}: no row tells of {f} of {name}")));
    }
    let cases = cases(&root.join(SUITE))?;
    for row in SECTIONS.iter().flat_map(|section| rows(&page, section)) {
        let unknown = named(row).filter(|name| !cases.contains(*name));
        faults.extend(unknown.map(|name| format!("{PAGE}: there is no case {name}")));
    }
    Ok(())
}

/// Rows of a section's table, without its head.
fn rows<'p>(page: &'p str, section: &str) -> impl Iterator<Item = &'p str> {
    let text = page.split_once(section).map_or("", |(_, rest)| rest);
    let text = text.split("\n## ").next().unwrap_or(text);
    text.lines().filter(|line| line.starts_with("| ")).skip(1)
}

/// The words in code marks of a row's first cell.
fn first(row: &str) -> impl Iterator<Item = &str> {
    row.split(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2)
}

/// The cases that a row's last cell names, without their files.
fn named(row: &str) -> impl Iterator<Item = &str> {
    let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
    let cell = if row.trim_end().ends_with("| |") { "" } else { cell };
    let words = cell.split('`').skip(1).step_by(2);
    // Others are commands, and files of other suites.
    let words = words.filter(|w| !w.contains([' ', '/']));
    words.filter_map(|word| word.rsplit("::").find(|part| *part != "*"))
}

/// The API's names of the fields of `structure`.
fn fields(model: &str, structure: &str) -> Vec<String> {
    let start = format!("pub struct {structure} {{");
    let body = model.split_once(&start).map_or("", |(_, rest)| rest);
    let body = body.split("\n}").next().unwrap_or(body);
    let mut renamed = None;
    let mut names = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if let Some(field) = line.strip_prefix("pub ").and_then(|l| l.split(':').next()) {
            names.push(renamed.take().unwrap_or_else(|| pascal(field)));
        }
    }
    names
}

fn pascal(field: &str) -> String {
    let part = |part: &str| match part.split_at_checked(1) {
        Some((head, rest)) => head.to_ascii_uppercase() + rest,
        None => String::new(),
    };
    field.trim_start_matches("r#").split('_').map(part).collect()
}

/// Names of the suite's files and of its cases.
fn cases(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        if path.is_dir() {
            names.extend(cases(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let functions = text.lines().filter_map(|l| l.trim().strip_prefix("fn "));
        names.extend(functions.filter_map(|f| f.split('(').next()).map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fields_and_cases_are_read() {
        let page = "## Fields of Config\n\n| field | state | shown by |\n|---|---|---|\n| `A`, `B` | works: `x` | `file::one`, `two`, `other::*` (`tests/x.rs`) |\n| `C` | kept | |\n\n## Next\n| `D` | | |\n";
        let all: Vec<&str> = rows(page, "## Fields of Config").collect();
        assert_eq!(all.len(), 2);
        assert_eq!(first(all[0]).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(named(all[0]).collect::<Vec<_>>(), ["one", "two", "other"]);
        assert_eq!(named(all[1]).count(), 0);
        let model = "pub struct X {\n    /// The one.\n    pub one_two: u8,\n    #[serde(rename = \"IDs\")]\n    pub ids: u8,\n}\n";
        assert_eq!(fields(model, "X"), ["OneTwo", "IDs"]);
    }
}

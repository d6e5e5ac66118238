//! `cargo xtask tidy`: house rules that neither the compiler nor clippy checks.
//!
//! Every source file opens with a `//!` header (files of tests need none); what is left to do has an issue number; no word of the drawer kind
//! names a module; no file outgrows what a reader can hold; links between pages lead somewhere; scripts
//! can be run; the changelog has the form that it says; the tables of compatibility are whole.

use crate::shell::{project, say};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Names for drawers: what they would hold belongs somewhere.
const DRAWERS: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Lines beyond which a file is worth cutting; tests and lists of cases may be longer.
const LONG: usize = 900;

pub(crate) fn run(_args: &[String]) -> Result<()> {
    let root = project();
    let mut faults = Vec::new();
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    let mut sources = 0;
    for path in &files {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        let Ok(text) = fs::read_to_string(path) else { continue };
        match path.extension().and_then(|e| e.to_str()) {
            Some("rs") => {
                sources += 1;
                source(path, &name, &text, &mut faults);
            }
            Some("md") => page(path, &name, &text, &mut faults),
            _ => {}
        }
        if text.starts_with("#!") && path.metadata()?.permissions().mode() & 0o111 == 0 {
            faults.push(format!("{name}: a script that cannot be run"));
        }
        if text.contains(&["<".repeat(7), " HEAD".into()].concat()) {
            faults.push(format!("{name}: a merge was left half-done"));
        }
    }
    changelog(&root, &mut faults)?;
    crate::tables::check(&root, &mut faults)?;
    if !faults.is_empty() {
        bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "));
    }
    say(&format!("tidy: {} files, {sources} of them sources", files.len()));
    Ok(())
}

fn source(path: &Path, name: &str, text: &str, faults: &mut Vec<String>) {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with("#!["));
    if !first.is_some_and(|l| l.starts_with("//!")) && !stem.ends_with("tests") {
        faults.push(format!("{name}: no `//!` header"));
    }
    if DRAWERS.contains(&stem) {
        faults.push(format!("{name}: {stem} is a drawer, not a name"));
    }
    let mark = ["TO", "DO"].concat();
    for (n, line) in text.lines().enumerate() {
        if line.contains(&mark) && !line.contains('#') {
            faults.push(format!("{name}:{}: a {mark} without an issue number", n + 1));
        }
        if line.ends_with([' ', '\t']) && !text.contains("expect![[") {
            faults.push(format!("{name}:{}: white space at the end", n + 1));
        }
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text).lines().count();
    if code > LONG && !name.contains("/tests") && !name.contains("/model/") {
        faults.push(format!("{name}: {code} lines; cut it along what it does"));
    }
}

/// Links to files of the project lead somewhere.
fn page(path: &Path, name: &str, text: &str, faults: &mut Vec<String>) {
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = link.split('#').next().unwrap_or_default();
        if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
            continue;
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        if !dir.join(file).exists() {
            faults.push(format!("{name}: the link to {file} leads nowhere"));
        }
    }
}

fn changelog(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    let heading = |l: &str| l.starts_with("## ") && l.to_lowercase().contains("unreleased");
    if !text.lines().any(heading) {
        faults.push("CHANGELOG.md: no heading for what is unreleased".to_owned());
    }
    Ok(())
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if name != "target" && name != ".git" {
                walk(&entry.path(), out)?;
            }
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
    Ok(())
}

//! The SELinux policy of the emulated machine, compiled.
//!
//! Source: secilc(8); SELinux's CIL reference.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Categories of a level, as policies for containers have.
const CATEGORIES: usize = 1024;
/// Version of the binary form: what kernels from 5.8 on read.
const VERSION: &str = "33";

/// The policy's text with its categories written out.
fn text() -> String {
    let names: Vec<String> = (0..CATEGORIES).map(|n| format!("c{n}")).collect();
    let declared: Vec<String> = names.iter().map(|name| format!("(category {name})")).collect();
    // The first lines tell of the words that are replaced.
    let lines = include_str!("policy.cil").lines().filter(|line| !line.starts_with(';'));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    text.replace("DECLARED", &declared.join("\n")).replace("CATEGORIES", &names.join(" "))
}

/// Compiles the policy into a file in `folder`.
pub(crate) fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, policy) = (folder.join("policy.cil"), folder.join("policy"));
    fs::write(&source, text()).with_context(|| format!("write {}", source.display()))?;
    let mut secilc = Command::new("secilc");
    secilc.args(["-f", "/dev/null", "-c", VERSION, "-o"]).arg(&policy).arg(&source);
    let output = secilc.output().context("run secilc (scripts/setup --tests)")?;
    ensure!(
        output.status.success(),
        "secilc refuses {}: {}",
        source.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_is_declared_once_and_ordered() {
        let text = text();
        assert_eq!(text.matches("(category c").count(), CATEGORIES);
        assert!(text.contains("(category c1023)") && text.contains(" c1022 c1023))"));
        assert!(!text.contains("DECLARED") && !text.contains("CATEGORIES"));
    }
}

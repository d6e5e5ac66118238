//! `cargo xtask deps`: arrows between crates only go down, as ARCHITECTURE.md draws them.
//!
//! The table of levels is read from that page, so that the page cannot become untrue: a crate that it
//! does not name, an arrow that it does not draw, and an arrow that it draws but nobody uses are errors.

use crate::shell::{project, say};
use anyhow::{Context as _, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Crates that exist for development and may use any other.
const DEV_ONLY: &[&str] = &["fuzz", "testkit", "xtask"];

pub(crate) fn run(_args: &[String]) -> Result<()> {
    let page =
        fs::read_to_string(project().join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let (levels, drawn) = read_picture(&page)?;
    let used = read_manifests()?;
    let mut faults = Vec::new();
    for (krate, targets) in &used {
        if DEV_ONLY.contains(&krate.as_str()) {
            continue;
        }
        let Some(level) = levels.get(krate) else {
            faults.push(format!("{krate} is not in the level picture of ARCHITECTURE.md"));
            continue;
        };
        for target in targets {
            let below = levels.get(target).is_some_and(|t| t < level);
            let is_drawn = drawn.get(krate).is_some_and(|d| d.contains(target));
            if !below {
                faults
                    .push(format!("{krate} (level {level}) uses {target}, which is not below it"));
            } else if !is_drawn {
                faults.push(format!(
                    "{krate} uses {target}, an arrow that ARCHITECTURE.md does not draw"
                ));
            }
        }
    }
    for (krate, targets) in &drawn {
        for target in targets {
            if used.get(krate).is_some_and(|u| !u.contains(target)) {
                faults
                    .push(format!("ARCHITECTURE.md draws {krate} -> {target}, which nobody uses"));
            }
        }
    }
    if !faults.is_empty() {
        bail!("{} arrows are wrong:\n  {}", faults.len(), faults.join("\n  "));
    }
    say(&format!("deps: {} crates, all arrows go down", used.len()));
    Ok(())
}

type Levels = BTreeMap<String, u32>;
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Reads lines like `    4  engine -> api build image`, indented by four spaces and beginning with the level;
/// several groups on a line are apart by two spaces or more.
fn read_picture(page: &str) -> Result<(Levels, Arrows)> {
    let (mut levels, mut arrows) = (Levels::new(), Arrows::new());
    for line in page.lines().filter_map(|l| l.strip_prefix("    ")) {
        let Some((number, rest)) = line.split_once("  ") else { continue };
        let Ok(level) = number.parse::<u32>() else { continue };
        for group in rest.split("  ").map(str::trim).filter(|g| !g.is_empty()) {
            let (names, targets) = group.split_once("->").unwrap_or((group, ""));
            for name in names.split_whitespace() {
                levels.insert(name.to_owned(), level);
                let targets = targets.split_whitespace().map(str::to_owned).collect();
                arrows.insert(name.to_owned(), targets);
            }
        }
    }
    if levels.is_empty() {
        bail!("ARCHITECTURE.md has no level picture");
    }
    Ok((levels, arrows))
}

/// Which of our crates each of them uses: the `[dependencies]` sections of the manifests.
fn read_manifests() -> Result<Arrows> {
    let mut out = Arrows::new();
    let crates = project().join("crates");
    let names: Vec<String> =
        fs::read_dir(&crates)?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    for name in &names {
        let path = crates.join(name).join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut targets = BTreeSet::new();
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[dependencies]";
            } else if inside {
                let key = line.split(['.', ' ', '=']).next().unwrap_or_default();
                if names.iter().any(|n| n == key) {
                    targets.insert(key.to_owned());
                }
            }
        }
        out.insert(name.clone(), targets);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_read_by_level_and_arrow() {
        let page = "x\n    2  a -> b c   d\n    1  b   c\n9 no\n    no\n";
        let (levels, arrows) = read_picture(page).unwrap();
        assert_eq!(levels["a"], 2);
        assert_eq!(levels["c"], 1);
        assert_eq!(arrows["a"].len(), 2);
        assert!(arrows["d"].is_empty() && !levels.contains_key("no"));
    }
}

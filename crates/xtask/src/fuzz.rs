//! `cargo xtask fuzz`: parsers fed with mutated inputs, for as long as wanted (see the crate `fuzz`).
//!
//! A panic ends the command; its input is kept below `crates/fuzz/corpus/NAME/`, so that the tests find it again until the
//! parser is mended.

use crate::shell::{number, say, value};
use anyhow::{Result, bail, ensure};
use std::{fs, time::Duration};

pub(crate) fn run(args: &[String]) -> Result<()> {
    let seconds = number(args, "--seconds", 60)?;
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_secs());
    let seed = number(args, "--seed", now)?;
    let name = value(args, "--target").unwrap_or("");
    let targets: Vec<_> = fuzz::TARGETS.iter().filter(|t| t.name.contains(name)).collect();
    ensure!(!targets.is_empty(), "no target is called {name}");
    let mut faults = Vec::new();
    for target in targets {
        let report = fuzz::campaign(target, Duration::from_secs(seconds), seed);
        say(&format!("{:14} {:>10} runs, slowest {:?}", target.name, report.runs, report.slowest));
        if let Some((input, text)) = report.panic {
            let dir = fuzz::corpus(target.name);
            fs::create_dir_all(&dir)?;
            let path = dir.join(format!("found-{seed}"));
            fs::write(&path, input)?;
            faults.push(format!("{}: {text}: {}", target.name, path.display()));
        }
    }
    if !faults.is_empty() {
        bail!("seed {seed}: {} parsers panicked\n  {}", faults.len(), faults.join("\n  "));
    }
    Ok(())
}

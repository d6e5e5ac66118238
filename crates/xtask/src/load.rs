//! `cargo xtask load`: much of everything at once, beside dockerd, in the same run.
//!
//! Every engine gets a daemon of its own, as in `bench`; each row asks one after the other. A row that an engine does not
//! finish within its limit is told as such: the daemon is killed and a new one goes on. `--write` puts the table into
//! docs/benchmarks.md, below its own heading.

mod rows;

use crate::{
    bench::contestant::Contestant,
    shell::{number, project, say, target, value},
};
use anyhow::{Context as _, Result};
use rows::{ROWS, Row};
use std::path::{Path, PathBuf};

/// Where the table goes in docs/benchmarks.md: up to the next heading.
const HEADING: &str = "## Under load";

/// One row's figures, one per engine; `None` when it did not finish.
type Line = (&'static Row, Vec<Option<f64>>);

pub(crate) fn run(args: &[String]) -> Result<()> {
    let size = number(args, "--percent", 100)?.clamp(1, 1000);
    let word = value(args, "--row").unwrap_or("");
    let gantry =
        value(args, "--gantry").map_or_else(|| target().join("release/gantry"), PathBuf::from);
    let mut engines = vec![("gantry", gantry)];
    let dockerd = Path::new("/usr/sbin/dockerd");
    if dockerd.exists() && !args.iter().any(|a| a == "--alone") {
        engines.push(("dockerd", dockerd.to_owned()));
    }
    let mut table: Vec<Line> = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(word)) {
        let mut figures = Vec::new();
        for (name, binary) in &engines {
            let figure = measure(row, name, binary, size);
            if let Err(e) = &figure {
                say(&format!("{}: {name}: {e:#}", row.name));
            }
            figures.push(figure.ok());
        }
        say(&line(row, &figures));
        table.push((row, figures));
    }
    let names: Vec<&str> = engines.iter().map(|(name, _)| *name).collect();
    let debug = engines[0].1.components().any(|part| part.as_os_str() == "debug");
    let page = page(&table, &names, size, debug);
    if args.iter().any(|a| a == "--write") {
        let path = project().join("docs/benchmarks.md");
        let old = std::fs::read_to_string(&path).context("read docs/benchmarks.md")?;
        std::fs::write(&path, put(&old, &page)).context("write docs/benchmarks.md")?;
    }
    say(&page);
    Ok(())
}

/// One row on a daemon of its own.
fn measure(row: &Row, name: &str, binary: &Path, percent: u64) -> Result<f64> {
    let engine = Contestant::start(name, binary, None)?;
    engine.daemon.load_busybox()?;
    let count = usize::try_from((row.count * percent / 100).max(1))?;
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (row.measure)(&engine, count)));
    let figure = outcome.unwrap_or_else(|_| anyhow::bail!("did not finish"));
    if figure.is_ok() {
        engine.clear();
    }
    figure
}

fn line(row: &Row, figures: &[Option<f64>]) -> String {
    let shown: Vec<String> = figures
        .iter()
        .map(|figure| figure.map_or("not finished".into(), |f| format!("{f:.1} {}", row.unit)))
        .collect();
    let ratio = match figures {
        [Some(ours), Some(theirs)] if *ours > 0.0 && *theirs > 0.0 => {
            let ratio = if row.more_is_better() { ours / theirs } else { theirs / ours };
            format!("{ratio:.1}")
        }
        _ => String::new(),
    };
    format!("| {} | {} | {ratio} | {} |", row.name, shown.join(" | "), row.wanted)
}

fn page(table: &[Line], names: &[&str], percent: u64, debug: bool) -> String {
    let build = if debug { ", with a debug build of Gantry" } else { "" };
    let mut page = format!(
        "{HEADING}\n\n`cargo xtask load --write` replaces this section; this run was of {percent} % of the numbers \
         that the rows name{build}. Ratios are how many times better Gantry is.\n\n| row | {} | ratio | wanted |\n|---|{}---|---|\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (row, figures) in table {
        page.push_str(&line(row, figures));
        page.push('\n');
    }
    page
}

/// `old` with the section replaced, or added at the end.
fn put(old: &str, section: &str) -> String {
    let Some(begin) = old.find(HEADING) else { return format!("{old}\n{section}") };
    let rest = &old[begin + HEADING.len()..];
    let end = rest.find("\n## ").map_or("", |at| &rest[at..]);
    format!("{}{section}{end}", &old[..begin])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_replaced_and_the_rest_stays() {
        let first = put("# Page\n\n## Other\n\ntext\n", "## Under load\n\nold\n");
        assert_eq!(first, "# Page\n\n## Other\n\ntext\n\n## Under load\n\nold\n");
        let again = put("a\n## Under load\n\nold\n\n## Next\nx\n", "## Under load\n\nnew\n");
        assert_eq!(again, "a\n## Under load\n\nnew\n\n## Next\nx\n");
    }
}

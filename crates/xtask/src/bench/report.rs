//! Medians, ratios and the page.

use super::{Samples, contestant::Contestant, rows::Row};
use std::{fmt::Write as _, fs, process::Command};

/// One line for the terminal.
pub(crate) fn line(row: &Row, contestants: &[Contestant], samples: &[Samples]) -> String {
    let mut text = format!("{:38}", row.name);
    for (contestant, samples) in contestants.iter().zip(samples) {
        _ = write!(text, "  {} {}", contestant.name, number(median(samples), row.unit));
    }
    text
}

/// The page docs/benchmarks.md.
pub(crate) fn page(table: &[(&Row, Vec<Samples>)], contestants: &[Contestant]) -> String {
    let mut page = String::from(HEAD);
    _ = writeln!(page, "\n## The machine\n\n{}", machine());
    for contestant in contestants {
        _ = writeln!(page, "- {}: {}", contestant.name, contestant.version);
    }
    page.push_str(
        "\n## The table\n\nMedians; in brackets how many times Gantry is better.\n\n| row |",
    );
    for contestant in contestants {
        _ = write!(page, " {} |", contestant.name);
    }
    page.push_str(" wanted |\n|---|");
    page.push_str(&"---:|".repeat(contestants.len() + 1));
    page.push('\n');
    for (row, samples) in table {
        _ = write!(page, "| {} |", row.name);
        let ours = median(&samples[0]);
        for (n, samples) in samples.iter().enumerate() {
            let value = median(samples);
            _ = write!(page, " {}", number(value, row.unit));
            if let (true, Some(ours), Some(value)) = (n > 0, ours, value) {
                _ = write!(page, " ({:.1})", value / ours);
            }
            page.push_str(" |");
        }
        _ = writeln!(page, " {} |", row.wanted);
    }
    page.push_str(&beside(table, contestants));
    page
}

/// What one client gains over another on the same engine.
fn beside(table: &[(&Row, Vec<Samples>)], contestants: &[Contestant]) -> String {
    let mut text = String::new();
    for (row, samples) in table {
        let other = row.beside.and_then(|name| table.iter().find(|(row, _)| row.name == name));
        let Some((other, others)) = other else { continue };
        let ratios =
            contestants.iter().zip(samples.iter().zip(others)).filter_map(|(c, (s, o))| {
                Some(format!("{:.1} times on {}", median(o)? / median(s)?, c.name))
            });
        let ratios: Vec<String> = ratios.collect();
        _ = writeln!(text, "- {}, beside {}: {}", row.name, other.name, ratios.join(", "));
    }
    if text.is_empty() {
        text
    } else {
        format!("\nClients beside each other, how many times faster:\n\n{text}")
    }
}

const HEAD: &str = "# Benchmarks

Measured by `cargo xtask bench --write`: every engine with a daemon of its own on the same machine, in one run,
rounds interleaved, driven by the stock docker CLI or by the API over its socket. The docker CLI itself needs
about 12 ms of every row that begins with `docker`. dockerd runs with `--userland-proxy=false`, which is the quicker way.
";

pub(crate) fn median(samples: &Samples) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().flatten().copied().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

pub(crate) fn number(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v < 10.0 => format!("{v:.1} {unit}"),
        Some(v) => format!("{v:.0} {unit}"),
    }
}

pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory: f64 = memory.split(' ').next().and_then(|m| m.parse().ok()).unwrap_or(0.0);
    let cgroup =
        if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok() { "v2" } else { "v1" };
    let date = Command::new("date").args(["-u", "+%F"]).output();
    let date =
        date.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "{date}; {} ({cores} cores), {:.0} GB of memory, kernel {}, cgroup {cgroup}.\n",
        field(&cpu, "model name"),
        memory / 1e6,
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_skips_what_failed() {
        assert_eq!(median(&vec![Some(3.0), None, Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(&vec![Some(1.0), Some(2.0)]), Some(1.5));
        assert_eq!(median(&vec![None]), None);
    }
}

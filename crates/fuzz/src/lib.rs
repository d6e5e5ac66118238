//! Every parser that meets bytes from outside, as functions of bytes, and a driver that feeds them.
//!
//! Flow: [`TARGETS`] names each parser with seeds; [`campaign`] mutates seeds and the kept corpus and calls the target; a
//! panic is the finding. `cargo xtask fuzz` runs long campaigns by random mutation with the ordinary compiler, the tests of
//! this crate run each target for a moment (ADR 24).
//! Invariant: a target touches nothing but its bytes and folders of its own. Dev only.

mod mutate;
mod requests;
pub mod targets;
mod uploads;

pub use targets::{TARGETS, Target};

use mutate::Dice;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest input that mutation makes, in bytes.
const LONGEST: usize = 16 << 10;

/// What a campaign did.
#[derive(Debug)]
pub struct Report {
    /// How many inputs were tried.
    pub runs: u64,
    /// The input that made the target panic, and what it said.
    pub panic: Option<(Vec<u8>, String)>,
    /// The longest that one input took.
    pub slowest: Duration,
}

/// The kept inputs of a target: `corpus/NAME/` of this crate.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// Runs `target` on its corpus and seeds, then on mutations of them until `time` is over or it panics.
pub fn campaign(target: &Target, time: Duration, seed: u64) -> Report {
    let mut pool: Vec<Vec<u8>> = target.seeds.iter().map(|s| s.to_vec()).collect();
    for entry in fs::read_dir(corpus(target.name)).into_iter().flatten().flatten() {
        pool.extend(fs::read(entry.path()).ok());
    }
    pool.push(Vec::new());
    let mut report = Report { runs: 0, panic: None, slowest: Duration::ZERO };
    for input in &pool {
        if tried(target, input, &mut report) {
            return report;
        }
    }
    let mut dice = Dice::new(seed);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let mut input = pool[dice.below(pool.len())].clone();
        for _ in 0..=dice.below(4) {
            let other = dice.below(pool.len());
            mutate::once(&mut input, &pool[other], &mut dice);
        }
        input.truncate(LONGEST);
        if tried(target, &input, &mut report) {
            return report;
        }
    }
    report
}

/// Whether the target panics.
fn tried(target: &Target, input: &[u8], report: &mut Report) -> bool {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    report.runs += 1;
    report.slowest = report.slowest.max(began.elapsed());
    if let Err(cause) = outcome {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        report.panic = Some((input.to_vec(), text.unwrap_or_else(|| "a panic".to_owned())));
    }
    report.panic.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_told() {
        let target = Target {
            name: "none",
            seeds: &[b"seed of a target"],
            run: |bytes| assert!(!bytes.starts_with(b"see\0"), "found"),
        };
        // A byte of the seed becomes NUL sooner or later.
        let report = campaign(&target, Duration::from_secs(60), 1);
        let (input, text) = report.panic.unwrap();
        assert!(input.starts_with(b"see\0"));
        assert!(text.contains("found"));
    }

    #[test]
    fn no_target_panics_in_a_moment() {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_secs());
        for target in TARGETS {
            let report = campaign(target, Duration::from_millis(300), now);
            if let Some((input, text)) = report.panic {
                panic!(
                    "{}, seed {now}: {text}: {:?}",
                    target.name,
                    String::from_utf8_lossy(&input)
                );
            }
            assert!(report.runs > target.seeds.len() as u64, "{}", target.name);
        }
    }
}

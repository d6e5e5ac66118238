//! Runs a list of cases against one daemon, and takes the census around them.
//!
//! Cases share the daemon and run side by side; those of [`Case::alone`] run afterwards, one by one.
//! At the end every container is removed, the daemon stops, and whatever it left behind is a failure.
//! Arguments are those of `cargo test`: words that the names must hold, `--exact`, `--list`,
//! `--test-threads N`.

use crate::{
    census::Census,
    cx::{Cx, Skip},
    daemon::{Daemon, Engine, Options},
};
use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Instant, UNIX_EPOCH},
};

/// One test case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `area::what_holds`.
    pub name: &'static str,
    /// The case.
    pub run: fn(&Cx<'_>),
    /// Whether it must not share the daemon with another case at the same time.
    pub alone: bool,
}

/// Names functions of the module it is used in as cases: `cases![a, b]`; after `alone:` those that run
/// by themselves.
#[macro_export]
macro_rules! cases {
    (alone: $($lone:ident),* $(,)?) => {
        &[$($crate::suite::Case {
            name: concat!(module_path!(), "::", stringify!($lone)), run: $lone, alone: true,
        },)*]
    };
    ($($name:ident),* $(,)? $(; alone: $($lone:ident),* $(,)?)?) => {
        &[
            $($crate::suite::Case {
                name: concat!(module_path!(), "::", stringify!($name)), run: $name, alone: false,
            },)*
            $($($crate::suite::Case {
                name: concat!(module_path!(), "::", stringify!($lone)), run: $lone, alone: true,
            },)*)?
        ]
    };
}

/// How many times longer than in every run of the suite a case may take: `GANTRY_TEST_LONG`, else one.
pub fn length() -> usize {
    std::env::var("GANTRY_TEST_LONG").ok().and_then(|n| n.parse().ok()).unwrap_or(1).max(1)
}

/// What a case's choices begin with: `GANTRY_TEST_SEED`, else the time. It is said, so that a run can be had again.
pub fn seed() -> u64 {
    let given = std::env::var("GANTRY_TEST_SEED").ok().and_then(|n| n.parse().ok());
    let seed = given.unwrap_or_else(|| UNIX_EPOCH.elapsed().map_or(1, |t| t.as_secs()));
    say(&format!("         seed {seed} (again: GANTRY_TEST_SEED={seed})"));
    seed
}

enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs all cases that the command line asks for.
pub fn run(areas: &[&'static [Case]]) -> ExitCode {
    let asked = Asked::from_args();
    let cases: Vec<Case> =
        areas.iter().flat_map(|a| a.iter()).copied().filter(|c| asked.wants(c)).collect();
    if asked.list {
        for case in &cases {
            say(&format!("{}: test", short(case.name)));
        }
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        say("no case asked for");
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        PANIC.with(|p| *p.borrow_mut() = text);
    }));
    let before = Census::take(&[]);
    let daemon = match start() {
        Ok(daemon) => daemon,
        Err(e) => {
            say(&format!("no daemon to test: {e:#}"));
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let mut results = side_by_side(&daemon, &cases, asked.threads);
    for case in cases.iter().filter(|c| c.alone) {
        results.push((case.name, judge(&daemon, case)));
    }
    again(&daemon, &cases, &mut results);
    if daemon.is_own() {
        let verdict = catch_unwind(AssertUnwindSafe(|| nothing_left(&daemon, &before)));
        let verdict = verdict.unwrap_or_else(|cause| verdict_of(&*cause));
        results.push(("nothing_is_left_behind", verdict));
    }
    report(&results, began)
}

fn start() -> anyhow::Result<Daemon> {
    let daemon = match std::env::var_os("GANTRY_TEST_SOCKET") {
        Some(socket) => Daemon::external(&PathBuf::from(socket)),
        None => Daemon::start(Options::new())?,
    };
    daemon.load_busybox()?;
    Ok(daemon)
}

fn side_by_side(daemon: &Daemon, cases: &[Case], threads: usize) -> Vec<(&'static str, Verdict)> {
    let next = AtomicUsize::new(0);
    let shared: Vec<_> = cases.iter().filter(|c| !c.alone).collect();
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = shared.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = judge(daemon, case);
                    results.lock().expect("no verdict panics").push((case.name, verdict));
                }
            });
        }
    });
    results.into_inner().expect("no verdict panics")
}

/// Lines that are shown of a first failure.
const WHY: usize = 12;

/// What failed beside others is tried once more alone: a fault fails twice, a busy machine does not. The
/// second try is said.
fn again(daemon: &Daemon, cases: &[Case], results: &mut [(&'static str, Verdict)]) {
    for (name, verdict) in results {
        let Verdict::Failed(why) = &*verdict else { continue };
        if let Some(case) = cases.iter().find(|c| c.name == *name) {
            let shown: Vec<&str> = why.lines().take(WHY).collect();
            say(&format!("second try of {}, which failed: {}", short(name), shown.join("\n    ")));
            *verdict = match judge(daemon, case) {
                Verdict::Failed(text) if text != *why => {
                    Verdict::Failed(format!("{text}\n-- its first try --\n{why}"))
                }
                other => other,
            };
        }
    }
}

fn judge(daemon: &Daemon, case: &Case) -> Verdict {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let cx = Cx::new(daemon, case.name);
        let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&cx)));
        let text = PANIC.with(|p| p.borrow().clone());
        _ = catch_unwind(AssertUnwindSafe(|| cx.clean()));
        PANIC.with(|p| *p.borrow_mut() = text);
        result
    }));
    let verdict = match result {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(cause)) | Err(cause) => verdict_of(&*cause),
    };
    let word = match &verdict {
        Verdict::Passed => "ok",
        Verdict::Skipped(_) => "skipped",
        Verdict::Failed(_) => "FAILED",
    };
    say(&format!("{word:8} {} ({} ms)", short(case.name), began.elapsed().as_millis()));
    verdict
}

fn verdict_of(cause: &(dyn Any + Send)) -> Verdict {
    match cause.downcast_ref::<Skip>() {
        Some(Skip(reason)) => Verdict::Skipped(reason.clone()),
        None => Verdict::Failed(PANIC.with(|p| p.borrow().clone())),
    }
}

fn nothing_left(daemon: &Daemon, before: &Census) -> Verdict {
    let exec = daemon.path("exec");
    let mut marks = daemon.container_ids();
    marks.push(exec.parent().map_or_else(String::new, |d| d.display().to_string()));
    marks.extend(daemon.bridge());
    if let Err(e) = daemon.empty_and_stop() {
        return Verdict::Failed(format!("{e:#}"));
    }
    let shared = std::env::var_os("GANTRY_TEST_SHARED_HOST").is_some();
    let after = Census::take(&[&exec, &daemon.path("root/containers"), &daemon.path("root/tmp")]);
    let mut left = after.leftovers(before, shared.then_some(&marks));
    let bridge = daemon.bridge().unwrap_or_default();
    left.retain(|l| !l.starts_with(&format!("link: {bridge} "))); // made and removed by us
    left.retain(|l| !matches!(l.rsplit('/').next(), Some("containers" | "lock"))); // the folder itself
    let left = left.join("\n");
    match (left.is_empty(), daemon.engine()) {
        (true, _) => Verdict::Passed,
        (false, Engine::Gantry) => Verdict::Failed(format!("left behind:\n{left}")),
        (false, Engine::Dockerd) => Verdict::Skipped(format!("dockerd left behind:\n{left}")),
    }
}

fn report(results: &[(&'static str, Verdict)], began: Instant) -> ExitCode {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (name, verdict) in results {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Skipped(reason) => {
                skipped += 1;
                say(&format!("skipped: {}: {reason}", short(name)));
            }
            Verdict::Failed(text) => {
                failed += 1;
                say(&format!("\n---- {} ----\n{text}", short(name)));
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    say(&format!(
        "\nend-to-end: {word}. {passed} passed; {failed} failed; {skipped} skipped; in {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    for (name, verdict) in results {
        if matches!(verdict, Verdict::Failed(_)) {
            say(&format!("    {}", short(name)));
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Asked {
    words: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Asked {
    fn from_args() -> Self {
        let threads = std::env::var("GANTRY_TEST_THREADS").ok().and_then(|t| t.parse().ok());
        let mut asked = Self {
            words: Vec::new(),
            skip: Vec::new(),
            exact: false,
            list: false,
            threads: threads.unwrap_or(3),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => asked.exact = true,
                "--list" => asked.list = true,
                "--skip" => asked.skip.extend(args.next()),
                "--test-threads" => {
                    asked.threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
                }
                flag if flag.starts_with('-') => {} // `--nocapture` and the like mean nothing here
                word => asked.words.push(word.to_owned()),
            }
        }
        asked
    }

    fn wants(&self, case: &Case) -> bool {
        let name = short(case.name);
        let fits = |w: &String| if self.exact { name == w } else { name.contains(w.as_str()) };
        (self.words.is_empty() || self.words.iter().any(fits))
            && !self.skip.iter().any(|w| name.contains(w.as_str()))
    }
}

/// The name without the name of the test binary.
fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

#[allow(clippy::print_stdout, reason = "the report of a test run goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

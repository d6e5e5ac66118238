//! Many clients at once on few containers: no answer that no order of operations explains, nothing left.

use testkit::{
    Cx, Daemon, cases,
    cx::skip,
    daemon::Options,
    races::{Recorder, check},
    suite::Case,
};

pub const CASES: &[Case] = cases![alone: answers_fit_one_order_of_operations];

/// Operations of each client; the long form is `cargo xtask survive --mode races`.
const EACH: usize = 60;
const GROUPS: usize = 2;

fn answers_fit_one_order_of_operations(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let seed = testkit::suite::seed();
    let recorder = Recorder::new(daemon.api(), "race");
    let outcome = recorder.run((8, EACH * testkit::suite::length(), GROUPS), seed);
    assert!(outcome.faults.is_empty(), "seed {seed}: {:#?}\n{}", outcome.faults, daemon.log_tail());
    for records in &outcome.groups {
        assert!(records.len() > EACH, "{}", records.len());
        if let Err(text) = check(records) {
            panic!("seed {seed}: {text}");
        }
    }
    recorder.clean(GROUPS).unwrap();
    let listed = || daemon.api().get("/containers/json?all=1").text();
    assert_eq!(listed().trim(), "[]", "seed {seed}");
    // Nor does anything come back with the next daemon.
    daemon.stop().unwrap();
    let exec = std::fs::read_dir(daemon.path("exec/containers")).unwrap().count();
    let data = std::fs::read_dir(daemon.path("root/containers")).unwrap().count();
    assert_eq!((exec, data), (0, 0), "seed {seed}");
    daemon.start_again().unwrap();
    assert_eq!(listed().trim(), "[]", "seed {seed}");
    let log = std::fs::read_to_string(daemon.path("daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "seed {seed}: {log}");
    assert_eq!(daemon.stop().unwrap(), 0);
}

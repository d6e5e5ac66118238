//! The docker CLI and raw HTTP against a daemon of its own: what people and programs see.
//!
//! One file per area, each with its list of cases. Validate expectations against a real dockerd with
//! `GANTRY_TEST_DAEMON=/usr/sbin/dockerd cargo test -p gantry-testkit --test e2e`; where Gantry differs on
//! purpose the case asks `cx.is_gantry()` and says why.

mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    testkit::suite::run(&[daemon::CASES])
}

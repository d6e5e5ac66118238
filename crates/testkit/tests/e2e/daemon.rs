//! The daemon itself.

use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![ping];

fn ping(cx: &Cx<'_>) {
    cx.docker(&["run", "--rm", "busybox", "true"]).ok();
}

//! `cargo xtask census`: what an engine may leave behind, as it is on this machine now.
//!
//! Take it before and after, and compare: `cargo xtask census > before`.

use crate::shell::say;
use anyhow::Result;
use std::path::Path;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let dirs: Vec<&Path> = args.iter().map(Path::new).collect();
    for line in testkit::Census::take(&dirs).lines() {
        say(line);
    }
    Ok(())
}

//! The registry's program: `gantry-registry`, which `gantry registry` starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    registry::commands::run(std::env::args_os())
}

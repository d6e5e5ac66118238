//! Commands, formats, progress.

use std::process::ExitCode;

/// Runs the command line; `arguments` are without the program's name.
pub fn main(arguments: Vec<String>) -> ExitCode {
    eprintln!("gantry: unknown command: {}", arguments.join(" "));
    ExitCode::from(125)
}

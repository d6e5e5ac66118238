//! What a call says: results on standard output, errors on standard error and in the log that it was given.

use crate::container::{Step, Tried};
use base::Timestamp;
use runtime::shim::StartError;
use std::{
    fs::File,
    io::{self, Write as _},
};

/// Where errors go besides standard error.
#[derive(Debug, Default)]
pub(super) struct Log {
    file: Option<File>,
    json: bool,
}

impl Log {
    /// Opens the file that `--log` names.
    pub(super) fn new(path: Option<&str>, format: Option<&str>) -> Step<Self> {
        let json = match format.unwrap_or("text") {
            "text" => false,
            "json" => true,
            other => {
                return Err(StartError::setup(format!("invalid log-format: {other}")));
            }
        };
        let open = |path: &str| {
            let file = File::options().create(true).append(true).open(path);
            file.tried(|| format!("open {path}"))
        };
        Ok(Self { file: path.map(open).transpose()?, json })
    }

    /// Says what went wrong.
    pub(super) fn error(&mut self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
        let Some(file) = &mut self.file else { return };
        let time = Timestamp::now().to_string();
        let line = if self.json {
            serde_json::json!({"level": "error", "msg": text, "time": time}).to_string()
        } else {
            format!("time={time:?} level=error msg={text:?}")
        };
        let _ = writeln!(file, "{line}");
    }
}

/// Writes to standard output.
pub(super) fn say(text: &str) {
    // Nobody is left who would read a complaint.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Says what went wrong without being the call's own failure.
pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "warning: {text}");
}

//! How a build is shown while it runs: on a terminal in place, else line by line, or as the engine tells it.

mod plain;
mod raw;
mod tty;

use super::wire::{control, nanos};
use crate::error::{Fail, Result};
use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write},
};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Tty,
    Raw,
    Quiet,
}

impl Mode {
    /// `--progress`, else `BUILDKIT_PROGRESS`, else by where standard error goes.
    pub(super) fn choose(asked: Option<&str>, quiet: bool) -> Result<Self> {
        if quiet {
            return Ok(Self::Quiet);
        }
        let variable = std::env::var("BUILDKIT_PROGRESS").ok();
        match asked.or(variable.as_deref()).unwrap_or_default() {
            "" | "auto" if io::stderr().is_terminal() => Ok(Self::Tty),
            "tty" if !io::stderr().is_terminal() => {
                Err(Fail::new("failed to get console: standard error is no terminal"))
            }
            "tty" => Ok(Self::Tty),
            "" | "auto" | "plain" => Ok(Self::Plain),
            "rawjson" => Ok(Self::Raw),
            "quiet" | "none" => Ok(Self::Quiet),
            other => Err(Fail::new(format!(
                "invalid progress mode {other:?}: auto, plain, quiet, rawjson or tty"
            ))),
        }
    }
}

/// Something that shows what the engine tells.
pub(super) trait Show {
    /// Shows what is new.
    fn told(
        &mut self,
        steps: &Steps,
        new: &control::StatusResponse,
        out: &mut dyn Write,
    ) -> io::Result<()>;

    /// Nothing was told for a moment.
    fn tick(&mut self, _: &Steps, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Nothing more will be told.
    fn end(&mut self, steps: &Steps, out: &mut dyn Write) -> io::Result<()>;
}

/// The display of a mode.
pub(super) fn display(mode: Mode) -> Box<dyn Show + std::marker::Send> {
    match mode {
        Mode::Plain => Box::new(plain::Plain::default()),
        Mode::Tty => Box::new(tty::Tty::default()),
        Mode::Raw => Box::new(raw::Raw),
        Mode::Quiet => Box::new(Silent),
    }
}

struct Silent;

impl Show for Silent {
    fn told(
        &mut self,
        _: &Steps,
        _: &control::StatusResponse,
        _: &mut dyn Write,
    ) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &Steps, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// One thing within a step: a download, an export.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) current: i64,
    pub(super) total: i64,
    pub(super) done: bool,
}

impl Item {
    /// `NAME 1.2MB / 3MB`.
    pub(super) fn shown(&self) -> String {
        let size = |bytes: i64| base::units::human_size(bytes.max(0) as f64);
        let done = if self.done { " done" } else { "" };
        match (self.current, self.total) {
            (0, 0) => format!("{}{done}", self.name),
            (current, 0) => format!("{} {}{done}", self.name, size(current)),
            (current, total) => format!("{} {} / {}{done}", self.name, size(current), size(total)),
        }
    }
}

/// A step, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) vertex: control::Vertex,
    /// The last lines that it printed, and the piece of a line behind them.
    pub(super) lines: Vec<String>,
    pub(super) open: String,
    pub(super) items: Vec<Item>,
}

impl Step {
    /// How long it has taken, at `now`; times are nanoseconds.
    pub(super) fn seconds(&self, now: i128) -> f64 {
        let Some(started) = &self.vertex.started else { return 0.0 };
        let end = self.vertex.completed.as_ref().map_or(now, nanos);
        (end - nanos(started)).max(0) as f64 / 1e9
    }

    pub(super) fn is_done(&self) -> bool {
        self.vertex.completed.is_some()
    }

    pub(super) fn runs(&self) -> bool {
        self.vertex.started.is_some() && !self.is_done()
    }
}

/// Lines kept of a step, for displays and for the end of one that failed.
const LINES: usize = 50;

/// All steps, in the order in which they were told.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) all: Vec<Step>,
    numbers: HashMap<String, usize>,
    pub(super) warnings: Vec<control::VertexWarning>,
}

impl Steps {
    /// The number of a step, from 0.
    pub(super) fn number(&self, digest: &str) -> Option<usize> {
        self.numbers.get(digest).copied()
    }

    /// Takes in what was told.
    pub(super) fn take(&mut self, told: &control::StatusResponse) {
        for vertex in &told.vertexes {
            let number = *self.numbers.entry(vertex.digest.clone()).or_insert_with(|| {
                self.all.push(Step::default());
                self.all.len() - 1
            });
            self.all[number].vertex = vertex.clone();
        }
        for status in &told.statuses {
            let Some(number) = self.number(&status.vertex) else { continue };
            let items = &mut self.all[number].items;
            let item = Item {
                name: if status.name.is_empty() { status.id.clone() } else { status.name.clone() },
                current: status.current,
                total: status.total,
                done: status.completed.is_some(),
            };
            match items.iter_mut().find(|i| i.name == item.name) {
                Some(known) => *known = item,
                None => items.push(item),
            }
        }
        for log in &told.logs {
            let Some(number) = self.number(&log.vertex) else { continue };
            let step = &mut self.all[number];
            for piece in String::from_utf8_lossy(&log.msg).split_inclusive('\n') {
                step.open.push_str(piece.trim_end_matches('\n'));
                if piece.ends_with('\n') {
                    step.lines.push(std::mem::take(&mut step.open));
                }
            }
            let over = step.lines.len().saturating_sub(LINES);
            step.lines.drain(..over);
        }
        self.warnings.extend(told.warnings.iter().cloned());
    }

    /// The step that failed, if one did.
    pub(super) fn failed(&self) -> Option<&Step> {
        let cancelled = |s: &Step| s.vertex.error.contains("context canceled");
        self.all.iter().find(|s| !s.vertex.error.is_empty() && !cancelled(s))
    }
}

/// Now, in nanoseconds since 1970.
pub(super) fn now() -> i128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::buildkit) fn at(
        seconds: i64,
    ) -> Option<bollard_buildkit_proto::google::protobuf::Timestamp> {
        Some(bollard_buildkit_proto::google::protobuf::Timestamp { seconds, nanos: 0 })
    }

    pub(in crate::buildkit) fn vertex(digest: &str, name: &str) -> control::Vertex {
        control::Vertex { digest: digest.into(), name: name.into(), ..Default::default() }
    }

    pub(in crate::buildkit) fn log(
        digest: &str,
        at_second: i64,
        text: &str,
    ) -> control::StatusResponse {
        let log = control::VertexLog {
            vertex: digest.into(),
            timestamp: at(at_second),
            stream: 1,
            msg: text.as_bytes().to_vec(),
        };
        control::StatusResponse { logs: vec![log], ..Default::default() }
    }

    #[test]
    fn lines_are_put_together_and_bounded() {
        let mut steps = Steps::default();
        let vertexes = vec![vertex("a", "one")];
        steps.take(&control::StatusResponse { vertexes, ..Default::default() });
        steps.take(&log("a", 1, "half"));
        steps.take(&log("a", 1, " and half\nnext"));
        assert_eq!(
            (steps.all[0].lines.as_slice(), steps.all[0].open.as_str()),
            (&["half and half".to_owned()][..], "next")
        );
        steps.take(&log("a", 1, &"x\n".repeat(500)));
        assert_eq!(steps.all[0].lines.len(), LINES);
        steps.take(&log("unknown", 1, "x\n"));
    }
}

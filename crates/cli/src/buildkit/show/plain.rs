//! Line by line: `#3 [2/4] RUN make`, what the step prints with its seconds before it, `#3 DONE 1.2s`.

use super::{Item, Show, Steps};
use crate::buildkit::wire::{control, nanos};
use std::{
    collections::HashMap,
    io::{self, Write},
};

/// What has been written.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// By step: its heading is there, it has ended, a piece of a line waits for its end.
    written: HashMap<usize, Written>,
    /// The step that was written of last, from 1.
    last: Option<usize>,
}

#[derive(Debug, Default)]
struct Written {
    ended: bool,
    open: String,
    items: HashMap<String, bool>,
}

impl Plain {
    fn heading(&mut self, number: usize, steps: &Steps, out: &mut dyn Write) -> io::Result<()> {
        let is_new = !self.written.contains_key(&number);
        self.written.entry(number).or_default();
        if self.last == Some(number) {
            return Ok(());
        }
        if self.last.is_some() {
            writeln!(out)?;
        }
        self.last = Some(number);
        let name = steps.all[number].vertex.name.replace('\n', " ");
        match is_new {
            true => writeln!(out, "#{} {name}", number + 1),
            // Told again when others came between.
            false => writeln!(out, "#{} ... {name}", number + 1),
        }
    }

    fn item(
        &mut self,
        number: usize,
        item: &Item,
        steps: &Steps,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let known = self.written.get(&number).and_then(|w| w.items.get(&item.name).copied());
        if known == Some(true) || (known == Some(false) && !item.done) {
            return Ok(());
        }
        self.heading(number, steps, out)?;
        if let Some(written) = self.written.get_mut(&number) {
            written.items.insert(item.name.clone(), item.done);
        }
        writeln!(out, "#{} {}", number + 1, item.shown())
    }
}

impl Show for Plain {
    fn told(
        &mut self,
        steps: &Steps,
        new: &control::StatusResponse,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for vertex in new.vertexes.iter().filter(|v| v.started.is_some()) {
            let Some(number) = steps.number(&vertex.digest) else { continue };
            if !self.written.contains_key(&number) {
                self.heading(number, steps, out)?;
            }
        }
        for status in &new.statuses {
            let Some(number) = steps.number(&status.vertex) else { continue };
            let name = if status.name.is_empty() { &status.id } else { &status.name };
            let item = steps.all[number].items.iter().find(|i| i.name == *name).cloned();
            if let Some(item) = item {
                self.item(number, &item, steps, out)?;
            }
        }
        for log in &new.logs {
            let Some(number) = steps.number(&log.vertex) else { continue };
            self.heading(number, steps, out)?;
            let started = steps.all[number].vertex.started.as_ref().map_or(0, nanos);
            let at = log.timestamp.as_ref().map_or(started, nanos);
            let seconds = (at - started).max(0) as f64 / 1e9;
            let written = self.written.entry(number).or_default();
            for piece in String::from_utf8_lossy(&log.msg).split_inclusive('\n') {
                written.open.push_str(piece);
                if piece.ends_with('\n') {
                    let line = std::mem::take(&mut written.open);
                    write!(out, "#{} {seconds:.3} {line}", number + 1)?;
                }
            }
        }
        for vertex in new.vertexes.iter().filter(|v| v.completed.is_some()) {
            let Some(number) = steps.number(&vertex.digest) else { continue };
            if self.written.get(&number).is_some_and(|w| w.ended) {
                continue;
            }
            self.heading(number, steps, out)?;
            let written = self.written.entry(number).or_default();
            written.ended = true;
            let open = std::mem::take(&mut written.open);
            let id = number + 1;
            if !open.is_empty() {
                writeln!(out, "#{id} {open}")?;
            }
            let step = &steps.all[number];
            let end = match (vertex.error.as_str(), vertex.cached) {
                ("", true) => "CACHED".to_owned(),
                ("", false) => format!("DONE {:.1}s", step.seconds(0)),
                (error, _) if error.contains("context canceled") => "CANCELED".to_owned(),
                (error, _) => format!("ERROR: {error}"),
            };
            writeln!(out, "#{id} {end}")?;
        }
        out.flush()
    }

    fn end(&mut self, _: &Steps, out: &mut dyn Write) -> io::Result<()> {
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildkit::show::tests::{at, log, vertex};

    #[test]
    fn steps_are_told_with_their_output() {
        let (mut steps, mut plain, mut out) = (Steps::default(), Plain::default(), Vec::new());
        let mut tell = |told: control::StatusResponse| {
            steps.take(&told);
            plain.told(&steps, &told, &mut out).unwrap();
        };
        let of = |vertexes| control::StatusResponse { vertexes, ..Default::default() };
        let mut one = vertex("a", "[1/2] RUN one");
        let mut two = vertex("b", "[2/2] RUN two");
        tell(of(vec![one.clone(), two.clone()]));
        one.started = at(10);
        tell(of(vec![one.clone()]));
        tell(log("a", 11, "said\nhal"));
        two.started = at(12);
        two.completed = at(12);
        two.cached = true;
        tell(of(vec![two]));
        tell(log("a", 12, "f\n"));
        one.completed = at(13);
        one.error = "it broke".into();
        tell(of(vec![one]));
        let text = String::from_utf8(out).unwrap();
        let want = "#1 [1/2] RUN one\n#1 1.000 said\n\n#2 [2/2] RUN two\n#2 CACHED\n\n#1 ... [1/2] RUN one\n#1 2.000 half\n#1 ERROR: it broke\n";
        assert_eq!(text, want);
    }
}

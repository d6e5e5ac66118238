//! On a terminal: what is done, what runs with its last lines, written again in place as it changes.

use super::{Show, Step, Steps, now};
use crate::{buildkit::wire::control, term};
use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

/// How often the screen changes at most.
const FRAME: Duration = Duration::from_millis(100);
/// Lines of output under a step that runs.
const TAIL: usize = 6;

#[derive(Debug, Default)]
pub(super) struct Tty {
    /// Lines of the last frame, which are written over.
    lines: usize,
    drawn: Option<Instant>,
}

impl Show for Tty {
    fn told(
        &mut self,
        steps: &Steps,
        _: &control::StatusResponse,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self.drawn {
            Some(drawn) if drawn.elapsed() < FRAME => Ok(()),
            _ => self.tick(steps, out),
        }
    }

    fn tick(&mut self, steps: &Steps, out: &mut dyn Write) -> io::Result<()> {
        self.drawn = Some(Instant::now());
        let (rows, columns) = screen();
        let frame = frame(steps, now(), rows, columns);
        self.draw(&frame, out)
    }

    fn end(&mut self, steps: &Steps, out: &mut dyn Write) -> io::Result<()> {
        // All of it stays on the screen, however high that is.
        let frame = frame(steps, now(), usize::MAX, screen().1);
        self.draw(&frame, out)
    }
}

impl Tty {
    fn draw(&mut self, frame: &[String], out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        if self.lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.lines));
        }
        text.push('\r');
        for line in frame {
            text.push_str(line);
            text.push_str("\x1b[K\r\n");
        }
        // What a longer frame left below.
        text.push_str("\x1b[J");
        self.lines = frame.len();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Rows and columns; a terminal that does not tell has the usual ones.
fn screen() -> (usize, usize) {
    match term::size() {
        (0, _) | (_, 0) => (24, 80),
        (rows, columns) => (rows.into(), columns.into()),
    }
}

/// The lines that show `steps` on a screen of this size.
fn frame(steps: &Steps, now: i128, rows: usize, columns: usize) -> Vec<String> {
    let begun: Vec<&Step> = steps.all.iter().filter(|s| s.vertex.started.is_some()).collect();
    let done = begun.iter().filter(|s| s.is_done()).count();
    let first = begun.iter().filter_map(|s| s.vertex.started.as_ref()).map(super::nanos).min();
    let running = begun.iter().any(|s| s.runs());
    let last = begun.iter().filter_map(|s| s.vertex.completed.as_ref()).map(super::nanos).max();
    let end = if running || last.is_none() { now } else { last.unwrap_or(now) };
    let seconds = first.map_or(0.0, |first| (end - first).max(0) as f64 / 1e9);
    let state = if !running && done == begun.len() && done > 0 { "FINISHED" } else { "" };
    let head = format!("[+] Building {seconds:.1}s ({done}/{}) {state}", steps.all.len());
    let mut blocks: Vec<(bool, Vec<String>)> = Vec::new();
    for step in begun {
        blocks.push((step.runs(), block(step, now, columns)));
    }
    let mut height: usize = blocks.iter().map(|b| b.1.len()).sum::<usize>() + 1;
    // What is done goes first when there is no room, the oldest before the others.
    let room = rows.saturating_sub(1).max(3);
    let mut hidden = 0;
    blocks.retain(|(runs, lines)| {
        let stays = *runs || height < room;
        if !stays {
            height -= lines.len();
            hidden += 1;
        }
        stays
    });
    let mut lines = vec![fit(head.trim_end(), columns)];
    lines.extend(blocks.into_iter().flat_map(|b| b.1));
    lines.truncate(room);
    lines
}

fn block(step: &Step, now: i128, columns: usize) -> Vec<String> {
    let vertex = &step.vertex;
    let sign = match (vertex.error.as_str(), vertex.cached, step.is_done()) {
        ("", true, true) => "=> CACHED",
        ("", _, _) => "=>",
        (error, _, _) if error.contains("context canceled") => "=> CANCELED",
        _ => "=> ERROR",
    };
    let time = format!("{:.1}s", step.seconds(now));
    let name = format!(" {sign} {}", vertex.name.replace('\n', " "));
    let room = columns.saturating_sub(time.len() + 1);
    let name = fit(&name, room);
    let gap = room.saturating_sub(name.chars().count());
    let mut lines = vec![format!("{name}{} {time}", " ".repeat(gap))];
    if step.runs() {
        for item in step.items.iter().filter(|i| !i.done) {
            lines.push(fit(&format!(" => => {}", item.shown()), columns));
        }
        let open = (!step.open.is_empty()).then_some(&step.open);
        let all: Vec<&String> = step.lines.iter().chain(open).collect();
        for line in &all[all.len().saturating_sub(TAIL)..] {
            lines.push(fit(&format!(" => => # {}", plain(line)), columns));
        }
    }
    lines
}

/// A line of a step without what would move the cursor.
fn plain(line: &str) -> String {
    let last = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::new();
    let mut letters = last.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                if letters.next_if_eq(&'[').is_some() {
                    while letters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
            }
            '\t' => out.push_str("    "),
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

fn fit(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildkit::show::tests::{at, log, vertex};

    #[test]
    fn a_frame_fits_its_screen() {
        let mut steps = Steps::default();
        let mut vertexes = Vec::new();
        for number in 0..30 {
            let mut step = vertex(&number.to_string(), &format!("[{number}/30] RUN make"));
            step.started = at(10);
            if number < 29 {
                step.completed = at(11);
            }
            vertexes.push(step);
        }
        steps.take(&control::StatusResponse { vertexes, ..Default::default() });
        steps.take(&log("29", 11, "a\x1b[31mb\x1b[0m\tc\n50%\r60%\r\n"));
        let small = frame(&steps, 15_000_000_000, 10, 40);
        assert!(small.len() <= 9 && small.iter().all(|l| l.chars().count() <= 40), "{small:?}");
        assert_eq!(small[0], "[+] Building 5.0s (29/30)");
        assert!(small.iter().any(|l| l.contains("[29/30] RUN make") && l.ends_with(" 5.0s")));
        assert!(small.contains(&" => => # ab    c".to_owned()), "{small:?}");
        assert!(small.contains(&" => => # 60%".to_owned()), "{small:?}");
        assert_eq!(frame(&steps, 15_000_000_000, usize::MAX, 40).len(), 33);
    }
}

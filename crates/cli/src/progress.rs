//! Streams of JSON messages (build, load, pull, import): text as it comes, errors at the end.

use crate::{
    error::{Fail, Result},
    ui::Ui,
};
use api::model::JsonMessage;
use std::io::{BufRead, BufReader, Read, Write};

/// How much of a stream is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    All,
    Nothing,
}

/// Reads messages to the end, prints them, and hands `aux` values to `aux`.
pub(crate) fn messages(
    ui: &mut Ui,
    body: impl Read,
    show: Show,
    mut aux: impl FnMut(&serde_json::Value),
) -> Result<()> {
    const LONGEST: u64 = 64 << 20;
    let mut reader = BufReader::with_capacity(64 * 1024, body);
    // Lines on a terminal by id, to write each again in its place.
    let mut screen: Vec<String> = Vec::new();
    let terminal = ui.out_is_terminal();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message: JsonMessage = serde_json::from_slice(&line)
            .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
        if !message.error.is_empty() {
            ui.out.flush()?;
            let code = message.error_detail.as_ref().map_or(0, |d| d.code);
            let code = i32::try_from(code).ok().filter(|c| (1..=255).contains(c)).unwrap_or(1);
            return Err(Fail::new(message.error).with_code(code));
        }
        if let Some(value) = &message.aux {
            aux(value);
        }
        if show == Show::Nothing {
            continue;
        }
        if !message.stream.is_empty() {
            ui.out.write_all(message.stream.as_bytes())?;
        } else if !message.status.is_empty() {
            status(ui, &message, terminal, &mut screen)?;
        }
        if reader.buffer().is_empty() {
            ui.out.flush()?;
        }
    }
}

fn status(
    ui: &mut Ui,
    message: &JsonMessage,
    terminal: bool,
    screen: &mut Vec<String>,
) -> Result<()> {
    let mut text = String::new();
    if !message.id.is_empty() {
        text.push_str(&format!("{}: ", message.id));
    }
    text.push_str(&message.status);
    let detail = message.progress_detail.clone().unwrap_or_default();
    let moving = detail.current > 0 || detail.total > 0;
    if !terminal {
        // Without a terminal only what begins and ends is told.
        if !moving {
            writeln!(ui.out, "{text}")?;
        }
        return Ok(());
    }
    if moving {
        text.push_str(&format!(" {}", bar(detail.current, detail.total)));
    }
    if message.id.is_empty() {
        screen.clear();
        writeln!(ui.out, "{text}")?;
        return Ok(());
    }
    match screen.iter().position(|id| *id == message.id) {
        Some(at) => {
            let up = screen.len() - at;
            write!(ui.out, "\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B")?;
        }
        None => {
            screen.push(message.id.clone());
            writeln!(ui.out, "{text}")?;
        }
    }
    Ok(ui.out.flush()?)
}

/// `[=====>     ]  1.2MB/10MB`.
fn bar(current: i64, total: i64) -> String {
    let done = base::units::human_size(current.max(0) as f64);
    if total <= 0 {
        return done;
    }
    let part = (current.clamp(0, total) as f64 / total as f64 * 50.0) as usize;
    let arrow = if part < 50 { ">" } else { "" };
    let all = base::units::human_size(total as f64);
    let rest = 50_usize.saturating_sub(part + arrow.len());
    format!("[{}{arrow}{}] {done:>8}/{all}", "=".repeat(part), " ".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!(bar(0, 0), "0B");
        assert_eq!(bar(5, 10), format!("[{}>{}]       5B/10B", "=".repeat(25), " ".repeat(24)));
        assert_eq!(bar(99, 10), format!("[{}]      99B/10B", "=".repeat(50)));
    }
}

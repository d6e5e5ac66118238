//! Lines of several containers side by side, each with its name in front.

use super::engine::Engine;
use crate::{client::Query, error::Result, http::Response};
use api::model::ContainerSummary;
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read, Write},
    sync::{Mutex, PoisonError},
};

/// How lines are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub prefix: bool,
    pub color: bool,
    pub timestamps: bool,
}

/// Prints whole lines.
#[derive(Debug)]
pub(crate) struct Printer {
    style: Style,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    width: usize,
    colors: BTreeMap<String, usize>,
}

/// Which of our outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Out,
    Err,
}

const COLORS: &[&str] = &["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// A container's name without the project's in front.
pub(crate) fn short_name(container: &ContainerSummary, project: &str) -> String {
    let name = compose::name_of(container);
    let rest = name.strip_prefix(project).and_then(|r| r.strip_prefix(['-', '_']));
    rest.unwrap_or(name).to_owned()
}

impl Printer {
    pub(crate) fn new(style: Style, names: impl IntoIterator<Item = String>) -> Self {
        let color = style.color && std::io::stdout().is_terminal();
        let printer = Self { style: Style { color, ..style }, names: Mutex::new(Names::default()) };
        for name in names {
            printer.register(&name);
        }
        printer
    }

    fn register(&self, name: &str) -> (usize, usize) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.width = names.width.max(name.chars().count());
        let next = names.colors.len();
        let color = *names.colors.entry(name.to_owned()).or_insert(next);
        (names.width, color)
    }

    /// Prints one line.
    pub(crate) fn line(&self, name: &str, to: To, text: &str) -> Result<()> {
        let (width, color) = self.register(name);
        let mut front = String::new();
        if self.style.prefix {
            let pad = width.saturating_sub(name.chars().count());
            front = format!("{name}{}  | ", " ".repeat(pad));
            if self.style.color {
                let code = COLORS[color % COLORS.len()];
                front = format!("\x1b[{code}m{front}\x1b[0m");
            }
        }
        if self.style.timestamps {
            front.push_str(&format!("{} ", base::Timestamp::now().fixed_nano()));
        }
        // In one piece, so that lines of others do not come between.
        let line = format!("{front}{text}\n");
        match to {
            To::Out => std::io::stdout().write_all(line.as_bytes())?,
            To::Err => std::io::stderr().write_all(line.as_bytes())?,
        }
        Ok(())
    }

    /// Says something about a container.
    pub(crate) fn status(&self, name: &str, text: &str) -> Result<()> {
        let line = format!("{name} {text}\n");
        Ok(std::io::stdout().write_all(line.as_bytes())?)
    }

    /// Prints a stream to its end.
    pub(crate) fn stream(&self, name: &str, tty: bool, body: impl Read) -> Result<()> {
        let mut parts = Parts::new(tty, body);
        let mut rest: [Vec<u8>; 2] = Default::default();
        while let Some((to, bytes)) = parts.next()? {
            let held = &mut rest[usize::from(to == To::Err)];
            held.extend_from_slice(&bytes);
            while let Some(end) = held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                self.line(name, to, text.trim_end_matches(['\n', '\r']))?;
            }
        }
        for (to, held) in [To::Out, To::Err].into_iter().zip(rest) {
            if !held.is_empty() {
                self.line(name, to, &String::from_utf8_lossy(&held))?;
            }
        }
        Ok(())
    }
}

/// Pieces of a container's output with where they belong.
struct Parts<R> {
    tty: bool,
    body: R,
}

impl<R: Read> Parts<R> {
    fn new(tty: bool, body: R) -> Self {
        Self { tty, body }
    }

    fn next(&mut self) -> Result<Option<(To, Vec<u8>)>> {
        if self.tty {
            let mut buffer = vec![0; 32 * 1024];
            let n = self.body.read(&mut buffer)?;
            buffer.truncate(n);
            return Ok((n > 0).then_some((To::Out, buffer)));
        }
        let mut head = [0; 8];
        match self.body.read_exact(&mut head) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        const LONGEST: u32 = 64 << 20;
        let mut bytes = Vec::new();
        self.body.by_ref().take(length.min(LONGEST).into()).read_to_end(&mut bytes)?;
        let to = if head[0] == 2 { To::Err } else { To::Out };
        Ok(Some((to, bytes)))
    }
}

impl Engine {
    /// A container's log.
    pub(crate) fn logs(&self, id: &str, query: Query) -> Result<Response> {
        let query = query.flag("stdout", true).flag("stderr", true);
        Ok(self.client.get_stream(&format!("/containers/{id}/logs"), &query)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parted_by_stream() {
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 2];
        bytes.extend(b"ab");
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend(b"c");
        let mut parts = Parts::new(false, bytes.as_slice());
        assert_eq!(parts.next().unwrap(), Some((To::Out, b"ab".to_vec())));
        assert_eq!(parts.next().unwrap(), Some((To::Err, b"c".to_vec())));
        assert_eq!(parts.next().unwrap(), None);
    }
}

//! The user's terminal: raw mode that is always taken back, its size, and the keys that detach.

use crate::error::{Fail, Result};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal};

/// Standard input in raw mode, until dropped.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Switches, if standard input is a terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let saved = termios::tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(saved)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Standard input without echo, until dropped.
#[derive(Debug)]
pub(crate) struct Hidden(Termios);

impl Hidden {
    /// Switches the echo off, if standard input is a terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let saved = termios::tcgetattr(&stdin)?;
        let mut hidden = saved.clone();
        hidden.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
        Ok(Some(Self(saved)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Rows and columns of the terminal, zeros without one.
pub(crate) fn size() -> (u16, u16) {
    termios::tcgetwinsize(io::stdout())
        .or_else(|_| termios::tcgetwinsize(io::stdin()))
        .map_or((0, 0), |s| (s.ws_row, s.ws_col))
}

/// Recognises the detach sequence in what is typed.
#[derive(Debug)]
pub(crate) struct Detach {
    keys: Vec<u8>,
    seen: usize,
}

impl Detach {
    /// Reads `ctrl-p,ctrl-q`; empty means that default.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let key = |word: &str| {
            let mut letters = word.chars();
            match (word.strip_prefix("ctrl-"), letters.next(), letters.next()) {
                (Some(rest), _, _) if rest.len() == 1 => {
                    let byte = rest.as_bytes()[0].to_ascii_lowercase();
                    match byte {
                        b'a'..=b'z' => Some(byte - b'a' + 1),
                        b'@' => Some(0),
                        b'[' => Some(27),
                        b'\\' => Some(28),
                        b']' => Some(29),
                        b'^' => Some(30),
                        b'_' => Some(31),
                        _ => None,
                    }
                }
                (None, Some(only), None) => u8::try_from(u32::from(only)).ok(),
                _ => None,
            }
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.ok_or_else(|| Fail::new(format!("invalid detach keys ({text})")))?;
        Ok(Self { keys, seen: 0 })
    }

    /// What of `typed` goes on to the container, and whether the sequence is complete.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            // What was held back was no sequence; this key may begin one.
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys.first() == Some(byte));
            if self.seen == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_sequence_is_held_back() {
        let mut keys = Detach::parse("").unwrap();
        assert_eq!(keys.pass(b"ab\x10c"), (b"ab\x10c".to_vec(), false));
        assert_eq!(keys.pass(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.pass(b"\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.pass(b"\x11rest"), (Vec::new(), true));
        let mut keys = Detach::parse("ctrl-a,d").unwrap();
        assert_eq!(keys.pass(b"\x01d"), (Vec::new(), true));
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert!(Detach::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Cuts a stream of chunks into lines, and lines longer than 16 KiB into parts.
//!
//! Invariants: never holds more than [`PART`] bytes; no byte is lost or doubled; parts of one line
//! carry the time of its first part; a part ends between two UTF-8 characters where it can.
//! Source: Moby `daemon/logger/copier.go` (the 16 KiB rule).

use base::Timestamp;

/// Longest piece of a line kept in one record.
pub const PART: usize = 16 * 1024;

/// A piece of output for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes without a line end.
    pub bytes: &'a [u8],
    /// Whether a line end followed.
    pub ended: bool,
    /// When.
    pub at: Timestamp,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    partial_since: Option<Timestamp>,
    last: Timestamp,
}

impl Lines {
    /// Takes a chunk and gives out every piece that is complete.
    ///
    /// # Errors
    /// The first error of `each`; the rest of the chunk is not given out then.
    pub fn feed<E>(
        &mut self,
        mut chunk: &[u8],
        at: Timestamp,
        mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.last = at;
        while !chunk.is_empty() {
            let room = PART - self.pending.len();
            // A line end just behind a full part still leaves that part without one, as in Docker.
            let window = &chunk[..chunk.len().min(room)];
            let (take, ended) = match memchr::memchr(b'\n', window) {
                Some(end) => (end, true),
                None if window.len() == room => (self.cut(window), false),
                None => {
                    self.pending.extend_from_slice(window);
                    return Ok(());
                }
            };
            let bytes = if self.pending.is_empty() {
                &chunk[..take]
            } else {
                self.pending.extend_from_slice(&chunk[..take]);
                &self.pending
            };
            let piece = Piece { bytes, ended, at: self.partial_since.unwrap_or(at) };
            self.partial_since = (!ended).then_some(piece.at);
            let given = each(piece);
            self.pending.clear();
            chunk = &chunk[take + usize::from(ended)..];
            given?;
        }
        Ok(())
    }

    /// Gives out what is left of an unterminated last line.
    pub fn end(&mut self) -> Option<(Vec<u8>, Timestamp)> {
        let at = self.partial_since.take().unwrap_or(self.last);
        (!self.pending.is_empty()).then(|| (std::mem::take(&mut self.pending), at))
    }

    /// How much of `window`, which fills the part, belongs to it: not half a character.
    fn cut(&self, window: &[u8]) -> usize {
        let back = window.iter().rev().take(3).position(|b| b & 0xC0 != 0x80).map_or(0, |n| n + 1);
        if back == 0 || back > window.len() {
            return window.len();
        }
        let lead = window[window.len() - back];
        let wants = match lead {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        let keep = if wants > back { window.len() - back } else { window.len() };
        if keep + self.pending.len() == 0 { window.len() } else { keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for chunk in chunks {
            lines
                .feed(chunk, Timestamp::ZERO, |p| {
                    got.push((p.bytes.to_vec(), p.ended));
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        got.extend(lines.end().map(|(bytes, _)| (bytes, false)));
        got
    }

    #[test]
    fn lines_are_joined_over_chunks() {
        assert_eq!(
            run(&[b"a\nb", b"", b"c\n\nd"]),
            [
                (b"a".to_vec(), true),
                (b"bc".to_vec(), true),
                (b"".to_vec(), true),
                (b"d".to_vec(), false)
            ]
        );
    }

    #[test]
    fn a_full_part_goes_out_without_line_end() {
        let long = vec![b'x'; PART];
        let got = run(&[&long, b"\nnext\n"]);
        assert_eq!(got[0], (long.clone(), false));
        assert_eq!(got[1], (Vec::new(), true));
        assert_eq!(got[2], (b"next".to_vec(), true));
    }

    #[test]
    fn parts_carry_the_time_of_the_first() {
        let mut lines = Lines::default();
        let mut times = Vec::new();
        for second in 1..=3 {
            let chunk = if second == 3 { b"\nb\n".to_vec() } else { vec![b'x'; PART] };
            lines
                .feed(&chunk, Timestamp::from_unix(second, 0), |p| {
                    times.push(p.at.unix());
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        assert_eq!(times, [1, 1, 1, 3]);
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        let mut text = "x".repeat(PART - 1);
        text.push_str("ééé\n");
        let got = run(&[text.as_bytes()]);
        assert_eq!(got[0].0.len(), PART - 1);
        assert_eq!(std::str::from_utf8(&got[1].0), Ok("ééé"));
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost(chunks in proptest::collection::vec(
            proptest::collection::vec(proptest::prop_oneof![proptest::strategy::Just(b'\n'), 0x61u8..0x65, 0x80u8..0xff], 0..20_000), 0..6)) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let mut back = Vec::new();
            for (bytes, ended) in run(&slices) {
                proptest::prop_assert!(bytes.len() <= PART);
                back.extend_from_slice(&bytes);
                if ended { back.push(b'\n'); }
            }
            proptest::prop_assert_eq!(back, chunks.concat());
        }
    }
}

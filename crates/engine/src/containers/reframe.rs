//! Output that its process gives in one form and its client asked for in the other: a terminal's as frames, or frames
//! as bare bytes. Happens when an exec is created with one `Tty` and started with another.
//!
//! Flow: pieces of the stream go in as they come, cut anywhere; out comes what can be said of them so far.
//! Source: Docker's `container/exec` start, which frames by the start's `Tty`.

use super::Stream;
use bytes::{Buf as _, Bytes, BytesMut};

/// Length of a frame's head: the stream's number, three zeros, the length of what follows.
const HEAD: usize = 8;

/// One direction of the change.
#[derive(Debug)]
pub(crate) enum Reframe {
    /// Each piece becomes a frame of standard output.
    Wrap,
    /// Heads are taken away.
    Unwrap {
        /// The beginning of a head that is not whole yet.
        head: BytesMut,
        /// How much of the frame is still to come.
        left: usize,
    },
}

impl Reframe {
    /// To bare bytes, or to frames.
    pub(crate) fn to(raw: bool) -> Self {
        if raw { Self::Unwrap { head: BytesMut::new(), left: 0 } } else { Self::Wrap }
    }

    /// What `bytes` become; nothing when they were a part of a head.
    pub(crate) fn next(&mut self, mut bytes: Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(bytes.len() + HEAD);
        match self {
            Self::Wrap => {
                out.extend_from_slice(&Stream::Stdout.header(bytes.len()));
                out.extend_from_slice(&bytes);
            }
            Self::Unwrap { head, left } => {
                while !bytes.is_empty() {
                    let part = bytes.split_to((*left).min(bytes.len()));
                    *left -= part.len();
                    out.extend_from_slice(&part);
                    head.extend_from_slice(&bytes.split_to((HEAD - head.len()).min(bytes.len())));
                    if head.len() == HEAD {
                        head.advance(HEAD / 2);
                        *left = head.get_u32() as usize;
                    }
                }
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_s_bytes_become_frames_and_bare_again_however_they_are_cut() {
        let mut framed = BytesMut::new();
        let mut wrap = Reframe::to(false);
        for piece in ["one", "", "two and three"] {
            framed.extend_from_slice(&wrap.next(Bytes::from_static(piece.as_bytes())));
        }
        for size in 1..framed.len() {
            let mut unwrap = Reframe::to(true);
            let bare: Vec<u8> = framed
                .chunks(size)
                .flat_map(|part| unwrap.next(Bytes::copy_from_slice(part)))
                .collect();
            assert_eq!(bare, b"onetwo and three", "cut into {size}");
        }
    }
}

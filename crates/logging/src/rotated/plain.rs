//! A record as text: `TIME SE:BYTES`, where S is `o` or `e` for the stream, and E is `n` when a line end
//! followed the bytes and `p` when not. Bytes are kept as they came: there is nothing to escape, because
//! they were cut at line ends.

use super::Decoded;
use crate::Stream;

pub(super) fn encode(out: &mut Vec<u8>, line: &[u8], ended: bool, stream: Stream, time: &str) {
    out.reserve(line.len() + time.len() + 5);
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(match (stream, ended) {
        (Stream::Stdout, true) => b" on:",
        (Stream::Stdout, false) => b" op:",
        (Stream::Stderr, true) => b" en:",
        (Stream::Stderr, false) => b" ep:",
    });
    out.extend_from_slice(line);
    out.push(b'\n');
}

pub(super) fn decode(record: &[u8], text: &mut Vec<u8>) -> Option<Decoded> {
    text.clear();
    // `2006-01-02T15:04:05Z` is the shortest time.
    let end = memchr::memchr(b' ', record).filter(|end| *end >= 20)?;
    let (mark, line) = record[end + 1..].split_first_chunk::<3>()?;
    let (stream, ended) = match mark {
        b"on:" => (Stream::Stdout, true),
        b"op:" => (Stream::Stdout, false),
        b"en:" => (Stream::Stderr, true),
        b"ep:" => (Stream::Stderr, false),
        _ => return None,
    };
    text.extend_from_slice(line);
    if ended {
        text.push(b'\n');
    }
    Some(Decoded { stream, time: 0..end, attrs: None, spare: None })
}

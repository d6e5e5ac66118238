//! One record's JSON: writing it byte for byte as Docker does, and reading it back fast.
//!
//! Docker's writer escapes `"`, `\`, `<`, `>`, `&`, control characters (as `\u00xx`, except `\n` and
//! `\r`), U+2028 and U+2029, and turns each invalid byte into `\ufffd`. Reading takes exactly that form
//! by hand and any other valid JSON through serde.
//! Source: Moby `daemon/logger/jsonfilelog/jsonlog`.

use super::{Decoded, Spare};
use crate::Stream;
use serde::Deserialize;
use std::borrow::Cow;

/// Appends a record with this [`tail`].
pub(super) fn encode(out: &mut Vec<u8>, line: &[u8], ended: bool, tail: &[u8]) {
    out.reserve(line.len() + tail.len() + 8);
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line);
    out.extend_from_slice(if ended { tail } else { &tail[LINE_END.len()..] });
}

const LINE_END: &[u8] = b"\\n";

/// What follows the line, from its end on: the same for all lines of a chunk. `attrs` is a JSON object or empty, `time` is
/// RFC 3339.
pub(super) fn tail(stream: Stream, attrs: &[u8], time: &str) -> Vec<u8> {
    let stream = match stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\"",
    };
    let attrs = if attrs.is_empty() { [b"".as_slice(), b""] } else { [b",\"attrs\":", attrs] };
    [LINE_END, stream, attrs[0], attrs[1], b",\"time\":\"", time.as_bytes(), b"\"}\n"].concat()
}

/// Bytes that go out as they are: printable ASCII without the escaped five.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut b = 0x20;
    while b < 0x80 {
        plain[b] = !matches!(b as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        b += 1;
    }
    plain
};

/// Bytes at the front that go out as they are: eight at a time, then one by one.
pub(super) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is zero; above the first one of a wrong byte may have it too.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let is = |word: u64, byte: u8| zero(word ^ (ONES * u64::from(byte)));
    let (words, _) = bytes.as_chunks::<8>();
    let whole = words.iter().take_while(|word| {
        let word = u64::from_le_bytes(**word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        // `<` and `>` differ in one bit.
        let angle = is(word & !(ONES * 2), b'<');
        (word | control | angle | is(word, b'"') | is(word, b'\\') | is(word, b'&')) & HIGH == 0
    });
    let sure = whole.count() * 8;
    let rest = &bytes[sure..];
    sure + rest.iter().position(|&b| !PLAIN[usize::from(b)]).unwrap_or(rest.len())
}

fn escape(out: &mut Vec<u8>, mut bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while !bytes.is_empty() {
        let run = plain(bytes);
        out.extend_from_slice(&bytes[..run]);
        bytes = &bytes[run..];
        let Some(&b) = bytes.first() else { return };
        let mut used = 1;
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x80 => {
                let (high, low) = (HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => match leading_char(bytes) {
                Some(separator @ ("\u{2028}" | "\u{2029}")) => {
                    out.extend_from_slice(if separator == "\u{2028}" {
                        b"\\u2028"
                    } else {
                        b"\\u2029"
                    });
                    used = separator.len();
                }
                Some(text) => {
                    out.extend_from_slice(text.as_bytes());
                    used = text.len();
                }
                None => out.extend_from_slice(b"\\ufffd"),
            },
        }
        bytes = &bytes[used..];
    }
}

/// The valid character at the front.
fn leading_char(bytes: &[u8]) -> Option<&str> {
    let width = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    std::str::from_utf8(bytes.get(..width)?).ok()
}

/// Reads one record (without its line end) and puts the output bytes into `text`.
pub(super) fn decode(record: &[u8], text: &mut Vec<u8>) -> Option<Decoded> {
    text.clear();
    fast(record, text).or_else(|| slow(record, text))
}

fn fast(record: &[u8], text: &mut Vec<u8>) -> Option<Decoded> {
    let mut at = b"{\"log\":\"".len();
    if !record.starts_with(b"{\"log\":\"") {
        return None;
    }
    loop {
        let stop = at + memchr::memchr2(b'"', b'\\', &record[at..])?;
        text.extend_from_slice(&record[at..stop]);
        at = stop + 1;
        if record[stop] == b'"' {
            break;
        }
        match *record.get(at)? {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            c @ (b'"' | b'\\' | b'/') => text.push(c),
            b'u' => {
                let code = hex4(record.get(at + 1..at + 5)?)?;
                // Surrogates are left to the slow way.
                let c = char::from_u32(u32::from(code))?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 4;
            }
            _ => return None,
        }
        at += 1;
    }
    let rest = &record[at..];
    let stream = if rest.starts_with(b",\"stream\":\"stdout\"") {
        Stream::Stdout
    } else if rest.starts_with(b",\"stream\":\"stderr\"") {
        Stream::Stderr
    } else {
        return None;
    };
    at += b",\"stream\":\"stdout\"".len();
    let mut attrs = None;
    const ATTRS: &[u8] = b",\"attrs\":";
    if record[at..].starts_with(ATTRS) {
        at += ATTRS.len();
        let mut values = serde_json::Deserializer::from_slice(&record[at..])
            .into_iter::<serde::de::IgnoredAny>();
        values.next()?.ok()?;
        attrs = Some(at..at + values.byte_offset());
        at += values.byte_offset();
    }
    const TIME: &[u8] = b",\"time\":\"";
    if !record[at..].starts_with(TIME) {
        return None;
    }
    at += TIME.len();
    let end = record.len().checked_sub(2)?;
    if at > end || &record[end..] != b"\"}" || record[at..end].contains(&b'"') {
        return None;
    }
    Some(Decoded { stream, time: at..end, attrs, spare: None })
}

fn hex4(digits: &[u8]) -> Option<u16> {
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn slow(record: &[u8], text: &mut Vec<u8>) -> Option<Decoded> {
    #[derive(Deserialize)]
    struct Loose<'a> {
        #[serde(borrow, default)]
        log: Cow<'a, str>,
        #[serde(borrow, default)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
        #[serde(default)]
        attrs: Option<Box<serde_json::value::RawValue>>,
    }
    text.clear();
    let loose: Loose<'_> = serde_json::from_slice(record).ok()?;
    text.extend_from_slice(loose.log.as_bytes());
    let stream = if loose.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    let spare =
        Spare { time: loose.time.into_owned(), attrs: loose.attrs.map(|a| a.get().to_owned()) };
    Some(Decoded { stream, time: 0..0, attrs: None, spare: Some(spare) })
}

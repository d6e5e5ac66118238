//! As much of MessagePack as the forward protocol needs.
//!
//! Source: the MessagePack specification.

/// Appends a string.
pub(crate) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..0x100 => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..0x1_0000 => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Appends the head of a list.
pub(crate) fn list(out: &mut Vec<u8>, len: u8) {
    out.push(0x90 | len & 0xf);
}

/// Appends the head of a map.
pub(crate) fn map(out: &mut Vec<u8>, len: usize) {
    match len {
        0..16 => out.push(0x80 | len as u8),
        16..0x1_0000 => {
            out.push(0xde);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Appends a whole number.
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    if let Ok(short) = i32::try_from(number) {
        out.push(0xd2);
        return out.extend_from_slice(&short.to_be_bytes());
    }
    out.push(0xd3);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends the forward protocol's time with nanoseconds.
pub(crate) fn event_time(out: &mut Vec<u8>, seconds: u32, nanos: u32) {
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

/// The value of `ack` in a map of strings; `None` as long as it is not whole.
pub(crate) fn ack(bytes: &[u8]) -> Option<String> {
    let (head, mut rest) = bytes.split_first()?;
    for _ in 0..head & 0xf {
        let (key, after) = take(rest)?;
        let (value, after) = take(after)?;
        if key == b"ack" {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        rest = after;
    }
    None
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let (len, rest) = match head {
        0xa0..=0xbf => (usize::from(head & 0x1f), rest),
        0xd9 | 0xc4 => (usize::from(*rest.first()?), rest.get(1..)?),
        0xda | 0xc5 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_read_when_it_is_whole() {
        let mut bytes = Vec::new();
        map(&mut bytes, 2);
        for part in ["other", "x", "ack", &"k".repeat(40)] {
            text(&mut bytes, part.as_bytes());
        }
        assert_eq!(ack(&bytes), Some("k".repeat(40)));
        assert_eq!(ack(&bytes[..bytes.len() - 1]), None);
        assert_eq!(ack(b""), None);
    }
}

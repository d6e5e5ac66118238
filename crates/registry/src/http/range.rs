//! Byte ranges: of blobs that are read (RFC 9110, one range), of chunks that are uploaded (distribution-spec).

use std::ops::Range;

/// What a `Range` header asks of `size` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole: no header, another unit, or several ranges, which a server may pass over.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that is there.
    Impossible,
}

/// Reads a `Range` header.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((from, to)) = spec.split_once('-') else { return Wanted::Impossible };
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (from.trim(), to.trim()) {
        ("", _) => match number(to) {
            Some(last) if last > 0 => size.saturating_sub(last)..size,
            _ => return Wanted::Impossible,
        },
        (_, "") => match number(from) {
            Some(from) => from..size,
            None => return Wanted::Impossible,
        },
        _ => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => from..to.saturating_add(1).min(size),
            _ => return Wanted::Impossible,
        },
    };
    if range.start < range.end { Wanted::Part(range) } else { Wanted::Impossible }
}

/// Reads the `Content-Range` of a chunk, `START-END` with both included: start and length.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or_default();
    let (start, end) = text.split_once('-')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(start) || !digits(end) {
        return None;
    }
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end).then(|| (start, (end - start).saturating_add(1)))
}

/// `0-(offset - 1)`, as upload answers say how much came; `0-0` when nothing did.
pub(crate) fn received(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (header, want) in [
            ("bytes=500-1499", Wanted::Part(500..1500)),
            ("bytes=500-", Wanted::Part(500..3000)),
            ("bytes=-500", Wanted::Part(2500..3000)),
            ("bytes=2000-5000", Wanted::Part(2000..3000)),
            ("bytes=-5000", Wanted::Part(0..3000)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..3000)),
            ("bytes=500-0", Wanted::Impossible),
            ("bytes=5000-10000", Wanted::Impossible),
            ("bytes=3000-", Wanted::Impossible),
            ("bytes=-0", Wanted::Impossible),
            ("bytes=x-y", Wanted::Impossible),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 3000), want, "{header}");
        }
        assert_eq!(wanted(None, 3), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Impossible);
    }

    #[test]
    fn chunks_are_read_strictly() {
        assert_eq!(chunk("0-9"), Some((0, 10)));
        assert_eq!(chunk("bytes 5-9/20"), Some((5, 5)));
        for bad in ["", "5", "9-5", "-5", "a-b", "0-99999999999999999999"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
        assert_eq!((received(0), received(10)), ("0-0".into(), "0-9".into()));
    }
}

//! PAX records: `length key=value\n`, and what we take from them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};
use sys::root::Time;

use super::Segment;

/// What the records before an entry change about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
    pub(crate) sparse: SparseKeys,
}

/// GNU's keys for sparse files, all three versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct SparseKeys {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    pub(crate) blocks: Option<u64>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) offset: Option<u64>,
}

/// Most segments that a map may have: 16 bytes each.
pub(crate) const SEGMENTS: usize = 1 << 18;

impl Pax {
    /// Reads all records of one extended header.
    ///
    /// # Errors
    /// What is wrong, without the entry's name.
    pub(crate) fn parse(mut data: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        while !data.is_empty() {
            // The padding of some writers.
            if data.iter().all(|b| *b == 0) {
                break;
            }
            let (record, rest) = record(data).ok_or("malformed extended header")?;
            data = rest;
            let at = record.iter().position(|b| *b == b'=').ok_or("malformed extended header")?;
            pax.take(&record[..at], &record[at + 1..])?;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let bad = || format!("malformed {} in its extended header", key.escape_ascii());
        let text = || {
            if value.contains(&0) {
                Err(bad())
            } else {
                Ok((!value.is_empty()).then(|| value.to_vec()))
            }
        };
        let count =
            || if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or_else(bad) };
        match key {
            b"path" => self.path = text()?,
            b"linkpath" => self.link = text()?,
            b"size" => self.size = count()?,
            b"uid" => self.uid = count()?,
            b"gid" => self.gid = count()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
            b"GNU.sparse.major" => self.sparse.major = count()?,
            b"GNU.sparse.minor" => self.sparse.minor = count()?,
            b"GNU.sparse.name" => self.sparse.name = text()?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = count()?,
            b"GNU.sparse.numblocks" => self.sparse.blocks = count()?,
            b"GNU.sparse.offset" => self.sparse.offset = count()?,
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or_else(bad)?;
                let length = decimal(value).ok_or_else(bad)?;
                self.segment(offset, length)?;
            }
            b"GNU.sparse.map" => {
                self.sparse.segments.clear();
                let mut numbers = value.split(|b| *b == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().flatten();
                    self.segment(offset.ok_or_else(bad)?, length.ok_or_else(bad)?)?;
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value).ok_or_else(bad)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if name.is_empty() || name.contains(&0) || name.len() > 255 {
            return None;
        }
        let name = OsStr::from_bytes(name);
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_owned(), value.to_vec()));
        (self.xattrs.len() <= 1024).then_some(())
    }

    fn segment(&mut self, offset: u64, length: u64) -> Result<(), String> {
        if self.sparse.segments.len() >= SEGMENTS {
            return Err("too many parts in its sparse map".into());
        }
        self.sparse.segments.push(Segment { offset, length });
        Ok(())
    }
}

/// Splits the first record off; without its length and newline.
pub(super) fn record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

/// A number without sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `-?digits(.digits)?`, rounded down to the nanosecond.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    let mut inexact = false;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nanos = nanos * 10 + fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
        }
        inexact = fraction.iter().skip(9).any(|b| *b != b'0');
    }
    if !negative {
        return Some(Time { seconds, nanos });
    }
    let nanos = if inexact { nanos + 1 } else { nanos };
    Some(match nanos {
        0 => Time { seconds: -seconds, nanos: 0 },
        nanos => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Appends `length key=value\n` to `out`.
pub(crate) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + digits(length) != length {
        length = body + digits(length);
    }
    out.extend(length.to_string().bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

fn digits(mut number: usize) -> usize {
    let mut count = 1;
    while number >= 10 {
        number /= 10;
        count += 1;
    }
    count
}

/// The form that [`time`] reads.
pub(crate) fn time_text(at: Time) -> String {
    let fraction = |nanos: u32| {
        if nanos == 0 {
            return String::new();
        }
        format!(".{}", format!("{nanos:09}").trim_end_matches('0'))
    };
    if at.seconds >= 0 || at.nanos == 0 {
        return format!("{}{}", at.seconds, fraction(at.nanos));
    }
    // -1.25 s is second -2 and 750,000,000 ns.
    format!("-{}{}", -(at.seconds + 1), fraction(1_000_000_000 - at.nanos))
}

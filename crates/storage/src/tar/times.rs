//! The times in an archive, changed while it streams by: nothing else of it is.

use super::{
    BLOCK,
    header::{Dialect, Header, number},
    padding,
    pax::{self, record},
    reader::{Raw, Reader},
    writer,
};
use base::{Error, Result};
use std::io::{BufReader, Read, Write};

/// What the times become, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Later ones are this one.
    NotAfter(i64),
    /// All are this one.
    Exactly(i64),
}

/// Where GNU's headers have their times of access and change.
const GNU: [std::ops::Range<usize>; 2] = [345..357, 357..369];
const MTIME: std::ops::Range<usize> = 136..148;

impl Times {
    /// What a time in seconds becomes, when it changes; `part` says that there are nanoseconds above it.
    fn change(self, seconds: i64, part: bool) -> Option<i64> {
        match self {
            Self::NotAfter(limit) => {
                (seconds > limit || (seconds == limit && part)).then_some(limit)
            }
            Self::Exactly(time) => (seconds != time || part).then_some(time),
        }
    }
}

/// Copies the archive `input` to `out`, with other times.
///
/// # Errors
/// `Invalid` for a malformed archive; of both streams.
pub fn retime(input: &mut dyn Read, times: Times, out: &mut dyn Write) -> Result<()> {
    let fail = |e| Error::io("cannot write an archive", e);
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, input));
    loop {
        let entry = reader.next()?;
        heads(reader.take_raw(), times, out).map_err(fail)?;
        if entry.is_none() {
            break;
        }
        while reader.remaining() > 0 {
            let piece = reader.fill()?;
            out.write_all(piece).map_err(fail)?;
            let length = piece.len();
            reader.consume(length);
        }
    }
    loop {
        let piece = reader.trailing()?;
        if piece.is_empty() {
            return out.flush().map_err(fail);
        }
        out.write_all(&piece).map_err(fail)?;
    }
}

fn heads(raw: Vec<Raw>, times: Times, out: &mut dyn Write) -> std::io::Result<()> {
    let mut raw = raw.into_iter();
    while let Some(part) = raw.next() {
        let mut block = match part {
            Raw::Block(block) => block,
            Raw::Bytes(bytes) => {
                out.write_all(&bytes)?;
                continue;
            }
        };
        match block[156] {
            b'x' | b'X' => {
                let Some(Raw::Bytes(records)) = raw.next() else { continue };
                extended(&mut block, &records, times, out)?;
            }
            b'g' | b'L' | b'K' | b'V' => out.write_all(&block[..])?,
            _ => {
                plain(&mut block, times);
                out.write_all(&block[..])?;
            }
        }
    }
    Ok(())
}

/// Changes the times in a header of an entry.
fn plain(block: &mut [u8; BLOCK], times: Times) {
    let gnu = Header::check(block).is_some_and(|h| h.dialect() == Dialect::Gnu);
    let fields = std::iter::once(MTIME).chain(GNU.into_iter().filter(|_| gnu));
    let mut changed = false;
    for field in fields {
        // GNU leaves times that it does not say empty.
        let said = field == MTIME || block[field.clone()].iter().any(|b| *b != 0);
        let found = number(&block[field.clone()]).filter(|_| said);
        if let Some(time) = found.and_then(|seconds| times.change(seconds, false)) {
            block[field].copy_from_slice(&writer::time_field(time));
            changed = true;
        }
    }
    if changed {
        writer::sum(block);
    }
}

/// Writes an extended header without the times that change: what follows says them in whole seconds. One that
/// has nothing else to say goes.
fn extended(
    block: &mut [u8; BLOCK],
    padded: &[u8],
    times: Times,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let size = Header::check(block).and_then(|h| h.size()).and_then(|n| usize::try_from(n).ok());
    let all = size.and_then(|size| padded.get(..size)).unwrap_or(padded);
    let (mut rest, mut kept) = (all, Vec::with_capacity(all.len()));
    while let Some((text, after)) = record(rest) {
        let changes = [&b"mtime="[..], b"atime=", b"ctime="]
            .iter()
            .find_map(|key| text.strip_prefix(*key))
            .and_then(pax::time)
            .is_some_and(|t| times.change(t.seconds, t.nanos > 0).is_some());
        if !changes {
            kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    if kept.len() + rest.len() == all.len() {
        out.write_all(&block[..])?;
        return out.write_all(padded);
    }
    if kept.is_empty() {
        return Ok(());
    }
    block[124..136].copy_from_slice(format!("{:011o}\0", kept.len()).as_bytes());
    writer::sum(block);
    out.write_all(&block[..])?;
    kept.resize(kept.len() + padding(kept.len() as u64), 0);
    out.write_all(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tar::{Entry, EntryKind},
        testing::{Smith, gnu_tar},
    };
    use sys::root::Time;

    fn tar(seconds: i64, nanos: u32) -> Vec<u8> {
        let entry = |name: &str, kind, size| Entry {
            kind,
            name: name.into(),
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds, nanos },
            size,
            sparse: None,
            xattrs: vec![("user.x".into(), b"1".to_vec())],
        };
        let long = format!("d/{}", "n".repeat(200));
        let smith = Smith::default().add(&entry("d", EntryKind::Dir, 0), b"");
        let smith = smith.add(&entry(&long, EntryKind::File, 7), b"content");
        smith.add(&Entry { xattrs: Vec::new(), ..entry("z", EntryKind::File, 0) }, b"").end()
    }

    fn changed(tar: &[u8], times: Times) -> Vec<u8> {
        let mut out = Vec::new();
        retime(&mut &tar[..], times, &mut out).unwrap();
        out
    }

    fn entries(tar: &[u8]) -> Vec<Entry> {
        let mut reader = Reader::new(tar);
        let mut all = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            while reader.remaining() > 0 {
                let length = reader.fill().unwrap().len();
                reader.consume(length);
            }
            all.push(entry);
        }
        all
    }

    #[test]
    fn later_times_are_cut_and_nothing_else_changes() {
        let before = tar(2_000_000_000, 5);
        let after = changed(&before, Times::NotAfter(1_700_000_000));
        assert_eq!(after, changed(&tar(1_900_000_000, 0), Times::NotAfter(1_700_000_000)));
        let want: Vec<Entry> = entries(&before)
            .into_iter()
            .map(|e| Entry { mtime: Time { seconds: 1_700_000_000, nanos: 0 }, ..e })
            .collect();
        assert_eq!(entries(&after), want);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        std::fs::write(&file, &after).unwrap();
        let list = gnu_tar(dir.path(), &["--utc", "-tvf", file.to_str().unwrap()]);
        assert!(String::from_utf8(list).unwrap().contains("2023-11-14 22:13 z"));
    }

    #[test]
    fn earlier_times_stay_to_the_byte() {
        for tar in [tar(1_600_000_000, 5), tar(1_700_000_000, 0), tar(-5, 1)] {
            assert_eq!(changed(&tar, Times::NotAfter(1_700_000_000)), tar);
        }
    }

    #[test]
    fn all_times_are_set_and_large_or_negative_ones_too() {
        for time in [0, 1_700_000_000, -1, 1 << 40] {
            let after = changed(&tar(1_600_000_000, 5), Times::Exactly(time));
            let found: Vec<Time> = entries(&after).into_iter().map(|e| e.mtime).collect();
            assert_eq!(found, vec![Time { seconds: time, nanos: 0 }; 3]);
        }
    }

    #[test]
    fn gnu_s_own_times_are_cut() {
        let mut block = [0; BLOCK];
        block[..1].copy_from_slice(b"f");
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"00000000000");
        block[257..265].copy_from_slice(b"ustar  \0");
        for field in [MTIME, GNU[0].clone()] {
            block[field].copy_from_slice(&writer::time_field(2_000_000_000));
        }
        writer::sum(&mut block);
        let after = changed(&[&block[..], &[0; 2 * BLOCK]].concat(), Times::NotAfter(1));
        assert_eq!((number(&after[MTIME]), number(&after[GNU[0].clone()])), (Some(1), Some(1)));
        assert!(after[GNU[1].clone()].iter().all(|b| *b == 0), "what was not said stays so");
        assert_eq!(entries(&after)[0].mtime.seconds, 1);
    }
}

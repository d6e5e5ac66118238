//! Sections of ELF programs by name, 64 and 32 bits, of either byte order.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
};

/// Sections of one program.
const SECTIONS: u16 = 4096;
/// Bytes of the table of names.
const NAMES: u64 = 1 << 20;
/// Bytes of one section.
const SECTION: u64 = 32 << 20;

/// The sections called so, with their bytes; nothing when the file is no ELF program.
pub(super) fn sections<'n>(file: &File, wanted: &[&'n str]) -> Option<Vec<(&'n str, Vec<u8>)>> {
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    if &head[..4] != b"\x7fELF" {
        return None;
    }
    let wide = match head[4] {
        1 => false,
        2 => true,
        _ => return None,
    };
    let number = Numbers { big: head[5] == 2, wide };
    let (table, size, count, names) = match wide {
        true => (number.long(&head, 40)?, 58, 60, 62),
        false => (number.word(&head, 32)?, 46, 48, 50),
    };
    let size = u64::from(number.half(&head, size)?);
    let count = number.half(&head, count)?.min(SECTIONS);
    let names = u64::from(number.half(&head, names)?);
    let least = if wide { 64 } else { 40 };
    if size < least || size > 1024 {
        return None;
    }
    let header = |index: u64| -> Option<(u32, u64, u64)> {
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        file.read_exact_at(&mut bytes, table.checked_add(index.checked_mul(size)?)?).ok()?;
        let name = u32::try_from(number.word(&bytes, 0)?).ok()?;
        match wide {
            true => Some((name, number.long(&bytes, 24)?, number.long(&bytes, 32)?)),
            false => Some((name, number.word(&bytes, 16)?, number.word(&bytes, 20)?)),
        }
    };
    let (_, offset, length) = header(names)?;
    let names = bytes(file, offset, length.min(NAMES)).ok()?;
    let mut found = Vec::new();
    for index in 0..u64::from(count) {
        let Some((name, offset, length)) = header(index) else { break };
        let text = usize::try_from(name).ok().and_then(|at| names.get(at..)).unwrap_or_default();
        let text = text.split(|b| *b == 0).next().unwrap_or_default();
        if let Some(name) = wanted.iter().find(|w| w.as_bytes() == text)
            && length <= SECTION
            && let Ok(bytes) = bytes(file, offset, length)
        {
            found.push((*name, bytes));
        }
    }
    Some(found)
}

fn bytes(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut file = file.try_clone()?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Numbers {
    big: bool,
    wide: bool,
}

impl Numbers {
    fn read<const N: usize>(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let slice: [u8; N] = bytes.get(at..at + N)?.try_into().ok()?;
        let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(match self.big {
            true => slice.iter().fold(0, fold),
            false => slice.iter().rev().fold(0, fold),
        })
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        self.read::<2>(bytes, at).and_then(|n| u16::try_from(n).ok())
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        self.read::<4>(bytes, at)
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<u64> {
        debug_assert!(self.wide);
        self.read::<8>(bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn this_program_has_its_sections() {
        let own = File::open("/proc/self/exe").unwrap();
        let found = sections(&own, &[".comment", ".nothing"]).unwrap();
        let [(".comment", bytes)] = found.as_slice() else { panic!("{found:?}") };
        assert!(!bytes.is_empty());
    }

    #[test]
    fn what_is_no_program_has_none() {
        for text in [
            &b"#!/bin/sh\n"[..],
            b"\x7fELF",
            &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 60]].concat(),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text).unwrap();
            assert!(sections(&file, &[".x"]).is_none_or(|s| s.is_empty()), "{text:?}");
        }
    }
}

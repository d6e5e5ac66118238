//! Maps of sparse files: GNU's old one in header blocks, and 1.0's at the head of the payload.

use super::{BLOCK, Segment, header::number, pax};

/// The four or twenty-one pairs of a block of GNU's old format; stops at the first empty one.
pub(crate) fn pairs(area: &[u8], out: &mut Vec<Segment>) -> Result<(), String> {
    for pair in area.chunks_exact(24) {
        if pair[0] == 0 && pair[12] == 0 {
            return Ok(());
        }
        let read = |field| number(field).and_then(|n| u64::try_from(n).ok());
        let (offset, length) =
            read(&pair[..12]).zip(read(&pair[12..])).ok_or("malformed sparse map")?;
        if out.len() >= pax::SEGMENTS {
            return Err("too many parts in its sparse map".into());
        }
        out.push(Segment { offset, length });
    }
    Ok(())
}

/// Reads the decimal lines of a 1.0 map, fed block by block.
#[derive(Debug, Default)]
pub(crate) struct Map {
    count: Option<u64>,
    pending: Vec<u8>,
    offset: Option<u64>,
    segments: Vec<Segment>,
}

impl Map {
    /// Takes one block; gives the map when it is whole.
    ///
    /// # Errors
    /// What is wrong, without the entry's name.
    pub(crate) fn feed(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Segment>>, String> {
        for byte in block {
            if self.whole() {
                break;
            }
            if *byte != b'\n' {
                self.pending.push(*byte);
                if self.pending.len() > 20 {
                    return Err("malformed sparse map".into());
                }
                continue;
            }
            let number = pax::decimal(&self.pending).ok_or("malformed sparse map")?;
            self.pending.clear();
            match (self.count, self.offset.take()) {
                (None, _) => {
                    if number > pax::SEGMENTS as u64 {
                        return Err("too many parts in its sparse map".into());
                    }
                    self.count = Some(number);
                }
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.segments.push(Segment { offset, length: number }),
            }
        }
        Ok(self.whole().then(|| std::mem::take(&mut self.segments)))
    }

    fn whole(&self) -> bool {
        self.count == Some(self.segments.len() as u64)
    }
}

/// Checks that a map is in order, inside the file and as long as the payload.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(segments: &[Segment], size: u64, payload: u64) -> Result<(), String> {
    let bad = || "its sparse map does not fit its size".to_owned();
    let mut end = 0;
    let mut sum: u64 = 0;
    for segment in segments {
        if segment.offset < end {
            return Err(bad());
        }
        end = segment.offset.checked_add(segment.length).ok_or_else(bad)?;
        sum = sum.checked_add(segment.length).ok_or_else(bad)?;
    }
    if end > size || sum != payload { Err(bad()) } else { Ok(()) }
}

//! One header block: fields, numbers, checksum.

use super::BLOCK;

/// A header block whose checksum fits.
pub(crate) struct Header<'b>(&'b [u8; BLOCK]);

/// Which dialect the block says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

impl<'b> Header<'b> {
    /// Takes a block; `None` when its checksum does not fit.
    pub(crate) fn check(block: &'b [u8; BLOCK]) -> Option<Self> {
        let want = octal(&block[148..156])?;
        let mut unsigned = 8 * u64::from(b' ');
        let mut signed = 8 * i64::from(b' ');
        for byte in block[..148].iter().chain(&block[156..]) {
            unsigned += u64::from(*byte);
            // Some old writers summed signed characters.
            signed += i64::from(*byte as i8);
        }
        (want == unsigned || i64::try_from(want) == Ok(signed)).then_some(Self(block))
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(crate) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Name with ustar's prefix before it.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(crate) fn link(&self) -> &'b [u8] {
        text(&self.0[157..257])
    }

    pub(crate) fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(crate) fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(crate) fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(crate) fn size(&self) -> Option<i64> {
        number(&self.0[124..136])
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    pub(crate) fn device(&self) -> Option<(i64, i64)> {
        if self.dialect() == Dialect::V7 {
            return Some((0, 0));
        }
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }

    /// Bytes 386 to 495: GNU's old sparse map, its flag and the real size.
    pub(crate) fn sparse_area(&self) -> &'b [u8] {
        &self.0[386..495]
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal, or GNU's base-256 when the first bit is set. An empty field is zero.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    // Two's complement with the first bit as a mark.
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        if value >> 55 != if negative { -1 } else { 0 } {
            return None;
        }
        value = (value << 8) | i64::from(byte);
    }
    Some(value)
}

fn octal(field: &[u8]) -> Option<u64> {
    let trimmed = field.split(|b| *b == 0).find(|part| !part.is_empty()).unwrap_or_default();
    let trimmed = trimmed.trim_ascii();
    let mut value: u64 = 0;
    for byte in trimmed {
        if !matches!(byte, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(u64::from(byte - b'0'))?;
    }
    Some(value)
}

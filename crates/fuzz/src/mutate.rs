//! Changes of inputs at random: bits, bytes, numbers at their limits, words of other inputs, repetitions.

/// Marsaglia's xorshift: the same again for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or_default() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or_default()
    }
}

/// What formats give meaning to.
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\0",
    b"$",
    b"${",
    b"}",
    b"#",
    b"<<EOF\n",
    b"../",
    b"/",
    b"//",
    b"@sha256:",
    b"sha256:",
    b"-1",
    b"0",
    b"00",
    b"0x",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"null",
    b"true",
    b"\xff\xfe",
    "\u{feff}".as_bytes(),
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    b"*",
    b"**",
    b"!",
    b"=",
    b".",
    b"\xc0\x0c",
    b"\x1f\x8b",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
];

/// Changes `input` once, maybe with a piece of `other`.
pub(crate) fn once(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    match dice.below(9) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b' ', b'/'][dice.below(7)],
        2 => insert(input, at, WORDS[dice.below(WORDS.len())]),
        3 if !input.is_empty() => {
            let length = 1 + dice.below(1 + (input.len() - at.min(input.len())).min(64));
            input.drain(at..(at + length).min(input.len()));
        }
        4 => {
            let from = dice.below(other.len() + 1);
            let length = dice.below(1 + (other.len() - from).min(512));
            insert(input, at, &other[from..from + length]);
        }
        5 => {
            let from = dice.below(at + 1);
            let piece = input[from..at].to_vec();
            for _ in 0..=dice.below(6) {
                insert(input, at, &piece);
            }
        }
        6 => input.truncate(at),
        7 if at + 8 <= input.len() => {
            let limits = [0, 1, u64::MAX, u64::MAX / 2, 1 << 31, 1 << 32, 1 << 63, 65_535];
            let value = limits[dice.below(8)];
            let width = [1, 2, 4, 8][dice.below(4)];
            let bytes = if dice.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
            input[at..at + width].copy_from_slice(&bytes[..width]);
        }
        _ => {
            let byte = dice.byte();
            insert(input, at, &[byte]);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

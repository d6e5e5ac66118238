//! The xz container (tukaani.org/xz/xz-file-format.txt 1.2.1) over an LZMA2 decoder.
//!
//! Own reading of the container, because every block names its own dictionary size and each must be
//! bounded before memory is taken for it. Streams may follow each other; the index is checked by its CRC
//! only. Not here: BCJ and delta filters, which nothing that writes tar archives uses.

use super::WINDOW_BYTES;
use base::Error;
use lzma_rust2::Lzma2Reader;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const LZMA2: u64 = 0x21;

/// Decoder of a whole xz stream.
pub(super) struct Reader<R> {
    state: State<R>,
    check: Check,
}

enum State<R> {
    /// Before a stream; true when it is the first, which must exist.
    Stream(R, bool),
    /// Before a block or the index.
    Block(R),
    Data(Box<Lzma2Reader<Position<R>>>),
    /// At the end, or broken.
    Ended,
}

/// Running check value of the block.
enum Check {
    None(usize),
    Crc32(flate2::Crc),
    Crc64(u64),
    Sha256(Box<Sha256>),
}

/// Counts the bytes of a block, for its padding.
struct Position<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Position<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { state: State::Stream(source, true), check: Check::None(0) }
    }

    /// Reads a stream header, behind padding of zeros; `None` at the end of input.
    fn stream(&mut self, mut source: R, first: bool) -> io::Result<Option<R>> {
        let mut padding = 0_u64;
        loop {
            match source.fill_buf()? {
                [] if first => return Err(io::ErrorKind::UnexpectedEof.into()),
                [] if !padding.is_multiple_of(4) => return Err(damaged("bad padding")),
                [] => return Ok(None),
                [0, ..] if !first => {
                    source.consume(1);
                    padding += 1;
                }
                _ => break,
            }
        }
        let mut header = [0; 12];
        source.read_exact(&mut header)?;
        let stored = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if header[..6] != MAGIC || !padding.is_multiple_of(4) || crc32(&header[6..8]) != stored {
            return Err(damaged("bad stream header"));
        }
        self.check = match (header[6], header[7]) {
            (0, 0) => Check::None(0),
            (0, 1) => Check::Crc32(flate2::Crc::new()),
            (0, 4) => Check::Crc64(!0),
            (0, 10) => Check::Sha256(Box::default()),
            // Reserved kinds: their sizes are fixed, their values cannot be compared.
            (0, kind @ 2..=15) => Check::None(
                [4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64][usize::from(kind) - 1],
            ),
            _ => return Err(damaged("unknown stream flags")),
        };
        Ok(Some(source))
    }

    /// Reads a block header; at the index, reads to the end of the stream.
    fn block(&mut self, mut source: R) -> io::Result<State<R>> {
        let mut size = [0; 1];
        source.read_exact(&mut size)?;
        if size[0] == 0 {
            index(&mut source)?;
            return Ok(State::Stream(source, false));
        }
        let length = usize::from(size[0]) * 4;
        let mut header = vec![size[0]; length + 4];
        source.read_exact(&mut header[1..])?;
        let (body, stored) = header.split_at(length);
        if crc32(body).to_le_bytes() != *stored {
            return Err(damaged("bad block header"));
        }
        let dictionary = dictionary(&body[1..])?;
        if u64::from(dictionary) > WINDOW_BYTES {
            let text = format!(
                "refusing xz data with a dictionary of {dictionary} bytes, {WINDOW_BYTES} are allowed"
            );
            return Err(io::Error::other(Error::invalid(text)));
        }
        match &mut self.check {
            Check::None(_) => {}
            Check::Crc32(crc) => crc.reset(),
            Check::Crc64(crc) => *crc = !0,
            Check::Sha256(hash) => **hash = Sha256::new(),
        }
        let source = Position { inner: source, bytes: 0 };
        Ok(State::Data(Box::new(Lzma2Reader::new(source, dictionary, None))))
    }

    /// Reads padding and check value behind a block.
    fn block_end(&mut self, data: Lzma2Reader<Position<R>>) -> io::Result<State<R>> {
        let Position { inner: mut source, bytes } = data.into_inner();
        let mut padding = [0; 3];
        let padding = &mut padding[..((4 - bytes % 4) % 4) as usize];
        source.read_exact(padding)?;
        let found: Vec<u8> = match &self.check {
            Check::None(size) => vec![0; *size],
            Check::Crc32(crc) => crc.sum().to_le_bytes().to_vec(),
            Check::Crc64(crc) => (!crc).to_le_bytes().to_vec(),
            Check::Sha256(hash) => hash.clone().finalize().to_vec(),
        };
        let mut stored = vec![0; found.len()];
        source.read_exact(&mut stored)?;
        let compared = !matches!(self.check, Check::None(_));
        if padding.iter().any(|b| *b != 0) || (compared && stored != found) {
            return Err(damaged("checksum mismatch"));
        }
        Ok(State::Block(source))
    }
}

/// Dictionary size from a block header's fields; the only filter must be LZMA2.
fn dictionary(mut fields: &[u8]) -> io::Result<u32> {
    let bad = || damaged("bad block header");
    let mut byte = || {
        let (first, rest) = fields.split_first().ok_or_else(bad)?;
        fields = rest;
        Ok::<u8, io::Error>(*first)
    };
    let flags = byte()?;
    if flags & 0x3c != 0 {
        return Err(bad());
    }
    if flags & 3 != 0 {
        return Err(damaged("filters other than LZMA2 are not supported"));
    }
    for _ in 0..(flags >> 6).count_ones() {
        varint(&mut byte)?;
    }
    if varint(&mut byte)? != LZMA2 {
        return Err(damaged("filters other than LZMA2 are not supported"));
    }
    if varint(&mut byte)? != 1 {
        return Err(bad());
    }
    match byte()? {
        40 => Ok(u32::MAX),
        bits @ 0..40 => Ok((2 | u32::from(bits & 1)) << (bits / 2 + 11)),
        _ => Err(bad()),
    }
}

fn varint(byte: &mut impl FnMut() -> io::Result<u8>) -> io::Result<u64> {
    let mut value = 0;
    for at in 0..9 {
        let next = byte()?;
        value |= u64::from(next & 0x7f) << (7 * at);
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("number too long"))
}

/// Reads index and footer, behind the index' first byte.
fn index(source: &mut impl Read) -> io::Result<()> {
    let mut crc = flate2::Crc::new();
    crc.update(&[0]);
    let mut bytes = 1_u64;
    let mut next = || {
        let mut byte = [0; 1];
        source.read_exact(&mut byte)?;
        crc.update(&byte);
        bytes += 1;
        Ok::<u8, io::Error>(byte[0])
    };
    let records = varint(&mut next)?;
    for _ in 0..records {
        varint(&mut next)?;
        varint(&mut next)?;
    }
    while !bytes.is_multiple_of(4) {
        let mut byte = [0; 1];
        source.read_exact(&mut byte)?;
        crc.update(&byte);
        bytes += 1;
    }
    let mut footer = [0; 16];
    source.read_exact(&mut footer)?;
    let (stored, footer) = footer.split_at(4);
    if crc.sum().to_le_bytes() != *stored
        || footer[10..] != *b"YZ"
        || crc32(&footer[4..10]).to_le_bytes() != footer[..4]
    {
        return Err(damaged("bad index"));
    }
    Ok(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// CRC-64 of ECMA-182, reflected, a byte at a time by table.
fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut value = at as u64;
            let mut bit = 0;
            while bit < 8 {
                value =
                    if value & 1 == 1 { value >> 1 ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    for byte in bytes {
        crc = TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    }
    crc
}

fn damaged(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("xz: {text}"))
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Stream(source, first) => match self.stream(source, first)? {
                    Some(source) => State::Block(source),
                    None => return Ok(0),
                },
                State::Block(source) => self.block(source)?,
                State::Data(mut data) => match data.read(buf)? {
                    0 => self.block_end(*data)?,
                    n => {
                        match &mut self.check {
                            Check::None(_) => {}
                            Check::Crc32(crc) => crc.update(&buf[..n]),
                            Check::Crc64(crc) => *crc = crc64(*crc, &buf[..n]),
                            Check::Sha256(hash) => hash.update(&buf[..n]),
                        }
                        self.state = State::Data(data);
                        return Ok(n);
                    }
                },
            };
        }
    }
}

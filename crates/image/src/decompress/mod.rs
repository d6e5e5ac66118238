//! Decompression by magic bytes, in memory-safe decoders, with bounds on output, ratio and window.
//!
//! Flow: [`open`] looks at the first bytes, picks the decoder and wraps it in a counter that ends the
//! stream with an error when [`Limits`] are passed. A stream of no known kind is handed through.
//! Memory: gzip 32 KiB, bzip2 4 MiB, xz and zstd at most [`WINDOW_BYTES`], whatever their headers ask.
//! Not here: zip, lz4, plain lzma (Docker takes none of them).

mod bounded;
mod piped;
mod xz;
mod zstd;

pub use piped::piped;

use crate::Limits;
use base::{Error, Result};
use std::io::{self, BufRead, BufReader, Read};

/// Largest window that xz or zstd data may ask for. `xz -9` asks for 64 MiB, `zstd --long` for 128 MiB.
pub const WINDOW_BYTES: u64 = 128 << 20;
/// Longest magic number looked at.
const MAGIC: usize = 6;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Plain,
    /// gzip
    Gzip,
    /// bzip2
    Bzip2,
    /// xz
    Xz,
    /// zstd
    Zstd,
}

impl Kind {
    /// Recognises the kind by the first bytes of a stream.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, which some zstd writers put first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Hands out the decompressed bytes of `source`.
///
/// # Errors
/// Of reading the first bytes. Later errors come from the reader: damaged data, or an [`Error`] of ours
/// inside the I/O error when a limit is passed ([`unwrap`] gets it out).
pub fn open<'r>(
    source: impl Read + Send + 'r,
    limits: &Limits,
) -> Result<(Kind, Box<dyn Read + Send + 'r>)> {
    // 64 KiB: enough to make each read call worth it, small beside the windows.
    let mut source = BufReader::with_capacity(64 << 10, source);
    let head = peek(&mut source).map_err(|e| unwrap("cannot read the archive", e))?;
    let kind = Kind::of(&head);
    let head = io::Cursor::new(head);
    let counted = bounded::Counted::new(head.chain(source));
    let read = counted.count();
    let source = BufReader::with_capacity(64 << 10, counted);
    let decoder: Box<dyn Read + Send + 'r> = match kind {
        Kind::Plain => return Ok((kind, Box::new(source))),
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Kind::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Kind::Xz => Box::new(xz::Reader::new(source)),
        Kind::Zstd => Box::new(zstd::Reader::new(source)),
    };
    Ok((kind, Box::new(bounded::Bounded::new(decoder, read, limits))))
}

/// Reads the first bytes, fewer only when the stream ends.
fn peek(source: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(MAGIC);
    source.take(MAGIC as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Gets our own error out of an I/O error that carried it, or wraps the latter.
pub fn unwrap(what: &str, err: io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(own) => own,
        Err(err) => match err.kind() {
            io::ErrorKind::UnexpectedEof => Error::invalid(what).caused_by("unexpected EOF"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Error::invalid(what).caused_by(err)
            }
            _ => Error::io(what, err),
        },
    }
}

#[cfg(test)]
mod tests;

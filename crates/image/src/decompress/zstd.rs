//! zstd frames, one after another (RFC 8878), over `ruzstd`, which decodes one frame at a time.
//!
//! The frame header is read here first: `ruzstd` would take memory for whatever window the first header
//! asks for.

use super::WINDOW_BYTES;
use base::Error;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A decoder that was used before refuses larger windows than this; a new one leaves the bound to us.
const REUSED_WINDOW_BYTES: u64 = 64 << 20;

/// Decoder of a whole stream.
pub(super) struct Reader<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut magic = [0; 4];
            self.source.read_exact(&mut magic)?;
            if let [0x50..=0x5f, 0x2a, 0x4d, 0x18] = magic {
                let mut length = [0; 4];
                self.source.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if magic != MAGIC {
                return Err(damaged("unknown zstd frame"));
            }
            let (header, window) = header(&mut self.source)?;
            if window > REUSED_WINDOW_BYTES {
                self.decoder = FrameDecoder::new();
            }
            let mut frame = (&MAGIC[..]).chain(&header[..]);
            self.decoder
                .reset(&mut frame)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.in_frame = true;
            return Ok(true);
        }
    }
}

/// Reads a frame header behind the magic number and checks its window, which comes with it.
fn header(source: &mut impl Read) -> io::Result<(Vec<u8>, u64)> {
    let mut descriptor = [0; 1];
    source.read_exact(&mut descriptor)?;
    let [descriptor] = descriptor;
    let single = descriptor & 0x20 != 0;
    let window_bytes = usize::from(!single);
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let mut rest = vec![0; window_bytes + dictionary_bytes + size_bytes];
    source.read_exact(&mut rest)?;
    let window = if single {
        let mut size = [0; 8];
        size[..size_bytes].copy_from_slice(&rest[dictionary_bytes..]);
        u64::from_le_bytes(size) + if size_bytes == 2 { 256 } else { 0 }
    } else {
        let base = 1_u64 << (10 + (rest[0] >> 3));
        base + base / 8 * u64::from(rest[0] & 7)
    };
    if window > WINDOW_BYTES {
        let text = format!(
            "refusing zstd data with a window of {window} bytes, {WINDOW_BYTES} are allowed"
        );
        return Err(io::Error::other(Error::invalid(text)));
    }
    if rest[window_bytes..window_bytes + dictionary_bytes].iter().any(|b| *b != 0) {
        return Err(damaged("zstd data needs a dictionary"));
    }
    rest.insert(0, descriptor);
    Ok((rest, window))
}

fn damaged(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() < buf.len() && !self.decoder.is_finished() {
                let wanted =
                    BlockDecodingStrategy::UptoBytes(buf.len() - self.decoder.can_collect());
                self.decoder
                    .decode_blocks(&mut self.source, wanted)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            }
            let n = self.decoder.read(buf)?;
            if self.decoder.is_finished() && self.decoder.can_collect() == 0 {
                self.in_frame = false;
                if let Some(stored) = self.decoder.get_checksum_from_data()
                    && self.decoder.get_calculated_checksum().is_some_and(|found| found != stored)
                {
                    return Err(damaged("zstd checksum mismatch"));
                }
            }
            if n > 0 {
                return Ok(n);
            }
        }
    }
}
